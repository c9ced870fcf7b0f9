"""What benchmarks share: one thread, several repeats, files that say how they were made."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.results import write_report

# What benchmarks of one thread alone may count by: the machine's other programs do not matter.
CLOCK = "processor time of the one thread; other programs on the machine do not count"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread_environment() -> dict[str, str]:
    """This process's environment, with every BLAS told to use one thread."""
    return dict(os.environ) | dict.fromkeys(ONE_THREAD, "1")


def use_one_thread(module: str) -> None:
    """Start ``python -m module`` again on one thread, unless it runs so already.

    BLAS reads the variables when it is loaded, and this package has loaded it.
    """
    if any(os.environ.get(name) != "1" for name in ONE_THREAD):
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        sys.stdout.flush()
        os.execve(sys.executable, command, one_thread_environment())


def load_average() -> float | None:
    """Processes that wanted a core in the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def spread(values: Sequence[float], digits: int = 6) -> dict[str, Any]:
    """Median, extremes and all values, to so many significant digits."""

    def short(value: float) -> float:
        return float(f"{value:.{digits}g}")

    return {
        "median": short(statistics.median(values)),
        "min": short(min(values)),
        "max": short(max(values)),
        "values": [short(value) for value in values],
    }


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the repeats of ours / theirs: what slows both sides of a repeat cancels out."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def milliseconds(function: Callable[[], object], repeats: int, calls: int = 1) -> float:
    """Median milliseconds of a call, after one to warm up."""
    function()
    gc.collect()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        seconds.append((time.perf_counter() - start) / calls)
    return float(f"{1e3 * statistics.median(seconds):.4g}")


class Clock:
    """Started with a benchmark; completes its report and saves it."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._load = load_average()

    def save(self, report: Mapping[str, Any], packages: Iterable[str], path: Path) -> None:
        """Add versions, machine, date and seconds to a report, and write it as JSON."""
        write_report(
            path,
            dict(report) | {"load_average_at_start": self._load},
            packages=packages,
            wall_seconds=time.perf_counter() - self._start,
        )


def measured_apart(
    module: str, function: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a function prints as its last line, JSON, when it runs in a process of its own.

    Args:
        module: where the function is.
        function: takes texts, and prints.
        *arguments: what it takes.
        environment: of the process; one BLAS thread where left out.

    Raises:
        RuntimeError: the process failed; with what it said.
    """
    code = f"import sys; from {module} import {function}; {function}(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=one_thread_environment() if environment is None else dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module}.{function} {' '.join(arguments)} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found

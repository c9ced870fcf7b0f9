"""Frames a second beside a busy process: what BLAS threads cost, and what sharing costs.

A tracker's share of the processor halves beside a process that keeps all cores busy; that is fair.
Products spread over BLAS threads lose far more, because each waits for the thread that is not
running. So each side is measured with the system's own number of BLAS threads and with one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.benchmark.contenders import (
    Contender,
    Step,
    deep_sort_realtime,
    original_deepsort,
    ours,
)
from tools.benchmark.report import (
    ONE_THREAD,
    Clock,
    measured_apart,
    one_thread_environment,
    paired_ratio,
    spread,
)
from tools.benchmark.sequences import SEQUENCES, load
from tools.benchmark.timing import native_inputs, one_run
from tracker import matching

UNGUARDED = "trackvae deepsort, BLAS free"
_LIMIT = "one_blas_thread"  # what the matching calls
_BUSY = """
import numpy as np
a = np.random.default_rng(0).random((1500, 1500))
print("busy", flush=True)
while True:
    a @ a
"""


def _unguarded() -> Contender:
    """Our deepsort without the limit on BLAS threads."""
    guarded = ours("deepsort")

    def start() -> Step:
        step = guarded.start()

        def free(frame: Any) -> Any:
            limit = vars(matching)[_LIMIT]
            vars(matching)[_LIMIT] = nullcontext
            try:
                return step(frame)
            finally:
                vars(matching)[_LIMIT] = limit

        return free

    return replace(guarded, name=UNGUARDED, start=start)


def _contenders(original: Path | None) -> list[Contender]:
    peers = [deep_sort_realtime()] + ([] if original is None else [original_deepsort(original)])
    return [ours("deepsort"), _unguarded(), *peers]


@contextmanager
def _neighbour(busy: bool) -> Iterator[None]:
    """A process that multiplies matrices on all cores, while the block runs."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _BUSY], stdout=subprocess.PIPE, env=_free())
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _free() -> dict[str, str]:
    """The environment without any word on threads."""
    return {name: value for name, value in os.environ.items() if name not in ONE_THREAD}


def run(out: Path, data: Path, frames: int | None, original: Path | None, repeats: int) -> int:
    """Measure alone and beside, with free BLAS and with one thread; print, save."""
    clock = Clock()
    rates: dict[str, dict[str, list[float]]] = {}
    arguments = [str(data), str(frames or ""), "" if original is None else str(original)]
    for _ in range(repeats):
        for threads, environment in (("free", _free()), ("one", one_thread_environment())):
            for busy in (False, True):
                with _neighbour(busy):
                    found = measured_apart(__name__, "measure", *arguments, environment=environment)
                state = f"{threads}, {'beside' if busy else 'alone'}"
                for name, rate in found.items():
                    rates.setdefault(name, {}).setdefault(state, []).append(rate)
    rows = [_row(name, states, rates) for name, states in rates.items()]
    report = {
        "name": "benchmark-neighbour",
        "title": "deepsort on MOT17-09-SDP alone and beside a process that keeps all cores busy",
        "rows": rows,
        "config": {
            "repeats": repeats,
            "frames": frames or "all",
            "free": "OMP_NUM_THREADS not set",
            "one": "OMP_NUM_THREADS=1",
            "lost_to_threads": "beside the neighbour: rate with one thread / rate with free BLAS",
        },
        "seeds": [],
    }
    packages = ("trackvae", "deep-sort-realtime", "numpy", "scipy", "threadpoolctl")
    clock.save(report, packages, out)
    for row in rows:
        medians = {state: value["median"] for state, value in row["rates"].items()}
        print(
            f"{row['method']:>30}: "
            + ", ".join(f"{state} {rate:,.0f}" for state, rate in medians.items())
            + f"; beside/alone {row['beside_to_alone']:.2f}"
            + f", lost to threads {row['lost_to_threads']:.2f}x, ours/it {row['ratio']:.2f}"
        )
    print(f"written to {out}")
    return 0


def _row(
    name: str, states: dict[str, list[float]], rates: dict[str, dict[str, list[float]]]
) -> dict[str, Any]:
    mine = rates["trackvae deepsort"]["free, beside"]
    return {
        "method": name,
        "metric": "frames/s",
        "rates": {state: spread(values, 5) for state, values in states.items()},
        "beside_to_alone": paired_ratio(states["free, beside"], states["free, alone"]),
        "lost_to_threads": paired_ratio(states["one, beside"], states["free, beside"]),
        "ratio": paired_ratio(mine, states["free, beside"]),
        "note": "ratio: ours to this one, both beside the neighbour with free BLAS",
    }


def measure(data: str, most: str, original: str) -> None:
    """In a fresh process: run every contender once, print frames a second as JSON."""
    frames = load(Path(data), SEQUENCES[0], int(most) if most else None)
    contenders = _contenders(Path(original) if original else None)
    inputs = native_inputs(contenders, frames)
    for contender in contenders:
        one_run(contender, inputs[contender.name][:30])
    print(json.dumps({c.name: one_run(c, inputs[c.name]) for c in contenders}))

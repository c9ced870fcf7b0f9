"""Files under ``results/``: what was measured, and everything needed to measure it again."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trackvae.files import write_text


def save_results(
    path: str | Path,
    *,
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    packages: Sequence[str],
    wall_seconds: float,
    seeds: Sequence[int] = (),
    **more: Any,
) -> None:
    """Write one file of results, whole or not at all.

    Args:
        path: ``results/<name>.json``.
        name: of the table or benchmark.
        title: what it shows, in one line.
        rows: what was measured; the columns that tables are rendered from.
        config: the settings that the figures depend on.
        packages: distributions whose versions matter.
        wall_seconds: how long it took.
        seeds: of what is random.
        **more: further entries, as they are.
    """
    content = {
        "name": name,
        "title": title,
        "rows": [dict(row) for row in rows],
        **more,
        "config": dict(config),
        "seeds": list(seeds),
    }
    write_report(path, content, packages=packages, wall_seconds=wall_seconds)


def write_report(
    path: str | Path, report: Mapping[str, Any], *, packages: Iterable[str], wall_seconds: float
) -> None:
    """Write a report with what tells how it came about: versions, machine, date, seconds."""
    content = dict(report) | {
        "versions": versions(packages),
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "wall_seconds": round(wall_seconds, 1),
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Python's version and those of the packages, or that one is not installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> str:
    """What it ran on, without any name: ``2 cores, x86-64 CPU``."""
    return f"{os.cpu_count()} cores, {platform.machine().replace('_', '-')} CPU"

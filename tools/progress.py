"""Progress on a terminal: how many, how many a second, time left. Silent where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_REDRAW = 8  # of the fastest trackers; drawing itself is limited to ten times a second


class Advance(Protocol):
    """Takes how many are done, and a note to show beside the name."""

    def __call__(self, done: int, note: str = "") -> None:
        """Show it."""


@contextmanager
def progress(name: str, total: int | None, unit: str = "frames") -> Iterator[Advance]:
    """Show how much of ``name`` is done.

    Args:
        name: what is worked on.
        total: how many in all, or None where nobody knows.
        unit: of what.

    Yields:
        A function to call with the number that is done.
    """
    if not sys.stderr.isatty():
        yield lambda done, note="": None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class _Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.0f} {unit}/s")

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(name, total=total)

        def advance(done: int, note: str = "") -> None:
            if done % _REDRAW == 0 or done == total:
                bar.update(task, completed=done, description=f"{name} {note}".rstrip())

        yield advance
        bar.update(task, total=bar.tasks[0].completed if total is None else total)

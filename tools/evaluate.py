"""``trackvae eval``: score results against ground truth, show the table, save it."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from tracker.evaluation import Evaluation, Progress

_PATIENCE_SECONDS = 2.0  # shorter work needs no progress bar


@dataclass(frozen=True)
class Evaluate:
    """Score tracking results with the official metrics (CLEAR, Identity, HOTA).

    No configuration: the sequences are found by name, their lengths read from seqinfo.ini or told
    from the files. A ground truth with a class column is scored as MOT16/17/20 (pedestrians;
    results on distractors are ignored), one without as MOT15. The counts IDs and FM are
    TrackEval's; the events come from motmetrics, which may count a few switches differently.
    """

    gt: tyro.conf.Positional[Path]
    """Ground truth: a folder of sequences (NAME/gt/gt.txt), one sequence's folder, or a gt.txt."""
    results: tyro.conf.Positional[Path]
    """Results: a folder of NAME.txt, or one file."""
    json: Path | None = None
    """Write the scores to this file: combined, and by sequence."""
    csv: Path | None = None
    """Write the scores to this file: one row a sequence, the last one combined."""
    events: Path | None = None
    """Write what went wrong to this CSV file: switches, misses, false positives, fragmentations,
    each with frame, identity and track."""
    benchmark: Literal["MOT15", "MOT16", "MOT17", "MOT20"] | None = None
    """Rules to score by; told from the ground truth if left out. MOT15 scores all classes alike."""
    strict: bool = False
    """Fail if a sequence has no results, instead of leaving it out."""

    def run(self) -> int:
        """Score, show, save; the exit code."""
        from tracker.evaluation import evaluate, write_csv, write_events, write_json
        from tracker.io.sinks import check_writable

        for path in (self.json, self.csv, self.events):
            if path is not None:
                check_writable(path)  # not after an hour of scoring
        with warnings.catch_warnings(record=True) as caught, _late_bar() as progress:
            warnings.simplefilter("always", UserWarning)
            evaluation = evaluate(
                self.gt,
                self.results,
                benchmark=self.benchmark,
                strict=self.strict,
                progress=progress,
                events=self.events is not None,
            )
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                print(f"warning: {warning.message}", file=sys.stderr)
        show(evaluation)
        if self.json is not None:
            write_json(self.json, evaluation)
        if self.csv is not None:
            write_csv(self.csv, evaluation)
        if self.events is not None:
            write_events(self.events, evaluation.events)
        return 0


def show(evaluation: Evaluation) -> None:
    """Print the tables; a narrow terminal wraps the lines rather than losing digits."""
    from rich.console import Console

    from tracker.evaluation import print_tables, table_width

    console = Console(highlight=False)
    console.width = max(console.width, table_width(evaluation))
    print_tables(evaluation, console)


@contextmanager
def _late_bar() -> Iterator[Progress | None]:
    """A progress bar that shows itself once the work has taken two seconds (on a terminal)."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task("scoring", total=None)
    timer = threading.Timer(_PATIENCE_SECONDS, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda name, done, total: bar.update(
            task, description=name or "combining", completed=done, total=total
        )
    finally:
        timer.cancel()
        timer.join()
        bar.stop()

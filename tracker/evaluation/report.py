"""Showing and saving scores: terminal tables, JSON, CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.evaluation.metrics import COLUMNS, Scores
from trackvae.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

    from tracker.evaluation.evaluation import Evaluation

COMBINED = "COMBINED"
_NUMBERS_WIDTH = 100  # of the wider table at most; 72 in the usual case

_ACCURACY = (
    *("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR"),
    *("MOTA", "MOTP", "MOTAL", "Recall", "Precision"),
)
_COUNTS = ("Frames", "GT", "MT", "PT", "ML", "FP", "FN", "IDs", "FM", "FAR")


def print_tables(evaluation: Evaluation, console: Console) -> None:
    """Print the accuracies, then the counts: a row each sequence, and one for all.

    The console should be as wide as :func:`table_width` says, lest digits be cut off.
    """
    for columns in (_ACCURACY, _COUNTS):
        console.print(_table(evaluation, columns))


def table_width(evaluation: Evaluation) -> int:
    """Letters that are enough for both tables; they take no more than they need."""
    return _NUMBERS_WIDTH + max(map(len, (COMBINED, *evaluation.sequences)))


def render(evaluation: Evaluation) -> str:
    """The tables as plain text."""
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=table_width(evaluation), color_system=None)
    print_tables(evaluation, console)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "\n".join(lines).strip("\n")


def _table(evaluation: Evaluation, columns: tuple[str, ...]) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("sequence", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in evaluation.sequences.items():
        table.add_row(escape(name), *_cells(row, columns))
    if len(evaluation.sequences) > 1:
        table.add_section()
        table.add_row(COMBINED, *_cells(evaluation.combined, columns), style="bold")
    return table


def _cells(row: Scores, columns: tuple[str, ...]) -> list[str]:
    """Counts whole, FAR with two digits, percentages with one."""
    values = row.to_dict()
    shown = []
    for name in columns:
        value = values[name]
        digits = 2 if name == "FAR" else 1
        shown.append(str(value) if isinstance(value, int) else f"{value:.{digits}f}")
    return shown


def write_json(path: str | Path, evaluation: Evaluation) -> None:
    """Write :meth:`Evaluation.to_dict`, whole or not at all."""
    write_text(path, json.dumps(evaluation.to_dict(), indent=2, allow_nan=False) + "\n")


def write_csv(path: str | Path, evaluation: Evaluation) -> None:
    """Write a row for each sequence and a last one, COMBINED, with all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sequence", *COLUMNS))
    rows = {**evaluation.sequences, COMBINED: evaluation.combined}
    for name, row in rows.items():
        writer.writerow((name, *row.to_dict().values()))
    write_text(path, text.getvalue())

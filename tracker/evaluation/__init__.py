"""Scores, tables and events of tracking results, by the official kit's metrics."""

from tracker.evaluation.evaluation import Evaluation, Progress, evaluate
from tracker.evaluation.events import Events, write_events
from tracker.evaluation.metrics import COLUMNS, Scores
from tracker.evaluation.report import print_tables, table_width, write_csv, write_json

__all__ = [
    "COLUMNS",
    "Evaluation",
    "Events",
    "Progress",
    "Scores",
    "evaluate",
    "print_tables",
    "table_width",
    "write_csv",
    "write_events",
    "write_json",
]

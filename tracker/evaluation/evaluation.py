"""Scoring results against ground truth: files or tables in, scores for each sequence out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tracker.evaluation.events import Events, events_of
from tracker.evaluation.inputs import Pair, Source, describe, find_pairs, listed, load
from tracker.evaluation.metrics import RawScores, Scores, combine, measure, scores
from tracker.evaluation.preprocess import PEDESTRIAN, ScoredSequence, distractor_classes, prepare
from tracker.io.mot import BoxTable
from tracker.io.seqinfo import MOST_FRAMES
from trackvae.errors import InputError

Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What :func:`evaluate` found; printed, it is the table.

    Attributes:
        sequences: name to scores.
        combined: the scores over all sequences.
        left_out: sequences of the ground truth that have no results.
        events: name to events, empty unless they were asked for.
    """

    sequences: Mapping[str, Scores]
    combined: Scores
    left_out: tuple[str, ...]
    events: Mapping[str, Events]

    def to_dict(self) -> dict[str, dict[str, object]]:
        """``{"combined": {column: value}, "sequences": {name: {column: value}}}``."""
        return {
            "combined": dict(self.combined.to_dict()),
            "sequences": {name: row.to_dict() for name, row in self.sequences.items()},
        }

    def __str__(self) -> str:
        from tracker.evaluation.report import render

        return render(self)


def evaluate(
    gt: Source,
    results: Source,
    *,
    benchmark: str | None = None,
    strict: bool = False,
    progress: Progress | None = None,
    events: bool = False,
) -> Evaluation:
    """Score results with the official metrics (CLEAR, Identity, HOTA) and pre-processing.

    A sequence's length is that of its ``seqinfo.ini``; without one, the last frame that the ground
    truth or the results hold. Which protocol applies is told from the data, see
    :func:`tracker.evaluation.preprocess.distractor_classes`: a ground truth with a class column is
    scored as MOT16/17/20, one without as MOT15.

    Args:
        gt: a folder of sequences (``NAME/gt/gt.txt``, one or two levels down; or plain
            ``NAME.txt``), one sequence's folder, a ``gt.txt``, a table, or a file or table for
            each name.
        results: a folder of ``NAME.txt`` (or a tracker's folder with ``data/NAME.txt``), one file,
            a table, or a file or table for each name.
        benchmark: "MOT15", "MOT16", "MOT17" or "MOT20", to overrule what the data tell.
        strict: a sequence without results is an error; otherwise a warning, and left out.
        progress: called with (name, how many are done, how many there are) before each sequence,
            and with an empty name at the end.
        events: also collect the events (imports motmetrics and pandas).

    Raises:
        InputError: nothing to score, results without ground truth, malformed files, or frames
            beyond the sequence's end.
        UsageError: an unknown benchmark.
    """
    pairs, missing = find_pairs(gt, results)
    if not pairs:
        raise InputError(f"no results for any sequence of the ground truth: {listed(missing)}")
    if missing:
        message = f"no results for {listed(missing)}"
        if strict:
            raise InputError(message)
        warnings.warn(f"{message}; left out of the scores", stacklevel=2)

    raw: dict[str, RawScores] = {}
    rows: dict[str, Scores] = {}
    logs: dict[str, Events] = {}
    for done, pair in enumerate(pairs):
        if progress is not None:
            progress(pair.name, done, len(pairs))
        sequence = prepared(pair, benchmark)
        raw[pair.name] = measure(sequence)
        rows[pair.name] = scores(raw[pair.name], len(sequence.gt_labels), sequence.frames)
        if events:
            logs[pair.name] = events_of(sequence)
    if progress is not None:
        progress("", len(pairs), len(pairs))
    identities = sum(row.GT for row in rows.values())
    frames = sum(row.Frames for row in rows.values())
    return Evaluation(rows, scores(combine(raw), identities, frames), tuple(missing), logs)


def prepared(pair: Pair, benchmark: str | None = None) -> ScoredSequence:
    """One sequence read and pre-processed; arguments and errors are those of :func:`evaluate`."""
    gt, results = load(pair.gt), load(pair.results)
    length = _length(pair, gt, results)
    classed = distractor_classes(gt, pair.gt_name, benchmark) is not None
    if classed and len(gt) and not (gt.classes == PEDESTRIAN).any():
        warnings.warn(
            f"{pair.name}: no pedestrian (class 1) in the ground truth, so every result is false; "
            "benchmark MOT15 scores all classes alike",
            stacklevel=3,
        )
    return prepare(gt, results, length, pair.gt_name, benchmark)


def _length(pair: Pair, gt: BoxTable, results: BoxTable) -> int:
    """The number of frames; checks that both tables keep to it."""
    stated = pair.length()
    length = max(gt.last_frame, results.last_frame) if stated is None else stated
    if length > MOST_FRAMES:
        raise InputError(f"{pair.name}: {length} frames; at most {MOST_FRAMES} can be scored")
    if stated is None:
        return length
    for boxes, table, what in ((pair.gt, gt, "ground truth"), (pair.results, results, "results")):
        if table.last_frame > stated:
            raise InputError(
                f"{describe(boxes, pair.name, what)}: frame {table.last_frame} runs past the end "
                f"of the sequence; {pair.info} says {stated} frames"
            )
    return stated

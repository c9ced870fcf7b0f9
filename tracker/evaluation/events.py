"""What went wrong, where: events by frame and identity, from motmetrics' accumulator.

The scores say how often a tracker fails; the events say in which frame and on whom. They are
counted after the same pre-processing and at the same overlap (IoU ≥ 0.5).

motmetrics matches by a slightly different rule than TrackEval: it keeps an earlier pair together
whenever both are seen again, TrackEval only when they were matched in the frame before. So the
number of SWITCH or FRAGMENT events may differ from the columns ``IDs`` and ``FM``, which are
TrackEval's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.evaluation.preprocess import MATCH_IOU, ScoredSequence
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.files import write_text

NOBODY = -1
EVENT_COLUMNS = ("sequence", "frame", "event", "gt_id", "track_id", "previous_track_id", "iou")
_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """The events of one sequence, in the order of frames.

    Kinds: ``MISS`` (an identity without a track), ``FP`` (a track on nobody), ``SWITCH`` (an
    identity goes over to another track), ``FRAGMENT`` (an identity is found again after misses),
    ``TRANSFER`` (a track goes over to another identity), ``ASCEND`` (a switch to a track never
    matched before), ``MIGRATE`` (a transfer to an identity never matched before). The last two
    come beside the SWITCH or TRANSFER that they specify. Plain matches are left out.

    Attributes:
        frames: ``(N,)`` int64, from 1.
        kinds: ``(N,)`` str.
        gt_ids: ``(N,)`` int64, as in the ground truth; -1 where there is none (FP).
        track_ids: ``(N,)`` int64, as in the results; -1 where there is none (MISS).
        previous_ids: ``(N,)`` int64, the track that had the identity at its last match before;
            -1 where there was none.
        ious: ``(N,)`` float64 overlap; NaN for MISS and FP.
    """

    frames: IntArray
    kinds: npt.NDArray[np.str_]
    gt_ids: IntArray
    track_ids: IntArray
    previous_ids: IntArray
    ious: FloatArray

    def __len__(self) -> int:
        """How many events there are."""
        return len(self.frames)

    def select(self, rows: IntArray | BoolArray) -> Events:
        """The chosen events."""
        return Events(
            self.frames[rows],
            self.kinds[rows],
            self.gt_ids[rows],
            self.track_ids[rows],
            self.previous_ids[rows],
            self.ious[rows],
        )

    def of_kind(self, *kinds: str) -> Events:
        """The events of the given kinds."""
        return self.select(np.isin(self.kinds, kinds))


def accumulate(sequence: ScoredSequence) -> Any:
    """The accumulator after the whole sequence; ids are those of the files.

    motmetrics is given 1 − IoU as distance, not a number where the overlap is too small for a match
    (motmetrics 1.4.0's own ``iou_matrix`` fails on NumPy 2).
    """
    from motmetrics.lap import set_default_solver
    from motmetrics.mot import MOTAccumulator

    accumulator = MOTAccumulator()
    frames = zip(sequence.gt_ids, sequence.track_ids, sequence.similarity, strict=True)
    # Left alone, motmetrics takes whichever solver is installed; ties would depend on the machine.
    with set_default_solver("scipy"):
        for index, (gt_ids, track_ids, similarity) in enumerate(frames, start=1):
            distance = np.where(similarity >= MATCH_IOU - _EPS, 1.0 - similarity, np.nan)
            identities, tracks = sequence.gt_labels[gt_ids], sequence.track_labels[track_ids]
            accumulator.update(identities, tracks, distance, frameid=index)
    return accumulator


def events_of(sequence: ScoredSequence) -> Events:
    """Everything that went wrong in one prepared sequence."""
    table = accumulate(sequence).mot_events
    kinds = table["Type"].to_numpy(dtype=object).astype("<U8")  # as long as FRAGMENT
    log = Events(
        table.index.get_level_values("FrameId").to_numpy(dtype=np.int64),
        kinds,
        _ids(table["OId"]),
        _ids(table["HId"]),
        np.full(len(table), NOBODY),
        1.0 - table["D"].to_numpy(dtype=np.float64),
    )
    log.previous_ids[:], resumed = _histories(log)
    rows = np.concatenate([np.flatnonzero(kinds != "MATCH"), np.flatnonzero(resumed)])
    wrong = log.select(rows)
    wrong.kinds[len(rows) - np.count_nonzero(resumed) :] = "FRAGMENT"
    return wrong.select(np.argsort(wrong.frames, kind="stable"))


def matches_of(sequence: ScoredSequence) -> tuple[IntArray, IntArray, IntArray]:
    """Who was followed by which track: frame, identity and track of every ground-truth box.

    Returns:
        ``(N,)`` each, frames from 1; the track is :data:`NOBODY` where it was missed.
    """
    table = accumulate(sequence).mot_events
    table = table[table["Type"].isin(["MATCH", "SWITCH", "MISS"])]
    frames = table.index.get_level_values("FrameId").to_numpy(dtype=np.int64)
    return frames, _ids(table["OId"]), _ids(table["HId"])


def _ids(column: Any) -> IntArray:
    """A pandas column of ids, :data:`NOBODY` where it holds no number."""
    values = column.to_numpy(dtype=np.float64)
    return np.where(np.isnan(values), NOBODY, values).astype(np.int64)


def _histories(log: Events) -> tuple[IntArray, BoolArray]:
    """For each row the identity's track at its last match, and whether it is found again here.

    Every identity has one MATCH, SWITCH or MISS row for each frame in which it is present; sorted
    by identity these are its history.
    """
    own = np.flatnonzero(np.isin(log.kinds, ("MATCH", "SWITCH", "MISS")))
    order = own[np.lexsort((log.frames[own], log.gt_ids[own]))]
    matched = log.kinds[order] != "MISS"
    position = np.arange(len(order))
    last = np.maximum.accumulate(np.where(matched, position, -1))
    before = np.concatenate([[-1], last[:-1]]).astype(np.int64)[: len(order)]
    known = before >= 0
    known &= log.gt_ids[order[before]] == log.gt_ids[order]
    previous = np.full(len(log), NOBODY)
    previous[order[known]] = log.track_ids[order[before[known]]]
    resumed = np.zeros(len(log), dtype=bool)
    resumed[order] = matched & known & (before < position - 1)
    # motmetrics writes these directly before the row of their match.
    beside = np.flatnonzero(np.isin(log.kinds, ("ASCEND", "MIGRATE", "TRANSFER")))
    previous[beside] = previous[own[np.searchsorted(own, beside)]]
    return previous, resumed


def write_events(path: str | Path, events: Mapping[str, Events]) -> None:
    """Write the events of all sequences as CSV; a cell without id or overlap is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EVENT_COLUMNS)
    for name, log in events.items():
        ids = [
            ["" if identity == NOBODY else identity for identity in column.tolist()]
            for column in (log.gt_ids, log.track_ids, log.previous_ids)
        ]
        overlaps = ["" if np.isnan(value) else f"{value:.4f}" for value in log.ious]
        rows = zip(log.frames.tolist(), log.kinds.tolist(), *ids, overlaps, strict=True)
        writer.writerows((name, *row) for row in rows)
    write_text(path, text.getvalue())

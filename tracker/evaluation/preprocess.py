"""MOTChallenge's official pre-processing: from two tables of boxes to what the metrics count.

Detections of things that look like pedestrians but are none to be scored (a reflection, somebody
sitting in a car) are neither rewarded nor punished: a result box that is matched to such a
*distractor* is taken away before anything is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tracker.boxes import iou
from tracker.evaluation.inputs import listed
from tracker.io.mot import BoxTable
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import InputError, UsageError

BENCHMARKS = ("MOT15", "MOT16", "MOT17", "MOT20")
MATCH_IOU = 0.5  # CLEAR, Identity and the distractors all match at this overlap

PEDESTRIAN = 1
_CLASSES = range(1, 14)
# person on vehicle, static person, distractor, reflection
_DISTRACTORS = (2, 7, 8, 12)
_NON_MOT_VEHICLE = 6  # a distractor in MOT20 only
_LARGEST_PIXEL = 1e100  # the square of it is still a float
_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """One sequence as the metrics see it: dense ids and similarities, frame by frame.

    Attributes:
        name: of the sequence.
        gt_ids: for each frame ``(N_t,)``, positions in ``gt_labels``.
        track_ids: for each frame ``(M_t,)``, positions in ``track_labels``.
        similarity: for each frame ``(N_t, M_t)`` intersection over union.
        gt_labels: ``(G,)`` the identities as the ground truth names them, ascending.
        track_labels: ``(K,)`` the track ids as the results name them, ascending.
    """

    name: str
    gt_ids: list[IntArray]
    track_ids: list[IntArray]
    similarity: list[FloatArray]
    gt_labels: IntArray
    track_labels: IntArray

    @property
    def frames(self) -> int:
        """The number of frames, with those in which nothing is."""
        return len(self.gt_ids)


def distractor_classes(
    gt: BoxTable, name: str, benchmark: str | None = None
) -> tuple[int, ...] | None:
    """The protocol that applies to a sequence: its distractor classes, or None for no classes.

    The data tell it: a ground truth with a class column (MOT16, MOT17, MOT20) is scored by class,
    one without (MOT15: seven or ten columns) box by box. ``benchmark`` overrules the data: "MOT15"
    scores all boxes of a classed ground truth alike. MOT20, where non-MOT vehicles are distractors
    too, is told by the sequence's name or by ``benchmark``.

    Raises:
        UsageError: an unknown benchmark.
        InputError: a benchmark with classes for a ground truth without, or an unknown class.
    """
    if benchmark is not None and benchmark not in BENCHMARKS:
        raise UsageError(f"unknown benchmark {benchmark!r}; choose from {', '.join(BENCHMARKS)}")
    classed = bool((gt.classes != -1).any())
    if benchmark == "MOT15" or (benchmark is None and not classed):
        return None
    if len(gt) and not classed:
        raise InputError(
            f"{name}: the ground truth has no class column, which {benchmark} needs; score it as "
            "MOT15"
        )
    strange = np.setdiff1d(gt.classes, _CLASSES)
    if len(strange):
        raise InputError(
            f"{name}: the ground truth holds class {listed([str(c) for c in strange])}; "
            f"MOT16/17/20 know 1 to {_CLASSES[-1]}. Benchmark MOT15 scores all classes alike"
        )
    mot20 = (benchmark or name.upper()).startswith("MOT20")
    return (*_DISTRACTORS, _NON_MOT_VEHICLE) if mot20 else _DISTRACTORS


def prepare(
    gt: BoxTable, results: BoxTable, length: int, name: str, benchmark: str | None = None
) -> ScoredSequence:
    """Apply the official pre-processing to one sequence.

    In each frame: result boxes are matched to *all* ground-truth boxes (Hungarian, at IoU ≥ 0.5)
    and those matched to a distractor are removed; of the ground truth the pedestrians (class 1)
    that are not marked zero remain. Without classes only the zero-marked rows are removed.

    Args:
        gt: the ground truth; its scores are the marks, truncated to integers.
        results: the results, with track ids.
        length: number of frames; frames of both tables lie in [1, length].
        name: of the sequence, for messages, and for MOT20.
        benchmark: see :func:`distractor_classes`.

    Raises:
        InputError: an id is negative or stands twice in a frame, a result is of another class, a
            box is not finite or absurdly large, or a frame lies outside the sequence.
    """
    distractors = distractor_classes(gt, name, benchmark)
    keep_gt = np.asarray(np.trunc(gt.scores) != 0)  # (N,)
    is_distractor = np.zeros(len(gt), dtype=bool)
    if distractors is not None:
        keep_gt &= gt.classes == PEDESTRIAN
        is_distractor = np.isin(gt.classes, distractors)
        _check_pedestrians(results, name)
    for table, what in ((gt, "ground truth"), (results, "results")):
        _check_boxes(table, length, name, what)
        _check_ids(table.select(keep_gt) if table is gt else table, name, what)
    gt_rows, result_rows = _frame_rows(gt, length), _frame_rows(results, length)

    keep_result = np.ones(len(results), dtype=bool)
    similarity = []
    for here, there in zip(gt_rows, result_rows, strict=True):
        overlap = iou(gt.boxes[here], results.boxes[there])  # (N_t, M_t)
        absorbed = _absorbed(overlap, is_distractor[here])
        keep_result[there][absorbed] = False
        similarity.append(overlap[keep_gt[here]][:, keep_result[there]])
    gt_ids, gt_labels = _dense_ids(gt, keep_gt, gt_rows)
    track_ids, track_labels = _dense_ids(results, keep_result, result_rows)
    return ScoredSequence(name, gt_ids, track_ids, similarity, gt_labels, track_labels)


def _frame_rows(table: BoxTable, length: int) -> list[slice]:
    """The rows of each frame 1 to ``length``."""
    bounds = np.searchsorted(table.frames, np.arange(1, length + 2)).tolist()
    return [slice(first, last) for first, last in pairwise(bounds)]


def _absorbed(overlap: FloatArray, is_distractor: BoolArray) -> IntArray:
    """Columns (result boxes) of one frame that are matched to a distractor.

    Args:
        overlap: ``(N, M)`` IoU with every ground-truth box.
        is_distractor: ``(N,)``.
    """
    near = overlap >= MATCH_IOU - _EPS
    if not near[is_distractor].any():
        return np.zeros(0, dtype=np.int64)
    from scipy.optimize import linear_sum_assignment  # half a second to import

    score = np.where(near, overlap, 0.0)
    rows, columns = linear_sum_assignment(score, maximize=True)
    return columns[near[rows, columns] & is_distractor[rows]]


def _dense_ids(
    table: BoxTable, keep: BoolArray, rows: list[slice]
) -> tuple[list[IntArray], IntArray]:
    """Ids of the kept rows as 0, 1, ... for each frame, and the labels that they stand for."""
    labels, dense = np.unique(table.ids[keep], return_inverse=True)
    spread = np.full(len(table), -1, dtype=np.int64)
    spread[keep] = dense
    return [spread[frame][keep[frame]] for frame in rows], labels


def _check_pedestrians(results: BoxTable, name: str) -> None:
    """Raise for the first result of another class; only pedestrians are scored."""
    other = results.classes > PEDESTRIAN
    if other.any():
        row = int(np.argmax(other))
        raise InputError(
            f"{name}: the results hold class {results.classes[row]} in frame "
            f"{results.frames[row]}; only pedestrians (1) are scored"
        )


def _check_boxes(table: BoxTable, length: int, name: str, what: str) -> None:
    """Raise for a frame outside the sequence, and for boxes whose area is not finite."""
    outside = (table.frames < 1) | (table.frames > length)
    if outside.any():
        frame = table.frames[int(np.argmax(outside))]
        raise InputError(f"{name}: the {what} hold frame {frame}, expected 1 to {length}")
    sane = (np.abs(table.boxes) < _LARGEST_PIXEL).all(axis=1)  # NaN is not
    if not sane.all():
        row = int(np.argmin(sane))
        raise InputError(
            f"{name}: the {what} hold the box {table.boxes[row].tolist()} in frame "
            f"{table.frames[row]}; expected pixels"
        )


def _check_ids(table: BoxTable, name: str, what: str) -> None:
    """Raise for an id that is negative (a detection has no identity) or twice in a frame."""
    negative = table.ids < 0
    if negative.any():
        row = int(np.argmax(negative))
        raise InputError(
            f"{name}: the {what} hold id {table.ids[row]} in frame {table.frames[row]}; expected "
            "track ids from 0 (is this a file of detections?)"
        )
    order = np.lexsort((table.ids, table.frames))
    frames, ids = table.frames[order], table.ids[order]
    again = (frames[1:] == frames[:-1]) & (ids[1:] == ids[:-1])
    if again.any():
        row = int(np.argmax(again))
        raise InputError(f"{name}: in the {what} id {ids[row]} stands twice in frame {frames[row]}")

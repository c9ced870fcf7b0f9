"""Non-maximum suppression: exact greedy, per class, without a loop over boxes."""

from __future__ import annotations

import numpy as np

from tracker.boxes import iou
from trackvae.arrays import BoolArray, FloatArray, IntArray

# Boxes compared with each other at a time: bounds the memory (a 25,200-box output without a score
# threshold would need 5 GB for one matrix) and changes nothing in the result.
_BLOCK = 1024


def nms(
    boxes: FloatArray,
    scores: FloatArray,
    max_iou: float,
    classes: IntArray | None = None,
) -> IntArray:
    """The rows that greedy suppression keeps, strongest first.

    Greedy: take the strongest box, drop every weaker one of its class that overlaps it by more
    than ``max_iou``, go on with what is left. Equal scores go in the order of the rows.

    Args:
        boxes: ``(N, 4)`` xyxy.
        scores: ``(N,)``, finite.
        max_iou: largest overlap of two kept boxes of one class, in [0, 1].
        classes: ``(N,)``; None: all boxes are of one class.

    Returns:
        ``(K,)`` int64 rows.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.zeros(0, dtype=np.int64)
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        free = block[~_overlapping(boxes, classes, block, kept, max_iou).any(axis=1)]
        beats = np.triu(_overlapping(boxes, classes, free, free, max_iou), k=1)  # i beats j > i
        kept = np.concatenate([kept, free[_greedy(beats)]])
    return kept


def _overlapping(
    boxes: FloatArray, classes: IntArray | None, a: IntArray, b: IntArray, max_iou: float
) -> BoolArray:
    """Which rows ``a`` overlap which rows ``b`` of the same class by more: ``(A, B)``."""
    over: BoolArray = iou(boxes[a], boxes[b]) > max_iou
    if classes is not None:
        over &= classes[a][:, None] == classes[b]
    return over


def _greedy(beats: BoolArray) -> BoolArray:
    """Greedy's choice from the strictly upper triangular relation "i suppresses j if i is kept".

    Iterates ``kept[j] = no kept i beats j``. A box is final one round after all that could beat
    it are, so the rounds needed are the longest chain of suppressions (a handful), at most N; the
    fixed point is unique and is the greedy result (as in Cluster-NMS, Zheng et al. 2020).
    """
    kept = np.ones(len(beats), dtype=np.bool_)
    while True:
        again: BoolArray = ~np.any(beats[kept], axis=0)
        if np.array_equal(again, kept):
            return kept
        kept = again

"""What OC-SORT remembers of a track: the boxes themselves, beside the filter's belief.

The direction in which a track really moved, its last box, and the filter's state at the moment in
which it was lost, from which it is filtered again when the object is found (Cao et al., 2023:
observation-centric momentum, recovery and re-update).
"""

from __future__ import annotations

import numpy as np

from tracker.kalman import KalmanFilter
from tracker.motion import MotionModel
from tracker.store import Columns, TrackStore
from trackvae.arrays import FloatArray, IntArray


def observation_columns(span: int, covariance_shape: tuple[int, ...]) -> Columns:
    """The store's additional columns: ``ring`` holds the boxes of the latest ``span`` frames."""
    return {
        "observed": ((4,), np.float64),
        "ring": ((span, 4), np.float64),
        "ring_frame": ((span,), np.int64),
        "direction": ((2,), np.float64),
        "lost_mean": ((8,), np.float64),
        "lost_covariance": (covariance_shape, np.float64),
    }


def earlier_boxes(store: TrackStore, rows: IntArray, frame: int) -> FloatArray:
    """Boxes ``(K, 4)`` seen up to ``span`` frames before ``frame``, the earliest of them.

    A track that was not seen in that time answers with its last box.
    """
    boxes = store.observed[rows]
    missing = np.ones(len(rows), dtype=bool)
    span = store.ring.shape[1]
    for age in range(span, 0, -1):
        slot = (frame - age) % span
        found = missing & (store.ring_frame[rows, slot] == frame - age)
        boxes[found] = store.ring[rows[found], slot]
        missing &= ~found
    return boxes


def directions(start: FloatArray, end: FloatArray) -> FloatArray:
    """Unit vectors between box centres: ``(..., 4)`` and ``(..., 4)`` to ``(..., 2)``."""
    step = (end[..., :2] + end[..., 2:] - start[..., :2] - start[..., 2:]) * 0.5
    return step / (np.sqrt((step * step).sum(axis=-1, keepdims=True)) + 1e-6)


def direction_consistency(
    store: TrackStore, rows: IntArray, boxes: FloatArray, frame: int
) -> FloatArray:
    """How well each box lies in the direction in which each track moves (OC-SORT, Eq. 5).

    Returns:
        ``(N, M)`` in [-0.5, 0.5]: ``(pi/2 - angle) / pi``; 0 for a track without a direction.
    """
    before = earlier_boxes(store, rows, frame)
    start = (before[:, :2] + before[:, 2:]) * 0.5
    end = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    moving = store.direction[rows]  # (N, 2)
    x = end[:, 0] - start[:, :1]  # (N, M)
    y = end[:, 1] - start[:, 1:]
    length = np.hypot(x, y)
    length += 1e-6
    x *= moving[:, :1]
    y *= moving[:, 1:]
    x += y
    x /= length
    consistency = np.arccos(np.clip(x, -1.0, 1.0, out=x), out=x)  # in place: large arrays are slow
    consistency *= -1.0 / np.pi
    consistency += 0.5
    consistency[~moving.any(axis=1)] = 0.0
    return consistency


def remember(store: TrackStore, rows: IntArray, boxes: FloatArray, frame: int) -> None:
    """Take up the boxes ``(K, 4)`` that the tracks of ``rows`` were matched with.

    The box at birth is the first of them, as the paper has it; the authors' program begins with
    the second.
    """
    known = store.ring_frame[rows].max(axis=1) > 0  # a newborn has no direction yet
    before = earlier_boxes(store, rows, frame)
    store.direction[rows] = np.where(known[:, None], directions(before, boxes), 0.0)
    slot = frame % store.ring.shape[1]
    store.observed[rows] = boxes
    store.ring[rows, slot] = boxes
    store.ring_frame[rows, slot] = frame


def save_lost(store: TrackStore, rows: IntArray) -> None:
    """Keep the filter's prediction of tracks that were not seen for the first time."""
    store.lost_mean[rows] = store.mean[rows]
    store.lost_covariance[rows] = store.covariance[rows]


def refilter(
    store: TrackStore,
    rows: IntArray,
    boxes: FloatArray,
    gaps: IntArray,
    kalman: KalmanFilter,
    model: MotionModel,
) -> None:
    """Observation-centric re-update: replace the blind predictions by a virtual trajectory.

    Args:
        store: of the tracks.
        rows: ``(K,)`` tracks that were lost and are found.
        boxes: ``(K, 4)`` where they were found.
        gaps: ``(K,)`` frames from the last box to this one, ≥ 2.
        kalman: their filter.
        model: what it measures.
    """
    mean, covariance = store.lost_mean[rows], store.lost_covariance[rows]
    first = store.observed[rows]
    step = store.elapsed[rows] / gaps  # frames an update, other than 1 at a variable rate
    for i in range(1, int(gaps.max())):  # over the frames of the gap, all tracks at once
        lost = np.flatnonzero(gaps > i)
        share = (i / gaps[lost])[:, None]
        virtual = first[lost] + share * (boxes[lost] - first[lost])
        mu, sigma = mean[lost], covariance[lost]
        kalman.update(mu, sigma, np.arange(len(lost)), model.measure(virtual))
        kalman.predict(mu, sigma, step[lost, None])
        mean[lost], covariance[lost] = mu, sigma
    store.mean[rows] = mean
    store.covariance[rows] = covariance

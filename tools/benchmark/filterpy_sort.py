"""SORT as a textbook has it: one filterpy ``KalmanFilter`` a track and a loop over the tracks.

Written from the paper (Bewley et al., 2016), as a peer for speed and for scores: it computes what
our ``sort`` preset computes, one object at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from tracker.boxes import iou
from trackvae.arrays import FloatArray, IntArray

_MIN_IOU = 0.3


def _measured(box: FloatArray) -> FloatArray:
    """Centre, area and aspect ratio of one box ``(4,)``."""
    width, height = box[2] - box[0], box[3] - box[1]
    return np.array([box[0] + width / 2, box[1] + height / 2, width * height, width / height])


def _box(state: FloatArray) -> FloatArray:
    """The inverse, from a state ``(7,)``; NaN where the area is not positive."""
    x, y, area, ratio = state[:4]
    if area * ratio <= 0:
        return np.full(4, np.nan)
    width = np.sqrt(area * ratio)
    height = area / width
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def _filter(z: FloatArray) -> Any:
    """Constant velocity of centre and area, a constant aspect ratio; the paper's noises."""
    from filterpy.kalman import KalmanFilter

    kf = KalmanFilter(dim_x=7, dim_z=4)
    kf.F = np.eye(7) + np.eye(7, k=4)
    kf.H = np.eye(4, 7)
    kf.R = np.diag([1.0, 1.0, 10.0, 10.0])
    kf.P = np.diag([10.0] * 4 + [1e4] * 3)
    kf.Q = np.diag([1.0] * 4 + [1e-2, 1e-2, 1e-4])
    kf.x = np.append(z, np.zeros(3))
    return kf


@dataclass
class _Track:
    kf: Any
    streak: int = 0
    misses: int = 0
    id: int = 0  # 0: not confirmed yet


class FilterpySort:
    """SORT, one track after the other."""

    def __init__(self, max_age: int = 1, min_hits: int = 3) -> None:
        self._max_age, self._min_hits = max_age, min_hits
        self._tracks: list[_Track] = []
        self._frame = self._last_id = 0

    def update(self, boxes: FloatArray) -> tuple[IntArray, FloatArray]:
        """Detections ``(M, 4)`` xyxy in; ids ``(K,)`` and boxes ``(K, 4)`` out."""
        self._frame += 1
        predicted = self._predict()
        free = set(range(len(boxes)))
        for row, column in self._match(predicted, boxes):
            track = self._tracks[row]
            track.kf.update(_measured(boxes[column]))
            track.streak += 1
            track.misses = 0
            free.remove(column)
        for column in sorted(free):
            self._tracks.append(_Track(_filter(_measured(boxes[column]))))
        self._tracks = [track for track in self._tracks if track.misses <= self._max_age]
        return self._report()

    def _predict(self) -> FloatArray:
        boxes, alive = [], []
        for track in self._tracks:
            if track.kf.x[6] + track.kf.x[2] <= 0:
                track.kf.x[6] = 0.0
            track.kf.predict()
            if track.misses > 0:
                track.streak = 0
            track.misses += 1
            box = _box(track.kf.x)
            if np.isfinite(box).all():
                boxes.append(box)
                alive.append(track)
        self._tracks = alive
        return np.array(boxes).reshape(-1, 4)

    @staticmethod
    def _match(predicted: FloatArray, boxes: FloatArray) -> list[tuple[int, int]]:
        if len(predicted) == 0 or len(boxes) == 0:
            return []
        overlap = iou(predicted, boxes)
        rows, columns = linear_sum_assignment(-overlap)
        good = overlap[rows, columns] >= _MIN_IOU
        return list(zip(rows[good].tolist(), columns[good].tolist(), strict=True))

    def _report(self) -> tuple[IntArray, FloatArray]:
        ids, boxes = [], []
        for track in self._tracks:
            proven = track.streak >= self._min_hits or self._frame <= self._min_hits
            if track.misses == 0 and proven:
                if track.id == 0:
                    self._last_id += 1
                    track.id = self._last_id
                ids.append(track.id)
                boxes.append(_box(track.kf.x))
        return np.array(ids, dtype=np.int64), np.array(boxes).reshape(-1, 4)

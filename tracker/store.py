"""All tracks of a tracker in one struct of arrays that grows by doubling.

Rows ``0 .. len(store)`` are the living tracks in order of birth. A column is reached as an
attribute and is a view of those rows, so that every step of the engine is one array operation over
all tracks; views are valid until rows are added or removed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trackvae.arrays import BoolArray, FloatArray, IntArray

Columns = dict[str, tuple[tuple[int, ...], npt.DTypeLike]]


class TrackStore:
    """Columns of equal length, one row a track."""

    # The engine's columns; the last belong to :mod:`tracker.observations`
    # and :mod:`tracker.reidentification`.
    mean: FloatArray  # (N, 8)
    covariance: FloatArray  # (N, *covariance_shape)
    id: IntArray  # (N,), 0: not confirmed yet
    streak: IntArray  # (N,), matches in a row
    misses: IntArray  # (N,), updates since the last match
    elapsed: FloatArray  # (N,), frames since the last match
    score: FloatArray  # (N,)
    label: IntArray  # (N,), class
    detection: IntArray  # (N,), row in this frame's detections, or -1
    slot: IntArray  # (N,), of its gallery, or -1
    observed: FloatArray  # (N, 4), the last box that was seen
    ring: FloatArray  # (N, span, 4), boxes of the latest frames
    ring_frame: IntArray  # (N, span), their frames
    direction: FloatArray  # (N, 2)
    birth: IntArray  # (N,), frame of the first detection
    lost_mean: FloatArray  # (N, 8)
    lost_covariance: FloatArray  # (N, *covariance_shape)

    def __init__(self, columns: Columns, capacity: int = 16) -> None:
        """Make an empty store.

        Args:
            columns: name to (shape of one row, dtype).
            capacity: rows to start with.
        """
        self._data = {
            name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in columns.items()
        }
        self._capacity = self._smallest = capacity
        self._rows = 0
        self._refresh()

    def _refresh(self) -> None:
        for name, data in self._data.items():
            setattr(self, name, data[: self._rows])

    def __len__(self) -> int:
        """How many tracks are alive."""
        return self._rows

    def add(self, count: int, **values: npt.ArrayLike) -> slice:
        """Append ``count`` tracks; columns that are not given are zero. Returns their rows."""
        first, last = self._rows, self._rows + count
        if last > self._capacity:
            self._resize(max(last, 2 * self._capacity))
        for name, data in self._data.items():
            data[first:last] = values.get(name, 0)
        self._rows = last
        self._refresh()
        return slice(first, last)

    def keep(self, rows: BoolArray) -> None:
        """Remove the tracks where ``rows`` ``(len,)`` is False, keeping the order of the others."""
        chosen = np.flatnonzero(rows)
        for data in self._data.values():
            data[: len(chosen)] = data[chosen]
        self._rows = len(chosen)
        if self._smallest <= 8 * self._rows < self._capacity:
            self._resize(2 * self._rows)  # a crowd that has left gives its memory back
        self._refresh()

    def copy(self, source: IntArray, target: IntArray) -> None:
        """Overwrite the rows ``target`` ``(K,)`` with the rows ``source`` ``(K,)``."""
        for data in self._data.values():
            data[target] = data[source]

    def _resize(self, capacity: int) -> None:
        for name, data in self._data.items():
            grown = np.zeros((capacity, *data.shape[1:]), data.dtype)
            grown[: self._rows] = data[: self._rows]
            self._data[name] = grown
        self._capacity = capacity

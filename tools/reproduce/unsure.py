"""A crop's reliability by the encoder's own account: what an unsure crop shows is not remembered.

With q(z|x) = N(mu, diag(s^2)), the direction of z, which says who it is, is spread by about
``sum s^2 / |mu|^2`` (the squared tangent of its angle to mu, for small s).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracker import Tracker
from tracker.detections import Detections
from tracker.io.mot import BoxTable
from tracker.presets import TrackerConfig
from trackvae.arrays import BoolArray, FloatArray


def spread_of_direction(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """How far a posterior's direction is spread: ``(N, D)`` mean and variance to ``(N,)``."""
    length = np.einsum("nd,nd->n", mean, mean)
    return np.asarray(variance.sum(axis=1) / np.maximum(length, np.finfo(np.float32).tiny))


class SureTracker(Tracker):
    """A tracker whose galleries take up only crops that the encoder is sure about."""

    def __init__(
        self, config: TrackerConfig, table: BoxTable, sure: BoolArray, **given: Any
    ) -> None:
        """Take a tracker's arguments, and what is sure.

        Args:
            config: of the tracker.
            table: the detections that it will get, from frame 1 on.
            sure: ``(N,)`` of them.
            **given: as :class:`tracker.Tracker` takes it.
        """
        self._table, self._sure = table, sure
        super().__init__(config, **given)

    def _clear(self, seen: Detections) -> BoolArray:
        return np.asarray(super()._clear(seen) & self._sure[self._table.rows(self._frame)])

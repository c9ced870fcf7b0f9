"""Identities that come back: which lost track a new one continues, by looks alone.

The question is asked once, when a new track is confirmed: by then it has been seen several times,
so that no single bad crop decides, and nothing has been reported under another identity yet.
"""

from __future__ import annotations

import numpy as np

from tracker.appearance import AppearanceMemory
from tracker.association import assign
from tracker.calibration import Calibration
from tracker.presets import HALF_FRAME, TrackerConfig
from tracker.store import Columns, TrackStore
from tracker.threads import one_blas_thread
from trackvae.arrays import BoolArray, FloatArray, IntArray

COLUMNS: Columns = {
    "observed": ((4,), np.float64),  # the last box that was seen
    "birth": ((), np.int64),  # frame of the first detection
}
_SLACK = 1.0  # heights that the boxes may be off, however short the time
_FAR = 50.0  # log-odds beyond which nothing is added to certainty
_BEYOND = 1e-5


class Reidentifier:
    """Remembers lost tracks for longer than motion can follow them, and finds them again."""

    def __init__(self, config: TrackerConfig, memory: AppearanceMemory, frame_rate: float) -> None:
        """Take what is needed of a tracker.

        Args:
            config: ``reid_probability``, ``reid_age``, ``reid_most``, ``reid_speed``, ``max_age``
                and ``per_class`` of it.
            memory: holds the galleries.
            frame_rate: frames a second.
        """
        self._config, self._memory, self._frame_rate = config, memory, frame_rate

    def remembered(self, store: TrackStore) -> BoolArray:
        """Mask ``(T,)`` of the tracks that may still come back: confirmed, with looks, not too old.

        Of more than ``reid_most`` that motion has given up, those seen last.
        """
        config = self._config
        kept = (store.id > 0) & (store.slot >= 0) & (store.elapsed <= config.reid_age + HALF_FRAME)
        rows = (kept & (store.elapsed > config.max_age + HALF_FRAME)).nonzero()[0]
        if len(rows) > config.reid_most:
            order = np.argsort(store.elapsed[rows], kind="stable")
            kept[rows[order[config.reid_most :]]] = False
        return np.asarray(kept)

    def move(self, store: TrackStore, affine: FloatArray) -> None:
        """Take the camera's motion ``(2, 3)`` out of where the tracks were seen last."""
        centre = 0.5 * (store.observed[:, :2] + store.observed[:, 2:])
        store.observed += np.tile(centre @ affine[:, :2].T + affine[:, 2] - centre, 2)

    def find(
        self, store: TrackStore, fresh: IntArray, frame: int, calibration: Calibration
    ) -> IntArray:
        """Let lost tracks go on as new ones that look like them.

        Args:
            store: the tracks after this frame's matching.
            fresh: ``(F,)`` rows that are to be confirmed.
            frame: its number.
            calibration: of the distances.

        Returns:
            The rows of ``fresh`` ``(K,)`` whose tracks go on in a lost track's row; to be removed.
        """
        fresh = fresh[store.slot[fresh] >= 0]
        lost = ((store.id > 0) & (store.misses > 0) & (store.slot >= 0)).nonzero()[0]
        possible = self._possible(store, lost, fresh, frame)
        if not possible.any():
            return fresh[:0]
        with one_blas_thread():
            distance = self._memory.mean_distances(store.slot[fresh], store.slot[lost]).T  # (L, F)
        cost = 1.0 - posterior(calibration.distance.log_odds(distance), possible)
        limit = 1.0 - (self._config.reid_probability or 1.0)
        i, j = assign(cost, possible & (cost <= limit), limit + _BEYOND)
        lost, fresh = lost[i], fresh[j]
        identity, slot = store.id[lost], store.slot[lost]
        self._memory.merge(store.slot[fresh], slot)
        store.copy(fresh, lost)
        store.id[lost], store.slot[lost] = identity, slot
        return fresh

    def _possible(
        self, store: TrackStore, lost: IntArray, fresh: IntArray, frame: int
    ) -> BoolArray:
        """Pairs ``(L, F)`` never seen at once, of one class, and near enough to each other."""
        possible = (frame - store.misses[lost])[:, None] < store.birth[fresh]
        if self._config.per_class:
            possible &= store.label[lost][:, None] == store.label[fresh]
        old, new = store.observed[lost][:, None], store.observed[fresh]  # (L, 1, 4), (F, 4)
        way = 0.5 * (old[..., :2] + old[..., 2:] - new[:, :2] - new[:, 2:])  # between the centres
        height = 0.5 * (old[..., 3] - old[..., 1] + new[:, 3] - new[:, 1])
        speed = self._config.reid_speed / self._frame_rate  # heights a frame
        reach = (_SLACK + speed * store.elapsed[lost][:, None]) * height
        return np.asarray(possible & (np.hypot(way[..., 0], way[..., 1]) <= reach))


def posterior(log_ratio: FloatArray, possible: BoolArray) -> FloatArray:
    """Probability that a new track is the lost one, among all that it may be.

    Before anybody looks, it is as likely somebody new as one of the ``n`` lost tracks that it can
    be. Then, by Bayes' rule with the likelihood ratios ``r`` of the looks, it is the lost track
    ``i`` with probability ``r_i / (n + sum_k r_k)``: look-alikes make each other doubtful, and
    the more there are to choose from, the better one must fit.

    Args:
        log_ratio: ``(L, F)`` log ``r``.
        possible: ``(L, F)`` pairs that count.

    Returns:
        ``(L, F)``; 0 where it is not possible.
    """
    ratio = np.exp(np.where(possible, np.minimum(log_ratio, _FAR), -np.inf))
    total = possible.sum(axis=0) + ratio.sum(axis=0)
    return np.asarray(ratio / np.maximum(total, 1))

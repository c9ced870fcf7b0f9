"""Each track's memory of what it looked like, and distances to it.

Galleries live in one array ``(slots, budget, D)``; a track owns a slot for its life. Distances are
to the nearest entry of the gallery, as in DeepSORT.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import InputError

Metric = Literal["cosine", "euclidean"]

_DEEP = 8  # entries a gallery from which its own candidates alone are worth gathering


class AppearanceMemory:
    """Galleries of all tracks, bounded: a ring of the latest ``budget`` embeddings a track."""

    def __init__(self, metric: Metric, budget: int, momentum: float | None = None) -> None:
        """Make an empty memory.

        Args:
            metric: cosine distance, or Euclidean.
            budget: entries a track.
            momentum: None keeps the latest entries; a number in (0, 1) keeps one moving average
                ``momentum * old + (1 - momentum) * new`` a track instead (BoT-SORT).
        """
        self._metric = metric
        self._momentum = momentum
        self._budget = 1 if momentum is not None else budget
        self._entries = np.zeros((0, self._budget, 0), np.float32)
        self._count = np.zeros(0, np.int64)  # embeddings ever seen by the slot's track
        self._free: list[int] = []

    @property
    def dim(self) -> int:
        """Length of the embeddings, 0 before the first."""
        return int(self._entries.shape[2])

    def prepare(self, embeddings: FloatArray) -> FloatArray:
        """Check embeddings ``(M, D)`` and bring them to the metric's form (unit length)."""
        if self.dim and embeddings.shape[1] != self.dim and len(embeddings):
            raise InputError(
                f"embeddings have {embeddings.shape[1]} dimensions, the frames before {self.dim}"
            )
        if self._metric == "euclidean":
            return embeddings
        return _unit(embeddings)

    def open(self, embeddings: FloatArray) -> IntArray:
        """Give new tracks a slot each, holding their first embedding ``(K, D)``."""
        count = len(embeddings)
        if self.dim == 0 and count:
            self._entries = np.zeros((0, self._budget, embeddings.shape[1]), np.float32)
        if len(self._free) < count:
            self._grow(max(16, len(self._count), count))
        slots = np.array([self._free.pop() for _ in range(count)], dtype=np.int64)
        self._count[slots] = 0
        self.add(slots, embeddings)
        return slots

    def _grow(self, extra: int) -> None:
        have = len(self._count)
        fresh = np.zeros((have + extra, self._budget, self.dim), np.float32)
        fresh[:have] = self._entries
        self._entries = fresh
        self._count = np.concatenate((self._count, np.zeros(extra, np.int64)))
        self._free.extend(range(have + extra - 1, have - 1, -1))

    def close(self, slots: IntArray) -> None:
        """Take back the slots of dead tracks."""
        self._free.extend(slots.tolist())

    def add(self, slots: IntArray, embeddings: FloatArray) -> None:
        """Remember one more embedding ``(K, D)`` for each of ``slots`` ``(K,)``."""
        if self._momentum is not None:
            seen = self._count[slots] > 0
            mixed = self._momentum * self._entries[slots, 0] + (1 - self._momentum) * embeddings
            mixed = np.where(seen[:, None], mixed, embeddings)
            self._entries[slots, 0] = mixed if self._metric == "euclidean" else _unit(mixed)
        else:
            self._entries[slots, self._count[slots] % self._budget] = embeddings
        self._count[slots] += 1

    def distances(self, slots: IntArray, embeddings: FloatArray, wanted: BoolArray) -> FloatArray:
        """Distance of every embedding to the nearest entry of every gallery.

        Galleries are deep and the motion gate leaves few candidates a track, so each gallery is
        multiplied with its own candidates only: 100 tracks of 100 entries in 128 dimensions with 4
        candidates each take 0.9 ms, all pairs by one product 4.3 ms, and FAISS 10 ms. Shallow
        galleries are quicker in one product (``results/benchmark-appearance.json``).

        Args:
            slots: ``(N,)`` galleries.
            embeddings: ``(M, D)``, prepared.
            wanted: ``(N, M)`` pairs that matter; the others may come back as ``inf``.

        Returns:
            ``(N, M)`` float32: ``1 - cosine``, or the squared Euclidean distance.
        """
        used = np.minimum(self._count[slots], self._budget)
        depth = int(used.max(initial=0))
        width = int(wanted.sum(axis=1).max(initial=0))
        if depth == 0 or width == 0:
            return np.full(wanted.shape, np.inf, np.float32)
        entries = self._entries[slots, :depth]  # (N, depth, D)
        if depth < _DEEP or 2 * width > wanted.shape[1]:
            product = (entries.reshape(-1, self.dim) @ embeddings.T).reshape(len(slots), depth, -1)
            return self._nearest(product.transpose(0, 2, 1), entries, used, embeddings[None])
        candidates = np.argsort(~wanted, axis=1, kind="stable")[:, :width]  # (N, width)
        chosen = embeddings[candidates]  # (N, width, D)
        product = chosen @ entries.transpose(0, 2, 1)  # (N, width, depth)
        distances = np.full(wanted.shape, np.inf, np.float32)
        nearest = self._nearest(product, entries, used, chosen)
        np.put_along_axis(distances, candidates, nearest, axis=1)
        return distances

    def _nearest(
        self, product: FloatArray, entries: FloatArray, used: IntArray, queries: FloatArray
    ) -> FloatArray:
        """Distance to the nearest used entry: products ``(N, K, depth)`` to ``(N, K)``."""
        depth = entries.shape[1]
        if self._metric == "euclidean":  # |a - b|^2 = |b|^2 - (2 ab - |a|^2)
            product = 2 * product - np.einsum("nbd,nbd->nb", entries, entries)[:, None]
        if int(used.min()) < depth:
            empty = np.arange(depth) >= used[:, None]
            product = np.where(empty[:, None], np.float32(-np.inf), product)
        best = product.max(axis=2)
        if self._metric == "euclidean":
            return np.maximum(np.einsum("nkd,nkd->nk", queries, queries) - best, 0)
        return 1 - best


def _unit(vectors: FloatArray) -> FloatArray:
    """Rows scaled to unit length; a row of zeros stays zero."""
    norm = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return vectors / np.maximum(norm, np.finfo(np.float32).tiny)[:, None]

"""Each track's memory of what it looked like, and distances to it.

Galleries live in one array ``(slots, budget, D)``; a track owns a slot for its life. Distances are
to the nearest entry of the gallery, as in DeepSORT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from trackvae.arrays import BoolArray, FloatArray, Image, IntArray
from trackvae.errors import InputError

Metric = Literal["cosine", "euclidean"]
Embedder: TypeAlias = Callable[[Image, FloatArray], FloatArray]

_SHALLOW = 8  # entries a gallery starts with; most false alarms never need more
_SMALLEST = 64  # galleries whose memory is not worth giving back
_TINY = np.finfo(np.float32).tiny
_BLOCK = 64  # galleries compared at once, so that their entries stay in the cache
_SMALL = 2000  # entries times embeddings, below which all pairs are as quick as the candidates


class AppearanceMemory:
    """Galleries of all tracks, bounded: a ring of the latest ``budget`` embeddings a track.

    A new gallery is full of copies of its first embedding. They do not change the nearest entry, so
    that galleries of any age are compared alike.
    """

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
        return prepared(embeddings, self._metric)

    def open(self, embeddings: FloatArray) -> IntArray:
        """Give new tracks a slot each, holding their first embedding ``(K, D)``."""
        count = len(embeddings)
        if count == 0:
            return np.zeros(0, np.int64)
        if self.dim == 0:
            depth = min(_SHALLOW, self._budget)
            self._entries = np.zeros((0, depth, embeddings.shape[1]), np.float32)
        if len(self._free) < count:
            self._grow(max(16, len(self._count), count))
        slots = np.array([self._free.pop() for _ in range(count)], dtype=np.int64)
        self._entries[slots] = embeddings[:, None]  # later ones replace these copies one by one
        self._count[slots] = 1
        return slots

    def _grow(self, extra: int) -> None:
        have = len(self._count)
        fresh = np.zeros((have + extra, *self._entries.shape[1:]), np.float32)
        fresh[:have] = self._entries
        self._entries = fresh
        self._count = np.concatenate((self._count, np.zeros(extra, np.int64)))
        self._free.extend(range(have + extra - 1, have - 1, -1))

    def _deepen(self) -> None:
        """Double the depth of all galleries, the new places full of copies."""
        depth = min(2 * self._entries.shape[1], self._budget)
        copies = np.repeat(self._entries[:, :1], depth - self._entries.shape[1], axis=1)
        self._entries = np.concatenate((self._entries, copies), axis=1)

    def close(self, slots: IntArray, living: IntArray) -> IntArray:
        """Take back the slots of dead tracks, and the memory of a crowd that has left.

        Args:
            slots: of the dead.
            living: of the others; -1 where a track has none.

        Returns:
            The slots of the living, which may have moved.
        """
        self._free.extend(slots[slots >= 0].tolist())
        capacity, used = len(self._count), len(self._count) - len(self._free)
        if capacity <= _SMALLEST or 8 * used > capacity:
            return living
        kept = living >= 0
        room = max(2 * used, 16)
        entries = np.zeros((room, *self._entries.shape[1:]), np.float32)
        count = np.zeros(room, np.int64)
        entries[:used], count[:used] = self._entries[living[kept]], self._count[living[kept]]
        self._entries, self._count = entries, count
        self._free = list(range(room - 1, used - 1, -1))
        moved = np.full_like(living, -1)
        moved[kept] = np.arange(used)
        return moved

    def add(self, slots: IntArray, embeddings: FloatArray) -> IntArray:
        """Remember one more embedding ``(K, D)`` for each of ``slots`` ``(K,)``.

        Returns:
            The slots; a track that had none (-1) has got one.
        """
        if len(slots) == 0:
            return slots
        homeless = slots < 0
        if homeless.any():
            slots = slots.copy()
            slots[homeless] = self.open(embeddings[homeless])
            self._add(slots[~homeless], embeddings[~homeless])
        else:
            self._add(slots, embeddings)
        return slots

    def _add(self, slots: IntArray, embeddings: FloatArray) -> None:
        if self._momentum is not None:
            mixed = self._momentum * self._entries[slots, 0] + (1 - self._momentum) * embeddings
            self._entries[slots, 0] = mixed if self._metric == "euclidean" else _unit(mixed)
        else:
            place = self._count[slots] % self._budget
            while int(place.max(initial=0)) >= self._entries.shape[1]:
                self._deepen()
            self._entries[slots, place] = embeddings
        self._count[slots] += 1

    def merge(self, slots: IntArray, into: IntArray) -> None:
        """Remember what ``slots`` ``(K,)`` hold in the galleries ``into`` ``(K,)`` too."""
        for step in range(int(self._filled(slots).max(initial=0))):
            some = self._filled(slots) > step
            self._add(into[some], self._entries[slots[some], step])

    def mean_distances(self, slots: IntArray, others: IntArray) -> FloatArray:
        """Distance of whole galleries: mean over the entries of one to the nearest of the other.

        Args:
            slots: ``(K,)`` galleries whose entries are looked for, few and young.
            others: ``(L,)`` galleries that they are looked for in.

        Returns:
            ``(K, L)`` float32.
        """
        filled = self._filled(slots)
        entry = np.arange(self._entries.shape[1]) < filled[:, None]  # (K, depth)
        embeddings = self._entries[slots][entry]  # (sum of filled, D)
        wanted = np.ones((len(others), len(embeddings)), dtype=bool)
        nearest = self.distances(others, embeddings, wanted)
        start = np.cumsum(filled) - filled
        return np.asarray((np.add.reduceat(nearest, start, axis=1) / filled).T)

    def _filled(self, slots: IntArray) -> IntArray:
        """Entries of each gallery that are no copies."""
        return np.minimum(self._count[slots], self._entries.shape[1])

    def distances(self, slots: IntArray, embeddings: FloatArray, wanted: BoolArray) -> FloatArray:
        """Distance of every embedding to the nearest entry of every gallery.

        The motion gate leaves few candidates a track, so each gallery is multiplied with its own
        candidates only: 100 tracks of 100 entries in 128 dimensions with 4 candidates each take
        0.4 ms, all pairs by one product 3.5 ms, and FAISS 8.1 ms. The smallest cases are quicker
        in one product (``results/benchmark-appearance.json``).

        Args:
            slots: ``(N,)`` galleries, -1 where a track has none.
            embeddings: ``(M, D)``, prepared.
            wanted: ``(N, M)`` pairs that matter; the others may come back as ``inf``.

        Returns:
            ``(N, M)`` float32: ``1 - cosine``, or the squared Euclidean distance.
        """
        distances = np.full(wanted.shape, np.inf, np.float32)
        if (slots < 0).any():  # some were never seen with an embedding
            known = slots >= 0
            if known.any():
                distances[known] = self.distances(slots[known], embeddings, wanted[known])
            return distances
        depth = min(int(self._count[slots].max(initial=0)), self._budget)
        if wanted.size * depth < _SMALL:
            return self._all_pairs(slots, depth, embeddings)
        rows, columns = _candidates(wanted)
        if 2 * columns.shape[1] > wanted.shape[1]:
            distances[rows] = self._all_pairs(slots[rows], depth, embeddings)
            return distances
        slots = slots[rows]
        for first in range(0, len(rows), _BLOCK):
            block = slice(first, first + _BLOCK)
            entries = self._entries[slots[block], :depth]  # (B, depth, D)
            chosen = embeddings[columns[block]]  # (B, width, D)
            product = chosen @ entries.transpose(0, 2, 1)  # (B, width, depth)
            nearest = self._nearest(product, entries, chosen)
            distances[rows[block, None], columns[block]] = nearest
        return distances

    def _all_pairs(self, slots: IntArray, depth: int, embeddings: FloatArray) -> FloatArray:
        """As :meth:`distances`, of every pair by one product."""
        entries = self._entries[slots, :depth]  # (N, depth, D)
        product = (entries.reshape(-1, self.dim) @ embeddings.T).reshape(len(slots), depth, -1)
        return self._nearest(product.transpose(0, 2, 1), entries, embeddings[None])

    def _nearest(self, product: FloatArray, entries: FloatArray, queries: FloatArray) -> FloatArray:
        """Distance to the nearest entry: products ``(R, K, depth)`` to ``(R, K)``."""
        if self._metric == "euclidean":  # |a - b|^2 = |b|^2 - (2 ab - |a|^2)
            product = 2 * product - np.einsum("nbd,nbd->nb", entries, entries)[:, None]
        best = product.max(axis=2)
        if self._metric == "euclidean":
            return np.maximum(np.einsum("nkd,nkd->nk", queries, queries) - best, 0)
        return 1 - best


def prepared(embeddings: FloatArray, metric: Metric) -> FloatArray:
    """Embeddings ``(M, D)`` in the metric's form: of unit length for the cosine."""
    return embeddings if metric == "euclidean" else _unit(embeddings)


def described(embedder: Embedder, image: Image, boxes: FloatArray) -> FloatArray:
    """What an embedder says of the boxes ``(N, 4)`` of an image: ``(N, D)`` float32.

    Raises:
        InputError: another shape, or values that are not finite.
    """
    embeddings = np.asarray(embedder(image, boxes), dtype=np.float32)
    if embeddings.ndim != 2 or len(embeddings) != len(boxes):
        raise InputError(
            f"the embedder gave shape {embeddings.shape} for {len(boxes)} boxes, "
            f"expected ({len(boxes)}, D)"
        )
    if not np.isfinite(embeddings).all():
        raise InputError("the embedder gave NaN or infinity")
    return embeddings


def covered(boxes: FloatArray) -> FloatArray:
    """Share of each box that one other covers which stands nearer to the camera.

    On level ground what stands nearer has its lower edge lower in the image.

    Args:
        boxes: ``(N, 4)`` xyxy of one frame.

    Returns:
        ``(N,)`` in [0, 1].
    """
    if len(boxes) < 2:
        return np.zeros(len(boxes))
    size = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    size -= np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    np.maximum(size, 0.0, out=size)
    area = size[..., 0] * size[..., 1]  # (N, N)
    area *= boxes[None, :, 3] > boxes[:, None, 3]
    own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(area.max(axis=1) / np.maximum(own, _TINY))


def _candidates(wanted: BoolArray) -> tuple[IntArray, IntArray]:
    """Rows ``(R,)`` that want any column, and their columns ``(R, width)``, filled up with 0."""
    i, j = np.divmod(np.flatnonzero(wanted), wanted.shape[1])
    counts = np.bincount(i)
    rows = counts.nonzero()[0]
    counts = counts[rows, None]
    width = int(counts.max(initial=0))
    columns = np.zeros((len(rows), width), np.int64)
    columns[np.arange(width) < counts] = j
    return rows, columns


def _unit(vectors: FloatArray) -> FloatArray:
    """Rows scaled to unit length; a row of zeros stays zero."""
    norm = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return vectors / np.maximum(norm, _TINY)[:, None]

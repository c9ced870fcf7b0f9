"""How well a descriptor recognises: CMC, mAP and mINP of ranked lists, under two protocols.

A protocol says which gallery entries a query is compared with. :func:`market1501` leaves out the
query's identity under the query's own camera and what is marked as junk; :func:`within_video` lets
a query meet only frames that lie far enough away in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np

from trackvae.arrays import BoolArray, FloatArray, IntArray, unit_length
from trackvae.errors import InputError, UsageError

Metric: TypeAlias = Literal["euclidean", "cosine"]
# Rows of queries to a mask (rows, G): which gallery entries each of them is compared with.
Comparable: TypeAlias = Callable[[IntArray], BoolArray]

JUNK = -1  # Market-1501: a box that is neither right nor wrong
_AT_ONCE = 8_000_000  # distances that are ranked together: some 200 MB


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Scores of ranked lists, in 0 to 100.

    Attributes:
        rank1: share of queries whose nearest gallery entry is of their identity (CMC at 1).
        rank5: of which one of the nearest five is.
        rank10: of the nearest ten.
        mAP: mean over queries of the precision averaged at each right entry.
        mINP: mean of right entries over the rank of the last of them (Ye et al., 2021): what it
            costs to find them all.
        queries: that count: those with a right entry to find.
    """

    rank1: float
    rank5: float
    rank10: float
    mAP: float  # noqa: N815 - the field's name
    mINP: float  # noqa: N815
    queries: int

    def to_dict(self) -> dict[str, float]:
        """Plain values by name."""
        return asdict(self)


def score_retrieval(
    queries: FloatArray,
    gallery: FloatArray,
    query_ids: IntArray,
    gallery_ids: IntArray,
    comparable: Comparable,
    *,
    metric: Metric = "euclidean",
) -> RetrievalScores:
    """Rank the gallery for every query and score the lists.

    Of entries at the same distance wrong ones rank first, so that a descriptor that says the same
    of everything earns nothing by the order of the files.

    Args:
        queries: (Q, D).
        gallery: (G, D).
        query_ids: (Q,).
        gallery_ids: (G,).
        comparable: see :data:`Comparable`.
        metric: between embeddings.

    Raises:
        InputError: embeddings that do not fit each other or are not finite; no query has a right
            entry to find.
        UsageError: an unknown metric.
    """
    queries, gallery = _prepared(queries, gallery, metric)
    rows = max(1, _AT_ONCE // max(len(gallery), 1))
    ranked = [
        _rank(
            _distances(queries[first : first + rows], gallery),
            query_ids[first : first + rows, None] == gallery_ids[None],
            comparable(np.arange(first, min(first + rows, len(queries)))),
        )
        for first in range(0, len(queries), rows)
    ]
    first_hit, precision, inp = np.concatenate(ranked, axis=1) if ranked else np.zeros((3, 0))
    if not len(first_hit):
        raise InputError("no query has an entry of its identity that it may be compared with")
    rank1, rank5, rank10 = (100 * float((first_hit <= rank).mean()) for rank in (1, 5, 10))
    mean_ap, mean_inp = 100 * float(precision.mean()), 100 * float(inp.mean())
    return RetrievalScores(rank1, rank5, rank10, mean_ap, mean_inp, len(first_hit))


def _prepared(
    queries: FloatArray, gallery: FloatArray, metric: Metric
) -> tuple[FloatArray, FloatArray]:
    """Both sides as float32, of unit length for the cosine."""
    if metric not in ("euclidean", "cosine"):
        raise UsageError(f"metric is {metric!r}, expected euclidean or cosine")
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"query embeddings {queries.shape} and gallery {gallery.shape}, expected (Q, D), (G, D)"
        )
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise InputError("embeddings hold NaN or infinity")
    both = [side.astype(np.float32) for side in (queries, gallery)]
    if metric == "cosine":
        both = [unit_length(side) for side in both]
    return both[0], both[1]


def _distances(queries: FloatArray, gallery: FloatArray) -> FloatArray:
    """Squared Euclidean distances (Q, G); on unit vectors they order as the cosine does."""
    squared = np.square(gallery).sum(1) - 2 * (queries @ gallery.T)
    return np.asarray(squared + np.square(queries).sum(1)[:, None])


def _rank(
    distances: FloatArray, right: BoolArray, comparable: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rank of the first hit, average precision, inverse negative penalty; (Q',) each."""
    right = right & comparable
    kept = right.any(axis=1)
    right, comparable, distances = right[kept], comparable[kept], distances[kept]
    distances = np.where(comparable, distances, np.inf)
    order = np.lexsort((right, distances), axis=1)
    hits = np.take_along_axis(right, order, axis=1)
    ranks = np.arange(1, hits.shape[1] + 1)
    total = hits.sum(axis=1)
    precision = (np.cumsum(hits, axis=1) / ranks * hits).sum(axis=1) / total
    last = hits.shape[1] - hits[:, ::-1].argmax(axis=1)
    return hits.argmax(axis=1) + 1.0, precision, total / last


def market1501(
    query_ids: IntArray, query_cameras: IntArray, gallery_ids: IntArray, gallery_cameras: IntArray
) -> Comparable:
    """Market-1501's protocol: no entry of the same identity and camera, no junk.

    Identity 0 (background, other people) stays in the gallery as wrong for everybody.
    """

    def comparable(rows: IntArray) -> BoolArray:
        same = (query_ids[rows, None] == gallery_ids) & (
            query_cameras[rows, None] == gallery_cameras
        )
        return np.asarray(~same & (gallery_ids != JUNK))

    return comparable


def within_video(frames: IntArray, gap: int = 60) -> Comparable:
    """Every box is a query against all boxes at least ``gap`` frames away in the same video."""

    def comparable(rows: IntArray) -> BoolArray:
        return np.asarray(np.abs(frames[rows, None] - frames) >= gap)

    return comparable

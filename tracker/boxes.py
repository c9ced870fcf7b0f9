"""Boxes as arrays: conversions between their forms, and overlap.

Inside the program a box is float64 ``xyxy`` in pixels (left, top, right, bottom). ``tlwh`` (left,
top, width, height) exists only at the file boundary; the filters' own measurement forms live with
the filters, in :mod:`tracker.motion`.
"""

from __future__ import annotations

import numpy as np

from trackvae.arrays import BoolArray, FloatArray

# From this many pairs on it pays to look for the overlapping ones first: 10 x 10 boxes 31 us
# against 22 dense, 30 x 30 36 against 49, 300 x 300 0.15 ms against 2.1
# (results/benchmark-kernels.json).
_SPARSE_FROM_PAIRS = 500


def xyxy_from_tlwh(tlwh: FloatArray) -> FloatArray:
    """Left, top, width, height to left, top, right, bottom; shapes ``(..., 4)``."""
    xyxy = np.array(tlwh, dtype=np.float64)
    xyxy[..., 2:] += xyxy[..., :2]
    return xyxy


def tlwh_from_xyxy(xyxy: FloatArray) -> FloatArray:
    """Left, top, right, bottom to left, top, width, height; shapes ``(..., 4)``."""
    tlwh = np.array(xyxy, dtype=np.float64)
    tlwh[..., 2:] -= tlwh[..., :2]
    return tlwh


def areas(xyxy: FloatArray) -> FloatArray:
    """Area of each box in square pixels: ``(N, 4)`` to ``(N,)``."""
    return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])


def clip(xyxy: FloatArray, width: float, height: float) -> FloatArray:
    """Boxes cut at the border of a ``width`` by ``height`` image: ``(N, 4)`` to ``(N, 4)``."""
    return np.clip(xyxy, 0.0, np.array([width, height, width, height], dtype=np.float64))


def reaches_into(xyxy: FloatArray, width: float, height: float) -> BoolArray:
    """Which boxes have a part in a ``width`` by ``height`` image: ``(N, 4)`` to ``(N,)``."""
    size = np.minimum(xyxy[:, 2:], (width, height)) - np.maximum(xyxy[:, :2], 0)
    return np.asarray((size > 0).all(axis=1))


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of every box of ``a`` with every box of ``b``.

    Args:
        a: ``(N, 4)`` boxes, xyxy.
        b: ``(M, 4)`` boxes, xyxy.

    Returns:
        ``(N, M)`` in [0, 1]. A pair whose union has no area gives 0.
    """
    if len(a) * len(b) >= _SPARSE_FROM_PAIRS:
        return _iou_sparse(a, b)
    overlap = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap -= np.maximum(a[:, None, :2], b[None, :, :2])  # (N, M, 2): width, height
    np.maximum(overlap, 0.0, out=overlap)
    inter = overlap[..., 0] * overlap[..., 1]  # (N, M)
    union = areas(a)[:, None] + areas(b) - inter
    np.maximum(union, np.finfo(np.float64).tiny, out=union)
    return inter / union


def _iou_sparse(a: FloatArray, b: FloatArray) -> FloatArray:
    """As :func:`iou`: most pairs of a crowded scene are apart, so only the others are computed."""
    out = np.zeros((len(a), len(b)))
    ax1, ay1, ax2, ay2 = np.ascontiguousarray(a.T)
    bx1, by1, bx2, by2 = np.ascontiguousarray(b.T)
    near = ax1[:, None] < bx2
    near &= ax2[:, None] > bx1
    pairs = np.flatnonzero(near)
    i, j = np.divmod(pairs, len(b))
    inter = np.minimum(ay2[i], by2[j]) - np.maximum(ay1[i], by1[j])
    np.maximum(inter, 0.0, out=inter)
    inter *= np.minimum(ax2[i], bx2[j]) - np.maximum(ax1[i], bx1[j])
    union = areas(a)[i] + areas(b)[j] - inter
    out.ravel()[pairs] = inter / np.maximum(union, np.finfo(np.float64).tiny)
    return out

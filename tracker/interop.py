"""Detections from whatever people have at hand, and tracks back in the same form."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracker.detections import Detections, Tracks
from trackvae.errors import InputError


def _is_supervision(value: Any) -> bool:
    """Whether this is ``supervision.Detections``, told without importing supervision."""
    return type(value).__module__.startswith("supervision.") and hasattr(value, "xyxy")


def as_detections(value: Any) -> Detections:
    """Detections from our own, from ``supervision.Detections``, or from a list or array.

    Args:
        value: arrays have 4 to 6 columns: xyxy, score, class. Of ``supervision.Detections``,
            ``data["embeddings"]`` is taken as embeddings.

    Raises:
        InputError: a wrong shape, NaN or infinity, a negative width or height.
    """
    if isinstance(value, Detections):
        return value
    if _is_supervision(value):
        return Detections.of(
            value.xyxy, value.confidence, value.class_id, value.data.get("embeddings")
        )
    try:
        rows = np.asarray([] if value is None else value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"detections are a {type(value).__name__}, expected Detections, "
            f"supervision.Detections or (N, 4 to 6) numbers: xyxy, score, class"
        ) from error
    if rows.size == 0:
        return Detections.empty()
    if rows.ndim != 2 or not 4 <= rows.shape[1] <= 6:
        raise InputError(f"detections have shape {rows.shape}, expected (N, 4 to 6)")
    scores = rows[:, 4] if rows.shape[1] > 4 else None
    return Detections.of(rows[:, :4], scores, rows[:, 5] if rows.shape[1] > 5 else None)


def with_ids(value: Any, tracks: Tracks) -> Any:
    """Tracks in the form in which the detections came.

    ``supervision.Detections`` come back as those that belong to a confirmed track, with
    ``tracker_id``, everything else about them (masks, data) as it was; other forms as tracks.
    """
    if not _is_supervision(value):
        return tracks
    rows, ids = tracks.matched
    kept = value[rows]
    kept.tracker_id = ids
    return kept

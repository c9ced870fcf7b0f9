"""Our embedders in other people's trackers, and other people's in ours.

Our interface is a callable ``(image (H, W, 3), boxes (N, 4) xyxy) -> (N, D)``. supervision carries
boxes in objects with an ``xyxy``, which is all that is asked of them here; Roboflow's trackers ask
for an object with ``extract_features``. Neither package is imported to give them ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from reid.crops import checked_boxes
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError, UsageError

AnyEmbedder: TypeAlias = Callable[[Image, FloatArray], FloatArray]


class FeatureExtractor(Protocol):
    """What Roboflow's trackers call an encoder."""

    def extract_features(self, detections: Any, frame: Image) -> FloatArray:
        """Embeddings ``(N, D)`` of ``supervision.Detections``."""
        ...


@dataclass(frozen=True)
class ForTrackers:
    """An embedder for Roboflow's trackers.

    ``BoTSORTTracker(reid_model=ForTrackers(embedder))`` calls ``extract_features(detections,
    frame)``; the ``DeepSORTTracker(feature_extractor=...)`` of release 2.0 calls
    ``extract_features(frame, detections)``. Both are understood.

    Attributes:
        embedder: ``(image, boxes) -> (N, D)``.
    """

    embedder: AnyEmbedder

    def extract_features(self, detections: Any, frame: Any) -> FloatArray:
        """Embed the boxes of a frame.

        Args:
            detections: has ``xyxy``, ``(N, 4)`` in pixels.
            frame: ``(H, W, 3)`` uint8, BGR. The two may change places.

        Returns:
            ``(N, D)`` float32.

        Raises:
            InputError: neither has boxes, or the embedder refuses them.
        """
        if hasattr(frame, "xyxy"):
            detections, frame = frame, detections
        return _embedded(self.embedder, frame, detections)


def with_embeddings(detections: Any, frame: Image, embedder: AnyEmbedder) -> Any:
    """A copy of ``supervision.Detections`` that carries its embeddings.

    They lie in ``data["embeddings"]``, where :meth:`tracker.Tracker.update` finds them, and where
    supervision's filters and slices keep them beside their boxes.

    Args:
        detections: has ``xyxy`` and a ``data`` of arrays by name.
        frame: ``(H, W, 3)`` uint8, BGR.
        embedder: ``(image, boxes) -> (N, D)``.

    Raises:
        InputError: it has no boxes, or the embedder refuses them.
    """
    embeddings = _embedded(embedder, frame, detections)
    found = copy.copy(detections)
    found.data = {**detections.data, "embeddings": embeddings}
    return found


def from_extractor(model: FeatureExtractor) -> AnyEmbedder:
    """Somebody's ``extract_features(detections, frame)`` as an embedder for :class:`Tracker`.

    Args:
        model: such as ``reid.ReIDModel`` of Roboflow's.

    Returns:
        ``(image, boxes (N, 4)) -> (N, D)`` float32; of no boxes ``(0, 0)``, and the model is not
        asked.

    Raises:
        UsageError: it has no ``extract_features``.
    """
    if not hasattr(model, "extract_features"):
        raise UsageError(
            f"a {type(model).__name__} has no extract_features; a callable (frame, boxes) -> "
            "(N, D) is an embedder as it is"
        )

    def embed(image: Image, boxes: FloatArray) -> FloatArray:
        from supervision import Detections

        boxes = checked_boxes(boxes)
        if len(boxes) == 0:
            return np.zeros((0, 0), np.float32)
        return np.asarray(model.extract_features(Detections(xyxy=boxes), image), np.float32)

    return embed


def _embedded(embedder: AnyEmbedder, frame: Image, detections: Any) -> FloatArray:
    """Embeddings ``(N, D)`` float32 of what has ``xyxy``."""
    boxes = getattr(detections, "xyxy", None)
    if boxes is None:
        raise InputError(
            f"detections are a {type(detections).__name__} without xyxy, expected boxes as "
            "supervision.Detections has them"
        )
    return np.asarray(embedder(frame, checked_boxes(boxes)), np.float32)

"""The nouns that everything around the tracker shares: a frame, what was seen, what is followed.

Detections and tracks are structs of arrays, one row an object. An empty frame is an ordinary
frame: shape ``(0, 4)`` goes through everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.boxes import xyxy_from_tlwh
from trackvae.arrays import BoolArray, FloatArray, Image, IntArray
from trackvae.errors import InputError


def _column(
    values: npt.ArrayLike | None, rows: int, dtype: npt.DTypeLike, default: float, name: str
) -> npt.NDArray[Any]:
    """``values`` as an array of ``rows`` numbers, or ``default`` in every row."""
    if values is None:
        return np.full(rows, default, dtype=dtype)
    array = np.asarray(values, dtype=dtype)
    if array.shape != (rows,):
        raise InputError(f"{name} has shape {array.shape}, expected ({rows},): one per box")
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a source.

    Attributes:
        index: its number in the sequence, from 1.
        timestamp: seconds since the first frame.
        image: ``(H, W, 3)`` uint8 BGR, or None where the sequence has no images.
    """

    index: int
    timestamp: float
    image: Image | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector saw in one frame.

    Attributes:
        boxes: ``(N, 4)`` float64, xyxy in pixels, finite, right ≥ left and bottom ≥ top.
        scores: ``(N,)`` float64; any scale (DPM's run below 0 and above 2), finite.
        classes: ``(N,)`` int64; -1 where the class is unknown.
        embeddings: ``(N, D)`` float32 appearance vectors, or None.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    embeddings: FloatArray | None = None

    def __len__(self) -> int:
        """How many objects were seen."""
        return len(self.boxes)

    def __getitem__(self, rows: IntArray | BoolArray | slice) -> Detections:
        """The detections of the chosen rows, in that order."""
        return Detections(
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            None if self.embeddings is None else self.embeddings[rows],
        )

    @classmethod
    def of(
        cls,
        boxes: npt.ArrayLike,
        scores: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | None = None,
        embeddings: npt.ArrayLike | None = None,
    ) -> Detections:
        """Checked detections from anything array-like.

        Args:
            boxes: ``(N, 4)`` xyxy in pixels; ``[]`` and ``(0, 4)`` are an empty frame.
            scores: ``(N,)``; 1 where left out.
            classes: ``(N,)``; -1 where left out.
            embeddings: ``(N, D)``, or None.

        Raises:
            InputError: a wrong shape, NaN or infinity, a negative width or height.
        """
        try:
            xyxy = np.asarray(boxes, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"boxes are not numbers of shape (N, 4): {error}") from error
        if xyxy.size == 0:
            xyxy = xyxy.reshape(0, 4)
        if xyxy.ndim != 2 or xyxy.shape[1] != 4:
            raise InputError(f"boxes have shape {xyxy.shape}, expected (N, 4) xyxy")
        rows = len(xyxy)
        score = _column(scores, rows, np.float64, 1.0, "scores")
        label = _column(classes, rows, np.int64, -1, "classes")
        feature = None
        if embeddings is not None:
            feature = np.asarray(embeddings, dtype=np.float32)
            if feature.size == 0 and rows == 0:
                feature = feature.reshape(0, feature.shape[-1] if feature.ndim == 2 else 0)
            if feature.ndim != 2 or len(feature) != rows:
                raise InputError(
                    f"embeddings have shape {feature.shape}, expected ({rows}, D): one per box"
                )
        _check_values(xyxy, score, feature)
        return cls(xyxy, score, label, feature)

    @classmethod
    def from_tlwh(
        cls,
        tlwh: npt.ArrayLike,
        scores: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | None = None,
        embeddings: npt.ArrayLike | None = None,
    ) -> Detections:
        """As :meth:`of`, from boxes given as left, top, width, height."""
        boxes = np.asarray(tlwh, dtype=np.float64).reshape(-1, 4)
        return cls.of(xyxy_from_tlwh(boxes), scores, classes, embeddings)

    @classmethod
    def empty(cls) -> Detections:
        """A frame in which nothing was seen."""
        return cls.of(np.zeros((0, 4)))


def _check_values(boxes: FloatArray, scores: FloatArray, embeddings: FloatArray | None) -> None:
    """Raise for the first row that no tracker could use, naming it."""
    if not len(boxes):
        return
    # One reduction decides the usual case; the row is looked for only when something is wrong.
    good = np.isfinite(boxes.sum()) and np.isfinite(scores.sum())
    good = good and (boxes[:, 2:] >= boxes[:, :2]).all()
    good = good and (embeddings is None or np.isfinite(embeddings.sum()))
    if good:
        return
    for row in range(len(boxes)):
        if not np.isfinite(boxes[row]).all():
            raise InputError(f"box {row} is not finite: {boxes[row].tolist()}")
        if (boxes[row, 2:] < boxes[row, :2]).any():
            raise InputError(
                f"box {row} has a negative width or height: {boxes[row].tolist()} (expected xyxy)"
            )
        if not np.isfinite(scores[row]):
            raise InputError(f"score {row} is not finite: {scores[row]}")
        if embeddings is not None and not np.isfinite(embeddings[row]).all():
            raise InputError(f"embedding {row} is not finite")


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """What is followed in one frame: one row a confirmed track.

    Attributes:
        ids: ``(N,)`` int64, dense from 1 in the order of confirmation, never used again.
        boxes: ``(N, 4)`` float64, xyxy in pixels.
        scores: ``(N,)`` float64, the score of the track's latest detection.
        classes: ``(N,)`` int64.
        detection_index: ``(N,)`` int64, the row of this frame's detections that the track was
            matched with, or -1 where it is carried by its motion alone.
    """

    ids: IntArray
    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    detection_index: IntArray

    def __len__(self) -> int:
        """How many tracks are followed."""
        return len(self.ids)

    def __getitem__(self, rows: IntArray | BoolArray | slice) -> Tracks:
        """The tracks of the chosen rows, in that order."""
        return Tracks(
            self.ids[rows],
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            self.detection_index[rows],
        )

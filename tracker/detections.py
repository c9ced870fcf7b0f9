"""The nouns that everything around the tracker shares: a frame, what was seen, what is followed.

Detections and tracks are structs of arrays, one row an object. An empty frame is an ordinary
frame: shape ``(0, 4)`` goes through everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tracker.boxes import xyxy_from_tlwh
from trackvae.arrays import BoolArray, FloatArray, Image, IntArray
from trackvae.errors import InputError

_Column = TypeVar("_Column", FloatArray, IntArray)

# Of coordinates, classes, ids: integers beyond are not exact in float64, and no tracker means them.
LARGEST = 2.0**53


def _numbers(values: npt.ArrayLike, dtype: npt.DTypeLike | None, name: str) -> npt.NDArray[Any]:
    """``values`` as an array of numbers."""
    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} are not numbers: {error}") from error


def _four_columns(boxes: npt.ArrayLike, form: str) -> FloatArray:
    """``boxes`` as ``(N, 4)`` float64; nothing is ``(0, 4)``."""
    array: FloatArray = _numbers(boxes, np.float64, "boxes")
    if array.ndim == 2 and array.shape[1] == 4:
        return array
    if array.size == 0:
        return array.reshape(0, 4)
    raise InputError(f"boxes have shape {array.shape}, expected (N, 4) {form}")


def _scores(scores: npt.ArrayLike | None, rows: int) -> FloatArray:
    if scores is None:
        return np.ones(rows)
    array: FloatArray = _numbers(scores, np.float64, "scores")
    return _one_per_box(array, rows, "scores")


def _classes(classes: npt.ArrayLike | None, rows: int) -> IntArray:
    if classes is None:
        return np.full(rows, -1, dtype=np.int64)
    array = _numbers(classes, None, "classes")
    if array.dtype.kind not in "ib":
        # Through float64: a cast to int64 would make a number of NaN, and 1 of 1.7.
        array = _numbers(classes, np.float64, "classes")
        wrong = ~((np.abs(array) < LARGEST) & (array == np.floor(array)))
        if wrong.any():
            value = array[wrong][0]
            raise InputError(f"classes hold {value:g}, expected whole numbers below {LARGEST:.0e}")
    whole: IntArray = array.astype(np.int64, copy=False)
    return _one_per_box(whole, rows, "classes")


def _one_per_box(array: _Column, rows: int, name: str) -> _Column:
    if array.shape != (rows,):
        raise InputError(f"{name} has shape {array.shape}, expected ({rows},): one per box")
    return array


def _features(embeddings: npt.ArrayLike, rows: int) -> FloatArray:
    """``embeddings`` as ``(rows, D)`` float32."""
    with np.errstate(over="ignore"):  # told later, as infinite
        feature: FloatArray = _numbers(embeddings, np.float32, "embeddings")
    if feature.size == 0 and rows == 0:
        feature = feature.reshape(0, feature.shape[-1] if feature.ndim == 2 else 0)
    if feature.ndim != 2 or len(feature) != rows:
        raise InputError(
            f"embeddings have shape {feature.shape}, expected ({rows}, D): one per box"
        )
    return feature


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
        boxes: ``(N, 4)`` float64, xyxy in pixels, below 2^53, right ≥ left and bottom ≥ top.
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
            InputError: no numbers, a wrong shape, NaN or infinity, a coordinate or class beyond
                2^53, a class that is not whole, a negative width or height.
        """
        xyxy = _four_columns(boxes, "xyxy")
        rows = len(xyxy)
        score, label = _scores(scores, rows), _classes(classes, rows)
        feature = None if embeddings is None else _features(embeddings, rows)
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
        boxes = _four_columns(tlwh, "left, top, width, height")
        with np.errstate(over="ignore", invalid="ignore"):  # told below, as infinite
            xyxy = xyxy_from_tlwh(boxes)
        return cls.of(xyxy, scores, classes, embeddings)

    @classmethod
    def empty(cls) -> Detections:
        """A frame in which nothing was seen."""
        return cls.of(np.zeros((0, 4)))


def _check_values(boxes: FloatArray, scores: FloatArray, embeddings: FloatArray | None) -> None:
    """Raise for the first row that no tracker could use, naming it."""
    if not len(boxes):
        return
    # One reduction decides the usual case; the row is looked for only when something is wrong.
    good = np.abs(boxes).max() < LARGEST and np.isfinite(scores.sum())
    good = good and (boxes[:, 2:] >= boxes[:, :2]).all()
    good = good and (embeddings is None or np.isfinite(embeddings.sum()))
    if good:
        return
    for row in range(len(boxes)):
        if not np.isfinite(boxes[row]).all():
            raise InputError(f"box {row} is not finite: {boxes[row].tolist()}")
        if np.abs(boxes[row]).max() >= LARGEST:
            raise InputError(
                f"box {row} is far too large: {boxes[row].tolist()}, expected below {LARGEST:.0e}"
            )
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

    @property
    def matched(self) -> tuple[IntArray, IntArray]:
        """Rows ``(M,)`` of this frame's detections that tracks were matched with, and their ids."""
        seen = self.detection_index >= 0
        return self.detection_index[seen], self.ids[seen]

    def __getitem__(self, rows: IntArray | BoolArray | slice) -> Tracks:
        """The tracks of the chosen rows, in that order."""
        return Tracks(
            self.ids[rows],
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            self.detection_index[rows],
        )

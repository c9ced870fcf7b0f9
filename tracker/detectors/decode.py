"""How each family of ONNX detectors writes its boxes, and how to tell the families apart.

A row below is one candidate; boxes come out as xyxy in pixels of the network's input.

========================= ================ =====================================================
family                    output           row
========================= ================ =====================================================
yolox                     (1, N, 5 + C)    offset of the centre and log size in strides of the
                                           cell, objectness, C class scores
yolox-decoded             (1, N, 5 + C)    centre and size in pixels, objectness, C class scores
yolov5 (and v7)           (1, 3N, 5 + C)   centre and size in pixels, objectness, C class scores
yolov8 (also v9, 11)      (1, 4 + C, N)    centre and size in pixels, C class scores
end2end                   (1, K, 6)        xyxy in pixels, score, class; already suppressed
========================= ================ =====================================================

N is the number of grid cells over strides 8, 16, 32 (and 64 in the large variants); YOLOv5 has
three anchors a cell. So the count of rows tells the family where the shapes alone are alike.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError

_STRIDES: Final = (8, 16, 32)
_LARGE_STRIDES: Final = (8, 16, 32, 64)
# exp(20) pixels is beyond any image; the cap only keeps a broken model from overflowing.
_MAX_LOG_SIZE: Final = 20.0
# Raw YOLOX centres are offsets of about a cell, decoded ones spread over the whole input.
_LARGEST_OFFSET: Final = 8.0


class Candidates(NamedTuple):
    """Boxes that a network proposes: ``(N, 4)`` xyxy input pixels, ``(N,)``, ``(N,)`` int64."""

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray


def cell_count(size: tuple[int, int], strides: tuple[int, ...] = _STRIDES) -> int:
    """Number of grid cells of a ``(width, height)`` input over all strides."""
    return sum((size[0] // s) * (size[1] // s) for s in strides)


def tell_family(output: FloatArray, size: tuple[int, int]) -> str:
    """The family of an output.

    Args:
        output: what the model gives for one (empty) image.
        size: width, height of the network's input.

    Raises:
        InputError: no family writes this shape.
    """
    if output.ndim == 3 and len(output) == 1:
        _, rows, columns = output.shape
        cells = {cell_count(size), cell_count(size, _LARGE_STRIDES)}
        if rows in cells and columns > 5:
            spread = float(np.median(np.abs(output[0, :, :2])))
            return "yolox-decoded" if spread > _LARGEST_OFFSET else "yolox"
        if rows in {3 * n for n in cells} and columns > 5:
            return "yolov5"
        if columns in cells and rows > 4:
            return "yolov8"
        if columns == 6:
            return "end2end"
    raise InputError(
        f"output has shape {output.shape}, which no known family has for an input of "
        f"{size[0]}x{size[1]}: yolox (1, N, 5+C), yolov5 (1, 3N, 5+C), yolov8 (1, 4+C, N), "
        f"end2end (1, K, 6), with N = {cell_count(size)}"
    )


def class_count(output: FloatArray, family: str) -> int:
    """How many classes the output's shape has room for; 0 where it does not say."""
    if family == "end2end":
        return 0
    return output.shape[1] - 4 if family == "yolov8" else output.shape[2] - 5


def check_output(output: FloatArray, family: str, size: tuple[int, int], classes: int) -> None:
    """Raise where an output cannot be read as a family's.

    Args:
        output: what the model gives for one image.
        family: as it is told or set.
        size: width, height of the network's input.
        classes: how many the model has by its own metadata; 0 where it does not say.

    Raises:
        InputError: a wrong number of axes, rows or columns.
    """
    wrong = output.ndim != 3 or len(output) != 1
    if not wrong and family == "end2end":
        wrong = output.shape[2] < 6
    elif not wrong:
        wrong = class_count(output, family) < max(1, classes)
        wrong |= family == "yolox" and output.shape[1] not in (
            cell_count(size),
            cell_count(size, _LARGE_STRIDES),
        )
    if wrong:
        named = f" with {classes} classes" if classes else ""
        raise InputError(f"output of shape {output.shape} cannot be read as {family}{named}")


def decode(
    output: FloatArray, family: str, size: tuple[int, int], min_score: float, classes: int
) -> Candidates:
    """The candidates of at least ``min_score``.

    Args:
        output: one image's, of a shape that :func:`check_output` accepts.
        family: see the module.
        size: width, height of the network's input.
        min_score: candidates below are not decoded.
        classes: number of classes; columns after them (masks, key points) are passed over.
    """
    rows = output[0]
    if family == "end2end":
        rows = rows[rows[:, 4] >= min_score]
        # A class that is no number cannot be cast; its box would mean nothing.
        rows = rows[np.isfinite(rows[:, 5])]
        return Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))
    if family == "yolov8":
        best = rows[4 : 4 + classes].max(axis=0)
        chosen = np.flatnonzero(best >= min_score)
        rows = rows[:, chosen].T
        probabilities = rows[:, 4 : 4 + classes]
    else:
        # Class scores are at most 1, so objectness alone already bounds the product.
        chosen = np.flatnonzero(rows[:, 4] >= min_score)
        rows = rows[chosen]
        probabilities = rows[:, 4:5] * rows[:, 5 : 5 + classes]
    centre, extent = rows[:, :2], rows[:, 2:4]
    if family == "yolox":
        cells, strides = _grid(size, len(output[0]))
        centre = (centre + cells[chosen]) * strides[chosen]
        extent = np.exp(np.minimum(extent, _MAX_LOG_SIZE)) * strides[chosen]
    label = probabilities.argmax(axis=1).astype(np.int64)
    score = probabilities[np.arange(len(label)), label]
    keep = score >= min_score
    boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    return Candidates(boxes[keep], score[keep], label[keep])


def _grid(size: tuple[int, int], rows: int) -> tuple[FloatArray, FloatArray]:
    """Column and row of each cell ``(N, 2)`` and its stride ``(N, 1)``, finest stride first."""
    strides = _STRIDES if rows == cell_count(size) else _LARGE_STRIDES
    cells, scale = [], []
    for stride in strides:
        y, x = np.mgrid[: size[1] // stride, : size[0] // stride]
        cells.append(np.column_stack([x.ravel(), y.ravel()]))
        scale.append(np.full((x.size, 1), stride))
    return (
        np.concatenate(cells).astype(np.float32),
        np.concatenate(scale).astype(np.float32),
    )

"""Boxes of one frame cut out and resized, all of them in a few calls; no network lives here.

What comes out is what :mod:`tools.crops` cuts out box by box to train on, within rounding: whole
pixels inside the frame, averaged over areas where a box shrinks both ways, else interpolated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray, Image, IntArray
from trackvae.errors import InputError, UsageError

# A pixel that shrinks is the mean of samples at most so many pixels apart, each of them already a
# mean of two by two. Grey levels off cv2.INTER_AREA, and the time against a loop of cv2.resize (50
# boxes of MOT16-09 at 64 x 64): 2.0 apart 0.39 and 0.89, 2.4 0.58 and 0.64, 2.8 0.68 and 0.59.
_APART = 2.4
_MOST_SAMPLES = 8  # each way, for one pixel: boxes of 1,200 pixels at a side of 64
_FRACTION = 32  # OpenCV places samples to a 32nd of a pixel
_ROWS = 8192  # of a sampling map
_LARGEST = 32_766  # rows or columns of what OpenCV samples, and of a map


def cut(image: Image, boxes: FloatArray, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The boxes of a frame as crops of one size.

    All crops are sampled together: one map of places, one ``cv2.remap`` for those that shrink
    alike, one mean over each pixel's samples. A loop of ``cv2.resize`` takes as long for 10
    pedestrians of a 1080p frame, 1.4 times as long for 50, 1.6 times for 200.

    Args:
        image: ``(H, W, 3)`` uint8, BGR.
        boxes: ``(N, 4)`` xyxy in pixels. They are widened to whole pixels and cut at the image's
            border; what is left is one pixel wide and high at least.
        size: height and width of a crop.

    Returns:
        ``(N, 3, height, width)`` uint8, BGR; in memory the channels are last, as
        ``cv2`` and convolutions on a CPU like them.

    Raises:
        InputError: an image or boxes of another type or shape, or boxes that are not finite.
        UsageError: a size below one pixel.
    """
    height, width = size
    if min(size) < 1:
        raise UsageError(f"size is {size}, expected height and width from 1 pixel")
    check_image(image)
    pixels = whole_pixels(boxes, image.shape[1], image.shape[0])
    crops = np.empty((len(pixels), height, width, 3), np.uint8)
    sides = pixels[:, 2:] - pixels[:, :2]
    shrinks = (sides >= (width, height)).all(axis=1, keepdims=True)
    samples = np.where(shrinks, np.ceil(sides / (_APART * width, _APART * height)), 1)
    samples = samples.clip(1, _MOST_SAMPLES).astype(np.int64)  # (N, 2) across, down
    kind = samples[:, 0] * (_MOST_SAMPLES + 1) + samples[:, 1]
    for alike in np.unique(kind):
        rows = np.flatnonzero(kind == alike)
        across, down = samples[rows[0]].tolist()
        at_once = max(1, _ROWS // (height * down))
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            crops[some] = _sampled(image, pixels[some], size, across, down)
    return crops.transpose(0, 3, 1, 2)


def check_image(image: Any) -> None:
    """Refuse what is no colour image of bytes.

    Raises:
        InputError: it is not ``(H, W, 3)`` uint8, has no pixels, or more than OpenCV samples.
    """
    kind = getattr(image, "dtype", type(image).__name__)
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if max(shape, default=0) > _LARGEST:
        raise InputError(f"the image has shape {shape}, expected sides up to {_LARGEST} pixels")
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(
            f"the image is {kind} of shape {shape}, expected uint8 (H, W, 3), BGR as "
            "cv2.imread gives it"
        )


def checked_boxes(boxes: FloatArray) -> FloatArray:
    """Boxes as float64 ``(N, 4)``; nothing is no boxes.

    Raises:
        InputError: another shape, or coordinates that are not finite.
    """
    if hasattr(boxes, "boxes") or hasattr(boxes, "xyxy"):
        raise InputError(
            f"boxes are a {type(boxes).__name__}, expected its coordinates (N, 4): .boxes of "
            "ours, .xyxy of supervision's"
        )
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes of shape {boxes.shape}, expected (N, 4): left, top, right, bottom")
    if not np.isfinite(boxes).all():
        row = int(np.argmin(np.isfinite(boxes).all(axis=1)))
        raise InputError(f"box {row} is {boxes[row].tolist()}, expected finite coordinates")
    return boxes


def whole_pixels(boxes: FloatArray, width: int, height: int) -> IntArray:
    """Boxes ``(N, 4)`` xyxy widened to whole pixels inside the image, at least one of them.

    Raises:
        InputError: another shape, or coordinates that are not finite.
    """
    boxes = checked_boxes(boxes)
    limits = np.array([width, height])
    low = np.clip(np.floor(boxes[:, :2]), 0, limits - 1)
    high = np.clip(np.ceil(boxes[:, 2:]), low + 1, limits)
    return np.concatenate([low, high], axis=1).astype(np.int64)


def _sampled(
    image: Image, pixels: IntArray, size: tuple[int, int], across: int, down: int
) -> npt.NDArray[np.uint8]:
    """Crops ``(N, height, width, 3)``, a pixel the mean of ``across`` times ``down`` samples."""
    import cv2

    height, width = size
    x = _places(pixels[:, 0], pixels[:, 2], width * across)
    y = _places(pixels[:, 1], pixels[:, 3], height * down)
    # OpenCV's own form of a map: whole pixels, and beside them the fractions as one number
    whole = np.empty((len(pixels), height * down, width * across, 2), np.int16)
    whole[..., 0] = (x // _FRACTION).astype(np.int16)[:, None]
    whole[..., 1] = (y // _FRACTION).astype(np.int16)[:, :, None]
    fraction = (y % _FRACTION * _FRACTION).astype(np.uint16)[:, :, None]
    fraction = fraction + (x % _FRACTION).astype(np.uint16)[:, None]
    taken = cv2.remap(
        image,
        whole.reshape(-1, width * across, 2),
        fraction.reshape(-1, width * across),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if across * down > 1:
        taken = cv2.resize(taken, (width, len(pixels) * height), interpolation=cv2.INTER_AREA)
    return np.asarray(taken, dtype=np.uint8).reshape(-1, height, width, 3)


def _places(low: IntArray, high: IntArray, count: int) -> IntArray:
    """Where ``count`` samples lie in each box, one axis: (N, count), in 32nds of a pixel."""
    step = (high - low) / count
    at = low[:, None] + (np.arange(count) + 0.5) * step[:, None] - 0.5
    inside = np.clip(at, low[:, None], high[:, None] - 1)  # a crop ends at its box
    return np.rint(inside * _FRACTION).astype(np.int32)

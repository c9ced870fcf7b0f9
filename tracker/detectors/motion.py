"""Detection by background subtraction: what moves before a camera that does not.

Needs no weights and knows no classes: people who overlap in the image are one object to it, who
stands still melts into the background (after about ``history`` frames), and who stood in the
first frame leaves a ghost there. For those, take a trained detector.
"""

from __future__ import annotations

import warnings
from typing import Any

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from tracker.boxes import areas, xyxy_from_tlwh
from tracker.detections import Detections, Frame
from tracker.detectors.selection import image_of, inside
from tracker.detectors.settings import MotionSettings
from trackvae.arrays import FloatArray, Image

# Figures below: people at IoU 0.5, recall / precision on PETS09-S2L1, on which the settings were
# chosen (0.76 / 0.82; without taking shadows off 0.58 / 0.67; mog2 0.74 / 0.81).
_LONG_SIDE = 960  # larger images are analysed at this size
# The subtractors' own learning rate, 1 / min(2 frames, history): a fixed 1/history keeps the first
# frame's ghosts, 0.65 / 0.70 against 0.76 / 0.82.
_LEARNING_RATE = -1.0
_BLUR = 5  # pixels; against the sensor's noise
_FOREGROUND = 255  # OpenCV marks shadows with 127
_CLOSE = 1 / 64  # height of the closing, of the image's
_SPECK = 0.1  # fragments below this share of min_area are noise and join nothing
_MOST_FRAGMENTS = 500  # of a frame, largest first: bounds the merging when all of it moves
_THRESHOLDS = {"knn": 800.0, "mog2": 36.0}
_MOVING_SHARE, _MOVING_FRAMES = 0.4, 10  # so much foreground for so long: the camera moves


class MotionDetector:
    """Boxes around what moves; the score is the share of the box that is foreground.

    Attributes:
        needs_image: True.
        names: empty; the class is -1.
    """

    needs_image = True

    def __init__(self, settings: MotionSettings | None = None) -> None:
        """Start without a background; the first frames teach it (see the settings)."""
        self.settings = settings or MotionSettings()
        self.names: dict[int, str] = {}
        self._warned = False
        self.reset()

    def reset(self) -> None:
        """Forget the background: the next frame starts another video."""
        create = {
            "knn": cv2.createBackgroundSubtractorKNN,
            "mog2": cv2.createBackgroundSubtractorMOG2,
        }[self.settings.algorithm]
        threshold = self.settings.threshold or _THRESHOLDS[self.settings.algorithm]
        self._subtractor: Any = create(self.settings.history, threshold, self.settings.shadows)
        self._size: tuple[int, ...] = ()
        self._seen = 0
        self._full_frames = 0

    def __call__(self, frame: Frame) -> Detections:
        """What moves in the frame, largest foreground first; frames must come in order."""
        image = image_of(frame, "motion")
        if self._size != image.shape[:2]:
            self.reset()
            self._size = image.shape[:2]
        mask = self._foreground(image)
        self._seen += 1
        if self._seen <= self.settings.warmup:
            return Detections.empty()
        self._watch_camera(mask)
        boxes, foreground = self._objects(mask)
        scores = np.minimum(foreground / areas(boxes), 1.0)
        keep = scores >= self.settings.min_score
        scale = np.array(image.shape[1::-1]) / mask.shape[::-1]  # x, y
        found = Detections.of(boxes[keep] * np.tile(scale, 2), scores[keep])
        return inside(found, image)

    def _foreground(self, image: Image) -> Image:
        """255 on what moves ``(h, w)``, shadows taken off, small gaps closed."""
        height, width = image.shape[:2]
        small: Any = image
        factor = min(1.0, _LONG_SIDE / max(height, width))
        if factor < 1:
            size = max(1, round(width * factor)), max(1, round(height * factor))
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # KNN draws the samples it keeps from OpenCV's generator: the same video, the same boxes.
        cv2.setRNGSeed(self._seen)
        mask: Any = self._subtractor.apply(
            cv2.GaussianBlur(small, (_BLUR, _BLUR), 0), learningRate=_LEARNING_RATE
        )
        mask = cv2.inRange(mask, _FOREGROUND, _FOREGROUND)
        # Upright only: closing sideways by 3 pixels glues neighbours together, 0.76 / 0.81 to
        # 0.73 / 0.78 on PETS09.
        tall = max(3, round(mask.shape[0] * _CLOSE) | 1)
        kernel = np.ones((tall, 1), dtype=np.uint8)
        closed: Any = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
        return closed

    def _objects(self, mask: Image) -> tuple[FloatArray, FloatArray]:
        """Boxes ``(N, 4)`` in pixels of the mask and their foreground ``(N,)`` in pixels."""
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        stats = np.asarray(stats, dtype=np.float64)[1:]  # the first is the background
        least = self.settings.min_area * mask.size
        stats = stats[stats[:, cv2.CC_STAT_AREA] >= _SPECK * least]
        largest = np.argsort(-stats[:, cv2.CC_STAT_AREA], kind="stable")[:_MOST_FRAGMENTS]
        boxes, foreground = merge_fragments(
            xyxy_from_tlwh(stats[largest, :4]),
            stats[largest, cv2.CC_STAT_AREA],
            self.settings.merge_gap,
        )
        keep = foreground >= least
        return boxes[keep], foreground[keep]

    def _watch_camera(self, mask: Image) -> None:
        """Warn once when most of the image has been foreground for a while."""
        full = cv2.countNonZero(mask) > _MOVING_SHARE * mask.size
        self._full_frames = self._full_frames + 1 if full else 0
        if self._full_frames >= _MOVING_FRAMES and not self._warned:
            self._warned = True
            warnings.warn(
                f"detector motion: over {_MOVING_SHARE:.0%} of the image has moved for "
                f"{_MOVING_FRAMES} frames; motion is for static cameras, take an onnx detector",
                stacklevel=3,
            )


def merge_fragments(
    boxes: FloatArray, foreground: FloatArray, gap: float
) -> tuple[FloatArray, FloatArray]:
    """Join the fragments of one object: a head, a trunk and legs over a background-coloured coat.

    Two fragments belong together when the narrower one lies by half or more above, below or
    inside the other, and the vertical gap is at most ``gap`` times the smaller side of the pair's
    extent (the larger height, the larger width). Sizes are compared with each other only, so
    that the rule is the same near and far. Repeated until nothing joins.

    Args:
        boxes: ``(N, 4)`` xyxy.
        foreground: ``(N,)`` pixels.
        gap: share of the fragments' size, 0 or more.

    Returns:
        Boxes ``(M, 4)`` around the joined fragments, and their summed foreground ``(M,)``.
    """
    while len(boxes) > 1:
        left, top, right, bottom = boxes.T
        width, height = right - left, bottom - top
        across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
        apart = np.maximum(top[:, None], top) - np.minimum(bottom[:, None], bottom)
        extent = np.minimum(np.maximum(width[:, None], width), np.maximum(height[:, None], height))
        joined = (across >= 0.5 * np.minimum(width[:, None], width)) & (apart <= gap * extent)
        count, label = connected_components(joined, directed=False)
        if count == len(boxes):
            break
        order = np.argsort(label, kind="stable")
        starts = np.searchsorted(label[order], np.arange(count))
        least = np.minimum.reduceat(boxes[order, :2], starts)
        most = np.maximum.reduceat(boxes[order, 2:], starts)
        boxes = np.concatenate([least, most], axis=1)
        foreground = np.add.reduceat(foreground[order], starts)
    return boxes, foreground

"""What every image detector ends with: threshold, classes, suppression, the image's border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracker.boxes import clip
from tracker.detections import Detections, Frame
from tracker.detectors.nms import nms
from trackvae.arrays import BoolArray, FloatArray, Image, IntArray
from trackvae.errors import InputError


def image_of(frame: Frame, detector: str) -> Image:
    """The frame's image.

    Raises:
        InputError: it has none, or it is not ``(H, W, 3)`` uint8.
    """
    image = frame.image
    if image is None:
        raise InputError(
            f"frame {frame.index} has no image, and detector {detector} needs one: "
            "take the boxes from a file (file:PATH), or give a source with images"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"frame {frame.index}: the image is {image.dtype} of shape {image.shape}, "
            "expected uint8 (H, W, 3) BGR"
        )
    return image


def inside(detections: Detections, image: Image) -> Detections:
    """The detections clipped to the image; those that keep no positive size are left out."""
    height, width = image.shape[:2]
    boxes = clip(detections.boxes, width, height)
    keep: BoolArray = np.asarray(np.isfinite(boxes).all(axis=1))
    keep &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    clipped = Detections(boxes, detections.scores, detections.classes, detections.embeddings)
    return clipped if keep.all() else clipped[keep]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a network's boxes become detections.

    Attributes:
        min_score: weaker ones are left out.
        nms_iou: largest overlap of two boxes of one class; None: the network suppresses itself.
        classes: class numbers to keep; None: all.
        agnostic: boxes of different classes suppress each other too.
    """

    min_score: float
    nms_iou: float | None
    classes: frozenset[int] | None
    agnostic: bool = False

    def __call__(self, boxes: FloatArray, scores: FloatArray, classes: IntArray) -> Detections:
        """The chosen ones, strongest first: ``(N, 4)``, ``(N,)``, ``(N,)``; box pixels as given.

        A class is a box's best class; another class of the same box never stands in for it.
        """
        keep = scores >= self.min_score  # NaN compares false: it goes too
        if self.classes is not None:
            keep &= np.isin(classes, sorted(self.classes))
        keep &= np.isfinite(boxes).all(axis=1)
        boxes, scores, classes = boxes[keep], scores[keep], classes[keep]
        if self.nms_iou is None:
            order = np.argsort(-scores, kind="stable")
        else:
            order = nms(boxes, scores, self.nms_iou, None if self.agnostic else classes)
        return Detections(
            boxes[order].astype(np.float64),
            scores[order].astype(np.float64),
            classes[order].astype(np.int64),
        )

"""Fitting an image of any size into the network's rectangle, and bringing boxes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from trackvae.arrays import FloatArray, Image

PADDING = 114  # grey level around the image, as both YOLO families train with


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image lies inside the network's input.

    The scales are those of the resized image as it is in whole pixels, not the nominal ratio: only
    so is the inverse exact (up to half a pixel of the input at the far border otherwise).

    Attributes:
        width: of the network's input in pixels.
        height: of the network's input in pixels.
        inner_width: of the resized image in pixels.
        inner_height: of the resized image in pixels.
        left: columns of padding before the image.
        top: rows of padding above the image.
        scale_x: resized over original width.
        scale_y: resized over original height.
    """

    width: int
    height: int
    inner_width: int
    inner_height: int
    left: int
    top: int
    scale_x: float
    scale_y: float

    @classmethod
    def fit(
        cls, image_size: tuple[int, int], input_size: tuple[int, int], *, centred: bool
    ) -> Letterbox:
        """The largest fit that keeps the aspect ratio.

        Args:
            image_size: width, height of the image.
            input_size: width, height of the network's input.
            centred: padding on both sides and rounding to the nearest pixel (YOLOv5, v8, 11), or
                the image in the top left corner and rounding down (YOLOX).
        """
        width, height = image_size
        ratio = min(input_size[0] / width, input_size[1] / height)
        if not centred:
            inner = max(1, int(width * ratio)), max(1, int(height * ratio))
            left = top = 0
        else:
            inner = max(1, round(width * ratio)), max(1, round(height * ratio))
            # The 0.1 puts the odd pixel of padding to the right and below.
            left = round((input_size[0] - inner[0]) / 2 - 0.1)
            top = round((input_size[1] - inner[1]) / 2 - 0.1)
        return cls(*input_size, *inner, left, top, inner[0] / width, inner[1] / height)

    def image(self, image: Image) -> Image:
        """The resized, padded image ``(height, width, 3)``."""
        import cv2

        inner: Any = image
        if image.shape[:2] != (self.inner_height, self.inner_width):
            size = (self.inner_width, self.inner_height)
            inner = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        out = np.full((self.height, self.width, 3), PADDING, dtype=np.uint8)
        bottom, right = self.top + self.inner_height, self.left + self.inner_width
        out[self.top : bottom, self.left : right] = inner
        return out

    def boxes(self, xyxy: FloatArray) -> FloatArray:
        """Boxes ``(N, 4)`` from pixels of the image to pixels of the input."""
        return xyxy * self._scale() + self._shift()

    def unboxes(self, xyxy: FloatArray) -> FloatArray:
        """Boxes ``(N, 4)`` from pixels of the input to pixels of the image (the inverse)."""
        return (xyxy - self._shift()) / self._scale()

    def _scale(self) -> FloatArray:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    def _shift(self) -> FloatArray:
        return np.array([self.left, self.top, self.left, self.top], dtype=np.float64)

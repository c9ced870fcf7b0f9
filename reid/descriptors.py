"""Descriptors of crops that are made by hand: baselines, and what works before anything is learned.

A descriptor is a callable ``(image, boxes (N, 4) xyxy) -> (N, D)`` float32 with a ``dim``.
"""

from __future__ import annotations

import numpy as np

from trackvae.arrays import FloatArray, Image


class ColourStripes:
    """Hellinger colour histograms in horizontal stripes, weighted to the box's middle.

    People stand upright, so clothes differ from stripe to stripe and little within one; the
    weight keeps the background at the sides out. The square root of a histogram makes the scalar
    product of two the Bhattacharyya coefficient, so vectors have unit length and are compared by
    cosine or Euclidean distance.
    """

    def __init__(
        self,
        *,
        stripes: int = 8,
        bins: int = 4,
        rows: int = 64,
        columns: int = 24,
        spread: float = 0.2,
    ) -> None:
        """Choose the histogram.

        Args:
            stripes: horizontal stripes, from top to bottom.
            bins: a channel (RGB), ``bins ** 3`` colours.
            rows: pixels sampled down a box.
            columns: pixels sampled across a box.
            spread: standard deviation of the weight, as a share of the width.
        """
        self._stripes, self._bins = stripes, bins
        self._down = (np.arange(rows) + 0.5) / rows
        self._across = (np.arange(columns) + 0.5) / columns
        self._stripe_of = (self._down * stripes).astype(np.int64)
        weight = np.exp(-0.5 * ((self._across - 0.5) / spread) ** 2)
        per_stripe = np.bincount(self._stripe_of, minlength=stripes)[self._stripe_of]
        self._weight = weight / weight.sum() / per_stripe[:, None] / stripes  # (rows, columns)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._stripes * self._bins**3)

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Describe the boxes of one image.

        Args:
            image: ``(H, W, 3)`` uint8.
            boxes: ``(N, 4)`` xyxy in pixels; parts outside the image repeat its border.

        Returns:
            ``(N, dim)`` float32 of unit length.
        """
        count = len(boxes)
        if count == 0:
            return np.zeros((0, self.dim), np.float32)
        height, width = image.shape[:2]
        size = boxes[:, 2:] - boxes[:, :2]
        x = (boxes[:, :1] + size[:, :1] * self._across).astype(np.int64).clip(0, width - 1)
        y = (boxes[:, 1:2] + size[:, 1:] * self._down).astype(np.int64).clip(0, height - 1)
        pixels = image[y[:, :, None], x[:, None, :]]  # (N, rows, columns, 3)
        level = pixels.astype(np.int64) * self._bins >> 8
        colour = (level[..., 0] * self._bins + level[..., 1]) * self._bins + level[..., 2]
        crop = np.arange(count)[:, None, None] * self._stripes
        cell = (crop + self._stripe_of[:, None]) * self._bins**3 + colour
        weight = np.broadcast_to(self._weight, cell.shape)
        histogram = np.bincount(cell.ravel(), weight.ravel(), minlength=count * self.dim)
        return np.sqrt(histogram).reshape(count, self.dim).astype(np.float32)

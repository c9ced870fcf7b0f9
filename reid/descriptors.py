"""Descriptors of crops that are made by hand: baselines, and what works before anything is learned.

A descriptor is a callable ``(image, boxes (N, 4) xyxy) -> (N, D)`` float32 with a ``dim``. What is
fitted to data lies in :mod:`reid.projections`, networks in :mod:`reid.backbones`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np

from reid.crops import cut
from trackvae.arrays import FloatArray, Image
from trackvae.errors import UsageError
from trackvae.settings import did_you_mean

ColourSpace: TypeAlias = Literal["bgr", "hsv", "lab"]


class Descriptor(Protocol):
    """What turns the boxes of an image into vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """``(N, dim)`` float32 of ``(N, 4)`` boxes, xyxy in pixels of the image."""
        ...


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
        bins: int | tuple[int, int, int] = 4,
        rows: int = 64,
        columns: int = 24,
        spread: float = 0.2,
        space: ColourSpace = "bgr",
    ) -> None:
        """Choose the histogram.

        Args:
            stripes: horizontal stripes, from top to bottom.
            bins: of each channel, or of the three in turn; at most 256.
            rows: pixels sampled down a box.
            columns: pixels sampled across a box.
            spread: standard deviation of the weight, as a share of the width.
            space: of the colours; of ``hsv`` and ``lab`` too all channels fill 0 to 255.

        Raises:
            UsageError: no such space, or bins that mean nothing.
        """
        each = (bins, bins, bins) if isinstance(bins, int) else tuple(bins)
        if len(each) != 3 or not all(1 <= count <= 256 for count in each):
            raise UsageError(f"bins is {bins}, expected 1 to 256, or three of them")
        if space not in ("bgr", "hsv", "lab"):
            raise UsageError(f"space is {space!r}, expected bgr, hsv or lab")
        self._stripes, self._space = stripes, space
        self._colours = each[0] * each[1] * each[2]
        self._down = (np.arange(rows) + 0.5) / rows
        self._across = (np.arange(columns) + 0.5) / columns
        stripe_of = (self._down * stripes).astype(np.int64)
        self._first_cell = (stripe_of * self._colours).astype(np.int32)[:, None]  # of its stripe
        weight = np.exp(-0.5 * ((self._across - 0.5) / spread) ** 2)
        per_stripe = np.bincount(stripe_of, minlength=stripes)[stripe_of]
        self._weight = weight / weight.sum() / per_stripe[:, None] / stripes  # (rows, columns)
        # What each value of a channel adds to the number of its colour.
        values, places = np.arange(256), (each[1] * each[2], each[2], 1)
        self._part = [
            ((values * count >> 8) * place).astype(np.int32)
            for count, place in zip(each, places, strict=True)
        ]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._stripes * self._colours)

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
        pixels = self._converted(self._sample(image, boxes))
        cell = self._part[0][pixels[..., 0]]  # (N, rows, columns)
        cell += self._part[1][pixels[..., 1]]
        cell += self._part[2][pixels[..., 2]]
        cell += self._first_cell
        cell += (np.arange(count, dtype=np.int32) * self.dim)[:, None, None]
        weight = np.broadcast_to(self._weight, cell.shape)
        histogram = np.bincount(cell.ravel(), weight.ravel(), minlength=count * self.dim)
        return np.sqrt(histogram, out=histogram).reshape(count, self.dim).astype(np.float32)

    def _sample(self, image: Image, boxes: FloatArray) -> Image:
        """A grid of each box's pixels, ``(N, rows, columns, 3)``."""
        height, width = image.shape[:2]
        size = boxes[:, 2:] - boxes[:, :2]
        x = (boxes[:, :1] + size[:, :1] * self._across).astype(np.int64).clip(0, width - 1)
        y = (boxes[:, 1:2] + size[:, 1:] * self._down).astype(np.int64).clip(0, height - 1)
        return image[y[:, :, None], x[:, None, :]]

    def _converted(self, pixels: Image) -> Image:
        """BGR pixels in the histogram's colours; the same shape."""
        if self._space == "bgr":
            return pixels
        import cv2

        code = cv2.COLOR_BGR2HSV_FULL if self._space == "hsv" else cv2.COLOR_BGR2LAB
        count, rows, columns, channels = pixels.shape
        flat = cv2.cvtColor(pixels.reshape(count * rows, columns, channels), code)
        return np.asarray(flat, np.uint8).reshape(pixels.shape)


class RawPixels:
    """The crop itself as a vector: colours in [0, 1], no mean taken out.

    The floor under every descriptor: two views are alike where they show the same colours at the
    same places. (A mean over all crops would change no Euclidean distance.)
    """

    def __init__(self, size: tuple[int, int] = (64, 64)) -> None:
        """Choose height and width of the crop."""
        self._size = size

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return 3 * self._size[0] * self._size[1]

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Describe the boxes (N, 4) of one image: ``(N, dim)`` float32."""
        crops = cut(image, boxes, self._size).transpose(0, 2, 3, 1)  # as they lie in memory
        return np.asarray(crops.reshape(len(boxes), self.dim) / np.float32(255))


class Gradients:
    """Histograms of oriented gradients (Dalal & Triggs, 2005): shapes and edges without colours.

    Unsigned directions, shared between the two nearest ones, weighted by the gradient's length and
    counted in square cells; each block of 2 × 2 cells is brought to unit length, cut at 0.2 and
    brought to unit length again. The whole vector has unit length.
    """

    def __init__(
        self, size: tuple[int, int] = (64, 64), *, cell: int = 8, directions: int = 9
    ) -> None:
        """Choose the grid.

        Args:
            size: height and width of the crop.
            cell: pixels along a cell's side.
            directions: over half a turn.

        Raises:
            UsageError: the crop is not made of at least 2 × 2 cells.
        """
        self._size, self._cell, self._directions = size, cell, directions
        self._grid = (size[0] // cell, size[1] // cell)
        if min(self._grid) < 2 or any(side % cell for side in size):
            raise UsageError(f"size is {size}, expected multiples of {cell}, from {2 * cell} on")

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return (self._grid[0] - 1) * (self._grid[1] - 1) * 4 * self._directions

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Describe the boxes (N, 4) of one image: ``(N, dim)`` float32."""
        if len(boxes) == 0:
            return np.zeros((0, self.dim), np.float32)
        crops = cut(image, boxes, self._size)
        grey = crops[:, 0].astype(np.float32)  # a mean over the axis takes five times as long
        grey += crops[:, 1]
        grey += crops[:, 2]
        grey /= 3
        histograms = self._histograms(grey)
        blocks = np.concatenate(
            [histograms[:, i : i - 1 or None, j : j - 1 or None] for i in (0, 1) for j in (0, 1)],
            axis=3,
        )  # (N, rows - 1, columns - 1, 4 * directions)
        blocks = _unit(np.minimum(_unit(blocks), 0.2))
        return _unit(blocks.reshape(len(boxes), self.dim)).astype(np.float32)

    def _histograms(self, grey: FloatArray) -> FloatArray:
        """Weighted counts of directions, ``(N, rows, columns, directions)`` of cells."""
        count, directions = len(grey), self._directions
        dy, dx = np.gradient(grey, axis=(1, 2))
        turn = np.arctan2(dy, dx) / np.pi
        turn -= np.floor(turn)  # of half a turn; % takes twenty times as long
        place = turn * directions - 0.5
        lower = np.floor(place)
        share, length = place - lower, np.sqrt(dx * dx + dy * dy)
        # The circle is cut open: direction -1 is counted beside the first, the last + 1 behind it.
        slots = directions + 2
        rows, columns = (np.arange(side) // self._cell for side in self._size)
        cells = rows[:, None] * self._grid[1] + columns  # (H, W)
        cells = cells + np.arange(count)[:, None, None] * (self._grid[0] * self._grid[1])
        index = (cells * slots + (lower.astype(np.int64) + 1)).ravel()
        size = count * self._grid[0] * self._grid[1] * slots
        total = np.zeros(size)
        total += np.bincount(index, (length * (1 - share)).ravel(), minlength=size)
        index += 1
        total += np.bincount(index, (length * share).ravel(), minlength=size)
        cut_open = total.reshape(count, *self._grid, slots)
        cut_open[..., directions] += cut_open[..., 0]
        cut_open[..., 1] += cut_open[..., directions + 1]
        return np.asarray(cut_open[..., 1:-1])


class Concatenated:
    """Several descriptors of the same boxes in one vector."""

    def __init__(self, descriptors: Sequence[Descriptor]) -> None:
        """Take them in the order of their parts."""
        if not descriptors:
            raise UsageError("no descriptors to put together")
        self._descriptors = tuple(descriptors)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return sum(descriptor.dim for descriptor in self._descriptors)

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Describe the boxes (N, 4) of one image: ``(N, dim)`` float32."""
        parts = [descriptor(image, boxes) for descriptor in self._descriptors]
        return np.concatenate(parts, axis=1)


BY_HAND: Mapping[str, Callable[[], Descriptor]] = {
    "colour-stripes": lambda: ColourStripes(bins=8),
    "colour-stripes-hsv": lambda: ColourStripes(stripes=4, bins=(8, 4, 4), space="hsv"),
    "raw-pixels": RawPixels,
    "gradients": Gradients,
    "colours-and-gradients": lambda: Concatenated(
        [ColourStripes(bins=8), ColourStripes(bins=8, space="lab"), Gradients()]
    ),
    # What the learned encoder looks at (:mod:`trackvae.appearance`): hues beside it, which tell
    # small people apart. PETS09-S2L1, whitened: mAP 44.9 against 42.2.
    "colours-and-shape": lambda: Concatenated(
        [
            ColourStripes(bins=8),
            ColourStripes(bins=8, space="lab"),
            ColourStripes(stripes=4, bins=(8, 4, 4), space="hsv"),
            Gradients(),
        ]
    ),
}


def by_name(name: str) -> Descriptor:
    """A descriptor of :data:`BY_HAND`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in BY_HAND:
        raise UsageError(
            f"no descriptor {name!r}{did_you_mean(name, BY_HAND)}; there are {', '.join(BY_HAND)}"
        )
    return BY_HAND[name]()


def _unit(vectors: FloatArray) -> FloatArray:
    """Of unit length along the last axis; what is nothing stays nothing."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-6))

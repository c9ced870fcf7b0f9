"""Drawn digits, a stand-in for MNIST: ten figures of strokes under a pen, for tests and trials.

Strokes are lines and arcs on a unit square; each image shears, turns, scales and shifts them, and
draws them with its own width. A pixel is its distance from the nearest stroke, softened over one
pixel, so greys are the share of ink as in MNIST.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray, IntArray
from training.data.binarise import Binarisation
from training.data.dataset import DataSet, split
from training.data.images import binarised

SIDE = 28
_HALF = 8.5  # pixels from the middle of a figure to its ends, as MNIST's 20 x 20 boxes
_PIECES = 12  # straight pieces of an arc
_CHUNK = 256  # images drawn at once: 256 x 784 x 36 distances are 58 MB


def _line(*points: tuple[float, float]) -> FloatArray:
    return np.array(points)


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> FloatArray:
    """Part of an ellipse, degrees from the right, clockwise as y points down."""
    at = np.radians(np.linspace(start, end, _PIECES + 1))
    return np.stack([x + rx * np.cos(at), y + ry * np.sin(at)], axis=1)


# x to the right and y downwards, from -1 to 1.
_STROKES: tuple[tuple[FloatArray, ...], ...] = (
    (_arc(0, 0, 0.6, 1, 0, 360),),
    (_line((-0.3, -0.6), (0.1, -1), (0.1, 1)),),
    (_arc(0, -0.45, 0.55, 0.55, 190, 400), _line((0.42, -0.1), (-0.6, 1), (0.65, 1))),
    (_arc(0, -0.5, 0.5, 0.5, 200, 440), _arc(0, 0.48, 0.58, 0.52, 275, 515)),
    (_line((0.3, 1), (0.3, -1), (-0.6, 0.3), (0.65, 0.3)),),
    (_line((0.55, -1), (-0.4, -1), (-0.45, -0.1)), _arc(0, 0.4, 0.6, 0.6, 220, 510)),
    (_arc(0.55, 0.35, 1.1, 1.35, 180, 265), _arc(0, 0.42, 0.55, 0.56, 0, 360)),
    (_line((-0.6, -1), (0.6, -1), (-0.1, 1)),),
    (_arc(0, -0.5, 0.45, 0.48, 0, 360), _arc(0, 0.48, 0.58, 0.52, 0, 360)),
    (_arc(0, -0.42, 0.55, 0.56, 0, 360), _line((0.55, -0.42), (0.4, 1))),
)


def render_glyphs(digits: IntArray, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw digits, each by another hand.

    Args:
        digits: (N,), 0 to 9.
        rng: of slant, size, place and pen.

    Returns:
        (N, 28, 28), 0 to 255, ink bright.
    """
    digits = np.asarray(digits)
    turn, shear, wide, high, right, down, pen = rng.normal(size=(7, len(digits)))
    turn, shear = 0.12 * turn, 0.18 * shear
    wide, high = _HALF * np.exp(0.10 * wide), _HALF * np.exp(0.06 * high)
    upright = np.stack([wide, shear * high, 0 * wide, high], axis=-1).reshape(-1, 2, 2)
    c, s = np.cos(turn), np.sin(turn)
    maps = np.stack([c, -s, s, c], axis=-1).reshape(-1, 2, 2) @ upright
    shifts = (SIDE - 1) / 2 + 0.6 * np.stack([right, down], axis=-1)
    widths = 1.15 * np.exp(0.2 * pen)  # half of a stroke's width, pixels
    images = np.empty((len(digits), SIDE, SIDE), dtype=np.uint8)
    for digit, strokes in enumerate(_STROKES):
        pieces = np.concatenate([np.stack([s[:-1], s[1:]], axis=1) for s in strokes])  # (S, 2, 2)
        rows = np.flatnonzero(digits == digit)
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            ends = np.einsum("nij,sej->nsei", maps[some], pieces) + shifts[some, None, None]
            ink = widths[some, None, None] - _distance(ends) + 0.5
            images[some] = np.round(255 * np.clip(ink, 0, 1))
    return images


def _distance(ends: FloatArray) -> FloatArray:
    """Each pixel's distance from the nearest of the pieces (N, S, 2, 2): (N, 28, 28) pixels."""
    pixels = np.arange(SIDE, dtype=np.float64)
    nearest = np.full((len(ends), SIDE, SIDE), np.inf)
    for piece in ends.transpose(1, 0, 2, 3):  # a few dozen, whatever the number of images
        (x, y), (dx, dy) = piece[:, 0].T, (piece[:, 1] - piece[:, 0]).T
        px = pixels[None, None, :] - x[:, None, None]
        py = pixels[None, :, None] - y[:, None, None]
        dx, dy = dx[:, None, None], dy[:, None, None]
        along = np.clip((px * dx + py * dy) / (dx**2 + dy**2), 0, 1)
        np.minimum(nearest, (px - along * dx) ** 2 + (py - along * dy) ** 2, out=nearest)
    return np.sqrt(nearest)


def glyphs(
    images: int = 2_000,
    *,
    binarise: Binarisation = "static",
    test: float = 0.2,
    validation: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Drawn digits as a data set, (N, 1, 28, 28), the digits as labels.

    Raises:
        InputError: fewer than two images.
        UsageError: no such binarisation, or fractions that leave nothing.
    """
    rng = np.random.default_rng(seed)
    digits = rng.integers(0, 10, size=images)
    drawn = render_glyphs(digits, rng)[:, None]
    made = split("glyphs", drawn, test=test, validation=validation, seed=seed, labels=digits)
    return binarised(made, binarise, seed=seed)

"""Pixels made 0 or 1: by a threshold, drawn once (static), or drawn anew each time (dynamic).

Salakhutdinov and Murray (2008) read a grey value as the probability of a white pixel. *Static*
MNIST is one such draw; the benchmark's own (Larochelle and Murray, 2011) is a published file.
*Dynamic* MNIST draws at each use, which keeps a model from learning one draw's noise by heart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trackvae.arrays import IntArray
from trackvae.errors import UsageError

Binarisation: TypeAlias = Literal["none", "threshold", "static", "dynamic"]
BINARISATIONS: tuple[Binarisation, ...] = ("none", "threshold", "static", "dynamic")


def threshold(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """255 where a pixel is above one half, else 0: uint8 or float pixels of any shape."""
    return (pixels > _white(pixels) / 2).astype(np.uint8) * np.uint8(255)


def bernoulli(pixels: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """255 with the pixel's intensity as probability, else 0.

    Black stays black and white stays white, exactly.

    Args:
        pixels: any shape; uint8 of 0 to 255, or floats in [0, 1].
        rng: draws one number a pixel.
    """
    if pixels.dtype == np.uint8:
        # Whole numbers 0 to 254, so that P(u < x) is x / 255 exactly.
        drawn = rng.integers(0, 255, size=pixels.shape, dtype=np.uint8) < pixels
    else:
        drawn = rng.random(pixels.shape, dtype=np.float32) < pixels
    return drawn.astype(np.uint8) * np.uint8(255)


@dataclass(frozen=True, slots=True)
class DynamicBinarisation:
    """Bernoulli draws that depend on the seed, the epoch and the batch's rows, and on nothing else.

    There is no state to save: a run resumed at any step draws what the uninterrupted one draws.
    Processes that train together have other rows each, and so draws of their own.
    """

    seed: int = 0

    def draw(self, pixels: npt.NDArray[Any], rows: IntArray, epoch: int) -> npt.NDArray[np.uint8]:
        """The pixels (B, ...) as 0 or 255.

        Args:
            pixels: of the examples ``rows`` (B,).
            rows: their places in the data set; the same rows in the same order draw the same.
            epoch: which pass over the data, from 0.
        """
        # 0.3 ms for a batch of 128; a generator for each row would take 3.
        return bernoulli(pixels, np.random.default_rng((self.seed, epoch, *rows.tolist())))


def check_binarisation(kind: str) -> None:
    """Raise UsageError for a kind that does not exist."""
    if kind not in BINARISATIONS:
        raise UsageError(f"binarisation is {kind!r}, expected one of {', '.join(BINARISATIONS)}")


def _white(pixels: npt.NDArray[Any]) -> float:
    return 255.0 if pixels.dtype == np.uint8 else 1.0

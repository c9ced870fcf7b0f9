"""Images of a pendulum whose angle is the only thing that varies (thesis, section 3.5.1).

The thesis shows its pictures but does not say how they were drawn. Ours are a Gaussian blob at the
bob, as in the sequences of chapter 4: smooth in the angle (a drawn rod jumps from pixel to pixel,
and the angle then varies in steps), and the angle can be recovered from the picture to rounding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray
from trackvae.errors import UsageError
from training.data.dataset import DataSet

SIDE = 16  # pixels
RADIUS = 5.0  # of the bob's circle, pixels
BLOB = 1.5  # standard deviation, pixels
IMAGES = 15_000


def render_pendulum(angles: FloatArray) -> npt.NDArray[np.float32]:
    """Draw a bob for each angle.

    Args:
        angles: (...), radians; 0 is upright, growing clockwise.

    Returns:
        (..., 16, 16) in [0, 1], row by row from the top.
    """
    angles = np.asarray(angles, dtype=np.float64)
    centre = (SIDE - 1) / 2
    pixels = np.arange(SIDE)
    x = centre + RADIUS * np.sin(angles)[..., None] - pixels
    y = centre - RADIUS * np.cos(angles)[..., None] - pixels
    # The exponential of a sum of squares is the product of its two factors.
    across, down = (np.exp(-(d**2) / (2 * BLOB**2)) for d in (x, y))
    return (down[..., :, None] * across[..., None, :]).astype(np.float32)


def pendulum_images(
    images: int = IMAGES, *, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Draw pendulums at random angles.

    Returns:
        Images (N, 16, 16) in [0, 1]; angles (N,), uniform in [0, 2 pi).
    """
    angles = np.random.default_rng(seed).uniform(0.0, 2 * np.pi, size=images)
    return render_pendulum(angles), angles


def pendulum(images: int = IMAGES, *, test: float = 0.2, seed: int = 0) -> DataSet:
    """The pendulum as a data set, (N, 1, 16, 16), with the angles as labels.

    Args:
        images: in all; the thesis has 15,000.
        test: the last of them, as a fraction (the thesis names no split; the draws are
            independent, so the order is random as it is).
        seed: of the angles.

    Raises:
        UsageError: a split that leaves no two images to train on.
    """
    train = images - round(images * test)
    if not 2 <= train <= images:
        raise UsageError(f"{images} images with a fraction of {test} to test on: too few to train")
    drawn, angles = pendulum_images(images, seed=seed)
    drawn = drawn[:, None]
    return DataSet(
        name="pendulum",
        train=drawn[:train],
        validation=drawn[:0],
        test=drawn[train:],
        labels={"train": angles[:train], "validation": angles[:0], "test": angles[train:]},
        note=f"{images} made images, seed {seed}; the last {images - train} to test on",
    )

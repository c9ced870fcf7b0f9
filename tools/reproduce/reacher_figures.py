"""Figures 4.15 and 4.16: the reacher's states, and its predicted images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray

_SHOWN = 3000  # points


def representation(path: Path, z: FloatArray, states: FloatArray) -> None:
    """Figure 4.15: static dimensions in the colours of the angles, dynamic beside velocities.

    Args:
        path: a PNG file.
        z: (N, 5), of which the first three are static.
        states: (N, 4), angles and velocities.
    """
    from matplotlib.figure import Figure

    rows = np.random.default_rng(0).permutation(len(z))[:_SHOWN]
    z, states = z[rows], states[rows]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    places: list[Any] = []
    for column, (colour, name, label) in enumerate(
        (
            (np.mod(states[:, 0], 2 * np.pi), "twilight", "shoulder's angle, rad"),
            (states[:, 1], "viridis", "wrist's angle, rad"),
        )
    ):
        axes: Any = figure.add_subplot(1, 3, column + 1, projection="3d")
        drawn = axes.scatter(*z[:, :3].T, c=colour, cmap=name, s=2, linewidths=0)
        axes.set(xlabel="z1", ylabel="z2", title=f"z1, z2, z3 (upward) by {label}")
        axes.title.set_fontsize(8)
        axes.tick_params(labelsize=6)
        places.append((drawn, axes, label))
    for drawn, axes, label in places:
        figure.colorbar(drawn, ax=axes, shrink=0.6, location="bottom").set_label(label, fontsize=8)
    last: Any = figure.add_subplot(1, 3, 3)
    drawn = last.scatter(z[:, 3], z[:, 4], c=states[:, 2], cmap="coolwarm", s=2, linewidths=0)
    figure.colorbar(drawn, ax=last, shrink=0.6, location="bottom").set_label(
        "shoulder's velocity, rad/s", fontsize=8
    )
    last.set_xlabel("z4", fontsize=8)
    last.set_ylabel("z5", fontsize=8)
    last.tick_params(labelsize=7)
    _save(figure, path)


def predictions(
    path: Path, observed: npt.NDArray[np.float32], predicted: npt.NDArray[np.float32]
) -> None:
    """Figure 4.16: observed images above predicted ones.

    Args:
        path: a PNG file.
        observed: (N, T, 3, H, W), BGR in [0, 1].
        predicted: the same shape.
    """
    from matplotlib.figure import Figure

    count, steps = observed.shape[:2]
    figure = Figure(figsize=(0.65 * steps, 1.45 * count), layout="constrained")
    grid = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axes, above, below in zip(grid, observed, predicted, strict=True):
        lines = [
            np.concatenate(list(frames[:, ::-1].transpose(0, 2, 3, 1)), axis=1)
            for frames in (above, below)
        ]
        axes.imshow(np.concatenate(lines, axis=0), interpolation="nearest")
        side = observed.shape[-1]
        axes.set_yticks([side / 2, 1.5 * side], ["observed", "predicted"], fontsize=7)
        axes.set_xticks(np.arange(steps) * side + side / 2, range(1, steps + 1), fontsize=7)
        axes.tick_params(length=0)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)

"""Figures 4.15 and 4.16: the reacher's states, and its predicted images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.reproduce.latent_figures import save_figure
from trackvae.arrays import FloatArray

_SHOWN = 2000  # points


def representation(path: Path, z: FloatArray, states: FloatArray) -> None:
    """Figure 4.15: static dimensions in the colours of the angles, dynamic in the velocities'.

    Args:
        path: a PNG file.
        z: (N, 5), of which the first three are static.
        states: (N, 4), angles and velocities.
    """
    from matplotlib.figure import Figure

    rows = np.random.default_rng(0).permutation(len(z))[:_SHOWN]
    z, states = z[rows], states[rows]
    figure: Any = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.0, 1.0))
    places: list[Any] = []
    for column, (colour, name, label) in enumerate(
        (
            (np.mod(states[:, 0], 2 * np.pi), "hsv", "shoulder's angle, rad"),
            (states[:, 1], "viridis", "wrist's angle, rad"),
        )
    ):
        axes: Any = left.add_subplot(1, 2, column + 1, projection="3d")
        drawn = axes.scatter(*z[:, :3].T, c=colour, cmap=name, s=2, linewidths=0)
        axes.set_xlabel("z1", fontsize=8)
        axes.set_ylabel("z2", fontsize=8)
        axes.set_title(f"z1, z2, z3 (upward) by {label}", fontsize=8)
        axes.tick_params(labelsize=6)
        places.append((drawn, axes, label))
    for drawn, axes, label in places:
        _colour_bar(left, drawn, axes, label, shrink=0.6, location="bottom")
    velocities = zip(("shoulder", "wrist"), states[:, 2:].T, right.subplots(2, 1), strict=True)
    for joint, velocity, axes in velocities:
        drawn = axes.scatter(z[:, 3], z[:, 4], c=velocity, cmap="coolwarm", s=2, linewidths=0)
        _colour_bar(right, drawn, axes, f"{joint}'s velocity, rad/s")
        axes.set_xlabel("z4", fontsize=8)
        axes.set_ylabel("z5", fontsize=8)
        axes.tick_params(labelsize=7)
    save_figure(figure, path)


def _colour_bar(figure: Any, drawn: Any, axes: Any, label: str, **place: Any) -> None:
    bar = figure.colorbar(drawn, ax=axes, **place)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


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
    save_figure(figure, path)

"""Pictures of movements: stick figures, where they jump, how smooth each joint is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.latent_figures import BLUE, RED, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from training.data.skeleton import Skeleton

_BODY = 0.95  # metres between two stick figures


def joint_figure(
    path: Path,
    factors: Mapping[str, Mapping[str, Sequence[float]]],
    joints: Sequence[str],
    unit: str,
) -> None:
    """Smoothness factor of each joint, mean and deviation (figures 3.11 and 5.17)."""
    colours = (BLUE, RED, "#2ca02c", "#9467bd", "#ff7f0e")
    figure, axes = new_figure(1, 1, (10, 3.6))
    ax, width = axes[0, 0], 0.8 / len(factors)
    for place, ((name, factor), colour) in enumerate(zip(factors.items(), colours, strict=False)):
        at = np.arange(len(joints)) + (place - (len(factors) - 1) / 2) * width
        mean, std = np.asarray(factor["mean"]), np.asarray(factor["std"])
        below = np.minimum(std, mean)  # the factor is never negative
        ax.bar(at, mean, width, yerr=(below, std), color=colour, label=name, error_kw={"lw": 0.5})
    ax.set_xticks(np.arange(len(joints)), joints, rotation=90, fontsize=6)
    ax.set_xlim(-0.7, len(joints) - 0.3)
    ax.set_ylabel(f"smoothness factor\n({unit})", fontsize=8)
    ax.legend(fontsize=8, frameon=False)
    save_figure(figure, path)


def draw_skeletons(ax: Axes, frames: np.ndarray[Any, Any], skeleton: Skeleton) -> None:
    """Stick figures side by side, seen from the left of a body that faces right.

    Its left arm and leg are blue.

    Args:
        ax: to draw in.
        frames: (F, B, 3), joints in metres, z ahead and y up.
        skeleton: of B bones.
    """
    from matplotlib.collections import LineCollection

    bones = skeleton.bones
    along = frames[..., 2] + _BODY * np.arange(len(frames))[:, None]
    lines = np.stack([along, frames[..., 1]], axis=-1)[:, bones].reshape(-1, 2, 2)
    names = [skeleton.names[child] for child in bones[:, 1]]
    colours = [BLUE if n[0] == "l" and not n.startswith("lower") else "black" for n in names]
    ax.add_collection(LineCollection(list(lines), colors=colours * len(frames), linewidths=1.0))
    ax.set_xlim(-_BODY * 0.6, _BODY * (len(frames) - 0.4))
    ax.set_ylim(-1.1, 0.75)
    ax.set_aspect("equal")
    ax.axis("off")


def mark_jumps(ax: Axes, frames: int, jumps: Sequence[int]) -> None:
    """Red boxes around the pairs of figures between which the movement jumps."""
    from matplotlib.patches import Rectangle

    for jump in jumps:
        if jump + 1 < frames:
            corner = (_BODY * (jump - 0.45), -1.05)
            ax.add_patch(Rectangle(corner, _BODY * 1.9, 1.75, fill=False, edgecolor=RED, lw=1.2))


def find_jumps(frames: np.ndarray[Any, Any], factor: float = 2.5) -> list[int]:
    """Discontinuities of a movement: steps longer than ``factor`` times the median step.

    Args:
        frames: (T, D), of equal steps in the latent space.
        factor: our rule; the thesis marks them by eye.

    Returns:
        Indices t of the steps from frame t to t + 1.
    """
    steps = np.linalg.norm(np.diff(frames, axis=0), axis=1)
    return np.flatnonzero(steps > factor * np.median(steps)).tolist()

"""Figures 4.19 to 4.21: representations, film strips, traces, an animation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackvae.arrays import FloatArray

_INK, _RED, _GREY = "#1b3a5c", "#c0392b", "#8a8f98"
_FRAMES = 16  # of a film strip
_ANIMATED = 60  # frames


def representations(path: Path, clouds: Mapping[tuple[int, ...], Mapping[str, FloatArray]]) -> None:
    """Figure 4.19: the states of a model in pairs of dimensions, for each permutation of H.

    Args:
        path: a PNG file.
        clouds: static dimensions to ``z`` (N, 3) and ``states`` (N, 2).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 2.7 * len(clouds)), layout="constrained")
    grid = figure.subplots(len(clouds), 3, squeeze=False)
    for axes, (static, cloud) in zip(grid, clouds.items(), strict=True):
        rows = np.random.default_rng(0).permutation(len(cloud["z"]))[:2500]
        z, (angle, velocity) = cloud["z"][rows], cloud["states"][rows].T
        dynamic = next(d for d in range(3) if d not in static)
        first, second = static
        _cloud(axes[0], z[:, [first, second]], np.mod(angle, 2 * np.pi), "hsv", "angle, rad")
        _cloud(axes[1], z[:, [first, second]], velocity, "coolwarm", "velocity, rad/s")
        _named(axes[0], first, second)
        _named(axes[1], first, second)
        axes[2].scatter(velocity, z[:, dynamic], s=1.5, color=_INK, linewidths=0)
        axes[2].set_xlabel("true velocity, rad/s", fontsize=8)
        axes[2].set_ylabel(f"z{dynamic + 1}", fontsize=8)
        axes[2].tick_params(labelsize=7)
        axes[0].set_title(f"H picks z{first + 1}, z{second + 1}", fontsize=9)
        axes[2].set_title(f"z{dynamic + 1} is left to velocity", fontsize=9)
    _save(figure, path)


def _cloud(axes: Any, z: FloatArray, colour: FloatArray, name: str, label: str) -> None:
    drawn = axes.scatter(z[:, 0], z[:, 1], c=colour, cmap=name, s=1.5, linewidths=0)
    bar = axes.figure.colorbar(drawn, ax=axes)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=7)
    axes.set_aspect("equal", adjustable="datalim")
    axes.tick_params(labelsize=7)


def _named(axes: Any, first: int, second: int) -> None:
    axes.set_xlabel(f"z{first + 1}", fontsize=8)
    axes.set_ylabel(f"z{second + 1}", fontsize=8)


def film_strips(path: Path, episodes: Mapping[str, Mapping[str, FloatArray]]) -> None:
    """Figure 4.20: the real pendulum under each policy, its first start.

    Args:
        path: a PNG file.
        episodes: a task to ``observations`` (B, T, 16, 16).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.85 * len(episodes) + 0.2), layout="constrained")
    grid = figure.subplots(len(episodes), 1, squeeze=False)[:, 0]
    for axes, (task, episode) in zip(grid, episodes.items(), strict=True):
        seen = episode["observations"][0].astype(np.float32)
        # a swing-up is shown as a whole, a rotation frame by frame once it is steady
        last = len(seen) - 1
        chosen = (
            np.linspace(0, min(last, 47), _FRAMES).round().astype(int)
            if task == "swing-up"
            else np.arange(last - _FRAMES + 1, last + 1).clip(0)
        )
        gap = np.ones((seen.shape[1], 1), np.float32)
        strip = np.concatenate([part for t in chosen for part in (seen[t], gap)], axis=1)
        axes.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_yticks([])
        places = np.arange(_FRAMES) * (seen.shape[2] + 1) + seen.shape[2] / 2
        axes.set_xticks(places, [f"{0.1 * t:.1f} s" for t in chosen], fontsize=6)
        axes.tick_params(length=0)
        axes.set_ylabel(task.replace(" ", "\n"), fontsize=7, rotation=0, ha="right", va="center")
    _save(figure, path)


def traces(path: Path, episodes: Mapping[str, Mapping[str, FloatArray]]) -> None:
    """What all starts did: the angle from upright, or the velocity beside its goal.

    Args:
        path: a PNG file.
        episodes: a task to ``states`` (B, T, 2) and ``speed``, NaN where the goal is a position.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.3 * len(episodes), 2.7), layout="constrained")
    grid = figure.subplots(1, len(episodes), squeeze=False)[0]
    for axes, (task, episode) in zip(grid, episodes.items(), strict=True):
        states, speed = episode["states"], float(episode["speed"])
        times = 0.1 * np.arange(states.shape[1])
        if np.isnan(speed):
            shown = np.degrees(np.arccos(np.cos(states[..., 0])))
            axes.set_ylabel("angle from upright, degrees", fontsize=8)
            speed = 0.0
        else:
            shown = states[..., 1]
            axes.set_ylabel("velocity, rad/s", fontsize=8)
        axes.plot(times, shown.T, color=_INK, linewidth=0.7, alpha=0.7)
        axes.axhline(speed, color=_RED, linewidth=1.2, linestyle="--", label="goal")
        axes.set_title(task, fontsize=9)
        axes.set_xlabel("time, s", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7, loc="lower right" if speed > 0 else "upper right")
    _save(figure, path)


def animation(path: Path, episodes: Mapping[str, Mapping[str, FloatArray]]) -> None:
    """The policies side by side in real time, as a GIF.

    Args:
        path: a GIF file.
        episodes: a task to ``observations`` (B, T, 16, 16).
    """
    import matplotlib as mpl
    from matplotlib.animation import FuncAnimation, PillowWriter

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, len(episodes), figsize=(1.7 * len(episodes), 1.9), squeeze=False, layout="constrained"
    )
    drawn = []
    for axes, (task, episode) in zip(grid[0], episodes.items(), strict=True):
        first = episode["observations"][0, 0].astype(np.float32)
        drawn.append(axes.imshow(first, cmap="gray", vmin=0, vmax=1))
        axes.set_title(task, fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    frames = min(_ANIMATED, *(e["observations"].shape[1] for e in episodes.values()))

    def show(t: int) -> list[Any]:
        for picture, episode in zip(drawn, episodes.values(), strict=True):
            picture.set_data(episode["observations"][0, t].astype(np.float32))
        return drawn

    path.parent.mkdir(parents=True, exist_ok=True)
    made = FuncAnimation(figure, show, frames=frames)
    made.save(str(path), writer=PillowWriter(fps=10), dpi=80)
    pyplot.close(figure)


def reaching(path: Path, episodes: Sequence[Mapping[str, FloatArray]]) -> None:
    """Figure 4.21: the arm on its way, and how far the finger is from its goal.

    Args:
        path: a PNG file.
        episodes: each with ``states`` (1, T, 4) and ``target`` (2,), metres.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 * len(episodes), 5.0), layout="constrained")
    grid = figure.subplots(2, len(episodes), squeeze=False, height_ratios=[1.3, 1])
    for (above, below), episode in zip(grid.T, episodes, strict=True):
        states, target = episode["states"][0], episode["target"]
        finger = _arm(states)[:, 2]
        chosen = np.unique(np.r_[0, np.geomspace(1, len(states) - 1, 9).round()]).astype(int)
        for rank, t in enumerate(chosen):
            joints = _arm(states[t : t + 1])[0]
            strength = 0.15 + 0.85 * rank / (len(chosen) - 1)
            above.plot(*joints.T, color=_INK, alpha=strength, linewidth=2, solid_capstyle="round")
        above.plot(*finger.T, color=_GREY, linewidth=0.8)
        above.plot(*target, "o", color=_RED, markersize=7)
        above.set_aspect("equal")
        above.set(xlim=(-0.27, 0.27), ylim=(-0.27, 0.27), xticks=[], yticks=[])
        gap = 1e3 * np.linalg.norm(finger - target, axis=1)
        below.plot(0.04 * np.arange(len(gap)), gap, color=_INK, linewidth=1)
        below.axhline(20, color=_RED, linewidth=0.8, linestyle="--", label="2 cm")
        below.set_xlabel("time, s", fontsize=8)
        below.set_ylim(bottom=0)
        below.tick_params(labelsize=7)
    grid[1, 0].set_ylabel("finger to goal, mm", fontsize=8)
    grid[1, 0].legend(fontsize=7)
    _save(figure, path)


def _arm(states: FloatArray) -> FloatArray:
    """Shoulder, wrist and finger, (T, 3, 2) in metres, of states (T, 4)."""
    from training.data.reacher import SHOULDER_TO_WRIST, finger_position

    shoulder = states[:, 0]
    wrist = SHOULDER_TO_WRIST * np.stack([np.cos(shoulder), np.sin(shoulder)], axis=1)
    return np.stack([np.zeros_like(wrist), wrist, finger_position(states)], axis=1)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)

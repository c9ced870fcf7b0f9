"""Figures 3.2 to 3.5: the pendulum's latent representation while it is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackvae.arrays import FloatArray

_ANGLES = "twilight"  # cyclic, and legible to the colour-blind
_INK, _RED, _GREY = "#1b3a5c", "#c0392b", "#8a8f98"


def latent_figure(path: Path, runs: Mapping[str, Mapping[str, FloatArray]], *, colour: str) -> None:
    """Posterior and prior at some steps, and beta with red marks there: one block a method.

    Args:
        path: a PNG file.
        runs: a method's name to its arrays (``run.npz`` of a part).
        colour: ``angle``, or ``deviation``: the posterior's standard deviation over its mean
            (greyscale), with its spread over the points.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    steps = [_steps(arrays) for arrays in runs.values()]
    columns = max(len(found) for found in steps)
    figure = Figure(figsize=(1.75 * columns + 3.4, 3.4 * len(runs)), layout="constrained")
    grid = figure.add_gridspec(2 * len(runs), columns + 1, width_ratios=[1.0] * columns + [1.9])
    greys: Any = mpl.colormaps["Greys"]
    for block, ((name, arrays), found) in enumerate(zip(runs.items(), steps, strict=True)):
        for column, step in enumerate(found):
            top = figure.add_subplot(grid[2 * block, column])
            bottom = figure.add_subplot(grid[2 * block + 1, column])
            _posterior(top, arrays, step, colour, greys)
            prior = arrays[f"prior-{step}"]
            bottom.scatter(prior[:, 0], prior[:, 1], s=1.5, color=_INK, linewidths=0)
            more = f", noise varies by {_spread(arrays, step):.0%}" if colour != "angle" else ""
            _frame(top, arrays[f"posterior-{step}"], more)
            _frame(bottom, prior)
            top.set_title(f"step {step:,}", fontsize=8)
            if column == 0:
                top.set_ylabel(name.replace(", ", ",\n") + "\nposterior", fontsize=8)
                bottom.set_ylabel("prior", fontsize=8)
        _beta(figure.add_subplot(grid[2 * block : 2 * block + 2, columns]), arrays, found)
    _save(figure, path, dpi=115 if len(runs) < 3 else 95)  # below 300 kB


def regression_figure(
    path: Path,
    runs: Mapping[str, Mapping[str, FloatArray]],
    predict: Callable[..., FloatArray],
    errors: Mapping[str, float],
) -> None:
    """Figure 3.4: predicted against true angle, one panel a method.

    Args:
        path: a PNG file.
        runs: a method's name to its arrays.
        predict: ``(train_z, train_angle, test_z) -> angles``.
        errors: the method's mean absolute error, radians.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3 * len(runs), 2.7), layout="constrained")
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, (name, arrays) in zip(panels, runs.items(), strict=True):
        places = [arrays[key] for key in ("train_z", "train_angle", "test_z")]
        true, predicted = arrays["test_angle"], predict(*places)
        nearest = true + (predicted - true + np.pi) % (2 * np.pi) - np.pi
        axes.plot([0, 2 * np.pi], [0, 2 * np.pi], color=_RED, linewidth=0.8)
        axes.scatter(true, nearest, s=2, color=_INK, linewidths=0)
        axes.set_title(f"{name}\nerror {errors[name]:.3f} rad", fontsize=8)
        axes.set_xticks([0, np.pi, 2 * np.pi], ["0", "π", "2π"])
        axes.set_yticks([0, np.pi, 2 * np.pi], ["0", "π", "2π"])
        axes.set_xlabel("true angle", fontsize=8)
        axes.tick_params(labelsize=7)
    panels[0].set_ylabel("predicted angle (nearest turn)", fontsize=8)
    _save(figure, path, dpi=130)


def _steps(arrays: Mapping[str, FloatArray]) -> list[int]:
    """The steps with a picture."""
    return sorted(int(name.split("-")[1]) for name in arrays if name.startswith("prior-"))


def _posterior(
    axes: Any, arrays: Mapping[str, FloatArray], step: int, colour: str, greys: Any
) -> None:
    """Posterior samples, by angle or by how far their noise is from the mean noise."""
    z = arrays[f"posterior-{step}"]
    if colour == "angle":
        angle = arrays["test_angle"][: len(z)]
        axes.scatter(*z.T, c=angle, cmap=_ANGLES, vmin=0, vmax=2 * np.pi, s=2.5, linewidths=0)
        return
    noise = arrays[f"deviation-{step}"].mean(axis=1)
    ratio = noise / noise.mean()
    axes.scatter(*z.T, color=greys(0.35 + 0.65 * np.clip(ratio / 2, 0, 1)), s=2.5, linewidths=0)


def _spread(arrays: Mapping[str, FloatArray], step: int) -> float:
    """Standard deviation over the points of the posterior's noise, over its mean."""
    noise = arrays[f"deviation-{step}"].mean(axis=1)
    return float(noise.std() / noise.mean())


def _frame(axes: Any, points: FloatArray, more: str = "") -> None:
    """A square around the points' centre, with its width in place of ticks."""
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    half = 0.55 * max(float((points.max(axis=0) - points.min(axis=0)).max()), 1e-3)
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"width {2 * half:.2g}{more}", fontsize=6, color=_GREY, labelpad=1)


def _beta(axes: Any, arrays: Mapping[str, FloatArray], steps: Sequence[int]) -> None:
    """Beta against the iterations, red where the pictures are."""
    at, beta = arrays["beta"].T
    axes.axhline(1.0, color=_GREY, linewidth=0.8, linestyle="--")
    for step in steps:
        axes.axvline(step, color=_RED, linewidth=0.8)
    axes.plot(at, beta, color=_INK, linewidth=1.3)
    axes.set_yscale("log")
    axes.set_xlabel("iteration", fontsize=8)
    axes.set_ylabel("β", fontsize=8)
    axes.tick_params(labelsize=7)


def _save(figure: Any, path: Path, dpi: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from trackvae.files import atomic_path

    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png")

"""Figures 3.12 and 3.13, and samples of each model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from trackvae.files import atomic_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure

Runs: TypeAlias = Mapping[tuple[str, str], Mapping[str, Any]]  # by data set and method
Labels: TypeAlias = Mapping[str, str]

_COLOURS = {"vhp-rewo": "#c0392b", "vhp-geco": "#2471a3", "vhp-warm-up": "#d68910"}
_SIDE = 6  # samples along each side of a sheet


def _new(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure with ``rows x columns`` axes, no window."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)


def _write(figure: Figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    plt.close(figure)


def active_units(path: Path, runs: Runs, columns: Labels, labels: Labels) -> None:
    """Figure 3.12: KL(q(zeta_d|z) || p(zeta_d)) of each dimension, sorted, REWO beside warm-up.

    Args:
        path: where the picture goes.
        runs: those with REWO and, where they were made, with warm-up.
        columns: labels of the data sets.
        labels: of the methods.
    """
    shown = [
        (name, key)
        for name in columns
        for key in ("vhp-rewo", "vhp-warm-up")
        if (name, key) in runs
    ]
    figure, axes = _new(1, len(shown), (2.9 * len(shown), 2.7), sharey=True)
    for axis, (name, key) in zip(axes[0], shown, strict=True):
        kl = sorted(runs[name, key]["tested"]["kl"], reverse=True)
        axis.bar(range(1, len(kl) + 1), [max(value, 1e-4) for value in kl], color=_COLOURS[key])
        axis.set_yscale("log")
        axis.set_ylim(1e-3, 10)
        axis.set_xlabel(r"dimension $d$, sorted")
        active = sum(value > 0.01 for value in kl)
        axis.set_title(f"{columns[name]}\n{labels[key]}: {active} above 0.01", fontsize=9)
    axes[0, 0].set_ylabel(r"KL$(q(\zeta_d|z)\,\|\,p(\zeta_d))$ [nats]")
    _write(figure, path)


def rates(path: Path, runs: Runs, name: str, columns: Labels, labels: Labels) -> None:
    """Figure 3.13: the rate against the iteration, with beta beside it.

    Args:
        path: where the picture goes.
        runs: the VHP's, one for each optimisation strategy.
        name: the data set that is shown.
        columns: labels of the data sets.
        labels: of the methods.
    """
    figure, axes = _new(1, 2, (9.0, 3.2))
    for key, colour in _COLOURS.items():
        course = runs[name, key]["trained"]["course"]
        steps, betas, rate = ([point[at] for point in course] for at in range(3))
        axes[0, 0].plot(steps, rate, color=colour, label=labels[key], linewidth=1.2)
        axes[0, 1].plot(steps, betas, color=colour, label=labels[key], linewidth=1.2)
    for axis, title in zip(axes[0], ("rate [nats]", r"$\beta$"), strict=True):
        axis.set(xlabel="iteration", ylabel=title, xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.suptitle(columns[name], fontsize=10)
    _write(figure, path)


def samples(path: Path, runs: Runs, columns: Labels, labels: Labels, work: Path) -> None:
    """What each model draws from its prior: E[x|z], a sheet for each data set and method.

    Args:
        path: where the picture goes.
        runs: with their weights.
        columns: labels of the data sets.
        labels: of the methods.
        work: the folder that holds the weights.
    """
    methods = list(dict.fromkeys(key for _, key in runs))
    figure, axes = _new(len(columns), len(methods), (1.75 * len(methods), 1.95 * len(columns)))
    for axis in axes.flat:
        axis.set_axis_off()
    for (name, key), run in runs.items():
        axis = axes[list(columns).index(name), methods.index(key)]
        axis.imshow(_sheet(work / run["trained"]["weights"]), cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{columns[name]}\n{labels[key]}", fontsize=7)
    _write(figure, path)


def _sheet(weights: Path) -> npt.NDArray[np.float32]:
    """Samples of a model as one picture."""
    import numpy as np
    import torch

    from trackvae.storage import load

    model, _ = load(weights)
    drawn = model.sample(_SIDE**2, torch.Generator().manual_seed(0)).numpy()
    images = drawn.reshape(_SIDE, _SIDE, *drawn.shape[-2:])
    return np.concatenate(np.concatenate(images, axis=1), axis=1)

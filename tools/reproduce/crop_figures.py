"""Figures of ``flatness-high-d``: spectra of G, cost, reconstructions, decoded straight lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackvae.files import atomic_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure
    from torch import Tensor

    from trackvae.vae import VAE

_COLOURS = ("#7f8c8d", "#c0392b", "#e59866", "#2471a3", "#7d3c98", "#1e8449")
_LEAST = 1e-8  # of a spectrum that is drawn
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of the cost
_CROPS = 14  # beside each other
_LINES = 3  # straight lines in each model


def _new(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """A figure with ``rows x columns`` axes, no window."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(
        rows, columns, figsize=size, constrained_layout=True, squeeze=False, **options
    )


def _write(figure: Figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png", bbox_inches="tight")
    plt.close(figure)


def spectra(
    path: Path,
    found: Mapping[int, Mapping[str, Mapping[str, Any]]],
    labels: Mapping[str, str],
) -> None:
    """Eigenvalues of G over c^2 in descending order: median over the points, quartiles as a band.

    Args:
        path: where the picture goes.
        found: by latent dimensions and method what ``metric_figures`` gives.
        labels: of the methods.
    """
    figure, axes = _new(1, len(found), (2.9 * len(found), 3.0), sharey=True)
    for axis, (dims, methods) in zip(axes[0], found.items(), strict=True):
        for colour, (method, metric) in zip(_COLOURS, methods.items(), strict=False):
            low, middle, high = (
                [max(value, _LEAST) for value in line] for line in metric["spectrum"]
            )
            places = range(1, dims + 1)
            label = f"{labels[method]}, k = {metric['condition']:.3g}"
            axis.plot(places, middle, color=colour, label=label)
            axis.fill_between(places, low, high, color=colour, alpha=0.25, linewidth=0)
        axis.axhline(1, color="black", linewidth=0.6, linestyle=":")
        axis.set(yscale="log", xlabel="eigenvalue", title=f"{dims} dimensions")
        axis.legend(fontsize=7, loc="lower left")
    axes[0, 0].set_ylabel("eigenvalue of G / c²")
    _write(figure, path)


def costs(path: Path, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Cost of a step over that of the plain one, for each estimator and number of dimensions."""
    from matplotlib.ticker import NullLocator

    variants = list(next(iter(found.values())))
    figure, axes = _new(1, 1, (8.5, 3.6))
    axis, width = axes[0, 0], 0.85 / len(variants)
    for index, (variant, colour) in enumerate(zip(variants, _COLOURS, strict=False)):
        places = [place + index * width for place in range(len(found))]
        ratios = [by_variant[variant]["ratio"] for by_variant in found.values()]
        label = "plain VHP-VAE" if variant == "none" else variant
        bars = axis.bar(places, ratios, width * 0.92, color=colour, label=label)
        axis.bar_label(bars, fmt="{:.3g}", fontsize=7, padding=1)
    middle = (len(variants) - 1) * width / 2
    axis.set_xticks([place + middle for place in range(len(found))], list(found))
    axis.set(yscale="log", xlabel="latent dimensions", ylabel="cost of a step / plain step")
    most = max(cost["ratio"] for by_variant in found.values() for cost in by_variant.values())
    ticks = [tick for tick in _TICKS if tick <= 2 * most]
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylim(0.8, 3 * most)  # room for the legend
    axis.legend(fontsize=7, ncols=3, loc="upper left")
    _write(figure, path)


def reconstructions(path: Path, models: Mapping[str, VAE], x: Tensor) -> None:
    """Held-out crops (N, 3, H, W), and what each model makes of their posterior's mean."""
    import torch

    chosen = x[torch.linspace(0, len(x) - 1, min(_CROPS, len(x))).long()]
    with torch.no_grad():
        made = {name: model.decode(model.encode(chosen).mean) for name, model in models.items()}
    _sheet(path, {"held out": chosen, **made})


def lines(path: Path, models: Mapping[str, VAE], x: Tensor) -> None:
    """Straight lines between the posterior means of two held-out crops, decoded at equal steps."""
    import torch

    ends = torch.linspace(0, len(x) - 1, 2 * _LINES).long()
    rows: dict[str, Tensor] = {}
    share = torch.linspace(0, 1, _CROPS)[:, None]
    for line in range(_LINES):
        start, end = x[ends[line]], x[ends[line + _LINES]]
        for name, model in models.items():
            with torch.no_grad():
                z = model.encode(torch.stack([start, end])).mean
                rows[f"{name} {line + 1}"] = model.decode(torch.lerp(z[:1], z[1:], share))
    _sheet(path, rows)


def _sheet(path: Path, rows: Mapping[str, Tensor]) -> None:
    """One row of crops for each name."""
    figure, axes = _new(len(rows), 1, (9.0, 0.68 * len(rows)))
    for axis, (name, crops) in zip(axes[:, 0], rows.items(), strict=True):
        axis.imshow(_strip(crops), interpolation="nearest", aspect="equal")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axis.spines[:].set_visible(False)
    _write(figure, path)


def _strip(crops: Tensor) -> npt.NDArray[np.float32]:
    """(N, 3, H, W) BGR side by side as (H, N W, 3) RGB in [0, 1]."""
    pixels = crops.clamp(0, 1).flip(1).permute(2, 0, 3, 1)  # (H, N, W, 3)
    strip: npt.NDArray[np.float32] = pixels.reshape(pixels.shape[0], -1, 3).numpy()
    return strip

"""What figures 5.1 to 5.12 draw alike: the latent space, the velocity, rows of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.flatness import decoded
from tools.reproduce.geodesic_study import COLOURS, NAMES

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.vae import VAE
    from training.geodesics import Uncertainty

_GRID = 200  # cells on each side of the map of sigma


def draw_space(
    path: Path,
    model: VAE,
    z: Tensor,
    curves: Mapping[str, Tensor],
    known: Uncertainty,
    labels: np.ndarray[Any, Any] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Figures 5.1, 5.5, 5.7, 5.10: the latent space, data, straight line, geodesics.

    On the left over the magnification factor, on the right over the decoder's sigma.

    Args:
        path: of the PNG.
        model: whose latent space it is.
        z: (M, 2) encoded data.
        curves: (T, 2) by name, of :data:`COLOURS`.
        known: the sigma.
        labels: (M,) of the data, if they have classes.
        names: of the classes.
    """
    from tools.reproduce.latent_figures import (
        draw_magnification,
        draw_points,
        limits,
        magnification_grid,
        new_figure,
        save_figure,
        square,
    )

    figure, axes = new_figure(1, 2, (10.4, 5.2))
    low, high = square(z)
    factor = magnification_grid(model, low, high)
    grids = {
        "magnification factor of the mean (grey)": (factor, float(np.quantile(factor, 0.98))),
        "sigma, of all outputs together (grey)": _sigma_grid(known, low, high),
    }
    for ax, (title, (grid, top)) in zip(axes[0], grids.items(), strict=True):
        image = draw_magnification(ax, grid, low, high, top)
        figure.colorbar(image, ax=ax, shrink=0.75, extend="max").ax.tick_params(labelsize=7)
        if labels is None:
            ax.scatter(*z.numpy().T, s=3, color="#6baed6", linewidths=0, label="encoded data")
        else:
            draw_points(ax, z, labels, names)
        for name, curve in curves.items():
            style = "--" if name == "straight" else "-"
            label = NAMES.get(name, "straight line")
            ax.plot(*curve.numpy().T, style, color=COLOURS[name], linewidth=1.6, label=label)
        limits(ax, z)
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=7)
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        texts,
        loc="outside lower center",
        ncols=5 if labels is None else 7,
        fontsize=7,
        frameon=False,
        markerscale=2,
    )
    save_figure(figure, path)


def _sigma_grid(
    known: Uncertainty, low: Tensor, high: Tensor
) -> tuple[np.ndarray[Any, Any], float]:
    """``sqrt(D_x) sigma`` on a grid over a box, and its largest value."""
    import torch

    axes = [torch.linspace(float(a), float(b), _GRID) for a, b in zip(low, high, strict=True)]
    y, x = torch.meshgrid(axes[1], axes[0], indexing="ij")
    sigma = known.sigma(torch.stack([x.ravel(), y.ravel()], dim=1)) * known.outputs**0.5
    return sigma.reshape(_GRID, _GRID).numpy(), float(sigma.max())


def draw_velocity(ax: Any, velocities: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """phi(t) along curves (figures 5.2, 5.6, 5.9, 5.12)."""
    for name, value in velocities.items():
        t = (np.arange(len(value)) + 0.5) / len(value)
        ax.plot(t, value, color=COLOURS[name], label=NAMES.get(name, "straight line"), lw=1.3)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("t", fontsize=8)
    ax.set_ylabel("velocity φ(t)", fontsize=8)
    ax.legend(fontsize=7, frameon=False)
    ax.tick_params(labelsize=7)


def draw_strips(
    path: Path,
    images: Mapping[str, np.ndarray[Any, Any]],
    velocities: Mapping[str, np.ndarray[Any, Any]],
) -> None:
    """Decoded curves as rows of images, (F, H, W) each, and the velocity along them."""
    from tools.reproduce.latent_figures import new_figure, save_figure

    figure, axes = new_figure(len(images) + 1, 1, (8, 1.0 * len(images) + 2.6))
    grid = axes[-1, 0].get_gridspec()
    grid.set_height_ratios([1.0] * len(images) + [2.4])
    for ax, (name, strip) in zip(axes[:-1, 0], images.items(), strict=True):
        tiles = np.pad(strip, ((0, 0), (0, 0), (0, 1)), constant_values=0.5)
        ax.imshow(np.concatenate(list(tiles), axis=1), cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(NAMES.get(name, "straight line"), fontsize=8, loc="left", pad=2)
        ax.axis("off")
    draw_velocity(axes[-1, 0], velocities)
    save_figure(figure, path)


def frames(model: VAE, curve: Tensor, count: int, side: int) -> np.ndarray[Any, Any]:
    """Images along a curve (T, 2), at equal steps of t: (count, side, side)."""
    import torch

    at = torch.linspace(0, len(curve) - 1, count).round().long()
    return decoded(model, curve[at]).reshape(count, side, side)


def velocities_of(model: VAE, curves: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """phi(t) of curves (T, 2) with equal steps of t."""
    import torch

    from trackvae.geometry import velocity

    with torch.no_grad():
        return {name: velocity(model.decode, c[None])[0].numpy() for name, c in curves.items()}

"""Figures 5.1 to 5.3: geodesics of the pendulum (5.1.4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.geodesic_drawings import draw_space, draw_strips, frames, velocities_of
from tools.reproduce.geodesic_models import (
    REDUCED,
    Recipe,
    encoded_nodes,
    iwae_settings,
    resampled,
    seen_values,
    with_model,
)
from tools.reproduce.geodesic_study import (
    COLOURS,
    FULL,
    NAMES,
    ON_DATA,
    QUICK,
    SHORTEST,
    Protocol,
    common_rows,
    determination,
    drawn_curves,
    drawn_pair,
    each_seed,
    figures_of,
    ways,
)
from tools.reproduce.geodesic_variance import VARIANCE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from trackvae.vae import VAE
    from training.data import DataSet

TITLE = "Figures 5.1 to 5.3: geodesics of the pendulum"
SEEDS = 3

RECIPE = Recipe((256, 256), 16, 0.05, 3_000, 300)
_THESIS = (0.827, 0.538)  # straight line, geodesic
_FRAMES = 15  # of a strip


def run(context: Context) -> Outcome:
    """A model a seed, 100 pairs each, figures of the first."""
    from training.data import pendulum

    data = pendulum(2_000 if context.quick else 15_000)
    protocol = QUICK if context.quick else FULL
    settings = iwae_settings(RECIPE, data, 0, quick=context.quick)
    measured = each_seed(
        context,
        RECIPE,
        data,
        protocol,
        measure=lambda model, seed, _: _measure(model, data, protocol, seed),
        nodes=lambda model, seed: encoded_nodes(model, data, protocol.nodes, seed),
        seen=lambda seed: seen_values(data, protocol.nodes, seed),
        ends=lambda model, seed: _ends(model, protocol, seed),
        draw=lambda model, found, seed: _draw(context, model, data, found, protocol, seed),
    )
    rows = common_rows(measured, _THESIS, "pixels")
    for name, note in (
        ("encoded sequences", "the ground truth of figure 5.3"),
        (ON_DATA, ""),
        (VARIANCE, "of the length with the variance"),
        (SHORTEST, "fades across the ring where that is shorter than to turn"),
        ("straight", ""),
    ):
        values = [determination(m["angle"], _lengths(m, name)) for m in measured]
        title = NAMES.get(name, "straight line" if name == "straight" else name)
        rows.append(row(title, "R² of length against angle", values, None, note))
    config = {
        "data": data.note,
        "reduced": REDUCED,
        "pairs": "random starts, angles uniform in (0, 180] degrees",
        "protocol": asdict(protocol),
        "settings": with_model(settings),
    }
    return Outcome(rows, config, {"pairs": measured})


def _lengths(measured: Mapping[str, Any], name: str) -> list[float]:
    if name == "straight":
        return list(measured["straight"])
    return list(measured["truth"] if name == "encoded sequences" else measured[name]["length"])


def pairs_of_angles(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Starts uniform on the circle, turns uniform in (0, pi], radians."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 2 * np.pi, count), np.pi * (1 - rng.random(count))


def _ends(model: VAE, protocol: Protocol, seed: int) -> tuple[Tensor, Tensor]:
    from training.data.pendulum import render_pendulum

    start, turn = pairs_of_angles(protocol.pairs, seed)
    both = render_pendulum(np.concatenate([start, start + turn]))[:, None]
    z = resampled(model, both, seed)
    return z[: len(start)], z[len(start) :]


def _measure(model: VAE, data: DataSet, protocol: Protocol, seed: int) -> dict[str, Any]:
    start, end = _ends(model, protocol, seed)
    z = encoded_nodes(model, data, protocol.nodes, seed)
    found = figures_of(ways(model, z, start, end, protocol))
    found["angle"] = np.degrees(pairs_of_angles(protocol.pairs, seed)[1]).tolist()
    found["truth"] = _true_lengths(model, protocol, seed)
    return found


def _true_lengths(model: VAE, protocol: Protocol, seed: int) -> list[float]:
    """Riemannian length along an encoded sequence of the moving pendulum, for each pair."""
    import torch

    from tools.reproduce.flatness import encoded
    from trackvae.geometry import riemannian_length
    from training.data.pendulum import render_pendulum

    lengths = []
    for start, turn in zip(*pairs_of_angles(protocol.pairs, seed), strict=True):
        angles = start + turn * np.linspace(0, 1, 91)
        with torch.no_grad():
            z = encoded(model, render_pendulum(angles)[:, None])
            lengths.append(float(riemannian_length(model.decode, z)))
    return lengths


def _draw(
    context: Context,
    model: VAE,
    data: DataSet,
    measured: Mapping[str, Any],
    protocol: Protocol,
    seed: int,
) -> None:
    """Figures 5.1 to 5.3."""
    pair = drawn_pair(measured)
    ends = _ends(model, protocol, seed)
    z = encoded_nodes(model, data, protocol.nodes, seed)
    seen = (z, seen_values(data, protocol.nodes, seed))
    curves, known = drawn_curves(model, seen, (ends[0][[pair]], ends[1][[pair]]), protocol)
    draw_space(context.figures / "figure-5.1.png", model, z, curves, known)
    strips = {name: frames(model, curve, _FRAMES, 16) for name, curve in curves.items()}
    draw_strips(context.figures / "figure-5.2.png", strips, velocities_of(model, curves))
    _draw_angles(context.figures / "figure-5.3.png", measured)


def _draw_angles(path: Path, measured: Mapping[str, Any]) -> None:
    from tools.reproduce.latent_figures import new_figure, save_figure

    figure, axes = new_figure(1, 1, (5.6, 4.2))
    ax = axes[0, 0]
    kinds = [(name, COLOURS[name]) for name in ("straight", SHORTEST, ON_DATA, VARIANCE)]
    ax.plot(
        measured["angle"], measured["truth"], ".", color="#bbbbbb", ms=9, label="encoded sequences"
    )
    for name, colour in kinds:
        r2 = determination(measured["angle"], _lengths(measured, name))
        label = f"{NAMES.get(name, 'straight line')}: R² {r2:.3f}"
        ax.plot(measured["angle"], _lengths(measured, name), ".", color=colour, ms=4, label=label)
    ax.set_xlabel("rotation angle (degrees)", fontsize=8)
    ax.set_ylabel("Riemannian length (pixels)", fontsize=8)
    ax.legend(fontsize=7, frameon=False)
    ax.tick_params(labelsize=7)
    save_figure(figure, path)

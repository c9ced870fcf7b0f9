"""Figures 5.10 to 5.12: geodesics of human walking (5.1.4.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.flatness import decoded
from tools.reproduce.geodesic_drawings import draw_space, draw_velocity, velocities_of
from tools.reproduce.geodesic_models import (
    REDUCED,
    Recipe,
    encoded_nodes,
    iwae_settings,
    random_ends,
    resampled,
    seen_values,
    with_model,
)
from tools.reproduce.geodesic_study import (
    FULL,
    NAMES,
    ON_DATA,
    QUICK,
    SHORTEST,
    Protocol,
    common_rows,
    drawn_curves,
    drawn_pair,
    each_seed,
    figures_of,
    ways,
)
from tools.reproduce.geodesic_variance import VARIANCE

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.arrays import FloatArray
    from trackvae.vae import VAE
    from training.data import DataSet
    from training.data.skeleton import Skeleton

TITLE = "Figures 5.10 to 5.12: geodesics of human walking"
SEEDS = 3

RECIPE = Recipe((128, 128, 128), 15, 0.3, 4_000, 300)
_THESIS = (2.89, 2.57)  # straight line, geodesic
_FRAMES = 12  # of a film strip
_STEPS = 50  # of a movement whose smoothness is measured, as for Table 5.1


def run(context: Context) -> Outcome:
    """A model a seed, 100 pairs of test frames each, figures of the first."""
    data, skeleton = open_walks(context)
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
        ends=lambda model, seed: random_ends(model, data, protocol.pairs, seed),
        draw=lambda model, found, seed: _draw(
            context, model, data, skeleton, found, protocol, seed
        ),
        also=lambda model, found: {"smoothness": _smoothness(model, data, found.curves)},
    )
    for m in measured:
        m["smoothness"][VARIANCE] = m[VARIANCE]["smoothness"]
    rows = common_rows(measured, _THESIS, "joint angles, standardised")
    for name in ("straight", SHORTEST, ON_DATA, VARIANCE):
        values = [float(np.mean(m["smoothness"][name])) for m in measured]
        title = NAMES.get(name, "straight line")
        rows.append(
            row(title, "smoothness factor, mean over joints and pairs (degrees per step²)", values)
        )
    config = {
        "data": data.note,
        "real": data.name == "cmu",
        "reduced": REDUCED,
        "pairs": "random pairs of frames of the test recordings",
        "protocol": asdict(protocol),
        "settings": with_model(settings),
    }
    return Outcome(rows, config, {"pairs": measured})


def open_walks(context: Context) -> tuple[DataSet, Skeleton]:
    """Walks of subject 35, or made gait where they are absent, and a skeleton to draw with."""
    from training.data import cmu, gait
    from training.data.gait import made_skeleton
    from training.data.skeleton import read_asf

    source = context.source("mocap")
    if source is None:
        return gait(), made_skeleton()
    return cmu(source, ("walk",)), read_asf(source / "35" / "35.asf")


def _degrees(model: VAE, data: DataSet, curves: Tensor) -> FloatArray:
    """Decoded curves (P, T, 2) in degrees, (P, T, 50)."""
    values = decoded(model, curves.flatten(0, 1)).reshape(*curves.shape[:2], -1)
    return values if data.standardisation is None else data.standardisation.undo(values)


def _thinned(curves: Tensor, count: int) -> Tensor:
    """Equal steps of t: (P, T, 2) to (P, count, 2)."""
    import torch

    return curves[:, torch.linspace(0, curves.shape[1] - 1, count).round().long()]


def _measure(model: VAE, data: DataSet, protocol: Protocol, seed: int) -> dict[str, Any]:
    from trackvae.geometry import straight_line
    from training.geodesics import smoothness_factor

    start, end = random_ends(model, data, protocol.pairs, seed)
    z = encoded_nodes(model, data, protocol.nodes, seed)
    found = ways(model, z, start, end, protocol)
    lines = straight_line(start, end, _STEPS)
    result = figures_of(found)
    result["smoothness"] = {
        "straight": smoothness_factor(_degrees(model, data, lines)).mean(axis=1).tolist(),
        **{name: _smoothness(model, data, g.curves) for name, g in found.items()},
    }
    return result


def _smoothness(model: VAE, data: DataSet, curves: Tensor) -> list[float]:
    """Of curves (P, T, 2) in equal steps of the decoded movement, the mean over joints."""
    from training.geodesics import constant_speed, smoothness_factor

    even = constant_speed(curves, _STEPS, _velocity_lengths(model, curves))
    return smoothness_factor(_degrees(model, data, even)).mean(axis=1).tolist()


def _velocity_lengths(model: VAE, curves: Tensor) -> Tensor:
    """Riemannian lengths of the segments of curves (P, T, 2): (P, T - 1)."""
    import torch

    from trackvae.geometry import segment_lengths

    with torch.no_grad():
        return segment_lengths(model.decode, curves)


def _draw(
    context: Context,
    model: VAE,
    data: DataSet,
    skeleton: Skeleton,
    measured: Mapping[str, Any],
    protocol: Protocol,
    seed: int,
) -> None:
    """Figures 5.10 and 5.12, and 5.11: one recording through the latent space."""
    from tools.reproduce.latent_figures import new_figure, save_figure

    pair = drawn_pair(measured)
    ends = random_ends(model, data, protocol.pairs, seed)
    z = encoded_nodes(model, data, protocol.nodes, seed)
    seen = (z, seen_values(data, protocol.nodes, seed))
    curves, known = drawn_curves(model, seen, (ends[0][[pair]], ends[1][[pair]]), protocol)
    draw_space(context.figures / "figure-5.10.png", model, z, curves, known)
    cycle = resampled(model, data.values("test")[:40], seed)
    figure, axes = new_figure(1, 1, (9, 1.6))
    _draw_film(axes[0, 0], "posterior samples along a recording", cycle, model, data, skeleton)
    save_figure(figure, context.figures / "figure-5.11.png")
    figure, axes = new_figure(len(curves) + 1, 1, (9, 1.45 * len(curves) + 2.6))
    axes[-1, 0].get_gridspec().set_height_ratios([1.0] * len(curves) + [1.9])
    for ax, (name, curve) in zip(axes[:-1, 0], curves.items(), strict=True):
        _draw_film(ax, NAMES.get(name, "straight line"), curve, model, data, skeleton)
    draw_velocity(axes[-1, 0], velocities_of(model, curves))
    save_figure(figure, context.figures / "figure-5.12.png")


def _draw_film(
    ax: Any, title: str, curve: Tensor, model: VAE, data: DataSet, skeleton: Skeleton
) -> None:
    """Stick figures along a curve (T, 2), the steps that jump marked."""
    from tools.reproduce.movement_figures import draw_skeletons, find_jumps, mark_jumps
    from training.data.mocap import pose
    from training.data.skeleton import joint_positions

    frames = _degrees(model, data, _thinned(curve[None], _FRAMES))[0]
    draw_skeletons(ax, joint_positions(skeleton, pose(frames, skeleton)), skeleton)
    scale = data.standardisation
    mark_jumps(ax, len(frames), find_jumps(frames if scale is None else scale.apply(frames)))
    ax.set_title(title, fontsize=8, loc="left", pad=1)

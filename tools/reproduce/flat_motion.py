"""Table 5.1 and figures 5.13 to 5.17: flat latent manifolds of human motion (5.2.3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.flatness import (
    Protocol,
    metric_rows,
    ratio_rows,
    ring_ends,
    run_settings,
    straight_movements,
    train_and_measure,
)

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.vae import VAE
    from training.data import DataSet
    from training.data.skeleton import Skeleton

TITLE = "Table 5.1: Euclidean interpolations against geodesics, human motion"
SEEDS = 3

_FLAT: dict[str, Any] = {"eta": 300.0}
METHODS: dict[str, dict[str, Any] | None] = {
    "VHP-FMVAE": _FLAT,
    "VHP-VAE": None,
    "VHP-FMVAE without mixup": {**_FLAT, "mixup": False},
    "VHP-FMVAE without c²": {"eta": 100.0, "penalty": "absolute", "identity": False},
}
_THESIS = {
    "VHP-FMVAE": {"latent": "0.93 ± 0.03", "observation": "1.02 ± 0.06"},
    "VHP-VAE": {"latent": "0.82 ± 0.10", "observation": "1.23 ± 0.20"},
}
_KAPPA = 0.34  # of features with a deviation of 1; the thesis's 0.03 is of another scale
_QUICK_KAPPA = 0.6  # that 300 steps reach, so that the main phase is seen
_SHOWN_FRAMES = 12  # of a movement in figure 5.16


def run(context: Context) -> Outcome:
    """Four models a seed, measured on held-out recordings."""
    data, skeleton = open_motions(context)
    protocol = Protocol(1_000, (12, 32), 20, 300) if context.quick else Protocol()
    steps = 300 if context.quick else 3_500
    kappa = _QUICK_KAPPA if context.quick else _KAPPA

    def settings_of(flatness: Mapping[str, Any] | None, seed: int) -> dict[str, Any]:
        return run_settings(data, flatness, steps, seed, kappa)

    models, trained, measured = train_and_measure(context, METHODS, settings_of, data, protocol)
    _draw(context, models, measured, data, skeleton, protocol)
    settings = settings_of(_FLAT, context.seeds[0])
    return Outcome(
        _rows(measured, protocol), _config(data, settings, protocol), {"trained": trained}
    )


def _rows(measured: Mapping[str, list[dict[str, Any]]], protocol: Protocol) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, found in measured.items():
        rows += ratio_rows(name, found, protocol, _THESIS.get(name, {}))
        rows += metric_rows(name, found)
        smooth = [float(np.mean(m["smoothness"]["mean"])) for m in found]
        rows.append(row(name, "smoothness factor, mean over joints (degrees per step²)", smooth))
        errors = [m["test_error"] for m in found]
        rows.append(row(name, "squared error a feature, test part", errors))
    return rows


def _config(data: DataSet, settings: Mapping[str, Any], protocol: Protocol) -> dict[str, Any]:
    """What the figures depend on, and what was reduced."""
    return {
        "data": data.name,
        "real": data.name == "cmu",
        "motions": list(data.label_names),
        "note": data.note,
        "missing": "the thesis's punching (143) and kicking (74) are not in what we hold; walks of "
        "subjects 07 and 08 in their place",
        "reduced": "hidden layers 128, 128 and 64, 64 of the prior (thesis: 4 of 256), 16 samples "
        "of the prior's bound (thesis: 32); silu, since the metric of a ReLU network is constant "
        "in pieces; Adam 1e-3 to 1e-4 on a cosine (thesis: 1e-4)",
        "penalty": "relative, eta 300 (thesis: absolute, 8000), by random projections; without c²: "
        "absolute, eta 100",
        "settings": dict(settings),
        "protocol": asdict(protocol),
    }


def open_motions(context: Context) -> tuple[DataSet, Skeleton]:
    """The recordings, or made ones where they are absent, and a skeleton to draw them with."""
    from training.data import cmu, gait
    from training.data.gait import made_skeleton
    from training.data.skeleton import read_asf

    source = context.source("mocap")
    if source is None:
        return gait(), made_skeleton()
    return cmu(source), read_asf(source / "35" / "35.asf")


def joint_names() -> tuple[str, ...]:
    """Of the 50 features, short."""
    from training.data.mocap import FEATURES

    return tuple(f"{bone} {channel[1]}" for bone, channel in FEATURES)


# --- figures


def _draw(
    context: Context,
    models: Mapping[str, VAE],
    measured: Mapping[str, list[dict[str, Any]]],
    data: DataSet,
    skeleton: Skeleton,
    protocol: Protocol,
) -> None:
    """Figures 5.13 to 5.17, of the first seed."""
    from tools.reproduce.latent_figures import box_figure, latent_figure
    from tools.reproduce.movement_figures import joint_figure

    first = {name: found[0] for name, found in measured.items()}
    folder = context.figures
    box_figure(
        folder / "figure-5.13.png",
        first,
        {"at data": "at encoded data", "between": "between encoded data"},
    )
    labels = range(len(data.label_names))
    ends = {name: ring_ends(model, data, labels) for name, model in models.items()}
    flat, plain, *ablations = METHODS
    for figure, names in (("5.14", [flat, plain]), ("5.15", ablations)):
        latent_figure(
            folder / f"figure-{figure}.png",
            {name: models[name] for name in names},
            (models[flat], models[plain]),
            data,
            {name: ends[name] for name in names},
            protocol,
        )
    _movements(context, {name: models[name] for name in (flat, plain)}, ends, data, skeleton)
    joint_figure(
        folder / "figure-5.17.png",
        {name: first[name]["smoothness"] for name in (flat, plain)},
        joint_names(),
        "degrees per step²",
    )


def _movements(
    context: Context,
    models: Mapping[str, VAE],
    ends: Mapping[str, tuple[Tensor, Tensor]],
    data: DataSet,
    skeleton: Skeleton,
) -> None:
    """Figure 5.16: reconstructions of the straight lines as stick figures."""
    from tools.reproduce.latent_figures import new_figure, save_figure
    from tools.reproduce.movement_figures import draw_skeletons, find_jumps, mark_jumps
    from training.data.mocap import pose
    from training.data.skeleton import joint_positions

    names, count = data.label_names, len(data.label_names)
    figure, axes = new_figure(2 * count, 1, (6.8, 1.2 * 2 * count))
    for line in range(count):
        for place, (name, model) in enumerate(models.items()):
            start, end = (points[line : line + 1] for points in ends[name])
            movement = straight_movements(model, data, start, end, _SHOWN_FRAMES)[0]
            ax = axes[2 * line + place, 0]
            draw_skeletons(ax, joint_positions(skeleton, pose(movement, skeleton)), skeleton)
            scale = data.standardisation
            seen = movement if scale is None else scale.apply(movement)
            mark_jumps(ax, len(movement), find_jumps(seen))
            title = f"{name}: {names[line]} to {names[(line + 1) % count]}"
            ax.set_title(title, fontsize=8, loc="left", pad=1)
    save_figure(figure, context.figures / "figure-5.16.png")

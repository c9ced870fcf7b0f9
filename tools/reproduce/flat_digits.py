"""Table 5.2 and figures 5.18, 5.19: flat latent manifolds of binarised MNIST (5.2.3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.flatness import (
    Protocol,
    metric_rows,
    ratio_rows,
    ring_ends,
    run_settings,
    train_and_measure,
)

if TYPE_CHECKING:
    from trackvae.vae import VAE
    from training.data import DataSet

TITLE = "Table 5.2: Euclidean interpolations against geodesics, binarised MNIST"
SEEDS = 3

METHODS: dict[str, dict[str, Any] | None] = {"VHP-FMVAE": {"eta": 1000.0}, "VHP-VAE": None}
_THESIS = {
    "VHP-FMVAE": {"latent": "0.92 ± 0.05", "observation": "1.01 ± 0.08"},
    "VHP-VAE": {"latent": "0.70 ± 0.31", "observation": "1.13 ± 0.22"},
}
_KAPPA = 0.46  # its square is the cross entropy a pixel, in nats: 166 an image
_QUICK_KAPPA = 0.52  # that 200 steps reach
_DRAWN = (0, 1, 3, 4, 6)  # digits that the lines of figure 5.19 join


def run(context: Context) -> Outcome:
    """Two models a seed, measured on the test part."""
    data, real = _open(context)
    protocol = (
        Protocol(1_000, (12, 32), 20, 300)
        if context.quick
        else Protocol(14_400, (12, 32), 100, 10_000)
    )
    steps = 200 if context.quick else 4_000
    kappa = _QUICK_KAPPA if context.quick else _KAPPA

    def settings_of(flatness: Mapping[str, Any] | None, seed: int) -> dict[str, Any]:
        return run_settings(data, flatness, steps, seed, kappa, likelihood="bernoulli")

    models, trained, measured = train_and_measure(context, METHODS, settings_of, data, protocol)
    _draw(context, models, {name: found[0] for name, found in measured.items()}, data, protocol)
    settings = settings_of(METHODS["VHP-FMVAE"], context.seeds[0])
    config = {
        "data": data.name,
        "real": real,
        "note": data.note,
        "observation": "the Bernoulli's mean, in (0, 1)",
        "reduced": "hidden layers 128, 128 and 64, 64 of the prior (thesis: 4 of 256); silu "
        "(thesis: ReLU); Adam 1e-3 to 1e-4 on a cosine (thesis: 1e-4)",
        "penalty": "relative, eta 1000 (thesis: absolute, 8000), by random projections",
        "settings": settings,
        "protocol": asdict(protocol),
    }
    return Outcome(_rows(data, measured, protocol), config, {"trained": trained})


def _rows(
    data: DataSet, measured: Mapping[str, list[dict[str, Any]]], protocol: Protocol
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, found in measured.items():
        rows += ratio_rows(name, found, protocol, _THESIS[name])
        rows += metric_rows(name, found)
        errors = [m["test_error"] * data.train[0].size for m in found]
        rows.append(row(name, "cross entropy at the posterior's mean (nats)", errors))
    return rows


def _open(context: Context) -> tuple[DataSet, bool]:
    """MNIST with static binarisation, or made digits where it is absent."""
    from training.data import glyphs, mnist

    source = context.source("mnist")
    if source is None:
        return glyphs(binarise="static"), False
    return mnist(source, binarise="static"), True


def _draw(
    context: Context,
    models: Mapping[str, VAE],
    measured: Mapping[str, Mapping[str, Any]],
    data: DataSet,
    protocol: Protocol,
) -> None:
    """Figures 5.18 and 5.19, of the first seed."""
    from tools.reproduce.latent_figures import box_figure, latent_figure

    box_figure(
        context.figures / "figure-5.18.png",
        measured,
        {"at data": "at encoded data", "between": "between encoded data"},
    )
    latent_figure(
        context.figures / "figure-5.19.png",
        models,
        (models["VHP-FMVAE"], models["VHP-VAE"]),
        data,
        {name: ring_ends(model, data, _DRAWN) for name, model in models.items()},
        protocol,
    )

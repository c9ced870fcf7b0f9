"""Figures 5.4 to 5.6: geodesics of binarised MNIST (5.1.4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.geodesic_drawings import draw_space, draw_strips, frames, velocities_of
from tools.reproduce.geodesic_models import (
    REDUCED,
    Recipe,
    encoded_nodes,
    iwae_settings,
    random_ends,
    resampled,
    seen_values,
    spread_rows,
    with_model,
)
from tools.reproduce.geodesic_study import (
    FULL,
    QUICK,
    Protocol,
    common_rows,
    drawn_curves,
    drawn_pair,
    each_seed,
    figures_of,
    uniform_graph,
    ways,
)
from tools.reproduce.geodesic_variance import SIGMA, variance_decoder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from trackvae.arrays import FloatArray, IntArray
    from trackvae.geometry import Decoder
    from trackvae.vae import VAE
    from training.data import DataSet

TITLE = "Figures 5.4 to 5.6: geodesics of binarised MNIST"
SEEDS = 2

RECIPE = Recipe((256, 256), 16, 0.3, 5_000, 300)
_THESIS = (74.3, 62.9)  # straight line, geodesic
_FRAMES = 15
_VOTES = (1, 3, 5, 11, 21, 41)  # neighbours that are tried on the validation part
_REFERENCE, _ASKED = 4_000, 1_000  # labelled encodings, and those whose label is asked for
BY_MEAN, BY_VARIANCE = ("Euclidean", "Riemannian"), "Riemannian, with the variance"
_GRID = 100  # cells on each side of the map of distances


def run(context: Context) -> Outcome:
    """A model a seed, 100 pairs of test images each, figures of the first."""
    data, real = open_digits(context)
    protocol = QUICK if context.quick else FULL
    settings = iwae_settings(RECIPE, data, 0, quick=context.quick)
    sizes = (300, 100) if context.quick else (_REFERENCE, _ASKED)

    def votes(model: VAE, key: Mapping[str, Any], seed: int) -> dict[str, Any]:
        compute = partial(_classify, model, data, protocol, seed, sizes)
        settings = {**key, "sizes": list(sizes)}
        by_mean = context.part(f"neighbours-{seed}", settings, partial(compute, BY_MEAN))
        by_both = partial(compute, (BY_VARIANCE,))
        settings = {**settings, "sigma": SIGMA}
        return by_mean | context.part(f"neighbours-variance-{seed}", settings, by_both)

    measured = each_seed(
        context,
        RECIPE,
        data,
        protocol,
        measure=lambda model, seed, _: _measure(model, data, protocol, seed),
        nodes=lambda model, seed: encoded_nodes(model, data, protocol.nodes, seed),
        seen=lambda seed: seen_values(data, protocol.nodes, seed),
        ends=lambda model, seed: random_ends(model, data, protocol.pairs, seed),
        draw=lambda model, found, seed: _draw(context, model, data, found, protocol, seed),
        more=votes,
    )
    rows = common_rows(measured, _THESIS, "pixels")
    for name in (*BY_MEAN, BY_VARIANCE):
        kind, comma, more = name.partition(",")
        rows.append(
            row(
                f"{kind} distance of encodings{comma}{more}",
                "accuracy of nearest neighbours, test part",
                [m[name]["accuracy"] for m in measured],
                neighbours=[m[name]["neighbours"] for m in measured],
            )
        )
    config = {
        "data": data.note,
        "real": real,
        "reduced": REDUCED,
        "pairs": "random pairs of test images",
        "neighbours": f"{_REFERENCE} training encodings vote on {_ASKED} of the test part; their "
        "number is chosen on the validation part (of the training part where there is none); "
        "Riemannian distances by shortest paths on the uniform graph",
        "protocol": asdict(protocol),
        "settings": with_model(settings),
    }
    return Outcome(rows, config, {"pairs": measured})


def open_digits(context: Context) -> tuple[DataSet, bool]:
    """MNIST with static binarisation, or made digits where it is absent."""
    from training.data import glyphs, mnist

    source = context.source("mnist")
    if source is None:
        return glyphs(binarise="static"), False
    return mnist(source, binarise="static"), True


def _measure(model: VAE, data: DataSet, protocol: Protocol, seed: int) -> dict[str, Any]:
    start, end = random_ends(model, data, protocol.pairs, seed)
    z = encoded_nodes(model, data, protocol.nodes, seed)
    return figures_of(ways(model, z, start, end, protocol))


# --- classes by distance


def _classify(
    model: VAE,
    data: DataSet,
    protocol: Protocol,
    seed: int,
    sizes: tuple[int, int],
    kinds: tuple[str, ...],
    _: object,
) -> dict[str, Any]:
    """Accuracy of nearest neighbours by distances, their number chosen on other images."""
    import torch

    known, asked = sizes
    rows = spread_rows(len(data.train), known + asked, seed)
    rows = np.random.default_rng(seed).permutation(rows)
    x, labels = data.values("train")[rows], data.labels["train"][rows]
    reference = resampled(model, x[:known], seed)
    choosing = resampled(model, x[known:], seed)
    test = spread_rows(len(data.test), asked, seed)
    judged = resampled(model, data.values("test")[test], seed)
    truth = {"choose": labels[known:], "judge": data.labels["test"][test]}
    result: dict[str, Any] = {}
    for name in kinds:
        if name == "Euclidean":
            apart = {"choose": torch.cdist(choosing, reference).numpy()}
            apart["judge"] = torch.cdist(judged, reference).numpy()
        else:
            decoder: Decoder = model.decode
            if name == BY_VARIANCE:
                decoder = variance_decoder(model, reference, x[:known])[0]
            graph = uniform_graph(decoder, reference, protocol)
            apart = {"choose": distances_between(graph, choosing, reference)}
            apart["judge"] = distances_between(graph, judged, reference)
        scores = [accuracy(apart["choose"], labels[:known], truth["choose"], k) for k in _VOTES]
        votes = _VOTES[int(np.argmax(scores))]
        result[name] = {
            "neighbours": votes,
            "accuracy": accuracy(apart["judge"], labels[:known], truth["judge"], votes),
        }
    return result


def distances_between(graph: Any, start: Tensor, end: Tensor) -> FloatArray:
    """Cost of the shortest paths on a graph to which both kinds of points are added, (P, Q)."""
    import torch

    from training.geodesics import distances

    first = len(graph.nodes)
    whole = graph.with_points(torch.cat([start, end]))
    sources = np.arange(first, first + len(start))
    return distances(whole, sources)[:, first + len(start) :]


def accuracy(apart: FloatArray, labels: IntArray, truth: IntArray, votes: int) -> float:
    """Share of rows whose most frequent label among the nearest is the true one.

    Args:
        apart: (P, Q) distances.
        labels: (Q,) integers.
        truth: (P,) integers.
        votes: nearest neighbours; of equally frequent labels the smallest wins.
    """
    nearest = np.argsort(apart, axis=1, kind="stable")[:, :votes]
    kinds = int(max(labels.max(), truth.max())) + 1
    counts = np.zeros((len(apart), kinds), dtype=np.int64)
    np.add.at(counts, (np.arange(len(apart))[:, None], labels[nearest]), 1)
    return float((counts.argmax(axis=1) == truth).mean())


# --- figures


def _draw(
    context: Context,
    model: VAE,
    data: DataSet,
    measured: Mapping[str, Any],
    protocol: Protocol,
    seed: int,
) -> None:
    """Figures 5.4 to 5.6."""
    from tools.reproduce.latent_figures import label_names

    pair = drawn_pair(measured)
    ends = random_ends(model, data, protocol.pairs, seed)
    z = encoded_nodes(model, data, protocol.nodes, seed)
    labels = data.labels["train"][spread_rows(len(data.train), protocol.nodes, seed)]
    names = label_names(data)
    seen = (z, seen_values(data, protocol.nodes, seed))
    curves, known = drawn_curves(model, seen, (ends[0][[pair]], ends[1][[pair]]), protocol)
    _draw_equidistance(context.figures / "figure-5.4.png", model, z, labels, names, protocol)
    draw_space(context.figures / "figure-5.5.png", model, z, curves, known, labels, names)
    side = data.shape[-1]
    strips = {name: frames(model, curve, _FRAMES, side) for name, curve in curves.items()}
    draw_strips(context.figures / "figure-5.6.png", strips, velocities_of(model, curves))


def _draw_equidistance(
    path: Path,
    model: VAE,
    z: Tensor,
    labels: np.ndarray[Any, Any],
    names: Any,
    protocol: Protocol,
) -> None:
    """Lines of equal Riemannian distance from the encoding that is nearest to the middle."""
    import torch

    from tools.reproduce.latent_figures import (
        draw_magnification,
        draw_points,
        legend_below,
        limits,
        magnification_grid,
        new_figure,
        save_figure,
        square,
    )

    low, high = square(z)
    centre = z[torch.linalg.vector_norm(z - z.median(0).values, dim=1).argmin()][None]
    axes = [torch.linspace(float(a), float(b), _GRID) for a, b in zip(low, high, strict=True)]
    y, x = torch.meshgrid(axes[1], axes[0], indexing="ij")
    cells = torch.stack([x.ravel(), y.ravel()], dim=1)
    apart = distances_between(uniform_graph(model.decode, z, protocol), centre, cells)
    figure, panels = new_figure(1, 1, (5.8, 6.1))
    ax = panels[0, 0]
    grid = magnification_grid(model, low, high)
    draw_magnification(ax, grid, low, high, float(np.quantile(grid, 0.98)))
    draw_points(ax, z, labels, names)
    levels = np.quantile(apart[np.isfinite(apart)], np.linspace(0.04, 0.6, 8))
    ax.contour(x, y, apart.reshape(_GRID, _GRID), levels=levels, colors="black", linewidths=0.8)
    ax.plot(*centre[0].numpy(), "*", color="black", ms=9)
    limits(ax, z)
    ax.set_title("magnification factor (grey), equal Riemannian distance from *", fontsize=8)
    ax.tick_params(labelsize=7)
    legend_below(figure, ax)
    save_figure(figure, path)

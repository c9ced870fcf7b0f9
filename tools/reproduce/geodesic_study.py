"""What figures 5.1 to 5.12 measure alike: three ways between pairs of encodings, on one model.

- the straight line in the latent space;
- the *shortest* curve of all, by the continuous solver, begun on a graph whose nodes are uniform;
- the shortest one *on the data*: on a graph whose nodes are encodings of training data and whose
  edges cost their Riemannian length (the thesis's own remedy, 5.1.5).

The two differ wherever the decoder fades from one observation to another by a way that no
observation took: a chord is shorter than its arc. Lengths are those of Eq. 5.5, in the
observation's unit, whatever curve they are of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.experiment import Context, row
from tools.reproduce.flatness import decoded, uniform_nodes
from tools.reproduce.geodesic_models import Recipe, trained_iwae

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.vae import VAE
    from training.data import DataSet
    from training.geodesics import Geodesics, Graph

SHORTEST, ON_DATA, NETWORK = "shortest", "on the data", "thesis's network"
NAMES = {
    SHORTEST: "geodesic, shortest of all",
    ON_DATA: "geodesic on the data",
    NETWORK: "geodesic by the thesis's network",
}
COLOURS = {"straight": "black", SHORTEST: "#1f77b4", ON_DATA: "#d62728", NETWORK: "#2ca02c"}


@dataclass(frozen=True)
class Protocol:
    """How much is computed.

    Attributes:
        pairs: of observations.
        nodes: of each graph.
        neighbours: of its nodes.
        points: of the curves of the continuous solver.
        steps: of it, at most.
    """

    pairs: int = 100
    nodes: int = 2_000
    neighbours: int = 12
    points: int = 64
    steps: int = 60


FULL = Protocol()
QUICK = Protocol(10, 400, 10, 32, 15)
# Of the thesis's network: lambda_s by this multiple of the metric at the data. The arm, one pair:
# a curve of 4.56 with none (shortest: 4.55) and 4.63 with 0.3; with 1 it leaves for where the
# decoder levels off, 118 from the middle of the latent space, and is 17 long.
_SMOOTHING = 0.3
_NETWORK, _QUICK_NETWORK = (300, 200), (40, 40)  # steps of Adam, time steps T of each


def data_graph(model: VAE, z: Tensor, protocol: Protocol) -> Graph:
    """A graph of encoded data in one part, its edges of Riemannian length."""
    from training.geodesics import neighbour_graph, riemannian

    return neighbour_graph(z, protocol.neighbours, riemannian(model.decode)).bridged()


def uniform_graph(model: VAE, z: Tensor, protocol: Protocol) -> Graph:
    """The same with nodes uniform over the bounding box of encoded data, and half of these."""
    import torch

    from training.geodesics import neighbour_graph, riemannian

    nodes = torch.cat([uniform_nodes(z, protocol.nodes, 0), z[::2]])
    return neighbour_graph(nodes, protocol.neighbours, riemannian(model.decode)).bridged()


def ways(
    model: VAE, z: Tensor, start: Tensor, end: Tensor, protocol: Protocol
) -> dict[str, Geodesics]:
    """Both kinds of geodesics between pairs.

    Args:
        model: its decoder's mean makes the metric.
        z: (M, 2) encoded training data.
        start: (P, 2).
        end: (P, 2).
        protocol: how much.
    """
    from training.geodesics import Chain, Path, on_graph, solve

    chain = Chain(points=protocol.points, steps=protocol.steps)
    found = solve(
        model.decode, start, end, chain, initial=on_graph(uniform_graph(model, z, protocol))
    )
    lines = solve(model.decode, start, end, chain)
    on_data = solve(
        model.decode,
        start,
        end,
        Path(4 * protocol.points),
        initial=on_graph(data_graph(model, z, protocol)),
    )
    return {SHORTEST: shorter(found, lines), ON_DATA: on_data}


def shorter(a: Geodesics, b: Geodesics) -> Geodesics:
    """Of two searches the shorter curve of each pair."""
    import torch

    from training.geodesics import Geodesics

    first = ~(b.length < a.length)  # also where b is nan

    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(first.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    names = ("curves", "length", "latent_length", "straight", "velocity", "residual", "steps")
    chosen: dict[str, Any] = {name: pick(getattr(a, name), getattr(b, name)) for name in names}
    texts: dict[str, Any] = {
        name: tuple(
            x if f else y
            for x, y, f in zip(getattr(a, name), getattr(b, name), first.tolist(), strict=True)
        )
        for name in ("outcome", "notes")
    }
    return Geodesics(**chosen, **texts)


def each_seed(
    context: Context,
    recipe: Recipe,
    data: DataSet,
    protocol: Protocol,
    *,
    measure: Callable[[VAE, int, Path], Mapping[str, Any]],
    nodes: Callable[[VAE, int], Tensor],
    ends: Callable[[VAE, int], tuple[Tensor, Tensor]],
    draw: Callable[[VAE, Mapping[str, Any], int], None],
    more: Callable[[VAE, Mapping[str, Any], int], Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """A model a seed, its pairs by all ways and by the thesis's network; figures of the first.

    Args:
        context: where parts are kept.
        recipe: of the model.
        data: that it is trained on.
        protocol: how much.
        measure: of a model, a seed and the part's folder, plain values with :func:`figures_of`.
        nodes: (M, 2) encoded data.
        ends: (P, 2), (P, 2).
        draw: of a model, what was measured, and a seed.
        more: of a model, what its parts depend on, and a seed: further plain values.

    Returns:
        What was measured, of each seed.
    """
    measured = []
    for seed in context.seeds:
        model, ended = trained_iwae(context, recipe, data, seed)
        key = {"trained": ended, "protocol": asdict(protocol), "seed": seed}
        found = context.part(f"geodesics-{seed}", key, partial(measure, model, seed))
        further = {} if more is None else more(model, key, seed)
        network = network_part(
            context, key, model, nodes(model, seed), ends(model, seed), drawn_pair(found)
        )
        measured.append({**found, **further, **network})
        if seed == context.seeds[0]:
            draw(model, found, seed)
    return measured


def network_part(
    context: Context,
    key: Mapping[str, Any],
    model: VAE,
    z: Tensor,
    ends: tuple[Tensor, Tensor],
    pair: int,
) -> dict[str, Any]:
    """Lengths by the thesis's solver (5.1.2) on one pair: Bézier curves, best of 8.

    Args:
        context: where it is kept.
        key: what the pairs and the model depend on, with ``seed``.
        model: whose decoder it is.
        z: (M, 2) encoded data.
        ends: (P, 2), (P, 2).
        pair: which of them.

    Returns:
        ``plain`` without Eq. 5.10 and ``smoothed`` with it.
    """
    steps, samples = _QUICK_NETWORK if context.quick else _NETWORK
    settings = {**key, "pair": pair, "steps": [steps, samples], "smoothing": _SMOOTHING}

    def compute(_: Path) -> dict[str, Any]:
        from training.geodesics import Neural, bezier, smoothing_for, solve

        solver = Neural(steps=steps, samples=samples, fit_steps=steps // 2)
        start, end = (points[[pair]] for points in ends)
        smooth = {"plain": 0.0, "smoothed": smoothing_for(model.decode, z[:500], _SMOOTHING)}
        found = {
            name: solve(
                model.decode, start, end, solver, initial=bezier(8), smoothing=value, points=256
            )
            for name, value in smooth.items()
        }
        return {name: float(geodesic.length[0]) for name, geodesic in found.items()}

    return {"network": context.part(f"network-{key['seed']}", settings, compute)}


def figures_of(found: Mapping[str, Geodesics]) -> dict[str, Any]:
    """Plain values of both kinds of geodesics, for a part's file."""
    result: dict[str, Any] = {"straight": found[SHORTEST].straight.tolist()}
    for name, curves in found.items():
        result[name] = {
            "length": curves.length.tolist(),
            "variation": curves.speed_variation.nan_to_num(0.0).tolist(),
            "converged": float(curves.converged.float().mean()),
            "residual": float(curves.residual.clamp_max(1e9).median()),
            "steps": float(curves.steps.double().mean()),
        }
    return result


def determination(x: Sequence[float], y: Sequence[float]) -> float:
    """R² of the straight line fitted to points."""
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def drawn_pair(measured: Mapping[str, Any]) -> int:
    """The pair of the figures: the largest ratio of the straight line to the shortest curve."""
    ratio = np.asarray(measured["straight"]) / np.asarray(measured[SHORTEST]["length"])
    return int(np.nanargmax(ratio))


def common_rows(
    measured: Sequence[Mapping[str, Any]], thesis: tuple[float, float], unit: str
) -> list[dict[str, Any]]:
    """Lengths of the drawn pair beside the thesis's, ratios over all pairs, velocity.

    Args:
        measured: of each seed, :func:`figures_of` and :func:`network_part`.
        thesis: its lengths of the straight line and of the geodesic.
        unit: of lengths.
    """
    rows: list[dict[str, Any]] = []
    length, pick = f"length of the drawn pair ({unit})", [drawn_pair(m) for m in measured]
    by_pair = "the pair with the largest ratio of 'shortest'"
    lines = [m["straight"][p] for m, p in zip(measured, pick, strict=True)]
    rows.append(row("straight line", length, lines, thesis[0], by_pair))
    for name in (SHORTEST, ON_DATA):
        values = [m[name]["length"][p] for m, p in zip(measured, pick, strict=True)]
        rows.append(row(NAMES[name], length, values, thesis[1]))
    for kind, note in (("plain", "Bézier, best of 8"), ("smoothed", "the same, Eq. 5.10")):
        networks = [m["network"][kind] for m in measured]
        rows.append(row(NAMES[NETWORK], length, networks, thesis[1], note))
    ratio = f"{thesis[0] / thesis[1]:.2f} (one pair)"
    for name in (SHORTEST, ON_DATA):
        quotients = [np.asarray(m["straight"]) / np.asarray(m[name]["length"]) for m in measured]
        rows.append(
            row(
                NAMES[name],
                "length of the straight line / of the geodesic, mean over pairs",
                [float(np.nanmean(q)) for q in quotients],
                ratio,
                largest=[float(np.nanmax(q)) for q in quotients],
            )
        )
        rows.append(
            row(
                NAMES[name],
                "coefficient of variation of the velocity, largest of all pairs",
                [float(np.max(m[name]["variation"])) for m in measured],
            )
        )
    converged = [m[SHORTEST]["converged"] for m in measured]
    rows.append(row(NAMES[SHORTEST], "share of searches that converged", converged))
    return rows


# --- figures


def draw_space(
    path: Path,
    model: VAE,
    z: Tensor,
    curves: Mapping[str, Tensor],
    labels: np.ndarray[Any, Any] | None = None,
    names: Sequence[str] = (),
) -> None:
    """Figures 5.1, 5.5, 5.7, 5.10: magnification factor, data, straight line, geodesics.

    Args:
        path: of the PNG.
        model: whose latent space it is.
        z: (M, 2) encoded data.
        curves: (T, 2) by name, of :data:`COLOURS`.
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

    figure, axes = new_figure(1, 1, (5.6, 5.9))
    ax = axes[0, 0]
    low, high = square(z)
    grid = magnification_grid(model, low, high)
    image = draw_magnification(ax, grid, low, high, float(np.quantile(grid, 0.98)))
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
    ax.set_title("magnification factor (grey)", fontsize=9)
    ax.tick_params(labelsize=7)
    handles, texts = ax.get_legend_handles_labels()
    figure.legend(
        handles,
        texts,
        loc="outside lower center",
        ncols=2 if labels is None else 5,
        fontsize=7,
        frameon=False,
        markerscale=2,
    )
    save_figure(figure, path)


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


def straight_curve(start: Tensor, end: Tensor, points: int = 256) -> Tensor:
    """(points, 2)."""
    from trackvae.geometry import straight_line

    return straight_line(start, end, points)

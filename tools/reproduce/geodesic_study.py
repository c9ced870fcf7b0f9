"""What figures 5.1 to 5.12 measure alike: ways between pairs of encodings, on one model.

- the straight line in the latent space;
- the *shortest* curve of all, by the continuous solver, begun on a graph whose nodes are uniform;
- the shortest one *on the data*: on a graph whose nodes are encodings of training data and whose
  edges cost their Riemannian length (the thesis's own remedy, 5.1.5);
- the shortest of all where the decoder's variance counts too
  (:mod:`tools.reproduce.geodesic_variance`).

The first two geodesics differ wherever the decoder fades from one observation to another by a way
that no observation took: a chord is shorter than its arc. Lengths are those of Eq. 5.5, in the
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
from tools.reproduce.flatness import uniform_nodes
from tools.reproduce.geodesic_models import Recipe, trained_iwae
from tools.reproduce.geodesic_variance import (
    FULL_SEARCH,
    QUICK_SEARCH,
    VARIANCE,
    VARIANCE_NAME,
    variance_decoder,
    variance_part,
    variance_rows,
    variance_ways,
)

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.geometry import Decoder
    from trackvae.vae import VAE
    from training.data import DataSet
    from training.geodesics import Geodesics, Graph, Uncertainty

SHORTEST, ON_DATA, NETWORK = "shortest", "on the data", "thesis's network"
NAMES = {
    SHORTEST: "geodesic, shortest of all",
    ON_DATA: "geodesic on the data",
    NETWORK: "geodesic by the thesis's network",
    VARIANCE: VARIANCE_NAME,
}
COLOURS = {
    "straight": "black",
    SHORTEST: "#1f77b4",
    ON_DATA: "#d62728",
    NETWORK: "#2ca02c",
    VARIANCE: "#ff9900",
}


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


def uniform_graph(decoder: Decoder, z: Tensor, protocol: Protocol, every: int = 2) -> Graph:
    """The same with nodes uniform over the bounding box of encoded data, and half of these."""
    import torch

    from training.geodesics import neighbour_graph, riemannian

    nodes = torch.cat([uniform_nodes(z, protocol.nodes, 0), z[::every]])
    return neighbour_graph(nodes, protocol.neighbours, riemannian(decoder)).bridged()


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
    graph = uniform_graph(model.decode, z, protocol)
    found = solve(model.decode, start, end, chain, initial=on_graph(graph))
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
    seen: Callable[[int], np.ndarray[Any, Any]],
    ends: Callable[[VAE, int], tuple[Tensor, Tensor]],
    draw: Callable[[VAE, Mapping[str, Any], int], None],
    more: Callable[[VAE, Mapping[str, Any], int], Mapping[str, Any]] | None = None,
    also: Callable[[VAE, Geodesics], Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """A model a seed, its pairs by all ways and by the thesis's network; figures of the first.

    Args:
        context: where parts are kept.
        recipe: of the model.
        data: that it is trained on.
        protocol: how much.
        measure: of a model, a seed and the part's folder, plain values with :func:`figures_of`.
        nodes: (M, 2) encoded data.
        seen: of a seed, what was encoded, (M, *event).
        ends: (P, 2), (P, 2).
        draw: of a model, what was measured, and a seed.
        more: of a model, what its parts depend on, and a seed: further plain values.
        also: of a model and the curves by the metric with the variance: the same of these.

    Returns:
        What was measured, of each seed.
    """
    measured = []
    for seed in context.seeds:
        model, ended = trained_iwae(context, recipe, data, seed)
        key = {"trained": ended, "protocol": asdict(protocol), "seed": seed}
        found = context.part(f"geodesics-{seed}", key, partial(measure, model, seed))
        further = {} if more is None else more(model, key, seed)
        z, pairs = nodes(model, seed), ends(model, seed)
        network = network_part(context, key, model, z, pairs, drawn_pair(found))
        variance = variance_part(
            context,
            key,
            model,
            (z, seen(seed)),
            pairs,
            partial(uniform_graph, z=z, protocol=protocol, every=1),
            (lambda _: {}) if also is None else partial(also, model),
        )
        measured.append({**found, **further, **network, **variance})
        if seed == context.seeds[0]:
            draw(model, measured[-1], seed)
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
        measured: of each seed, :func:`figures_of`, :func:`network_part` and
            :func:`tools.reproduce.geodesic_variance.variance_part`.
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
    for kind, how in (("plain", "Bézier, best of 8"), ("smoothed", "the same and Eq. 5.10")):
        networks = [m["network"][kind] for m in measured]
        rows.append(row(f"{NAMES[NETWORK]} ({how})", length, networks, thesis[1]))
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
    return rows + variance_rows(measured, pick, thesis, unit)


def drawn_curves(
    model: VAE,
    seen: tuple[Tensor, np.ndarray[Any, Any]],
    ends: tuple[Tensor, Tensor],
    protocol: Protocol,
) -> tuple[dict[str, Tensor], Uncertainty]:
    """The straight line and the three geodesics of one pair, (256, 2) each, and sigma.

    Args:
        model: whose latent space it is.
        seen: (M, 2) encodings, (M, *event) what they are of.
        ends: (1, 2), (1, 2).
        protocol: how much.
    """
    from trackvae.geometry import straight_line

    z, start, end = seen[0], *ends
    curves = {"straight": straight_line(start[0], end[0], 256)}
    curves |= {name: g.curves[0] for name, g in ways(model, z, start, end, protocol).items()}
    decoder, known = variance_decoder(model, *seen)
    graph = uniform_graph(decoder, z, protocol, every=1)
    search = QUICK_SEARCH if protocol == QUICK else FULL_SEARCH
    curves[VARIANCE] = variance_ways(decoder, graph, start, end, search).curves[0]
    return curves, known

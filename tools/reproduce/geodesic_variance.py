"""Figures 5.1 to 5.12 by the metric that counts the decoder's variance, which grows off the data.

The fourth kind of path: the shortest of all under ``J_mu^T J_mu + J_sigma^T J_sigma``
(:mod:`training.geodesics.uncertainty`). How long a way off the data is by that metric depends on
how large sigma becomes there, which no data tell; so every path has its length by the mean alone
beside it, which is what the thesis's figures are, and medians stand beside means of ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tools.reproduce.experiment import Context, row

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.geometry import Decoder
    from trackvae.vae import VAE
    from training.geodesics import Geodesics, Graph

# how sigma is settled; kept parts are of these rules
SIGMA = (
    "centres: the most whose ripple is below a twentieth of the length; "
    "far: half the diameter above sigma on the data"
)
VARIANCE = "with variance"
VARIANCE_NAME = "geodesic, with the decoder's variance"
STRAIGHT_NAME = "straight line"
GraphOf: TypeAlias = "Callable[[Decoder], Graph]"


@dataclass(frozen=True)
class Search:
    """The solver: a spline, since the data are a narrow valley of this metric.

    A chain of as many points as other figures have (64) puts them where sigma is low and leaves
    what is between them out: its curves came out up to 1.25 times as long as the graph's (robot
    arm), the spline's are shorter than these.

    Attributes:
        knots: of it.
        points: at which the energy is taken.
        steps: at most.
    """

    knots: int = 16
    points: int = 128
    steps: int = 80


FULL_SEARCH, QUICK_SEARCH = Search(), Search(8, 48, 15)


def variance_decoder(model: VAE, z: Tensor, x: np.ndarray[Any, Any]) -> tuple[Decoder, Any]:
    """The decoder with its sigma as a further output, and the :class:`Uncertainty` of it.

    Args:
        model: whose decoder it is.
        z: (M, 2) encodings of training data.
        x: (M, *event) these data.
    """
    import torch

    from training.geodesics import fit_uncertainty, with_variance

    known = fit_uncertainty(model.decode, z, torch.from_numpy(x))
    return with_variance(model.decode, known), known


def variance_ways(
    decoder: Decoder, graph: Graph, start: Tensor, end: Tensor, search: Search
) -> Geodesics:
    """The shortest curves, begun on a graph's paths or straight lines, whichever are shorter.

    Args:
        decoder: with its sigma.
        graph: whose edges cost their length by it, in one part.
        start: (P, 2).
        end: (P, 2).
        search: how.
    """
    from training.geodesics import Spline, either, on_graph, solve, straight

    spline = Spline(search.knots, search.points, search.steps)
    initial = either(on_graph(graph), straight)
    return solve(decoder, start, end, spline, initial=initial, points=256)


def variance_part(
    context: Context,
    key: Mapping[str, Any],
    model: VAE,
    seen: tuple[Tensor, np.ndarray[Any, Any]],
    ends: tuple[Tensor, Tensor],
    graph_of: GraphOf,
    also: Callable[[Geodesics], Mapping[str, Any]],
) -> dict[str, Any]:
    """Plain values of the curves between all pairs.

    Args:
        context: where they are kept.
        key: what the pairs and the model depend on, with ``seed``.
        model: whose decoder it is.
        seen: (M, 2) encodings, (M, *event) what they are of.
        ends: (P, 2), (P, 2).
        graph_of: a decoder's graph.
        also: further plain values of the curves.
    """
    search = QUICK_SEARCH if context.quick else FULL_SEARCH

    def compute(_: Path) -> dict[str, Any]:
        from trackvae.geometry import riemannian_length

        decoder, known = variance_decoder(model, *seen)
        found = variance_ways(decoder, graph_of(decoder), *ends, search)
        scale = known.outputs**0.5
        return {
            "length": found.length.tolist(),
            "straight": found.straight.tolist(),
            "mean_length": riemannian_length(model.decode, found.curves).tolist(),
            "variation": found.speed_variation.nan_to_num(0.0).tolist(),
            "converged": float(found.converged.float().mean()),
            "residual": float(found.residual.clamp_max(1e9).median()),
            "steps": float(found.steps.double().mean()),
            "centres": len(known.centres),
            "sigma": {
                "on the data": scale * float(known.sigma(seen[0]).median()),
                "far from them": scale * float(known.floor.rsqrt()),
            },
            **also(found),
        }

    settings = {**key, "search": asdict(search), "sigma": SIGMA}
    return {VARIANCE: context.part(f"variance-{key['seed']}", settings, compute)}


def variance_rows(
    measured: Sequence[Mapping[str, Any]],
    pick: Sequence[int],
    thesis: tuple[float, float],
    unit: str,
) -> list[dict[str, Any]]:
    """Lengths of the drawn pair by both metrics, ratios in each, velocity, convergence.

    Args:
        measured: of each seed, with :func:`variance_part`.
        pick: the drawn pair of each.
        thesis: its lengths of the straight line and of the geodesic.
        unit: of lengths.
    """
    ours = [m[VARIANCE] for m in measured]
    chosen = list(zip(measured, ours, pick, strict=True))
    length = f"length of the drawn pair ({unit})"
    counted = f"length of the drawn pair with the variance ({unit})"
    by_mean = [np.asarray(m["straight"]) / np.asarray(v["mean_length"]) for m, v, _ in chosen]
    by_both = [np.asarray(v["straight"]) / np.asarray(v["length"]) for v in ours]
    ratio = "length of the straight line / of the geodesic"
    one = f"{thesis[0] / thesis[1]:.2f} (one pair)"
    centres = ", ".join(str(v["centres"]) for v in ours)
    sigma = {f"sigma {where}": [v["sigma"][where] for v in ours] for where in ours[0]["sigma"]}

    def line(metric: str, values: Sequence[float], told: Any = None, note: str = "") -> None:
        rows.append(row(VARIANCE_NAME, metric, values, told, note))

    rows: list[dict[str, Any]] = []
    note = "by the mean alone, as the rows above; found by the metric with the variance"
    line(length, [v["mean_length"][p] for _, v, p in chosen], thesis[1], note)
    lines = [v["straight"][p] for _, v, p in chosen]
    rows.append(row(STRAIGHT_NAME, counted, lines, None, f"centres: {centres}", **sigma))
    line(counted, [v["length"][p] for _, v, p in chosen])
    line(f"{ratio}, mean over pairs", [float(np.nanmean(q)) for q in by_mean], one, note)
    for name, summary in (("mean", np.nanmean), ("median", np.nanmedian)):
        values = [float(summary(q)) for q in by_both]
        line(f"{ratio}, both with the variance, {name} over pairs", values, one)
    variation = [float(np.max(v["variation"])) for v in ours]
    line("coefficient of variation of the velocity with sigma, largest of all pairs", variation)
    line("share of searches that converged", [v["converged"] for v in ours])
    return rows

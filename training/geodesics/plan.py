"""A movement from one observation to another: the geodesic between their encodings, decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trackvae.errors import InputError, UsageError
from trackvae.geometry import Decoder, segment_lengths, velocity
from trackvae.vae import VAE, Prior
from training.geodesics.curves import Geodesics, constant_speed
from training.geodesics.energy import smoothing_for
from training.geodesics.graph import Graph, neighbour_graph, riemannian
from training.geodesics.neural import Neural
from training.geodesics.relax import Chain, Spline
from training.geodesics.solve import (
    Initial,
    Path,
    Solver,
    bezier,
    either,
    on_graph,
    solve,
    straight,
)
from training.geodesics.uncertainty import fit_uncertainty, with_variance

Method = Literal["data", "variance", "shortest", "spline", "network"]
METHODS: tuple[Method, ...] = ("data", "variance", "shortest", "spline", "network")
_FAR = 4.0  # times the nodes' own largest usual distance, beyond which an end is off the manifold
_USUAL = 0.99  # quantile
_POINTS, _FINE = 64, 256
_KNOTS = 16
_POOR = 5.0  # times the likelihood's sigma


@dataclass(frozen=True)
class PlanOptions:
    """How a movement is planned.

    Attributes:
        method: ``data``: on the graph of encoded data, or of samples of the prior, whose edges cost
            their Riemannian length: the movement keeps to what was seen; ``variance``: the
            shortest curve where the decoder's variance counts, which grows off the data (needs
            them): it keeps to what was seen too, without the corners of a graph; ``shortest``: the
            shortest curve of all, from that path; ``spline``: the same with few knots;
            ``network``: the thesis's (5.1.2), from Bézier curves.
        nodes: of the graph, at most.
        neighbours: of its nodes.
        smoothing: lambda_s of Eq. 5.10, as a multiple of the metric at the nodes; 0: none. Of all
            methods but ``data``.
        seed: of the samples and networks.
    """

    method: Method = "data"
    nodes: int = 2_000
    neighbours: int = 12
    smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.method not in METHODS:
            raise UsageError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.nodes < 2 or self.neighbours < 1:
            raise UsageError(
                f"{self.nodes} nodes and {self.neighbours} neighbours, expected at least 2 and 1"
            )
        if not 0 <= self.smoothing < float("inf"):
            raise UsageError(f"smoothing is {self.smoothing}, expected 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """A planned movement of T steps.

    Attributes:
        latents: (T, D_z), the geodesic at constant speed.
        observations: (T, *event), decoded; the first and last are reconstructions of the ends.
        velocity: (T - 1,) phi(t) of Eq. 5.5 at the middles of the steps.
        geodesic: all that is known of the search, of one pair; of the method ``variance`` its
            lengths and velocity count the variance, the movement's velocity does not.
        nodes: (N, D_z) of the graph.
        notes: lines for people: what is to be doubted; empty if nothing.
    """

    latents: Tensor
    observations: Tensor
    velocity: Tensor
    geodesic: Geodesics
    nodes: Tensor
    notes: tuple[str, ...]


def plan_movement(
    model: VAE,
    start: Tensor,
    goal: Tensor,
    steps: int,
    data: Tensor | None = None,
    options: PlanOptions | None = None,
) -> Movement:
    """Plan a movement between two observations.

    Args:
        model: in evaluation mode; its weights are left as they are.
        start: an observation, (*event).
        goal: another.
        steps: T of the movement, both ends included.
        data: observations (N, *event) whose encodings are the graph's nodes; samples of the prior
            where left out.
        options: how.

    Raises:
        InputError: observations that are not finite; ends that the graph does not join, with the
            parts that they lie in; a decoder that is not finite on the way.
        UsageError: fewer than two steps, options that mean nothing, or the method ``variance``
            without data.
    """
    options = options or PlanOptions()
    if steps < 2:
        raise UsageError(f"a movement of {steps} step(s), expected at least 2")
    if options.method == "variance" and data is None:
        raise UsageError("the method variance needs the data that the model was trained on")
    ends = torch.stack([start, goal])
    if not ends.isfinite().all():
        raise InputError("start or goal holds NaN or infinity")
    with torch.no_grad():
        z = model.encode(ends).mean  # (2, D)
    seen = None if data is None else _spread(data, options.nodes)
    nodes = _nodes(model, seen, options)
    decoder: Decoder = model.decode
    if options.method == "variance" and seen is not None:
        decoder = with_variance(decoder, fit_uncertainty(decoder, nodes, seen, seed=options.seed))
    graph = neighbour_graph(nodes, options.neighbours, riemannian(decoder))
    found = _solved(decoder, graph, z, options)
    state, said = found.outcome[0], found.notes[0]
    if state in ("no path", "not finite"):
        raise InputError(f"no movement from start to goal: {said}")
    notes = [*_off_manifold(model, graph, z, ends), *([said] if said else [])]
    at = torch.linspace(0, found.curves.shape[1] - 1, steps, dtype=torch.float64)
    with torch.no_grad():
        curve = _at(_even(model, found.curves, options.method)[0], at)
        decoded = model.decode(curve)
        speed = velocity(model.decode, curve[None], by="distance")[0]
    return Movement(curve, decoded, speed, found, nodes, tuple(notes))


def _spread(data: Tensor, count: int) -> Tensor:
    """So many observations, evenly over all."""
    return data[torch.linspace(0, len(data) - 1, min(count, len(data))).round().long()]


def _nodes(model: VAE, seen: Tensor | None, options: PlanOptions) -> Tensor:
    """Encoded data, or samples of the prior."""
    with torch.no_grad():
        if seen is None:
            prior: Prior = model.prior  # type: ignore[assignment]
            return prior.sample(options.nodes, torch.Generator().manual_seed(options.seed))
        return torch.cat([model.encode(part).mean for part in torch.split(seen, 512)])


def _even(model: VAE, curves: Tensor, method: Method) -> Tensor:
    """Curves at constant speed of what is decoded; with a variance they have another's."""
    if method != "variance":
        return curves
    return constant_speed(curves, curves.shape[1], segment_lengths(model.decode, curves))


def _solved(decoder: Decoder, graph: Graph, z: Tensor, options: PlanOptions) -> Geodesics:
    """The geodesic by the method that is asked for; finely cut, so that steps can be even."""
    solvers: dict[str, Solver] = {
        "data": Path(_FINE),
        "variance": Spline(_KNOTS, 2 * _POINTS),  # a narrow valley, which a chain cuts short
        "shortest": Chain(points=_POINTS),
        "spline": Spline(points=_POINTS),
        "network": Neural(points=_POINTS, samples=200, steps=400, seed=options.seed),
    }
    initial: Initial = on_graph(graph)
    if options.method == "network":
        initial = bezier(8, seed=options.seed)
    elif options.method == "variance":
        initial = either(initial, straight)
    smoothed = options.smoothing > 0 and options.method != "data"
    return solve(
        decoder,
        z[0],
        z[1],
        solvers[options.method],
        initial=initial,
        smoothing=smoothing_for(decoder, graph.nodes, options.smoothing) if smoothed else 0.0,
        points=_FINE,
    )


def _at(curve: Tensor, places: Tensor) -> Tensor:
    """Points of a polygon (T', D) at fractional places (T,)."""
    before = places.floor().long().clamp(0, len(curve) - 2)
    share = (places - before).to(curve)[:, None]
    return torch.lerp(curve[before], curve[before + 1], share)


def _off_manifold(model: VAE, graph: Graph, z: Tensor, ends: Tensor) -> list[str]:
    """A line for each end that the model does not know."""
    nearest = torch.cdist(z, graph.nodes).amin(1)
    sample = graph.nodes[:: max(1, len(graph.nodes) // 500)]
    usual = torch.cdist(sample, graph.nodes).topk(2, largest=False).values[:, 1]
    most = _FAR * float(torch.quantile(usual, _USUAL))
    with torch.no_grad():
        error = (model.decode(z) - ends).flatten(1).square().mean(1).sqrt()
    sigma = getattr(model.likelihood, "sigma", None)
    notes = []
    for number, name in enumerate(("start", "goal")):
        if float(nearest[number]) > most:
            notes.append(
                f"the {name} is off the manifold: {float(nearest[number]):.3g} from the nearest "
                f"node, which usually have another within {most / _FAR:.2g}"
            )
        if sigma is not None and float(error[number]) > _POOR * float(sigma):
            notes.append(
                f"the {name} is not what the model decodes: root mean squared error "
                f"{float(error[number]):.3g}, the likelihood's sigma {float(sigma):.3g}"
            )
    return notes

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
from training.geodesics.graph import Graph, interpolate, neighbour_graph, riemannian
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
        method: by which it was found.
    """

    latents: Tensor
    observations: Tensor
    velocity: Tensor
    geodesic: Geodesics
    nodes: Tensor
    notes: tuple[str, ...]
    method: Method

    @property
    def ended(self) -> str:
        """How the search ended; of a path on the graph there is nothing to converge."""
        outcome = self.geodesic.outcome[0]
        return "on the graph" if self.method == "data" and outcome == "converged" else outcome


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
        data: observations (N, *event) whose encodings are the graph's nodes, in the units of start
            and goal; samples of the prior where left out.
        options: how.

    Raises:
        InputError: observations that are not finite; ends that the graph does not join, with the
            parts that they lie in; a model that is not finite there or on the way; too few data
            for the method ``variance``.
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
    _check_finite(model, z, nodes)
    decoder: Decoder = model.decode
    if options.method == "variance" and data is not None and seen is not None:
        decoder = _with_variance(decoder, nodes, seen, len(data), options)
    graph = neighbour_graph(nodes, options.neighbours, riemannian(decoder))
    found = _solved(decoder, graph, z, options)
    state, said = found.outcome[0], found.notes[0]
    if state in ("no path", "not finite"):
        raise InputError(f"no movement from start to goal: {said}")
    notes = _off_manifold(model, graph, z, ends, standardised=data is None and start.ndim == 1)
    notes += [said] if said else []
    notes += _coarse(graph, z) if options.method == "data" else []
    at = torch.linspace(0, found.curves.shape[1] - 1, steps, dtype=torch.float64)
    with torch.no_grad():
        curve = _at(_even(model, found.curves, options.method)[0], at)
        decoded = model.decode(curve)
        speed = velocity(model.decode, curve[None], by="distance")[0]
    return Movement(curve, decoded, speed, found, nodes, tuple(notes), options.method)


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


def _check_finite(model: VAE, z: Tensor, nodes: Tensor) -> None:
    """Refuse a model that gives NaN or infinity where the search begins.

    Raises:
        InputError: for the ends (2, D), or for the nodes.
    """
    with torch.no_grad():
        for number, name in enumerate(("start", "goal")):
            if not z[number].isfinite().all():
                raise InputError(f"the {name} has no finite encoding")
            if not model.decode(z[[number]]).isfinite().all():
                raise InputError(f"the {name}: the decoder is not finite at its encoding")
        bad = sum(int((~_finite(model, part)).sum()) for part in torch.split(nodes, 512))
    if bad:
        raise InputError(f"the model is not finite at {bad} of {len(nodes)} nodes of the graph")


def _finite(model: VAE, z: Tensor) -> Tensor:
    """(N,) whether encodings and what they are decoded to are finite."""
    return z.isfinite().all(1) & model.decode(z).flatten(1).isfinite().all(1)


def _with_variance(
    decoder: Decoder, nodes: Tensor, seen: Tensor, count: int, options: PlanOptions
) -> Decoder:
    """The decoder with its sigma, fitted to the nodes.

    Raises:
        InputError: these do not bear it.
    """
    try:
        known = fit_uncertainty(decoder, nodes, seen, seed=options.seed)
    except InputError as error:
        raise InputError(
            f"the variance cannot be fitted to {len(seen)} of the {count} examples of --data "
            f"(--nodes {options.nodes}): {error}"
        ) from error
    return with_variance(decoder, known)


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


def _usual(graph: Graph) -> float:
    """How far the nearest other node usually is, at most."""
    sample = graph.nodes[:: max(1, len(graph.nodes) // 500)]
    nearest = torch.cdist(sample, graph.nodes).topk(2, largest=False).values[:, 1]
    return float(torch.quantile(nearest, _USUAL))


def _coarse(graph: Graph, z: Tensor) -> list[str]:
    """A line where a path on the graph has hardly any node to keep to; z: its ends, (2, D)."""
    (path,) = interpolate(graph, z[:1], z[1:])
    if path is None or torch.equal(z[0], z[1]):
        return []
    if len(path.points) == 2:
        return ["the graph is too coarse here: no node lies between start and goal"]
    longest = float(torch.linalg.vector_norm(path.points.diff(dim=0), dim=1).max())
    first, second = graph.nodes[torch.from_numpy(graph.edges.T.copy())]
    middle = torch.linalg.vector_norm(second - first, dim=1).median()
    usual = max(_usual(graph), float(middle))  # of 12 neighbours on a line some are 6 nodes away
    if longest <= _FAR * usual:
        return []
    return [
        f"the graph is too coarse here: one of the way's edges is {longest:.3g} long, where "
        f"{usual:.2g} is usual"
    ]


def _off_manifold(
    model: VAE, graph: Graph, z: Tensor, ends: Tensor, *, standardised: bool
) -> list[str]:
    """A line for each end that the model does not know."""
    nearest = torch.cdist(z, graph.nodes).amin(1)
    usual = _usual(graph)
    with torch.no_grad():
        error = (model.decode(z) - ends).flatten(1).square().mean(1).sqrt()
    sigma = getattr(model.likelihood, "sigma", None)
    units = "; without --data its numbers are taken as standardised" if standardised else ""
    notes = []
    for number, name in enumerate(("start", "goal")):
        if float(nearest[number]) > _FAR * usual:
            notes.append(
                f"the {name} is off the manifold: {float(nearest[number]):.3g} from the nearest "
                f"node, which usually have another within {usual:.2g}"
            )
        if sigma is not None and float(error[number]) > _POOR * float(sigma):
            notes.append(
                f"the {name} is not what the model decodes: root mean squared error "
                f"{float(error[number]):.3g}, the likelihood's sigma {float(sigma):.3g}{units}"
            )
    return notes

"""Geodesics between pairs of points: where to begin, which solver, what came of it.

    found = solve(decoder, start, end, Chain(), initial=on_graph(graph))

A search that fails is a result that says so (:attr:`Geodesics.outcome`), never a silent straight
line. What cannot be meant (points of another size, NaN) is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from trackvae.errors import InputError, UsageError
from trackvae.geometry import Decoder, straight_line
from training.geodesics.curves import (
    Geodesics,
    Outcome,
    bezier_curves,
    constant_speed,
    measured,
)
from training.geodesics.energy import Energy, energy_of
from training.geodesics.graph import Graph, interpolate
from training.geodesics.relax import Chain, Relaxed, best_candidates
from training.geodesics.search import why_no_path

_POINTS = 64
_LONGER = 1e-3  # of a length: less is a matter of how finely curves are cut
_ROUNDING = 16  # units in the last place of the observation, a segment


class Solver(Protocol):
    """What makes curves shorter: :class:`Chain`, :class:`Spline`, :class:`Neural`."""

    @property
    def points(self) -> int:
        """T of the curves that it takes."""
        ...

    def relax(self, energy: Energy, candidates: Tensor) -> Relaxed:
        """The best of N candidates of each pair, (N, P, T, D), made shorter."""
        ...


class Beginning(NamedTuple):
    """Curves that a solver begins with.

    Attributes:
        candidates: (N, P, T, D), N for each pair; nan where there is none.
        notes: P lines on pairs for which there is none, empty for the others.
    """

    candidates: Tensor
    notes: tuple[str, ...]


Initial: TypeAlias = Callable[[Tensor, Tensor, int], Beginning]
"""Ends (P, D), (P, D) and a number of points to curves to begin with."""


def straight(start: Tensor, end: Tensor, points: int) -> Beginning:
    """Begin with the straight line."""
    return Beginning(straight_line(start, end, points)[None], ("",) * len(start))


def bezier(count: int = 16, controls: int = 3, seed: int = 0) -> Initial:
    """Begin with the straight line and random Bézier curves, and take the best (5.1.2.3).

    Args:
        count: of the Bézier curves.
        controls: their inner control points.
        seed: of these.
    """

    def begin(start: Tensor, end: Tensor, points: int) -> Beginning:
        generator = torch.Generator().manual_seed(seed)
        drawn = bezier_curves(
            start, end, points, controls=controls, count=count, generator=generator
        )
        lines = straight_line(start, end, points)[None]
        return Beginning(torch.cat([lines, drawn]), ("",) * len(start))

    return begin


def on_graph(graph: Graph) -> Initial:
    """Begin with the shortest path on a graph, in steps that cost the same.

    In equal latent steps few points would lie where the decoder changes fast.
    """

    def begin(start: Tensor, end: Tensor, points: int) -> Beginning:
        curves, notes = [], []
        for path, a, b in zip(interpolate(graph, start, end), start, end, strict=True):
            if path is None:
                curves.append(start.new_full((points, start.shape[1]), torch.nan))
                notes.append(why_no_path(graph, a, b))
                continue
            curves.append(_even_path(graph, path.points, points).to(start))
            notes.append("")
        return Beginning(torch.stack(curves)[None], tuple(notes))

    return begin


def either(*ways: Initial) -> Initial:
    """Begin with whichever of several beginnings is the shortest, pair by pair."""

    def begin(start: Tensor, end: Tensor, points: int) -> Beginning:
        found = [way(start, end, points) for way in ways]
        notes = [
            next((note for note in said if note), "")
            for said in zip(*(b.notes for b in found), strict=True)
        ]
        return Beginning(torch.cat([b.candidates for b in found]), tuple(notes))

    return begin


def _even_path(graph: Graph, path: Tensor, points: int) -> Tensor:
    """A path (T', D) as (points, D), in steps that cost the same by the graph's own cost."""
    if len(path) < 2:
        return path.expand(points, -1)
    costs = graph.cost(path[:-1], path[1:]).detach()
    return constant_speed(path[None], points, costs[None])[0]


def solve(
    decoder: Decoder,
    start: Tensor,
    end: Tensor,
    solver: Solver | None = None,
    *,
    initial: Initial = straight,
    smoothing: float = 0.0,
    points: int | None = None,
) -> Geodesics:
    """Geodesics between P pairs of latent points, all at once.

    Args:
        decoder: ``z (N, D) -> x (N, ...)``; its weights should take no gradient.
        start: (P, D), or (D,) for one pair.
        end: the same shape.
        solver: how curves are made shorter; :class:`Chain` where left out. A
            :class:`Path` takes the initial ones as they are: a graph's shortest paths, say.
        initial: what to begin with: :func:`straight`, :func:`bezier`, :func:`on_graph`.
        smoothing: lambda_s of Eq. 5.10 for what is minimised
            (:func:`training.geodesics.energy.smoothing_for`); the lengths of the result are those
            of the metric tensor itself.
        points: of the curves in the result; the solver's where left out.

    Raises:
        InputError: points that are not finite.
        UsageError: a smoothing below 0, or settings of the solver that mean nothing.
    """
    solver = Chain() if solver is None else solver
    start, end = _pairs(start, end)
    energy = energy_of(decoder, smoothing)
    beginning = initial(start, end, solver.points)
    found = _relaxed(energy, beginning, solver)
    _pin(found.curves, start, end)
    outcome, notes = _judge(energy, found, beginning, start, end)
    result = measured(
        decoder,
        found.curves,
        found.residual,
        found.steps,
        outcome,
        notes,
        points=solver.points if points is None else points,
    )
    return result if isinstance(solver, Path) else _compared(result)


def _compared(result: Geodesics) -> Geodesics:
    """A note where the straight line is shorter: what was found is a shortest curve near by."""
    longer = result.length > (1 + _LONGER) * result.straight
    said = "the straight line is shorter: this is the shortest curve near where the search began"
    notes = [
        "; ".join(part for part in (note, said if more else "") if part)
        for note, more in zip(result.notes, longer.tolist(), strict=True)
    ]
    return replace(result, notes=tuple(notes))


def _pairs(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    start, end = (p[None] if p.ndim == 1 else p for p in (start.detach(), end.detach()))
    if start.ndim != 2 or start.shape != end.shape or start.shape[0] == 0:
        raise ValueError(
            f"start {tuple(start.shape)} and end {tuple(end.shape)}, expected (P, D), P > 0"
        )
    for name, points in (("start", start), ("end", end)):
        if not points.isfinite().all():
            raise InputError(f"a {name} point holds NaN or infinity")
    return start, end


def _relaxed(energy: Energy, beginning: Beginning, solver: Solver) -> Relaxed:
    """Only pairs that have a curve to begin with are given to the solver."""
    candidates = beginning.candidates
    known = candidates.isfinite().all(-1).all(-1).all(0)  # (P,)
    if known.all():
        return solver.relax(energy, candidates)
    pairs = len(known)
    whole = Relaxed(
        torch.full_like(candidates[0], torch.nan),
        candidates.new_full((pairs,), torch.inf),
        torch.zeros(pairs, dtype=torch.long),
        torch.zeros(pairs, dtype=torch.bool),
        torch.ones(pairs, dtype=torch.bool),
    )
    if known.any():
        some = solver.relax(energy, candidates[:, known])
        for mine, theirs in zip(whole, some, strict=True):
            mine[known] = theirs
    return whole


def _pin(curves: Tensor, start: Tensor, end: Tensor) -> None:
    """The ends to the last bit; a curve between equal ends is that point."""
    known = curves.isfinite().all(-1).all(-1)
    curves[known, 0], curves[known, -1] = start[known], end[known]
    same = (start == end).all(-1)
    curves[same] = start[same][:, None]


def _judge(
    energy: Energy, found: Relaxed, beginning: Beginning, start: Tensor, end: Tensor
) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
    """How each search ended, and a line where there is something to say."""
    with torch.no_grad():
        x = energy.decoder(start).flatten(1)
        change = energy.squares(found.curves.nan_to_num()).sum(-1).sqrt()
    segments = found.curves.shape[1] - 1
    rounding = _ROUNDING * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(x, dim=-1)
    states: list[Outcome] = []
    notes: list[str] = []
    for pair, said in enumerate(beginning.notes):
        if torch.equal(start[pair], end[pair]):
            state, note = "same point", "start and goal are one point: the geodesic has no length"
        elif said or not found.curves[pair].isfinite().all():
            state, note = "no path", said or "there is no curve to begin with"
        elif not (bool(found.finite[pair]) and bool(change[pair].isfinite())):
            state = "not finite"
            note = "the decoder or its Jacobian is not finite along the curve"
        elif float(change[pair]) <= float(rounding[pair]) * segments**0.5:
            state = "no change"
            note = "the decoder does not change along the curve: any other is as short"
        elif bool(found.converged[pair]):
            state, note = "converged", ""
        else:
            state = "not converged"
            note = (
                f"stopped after {int(found.steps[pair])} steps with a residual of "
                f"{float(found.residual[pair]):.2g}; the curve is the best that was found"
            )
        states.append(state)  # type: ignore[arg-type]
        notes.append(note)
    return tuple(states), tuple(notes)


class Path:
    """No solver at all: the best initial curve as it is, e.g. a graph's shortest path."""

    def __init__(self, points: int = _POINTS) -> None:
        """Take curves of so many points.

        Raises:
            UsageError: fewer than two.
        """
        if points < 2:
            raise UsageError(f"a curve of {points} point(s), expected at least 2")
        self.points = points

    def relax(self, energy: Energy, candidates: Tensor) -> Relaxed:
        """The candidate of least energy, which nobody made shorter."""
        curves = best_candidates(energy, candidates)
        pairs = len(curves)
        return Relaxed(
            curves,
            curves.new_zeros(pairs),
            torch.zeros(pairs, dtype=torch.long),
            torch.ones(pairs, dtype=torch.bool),
            curves.isfinite().all(-1).all(-1),
        )

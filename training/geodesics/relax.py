"""Curves that relax to geodesics: all pairs at once, by damped steps of Gauss and Newton.

A curve is the straight line between its ends plus weighted basis functions that vanish there, so it
meets them exactly: every inner point its own (:class:`Chain`), or natural cubic splines
(:class:`Spline`). A step divides the gradient of the energy by the stiffness of the curve,
``sum_t (b_{t+1} - b_t)(b_{t+1} - b_t)^T (x) G_t``: the Hessian without the change of G along the
curve, always positive. Each pair has a damping of its own (Levenberg and Marquardt), and a step
that does not lower a pair's energy is not made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trackvae.errors import UsageError
from trackvae.geometry import straight_line
from training.geodesics.curves import constant_speed, spline_basis
from training.geodesics.energy import Energy

Stiffness = Literal["metric", "laplacian"]
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-7, 1e8  # of the stiffness's diagonal
_SMALL_DAMPING = 1e-2  # up to which the forecast is that of a whole step
_EASE, _STIFFEN = 0.3, 4.0
_LARGEST = 1_024  # unknowns a pair, beyond which their matrix is not formed


class Relaxed(NamedTuple):
    """Curves after relaxation.

    Attributes:
        curves: (P, T, D).
        residual: (P,) share of the energy that the next step would win, by its own forecast.
        steps: (P,) steps that each pair made.
        converged: (P,).
        finite: (P,) whether energy and gradient were finite where the search began.
    """

    curves: Tensor
    residual: Tensor
    steps: Tensor
    converged: Tensor
    finite: Tensor


@dataclass(frozen=True)
class Chain:
    """Every inner point moves: the discrete geodesic itself.

    Attributes:
        points: T of the curve.
        steps: at most so many.
        tolerance: of the residual: the share of the energy that a full step would still win. The
            length is off by half of it, where the forecast is right.
        stiffness: ``metric``: G at the middles, one Jacobian a step (D tangents); ``laplacian``: G
            taken for a multiple of 1, no Jacobian at all, many more steps.
    """

    points: int = 64
    steps: int = 100
    tolerance: float = 1e-5
    stiffness: Stiffness = "metric"

    def relax(self, energy: Energy, candidates: Tensor) -> Relaxed:
        """Shorten the best of N curves of each pair, (N, P, T, D); their ends stay."""
        eye = torch.eye(self.points, dtype=candidates.dtype, device=candidates.device)
        return _relax(energy, candidates, eye[:, 1:-1], self)


@dataclass(frozen=True)
class Spline:
    """Few knots move, the curve between them is a natural cubic spline: smooth by itself.

    Attributes:
        knots: inner ones; a curve that turns more often than there are knots cannot be followed.
        points: T at which the energy is taken.
        steps: as of :class:`Chain`.
        tolerance: the same.
        stiffness: the same.
    """

    knots: int = 12
    points: int = 64
    steps: int = 100
    tolerance: float = 1e-5
    stiffness: Stiffness = "metric"

    def relax(self, energy: Energy, candidates: Tensor) -> Relaxed:
        """Shorten the best of N curves of each pair, (N, P, T, D); splines are fitted first."""
        basis = spline_basis(self.points, self.knots).to(candidates)
        return _relax(energy, candidates, basis, self)


def total_energy(energy: Energy, curves: Tensor) -> Tensor:
    """(P,): (T - 1) times the sum of the segments' squares; at least the square of the length."""
    return energy.squares(curves).sum(-1) * (curves.shape[1] - 1)


def best_candidates(energy: Energy, candidates: Tensor) -> Tensor:
    """Of N curves of each pair, (N, P, T, D), the shortest: (P, T, D), of several at even speed.

    Not the one of least energy: that of a short curve in uneven steps is large.
    """
    if len(candidates) == 1:
        return candidates[0]
    with torch.no_grad():
        segments = torch.stack([energy.squares(curves).sqrt() for curves in candidates])
        best = segments.sum(-1).nan_to_num(torch.inf).argmin(0)
        rows = torch.arange(len(best))
        chosen, lengths = candidates[best, rows], segments[best, rows]
        even = constant_speed(chosen, chosen.shape[1], lengths)
    return torch.where(even.isfinite().all(-1).all(-1)[:, None, None], even, chosen)


def _relax(energy: Energy, candidates: Tensor, basis: Tensor, solver: Chain | Spline) -> Relaxed:
    """Steps until every pair has converged or stopped."""
    _check(solver, candidates)
    initial = best_candidates(energy, candidates)
    base = straight_line(initial[:, 0], initial[:, -1], solver.points)  # (P, T, D)
    weights = torch.linalg.pinv(basis) @ (initial - base)  # (P, m, D)
    state = _State(energy, base, weights, basis)
    pairs = len(initial)
    finite = torch.isfinite(state.energies)
    active = finite.clone()
    damping = initial.new_full((pairs,), _FIRST_DAMPING)
    residual = initial.new_full((pairs,), torch.inf)
    steps = torch.zeros(pairs, dtype=torch.long)
    converged = torch.zeros(pairs, dtype=torch.bool)
    for number in range(solver.steps):
        rows = torch.nonzero(active)[:, 0]
        if len(rows) == 0:
            break
        step, forecast = _newton_step(state, rows, damping[rows], solver.stiffness)
        sound = forecast.isfinite()
        if number == 0:
            finite[rows] &= sound
        steps[rows] += 1
        near = damping[rows] <= _SMALL_DAMPING if solver.stiffness == "metric" else True
        residual[rows] = torch.where(sound, forecast, torch.inf)
        lower = state.try_step(rows, step) & sound
        damping[rows] = torch.where(lower, damping[rows] * _EASE, damping[rows] * _STIFFEN)
        damping.clamp_(_LEAST_DAMPING, _MOST_DAMPING)
        done = (forecast <= solver.tolerance) & near
        converged[rows] = done
        active[rows] = ~done & sound & (damping[rows] < _MOST_DAMPING)
    return Relaxed(
        _never_longer(energy, state.curves(), initial), residual, steps, converged, finite
    )


def _never_longer(energy: Energy, relaxed: Tensor, initial: Tensor) -> Tensor:
    """The relaxed curves (P, T, D), or the initial ones where those are shorter.

    A spline through few knots can be longer than the path that it was fitted to.
    """
    with torch.no_grad():
        now, before = (energy.squares(curves).sqrt().sum(-1) for curves in (relaxed, initial))
    return torch.where((before < now)[:, None, None], initial, relaxed)


def _check(solver: Chain | Spline, candidates: Tensor) -> None:
    if solver.points < 3 or solver.steps < 1 or not solver.tolerance > 0:
        raise UsageError(
            f"a curve of {solver.points} points, {solver.steps} steps and a tolerance of "
            f"{solver.tolerance}, expected at least 3, at least 1 and above 0"
        )
    if isinstance(solver, Spline) and not 1 <= solver.knots <= solver.points - 2:
        raise UsageError(f"{solver.knots} knots, expected 1 to {solver.points - 2}")
    if candidates.ndim != 4 or candidates.shape[2] != solver.points:
        raise ValueError(f"curves {tuple(candidates.shape)}, expected (N, P, {solver.points}, D)")


class _State:
    """Weights of all pairs, and the energy of each."""

    def __init__(self, energy: Energy, base: Tensor, weights: Tensor, basis: Tensor) -> None:
        self.energy, self.basis = energy, basis
        self.base, self.weights = base, weights
        with torch.no_grad():
            self.energies = total_energy(energy, self.curves())

    def curves(self, rows: Tensor | None = None, moved: Tensor | None = None) -> Tensor:
        """(P, T, D), of some rows only, and with a step added to the weights."""
        base = self.base if rows is None else self.base[rows]
        weights = self.weights if rows is None else self.weights[rows]
        return base + self.basis @ (weights if moved is None else weights + moved)

    def try_step(self, rows: Tensor, step: Tensor) -> Tensor:
        """Make the steps that lower the energy; which they were, (R,)."""
        with torch.no_grad():
            found = total_energy(self.energy, self.curves(rows, step))
        lower = found <= self.energies[rows]  # False for nan
        kept = rows[lower]
        self.weights[kept] += step[lower]
        self.energies[kept] = found[lower]
        return lower


def _newton_step(
    state: _State, rows: Tensor, damping: Tensor, stiffness: Stiffness
) -> tuple[Tensor, Tensor]:
    """A damped step of the weights (R, m, D), and the share of the energy that it should win."""
    curves = state.curves(rows).requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(total_energy(state.energy, curves).sum(), curves)
    slope = state.basis.mT @ gradient  # (R, m, D)
    count, dims = slope.shape[1:]
    bends = state.basis.diff(dim=0)  # (T - 1, m)
    if stiffness == "metric" and count * dims <= _LARGEST:
        with torch.no_grad():
            G = 2 * len(bends) * state.energy.metric(curves.detach())  # (R, T - 1, D, D)
        found = _solve_whole(G, bends, slope, damping)
    else:
        found = _solve_laplacian(state, rows, bends, slope, damping)
    whole = 1.0 + damping  # of which the damping has taken a part
    forecast = 0.5 * whole * (slope * found).sum((-2, -1))  # nan where the Jacobian is not finite
    return -found.nan_to_num(0.0, 0.0, 0.0), forecast / state.energies[rows].clamp_min(1e-30)


def _solve_whole(G: Tensor, bends: Tensor, slope: Tensor, damping: Tensor) -> Tensor:
    """The stiffness as one matrix a pair: (R, m D, m D)."""
    pairs, count, dims = slope.shape
    products = (bends[:, :, None] * bends[:, None, :]).flatten(1)  # (T - 1, m m)
    H = (products.mT @ G.flatten(2)).reshape(pairs, count, count, dims, dims)
    H = H.permute(0, 1, 3, 2, 4).reshape(pairs, count * dims, count * dims)
    diagonal = H.diagonal(dim1=-2, dim2=-1)
    # A direction in which the decoder does not change has no stiffness of its own.
    least = diagonal.mean(-1, keepdim=True).clamp_min(1e-20)
    added = damping[:, None] * (diagonal + 1e-2 * least)
    factor, failed = torch.linalg.cholesky_ex(H + torch.diag_embed(added))
    found = torch.cholesky_solve(slope.reshape(pairs, -1, 1), factor)[..., 0]
    found = torch.where((failed == 0)[:, None], found, torch.nan)
    return found.reshape(pairs, count, dims)


def _solve_laplacian(
    state: _State, rows: Tensor, bends: Tensor, slope: Tensor, damping: Tensor
) -> Tensor:
    """G taken for c^2 1, with c^2 from the curve's own two lengths: no Jacobian."""
    latent = state.curves(rows).diff(dim=1).square().sum((-2, -1)) * len(bends)
    c2 = (state.energies[rows] / latent.clamp_min(1e-30)).clamp_min(1e-30)
    H = 2 * len(bends) * bends.mT @ bends
    found = torch.linalg.solve(H, slope)
    return found / (c2 * (1 + damping))[:, None, None]

"""The thesis's own solver: a small network of t whose curve is made shorter (section 5.1.2).

One network for each pair and candidate, all in one batch. They are fitted to Bézier curves first
(5.1.2.3); the best of each pair's then minimises the Monte Carlo estimate of its length (Eq. 5.8)
under the smoothed metric tensor (Eq. 5.10).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trackvae.errors import UsageError
from training.geodesics.energy import Energy, Smoothed
from training.geodesics.relax import Relaxed

# Largest factor of the affine boundary, and smallest by its inverse: beyond it g(0) and g(1), or
# the ends themselves, nearly coincide in a dimension, and the curve is tilted instead.
_LARGEST_FACTOR = 10.0
_FIT_RATE = 1e-2


@dataclass(frozen=True)
class Neural:
    """``min_omega L(omega)`` over networks g_omega(t), as Table A.7 has it.

    Attributes:
        hidden: units of both hidden layers, tanh.
        samples: T, time steps drawn uniformly at each step (Eq. 5.8).
        steps: of Adam on the length.
        learning_rate: of Adam, also while the networks are fitted to the candidates.
        fit_steps: of Adam on the squared distance to the candidates.
        points: of the curve that is returned, and of the candidates.
        tolerance: relative change of the length from one window of steps to the next, below which
            a pair has converged; the residual of the result.
        window: steps.
        seed: of the networks and time steps.
    """

    hidden: int = 150
    samples: int = 500
    steps: int = 600
    learning_rate: float = 1e-2
    fit_steps: int = 300
    points: int = 64
    tolerance: float = 2e-3
    window: int = 50
    seed: int = 0

    def relax(self, energy: Energy, candidates: Tensor) -> Relaxed:
        """Fit networks to curves (N, P, T, D), take the best of each pair, shorten it."""
        self._check(candidates)
        generator = torch.Generator().manual_seed(self.seed)
        count, pairs = candidates.shape[:2]
        # In units of the distance of the ends: one learning rate suits all pairs.
        origin = candidates[0, :, :1]  # (P, 1, D)
        unit = torch.linalg.vector_norm(candidates[0, :, -1] - origin[:, 0], dim=-1)
        unit = torch.where(unit > 0, unit, 1.0)[:, None, None]
        target = ((candidates - origin) / unit).flatten(0, 1)  # (N P, T, D)
        nets = _Networks.fresh(len(target), self.hidden, target, generator)
        t = torch.linspace(0, 1, self.points).to(target)
        self._fit(nets, target, t)
        scale, shift = unit.repeat(count, 1, 1), origin.repeat(count, 1, 1)
        with torch.no_grad():
            lengths = _lengths(energy, nets.at(t, target, scale, shift)).reshape(count, pairs)
        best = lengths.nan_to_num(torch.inf).argmin(0) * pairs + torch.arange(pairs)
        return self._shorten(energy, nets.chosen(best), target[best], unit, origin, generator)

    def _check(self, candidates: Tensor) -> None:
        if candidates.ndim != 4 or candidates.shape[2] != self.points:
            shape = tuple(candidates.shape)
            raise ValueError(f"curves {shape}, expected (N, P, {self.points}, D)")
        least = {"hidden": 1, "samples": 1, "steps": 1, "fit_steps": 0, "window": 1, "points": 3}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {smallest} or more")

    def _fit(self, nets: _Networks, target: Tensor, t: Tensor) -> None:
        """Pre-training on the candidates."""
        adam = torch.optim.Adam(nets.parameters, lr=max(self.learning_rate, _FIT_RATE))
        known = target.nan_to_num()
        for _ in range(self.fit_steps):
            adam.zero_grad()
            loss = (nets.raw(t.expand(len(target), -1))[0] - known).square().mean((1, 2)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()

    def _shorten(
        self,
        energy: Energy,
        nets: _Networks,
        target: Tensor,
        unit: Tensor,
        origin: Tensor,
        generator: torch.Generator,
    ) -> Relaxed:
        """Minimise the length of every pair's curve; the shortest seen is kept."""
        pairs = len(target)
        t = torch.linspace(0, 1, self.points).to(target)

        def now() -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                found = nets.at(t, target, unit, origin)
                return found.curve, _lengths(energy, found)

        best, least = now()
        finite = least.isfinite()
        before, residual = least.clone(), target.new_full((pairs,), torch.inf)
        steps = torch.zeros(pairs, dtype=torch.long)
        active = finite.clone()
        adam = torch.optim.Adam(nets.parameters, lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps, 1e-2 * _FIT_RATE)
        for number in range(1, self.steps + 1):
            adam.zero_grad()
            draws = torch.rand(pairs, self.samples, generator=generator).to(target)
            lengths = _lengths(energy, nets.at(draws, target, unit, origin))
            torch.where(active, lengths, 0.0).sum().backward()  # type: ignore[no-untyped-call]
            nets.quiet(active)
            adam.step()
            schedule.step()
            steps[active] += 1
            if number % self.window and number != self.steps:
                continue
            curve, length = now()
            shorter = length < least
            best[shorter], least[shorter] = curve[shorter], length[shorter]
            change = (before - length).abs() / length.clamp_min(1e-30)
            residual = torch.where(active, change, residual)
            before = length
            active &= ~(change < self.tolerance)
            if not active.any():
                break
        return Relaxed(best, residual, steps, residual < self.tolerance, finite)


class _Sampled(NamedTuple):
    """Curves at some t: places and velocities, (B, T, D) each."""

    curve: Tensor
    speed: Tensor


def _lengths(energy: Energy, at: _Sampled) -> Tensor:
    """Eq. 5.8: the mean over t of ``sqrt(<g', g'>_g)``, (B,)."""
    from trackvae.geometry import metric_tensor, push_forward, smoothed_metric

    z, v = at.curve.flatten(0, 1), at.speed.flatten(0, 1)
    if isinstance(energy, Smoothed):
        G = smoothed_metric(metric_tensor(energy.decoder, z, tangents=1 << 14), energy.smoothing)
        squares = (v[:, None] @ G @ v[:, :, None])[:, 0, 0]
    else:
        squares = push_forward(energy.decoder, z, v).square().sum(-1)
    return (squares + 1e-20).sqrt().reshape(at.curve.shape[:2]).mean(1)


class _Networks:
    """B networks 1 -> H -> H -> D with tanh, as stacked matrices."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = [p.detach().clone().requires_grad_() for p in parameters]

    @classmethod
    def fresh(cls, count: int, hidden: int, like: Tensor, generator: torch.Generator) -> _Networks:
        """Glorot's rule; the first layer's kinks spread over [0, 1]."""
        dims = like.shape[-1]

        def uniform(rows: int, columns: int) -> Tensor:
            edge = (6 / (rows + columns)) ** 0.5
            drawn = torch.rand(count, rows, columns, generator=generator) * 2 - 1
            return (edge * drawn).to(like)

        first = 4 * (torch.rand(count, 1, hidden, generator=generator) * 2 - 1).to(like)
        places = torch.rand(count, 1, hidden, generator=generator).to(like)
        zero = like.new_zeros
        return cls(
            [
                first,
                -first * places,
                uniform(hidden, hidden),
                zero(count, 1, hidden),
                uniform(hidden, dims),
                zero(count, 1, dims),
            ]
        )

    def chosen(self, rows: Tensor) -> _Networks:
        """Some of them."""
        return _Networks([p[rows] for p in self.parameters])

    def quiet(self, active: Tensor) -> None:
        """Leave the networks of pairs that are done as they are."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad[~active] = 0.0
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)

    def raw(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g(t) and its derivative for t (B, T): (B, T, D) each."""
        w1, b1, w2, b2, w3, b3 = self.parameters
        h1 = torch.tanh(t[..., None] * w1 + b1)
        h2 = torch.tanh(h1 @ w2 + b2)
        slope = (1 - h2.square()) * (((1 - h1.square()) * w1) @ w2)
        return h2 @ w3 + b3, slope @ w3

    def at(self, t: Tensor, target: Tensor, unit: Tensor, origin: Tensor) -> _Sampled:
        """Curves that meet the ends of ``target`` (B, T', D), in latent units.

        The affine boundary of 5.1.2.1, ``a g(t) - b``; in a dimension where it is singular, g
        plus the straight line between what is missing at its ends.

        Args:
            t: (T,) or (B, T).
            target: whose first and last points are the ends, in units of their distance.
            unit: (B, 1, 1), that distance.
            origin: (B, 1, D), the start.
        """
        t = t.expand(len(target), -1)
        g, slope = self.raw(t)
        ends, _ = self.raw(t.new_tensor([0.0, 1.0]).expand(len(target), -1))
        curve, speed = meet_ends(g, slope, ends, target[:, [0, -1]], t)
        return _Sampled(origin + unit * curve, unit * speed)


def meet_ends(
    g: Tensor, slope: Tensor, ends: Tensor, wanted: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """Shift and rescale a curve so that it meets its ends (5.1.2.1), also where that is singular.

    ``a = (z_0 - z_1) / (g(0) - g(1))`` and ``b = (z_0 g(1) - z_1 g(0)) / (g(0) - g(1))`` are not
    defined where g(0) = g(1), and freeze the curve where z_0 = z_1. There, in each dimension where
    ``|a|`` leaves [1/10, 10], the straight line between ``z_0 - g(0)`` and ``z_1 - g(1)`` is added
    instead.

    Args:
        g: (B, T, D) the curve.
        slope: (B, T, D) its derivative.
        ends: (B, 2, D) g(0) and g(1).
        wanted: (B, 2, D) z_0 and z_1.
        t: (B, T).

    Returns:
        The curve and its derivative, (B, T, D).
    """
    span = ends[:, :1] - ends[:, 1:]
    line = wanted[:, :1] - wanted[:, 1:]
    fits = (line.abs() < _LARGEST_FACTOR * span.abs()) & (span.abs() < _LARGEST_FACTOR * line.abs())
    safe = torch.where(fits, span, 1.0)
    a = line / safe
    b = (wanted[:, :1] * ends[:, 1:] - wanted[:, 1:] * ends[:, :1]) / safe
    missing = wanted - ends  # (B, 2, D)
    tilt = torch.lerp(missing[:, :1], missing[:, 1:], t[..., None])
    curve = torch.where(fits, a * g - b, g + tilt)
    return curve, torch.where(fits, a * slope, slope + missing[:, 1:] - missing[:, :1])

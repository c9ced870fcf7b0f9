"""Curves between pairs of latent points, and what is known of the geodesics that were found.

Curves are batches of polygons (P, T, D): P pairs of end points, T points in equal steps of t in
[0, 1], D latent dimensions. How they are made shorter lives beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from trackvae.errors import UsageError
from trackvae.geometry import (
    Decoder,
    latent_length,
    riemannian_length,
    segment_lengths,
    straight_line,
    velocity,
)

Outcome: TypeAlias = Literal[
    "converged", "not converged", "same point", "no change", "not finite", "no path"
]
"""How the search for one geodesic ended:

- ``converged``: the residual fell below the solver's tolerance;
- ``not converged``: it did not within the steps allowed; the curve is the best found;
- ``same point``: both ends are one point, the geodesic has no length;
- ``no change``: the decoder is the same all along the curve (a vanishing Jacobian), so that any
  curve between the ends is as short;
- ``not finite``: the decoder gives NaN or infinity, or its Jacobian does (an exploding one);
- ``no path``: the graph does not join the ends; the curve is nan.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Geodesics:
    """P curves of least length, and how much they are to be trusted.

    Attributes:
        curves: (P, T, D), both ends included, at constant speed in the observation space.
        length: (P,) Riemannian length of the curve, the distance of Eq. 5.6.
        latent_length: (P,) Euclidean length of the curve in the latent space.
        straight: (P,) Riemannian length of the straight line between the same ends.
        velocity: (P, T - 1), phi(t) of Eq. 5.5 at the middles of the segments.
        residual: (P,) the last relative change that the solver saw possible; its own docstring says
            which.
        steps: (P,) integers, iterations until it stopped.
        outcome: P times how it ended.
        notes: P lines for people, empty where there is nothing to say.
    """

    curves: Tensor
    length: Tensor
    latent_length: Tensor
    straight: Tensor
    velocity: Tensor
    residual: Tensor
    steps: Tensor
    outcome: tuple[Outcome, ...]
    notes: tuple[str, ...]

    @property
    def converged(self) -> Tensor:
        """(P,) booleans: whether the curve can be taken for the geodesic."""
        return torch.tensor([state in ("converged", "same point") for state in self.outcome])

    @property
    def speed_variation(self) -> Tensor:
        """(P,) coefficient of variation of phi(t): 0 at constant speed; nan without a length."""
        mean = self.velocity.mean(-1)
        return torch.where(mean > 0, self.velocity.std(-1) / mean, torch.nan)

    @property
    def observation_ratio(self) -> Tensor:
        """(P,) Riemannian length of the straight line over the geodesic's (Tables 5.1 and 5.2)."""
        return torch.where(self.length > 0, self.straight / self.length, torch.nan)

    @property
    def latent_ratio(self) -> Tensor:
        """(P,) Euclidean distance of the ends over the geodesic's latent length (the same)."""
        ends = torch.linalg.vector_norm(self.curves[:, -1] - self.curves[:, 0], dim=-1)
        return torch.where(ends > 0, ends / self.latent_length, torch.nan)


def cut(curves: Tensor, pieces: int) -> Tensor:
    """Each segment cut into equal pieces: (P, T, D) to (P, (T - 1) * pieces + 1, D)."""
    inner = straight_line(curves[:, :-1], curves[:, 1:], pieces + 1)[:, :, :-1]
    return torch.cat([inner.flatten(1, 2), curves[:, -1:]], dim=1)


def constant_speed(curves: Tensor, points: int, lengths: Tensor | None = None) -> Tensor:
    """The same curves cut at equal arc length, all at once.

    Args:
        curves: (P, T, D), T >= 2.
        points: of the result, at least 2.
        lengths: (P, T - 1) of the segments; Euclidean ones where left out. Segments that are
            infinite or nan leave their curve as nan.

    Returns:
        (P, points, D), in which the ends are the same to the last bit.
    """
    if points < 2:
        raise UsageError(f"a curve of {points} point(s), expected at least 2")
    if lengths is None:
        lengths = torch.linalg.vector_norm(curves.diff(dim=1), dim=-1)
    along = torch.nn.functional.pad(lengths.to(curves).cumsum(-1), (1, 0))  # (P, T)
    share = torch.linspace(0, 1, points, dtype=curves.dtype, device=curves.device)
    wanted = (along[:, -1:] * share).contiguous()  # (P, points)
    after = torch.searchsorted(along, wanted).clamp(1, curves.shape[1] - 1)
    low, high = along.gather(1, after - 1), along.gather(1, after)
    fraction = torch.where(high > low, (wanted - low) / (high - low), 0.0).clamp(0, 1)
    pair = torch.arange(len(curves), device=curves.device)[:, None]
    found = torch.lerp(curves[pair, after - 1], curves[pair, after], fraction[..., None])
    return torch.cat([curves[:, :1], found[:, 1:-1], curves[:, -1:]], dim=1)


def bezier_curves(
    start: Tensor,
    end: Tensor,
    points: int,
    *,
    controls: int = 3,
    count: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random Bézier curves between pairs of points (5.1.2.3).

    The means of the C control points divide the straight line equally; each is displaced within the
    subspace orthogonal to it, uniformly over a range of ``||z_1 - z_0|| / 2``. In two dimensions
    that is a segment; in more, where the thesis does not say, a direction is drawn uniformly.

    Args:
        start: (P, D).
        end: (P, D).
        points: T of each curve.
        controls: C; 0 makes straight lines.
        count: N curves a pair.
        generator: where the displacements come from.

    Returns:
        (N, P, T, D), from start to end exactly.
    """
    if points < 2 or controls < 0 or count < 1:
        raise UsageError(
            f"{count} Bézier curves of {points} points with {controls} control points, expected at "
            "least 1, 2 and 0"
        )
    pairs, dims = start.shape
    share = torch.arange(1, controls + 1, dtype=start.dtype) / (controls + 1)
    means = torch.lerp(start[:, None], end[:, None], share[:, None])  # (P, C, D)
    line = end - start
    apart = torch.linalg.vector_norm(line, dim=-1)  # (P,)
    drawn = torch.randn(count, pairs, controls, dims, generator=generator, dtype=start.dtype)
    along = line / apart.clamp_min(torch.finfo(line.dtype).tiny)[:, None]
    across = drawn - (drawn @ along[:, :, None]) * along[:, None]  # (N, P, C, D)
    size = torch.linalg.vector_norm(across, dim=-1, keepdim=True)
    across = across / size.clamp_min(torch.finfo(line.dtype).tiny)
    reach = torch.rand(count, pairs, controls, 1, generator=generator, dtype=start.dtype) / 4
    moved = means + reach * apart[:, None, None] * across
    corners = torch.cat(
        [start.expand(count, -1, -1)[:, :, None], moved, end.expand(count, -1, -1)[:, :, None]],
        dim=2,
    )  # (N, P, C + 2, D)
    curves = torch.einsum("tc,npcd->nptd", _bernstein(points, controls + 1).to(start), corners)
    curves[:, :, 0], curves[:, :, -1] = start, end
    return curves


def _bernstein(points: int, degree: int) -> Tensor:
    """Bernstein's polynomials at equal steps, (points, degree + 1): what a corner weighs at t."""
    from scipy.special import comb

    t = np.linspace(0, 1, points)[:, None]
    k = np.arange(degree + 1)
    return torch.from_numpy(comb(degree, k) * t**k * (1 - t) ** (degree - k))


def spline_basis(points: int, knots: int) -> Tensor:
    """Natural cubic splines that vanish at both ends, one for each inner knot.

    A curve is the straight line between its ends plus these, weighted; so it meets them exactly.

    Args:
        points: T, equal steps of t.
        knots: K inner ones, equally spaced.

    Returns:
        (T, K), float64.
    """
    from scipy.interpolate import CubicSpline

    at = np.linspace(0, 1, knots + 2)
    values = np.eye(knots + 2)[:, 1:-1]
    found = CubicSpline(at, values, bc_type="natural")(np.linspace(0, 1, points))
    found[[0, -1]] = 0.0
    return torch.from_numpy(np.ascontiguousarray(found))


def measured(
    decoder: Decoder,
    curves: Tensor,
    residual: Tensor,
    steps: Tensor,
    outcome: tuple[Outcome, ...],
    notes: tuple[str, ...],
    *,
    points: int,
    pieces: int = 4,
) -> Geodesics:
    """Lengths and velocity of curves, at constant speed in the observation space.

    Args:
        decoder: ``z (N, D) -> x (N, ...)``.
        curves: (P, T, D).
        residual: (P,).
        steps: (P,).
        outcome: P.
        notes: P.
        points: of the curves in the result.
        pieces: into how many each segment is cut before its length is taken.
    """
    with torch.no_grad():
        fine = cut(curves, pieces)
        lengths = segment_lengths(decoder, fine)
        even = constant_speed(fine, points, lengths)
        ends = straight_line(curves[:, 0], curves[:, -1], fine.shape[1])
        return Geodesics(
            even,
            lengths.sum(-1),
            latent_length(fine),
            riemannian_length(decoder, ends),
            velocity(decoder, even, by="metric"),
            residual,
            steps,
            outcome,
            notes,
        )

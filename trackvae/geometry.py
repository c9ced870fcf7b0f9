"""The latent space as a Riemannian manifold: Jacobian, metric tensor, lengths (thesis, 5.1, 5.2).

Everything is a pure function over a decoder given as a callable ``z (N, D_z) -> x (N, ...)``, the
mean of the likelihood, that works row by row (a batch normalisation must be in evaluation mode).
Results keep their graph: they can be differentiated by the decoder's parameters and by z; wrap a
measurement in ``torch.no_grad()``. How flatness is *learned* lives in :mod:`trackvae.flatness`; how
a geodesic is *found*, in ``training.geodesics``.

An observation precision enters through :func:`whiten`, which makes another decoder, so that every
function here takes it without an argument of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

Decoder: TypeAlias = Callable[[Tensor], Tensor]

# Tangents (rows times latent dimensions) that go through the decoder at once. A layer of 16
# channels of 64x64 holds 0.12 GiB of them in float32; on a CPU 256 to 512 are the fastest (a
# deconvolution from 128 dimensions, 16 rows: 1.4 to 1.9 s, 3.1 s with 1024, 4.3 s with 128).
_TANGENTS = 512
_ROWS = 1024  # of a curve that are decoded at once


class LengthRatios(NamedTuple):
    """The two columns of Tables 5.1 and 5.2, one value a pair of points.

    Attributes:
        latent: (N,) Euclidean distance of the end points / Euclidean length of the geodesic; at
            most 1, and 1 where the geodesic is straight.
        observation: (N,) Riemannian length of the straight line / Riemannian length of the
            geodesic; at least 1 where the geodesic is the shortest path.
    """

    latent: Tensor
    observation: Tensor


def whiten(decoder: Decoder, factor: Tensor) -> Decoder:
    """The decoder whose metric tensor is ``J^T Sigma^-1 J``, where ``Sigma^-1 = W^T W``.

    The thesis measures in plain pixels (W = 1); a likelihood with unequal noise calls for its own
    precision, e.g. ``whiten(decoder, 1 / sigma)``.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        factor: W, as a number (), a diagonal (D_x,) or a matrix (K, D_x).

    Returns:
        ``z (N, D_z) -> W x (N, D_x or K)``.
    """
    if factor.ndim > 2:
        raise ValueError(f"factor has shape {tuple(factor.shape)}, expected (), (D_x,) or (K, D_x)")

    def whitened(z: Tensor) -> Tensor:
        x = _decode(decoder, z)  # (N, D_x)
        return x @ factor.mT if factor.ndim == 2 else x * factor

    return whitened


def jacobian(decoder: Decoder, z: Tensor, *, tangents: int = _TANGENTS) -> Tensor:
    """``J = df/dz`` (Eq. 5.4), by forward mode, since D_z is smaller than D_x.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``; x is flattened to D_x values a row.
        z: (N, D_z).
        tangents: how many of the N * D_z tangents go through the decoder at once; memory grows
            with it, the result does not change.

    Returns:
        (N, D_x, D_z).
    """
    return torch.cat([_jacobian(decoder, rows) for rows in _split_tangents(z, tangents)])


def metric_tensor(decoder: Decoder, z: Tensor, *, tangents: int = _TANGENTS) -> Tensor:
    """``G = J^T J`` (below Eq. 5.3); only ``tangents`` columns of J are held at a time.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``; see :func:`whiten` for a precision other than 1.
        z: (N, D_z).
        tangents: as in :func:`jacobian`.

    Returns:
        (N, D_z, D_z), symmetric, positive semi-definite.
    """
    parts = (_jacobian(decoder, rows) for rows in _split_tangents(z, tangents))
    return torch.cat([J.mT @ J for J in parts])


def push_forward(decoder: Decoder, z: Tensor, v: Tensor) -> Tensor:
    """``J v``: one jvp, no Jacobian.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        z: (N, D_z).
        v: (N, D_z), a tangent a row.

    Returns:
        (N, D_x).
    """
    return jvp(lambda rows: _decode(decoder, rows), (_checked(z),), (v,))[1]


def metric_product(decoder: Decoder, z: Tensor, v: Tensor) -> Tensor:
    """``G v = J^T (J v)`` for P tangents a row: one jvp and one vjp each, in one forward pass.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        z: (N, D_z).
        v: (P, N, D_z).

    Returns:
        (P, N, D_z).
    """
    primal_once: Any = (None, 0)  # x does not depend on the tangent

    def forward(rows: Tensor) -> tuple[Tensor, Tensor]:
        def push(tangent: Tensor) -> tuple[Tensor, Tensor]:
            result = jvp(lambda r: _decode(decoder, r), (rows,), (tangent,))
            return result[0], result[1]

        return vmap(push, out_dims=primal_once, randomness="same")(v)

    linearised = vjp(forward, _checked(z), has_aux=True)
    _, pull, Jv = cast(tuple[Any, Any, Tensor], linearised)  # Jv (P, N, D_x)
    return vmap(pull)(Jv)[0]


def scaling_factor(G: Tensor) -> Tensor:
    """``c^2``: the mean of the diagonals of G over rows and dimensions (Eq. 5.15).

    Args:
        G: (N, D_z, D_z), N > 0.

    Returns:
        ().
    """
    return G.diagonal(dim1=-2, dim2=-1).mean()


def log_magnification_factor(G: Tensor) -> Tensor:
    """``log MF = log det(G) / 2`` (Eq. 5.11); MF itself leaves float32 in 128 dimensions.

    Args:
        G: (..., D_z, D_z).

    Returns:
        (...,); -inf where G is singular.
    """
    sign, log_det = torch.linalg.slogdet(G)
    return torch.where(sign < 0, -math.inf, 0.5 * log_det)  # below 0 by rounding alone


def magnification_factor(G: Tensor) -> Tensor:
    """``MF = sqrt(det G)`` (Eq. 5.11): how much an infinitesimal volume grows from z to x."""
    return log_magnification_factor(G).exp()


def normalised_magnification_factor(G: Tensor) -> Tensor:
    """MF over its mean (5.2.3), which makes models comparable: 1 everywhere if flat.

    Args:
        G: (N, D_z, D_z).

    Returns:
        (N,); computed in logarithms, so that it is finite where MF itself is not.
    """
    log_mf = log_magnification_factor(G)
    return (log_mf - log_mf.logsumexp(0) + math.log(max(len(log_mf), 1))).exp()


def condition_number(G: Tensor) -> Tensor:
    """``k(G) = s_max(G) / s_min(G)``, of singular values of G, not of J (5.2.3): 1 if flat.

    G is symmetric and positive semi-definite, so its eigenvalues are its singular values. It is the
    square of J's condition number: beyond 1e7 in float32 (1e15 in float64) read it as "singular".

    Args:
        G: (..., D_z, D_z).

    Returns:
        (...,), at least 1; inf where the smallest eigenvalue is 0, or below it by rounding.
    """
    eigenvalues = torch.linalg.eigvalsh(G)  # ascending
    smallest, largest = eigenvalues[..., 0], eigenvalues[..., -1]
    return torch.where(smallest <= 0, math.inf, largest / smallest)


def relative_flatness(G: Tensor, c2: Tensor | None = None) -> Tensor:
    """``||G / c^2 - 1||_F^2 / D_z``: distance from Eq. 5.13, free of scale; 0 if flat.

    Args:
        G: (N, D_z, D_z).
        c2: the scaling factor; by default that of these rows (:func:`scaling_factor`).

    Returns:
        (N,).
    """
    c2 = scaling_factor(G) if c2 is None else c2
    identity = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
    return (G / c2 - identity).square().sum((-2, -1)) / G.shape[-1]


def smoothed_metric(G: Tensor, smoothing: float | Tensor) -> Tensor:
    """``G~ = U diag{s^3 / (s^2 + lambda)} V^T`` (Eq. 5.10): small singular values made smaller.

    A step through a narrow region of high gradients, which a finite number of points on a curve
    overlooks, then costs more beside a long way over a gentle one. G is symmetric and positive
    semi-definite, so the same is the linear smoother ``G^2 (G^2 + lambda)^-1 G``, which has a
    gradient where singular values coincide, as those of a decomposition have not.

    Args:
        G: (..., D_z, D_z).
        smoothing: lambda_s, at least 0, in G's unit squared; 0: G itself.

    Returns:
        (..., D_z, D_z), symmetric.
    """
    if isinstance(smoothing, float | int) and smoothing == 0:
        return G
    identity = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
    trace = G.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    scale = torch.where(trace > 0, trace, 1.0)
    ratio = G / scale  # of trace 1: squares of G leave float32 where gradients are high
    weight = (smoothing / scale / scale).clamp_max(1e30)
    square = ratio @ ratio
    smooth = scale * torch.linalg.solve(square + weight * identity, square @ ratio)
    return (smooth + smooth.mT) / 2


def segment_lengths(
    decoder: Decoder, curve: Tensor, *, by: Literal["distance", "metric"] = "distance"
) -> Tensor:
    """Riemannian length of each segment of a curve through points in the latent space.

    ``metric``: ``sqrt(dz^T G dz)`` with G at the segment's middle (the integrand of Eq. 5.5, as
    ``||J dz||``, by one jvp). ``distance``: ``||f(z_{t+1}) - f(z_t)||``, which needs no derivative
    and, unlike the other, cannot overlook a steep region between two points.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        curve: (..., T, D_z), points in order; a repeated point adds nothing.
        by: both converge to the same length as the points get denser, with an error in 1 / T^2.

    Returns:
        (..., T - 1).
    """
    start, end = curve[..., :-1, :], curve[..., 1:, :]
    if by == "distance":
        x = torch.cat([_decode(decoder, rows) for rows in torch.split(curve.flatten(0, -2), _ROWS)])
        x = x.reshape(*curve.shape[:-1], x.shape[-1])
        change = x[..., 1:, :] - x[..., :-1, :]
    else:
        middle, dz = ((start + end) / 2).flatten(0, -2), (end - start).flatten(0, -2)
        pairs = zip(torch.split(middle, _ROWS), torch.split(dz, _ROWS), strict=True)
        change = torch.cat([push_forward(decoder, z, v) for z, v in pairs])
        change = change.reshape(*start.shape[:-1], change.shape[-1])
    return torch.linalg.vector_norm(change, dim=-1)


def riemannian_length(
    decoder: Decoder, curve: Tensor, *, by: Literal["distance", "metric"] = "distance"
) -> Tensor:
    """``L(gamma)`` (Eq. 5.5, 5.12) of a discretised curve, whatever its parametrisation.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        curve: (..., T, D_z).
        by: see :func:`segment_lengths`.

    Returns:
        (...,).
    """
    return segment_lengths(decoder, curve, by=by).sum(-1)


def velocity(
    decoder: Decoder, curve: Tensor, *, by: Literal["distance", "metric"] = "metric"
) -> Tensor:
    """``phi(t)`` (Eq. 5.5) at the middles of the segments of a curve with equal steps in [0, 1].

    Its mean over t is the Riemannian length; along a geodesic at constant speed it is constant.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        curve: (..., T, D_z).
        by: see :func:`segment_lengths`.

    Returns:
        (..., T - 1).
    """
    lengths = segment_lengths(decoder, curve, by=by)
    return lengths * lengths.shape[-1]


def latent_length(curve: Tensor) -> Tensor:
    """Euclidean length in the latent space of the curve through (..., T, D_z) points: (...,)."""
    return torch.linalg.vector_norm(curve.diff(dim=-2), dim=-1).sum(-1)


def straight_line(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Euclidean interpolation between (..., D_z) and (..., D_z): (..., points, D_z)."""
    t = torch.linspace(0, 1, points, dtype=start.dtype, device=start.device)[:, None]
    return torch.lerp(start[..., None, :], end[..., None, :], t)


def length_ratios(
    decoder: Decoder,
    geodesics: Tensor,
    *,
    pieces: int = 8,
    by: Literal["distance", "metric"] = "distance",
) -> LengthRatios:
    """The length ratios of Tables 5.1 and 5.2: straight lines beside geodesics of the same ends.

    Both are cut equally finely, or the coarser would seem the shorter. A geodesic on a graph has a
    floor of its own: with 12 neighbours a flat space gives 0.967 for both ratios; report it.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        geodesics: (N, T, D_z); shorter paths are padded by repeating their last point.
        pieces: into how many each segment of a geodesic is cut before its Riemannian length is
            taken.
        by: see :func:`segment_lengths`.

    Returns:
        The ratios; nan for a pair of equal points.
    """
    start, end = geodesics[:, 0], geodesics[:, -1]
    cut = straight_line(
        geodesics[:, :-1], geodesics[:, 1:], pieces + 1
    )  # (N, T - 1, pieces + 1, D)
    fine = torch.cat([cut[:, :, :-1].flatten(1, 2), end[:, None]], dim=1)
    straight = straight_line(start, end, fine.shape[1])
    distance = torch.linalg.vector_norm(end - start, dim=-1)
    ratio = riemannian_length(decoder, straight, by=by) / riemannian_length(decoder, fine, by=by)
    return LengthRatios(
        distance / latent_length(geodesics), torch.where(distance > 0, ratio, math.nan)
    )


def equidistance_lines(decoder: Decoder, rays: Tensor, distances: Tensor) -> Tensor:
    """Points at equal Riemannian distance from a centre along rays (figures 5.4, 5.14, 5.19).

    Along :func:`geodesic_rays` they are geodesic circles, up to where two geodesics meet; along
    straight rays (:func:`straight_line`) the distance is that of Euclidean interpolation, which in
    a flat space is the same. Lines are circles exactly where G is proportional to 1.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``.
        rays: (K, T, D_z), all from one centre, in the order in which a line runs through them.
        distances: (R,), at least 0.

    Returns:
        (R, K, D_z): a line a distance; nan where a ray ends before it.
    """
    along = torch.nn.functional.pad(segment_lengths(decoder, rays).cumsum(-1), (1, 0))  # (K, T)
    wanted = distances.to(along).expand(len(rays), -1).contiguous()  # (K, R)
    after = torch.searchsorted(along, wanted).clamp(1, rays.shape[1] - 1)
    low, high = along.gather(1, after - 1), along.gather(1, after)
    fraction = torch.where(high > low, (wanted - low) / (high - low), 0.0)[..., None]
    ray = torch.arange(len(rays), device=rays.device)[:, None]
    points = torch.lerp(rays[ray, after - 1], rays[ray, after], fraction)  # (K, R, D)
    reached = wanted <= along[:, -1:]
    return torch.where(reached[..., None], points, math.nan).transpose(0, 1)


def circle_directions(count: int) -> Tensor:
    """``count`` equally spaced unit vectors of the plane, (count, 2), in float64."""
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def geodesic_rays(
    decoder: Decoder, centre: Tensor, directions: Tensor, length: float, steps: int = 100
) -> Tensor:
    """Geodesics that leave a centre at unit speed (the exponential map), by Runge and Kutta.

    A curve is a geodesic where its acceleration in the observation space has no part along the
    manifold: ``J^T (f''[v, v] + J a) = 0``, so ``a = -G^+ J^T f''[v, v]`` with ``v = dz/ds``. A
    piecewise-linear decoder has f'' = 0: its rays come out straight, which they are not.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``, twice differentiable.
        centre: (D_z,).
        directions: (K, D_z), of any length but 0.
        length: how far to go, in Riemannian length.
        steps: of the integration.

    Returns:
        (K, steps + 1, D_z); nan along a direction in which the decoder does not change.
    """
    z = centre.repeat(len(directions), 1)
    v = directions.to(centre)
    v = v / torch.linalg.vector_norm(push_forward(decoder, z, v), dim=-1, keepdim=True)
    h, points = length / steps, [z]
    for _ in range(steps):
        a1 = _acceleration(decoder, z, v)
        v2 = v + h / 2 * a1
        a2 = _acceleration(decoder, z + h / 2 * v, v2)
        v3 = v + h / 2 * a2
        a3 = _acceleration(decoder, z + h / 2 * v2, v3)
        v4 = v + h * a3
        a4 = _acceleration(decoder, z + h * v3, v4)
        z = z + h / 6 * (v + 2 * v2 + 2 * v3 + v4)
        v = v + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        points.append(z)
    return torch.stack(points, dim=1)


def _acceleration(decoder: Decoder, z: Tensor, v: Tensor) -> Tensor:
    """``-G^+ J^T f''[v, v]`` for (K, D_z) points and velocities: (K, D_z)."""
    second = jvp(lambda rows: push_forward(decoder, rows, v), (z,), (v,))[1]  # (K, D_x)
    J = jacobian(decoder, z)
    inverse = torch.linalg.pinv((J.mT @ J).nan_to_num(), hermitian=True)  # a lost ray stays nan
    return -(inverse @ (J.mT @ second[..., None]))[..., 0]


def _decode(decoder: Decoder, z: Tensor) -> Tensor:
    """Observations flattened to (N, D_x), checked for one row a row of z."""
    x = decoder(z)
    if x.ndim == 0 or len(x) != len(z):
        raise ValueError(
            f"the decoder made {tuple(x.shape)} of {tuple(z.shape)}, expected (N, ...)"
        )
    return x.flatten(1) if x.ndim > 1 else x[:, None]


def _jacobian(decoder: Decoder, z: Tensor) -> Tensor:
    """(N, D_x, D_z) for all rows at once: D_z tangents over one shared forward pass."""

    def push(tangent: Tensor) -> Tensor:
        return push_forward(decoder, z, tangent.expand_as(z))

    basis = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return vmap(push, randomness="same")(basis).permute(1, 2, 0)


def _split_tangents(z: Tensor, tangents: int) -> tuple[Tensor, ...]:
    z = _checked(z)
    return torch.split(z, max(tangents // z.shape[1], 1))


def _checked(z: Tensor) -> Tensor:
    """Latents of a shape that makes sense, contiguous: a jvp refuses expanded rows."""
    if z.ndim != 2 or z.shape[1] == 0 or not z.is_floating_point():
        raise ValueError(f"z is {z.dtype} {tuple(z.shape)}, expected floats of shape (N, D_z)")
    return z.contiguous()

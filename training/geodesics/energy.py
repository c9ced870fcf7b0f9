"""What is minimised over curves: their discrete energy, by the decoder alone or by the metric.

The energy ``(T - 1) sum_t d_t^2`` of a curve with segments of length d_t is at least the square of
its length, and equal to it at constant speed: its minimum is a geodesic at constant speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trackvae.errors import UsageError
from trackvae.geometry import (
    Decoder,
    metric_tensor,
    segment_lengths,
    smoothed_metric,
    straight_line,
)
from training.geodesics.graph import Cost


class Energy(Protocol):
    """A way of measuring segments of curves."""

    @property
    def decoder(self) -> Decoder:
        """``z (N, D) -> x (N, ...)``."""
        ...

    def squares(self, curves: Tensor) -> Tensor:
        """Squared length of each segment: (P, T, D) to (P, T - 1), differentiable."""
        ...

    def metric(self, curves: Tensor) -> Tensor:
        """The metric tensor at the middle of each segment: (P, T, D) to (P, T - 1, D, D)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """``||f(z_{t+1}) - f(z_t)||^2``: no Jacobian, and no steep region is overlooked.

    Attributes:
        decoder: ``z (N, D) -> x (N, ...)``.
    """

    decoder: Decoder

    def squares(self, curves: Tensor) -> Tensor:
        """(P, T - 1)."""
        x = self.decoder(curves.flatten(0, 1)).flatten(1)
        return x.reshape(*curves.shape[:2], -1).diff(dim=1).square().sum(-1)

    def metric(self, curves: Tensor) -> Tensor:
        """(P, T - 1, D, D), by as many tangents as there are latent dimensions."""
        middle = (curves[:, 1:] + curves[:, :-1]) / 2
        G = metric_tensor(self.decoder, middle.flatten(0, 1), tangents=_TANGENTS)
        return G.reshape(*middle.shape, -1)


@dataclass(frozen=True, slots=True, eq=False)
class Smoothed:
    """``dz^T G~ dz`` with the smoothed metric tensor at the segment's middle (Eq. 5.10).

    Attributes:
        decoder: ``z (N, D) -> x (N, ...)``, twice differentiable.
        smoothing: lambda_s, in the unit of G squared.
    """

    decoder: Decoder
    smoothing: float

    def squares(self, curves: Tensor) -> Tensor:
        """(P, T - 1)."""
        dz = curves.diff(dim=1)[..., None]  # (P, T - 1, D, 1)
        return (dz.mT @ self.metric(curves) @ dz)[..., 0, 0].clamp_min(0)

    def metric(self, curves: Tensor) -> Tensor:
        """(P, T - 1, D, D)."""
        middle = (curves[:, 1:] + curves[:, :-1]) / 2
        G = metric_tensor(self.decoder, middle.flatten(0, 1), tangents=_TANGENTS)
        return smoothed_metric(G, self.smoothing).reshape(*middle.shape, -1)


_TANGENTS = 8192  # at once: curves in few dimensions, by small decoders


def energy_of(decoder: Decoder, smoothing: float = 0.0) -> Energy:
    """The energy with this much smoothing of the metric tensor; 0: none, by the decoder alone.

    Raises:
        UsageError: a smoothing below 0.
    """
    if not 0 <= smoothing < float("inf"):
        raise UsageError(f"smoothing is {smoothing}, expected 0 or more")
    return Smoothed(decoder, smoothing) if smoothing else Decoded(decoder)


def smoothing_for(decoder: Decoder, z: Tensor, factor: float) -> float:
    """A lambda_s by what the metric tensor is at data: ``(factor * median of s_1)^2``.

    Directions whose singular value is far below ``factor`` times that of the data shrink by its
    square; far above they stay as they are. The thesis does not give its lambda_s.

    Args:
        decoder: ``z (N, D) -> x (N, ...)``.
        z: (N, D), encoded data.
        factor: at least 0.
    """
    with torch.no_grad():
        largest = torch.linalg.eigvalsh(metric_tensor(decoder, z))[:, -1]
    return float(factor * largest.median()) ** 2


def smoothed_length(decoder: Decoder, curves: Tensor, smoothing: float) -> Tensor:
    """Length under the smoothed metric, (..., T, D) to (...): what the thesis's objective sums."""
    shape = curves.shape
    flat = curves.reshape(-1, *shape[-2:])
    with torch.no_grad():
        return Smoothed(decoder, smoothing).squares(flat).sqrt().sum(-1).reshape(shape[:-2])


def smoothed_edges(decoder: Decoder, smoothing: float, pieces: int = 2) -> Cost:
    """Edges of a graph that cost their length under the smoothed metric.

    Args:
        decoder: ``z (N, D) -> x (N, ...)``.
        smoothing: lambda_s; with 0 it is :func:`training.geodesics.graph.riemannian` by the metric.
        pieces: into how many an edge is cut.
    """
    if pieces < 1:
        raise UsageError(f"edges cut into {pieces} pieces, expected 1 or more")

    def cost(start: Tensor, end: Tensor) -> Tensor:
        return smoothed_length(decoder, straight_line(start, end, pieces + 1), smoothing)

    return cost


def lengths_by(energy: Energy, curves: Tensor) -> Tensor:
    """Lengths of the segments as the energy measures them, (P, T, D) to (P, T - 1)."""
    with torch.no_grad():
        if isinstance(energy, Decoded):
            return segment_lengths(energy.decoder, curves)
        return energy.squares(curves).sqrt()

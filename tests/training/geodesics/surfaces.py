"""Surfaces in space whose geodesics are known, as decoders."""

import math
from dataclasses import dataclass

import torch


def sphere(z):
    """Longitude and latitude on the unit sphere."""
    a, b = z[:, 0], z[:, 1]
    return torch.stack([b.cos() * a.cos(), b.cos() * a.sin(), b.sin()], dim=1)


def bent_plane(z):
    """The plane in coordinates that are not straight."""
    u = z[:, 0] + 0.4 * torch.sin(1.5 * z[:, 1])
    return torch.stack([2 * u, 2 * z[:, 1] + 0.5 * torch.sin(u), torch.zeros_like(u)], dim=1)


def torus(z):
    """Of radii 2 and 0.7."""
    around = 2 + 0.7 * z[:, 1].cos()
    tube = 0.7 * z[:, 1].sin()
    return torch.stack([around * z[:, 0].cos(), around * z[:, 0].sin(), tube], dim=1)


def swiss_roll(z):
    """``(u cos u, v, u sin u)``, which unrolls to a rectangle."""
    u, v = z[:, 0], z[:, 1]
    return torch.stack([u * u.cos(), v, u * u.sin()], dim=1)


def unrolled(u):
    """Length of the spiral from 0 to u."""
    return (u * (1 + u.square()).sqrt() + torch.asinh(u)) / 2


@dataclass(frozen=True)
class Surface:
    """A decoder, pairs of points, and the lengths of the geodesics between them."""

    name: str
    decoder: object
    start: torch.Tensor
    end: torch.Tensor
    length: torch.Tensor


def uniform(count, low, high, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    low, high = torch.tensor(low).double(), torch.tensor(high).double()
    return low + (high - low) * drawn


def surfaces():
    """Sphere, plane, torus, Swiss roll; a few pairs each."""
    found = []
    a, b = uniform(6, (0, -1), (2.5, 1), 0), uniform(6, (0, -1), (2.5, 1), 1)
    great_circle = torch.acos((sphere(a) * sphere(b)).sum(1))
    found.append(Surface("sphere", sphere, a, b, great_circle))
    a, b = uniform(6, (-1, -1), (1, 1), 2), uniform(6, (-1, -1), (1, 1), 3)
    straight = torch.linalg.vector_norm(bent_plane(a) - bent_plane(b), dim=1)
    found.append(Surface("plane", bent_plane, a, b, straight))
    # The outer equator (short arcs, before any other way is shorter) and circles of the tube.
    a = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, -1.0], [0.0, 0.3]]).double()
    b = torch.tensor([[0.9, 0.0], [0.2, 0.0], [0.5, 1.2], [0.0, 2.3]]).double()
    lengths = torch.tensor([2.7 * 0.9, 2.7 * 0.8, 0.7 * 2.2, 0.7 * 2.0]).double()
    found.append(Surface("torus", torus, a, b, lengths))
    pi = math.pi
    a, b = uniform(6, (pi, 0), (3 * pi, 6), 4), uniform(6, (pi, 0), (3 * pi, 6), 5)
    flat = torch.hypot(unrolled(b[:, 0]) - unrolled(a[:, 0]), b[:, 1] - a[:, 1])
    found.append(Surface("swiss roll", swiss_roll, a, b, flat))
    return found

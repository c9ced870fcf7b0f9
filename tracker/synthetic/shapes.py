"""Outlines and what they are made of: the pieces that figures and street furniture are built from.

Units are body heights: x to the right, y up. Every outline is a polygon, so the extent of a thing
is exact without painting it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tracker.synthetic.wardrobe import Cloth, Colour
from trackvae.arrays import FloatArray

_SHARES = np.linspace(0.0, 1.0, 13)  # along a limb's round end
_SWEEP = np.linspace(-1.0, 1.0, 13)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One painted piece of a figure.

    Attributes:
        outline: ``(K, 2)`` polygon.
        cloth: what it is made of.
        origin: ``(2,)`` where the cloth's pattern starts.
        axis: ``(2,)`` unit vector along which the pattern runs down.
        radius: half the width over which the cloth is shaded round.
        shade: brightness against the near side.
    """

    outline: FloatArray
    cloth: Cloth
    origin: FloatArray
    axis: FloatArray
    radius: float
    shade: float = 1.0


def extent(parts: Sequence[Part]) -> FloatArray:
    """Left, bottom, right, top of a figure in body heights ``(4,)``, y up."""
    points = np.concatenate([part.outline for part in parts])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def plain(colour: Colour) -> Cloth:
    """Cloth of one colour."""
    return Cloth("plain", colour, colour)


def solid(outline: FloatArray, colour: Colour, radius: float, shade: float) -> Part:
    """A piece of one colour, shaded about its middle."""
    origin = np.array([outline[:, 0].mean(), outline[:, 1].max()])
    return Part(outline, plain(colour), origin, np.array([0.0, -1.0]), radius, shade)


def hanging(outline: FloatArray, cloth: Cloth, origin: FloatArray, radius: float) -> Part:
    """A hanging piece of patterned cloth."""
    return Part(outline, cloth, origin, np.array([0.0, -1.0]), radius)


def limb(
    start: FloatArray, end: FloatArray, r0: float, r1: float, cloth: Cloth, shade: float
) -> Part:
    """A tapered capsule from ``start`` (radius ``r0``) to ``end`` (``r1``)."""
    offset = end - start
    length = max(float(np.linalg.norm(offset)), 1e-9)
    axis = offset / length
    tilt = float(np.arccos(np.clip((r0 - r1) / length, -1.0, 1.0)))
    heading = float(np.arctan2(axis[1], axis[0]))
    circle = heading + np.concatenate([tilt + (2 * np.pi - 2 * tilt) * _SHARES, tilt * _SWEEP])
    outline = np.column_stack([np.cos(circle), np.sin(circle)])
    outline[: len(_SHARES)] *= r0
    outline[len(_SHARES) :] *= r1
    outline[: len(_SHARES)] += start
    outline[len(_SHARES) :] += end
    return Part(outline, cloth, start, axis, max(r0, r1), shade)


def ellipse(centre: FloatArray, rx: float, ry: float, angle: float) -> FloatArray:
    """An ellipse of half axes ``rx`` and ``ry``, turned by ``angle`` radians."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return centre + np.array(arc(rx, ry, 0, 360)) @ turn.T


def arc(rx: float, ry: float, first: float, last: float) -> list[list[float]]:
    """Points of an ellipse about 0 from one angle to another (degrees, 0 forward, 90 up)."""
    angles = np.radians(np.linspace(first, last, 20))
    return np.column_stack([rx * np.cos(angles), ry * np.sin(angles)]).tolist()


def spline(points: FloatArray, steps: int) -> FloatArray:
    """A closed Catmull-Rom curve through ``(K, 2)`` points, ``(K * steps, 2)``."""
    near = (np.arange(len(points))[:, None] + (-1, 0, 1, 2)) % len(points)  # (K, 4)
    return (_weights(steps) @ points[near]).reshape(-1, 2)


@lru_cache(maxsize=16)
def _weights(steps: int) -> FloatArray:
    """Catmull-Rom weights ``(steps, 4)`` of the point before, here, after and beyond."""
    t = np.linspace(0.0, 1.0, steps, endpoint=False)
    return 0.5 * np.column_stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]
    )

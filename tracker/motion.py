"""Motion models as data: what a filter's state measures, and how large its noises are.

Every model here is one of constant velocity over four measured coordinates, as in SORT (Bewley et
al., 2016), DeepSORT (Wojke et al., 2017) and BoT-SORT (Aharon et al., 2022). They differ in the
coordinates and in the noise; :mod:`tracker.kalman` filters any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trackvae.arrays import FloatArray


def xysr_from_xyxy(boxes: FloatArray) -> FloatArray:
    """Centre x, centre y, area, aspect ratio (width / height); ``(N, 4)`` to ``(N, 4)``."""
    z = np.empty_like(boxes)
    z[:, :2] = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    size = boxes[:, 2:] - boxes[:, :2]
    z[:, 2] = size[:, 0] * size[:, 1]
    z[:, 3] = size[:, 0] / size[:, 1]
    return z


def xyxy_from_xysr(z: FloatArray) -> FloatArray:
    """Inverse of :func:`xysr_from_xyxy`; a state without positive area gives NaN."""
    size = np.empty((len(z), 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.sqrt(z[:, 2] * z[:, 3])
        size[:, 0] = width
        np.divide(z[:, 2], width, out=size[:, 1])
    return _around(z, size)


def xyah_from_xyxy(boxes: FloatArray) -> FloatArray:
    """Centre x, centre y, aspect ratio (width / height), height; ``(N, 4)`` to ``(N, 4)``."""
    z = np.empty_like(boxes)
    z[:, :2] = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    z[:, 3] = boxes[:, 3] - boxes[:, 1]
    z[:, 2] = (boxes[:, 2] - boxes[:, 0]) / z[:, 3]
    return z


def xyxy_from_xyah(z: FloatArray) -> FloatArray:
    """Inverse of :func:`xyah_from_xyxy`."""
    size = z[:, 2:] * z[:, 3:]
    size[:, 1] = z[:, 3]
    return _around(z, size)


def xywh_from_xyxy(boxes: FloatArray) -> FloatArray:
    """Centre x, centre y, width, height; ``(N, 4)`` to ``(N, 4)``."""
    z = np.empty_like(boxes)
    z[:, :2] = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    z[:, 2:] = boxes[:, 2:] - boxes[:, :2]
    return z


def xyxy_from_xywh(z: FloatArray) -> FloatArray:
    """Inverse of :func:`xywh_from_xyxy`."""
    return _around(z, z[:, 2:].copy())


def _around(z: FloatArray, size: FloatArray) -> FloatArray:
    """Boxes ``(N, 4)`` xyxy around the centres in ``z``; ``size`` ``(N, 2)`` is used up."""
    size *= 0.5
    boxes = np.empty_like(z)
    np.subtract(z[:, :2], size, out=boxes[:, :2])
    np.add(z[:, :2], size, out=boxes[:, 2:])
    return boxes


@dataclass(frozen=True)
class Noise:
    """Standard deviations of eight state (or four measured) coordinates.

    A coordinate's deviation is ``relative * scale + absolute``, where the scale is a size of the
    object that the motion model chooses (:attr:`MotionModel.scale`).
    """

    relative: tuple[float, ...]
    absolute: tuple[float, ...]


@dataclass(frozen=True)
class MotionModel:
    """A constant-velocity model over four measured coordinates and their velocities.

    Attributes:
        name: of the measured coordinates.
        measure: ``(N, 4)`` xyxy to measurements ``(N, 4)``.
        boxes: the inverse.
        scale: for each coordinate, the measured coordinate that scales its noise; None where the
            noise is absolute only.
        initial: noise of a new track's state (8).
        process: noise added by a step of one frame (8).
        measurement: noise of a detection (4).
        positive: coordinates that must stay positive; their velocity is zeroed before a step that
            would take them to zero or below (SORT does so for the area).
        size: coordinates that are lengths, whose velocity a lost track may be made to lose.
        turned: a linear map of the image ``(2, 2)`` to what it does to the coordinates ``(4, 4)``.
    """

    name: str
    measure: Callable[[FloatArray], FloatArray]
    boxes: Callable[[FloatArray], FloatArray]
    scale: tuple[int, int, int, int] | None
    initial: Noise
    process: Noise
    measurement: Noise
    size: tuple[int, ...]
    turned: Callable[[FloatArray], FloatArray]
    positive: tuple[int, ...] = ()


def _absolute(*variances: float) -> Noise:
    return Noise((0.0,) * len(variances), tuple(float(np.sqrt(v)) for v in variances))


def _turned(linear: FloatArray, third: float, fourth: float) -> FloatArray:
    """The centre turned, the third and fourth coordinate scaled."""
    out = np.diag([0.0, 0.0, third, fourth])
    out[:2, :2] = linear
    return out


_POSITION, _VELOCITY = 1.0 / 20, 1.0 / 160  # DeepSORT's std weights, relative to the height

# SORT: the aspect ratio is constant, so its velocity has no noise and stays zero.
XYSR = MotionModel(
    name="xysr",
    measure=xysr_from_xyxy,
    boxes=xyxy_from_xysr,
    scale=None,
    initial=_absolute(10, 10, 10, 10, 1e4, 1e4, 1e4, 0),
    process=_absolute(1, 1, 1, 1, 1e-2, 1e-2, 1e-4, 0),
    measurement=_absolute(1, 1, 10, 10),
    size=(2,),
    turned=lambda a: _turned(a, abs(np.linalg.det(a)), 1.0),
    positive=(2,),
)

# DeepSORT: noise grows with the height; the aspect ratio's is absolute.
XYAH = MotionModel(
    name="xyah",
    measure=xyah_from_xyxy,
    boxes=xyxy_from_xyah,
    scale=(3, 3, 3, 3),
    initial=Noise(
        tuple(2 * _POSITION * c for c in (1, 1, 0, 1))
        + tuple(10 * _VELOCITY * c for c in (1, 1, 0, 1)),
        (0, 0, 1e-2, 0, 0, 0, 1e-5, 0),
    ),
    process=Noise(
        tuple(_POSITION * c for c in (1, 1, 0, 1)) + tuple(_VELOCITY * c for c in (1, 1, 0, 1)),
        (0, 0, 1e-2, 0, 0, 0, 1e-5, 0),
    ),
    measurement=Noise(tuple(_POSITION * c for c in (1, 1, 0, 1)), (0, 0, 1e-1, 0)),
    size=(3,),
    turned=lambda a: _turned(a, 1.0, np.sqrt(abs(np.linalg.det(a)))),
)

# BoT-SORT: width and height measured directly, each axis's noise relative to its own size.
XYWH = MotionModel(
    name="xywh",
    measure=xywh_from_xyxy,
    boxes=xyxy_from_xywh,
    scale=(2, 3, 2, 3),
    initial=Noise((2 * _POSITION,) * 4 + (10 * _VELOCITY,) * 4, (0.0,) * 8),
    process=Noise((_POSITION,) * 4 + (_VELOCITY,) * 4, (0.0,) * 8),
    measurement=Noise((_POSITION,) * 4, (0.0,) * 4),
    size=(2, 3),
    turned=lambda a: np.kron(np.eye(2), a),  # as BoT-SORT has it: sizes turn like positions
)

MOTION_MODELS = {model.name: model for model in (XYSR, XYAH, XYWH)}

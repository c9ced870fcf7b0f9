"""Where everybody is: walks through a world wider than the picture, and the camera's own motion.

World coordinates are pixels of the backdrop. A figure's size follows from where its feet are (a
ground plane seen from above head height), so nearer figures are larger and lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracker.synthetic.figures import STRIDE
from trackvae.arrays import BoolArray, FloatArray, IntArray

_HORIZON, _FAR, _NEAR = 0.12, 0.53, 0.95  # rows of the picture, as shares of its height
_BODY_AT_GROUND = 0.56  # body height over the distance of the feet below the horizon
_MARGIN = 0.55  # a walk begins and ends this many (nearest) body heights outside of the world


@dataclass(frozen=True, slots=True)
class World:
    """A scene's measures in pixels: picture ``width`` and ``height``, ``span`` of the world."""

    width: int
    height: int
    span: int

    @property
    def tallest(self) -> float:
        """Height of the tallest body, at the near end of the ground."""
        return float(self.body_height(np.ones(1))[0])

    @property
    def ground(self) -> float:
        """Row where the ground meets the wall."""
        return 0.46 * self.height

    @property
    def horizon(self) -> float:
        """Row of the horizon (behind the wall)."""
        return _HORIZON * self.height

    def feet(self, depth: FloatArray) -> FloatArray:
        """Row of the feet at a depth: 0 far, 1 near."""
        return (_FAR + (_NEAR - _FAR) * depth) * self.height

    def body_height(self, depth: FloatArray) -> FloatArray:
        """Height of the tallest adult's body at a depth."""
        return _BODY_AT_GROUND * (self.feet(depth) - self.horizon)


@dataclass(frozen=True, slots=True, eq=False)
class Walks:
    """Where every figure is in every frame, in world coordinates.

    Attributes:
        present: ``(F, N)`` whether it is in the world at all.
        x: ``(F, N)`` of its ground point.
        depth: ``(F, N)`` 0 far to 1 near.
        cycles: ``(F, N)`` gait cycles walked.
        speed: ``(F, N)`` share of its walking speed, 0 standing to 1.
        facing: ``(F, N)`` int8, 1 to the right, -1 to the left.
    """

    present: BoolArray
    x: FloatArray
    depth: FloatArray
    cycles: FloatArray
    speed: FloatArray
    facing: IntArray


def walks(
    world: World,
    statures: FloatArray,
    frames: int,
    frame_rate: float,
    density: float,
    rng: np.random.Generator,
) -> Walks:
    """Let every figure cross the world again and again, with pauses out of the picture.

    Args:
        world: the measures.
        statures: ``(N,)`` of the figures.
        frames: how many, F.
        frame_rate: frames a second.
        density: the mean share of the time that a figure is in the world, (0, 1].
        rng: where chance comes from.
    """
    shape = (frames, len(statures))
    out = Walks(
        np.zeros(shape, dtype=np.bool_),
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape),
        np.zeros(shape),
        np.ones(shape, dtype=np.int8),
    )
    for n, stature in enumerate(statures.tolist()):
        pace = rng.uniform(0.62, 0.88)  # body heights a second
        first = True
        start = 0
        while start < frames:
            columns = _walk(world, stature, pace, frame_rate, rng)
            length = len(columns[0])
            away = round(length * (1.0 / density - 1.0) * rng.uniform(0.7, 1.3))
            if first:  # the film starts somewhere in the middle of the figure's round
                start = -int(rng.integers(length + away)) if n or density < 1 else -length // 3
                first = False
            a, b = max(start, 0), min(start + length, frames)
            if b > a:
                out.present[a:b, n] = True
                for field, column in zip(
                    (out.x, out.depth, out.cycles, out.speed, out.facing), columns, strict=True
                ):
                    field[a:b, n] = column[a - start : b - start]
            start += length + away
    return out


def _walk(
    world: World, stature: float, pace: float, frame_rate: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, IntArray]:
    """One crossing: x, depth, cycles, speed, facing, each ``(T,)``, from outside to outside."""
    margin = _MARGIN * world.tallest
    direction = 1 if rng.random() < 0.5 else -1
    reach = world.span + 2 * margin
    near, far = rng.uniform(0.0, 1.0, 2)
    slowest = world.body_height(np.array([min(near, far)]))[0] * stature * pace / frame_rate
    crossing = reach / slowest
    pause = rng.uniform(1.0, 2.5) * frame_rate
    t = np.arange(int(2.5 * crossing + 2 * pause + 2 * frame_rate))
    signed = _speed_profile(t, crossing, pause, frame_rate, rng)
    share = np.clip(t / crossing, 0.0, 1.0)
    depth = near + (far - near) * share**2 * (3 - 2 * share)
    height = world.body_height(depth) * stature
    step = signed * pace * height / frame_rate  # pixels a frame
    outside = -margin if direction > 0 else world.span + margin
    x = outside + direction * np.cumsum(step)
    gone = (x < -margin) | (x > world.span + margin)
    gone[0] = False
    end = int(np.argmax(gone)) if gone.any() else len(t)
    cycles = np.cumsum(np.abs(step) / (height * STRIDE)) + rng.random()
    facing = np.where(signed >= 0, direction, -direction).astype(np.int8)
    return x[:end], depth[:end], cycles[:end], np.abs(signed[:end]), facing[:end]


def _speed_profile(
    t: IntArray, crossing: float, pause: float, frame_rate: float, rng: np.random.Generator
) -> FloatArray:
    """Signed share of the walking speed: 1, a stop on the way, or a turn back (then -1)."""
    kind = rng.random()
    ramp = 0.5 * frame_rate
    begin = rng.uniform(0.2, 0.6) * crossing
    down = np.clip((t - begin) / ramp, 0.0, 1.0)
    up = np.clip((t - begin - ramp - pause) / ramp, 0.0, 1.0)
    if kind < 0.25:
        return 1.0 - down + up
    if kind < 0.42:
        return 1.0 - down - up
    return np.ones(len(t))


def camera_path(
    kind: str, world: World, frames: int, frame_rate: float, rng: np.random.Generator
) -> FloatArray:
    """The camera's view of the world in every frame.

    Args:
        kind: ``static``, ``pan`` (a slow sweep from side to side) or ``handheld``.
        world: the measures.
        frames: how many, F.
        frame_rate: frames a second.
        rng: where chance comes from.

    Returns:
        ``(F, 3)``: zoom z and shift (x, y); a world point p is seen at ``z·p + shift``. The view
        never leaves the world.
    """
    seconds = np.arange(frames) / frame_rate
    room = world.span - world.width
    zoom: FloatArray = np.ones(frames)
    x: FloatArray = np.full(frames, 0.5 * room)
    y: FloatArray = np.zeros(frames)
    if kind == "pan":
        period = rng.uniform(14.0, 18.0)
        x = 0.5 * room * (1.0 - np.cos(2 * np.pi * (seconds / period + rng.random())))
    elif kind == "handheld":
        sway = world.width * np.array([0.012, 0.006, 0.0025])
        zoom = 1.025 + 0.008 * _wobble(seconds, (0.13, 0.29), rng)
        slack = (zoom - 1.0) * world.height
        x = x + sway[0] * _wobble(seconds, (0.21, 0.47), rng)
        x += sway[2] * _wobble(seconds, (1.9, 3.1), rng)
        y = 0.5 * slack * (1 + 0.7 * _wobble(seconds, (0.31, 0.7), rng))
        y += 0.12 * slack * _wobble(seconds, (2.3, 3.7), rng)
    x = np.clip(x, 0.0, room)
    view_x = zoom * (x + 0.5 * world.width) - 0.5 * world.width  # zoom about the picture's middle
    return np.column_stack([zoom, -view_x, -y])


def _wobble(seconds: FloatArray, rates: tuple[float, ...], rng: np.random.Generator) -> FloatArray:
    """A smooth wandering within [-1, 1]: sines of the given rates (Hz) at random phases."""
    waves = [np.sin(2 * np.pi * (rate * seconds + rng.random())) for rate in rates]
    return np.mean(waves, axis=0)

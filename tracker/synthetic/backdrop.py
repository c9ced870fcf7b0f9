"""The street behind the figures: houses, paving in perspective, and furniture with its shadows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tracker.synthetic.motion import World
from tracker.synthetic.props import KINDS, prop
from tracker.synthetic.sprites import Sprite, darken, paint, place_shadow
from trackvae.arrays import FloatArray, Image

SUN = (0.55, 0.20)  # where the shadow of a height of 1 falls: right, and back towards the wall
SHADE = 0.42  # how dark a shadow is
_FACADES = ((196, 120, 92), (222, 204, 168), (142, 160, 176), (188, 168, 150), (160, 186, 164),
            (214, 172, 120))  # fmt: skip
_AWNINGS = ((190, 60, 56), (52, 112, 92), (58, 88, 150), (206, 150, 50))
_TILE = 0.42  # side of a paving stone in body heights
_SUPER = 2


@dataclass(frozen=True, slots=True, eq=False)
class Prop:
    """A piece of furniture: its picture, ground point ``foot`` (x, y) and body height ``size``."""

    sprite: Sprite
    foot: tuple[float, float]
    size: float


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """What never moves: the world's ``image`` (H, span, 3) and the ``props`` that hide figures."""

    image: Image
    props: tuple[Prop, ...]


def build(world: World, rng: np.random.Generator, *, shadows: bool = True) -> Backdrop:
    """Paint the world of a scene; the same ``rng`` paints the same."""
    image = np.empty((world.height, world.span, 3), dtype=np.float32)
    ground = round(world.ground)
    image[:ground] = _houses(world, ground, rng)
    image[ground:] = _paving(world, ground, rng)
    rows = np.arange(world.height) - ground
    reach = 0.05 * world.height
    corner = 1.0 - 0.35 * np.exp(-np.abs(rows) / reach)  # little light reaches the wall's foot
    image *= corner[:, None, None]
    image *= (0.97 + 0.06 * _mottle(image.shape[:2], 0.25 * world.height, rng))[..., None]
    image += 3.0 * (_mottle(image.shape[:2], 3.0, rng) - 0.5)[..., None]
    painted = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    props = furniture(world, rng)
    for item in props if shadows else ():
        cast = place_shadow(item.sprite, item.foot, item.size, 1, painted.shape[:2], SUN)
        if cast is not None:
            darken(painted, cast, SHADE)
    return Backdrop(painted, props)


def furniture(world: World, rng: np.random.Generator) -> tuple[Prop, ...]:
    """Furniture along the street, a piece for about 0.6 picture heights, at mixed depths."""
    count = max(2, round(world.span / (0.6 * world.height)))
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    kinds = ["column", *rng.permutation(kinds[1:]).tolist()]
    slots = rng.permutation(count)
    props = []
    for kind, slot in zip(kinds, slots.tolist(), strict=True):
        x = (slot + rng.uniform(0.25, 0.75)) * world.span / count
        depth = rng.uniform(0.25, 0.75)
        foot = float(world.feet(np.array([depth]))[0])
        size = float(world.body_height(np.array([depth]))[0])
        props.append(Prop(paint(prop(kind, rng), size, {}), (x, foot), size))
    return tuple(sorted(props, key=lambda item: item.foot[1]))


def _paving(world: World, ground: int, rng: np.random.Generator) -> FloatArray:
    """Paving stones on the ground plane, ``(H - ground, span, 3)``."""
    y = np.arange(ground, world.height, dtype=np.float32)[:, None] + 0.5
    x = np.arange(world.span, dtype=np.float32)[None] + 0.5
    body = np.float32(0.56) * (y - np.float32(world.horizon))  # pixels of a body height in a row
    across = (x - world.span / 2) / body / _TILE
    depth = 1.1 * world.width / 0.56 / (y - np.float32(world.horizon)) / _TILE
    row = np.floor(depth).astype(np.int64)
    shifted = across + 0.5 * (row % 2)
    column = np.floor(shifted).astype(np.int64)
    tone = rng.uniform(-1.0, 1.0, (64, 256)).astype(np.float32)[row % 64, column % 256]
    base = np.array([168, 182, 190], dtype=np.float32)  # BGR
    band = ((row % 5) == 0)[..., None] * np.array([-6, -22, -34], dtype=np.float32)
    colour = base + band + 9.0 * tone[..., None]
    edge_x = np.abs(shifted - np.rint(shifted)) * body * _TILE  # pixels to the joint
    edge_y = np.abs(depth - np.rint(depth)) * (y - np.float32(world.horizon)) / depth
    joint = np.clip(1.3 - np.minimum(edge_x, edge_y), 0.0, 1.0)
    fine = np.clip(body * _TILE / 40.0, 0.25, 1.0)  # joints fade where stones get small
    colour *= (1.0 - 0.24 * joint * fine)[..., None]
    dapple = _mottle(colour.shape[:2], 0.12 * world.height, rng)
    return colour * (0.95 + 0.1 * dapple)[..., None]


def _houses(world: World, ground: int, rng: np.random.Generator) -> FloatArray:
    """A row of shop fronts, ``(ground, span, 3)``."""
    big = np.zeros((ground * _SUPER, world.span * _SUPER, 3), dtype=np.uint8)
    unit = 0.56 * (world.ground - world.horizon) * _SUPER  # a body height at the wall
    left = -int(rng.integers(0, max(1, round(unit))))
    previous = -1
    while left < big.shape[1]:
        width = round(rng.uniform(2.6, 3.8) * unit)
        choice = int(rng.integers(len(_FACADES)))
        if choice == previous:
            choice = (choice + 1) % len(_FACADES)
        previous = choice
        _house(big, left, left + width, unit, choice, rng)
        left += width
    small = cv2.resize(big, (world.span, ground), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32)


def _house(
    canvas: Image, left: int, right: int, unit: float, choice: int, rng: np.random.Generator
) -> None:
    """One house between two columns; ``unit`` is a body height in pixels."""
    colour = np.array(_FACADES[choice][::-1], dtype=np.float64)
    base = canvas.shape[0]
    a, b = max(left, 0), min(right, canvas.shape[1])
    canvas[:, a:b] = colour
    if choice % 2 == 0:
        _bricks(canvas[:, a:b], colour, 0.065 * unit, rng)
    _rectangle(canvas, (left, base - 0.10 * unit, right, base), colour * 0.62)
    _rectangle(canvas, (left, base - 1.42 * unit, right, base - 1.36 * unit), colour * 1.12)
    _rectangle(canvas, (right - 0.03 * unit, 0, right, base), colour * 0.7)
    count = max(2, round((right - left) / (0.9 * unit)))
    pitch = (right - left) / count
    for i in range(count):
        middle = left + (i + 0.5) * pitch
        _window(canvas, middle, base - 2.3 * unit, 0.5 * unit, 0.75 * unit, rng)
    door = int(rng.integers(count))
    awning = _AWNINGS[rng.integers(len(_AWNINGS))][::-1]
    for i in range(count):
        middle = left + (i + 0.5) * pitch
        if i == door:
            wood = np.array(_AWNINGS[rng.integers(len(_AWNINGS))][::-1]) * 0.6
            _rectangle(canvas, _about(middle, base, 0.52 * unit, 1.24 * unit), (225, 228, 230))
            _rectangle(canvas, _about(middle, base, 0.44 * unit, 1.19 * unit), wood)
            glass = _about(middle, base - 0.5 * unit, 0.28 * unit, 0.6 * unit)
            _glass(canvas, glass, rng)
        else:
            _window(canvas, middle, base - 0.25 * unit, 0.74 * pitch, 0.86 * unit, rng)
            _awning(canvas, middle, base - 1.28 * unit, 0.84 * pitch, 0.26 * unit, awning)


def _window(
    canvas: Image, middle: float, bottom: float, width: float, height: float,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """A framed window with a sill."""
    border = 0.06 * height
    _rectangle(canvas, _about(middle, bottom, width, height), (222, 226, 228))
    _glass(canvas, _about(middle, bottom - border, width - 2 * border, height - 2 * border), rng)
    if rng.random() < 0.6:
        bar = _about(middle, bottom - border, 0.6 * border, height - 2 * border)
        _rectangle(canvas, bar, (214, 218, 220))
    sill = (middle - 0.55 * width, bottom, middle + 0.55 * width, bottom + border)
    _rectangle(canvas, sill, (180, 186, 190))


def _glass(canvas: Image, box: tuple[float, float, float, float], rng: np.random.Generator) -> None:
    """A pane that reflects a pale sky, with a slanting gleam."""
    x0, y0, x1, y1 = _cut(canvas, box)
    if x1 <= x0 or y1 <= y0:
        return
    v = np.linspace(0.0, 1.0, y1 - y0)[:, None, None]
    u = (np.arange(x0, x1) - box[0])[None, :, None] / max(box[2] - box[0], 1.0)
    top, low = np.array([176.0, 158.0, 134.0]), np.array([86.0, 76.0, 66.0])
    pane = top + (low - top) * v**0.7
    gleam = np.abs(u + 0.45 * v - rng.uniform(0.3, 0.9)) < 0.10
    canvas[y0:y1, x0:x1] = np.clip(pane + 26.0 * gleam, 0, 255)


def _awning(
    canvas: Image, middle: float, top: float, width: float, height: float, colour: tuple[int, ...]
) -> None:
    """A striped awning with a scalloped edge."""
    stripes = 9
    pitch = width / stripes
    for i in range(stripes):
        paint_ = colour if i % 2 == 0 else (232, 238, 240)
        x0, x1 = middle - width / 2 + i * pitch, middle - width / 2 + (i + 1) * pitch
        spread = 1.06
        quad = np.array(
            [[x0, top], [x1, top], [middle + (x1 - middle) * spread, top + height],
             [middle + (x0 - middle) * spread, top + height]]
        )  # fmt: skip
        cv2.fillPoly(canvas, [np.rint(quad).astype(np.int32)], paint_)
        centre = np.rint((quad[2] + quad[3]) / 2).astype(int).tolist()
        axes = (round(pitch * spread / 2), round(0.18 * height))
        shade = tuple(0.86 * c for c in paint_)
        cv2.ellipse(canvas, centre, axes, 0.0, 0.0, 180.0, shade, -1, cv2.LINE_AA)


def _bricks(region: Image, colour: FloatArray, course: float, rng: np.random.Generator) -> None:
    """Bricks of single tones with pale joints, in place."""
    height, width = region.shape[:2]
    y, x = np.arange(height)[:, None] / course, np.arange(width)[None] / (2.3 * course)
    row = np.floor(y).astype(np.int64)
    x = x + 0.5 * (row % 2)
    tone = rng.uniform(0.86, 1.1, (64, 128))[row % 64, np.floor(x).astype(np.int64) % 128]
    joint = ((y % 1.0) < 0.16) | ((x % 1.0) < 0.07)
    tone = np.where(joint, 1.14, tone)
    region[:] = np.clip(colour * tone[..., None], 0, 255)


def _about(
    middle: float, bottom: float, width: float, height: float
) -> tuple[float, float, float, float]:
    return middle - width / 2, bottom - height, middle + width / 2, bottom


def _cut(canvas: Image, box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """A box in whole pixels within the canvas."""
    height, width = canvas.shape[:2]
    x0, x1 = np.clip(np.rint([box[0], box[2]]), 0, width).astype(int).tolist()
    y0, y1 = np.clip(np.rint([box[1], box[3]]), 0, height).astype(int).tolist()
    return x0, y0, x1, y1


def _rectangle(
    canvas: Image, box: tuple[float, float, float, float], colour: FloatArray | tuple[int, ...]
) -> None:
    x0, y0, x1, y1 = _cut(canvas, box)
    canvas[y0:y1, x0:x1] = np.clip(colour, 0, 255)


def _mottle(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> FloatArray:
    """Smooth noise in [0, 1] with patches of ``size`` pixels."""
    rows, columns = (int(np.ceil(side / max(size, 1.0))) + 3 for side in shape[:2])
    coarse = rng.random((rows, columns), dtype=np.float32)
    smooth = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.asarray(smooth, dtype=np.float32), 0.0, 1.0)

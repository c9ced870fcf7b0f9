"""Painting: a pose of a figure to a small picture with transparency, and such pictures to frames.

A sprite holds premultiplied BGRA at the size of the largest figure of the scene and at half of it;
placing it is one affine warp with sub-pixel precision. Coordinates are continuous: pixel ``i``
covers ``[i, i + 1)``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tracker.synthetic.figures import body
from tracker.synthetic.shapes import Part, extent
from tracker.synthetic.wardrobe import Cloth, Colour, Look
from trackvae.arrays import FloatArray, Image

_OVERSAMPLE = 2
_SHIFT = 4  # fractional bits of cv2.fillPoly's coordinates
_EDGE = 0.67  # pixels by which cv2.fillPoly with LINE_AA widens a shape on every side (measured)
_KEPT = 2_000  # sprites of 250 px are about 0.15 MB: at most 300 MB
_SOLID = 128  # alpha from which a pixel belongs to the silhouette
_SHADOW = 4  # the shadow is made of the silhouette at a quarter of the size

_TileKey = tuple[Cloth, float, float, float]
Patch = tuple[npt.NDArray[np.uint8], int, int]  # pixels, left, top


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A painted pose.

    Attributes:
        levels: premultiplied BGRA ``(h, w, 4)``, each half the size of the one before.
        shadow: blurred silhouette ``(h, w)`` at a quarter of the first level.
        origin: ``(2,)`` the figure's ground point in the first level's pixels.
        scale: pixels of the first level for a body height.
    """

    levels: tuple[Image, ...]
    shadow: npt.NDArray[np.uint8]
    origin: FloatArray
    scale: float

    def level(self, size: float) -> tuple[Image, float]:
        """The smallest level that need not be enlarged for a body of ``size`` px, its factor."""
        index = 0
        while index + 1 < len(self.levels) and self.scale / 2 ** (index + 1) >= size:
            index += 1
        return self.levels[index], 0.5**index


class SpriteBook:
    """The sprites of a cast, painted when first needed; the least used are forgotten."""

    def __init__(self, looks: list[Look], size: float) -> None:
        """A book for these looks; ``size`` is the tallest body in pixels."""
        self._looks = looks
        self._size = float(size)
        self._sprites: OrderedDict[tuple[int, int], Sprite] = OrderedDict()
        self._tiles: dict[_TileKey, Image] = {}

    def get(self, identity: int, pose: int) -> Sprite:
        """The sprite of a figure (from 0) in a pose."""
        key = (identity, pose)
        sprite = self._sprites.get(key)
        if sprite is None:
            sprite = paint(body(self._looks[identity], pose), self._size, self._tiles)
            self._sprites[key] = sprite
            if len(self._sprites) > _KEPT:
                self._sprites.popitem(last=False)
        else:
            self._sprites.move_to_end(key)
        return sprite


def paint(parts: list[Part], size: float, tiles: dict[_TileKey, Image]) -> Sprite:
    """Paint a thing at ``size`` pixels a body height; ``tiles`` keeps the cloth between calls."""
    scale = _OVERSAMPLE * size
    x0, y0, x1, y1 = extent(parts)
    unit = _OVERSAMPLE * 2 ** (_levels(size) - 1)
    unit = max(unit, _OVERSAMPLE * _SHADOW)
    pad = 2 * unit
    left, top = np.floor(x0 * scale) - pad, np.floor(-y1 * scale) - pad
    width = int(np.ceil((x1 * scale + pad - left) / unit) * unit)
    height = int(np.ceil((-y0 * scale + pad - top) / unit) * unit)
    canvas = np.zeros((height, width, 4), dtype=np.uint8)
    offset = np.array([left, top])
    outlines = _inset([part.outline * (scale, -scale) - offset for part in parts])
    for part, outline in zip(parts, outlines, strict=True):
        _paint_part(canvas, part, outline, scale, offset, tiles)
    levels = [_shrunk(canvas, _OVERSAMPLE)]
    for _ in range(_levels(size) - 1):
        levels.append(_shrunk(levels[-1], 2))
    shadow = cv2.GaussianBlur(_shrunk(levels[0][..., 3], _SHADOW), (0, 0), 0.02 * size / _SHADOW)
    return Sprite(tuple(levels), np.asarray(shadow, np.uint8), -offset / _OVERSAMPLE, size)


def _levels(size: float) -> int:
    """How many halvings pay: down to about 60 px."""
    return int(np.clip(np.log2(max(size, 1.0) / 60.0) + 1.0, 1, 4))


def _shrunk(image: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def _paint_part(
    canvas: Image,
    part: Part,
    points: FloatArray,
    scale: float,
    offset: FloatArray,
    tiles: dict[_TileKey, Image],
) -> None:
    """Lay one part over the canvas (premultiplied BGRA); ``points`` is its outline there."""
    low = np.floor(points.min(axis=0)).astype(int) - 2
    high = np.ceil(points.max(axis=0)).astype(int) + 2
    width, height = (high - low).tolist()
    mask = np.zeros((height, width), dtype=np.uint8)
    fixed = np.rint((points - low - 0.5) * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, _SHIFT)
    tile = _tile(part, scale, tiles)
    axis = part.axis * (1.0, -1.0)
    turn = np.array([[axis[1], axis[0]], [-axis[0], axis[1]]])  # tile (u, v) to canvas (x, y)
    start = part.origin * (scale, -scale) - offset - low
    middle = np.array([tile.shape[1] / 2, tile.shape[0] / 4])
    matrix = np.column_stack([turn, start - turn @ middle])
    colour = cv2.warpAffine(
        tile, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    roi = canvas[low[1] : high[1], low[0] : high[0]]
    cover = cv2.merge([mask, mask, mask, mask])
    over = cv2.multiply(colour, cover, scale=1 / 255)
    roi[:] = cv2.add(cv2.multiply(roi, cv2.bitwise_not(cover), scale=1 / 255), over)


def _inset(outlines: list[FloatArray]) -> list[FloatArray]:
    """Polygons ``(K, 2)`` moved inwards by what OpenCV's smooth edges add on every side."""
    lengths = np.array([len(outline) for outline in outlines])
    starts = np.cumsum(lengths) - lengths
    points = np.concatenate(outlines)  # (sum of K, 2), all at once: 0.3 ms against 3 one by one
    following, before = np.arange(1, len(points) + 1), np.arange(-1, len(points) - 1)
    following[starts + lengths - 1], before[starts] = starts, starts + lengths - 1
    after = points[following]
    cross = points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]
    turning = np.repeat(np.sign(np.add.reduceat(cross, starts)), lengths)[:, None]
    edge = turning * np.column_stack([points[:, 1] - after[:, 1], after[:, 0] - points[:, 0]])
    edge /= np.maximum(np.linalg.norm(edge, axis=1, keepdims=True), 1e-9)
    normal = edge + edge[before]  # inwards at every corner
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    spread = np.maximum.reduceat(points, starts) - np.minimum.reduceat(points, starts)
    amount = np.repeat(np.minimum(_EDGE, 0.2 * spread.min(axis=1)), lengths)
    return np.split(points + amount[:, None] * normal, starts[1:])


def _tile(part: Part, scale: float, tiles: dict[_TileKey, Image]) -> Image:
    """The cloth of a part, shaded round, ``(h, w, 4)`` BGRA; the part begins at a quarter of h."""
    key = (part.cloth, part.radius, part.shade, scale)
    tile = tiles.get(key)
    if tile is None:
        width = int(np.ceil(2.6 * part.radius * scale)) + 2
        height = int(np.ceil(0.8 * scale))
        u = (np.arange(width, dtype=np.float32) + 0.5 - width / 2)[None] / np.float32(scale)
        v = (np.arange(height, dtype=np.float32) + 0.5 - height / 4)[:, None] / np.float32(scale)
        colour = _pattern(part.cloth, u, v)
        across = u / part.radius
        round_ = 1.10 - 0.30 * (across - 0.25) ** 2 - 0.16 * np.maximum(0.0, -across)
        fall = 1.03 - 0.12 * np.clip(v / 0.4, 0.0, 1.0)  # lower parts get less of the sky
        light = part.shade * np.clip(round_, 0.45, 1.15) * fall
        shaded = np.clip(colour * light[..., None], 0, 255)
        tile = np.dstack([shaded, np.full(shaded.shape[:2], 255)]).astype(np.uint8)
        tiles[key] = tile
    return tile


def _pattern(cloth: Cloth, u: FloatArray, v: FloatArray) -> FloatArray:
    """Colours ``(h, w, 3)`` BGR of a cloth at across ``u`` and down ``v``, in body heights."""
    u, v = np.broadcast_arrays(u, v)
    s = cloth.scale
    kind = cloth.pattern
    if kind == "hoops":
        share = _soft(np.sin(2 * np.pi * v / s))
    elif kind == "stripes":
        share = _soft(np.sin(2 * np.pi * u / (0.7 * s)) - 0.2)
    elif kind == "checks":
        share = 0.5 * _soft(np.sin(2 * np.pi * u / s)) + 0.5 * _soft(np.sin(2 * np.pi * v / s))
    elif kind == "dots":
        row = np.floor(v / (0.6 * s))
        du = (u / (0.6 * s) + 0.5 * (row % 2)) % 1.0 - 0.5
        dv = (v / (0.6 * s)) % 1.0 - 0.5
        share = _soft((0.30 - np.hypot(du, dv)) * 6)
    elif kind == "gradient":
        share = np.clip((v + 0.01) / 0.3, 0.0, 1.0)
    elif kind == "block":
        share = _soft((v - 0.13) * 120) * _soft((0.215 - v) * 120)
    elif kind == "zigzag":
        share = _soft(np.sin(2 * np.pi * (v + np.abs(u % s - s / 2)) / s))
    else:
        share = np.zeros(u.shape)
    first, second = _bgr(cloth.first), _bgr(cloth.second)
    return first + share[..., None] * (second - first)


def _soft(value: FloatArray) -> FloatArray:
    """A step at 0 with a short ramp, so that patterns do not alias."""
    return np.clip(0.5 + 1.6 * value, 0.0, 1.0)


def _bgr(colour: Colour) -> FloatArray:
    return np.array(colour[::-1], dtype=np.float32)


def place(
    sprite: Sprite,
    foot: tuple[float, float],
    size: float,
    facing: int,
    shape: tuple[int, int] | None,
    *,
    alpha_only: bool = False,
) -> Patch | None:
    """Warp a sprite to its place in an image.

    Args:
        sprite: the painted pose.
        foot: the ground point in image pixels (x, y).
        size: body height in pixels.
        facing: 1 to the right, -1 to the left.
        shape: height and width of the image, or None to keep what lies outside of it.
        alpha_only: give the ``(h, w)`` alpha instead of ``(h, w, 4)`` BGRA.

    Returns:
        The patch and its left and top, or None where nothing lies in the image.
    """
    image, factor = sprite.level(size)
    if alpha_only:
        image = image[..., 3]
    k = size / (sprite.scale * factor)
    ox, oy = sprite.origin * factor
    ends = foot[0] + facing * k * (np.array([0.0, image.shape[1]]) - ox)
    box = (ends.min(), foot[1] - k * oy, ends.max(), foot[1] + k * (image.shape[0] - oy))
    affine = np.array([[facing * k, 0.0, foot[0] - facing * k * ox], [0.0, k, foot[1] - k * oy]])
    return warp(image, affine, box, shape)


def place_shadow(
    sprite: Sprite,
    foot: tuple[float, float],
    size: float,
    facing: int,
    shape: tuple[int, int],
    cast: tuple[float, float],
) -> Patch | None:
    """Warp a figure's silhouette onto the ground: a height of 1 falls at ``cast`` (x, y up)."""
    image = sprite.shadow
    k = size * _SHADOW / sprite.scale
    ox, oy = sprite.origin / _SHADOW
    a, b = facing * k, -cast[0] * k
    d = cast[1] * k
    affine = np.array([[a, b, foot[0] - a * ox - b * oy], [0.0, d, foot[1] - d * oy]])
    corners = np.array([[0, 0, 1], [image.shape[1], 0, 1], [0, image.shape[0], 1],
                        [image.shape[1], image.shape[0], 1]]) @ affine.T  # fmt: skip
    box = (*corners.min(axis=0), *corners.max(axis=0))
    return warp(image, affine, box, shape)


def warp(
    image: npt.NDArray[np.uint8],
    affine: FloatArray,
    box: tuple[Any, ...],
    shape: tuple[int, int] | None,
) -> Patch | None:
    """Draw ``image`` under a ``(2, 3)`` map of continuous coordinates, cut at ``shape``.

    Returns:
        The pixels within ``box`` (left, top, right, bottom), with the patch's left and top.
    """
    left, top = int(np.floor(box[0])), int(np.floor(box[1]))
    right, bottom = int(np.ceil(box[2])), int(np.ceil(box[3]))
    if shape is not None:
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, shape[1]), min(bottom, shape[0])
    if right <= left or bottom <= top:
        return None
    # OpenCV counts from pixel centres: x' + 0.5 = A (x + 0.5) + b.
    matrix = affine.copy()
    matrix[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5 - np.array([left, top])
    patch = cv2.warpAffine(image, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    return np.asarray(patch, dtype=np.uint8), left, top


def lay(frame: Image, patch: Patch, light: float = 1.0) -> None:
    """Lay a premultiplied BGRA patch over the frame, in place."""
    pixels, left, top = patch
    height, width = pixels.shape[:2]
    roi = frame[top : top + height, left : left + width]
    rest = cv2.cvtColor(255 - pixels[..., 3], cv2.COLOR_GRAY2BGR)
    under = cv2.multiply(roi, rest, scale=1 / 255)
    over = pixels[..., :3] if light == 1.0 else cv2.convertScaleAbs(pixels[..., :3], alpha=light)
    roi[:] = cv2.add(under, over)


def darken(frame: Image, patch: Patch, strength: float) -> None:
    """Darken the frame by a shadow's ``(h, w)`` alpha, in place."""
    pixels, left, top = patch
    height, width = pixels.shape[:2]
    roi = frame[top : top + height, left : left + width]
    keep = cv2.convertScaleAbs(pixels, alpha=strength)
    rest = cv2.cvtColor(255 - keep, cv2.COLOR_GRAY2BGR)
    roi[:] = cv2.multiply(roi, rest, scale=1 / 255)


def silhouette(patch: Patch) -> npt.NDArray[np.bool_]:
    """Which pixels of an ``(h, w)`` alpha patch belong to the figure."""
    return np.asarray(patch[0] >= _SOLID)

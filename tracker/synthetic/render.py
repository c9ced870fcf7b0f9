"""From positions to pictures, and to the exact share of every figure that can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from tracker.synthetic.backdrop import SHADE, SUN, Backdrop, Prop
from tracker.synthetic.sprites import (
    Patch,
    SpriteBook,
    darken,
    lay,
    place,
    place_shadow,
    silhouette,
)
from trackvae.arrays import FloatArray, Image, IntArray

_NOISE_MARGIN = 61  # the noise is cut from a larger picture at a random place, new in every frame


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One frame's figures, as the camera sees them, the farthest first.

    Attributes:
        identity: ``(N,)`` from 0.
        pose: ``(N,)`` index of the pose.
        foot: ``(N, 2)`` ground point in picture pixels.
        size: ``(N,)`` body height in pixels.
        facing: ``(N,)`` 1 right, -1 left.
        boxes: ``(N, 4)`` tight xyxy in pixels.
        camera: ``(3,)`` zoom and shift (x, y).
    """

    identity: IntArray
    pose: IntArray
    foot: FloatArray
    size: FloatArray
    facing: IntArray
    boxes: FloatArray
    camera: FloatArray


class Renderer:
    """Paints stages over a backdrop; sprites are made when first needed."""

    def __init__(
        self,
        backdrop: Backdrop,
        book: SpriteBook,
        width: int,
        height: int,
        *,
        shadows: bool,
        noise: float,
        seed: int,
    ) -> None:
        """Paint ``width`` by ``height`` pictures with sensor ``noise`` (grey levels)."""
        self._backdrop = backdrop
        self._book = book
        self._shape = (height, width)
        self._shadows = shadows
        self._seed = seed
        self._noise: tuple[Image, Image] | None = None
        if noise > 0:
            shape = (height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3)
            grain = np.random.default_rng([seed, 17]).standard_normal(shape, dtype=np.float32)
            grain = np.rint(noise * grain)
            self._noise = (
                np.clip(grain, 0, 255).astype(np.uint8),
                np.clip(-grain, 0, 255).astype(np.uint8),
            )

    def image(self, stage: Stage, light: float, frame: int) -> Image:
        """The picture of a stage ``(H, W, 3)``; ``light`` multiplies its brightness."""
        picture = self._background(stage.camera)
        if self._shadows:
            for i in range(len(stage.identity)):
                sprite = self._book.get(int(stage.identity[i]), int(stage.pose[i]))
                foot, size = _foot(stage, i), float(stage.size[i])
                cast = place_shadow(sprite, foot, size, int(stage.facing[i]), self._shape, SUN)
                if cast is not None:
                    darken(picture, cast, SHADE)
        for _, thing, index in self._near_last(stage):
            patch = self._patch(stage, thing, index)
            if patch is not None:
                lay(picture, patch)
        if light != 1.0:
            picture = np.asarray(cv2.convertScaleAbs(picture, alpha=light), dtype=np.uint8)
        return self._grain(picture, frame)

    def visibility(self, stage: Stage) -> tuple[FloatArray, FloatArray]:
        """Share of every figure's silhouette that is seen, and that lies in the picture ``(N,)``.

        Both are counted in pixels of the painted silhouette (alpha of at least one half) against
        all of them, those outside of the picture included.
        """
        count = len(stage.identity)
        shown, inside = np.ones(count), np.ones(count)
        taken = np.zeros(self._shape, dtype=np.bool_)
        alone = self._alone(stage)
        for _, thing, index in reversed(list(self._near_last(stage))):
            if thing is None and alone[index]:
                continue  # it hides nobody, nobody hides it, and it is wholly in the picture
            patch = self._patch(stage, thing, index, alpha_only=True)
            visible, within, total = 0, 0, 1
            if patch is not None:
                mask = silhouette(patch)
                area = np.s_[
                    patch[2] : patch[2] + mask.shape[0], patch[1] : patch[1] + mask.shape[1]
                ]
                within = int(np.count_nonzero(mask))
                visible = int(np.count_nonzero(mask & ~taken[area]))
                taken[area] |= mask
            if thing is None:
                total = max(self._whole_area(stage, index), 1)
                shown[index], inside[index] = visible / total, within / total
        return shown, inside

    def _whole_area(self, stage: Stage, index: int) -> int:
        """Pixels of a silhouette, wherever they lie."""
        x0, y0, x1, y1 = stage.boxes[index]
        cut = x0 < 1 or y0 < 1 or x1 > self._shape[1] - 1 or y1 > self._shape[0] - 1
        patch = self._patch(stage, None, index, alpha_only=True, whole=bool(cut))
        return 0 if patch is None else int(np.count_nonzero(silhouette(patch)))

    def _alone(self, stage: Stage) -> list[bool]:
        """Which figures touch no other box, no furniture and no border."""
        props = [self._prop_box(item, stage.camera) for item in self._backdrop.props]
        others = np.vstack([stage.boxes, np.array(props).reshape(-1, 4)])
        mine = stage.boxes
        touch = (mine[:, None, :2] < others[None, :, 2:] + 2).all(axis=2)
        touch &= (mine[:, None, 2:] > others[None, :, :2] - 2).all(axis=2)
        limit = np.array([self._shape[1], self._shape[0]])
        inside = (mine[:, :2] >= 2).all(axis=1) & (mine[:, 2:] <= limit - 2).all(axis=1)
        return ((touch.sum(axis=1) == 1) & inside).tolist()

    def _prop_box(self, item: Prop, camera: FloatArray) -> list[float]:
        image, factor = item.sprite.levels[0], camera[0] * item.size / item.sprite.scale
        x, y = camera[0] * np.array(item.foot) + camera[1:]
        ox, oy = item.sprite.origin
        left, top = x - ox * factor, y - oy * factor
        return [left, top, left + image.shape[1] * factor, top + image.shape[0] * factor]

    def _near_last(self, stage: Stage) -> Iterator[tuple[float, Prop | None, int]]:
        """Figures and furniture by where their feet are: the row, the prop or None, the figure."""
        rows = [(float(stage.foot[i, 1]), None, i) for i in range(len(stage.identity))]
        zoom, _, shift = stage.camera.tolist()
        things: list[tuple[float, Prop | None, int]] = [*rows]
        things += [(zoom * item.foot[1] + shift, item, -1) for item in self._backdrop.props]
        return iter(sorted(things, key=lambda thing: thing[0]))

    def _patch(
        self,
        stage: Stage,
        thing: Prop | None,
        index: int,
        *,
        alpha_only: bool = False,
        whole: bool = False,
    ) -> Patch | None:
        shape = None if whole else self._shape
        if thing is not None:
            zoom, shift = float(stage.camera[0]), stage.camera[1:]
            x, y = (zoom * np.array(thing.foot) + shift).tolist()
            size = zoom * thing.size
            return place(thing.sprite, (x, y), size, 1, shape, alpha_only=alpha_only)
        sprite = self._book.get(int(stage.identity[index]), int(stage.pose[index]))
        size = float(stage.size[index])
        facing = int(stage.facing[index])
        return place(sprite, _foot(stage, index), size, facing, shape, alpha_only=alpha_only)

    def _background(self, camera: FloatArray) -> Image:
        """The world as the camera sees it."""
        height, width = self._shape
        zoom, x, y = camera.tolist()
        world = self._backdrop.image
        if zoom == 1.0 and x == round(x) and y == round(y):
            left, top = -round(x), -round(y)
            return world[top : top + height, left : left + width].copy()
        half = 0.5 * zoom - 0.5  # OpenCV counts from pixel centres
        matrix = np.array([[zoom, 0.0, x + half], [0.0, zoom, y + half]])
        picture = cv2.warpAffine(
            world, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(picture, dtype=np.uint8)

    def _grain(self, picture: Image, frame: int) -> Image:
        """Sensor noise, another cut of it in every frame."""
        if self._noise is None:
            return picture
        rng = np.random.default_rng([self._seed, 18, frame])
        x, y = rng.integers(0, _NOISE_MARGIN, 2).tolist()
        height, width = self._shape
        more, less = (grain[y : y + height, x : x + width] for grain in self._noise)
        return np.asarray(cv2.subtract(cv2.add(picture, more), less), dtype=np.uint8)


def _foot(stage: Stage, index: int) -> tuple[float, float]:
    return float(stage.foot[index, 0]), float(stage.foot[index, 1])

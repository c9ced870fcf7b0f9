"""A made street scene: its settings, its exact ground truth, its detections and its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from tracker.io.mot import BoxTable
from tracker.io.seqinfo import SequenceInfo
from tracker.synthetic import figures
from tracker.synthetic.detections import DetectorErrors, detect
from tracker.synthetic.motion import World, camera_path, walks
from tracker.synthetic.shapes import extent
from tracker.synthetic.wardrobe import dress
from tracker.synthetic.writing import Progress, write_sequence
from trackvae.arrays import FloatArray, Image, IntArray
from trackvae.errors import UsageError

if TYPE_CHECKING:
    from tracker.synthetic.render import Renderer, Stage

Camera: TypeAlias = Literal["static", "pan", "handheld"]
CAMERAS: dict[Camera, float] = {
    "static": 1.0,
    "pan": 1.6,
    "handheld": 1.12,
}  # width of the world in pictures


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """What a made scene is like; the same settings give the same scene.

    Attributes:
        width: of the picture in pixels.
        height: of the picture in pixels.
        frames: how many.
        frame_rate: frames a second; figures walk at the same speed at any rate.
        figures: how many distinct identities come and go.
        density: mean share of the time that a figure is in the scene, (0, 1]; below 1 it leaves
            and comes back later with the same id.
        camera: ``static``, ``pan`` (a slow sweep) or ``handheld`` (sway and a breath of zoom).
        seed: of everything random.
        miss_rate: probability that the detector misses a fully visible figure.
        occlusion_misses: how much more often it misses the hidden: a figure of visibility v is
            missed with probability 1 - (1 - miss_rate)(1 - occlusion_misses (1 - v)).
        false_alarms_per_frame: mean number of detections around nothing.
        jitter: standard deviation of a detection's centre and (relative) size, as a share of the
            box's width and height.
        score_noise: standard deviation of the detector's scores.
        noise: standard deviation of the sensor's noise in grey levels.
        light: how far the brightness wanders, as a share.
        shadows: whether figures and furniture cast shadows.
    """

    width: int = 960
    height: int = 540
    frames: int = 300
    frame_rate: float = 25.0
    figures: int = 10
    density: float = 0.75
    camera: Camera = "static"
    seed: int = 0
    miss_rate: float = 0.05
    occlusion_misses: float = 0.9
    false_alarms_per_frame: float = 0.3
    jitter: float = 0.03
    score_noise: float = 0.08
    noise: float = 2.0
    light: float = 0.03
    shadows: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be made."""
        if self.camera not in CAMERAS:
            raise UsageError(f"camera is {self.camera!r}, expected one of {', '.join(CAMERAS)}")
        limits = {
            "width": (64, 8192),
            "height": (64, 8192),
            "frames": (1, 10**7),
            "figures": (0, 500),
            "frame_rate": (1.0, 240.0),
            "density": (0.05, 1.0),
            "noise": (0.0, 50.0),
            "light": (0.0, 0.5),
            "seed": (0, 2**63),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}, expected {low:g} to {high:g}")
        self.errors.check()

    @property
    def errors(self) -> DetectorErrors:
        """The detector's imperfections."""
        return DetectorErrors(
            self.miss_rate,
            self.occlusion_misses,
            self.false_alarms_per_frame,
            self.jitter,
            self.score_noise,
        )

    def perfect(self) -> SceneConfig:
        """The same scene before a faultless detector."""
        return replace(
            self,
            miss_rate=0.0,
            occlusion_misses=0.0,
            false_alarms_per_frame=0.0,
            jitter=0.0,
            score_noise=0.0,
        )


class Scene:
    """A scene of walking figures. Frames count from 1, ids from 1.

    The boxes are tight on the whole figure, hidden parts and parts outside of the picture
    included (as in MOT16). A row exists while any pixel of the figure's silhouette lies in the
    picture; its visibility is the share of the silhouette's pixels that is seen: neither outside
    nor behind a nearer figure or furniture, so it can be 0.
    """

    def __init__(self, config: SceneConfig) -> None:
        """Plan the scene; pictures are painted only when asked for."""
        self.config = config
        span = round(config.width * CAMERAS[config.camera])
        self._world = World(config.width, config.height, span)
        self._looks = dress(config.figures, self._rng("looks"))
        self._statures = np.array([look.stature for look in self._looks])
        self._extents = np.full((config.figures, figures.POSES, 4), np.nan)  # filled when needed
        self._walks = walks(
            self._world,
            self._statures,
            config.frames,
            config.frame_rate,
            config.density,
            self._rng("walks"),
        )
        path_rng = self._rng("camera")
        self.camera: FloatArray = camera_path(
            config.camera, self._world, config.frames, config.frame_rate, path_rng
        )
        """``(F, 3)`` zoom z and shift: the world's point p is seen at ``z·p + shift``."""

    @property
    def info(self) -> SequenceInfo:
        """What ``seqinfo.ini`` says of the scene."""
        c = self.config
        name = f"synthetic-{c.camera}-{c.seed}"
        return SequenceInfo(name, c.frames, c.frame_rate, c.width, c.height)

    @cached_property
    def ground_truth(self) -> BoxTable:
        """Every figure's box in every frame that shows a part of it: class 1, mark 1."""
        frames, ids, boxes, visible = [], [], [], []
        for frame in range(1, self.config.frames + 1):
            stage = self._stage(frame)
            if not len(stage.identity):
                continue
            shown, inside = self._renderer.visibility(stage)
            keep = np.flatnonzero(inside > 0)
            keep = keep[np.argsort(stage.identity[keep])]
            frames.append(np.full(len(keep), frame))
            ids.append(stage.identity[keep] + 1)
            boxes.append(stage.boxes[keep])
            visible.append(shown[keep])
        if not frames:
            return BoxTable.empty()
        rows = sum(len(column) for column in frames)
        return BoxTable.of(
            np.concatenate(frames),
            np.concatenate(ids),
            np.concatenate(boxes),
            classes=np.ones(rows, dtype=np.int64),
            visibility=np.concatenate(visible),
        )

    @cached_property
    def detections(self) -> BoxTable:
        """What an imperfect detector reports: ids -1, scores in (0, 1], class 1."""
        size = (self.config.width, self.config.height)
        rng = self._rng("detections")
        return detect(self.ground_truth, self.config.frames, size, self.config.errors, rng)

    def image(self, frame: int) -> Image:
        """The picture of a frame (from 1), ``(H, W, 3)`` uint8 BGR.

        Raises:
            UsageError: there is no such frame.
        """
        if not 1 <= frame <= self.config.frames:
            raise UsageError(f"frame {frame} asked for, the scene has 1 to {self.config.frames}")
        return self._renderer.image(self._stage(frame), float(self._light[frame - 1]), frame)

    def frames(self) -> Iterator[Image]:
        """The pictures in order, each painted when it is asked for."""
        for frame in range(1, self.config.frames + 1):
            yield self.image(frame)

    def write(
        self,
        directory: str | Path,
        *,
        images: str = "jpg",
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write the scene as a MOT16 sequence, whole or not at all.

        Args:
            directory: the sequence's folder; its last part is the sequence's name.
            images: ``jpg`` or ``png`` for ``img1/000001.jpg`` ..., ``mp4`` for one H.264 file
                ``<name>.mp4``, ``none`` for boxes only.
            overwrite: also replace a made scene that is there; of other folders only an empty
                one is ever taken.
            progress: called with the frames done and all of them.

        Returns:
            The folder.

        Raises:
            InputError: the folder exists and is not empty, with ``overwrite`` holds anything but
                a made scene, or cannot be written.
            UsageError: an unknown kind of images.
        """
        return write_sequence(
            self, Path(directory), images=images, overwrite=overwrite, progress=progress
        )

    @cached_property
    def _renderer(self) -> Renderer:
        from tracker.synthetic.backdrop import build
        from tracker.synthetic.render import Renderer
        from tracker.synthetic.sprites import SpriteBook

        c = self.config
        return Renderer(
            build(self._world, self._rng("backdrop"), shadows=c.shadows),
            SpriteBook(self._looks, self._world.tallest * float(self.camera[:, 0].max())),
            c.width,
            c.height,
            shadows=c.shadows,
            noise=c.noise,
            seed=c.seed,
        )

    @cached_property
    def _light(self) -> FloatArray:
        """Brightness in every frame ``(F,)``: two slow waves about 1."""
        rng = self._rng("light")
        seconds = np.arange(self.config.frames) / self.config.frame_rate
        slow, slower = (
            np.sin(2 * np.pi * (seconds * rate + rng.random())) for rate in (0.09, 0.031)
        )
        return 1.0 + 0.5 * self.config.light * (slow + slower)

    def _rng(self, purpose: str) -> np.random.Generator:
        """A stream of chance of its own for every purpose, so that none disturbs another."""
        purposes = ("looks", "walks", "camera", "backdrop", "detections", "light")
        return np.random.default_rng([self.config.seed, purposes.index(purpose)])

    def _extents_of(self, who: IntArray, pose: IntArray) -> FloatArray:
        """``(N, 4)`` left, bottom, right, top of poses in body heights, y up."""
        for n in np.flatnonzero(np.isnan(self._extents[who, pose, 0])).tolist():
            look = self._looks[who[n]]
            self._extents[who[n], pose[n]] = extent(figures.body(look, int(pose[n])))
        return self._extents[who, pose]

    def _stage(self, frame: int) -> Stage:
        """Who is in the picture of a frame, the farthest first."""
        from tracker.synthetic.render import Stage

        w, row = self._walks, frame - 1
        who = np.flatnonzero(w.present[row])
        depth, facing = w.depth[row, who], w.facing[row, who].astype(np.int64)
        camera = self.camera[row]
        size = camera[0] * self._world.body_height(depth) * self._statures[who]
        ground = np.column_stack([w.x[row, who], self._world.feet(depth)])
        foot = camera[0] * ground + camera[1:]
        pose = _poses(w.cycles[row, who], w.speed[row, who])
        boxes = _boxes(self._extents_of(who, pose), foot, size, facing)
        limit = (self.config.width, self.config.height)
        inside = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < limit).all(axis=1)
        order = np.flatnonzero(inside)
        order = order[np.argsort(foot[order, 1], kind="stable")]
        return Stage(
            who[order], pose[order], foot[order], size[order], facing[order], boxes[order], camera
        )


def _poses(cycles: FloatArray, speed: FloatArray) -> IntArray:
    """Index of the pose ``(N,)`` from the gait cycles walked and the share of full speed."""
    gait = np.where(speed < 0.12, 0, np.where(speed < 0.65, 1, 2))
    step = (cycles * figures.PHASES).astype(np.int64) % figures.PHASES
    return np.where(gait == 0, 0, 1 + (gait - 1) * figures.PHASES + step)


def _boxes(extents: FloatArray, foot: FloatArray, size: FloatArray, facing: IntArray) -> FloatArray:
    """Tight boxes ``(N, 4)`` xyxy of poses standing at ``foot`` with ``size`` pixels of height."""
    left = np.where(facing > 0, extents[:, 0], -extents[:, 2])
    right = np.where(facing > 0, extents[:, 2], -extents[:, 0])
    x, y = foot[:, 0], foot[:, 1]
    return np.column_stack(
        [x + size * left, y - size * extents[:, 3], x + size * right, y - size * extents[:, 1]]
    )

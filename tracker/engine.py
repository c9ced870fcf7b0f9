"""The tracking engine: one loop that carries out any :class:`tracker.presets.TrackerConfig`.

A frame goes through predict, associate (the preset's stages in order), correct, life cycle and
report. Each of them is a few array operations over all tracks.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from tracker import observations
from tracker.appearance import AppearanceMemory, Embedder, covered, described
from tracker.calibration import Calibration, Calibrator
from tracker.detections import Detections, Tracks
from tracker.interop import as_detections, with_ids
from tracker.kalman import AxisKalman, FullKalman, KalmanFilter
from tracker.matching import Matcher, Scene
from tracker.motion import MOTION_MODELS
from tracker.presets import HALF_FRAME, TrackerConfig, preset
from tracker.reidentification import COLUMNS, Reidentifier
from tracker.store import Columns, TrackStore
from trackvae.arrays import BoolArray, FloatArray, Image, IntArray
from trackvae.errors import InputError, UsageError


class Tracker:
    """Follow objects from frame to frame.

    >>> follow = Tracker("sort", max_age=5)
    >>> for _ in range(4):
    ...     tracks = follow.update([[10, 10, 50, 90]])
    >>> tracks.ids.tolist(), tracks.detection_index.tolist()
    ([1], [0])
    """

    def __init__(
        self,
        config: str | TrackerConfig = "sort",
        *,
        embedder: Embedder | None = None,
        calibration: Calibration | None = None,
        frame_rate: float = 30.0,
        **settings: Any,
    ) -> None:
        """Make a tracker.

        Args:
            config: a preset's name, or a configuration.
            embedder: ``(image, boxes (N, 4)) -> (N, D)``, for detections without embeddings.
            calibration: of the embedder's distances, for presets that ask for probabilities. None:
                they make it themselves from their first ``calibration_frames`` frames.
            frame_rate: frames a second; with time stamps, the unit of every time in the
                configuration.
            **settings: changes to the configuration (``max_age=60``; stages by
                ``config.with_settings``).

        Raises:
            UsageError: no such preset or setting.
        """
        chosen = preset(config) if isinstance(config, str) else config
        self.config = chosen.with_settings(settings)
        if not (isinstance(frame_rate, (int, float)) and 0 < frame_rate < math.inf):
            raise UsageError(f"frame_rate is {frame_rate!r}, expected a positive number")
        self._embedder = embedder
        self._given = calibration
        self._frame_rate = frame_rate
        self._model = MOTION_MODELS[self.config.motion]
        moving_camera = self.config.camera_motion != "none"
        kalman: type[KalmanFilter] = FullKalman if moving_camera else AxisKalman
        self._kalman = kalman(self._model)
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; the next frame is the first, and ids start from 1 again."""
        config = self.config
        columns: Columns = {
            "mean": ((8,), np.float64),
            "covariance": (self._kalman.covariance_shape, np.float64),
            "id": ((), np.int64),  # 0: not confirmed
            "streak": ((), np.int64),  # matches in a row
            "misses": ((), np.int64),  # updates since the last match
            "elapsed": ((), np.float64),  # frames since the last match
            "score": ((), np.float64),
            "label": ((), np.int64),
            "detection": ((), np.int64),
            "slot": ((), np.int64),  # of its gallery
        }
        if config.observation_centric:
            shape = self._kalman.covariance_shape
            columns |= observations.observation_columns(config.direction_span, shape)
        if config.reid_probability is not None:
            columns |= COLUMNS
        self._store = TrackStore(columns)
        self._memory = (
            AppearanceMemory(config.metric, config.gallery_size, config.gallery_momentum)
            if config.uses_appearance
            else None
        )
        self._matcher = Matcher(config, self._kalman, self._memory)
        self._matcher.calibration = self._given
        self._calibrator = None
        if config.needs_calibration and self._given is None:
            self._calibrator = Calibrator(config.metric, config.gallery_size)
        self._returning = None
        if config.reid_probability is not None and self._memory is not None:
            self._returning = Reidentifier(config, self._memory, self._frame_rate)
        self._camera = None
        if config.camera_motion != "none":
            from tracker.camera_motion import CameraMotion

            self._camera = CameraMotion(config.camera_motion)
        self._frame = 0
        self._last_id = 0
        self._timestamp: float | None = None

    def __len__(self) -> int:
        """How many tracks are alive, the unconfirmed and the lost among them."""
        return len(self._store)

    @property
    def calibration(self) -> Calibration | None:
        """Match probabilities of the embedder's distances, as soon as they are known."""
        return self._matcher.calibration

    def update(
        self,
        detections: Any,
        frame: Image | None = None,
        timestamp: float | None = None,
    ) -> Any:
        """Take one frame and say what is followed.

        Args:
            detections: :class:`Detections`; or a list or array ``(N, 4 to 6)`` of xyxy, score,
                class; or ``supervision.Detections``. An empty frame is an ordinary frame.
            frame: the image, ``(H, W, 3)`` uint8 BGR; needed for camera motion and by an embedder.
            timestamp: seconds. Without it, frames are one ``1 / frame_rate`` apart.

        Returns:
            :class:`Tracks`; or, where ``supervision.Detections`` came, the detections that belong
            to a confirmed track, with their ``tracker_id``.

        Raises:
            InputError: unusable detections, or a time stamp that is not after the last one. The
                tracker is then as it was.
        """
        seen = as_detections(detections)
        dt = self._step(timestamp)
        if frame is not None and (not isinstance(frame, np.ndarray) or frame.ndim != 3):
            found = getattr(frame, "shape", type(frame).__name__)
            raise InputError(f"frame is {found}, expected an image (H, W, 3), uint8 BGR")
        embeddings = self._embeddings(seen, frame)
        affine = self._camera_affine(seen, frame)
        if self._calibrator is not None:
            self._calibrate(self._calibrator, seen, embeddings)
        self._timestamp = timestamp
        self._frame += 1
        self._predict(dt, affine)
        high, low = self._pools(seen)
        with np.errstate(divide="ignore", invalid="ignore"):  # a box without area is in no pool
            z = self._model.measure(seen.boxes)
        scene = Scene(self._frame, self._store, self._boxes, seen, z, embeddings)
        rows, columns = self._matcher.match(scene, high, low)
        clear = self._clear(seen)
        self._correct(scene, rows, columns, high & clear)
        high[columns] = False
        self._end_lost()
        self._begin(scene, high.nonzero()[0], clear)
        tracks = self._report()
        return tracks if seen is detections else with_ids(detections, tracks)

    # --- what comes in

    def _step(self, timestamp: float | None) -> float:
        """Frames since the last update: 1 without time stamps."""
        if timestamp is None:
            return 1.0
        if not math.isfinite(timestamp):
            raise InputError(f"timestamp is {timestamp}, expected seconds")
        if self._timestamp is None:
            return 1.0
        if timestamp <= self._timestamp:
            raise InputError(f"timestamp {timestamp} s is not after the last, {self._timestamp} s")
        return (timestamp - self._timestamp) * self._frame_rate

    def _embeddings(self, seen: Detections, image: Image | None) -> FloatArray | None:
        """Unit embeddings ``(M, D)`` of the detections, or None where the preset uses none."""
        if self._memory is None or len(seen) == 0:
            return None
        embeddings = seen.embeddings
        if embeddings is None and self._embedder is not None:
            if image is None:
                raise InputError("the embedder needs the frame's image: update(detections, frame)")
            embeddings = described(self._embedder, image, seen.boxes)
        if embeddings is None:
            if self.config.needs_appearance:
                raise UsageError(
                    f"{self.config.name} compares appearances: give detections with embeddings, "
                    "or an embedder"
                )
            return None
        return self._memory.prepare(embeddings)

    def _calibrate(
        self, calibrator: Calibrator, seen: Detections, embeddings: FloatArray | None
    ) -> None:
        """Collect the first frames, and calibrate as soon as they are enough."""
        calibrator.add(seen, embeddings)
        if calibrator.frames % self.config.calibration_frames:
            return
        with contextlib.suppress(InputError):  # too little to see: go on collecting
            self._matcher.calibration = calibrator.fit()
            self._calibrator = None

    def _camera_affine(self, seen: Detections, image: Image | None) -> FloatArray | None:
        if self._camera is None:
            return None
        if image is None:
            raise InputError(
                f"{self.config.name} compensates the camera's motion and needs the frame's image: "
                "update(detections, frame), or camera_motion=none"
            )
        return self._camera.estimate(image, seen.boxes)

    def _pools(self, seen: Detections) -> tuple[BoolArray, BoolArray]:
        """Masks ``(M,)`` of the detections of high and of low score."""
        config = self.config
        usable = np.all(seen.boxes[:, 2:] > seen.boxes[:, :2], axis=1)  # a box has an area
        calibration = self.calibration
        if config.high_linked is not None and calibration is not None:
            high = usable & (seen.scores >= calibration.least_score(config.high_linked))
            return high, usable & ~high
        if config.high_score is None:
            return usable, np.zeros(len(seen), dtype=bool)
        high = usable & (seen.scores >= config.high_score)
        low = usable & ~high
        low &= seen.scores > (np.inf if config.low_score is None else config.low_score)
        return high, low

    def _clear(self, seen: Detections) -> BoolArray:
        """Mask ``(M,)`` of the detections whose looks are worth remembering."""
        if self._memory is None or self.config.covered_limit >= 1:
            return np.ones(len(seen), dtype=bool)
        return np.asarray(covered(seen.boxes) <= self.config.covered_limit)

    # --- predict

    def _predict(self, dt: float, affine: FloatArray | None) -> None:
        store = self._store
        if len(store) == 0:
            self._boxes: FloatArray = np.zeros((0, 4))
            return
        if self.config.hold_size:
            lost = store.misses > 0
            for column in self._model.size:
                store.mean[lost, 4 + column] = 0.0
        self._kalman.predict(store.mean, store.covariance, dt)
        if affine is not None:
            self._kalman.warp(store.mean, store.covariance, affine)
            if self._returning is not None:
                self._returning.move(store, affine)
        store.elapsed += dt
        store.misses += 1
        store.detection[:] = -1
        self._boxes = self._model.boxes(store.mean[:, :4])
        if self._model.positive and np.isnan(self._boxes).any():
            # The filter has shrunk a box to nothing: SORT gives such a track up.
            sound = ~np.any(np.isnan(self._boxes), axis=1)
            self._remove(~sound)
            self._boxes = self._boxes[sound]
        # A size that was predicted below zero overlaps with nothing.
        np.maximum(self._boxes[:, 2:], self._boxes[:, :2], out=self._boxes[:, 2:])

    # --- correct, end, begin

    def _correct(self, scene: Scene, rows: IntArray, columns: IntArray, sure: BoolArray) -> None:
        """Correct tracks by their detections; ``sure`` ``(M,)`` are those worth remembering."""
        store, seen = self._store, scene.seen
        if self.config.observation_centric:
            self._correct_observations(rows, seen.boxes[columns])
        missed = np.ones(len(store), dtype=bool)
        missed[rows] = False
        store.streak[missed] = 0
        if len(rows) == 0:
            return
        self._kalman.update(store.mean, store.covariance, rows, scene.z[columns])
        store.streak[rows] += 1
        store.misses[rows] = 0
        store.elapsed[rows] = 0.0
        store.score[rows] = seen.scores[columns]
        store.label[rows] = seen.classes[columns]
        store.detection[rows] = columns
        if self._returning is not None:
            store.observed[rows] = seen.boxes[columns]
        if scene.embeddings is not None and self._memory is not None:
            kept = sure[columns]  # the looks of a weak detection are not remembered
            rows, columns = rows[kept], columns[kept]
            store.slot[rows] = self._memory.add(store.slot[rows], scene.embeddings[columns])

    def _correct_observations(self, rows: IntArray, boxes: FloatArray) -> None:
        store = self._store
        lost = store.misses[rows] > 1
        if lost.any():
            found = rows[lost]
            observations.refilter(
                store, found, boxes[lost], store.misses[found], self._kalman, self._model
            )
        unseen = store.misses == 1
        unseen[rows] = False
        observations.save_lost(store, unseen.nonzero()[0])
        observations.remember(store, rows, boxes, self._frame)

    def _end_lost(self) -> None:
        store, config = self._store, self.config
        dead = store.elapsed > config.max_age + HALF_FRAME
        if self._returning is not None and self.calibration is not None:
            dead &= ~self._returning.remembered(store)
        if config.tentative_max_age is not None:
            tentative = store.id == 0
            dead |= tentative & (store.elapsed > config.tentative_max_age + HALF_FRAME)
        if dead.any():
            self._remove(dead)

    def _remove(self, dead: BoolArray) -> None:
        slots = self._store.slot[dead]
        self._store.keep(~dead)
        if self._memory is not None:
            self._store.slot[:] = self._memory.close(slots, self._store.slot)

    def _begin(self, scene: Scene, columns: IntArray, clear: BoolArray) -> None:
        """Give birth to a track for each of the detections that belong to none."""
        config, seen = self.config, scene.seen
        if config.new_score is not None:
            columns = columns[seen.scores[columns] >= config.new_score]
        if len(columns) == 0:
            return
        mean, covariance = self._kalman.initiate(scene.z[columns])
        slots = np.full(len(columns), -1)
        if scene.embeddings is not None and self._memory is not None:
            worth = clear[columns]
            slots[worth] = self._memory.open(scene.embeddings[columns[worth]])
        rows = self._store.add(
            len(columns),
            mean=mean,
            covariance=covariance,
            streak=int(config.birth_is_hit),
            score=seen.scores[columns],
            label=seen.classes[columns],
            detection=columns,
            slot=slots,
        )
        if self._returning is not None:
            self._store.observed[rows] = seen.boxes[columns]
            self._store.birth[rows] = self._frame
        if config.observation_centric:
            born = np.arange(rows.start, rows.stop)
            observations.remember(self._store, born, seen.boxes[columns], self._frame)

    # --- report

    def _find_again(self, fresh: IntArray) -> bool:
        """Let lost tracks go on as those about to be confirmed; whether any does."""
        if self._returning is None or self.calibration is None or len(fresh) == 0:
            return False
        merged = self._returning.find(self._store, fresh, self._frame, self.calibration)
        if len(merged) == 0:
            return False
        gone = np.zeros(len(self._store), dtype=bool)
        gone[merged] = True
        self._remove(gone)
        return True

    def _proven(self) -> BoolArray:
        """Mask ``(N,)`` of the tracks seen now, and often enough in a row."""
        store, config = self._store, self.config
        seen_now = store.misses == 0
        warmup = config.min_hits if config.warmup_frames is None else config.warmup_frames
        if self._frame <= warmup:
            return np.asarray(seen_now)
        return np.asarray(seen_now & (store.streak >= config.min_hits))

    def _report(self) -> Tracks:
        store, config = self._store, self.config
        proven = self._proven()
        fresh = (proven & (store.id == 0)).nonzero()[0]
        if self._find_again(fresh):
            proven = self._proven()
            fresh = (proven & (store.id == 0)).nonzero()[0]
        if len(fresh):
            store.id[fresh] = np.arange(self._last_id + 1, self._last_id + 1 + len(fresh))
            self._last_id += len(fresh)
        if config.reconfirm:
            shown = proven
        else:
            shown = (store.elapsed <= config.coast + HALF_FRAME) & (store.id > 0)
        rows = shown.nonzero()[0]
        if config.report == "state":
            boxes = self._model.boxes(store.mean[rows, :4])
            solid = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
            if not solid.all():  # predicted to less than nothing while it was not seen
                rows, boxes = rows[solid], boxes[solid]
        else:
            boxes = store.observed[rows]
        return Tracks(
            store.id[rows], boxes, store.score[rows], store.label[rows], store.detection[rows]
        )

"""Which track is which detection: a preset's stages, carried out in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracker import observations
from tracker.appearance import AppearanceMemory
from tracker.association import assign
from tracker.boxes import iou
from tracker.calibration import Calibration
from tracker.detections import Detections
from tracker.kalman import CHI2_95, KalmanFilter
from tracker.presets import HALF_FRAME, Stage, TrackerConfig
from tracker.store import TrackStore
from tracker.threads import one_blas_thread
from trackvae.arrays import BoolArray, FloatArray, IntArray

# What DeepSORT adds to the limit, so that refused pairs cost just more than any allowed one.
_BEYOND = 1e-5


@dataclass(frozen=True, slots=True)
class Scene:
    """One frame, as the matching sees it.

    Attributes:
        frame: its number.
        store: the tracks, predicted to this frame; ``T`` of them.
        boxes: ``(T, 4)`` their predicted boxes, xyxy.
        seen: the ``M`` detections.
        z: ``(M, 4)`` the detections as the motion model measures them.
        embeddings: ``(M, D)`` of the detections, prepared by the memory, or None.
    """

    frame: int
    store: TrackStore
    boxes: FloatArray
    seen: Detections
    z: FloatArray
    embeddings: FloatArray | None


class Matcher:
    """Carries out the stages of a configuration."""

    def __init__(
        self,
        config: TrackerConfig,
        kalman: KalmanFilter,
        memory: AppearanceMemory | None,
    ) -> None:
        self._config = config
        self._kalman = kalman
        self._memory = memory
        self.calibration: Calibration | None = None

    def match(self, scene: Scene, high: BoolArray, low: BoolArray) -> tuple[IntArray, IntArray]:
        """Match tracks with detections.

        Args:
            scene: the frame.
            high: ``(M,)`` detections of high score.
            low: ``(M,)`` detections of low score.

        Returns:
            Rows of the store ``(K,)`` and the detections ``(K,)`` that they are matched with.
        """
        free_tracks = np.ones(len(scene.store), dtype=bool)
        pools = {"high": high.copy(), "low": low.copy()}
        matches = []
        for stage in self._config.stages:
            if stage.cost == "match" and (scene.embeddings is None or self.calibration is None):
                continue
            d = pools[stage.detections].nonzero()[0]
            if len(d) == 0:
                continue
            t = (free_tracks & self._taking_part(stage, scene.store)).nonzero()[0]
            if len(t) == 0:
                continue
            i, j = self._match_stage(stage, scene, t, d)
            if len(i) == 0:
                continue
            t, d = t[i], d[j]
            free_tracks[t] = False
            pools[stage.detections][d] = False
            matches.append((t, d))
        return _joined(matches)

    def _match_stage(
        self, stage: Stage, scene: Scene, t: IntArray, d: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Positions in ``t`` and in ``d`` of the pairs that the stage makes."""
        cost, possible, allowed = self._costs(stage, scene, t, d)
        if stage.refuse_after:
            # Over all pairs that are possible; by IoU alone, those that do not overlap all cost 1.
            if stage.cost == "iou_direction":
                i, j = assign(cost, possible, 1.0 + self._config.direction_weight)
            else:
                i, j = assign(cost, possible & (cost < 1.0), 1.0)
            good = allowed[i, j]
            return i[good], j[good]
        refused = stage.max_cost + _BEYOND
        if not stage.cascade:
            return assign(cost, allowed, refused)
        ages = scene.store.elapsed[t]
        in_time = ages <= self._config.max_age + HALF_FRAME
        hopeful = (np.any(allowed, axis=1) & in_time).nonzero()[0]
        ages = ages[hopeful]
        pairs = []
        for age in sorted(set(ages.tolist())):
            level = hopeful[ages == age]
            i, j = assign(cost[level], allowed[level], refused)
            allowed[:, j] = False
            pairs.append((level[i], j))
        return _joined(pairs)

    def _costs(
        self, stage: Stage, scene: Scene, t: IntArray, d: IntArray
    ) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Costs ``(len(t), len(d))``, which pairs are possible, which are cheap enough too."""
        store = scene.store
        boxes = scene.seen.boxes[d]
        if self._config.per_class:
            possible = store.label[t][:, None] == scene.seen.classes[d]
        else:
            possible = np.ones((len(t), len(d)), dtype=bool)
        if stage.gate:
            mean, covariance = store.mean[t], store.covariance[t]
            distance = self._kalman.gating_distance(mean, covariance, scene.z[d], CHI2_95)
            possible &= distance <= CHI2_95
        if stage.cost in ("appearance", "match"):
            cost = self._appearance(scene, t, d, possible)
            if self.calibration is not None and stage.cost == "match":
                cost = self.calibration.doubt(cost)
            return cost, possible, possible & (cost <= stage.max_cost)
        overlap = iou(store.observed[t] if stage.cost == "observed_iou" else scene.boxes[t], boxes)
        cost = 1.0 - overlap
        if stage.cost in ("iou_score", "iou_appearance"):
            cost = 1.0 - overlap * np.clip(scene.seen.scores[d], 0, 1)
        if stage.cost == "iou_appearance" and scene.embeddings is not None:
            close = possible & (1.0 - overlap <= self._config.proximity_limit)
            cost = np.minimum(cost, self._halved_appearance(scene, t, d, close))
        elif stage.cost == "iou_match":
            cost = self._joint(scene, t, d, possible, overlap)
        allowed = possible & (cost <= stage.max_cost)
        if stage.cost == "iou_direction":
            consistency = observations.direction_consistency(store, t, boxes, scene.frame)
            weight = self._config.direction_weight * np.clip(scene.seen.scores[d], 0, 1)
            cost -= weight * consistency
        return cost, possible, allowed

    def _appearance(self, scene: Scene, t: IntArray, d: IntArray, wanted: BoolArray) -> FloatArray:
        assert self._memory is not None
        assert scene.embeddings is not None
        with one_blas_thread():
            return self._memory.distances(scene.store.slot[t], scene.embeddings[d], wanted)

    def _halved_appearance(
        self, scene: Scene, t: IntArray, d: IntArray, close: BoolArray
    ) -> FloatArray:
        """BoT-SORT, Eq. 12: half the appearance distance of close and similar pairs, else 1."""
        distance = self._appearance(scene, t, d, close)
        similar = close & (distance <= self._config.appearance_limit)
        return np.where(similar, 0.5 * distance, 1.0)

    def _joint(
        self, scene: Scene, t: IntArray, d: IntArray, possible: BoolArray, overlap: FloatArray
    ) -> FloatArray:
        """1 - the probability of a match, from motion and looks together.

        IoU is taken for the probability that motion gives, and its odds are multiplied with the
        likelihood ratio of the looks, ``o = IoU / (1 - IoU) * r``; where these say nothing, r = 1
        and the cost is 1 - IoU.
        """
        if scene.embeddings is None or self.calibration is None:
            return 1.0 - overlap
        touching = possible & (overlap > 0)
        distance = self._appearance(scene, t, d, touching)
        known = touching & np.isfinite(distance)
        limit = np.log(self._config.trust / (1.0 - self._config.trust))
        log_ratio = self.calibration.distance.log_odds(np.where(known, distance, 0.0))
        ratio = np.exp(np.where(known, np.clip(log_ratio, -limit, limit), 0.0))
        apart = 1.0 - overlap
        return np.asarray(apart / (overlap * ratio + apart))

    def _taking_part(self, stage: Stage, store: TrackStore) -> BoolArray | bool:
        """Mask ``(T,)`` of the tracks that the stage looks at."""
        config = self._config
        if config.reid_probability is None:
            return _chosen(stage, store)
        return _chosen(stage, store) & (store.elapsed <= config.max_age + HALF_FRAME)


def _joined(matches: list[tuple[IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    """Rows and columns of all rounds."""
    if len(matches) == 1:
        return matches[0]
    none = np.zeros(0, np.int64)
    rows, columns = zip((none, none), *matches, strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def _chosen(stage: Stage, store: TrackStore) -> BoolArray | bool:
    """Mask ``(T,)`` of the tracks that the stage names."""
    if stage.tracks == "all":
        return True
    if stage.tracks == "tentative":
        return store.id == 0
    if stage.tracks == "confirmed":
        return store.id > 0
    recent = store.misses == 1
    if stage.tracks == "lost":
        return ~recent & (store.id > 0)
    if stage.tracks == "recent":
        return recent & (store.id > 0)
    return recent | (store.id == 0)

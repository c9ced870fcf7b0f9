"""Boxes without pictures: any number of objects, for any time, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tracker.detections import Detections
from tracker.synthetic.detections import (
    DetectorErrors,
    alarm_scores,
    jittered,
    object_scores,
)
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import UsageError

_BLOCK = 64  # frames made at once; no object lives shorter, so at most one dies in a place
_PLANE = (1920.0, 1080.0)  # pixels for ten objects; the area grows with their number
_FEATURE_NOISE = 0.45  # length of the noise on a unit vector: cosine distance about 0.17 to itself
_EMBEDDING_BYTES = 32_000_000  # of a block; with more objects it has fewer frames


class StreamFrame(NamedTuple):
    """One frame of a stream.

    Attributes:
        detections: what the detector reports, in random order, with embeddings if asked for.
        boxes: ``(objects, 4)`` the true boxes, xyxy.
        ids: ``(objects,)`` their identities, from 1, never used again.
    """

    detections: Detections
    boxes: FloatArray
    ids: IntArray


@dataclass(slots=True)
class _Lives:
    """Objects of which one stands in every place, ``(objects,)`` each; a row of the stream's state.

    A position is a closed formula of the age: a straight line with a slow weave, folded at the
    borders of the plane. So a block of frames needs no loop over them.
    """

    birth: IntArray
    death: IntArray
    ids: IntArray
    start: FloatArray  # (objects, 2) share of the plane
    velocity: FloatArray  # (objects, 2) pixels a frame
    weave: FloatArray  # (objects, 3) amplitude in pixels, rate, phase
    build: FloatArray  # (objects,) height against others at the same place
    feature: FloatArray  # (objects, D) unit vectors; D may be 0


def box_stream(
    objects: int,
    frames: int,
    seed: int = 0,
    *,
    embedding_dim: int = 0,
    miss_rate: float = 0.05,
    false_alarms: float = 0.02,
    jitter: float = 0.03,
    score_noise: float = 0.08,
    lifetime: float = 300.0,
) -> Iterator[StreamFrame]:
    """Detections and truth, frame after frame, of a plane on which objects move, die, are born.

    The plane's area grows with the number of objects (1920x1080 for ten), so the crowd stays as
    dense. Nothing is hidden here: misses do not depend on overlap.

    Args:
        objects: how many there are in every frame.
        frames: how many frames.
        seed: the same seed gives the same stream.
        embedding_dim: length of the appearance vectors, 0 for none; unit vectors, random for
            every identity, with noise (cosine distance about 0.17 to itself, 1 to others).
        miss_rate: probability that an object is not seen in a frame.
        false_alarms: mean number of detections around nothing, per object and frame.
        jitter: standard deviation of centre and size, as a share of width and height.
        score_noise: standard deviation of the scores.
        lifetime: mean frames that an object lives, more than 64.

    Raises:
        UsageError: a setting out of its range.
    """
    errors = DetectorErrors(miss_rate, 0.0, false_alarms * objects, jitter, score_noise)
    if objects < 0 or frames < 0 or embedding_dim < 0 or not lifetime > _BLOCK:
        raise UsageError(
            f"objects {objects}, frames {frames}, embedding_dim {embedding_dim}, lifetime "
            f"{lifetime}: expected no negative number and a lifetime above {_BLOCK}"
        )
    errors.check()
    return _frames(objects, frames, np.random.default_rng(seed), embedding_dim, errors, lifetime)


def _frames(
    objects: int,
    frames: int,
    rng: np.random.Generator,
    dim: int,
    errors: DetectorErrors,
    lifetime: float,
) -> Iterator[StreamFrame]:
    """The generator behind :func:`box_stream`: a block of frames at a time."""
    plane = np.array(_PLANE) * np.sqrt(max(objects, 1) / 10.0)
    now = _born(objects, np.zeros(objects, dtype=np.int64), 1, plane, dim, lifetime, rng)
    now.birth -= rng.integers(0, _BLOCK, objects)  # not all of one age
    following = _born(objects, now.death, objects + 1, plane, dim, lifetime, rng)
    fresh = 2 * objects + 1
    block = _BLOCK
    if objects and dim:
        block = int(np.clip(_EMBEDDING_BYTES // (4 * objects * dim), 1, _BLOCK))
    for first in range(0, frames, block):
        t = np.arange(first, min(first + block, frames))
        swapped = t[:, None] >= now.death[None]  # (T, objects)
        boxes = np.where(swapped[..., None], _at(following, t, plane), _at(now, t, plane))
        ids = np.where(swapped, following.ids, now.ids)
        yield from _observe(boxes, ids, swapped, (now, following), plane, errors, rng)
        dead = np.flatnonzero(now.death <= t[-1])
        _succeed(now, following, dead)
        born = _born(len(dead), now.death[dead], fresh, plane, dim, lifetime, rng)
        fresh += len(dead)
        _put(following, dead, born)


def _born(
    count: int,
    birth: IntArray,
    first_id: int,
    plane: FloatArray,
    dim: int,
    lifetime: float,
    rng: np.random.Generator,
) -> _Lives:
    """Objects born in the given frames."""
    life = _BLOCK + rng.geometric(1.0 / (lifetime - _BLOCK), count)
    angle, speed = rng.uniform(0, 2 * np.pi, count), rng.uniform(1.0, 5.0, count)
    weave = np.column_stack(
        [rng.uniform(0, 14, count), rng.uniform(0.02, 0.08, count), rng.uniform(0, 6.3, count)]
    )
    feature = rng.standard_normal((count, dim), dtype=np.float32)
    feature /= np.maximum(np.linalg.norm(feature, axis=1, keepdims=True), 1e-12)
    return _Lives(
        birth.copy(),
        birth + life,
        np.arange(first_id, first_id + count),
        rng.random((count, 2)) * plane,
        np.column_stack([np.cos(angle), 0.4 * np.sin(angle)]) * speed[:, None],
        weave,
        rng.uniform(0.85, 1.15, count),
        feature,
    )


def _succeed(now: _Lives, following: _Lives, rows: IntArray) -> None:
    """Let the next objects take the places of dead ones."""
    for name in _Lives.__slots__:
        getattr(now, name)[rows] = getattr(following, name)[rows]


def _put(lives: _Lives, rows: IntArray, newborn: _Lives) -> None:
    for name in _Lives.__slots__:
        getattr(lives, name)[rows] = getattr(newborn, name)


def _at(lives: _Lives, t: IntArray, plane: FloatArray) -> FloatArray:
    """Boxes ``(T, objects, 4)`` xyxy in the frames ``t``."""
    age = (t[:, None] - lives.birth[None]).astype(np.float64)
    amplitude, rate, phase = lives.weave.T
    weave = amplitude * np.sin(rate * age + phase)
    foot = lives.start + lives.velocity * age[..., None]
    foot[..., 0] += weave
    foot[..., 1] -= 0.5 * weave
    turns = foot / plane
    foot = np.abs(turns - 2.0 * np.rint(turns / 2.0)) * plane  # a mirror at every border
    height = (90.0 + 110.0 * foot[..., 1] / plane[1]) * lives.build
    half = 0.19 * height
    x, y = foot[..., 0], foot[..., 1]
    return np.stack([x - half, y - height, x + half, y], axis=-1)


def _observe(
    boxes: FloatArray,
    ids: IntArray,
    swapped: BoolArray,
    lives: tuple[_Lives, _Lives],
    plane: FloatArray,
    errors: DetectorErrors,
    rng: np.random.Generator,
) -> Iterator[StreamFrame]:
    """The detections of a block: ``boxes (T, objects, 4)``, ``ids``, ``swapped (T, objects)``."""
    length = len(ids)
    frame, place = np.nonzero(rng.random(ids.shape) >= errors.miss_rate)
    true = jittered(boxes[frame, place], errors.jitter, rng)
    alarm_frame = np.repeat(np.arange(length), rng.poisson(errors.false_alarms_per_frame, length))
    alarms = _alarms(len(alarm_frame), plane, rng)
    scores = np.concatenate(
        [
            object_scores(np.ones(len(true)), errors.score_noise, rng),
            alarm_scores(len(alarms), errors.score_noise, rng),
        ]
    )
    all_frames = np.concatenate([frame, alarm_frame])
    order = np.lexsort((rng.random(len(all_frames)), all_frames))  # order tells nothing
    all_boxes, scores = np.vstack([true, alarms])[order], scores[order]
    features = _features(lives, swapped[frame, place], place, len(alarms), order, rng)
    classes = np.ones(len(order), dtype=np.int64)
    ends = np.searchsorted(all_frames[order], np.arange(length + 1))
    for k, (a, b) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
        seen = Detections(
            all_boxes[a:b], scores[a:b], classes[a:b], None if features is None else features[a:b]
        )
        yield StreamFrame(seen, boxes[k], ids[k])


def _alarms(count: int, plane: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Boxes around nothing ``(count, 4)``."""
    foot = rng.random((count, 2)) * plane
    height = rng.uniform(80.0, 200.0, count)
    half = rng.uniform(0.15, 0.25, count) * height
    x, y = foot.T
    return np.column_stack([x - half, y - height, x + half, y])


def _features(
    lives: tuple[_Lives, _Lives],
    swapped: BoolArray,
    place: IntArray,
    alarms: int,
    order: IntArray,
    rng: np.random.Generator,
) -> FloatArray | None:
    """Noisy unit vectors of the detections ``(N, D)`` float32, or None where D is 0."""
    dim = lives[0].feature.shape[1]
    if not dim:
        return None
    clean = np.where(swapped[:, None], lives[1].feature[place], lives[0].feature[place])
    noise = rng.standard_normal((len(order), dim), dtype=np.float32)
    features = np.vstack([clean, np.zeros((alarms, dim), dtype=np.float32)])
    features += noise * np.float32(_FEATURE_NOISE / np.sqrt(dim))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features[order]

"""An imperfect detector: what it would have made of the true boxes.

Misses, inexact boxes, false alarms and scores, each by its own stated law, so that a test can
count them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracker.io.mot import BoxTable
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import UsageError

_LOWEST = 0.01  # scores stay above
_OBJECT, _ALARM = 0.92, 0.38  # mean scores of a fully visible object and of a false alarm
_HIDDEN_LOSS = 0.45  # what a hidden object loses of its score


@dataclass(frozen=True, slots=True)
class DetectorErrors:
    """How a detector errs; all zero is a perfect one.

    Attributes:
        miss_rate: probability that a fully visible object is not seen, [0, 1).
        occlusion_misses: share of the hidden part that adds to it, [0, 1]: an object of visibility
            v is missed with probability 1 - (1 - miss_rate)(1 - occlusion_misses (1 - v)).
        false_alarms_per_frame: mean number of boxes around nothing (Poisson).
        jitter: standard deviation of a box's centre, and of the logarithm of its width and
            height, as a share of the width and the height.
        score_noise: standard deviation of the scores.
    """

    miss_rate: float = 0.0
    occlusion_misses: float = 0.0
    false_alarms_per_frame: float = 0.0
    jitter: float = 0.0
    score_noise: float = 0.0

    def check(self) -> None:
        """Raise UsageError for a setting out of its range."""
        for name, highest in (("miss_rate", 1.0), ("occlusion_misses", 1.0), ("jitter", 0.5),
                              ("score_noise", 1.0), ("false_alarms_per_frame", 1e4)):  # fmt: skip
            value = getattr(self, name)
            if not 0.0 <= value <= highest:
                raise UsageError(f"{name} is {value}, expected 0 to {highest:g}")


def seen(visibility: FloatArray, errors: DetectorErrors, rng: np.random.Generator) -> BoolArray:
    """Which of the objects are detected ``(N,)``; wholly hidden ones never are."""
    found = (1.0 - errors.miss_rate) * (1.0 - errors.occlusion_misses * (1.0 - visibility))
    return (rng.random(visibility.shape) < found) & (visibility > 0)


def jittered(boxes: FloatArray, jitter: float, rng: np.random.Generator) -> FloatArray:
    """Boxes ``(N, 4)`` xyxy with inexact centres and sizes."""
    if jitter == 0:
        return boxes.copy()
    noise = jitter * rng.standard_normal((len(boxes), 4))
    size = boxes[:, 2:] - boxes[:, :2]
    centre = 0.5 * (boxes[:, 2:] + boxes[:, :2]) + noise[:, :2] * size
    half = 0.5 * size * np.exp(noise[:, 2:])
    return np.hstack([centre - half, centre + half])


def object_scores(visibility: FloatArray, noise: float, rng: np.random.Generator) -> FloatArray:
    """Scores of true detections ``(N,)`` in [0.01, 1]: lower for the half hidden."""
    mean = _OBJECT - _HIDDEN_LOSS * (1.0 - visibility)
    return np.clip(mean + noise * rng.standard_normal(len(mean)), _LOWEST, 1.0)


def alarm_scores(count: int, noise: float, rng: np.random.Generator) -> FloatArray:
    """Scores of false alarms ``(N,)`` in [0.01, 1]."""
    return np.clip(_ALARM + noise * rng.standard_normal(count), _LOWEST, 1.0)


def detect(
    truth: BoxTable,
    frames: int,
    size: tuple[int, int],
    errors: DetectorErrors,
    rng: np.random.Generator,
) -> BoxTable:
    """What a detector reports of a scene.

    Args:
        truth: the true boxes with their visibility.
        frames: how many frames there are; false alarms fall in every one.
        size: the picture's width and height.
        errors: how it errs.
        rng: where chance comes from.

    Returns:
        Detections in random order within a frame; ids -1, class 1.
    """
    found = truth.select(seen(truth.visibility, errors, rng))
    boxes = jittered(found.boxes, errors.jitter, rng)
    scores = object_scores(found.visibility, errors.score_noise, rng)
    alarm_frames = np.repeat(
        np.arange(1, frames + 1), rng.poisson(errors.false_alarms_per_frame, frames)
    )
    alarms = _alarms(truth, len(alarm_frames), size, rng)
    all_frames = np.concatenate([found.frames, alarm_frames])
    order = np.lexsort((rng.random(len(all_frames)), all_frames))
    return _unlabelled(
        all_frames[order],
        np.vstack([boxes, alarms])[order],
        np.concatenate([scores, alarm_scores(len(alarms), errors.score_noise, rng)])[order],
    )


def _alarms(
    truth: BoxTable, count: int, size: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Boxes with the sizes of real ones, anywhere in the picture ``(count, 4)``."""
    if len(truth):
        like = truth.boxes[rng.integers(len(truth), size=count)]
        wh = (like[:, 2:] - like[:, :2]) * rng.uniform(0.6, 1.2, (count, 1))
    else:
        wh = np.array(size) * rng.uniform((0.05, 0.2), (0.12, 0.45), (count, 2))
    room = np.maximum(np.array(size) - wh, 0.0)
    corner = rng.random((count, 2)) * room
    return np.hstack([corner, corner + wh])


def _unlabelled(frames: IntArray, boxes: FloatArray, scores: FloatArray) -> BoxTable:
    rows = len(frames)
    return BoxTable.of(
        frames, np.full(rows, -1), boxes, scores=scores, classes=np.ones(rows, dtype=np.int64)
    )

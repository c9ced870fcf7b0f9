"""Match probabilities of appearance distances, from the video itself and without labels.

What motion alone has linked within some dozens of frames is one object; two boxes of one frame are
two objects. The distances of these pairs, measured as the tracker measures them (a crop to the
nearest entry of a gallery of earlier crops), say how far "the same" and "another" are apart for
this descriptor in this video, so that no threshold need be set by hand.

The detector's scores are calibrated in the same way: what motion links is mostly an object, what
it does not is mostly a false alarm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tracker.appearance import Metric, covered, prepared
from tracker.boxes import iou
from tracker.detections import Detections
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import InputError, UsageError

GAPS = (5, 15, 30)  # frames between a crop and the youngest entry of its gallery
COVERED = 0.4  # of a box; its crop shows somebody else
APART = 0.3  # IoU of two boxes of one frame, above which they may be one object seen twice
LEAST_PAIRS = 30  # of either kind; the standard error of a rate of 10% is then 5%
_LEAST_ENTRIES = 3  # of a gallery
_FRAMES = 150  # in which pairs are drawn: a second for 4,096 dimensions, and 1,000s of pairs
_STEPS, _TOLERANCE = 100, 1e-9
MIXED = 0.05  # of the crops of a tracklet, at most, show another object than its others
_ROUNDS = 10
_FAR = 50.0  # log-odds
_HIGHEST = 700.0  # log-odds whose exponential is a number
_FARTHEST = 1e30  # distance; stands for infinity, whose product with a flat slope is none


@dataclass(frozen=True, slots=True)
class Logistic:
    """The map x -> 1 / (1 + exp(-(intercept + slope x))).

    Attributes:
        slope: its sign is the direction in which the probability grows.
        intercept: log-odds at 0.
    """

    slope: float
    intercept: float

    def log_odds(self, x: FloatArray) -> FloatArray:
        """The logarithm of p / (1 - p); any shape."""
        return self.intercept + self.slope * x

    def probability(self, x: FloatArray) -> FloatArray:
        """In (0, 1); any shape."""
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * self.log_odds(x))))

    def doubt(self, x: FloatArray) -> FloatArray:
        """1 - the probability, exact where that is next to nothing; any shape."""
        return np.asarray(1.0 / (1.0 + np.exp(np.minimum(self.log_odds(x), _HIGHEST))))

    def threshold(self, probability: float) -> float:
        """Where the probability is reached; of a flat map, inf if everywhere and -inf if nowhere.

        Raises:
            UsageError: no probability between 0 and 1.
        """
        if not 0 < probability < 1:
            raise UsageError(f"probability is {probability:g}, expected between 0 and 1")
        wanted = math.log(probability / (1 - probability)) - self.intercept
        if self.slope == 0:
            return -math.inf if wanted > 0 else math.inf
        return wanted / self.slope


def fit_logistic(
    yes: FloatArray,
    no: FloatArray,
    *,
    rising: bool,
    share: float,
    weights: FloatArray | None = None,
) -> Logistic:
    """Platt's scaling (Platt 1999): logistic regression on one number, by Newton's method.

    His softened targets keep the slope finite where the kinds do not overlap.

    Args:
        yes: ``(P,)`` values of what is.
        no: ``(N,)`` values of what is not.
        rising: whether the probability may only grow with the value, or only fall.
        share: of the first kind's weight; with 1/2, log-odds are log likelihood ratios.
        weights: ``(P,)`` of the first kind's values; all the same if left out.

    Returns:
        The map; its slope is 0 where the values say nothing, or the contrary of ``rising``.
    """
    first = np.ones(len(yes)) if weights is None else weights
    total = len(yes) + len(no)
    weight = np.concatenate(
        (first * (share * total / first.sum()), np.full(len(no), (1 - share) * total / len(no)))
    )
    x = np.concatenate((yes, no)).astype(np.float64)
    target = np.repeat([(len(yes) + 1) / (len(yes) + 2), 1 / (len(no) + 2)], [len(yes), len(no)])
    centre, scale = float(np.average(x, weights=weight)), float(x.std()) or 1.0
    design = np.stack([np.ones_like(x), (x - centre) / scale])  # (2, P + N)
    theta = np.zeros(2)
    for _ in range(_STEPS):
        p = 0.5 * (1 + np.tanh(0.5 * (theta @ design)))
        curvature = np.maximum(weight * p * (1 - p), 1e-12)
        gradient = design @ (weight * (p - target))
        step = np.linalg.solve((design * curvature) @ design.T + 1e-9 * np.eye(2), gradient)
        step /= max(1.0, float(np.abs(step).max()))  # far from the optimum Newton overshoots
        theta -= step
        if np.abs(step).max() < _TOLERANCE:
            break
    slope = theta[1] / scale
    if slope == 0 or (slope > 0) != rising:
        return Logistic(0.0, math.log(share / (1 - share)))
    return Logistic(float(slope), float(theta[0] - slope * centre))


def fit_match(same: FloatArray, different: FloatArray) -> Logistic:
    """Match probability over the distance, from pairs of which some are mistaken for the same.

    A share ``MIXED`` of the pairs of one tracklet is of two objects: motion changes from one to
    the other where they cross. With the likelihood ratio ``r`` of "the same" to "another", such a
    pair is what it seems with probability ``(1 - MIXED) r / ((1 - MIXED) r + MIXED)``, which
    weighs it in the next fit (expectation maximisation).

    Args:
        same: ``(P,)`` distances within tracklets.
        different: ``(N,)`` distances of boxes of one frame.
    """
    weights: FloatArray | None = None
    for _ in range(_ROUNDS):
        found = fit_logistic(same, different, rising=False, share=0.5, weights=weights)
        odds = np.exp(np.clip(found.log_odds(same), -_FAR, _FAR)) * ((1 - MIXED) / MIXED)
        weights = odds / (1 + odds)
    return found


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a video says about a descriptor's distances and a detector's scores.

    Attributes:
        distance: match probability over the distance, falling; the kinds weigh the same, so that
            its log-odds are the log likelihood ratio of "the same" to "another".
        score: share of the detections of a score that motion links, rising.
        linked: the same share of all detections.
        metric: of the distance.
        same: pairs of one object that were seen.
        different: pairs of two.
    """

    distance: Logistic
    score: Logistic
    linked: float
    metric: Metric
    same: int
    different: int

    def probability(self, distance: FloatArray) -> FloatArray:
        """That a crop at this distance from a gallery is the gallery's object."""
        return self.distance.probability(np.minimum(distance, _FARTHEST))

    def doubt(self, distance: FloatArray) -> FloatArray:
        """1 - the match probability: what a pair costs."""
        return self.distance.doubt(np.minimum(distance, _FARTHEST, dtype=np.float64))

    def threshold(self, probability: float) -> float:
        """The distance at which the match probability is the given one.

        Raises:
            UsageError: no probability between 0 and 1.
        """
        return self.distance.threshold(probability)

    def least_score(self, probability: float) -> float:
        """From which score on motion links a detection with this probability.

        Where motion links few detections at all, from which on it links more than on average; so
        there is always something to follow. -inf where the scores say nothing.
        """
        if self.score.slope == 0:
            return -math.inf
        return self.score.threshold(min(probability, self.linked))

    def __str__(self) -> str:
        if self.distance.slope == 0:
            return "looks say nothing here"
        name = "cosine" if self.metric == "cosine" else "squared Euclidean"
        return (
            f"looks are more likely one object's up to a {name} distance of "
            f"{self.threshold(0.5):.3g} (from {self.same} pairs of one and {self.different} of two)"
        )


def calibrate(
    frames: IntArray,
    boxes: FloatArray,
    scores: FloatArray,
    tracklets: IntArray,
    embeddings: FloatArray | None,
    *,
    metric: Metric = "cosine",
    budget: int = 100,
) -> Calibration:
    """Fit the probabilities to detections of a video that motion alone has linked.

    Args:
        frames: ``(N,)`` ascending.
        boxes: ``(N, 4)`` xyxy.
        scores: ``(N,)``.
        tracklets: ``(N,)``, -1 where motion links the detection with none.
        embeddings: ``(N, D)``; of unit length for the cosine distance. None: only the scores are
            calibrated, and the looks say nothing.
        metric: of the distance.
        budget: entries a gallery.

    Raises:
        InputError: too few pairs of either kind.
    """
    score, linked = fit_score(scores, tracklets >= 0)
    if embeddings is None:
        return Calibration(Logistic(0.0, 0.0), score, linked, metric, 0, 0)
    same, different = distances(frames, boxes, tracklets, embeddings, metric, budget)
    if min(len(same), len(different)) < LEAST_PAIRS:
        raise InputError(
            f"too little to calibrate appearance: {len(same)} pairs of one object and "
            f"{len(different)} of two, expected {LEAST_PAIRS} of each (tracks of more than "
            f"{GAPS[0] + _LEAST_ENTRIES} frames, two at a time)"
        )
    return Calibration(
        fit_match(same, different),
        score,
        linked,
        metric,
        len(same),
        len(different),
    )


def fit_score(scores: FloatArray, linked: BoolArray) -> tuple[Logistic, float]:
    """Share of linked detections over the score, and of all of them.

    Args:
        scores: ``(N,)``.
        linked: ``(N,)``, by motion.

    Returns:
        The map, flat where the scores say nothing; and the share, in (0, 1).
    """
    share = float(linked.sum() + 1) / (len(linked) + 2)
    if linked.all() or not linked.any() or scores.min() == scores.max():
        return Logistic(0.0, math.log(share / (1 - share))), share
    return fit_logistic(scores[linked], scores[~linked], rising=True, share=share), share


def distances(
    frames: IntArray,
    boxes: FloatArray,
    tracklets: IntArray,
    embeddings: FloatArray,
    metric: Metric,
    budget: int,
) -> tuple[FloatArray, FloatArray]:
    """Distances of crops to galleries of earlier crops: of the same object, and of another.

    Shapes as in :func:`calibrate`. In every drawn frame each tracklet that is there has its
    galleries as they were some frames before; its own crop is a pair of one object, and the crops
    of the others that do not overlap with it are pairs of two.

    Returns:
        ``(P,)`` and ``(Q,)``.
    """
    drawn, first = np.unique(frames, return_index=True)
    last = np.append(first[1:], len(frames))
    clear = tracklets >= 0
    for begin, end in zip(first, last, strict=True):
        clear[begin:end] &= covered(boxes[begin:end]) <= COVERED
    if not clear.any():
        return np.zeros(0), np.zeros(0)
    order = np.flatnonzero(clear)[np.argsort(tracklets[clear], kind="stable")]
    names, start = np.unique(tracklets[order], return_index=True)
    rows_of = dict(zip(names.tolist(), np.split(order, start[1:]), strict=True))
    same: list[FloatArray] = []
    different: list[FloatArray] = []
    step = max(1, len(drawn) // _FRAMES)
    for frame, begin, end in zip(drawn[::step], first[::step], last[::step], strict=True):
        here = begin + clear[begin:end].nonzero()[0]
        apart = iou(boxes[here], boxes[here]) < APART
        for position, row in enumerate(here):
            entries = rows_of[int(tracklets[row])]
            d = _to_galleries(frames, embeddings, entries, here, int(frame), metric, budget)
            same.append(d[:, position])
            different.append(d[:, apart[position]].ravel())
    none = np.zeros(0)
    return np.concatenate([none, *same]), np.concatenate([none, *different])


def _to_galleries(
    frames: IntArray,
    embeddings: FloatArray,
    entries: IntArray,
    queries: IntArray,
    frame: int,
    metric: Metric,
    budget: int,
) -> FloatArray:
    """Distances of queries to a tracklet's galleries of ``GAPS`` frames ago, ``(G, K)``; G <= 3."""
    ends = np.searchsorted(frames[entries], [frame - gap for gap in GAPS], side="right")
    ends = ends[ends >= _LEAST_ENTRIES]
    if len(ends) == 0:
        return np.zeros((0, len(queries)))
    begin = max(0, int(ends.min()) - budget)
    gallery, chosen = embeddings[entries[begin : ends.max()]], embeddings[queries]
    d: FloatArray = 1 - chosen @ gallery.T  # (K, entries)
    if metric == "euclidean":
        squares = np.einsum("kd,kd->k", chosen, chosen)[:, None]
        d = np.maximum(squares + np.einsum("nd,nd->n", gallery, gallery) + 2 * (d - 1), 0)
    return np.stack([d[:, max(0, end - budget - begin) : end - begin].min(axis=1) for end in ends])


class Calibrator:
    """Collects what a calibration needs, frame by frame; motion links it on the way.

    Bounded: of more than ``most`` boxes the oldest are forgotten.

    Attributes:
        frames: taken so far.
    """

    def __init__(self, metric: Metric = "cosine", budget: int = 100, most: int = 8_000) -> None:
        """Start with nothing.

        Args:
            metric: of the tracker that is calibrated.
            budget: entries of its galleries.
            most: boxes remembered (128 MB of 4,096-dimensional vectors).
        """
        from tracker.engine import Tracker

        self._metric, self._budget, self._most = metric, budget, most
        self._motion = Tracker("sort")
        self._seen: list[tuple[int, Detections, IntArray, FloatArray | None]] = []
        self._boxes = 0
        self._looks = False
        self.frames = 0

    def add(self, seen: Detections, embeddings: FloatArray | None) -> None:
        """Take the next frame: its detections, and their embeddings ``(M, D)`` if there are any."""
        self.frames += 1
        tracks = self._motion.update(seen)
        if len(seen) == 0:
            return
        tracklets = np.full(len(seen), -1)
        rows, ids = tracks.matched
        tracklets[rows] = ids
        self._looks |= embeddings is not None
        if embeddings is None and self._looks:
            return  # a frame without, among others with
        if embeddings is not None:
            embeddings = prepared(embeddings, self._metric)
        self._seen.append((self.frames, seen, tracklets, embeddings))
        self._boxes += len(seen)
        while self._boxes > self._most and len(self._seen) > 1:
            self._boxes -= len(self._seen.pop(0)[1])

    @property
    def scores(self) -> tuple[float, float]:
        """The lowest and the highest score collected; ``(inf, -inf)`` where there is none."""
        every = [seen.scores for _, seen, _, _ in self._seen]
        return min((s.min() for s in every), default=math.inf), max(
            (s.max() for s in every), default=-math.inf
        )

    def fit(self) -> Calibration:
        """The calibration of what has been collected.

        Raises:
            InputError: too little, see :func:`calibrate`.
        """
        chosen = [entry for entry in self._seen if not self._looks or entry[3] is not None]
        if not chosen:
            raise InputError("too little to calibrate on: not one detection")
        looks = [embeddings for *_, embeddings in chosen if embeddings is not None]
        return calibrate(
            np.concatenate([np.full(len(seen), frame) for frame, seen, _, _ in chosen]),
            np.concatenate([seen.boxes for _, seen, _, _ in chosen]),
            np.concatenate([seen.scores for _, seen, _, _ in chosen]),
            np.concatenate([tracklets for _, _, tracklets, _ in chosen]),
            np.concatenate(looks) if looks else None,
            metric=self._metric,
            budget=self._budget,
        )

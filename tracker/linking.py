"""Off-line linking of tracklets: which short tracks are parts of one object's way.

A tracklet is a run of boxes that motion alone has joined. It breaks where somebody is hidden, and
goes wrong where two people meet. So tracklets are first cut where boxes overlap, then joined again
by two kinds of evidence: how well one's end leads to another's beginning, and how alike they look.
Two tracklets that are seen at the same time are two objects; that is never overruled, and it also
says, without any label, how alike two different objects of this video can look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracker.boxes import iou
from trackvae.arrays import BoolArray, FloatArray, IntArray, unit_length
from trackvae.errors import InputError, UsageError

NONE = -1  # the tracklet of a box that belongs to none
_FEW = 3  # crops below which a tracklet's mean says little
_ENDS = 10  # boxes of an end from which its speed is taken
_COASTING = 15  # frames for which that speed is believed


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """What counts as evidence; lengths in heights of the object, times in frames.

    Attributes:
        overlap: intersection over union of two boxes of a frame at which their tracklets are cut.
        quantile: of the likeness of pairs that are seen at the same time; what is joined must be
            more alike.
        motion_weight: cosine that a nat of motion's evidence is worth.
        max_gap: frames across which motion says anything.
        drift: standard deviation of a predicted place ``a + b t`` after t frames: ``(a, b)``.
        growth: standard deviation of the logarithm of the height between two ends.
        area: of the scene in squared heights, over which a stranger may appear.
        speed: heights a frame above which nobody moves.
    """

    overlap: float = 0.35
    quantile: float = 0.995
    motion_weight: float = 0.05
    max_gap: int = 30
    drift: tuple[float, float] = (0.05, 0.015)
    growth: float = 0.15
    area: float = 20.0
    speed: float = 0.15

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not (0 < self.overlap <= 1 and 0 <= self.quantile <= 1):
            raise UsageError(
                f"overlap is {self.overlap}, quantile {self.quantile}; expected shares up to 1"
            )
        for name in ("max_gap", "drift", "growth", "area", "speed"):
            if not np.all(np.asarray(getattr(self, name)) > 0):
                raise UsageError(f"{name} is {getattr(self, name)}, expected more than 0")
        if not self.motion_weight >= 0:
            raise UsageError(f"motion_weight is {self.motion_weight}, expected 0 or more")


_STANDARD = LinkOptions()
_IMPOSSIBLE = -8.0  # nats of motion's evidence against a pair
_CERTAIN = 6.0  # nats for it, at most


def cut_at_overlaps(
    frames: IntArray, boxes: FloatArray, ids: IntArray, options: LinkOptions = _STANDARD
) -> IntArray:
    """Tracklets cut where their box overlaps with another's: whose it is there is not sure.

    Args:
        frames: (N,).
        boxes: (N, 4) xyxy.
        ids: (N,) tracklets; a frame holds each once. ``NONE`` for boxes of none.
        options: see ``overlap``.

    Returns:
        (N,) new tracklets from 0; ``NONE`` for the boxes that overlap or are of none.
    """
    covered = _covered(frames, boxes, options.overlap)
    order = np.lexsort((frames, ids))
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.diff(ids[order]) != 0
    new[1:] |= covered[order][1:] != covered[order][:-1]
    pieces = np.empty(len(order), np.int64)
    pieces[order] = np.cumsum(new)
    pieces[covered | (ids == NONE)] = NONE
    names, index = np.unique(pieces, return_inverse=True)
    return np.asarray(index - int(len(names) > 0 and names[0] == NONE), np.int64)


def link_tracklets(
    frames: IntArray,
    boxes: FloatArray,
    ids: IntArray,
    embeddings: FloatArray,
    options: LinkOptions = _STANDARD,
    *,
    looks: BoolArray | None = None,
) -> IntArray:
    """Join tracklets of one object, by average linkage of their crops' cosines.

    Args:
        frames: (N,).
        boxes: (N, 4) xyxy.
        ids: (N,) tracklets; ``NONE`` for boxes of none.
        embeddings: (N, D) of the boxes, compared by cosine.
        options: what counts as evidence.
        looks: (N,) which embeddings say anything; the other boxes only say where the object was.
            Left out: all.

    Returns:
        (N,) objects from 0; ``NONE`` where the tracklet is.

    Raises:
        InputError: arrays that do not fit each other, values that are not finite, a tracklet with
            two boxes in a frame, or nothing to link.
    """
    if not (len(frames) == len(boxes) == len(ids) == len(embeddings)):
        raise InputError(
            f"{len(frames)} frames, {len(boxes)} boxes, {len(ids)} tracklets and "
            f"{len(embeddings)} embeddings, expected as many of each"
        )
    used = np.flatnonzero(ids != NONE)
    if not len(used):
        raise InputError("no tracklets to link")
    shown = np.ones(len(used), dtype=bool) if looks is None else looks[used]
    _check(frames[used], boxes[used], ids[used], embeddings[used], shown)
    _, index = np.unique(ids[used], return_inverse=True)
    ends = _Ends.of(frames[used], boxes[used], index)
    sums = np.zeros((len(ends.first), embeddings.shape[1]))
    np.add.at(sums, index[shown], unit_length(embeddings[used[shown]]))
    count = np.bincount(index[shown], minlength=len(sums)).astype(np.float64)
    together = (ends.first[None] <= ends.last[:, None]) & (ends.first[:, None] <= ends.last[None])
    likeness = _likeness(sums, count)
    threshold = _threshold(likeness, together, count, options.quantile)
    motion, impossible = _motion_evidence(ends, options)
    objects = _agglomerate(
        sums, count, together | impossible, options.motion_weight * motion, threshold
    )
    found = np.full(len(ids), NONE, np.int64)
    found[used] = objects[index]
    return found


def _check(
    frames: IntArray, boxes: FloatArray, ids: IntArray, embeddings: FloatArray, shown: BoolArray
) -> None:
    """Refuse what would otherwise be taken for evidence against every pair.

    Raises:
        InputError: see :func:`link_tracklets`.
    """
    every = np.ones(len(frames), dtype=bool)
    for what, values, told in (("boxes", boxes, every), ("embeddings", embeddings, shown)):
        sound = np.isfinite(values).all(axis=1) | ~told
        if not sound.all():
            row = int(np.argmin(sound))
            raise InputError(
                f"the {what} hold NaN or infinity (tracklet {ids[row]}, frame {frames[row]})"
            )
    order = np.lexsort((frames, ids))
    twice = (np.diff(ids[order]) == 0) & (np.diff(frames[order]) == 0)
    if twice.any():
        row = order[int(np.argmax(twice))]
        raise InputError(f"tracklet {ids[row]} has two boxes in frame {frames[row]}")


def _covered(frames: IntArray, boxes: FloatArray, overlap: float) -> BoolArray:
    """Which boxes overlap with another of their frame by more than that."""
    covered = np.zeros(len(frames), dtype=bool)
    order = np.argsort(frames, kind="stable")
    _, starts = np.unique(frames[order], return_index=True)
    for rows in np.split(order, starts[1:]):
        shared = iou(boxes[rows], boxes[rows])
        np.fill_diagonal(shared, 0.0)
        covered[rows] = shared.max(axis=1, initial=0.0) > overlap
    return covered


@dataclass(frozen=True, slots=True, eq=False)
class _Ends:
    """First and last frame, place (K, 2), speed (K, 2) and height (K,) of K tracklets' ends."""

    first: IntArray
    last: IntArray
    start: FloatArray
    start_speed: FloatArray
    start_height: FloatArray
    end: FloatArray
    end_speed: FloatArray
    end_height: FloatArray

    @classmethod
    def of(cls, frames: IntArray, boxes: FloatArray, index: IntArray) -> _Ends:
        """Of boxes and the tracklets 0 .. K - 1 that they belong to."""
        order = np.lexsort((frames, index))
        _, starts = np.unique(index[order], return_index=True)
        centres, heights = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 3] - boxes[:, 1]
        rows = np.split(order, starts[1:])
        heads, tails = [r[:_ENDS] for r in rows], [r[-_ENDS:] for r in rows]

        def speed(some: list[IntArray]) -> FloatArray:
            return np.stack([_speed(frames[r], centres[r]) for r in some])

        def height(some: list[IntArray]) -> FloatArray:
            return np.maximum([float(heights[r].mean()) for r in some], 1.0)

        first, last = np.array([r[0] for r in rows]), np.array([r[-1] for r in rows])
        return cls(
            frames[first],
            frames[last],
            centres[first],
            speed(heads),
            height(heads),
            centres[last],
            speed(tails),
            height(tails),
        )


def _speed(frames: IntArray, centres: FloatArray) -> FloatArray:
    """Pixels a frame (2,) of the straight line through centres (T, 2); 0 for fewer than three."""
    if len(frames) < _FEW:
        return np.zeros(2)
    time = frames - frames.mean()
    return np.asarray(time @ centres / (time @ time))


def _motion_evidence(ends: _Ends, options: LinkOptions) -> tuple[FloatArray, BoolArray]:
    """Nats (K, K) for a pair to be one object, at least 0, and which pairs cannot be."""
    gap = ends.first[None] - ends.last[:, None]  # row before column where positive
    height = (ends.end_height[:, None] + ends.start_height[None]) / 2
    across, down = ends.end.T[:, :, None] - ends.start.T[:, None]
    moved = np.hypot(across, down) / height
    impossible = (gap > 0) & (moved > 1.0 + options.speed * gap)
    before, after = np.nonzero((gap > 0) & (gap <= options.max_gap))
    nats = _nats(ends, before, after, options)
    impossible[before, after] |= nats < _IMPOSSIBLE
    evidence = np.zeros(gap.shape)
    evidence[before, after] = np.clip(nats, 0.0, _CERTAIN)
    return np.maximum(evidence, evidence.T), impossible | impossible.T


def _nats(ends: _Ends, before: IntArray, after: IntArray, options: LinkOptions) -> FloatArray:
    """Log of how much likelier the one's end leads to the other's start than a stranger's does.

    Args:
        ends: of all tracklets.
        before: (P,) which end.
        after: (P,) which start.
        options: how exact the prediction is, and how rare a stranger.

    Returns:
        (P,).
    """
    gap = ends.first[after] - ends.last[before]
    end, start = ends.end[before], ends.start[after]
    height = (ends.end_height[before] + ends.start_height[after]) / 2
    coasting = np.clip(gap, 1, _COASTING)[:, None]
    ahead = np.linalg.norm(end + ends.end_speed[before] * coasting - start, axis=1)
    back = np.linalg.norm(start - ends.start_speed[after] * coasting - end, axis=1)
    miss = (ahead + back) / (2 * height)
    grown = np.log(ends.start_height[after] / ends.end_height[before])
    spread = options.drift[0] + options.drift[1] * gap
    nats = np.log(options.area / (2 * np.pi * spread**2))
    return nats - 0.5 * (miss / spread) ** 2 - 0.5 * (grown / options.growth) ** 2


def _likeness(sums: FloatArray, count: FloatArray) -> FloatArray:
    """Mean cosine between the crops of any two tracklets, (K, K); 0 where one shows nothing."""
    means = sums / np.maximum(count, 1)[:, None]
    return np.asarray(means @ means.T)


def _threshold(
    likeness: FloatArray, together: BoolArray, count: FloatArray, quantile: float
) -> float:
    """How alike two objects that were seen at the same time can be.

    Without such pairs (one object at a time) every pair stands in for them. No share of a few is
    taken then, or the most alike of three strangers would always be joined.
    """
    solid = count >= _FEW
    pairs = np.triu(np.ones_like(together), 1) & solid[:, None] & solid[None]
    known = likeness[pairs & together]
    if len(known):
        return float(np.quantile(known, quantile))
    known = likeness[pairs]
    return float(np.quantile(known, quantile, method="higher")) if len(known) else 1.0


def _agglomerate(
    sums: FloatArray, count: FloatArray, apart: BoolArray, motion: FloatArray, threshold: float
) -> IntArray:
    """Merge the best pair again and again, while it is better than the threshold: (K,) objects.

    A pair's score is its mean cosine, plus the best of its members' evidence from motion.
    """
    sums, count, apart, motion = sums.copy(), count.copy(), apart.copy(), motion.copy()
    labels, alive = np.arange(len(count)), np.ones(len(count), dtype=bool)
    scores = _likeness(sums, count) + motion
    scores[apart] = -np.inf
    np.fill_diagonal(scores, -np.inf)
    best = scores.max(axis=1)
    while best.max() > threshold:
        i = int(best.argmax())
        j = int(scores[i].argmax())
        sums[i] += sums[j]
        count[i] += count[j]
        apart[i] |= apart[j]
        motion[i] = np.maximum(motion[i], motion[j])
        apart[:, i], motion[:, i] = apart[i], motion[i]
        labels[labels == j] = i
        alive[j] = False
        stale = (scores[i] == best) | (scores[j] == best)  # their best pair is no more
        stale &= np.isfinite(best)  # not what is merged: 2,000 in 0.5 s against 4.5
        merged = sums @ sums[i] / np.maximum(count * count[i], 1) + motion[i]
        merged[apart[i] | ~alive] = -np.inf
        merged[i] = -np.inf
        scores[i], scores[:, i] = merged, merged
        scores[j], scores[:, j] = -np.inf, -np.inf
        best = np.maximum(best, merged)
        best[stale] = scores[stale].max(axis=1)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)

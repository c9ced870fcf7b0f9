"""Off-line re-linking of finished tracks: an object that the tracker lost gets its identity back.

The tracker decides frame by frame; here the whole sequence is known. Tracks are what
:mod:`tracker.linking` calls tracklets: joined where looks and motion agree, never where two were
seen at the same time. Nothing is cut, and no box moves: only names change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from tracker.appearance import Embedder, covered, described
from tracker.boxes import iou
from tracker.calibration import COVERED
from tracker.detections import Detections, Frame, Tracks
from tracker.detectors import Detector
from tracker.io.mot import BoxTable
from tracker.linking import LinkOptions, link_tracklets
from trackvae.arrays import IntArray
from trackvae.errors import InputError

_STANDARD = LinkOptions()
_SAME = 0.5  # intersection over union of a track's box and the detection that it stands for
_NOBODY = -1


class Witness:
    """A detector and a sink in one: it remembers what was seen and what was followed.

    Attributes:
        needs_image: as the detector's.
        names: as the detector's.
        followed: the frames, without their images, and their tracks.
    """

    def __init__(self, detector: Detector, embedder: Embedder | None, *, keep_tracks: bool) -> None:
        """Stand before a detector.

        Args:
            detector: is asked.
            embedder: for detections without embeddings; None: all bring theirs.
            keep_tracks: whether :attr:`followed` is wanted.
        """
        self._detector, self._embedder, self._keep = detector, embedder, keep_tracks
        self.needs_image, self.names = detector.needs_image, detector.names
        self._seen: list[tuple[int, Detections]] = []
        self.followed: list[tuple[Frame, Tracks]] = []

    def __call__(self, frame: Frame) -> Detections:
        """The frame's detections, with their embeddings.

        Raises:
            InputError: there is no image to describe them by.
        """
        seen = self._detector(frame)
        if self._embedder is not None and seen.embeddings is None and len(seen):
            if frame.image is None:
                raise InputError(f"frame {frame.index} has no image to describe its boxes by")
            seen = replace(seen, embeddings=described(self._embedder, frame.image, seen.boxes))
        if len(seen) and seen.embeddings is not None:
            self._seen.append((frame.index, seen))
        return seen

    def reset(self) -> None:
        """Forget everything, back to the first frame."""
        self._seen.clear()
        self.followed.clear()
        self._detector.reset()

    @property
    def table(self) -> BoxTable:
        """All detections that have embeddings."""
        if not self._seen:
            return BoxTable.empty()
        every = [seen for _, seen in self._seen]
        frames = np.concatenate([np.full(len(seen), frame) for frame, seen in self._seen])
        return BoxTable.of(
            frames,
            np.full(len(frames), _NOBODY),
            np.concatenate([seen.boxes for seen in every]),
            np.concatenate([seen.scores for seen in every]),
            np.concatenate([seen.classes for seen in every]),
            embeddings=np.concatenate([np.asarray(seen.embeddings) for seen in every]),
        )

    # --- as a sink

    def write(self, frame: Frame, tracks: Tracks) -> None:
        """Take the next frame's tracks."""
        if self._keep:
            self.followed.append((replace(frame, image=None), tracks))

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> Witness:
        """The witness itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


def relink(
    tracks: BoxTable, seen: BoxTable, options: LinkOptions = _STANDARD, *, per_class: bool = True
) -> dict[int, int]:
    """Which tracks are one object.

    A box's looks are those of the detection that it stands for. Where another box that stands
    nearer covers it, they are somebody else's and say nothing.

    Args:
        tracks: finished tracks.
        seen: the detections that they were made of, with embeddings.
        options: what counts as evidence.
        per_class: join tracks of one class only; a track's is that of most of its detections.

    Returns:
        Every identity, and the one that it is to have: of the joined, the one seen first. All keep
        theirs where nothing shows what they look like.

    Raises:
        InputError: the detections' embeddings are not finite, or a track is twice in a frame.
    """
    names = {int(name): int(name) for name in np.unique(tracks.ids) if name >= 0}
    if len(names) < 2 or seen.embeddings is None:
        return names
    rows = _detection_of(tracks, seen)
    looks = rows >= 0
    embeddings = seen.embeddings[np.maximum(rows, 0)]
    labels = _class_of(tracks, np.where(looks, seen.classes[np.maximum(rows, 0)], _NOBODY))
    for label in np.unique(labels[tracks.ids >= 0]) if per_class else [None]:
        some = (tracks.ids >= 0) & (True if label is None else labels == label)
        if not looks[some].any():
            continue
        found = link_tracklets(
            tracks.frames[some],
            tracks.boxes[some],
            tracks.ids[some],
            embeddings[some],
            options,
            looks=looks[some],
        )
        ids = tracks.ids[some]  # ascending frames: the first row of an object is its earliest
        _, first = np.unique(found, return_index=True)
        names |= dict(zip(ids.tolist(), ids[first][found].tolist(), strict=True))
    return names


def renamed(ids: IntArray, names: Mapping[int, int]) -> IntArray:
    """Identities ``(N,)`` by their new names; those without one keep theirs."""
    return np.array([names.get(name, name) for name in ids.tolist()], dtype=np.int64)


def replayed(
    followed: Iterable[tuple[Frame, Tracks]],
    names: Mapping[int, int],
    images: Iterable[Frame] | None = None,
) -> Iterator[tuple[Frame, Tracks]]:
    """What was followed, frame by frame, by its new names.

    Args:
        followed: frames and their tracks.
        names: of :func:`relink`.
        images: the same frames once more, with their images; None: nobody looks at these.
    """
    shown = None if images is None else iter(images)
    for frame, tracks in followed:
        again = frame if shown is None else next(shown)
        yield again, replace(tracks, ids=renamed(tracks.ids, names))


def _detection_of(tracks: BoxTable, seen: BoxTable) -> IntArray:
    """The row of ``seen`` that each track's box stands for ``(N,)``.

    Box and detection must each be the other's best; -1 where there is none, or it is covered.
    """
    found = np.full(len(tracks), _NOBODY)
    for frame in np.unique(tracks.frames).tolist():
        mine, theirs = tracks.rows(frame), seen.rows(frame)
        boxes = seen.boxes[theirs]
        if not len(boxes):
            continue
        shared = iou(tracks.boxes[mine], boxes)
        best = shared.argmax(axis=1)
        good = shared[np.arange(len(best)), best] >= _SAME
        good &= shared.argmax(axis=0)[best] == np.arange(len(best))
        good &= covered(boxes)[best] <= COVERED
        found[mine] = np.where(good, theirs.start + best, _NOBODY)
    return found


def _class_of(tracks: BoxTable, classes: IntArray) -> IntArray:
    """The class of each box's track: that of most of its boxes that have one, ``(N,)``."""
    found = np.full(len(tracks), _NOBODY)
    for name in np.unique(tracks.ids).tolist():
        rows = tracks.ids == name
        known, counts = np.unique(classes[rows & (classes >= 0)], return_counts=True)
        if len(known):
            found[rows] = known[counts.argmax()]
    return found

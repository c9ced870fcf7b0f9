"""What a MOT sequence gives to re-identification: labelled queries, motion-only tracklets.

A query is a box of the ground truth. A tracklet is a run of detections that motion alone has
linked: no label and no appearance is looked at, so a descriptor may be fitted to it on the very
sequence that it is scored on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trackvae.arrays import BoolArray, FloatArray, Image, IntArray
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from reid.descriptors import Descriptor
    from tracker.io.sources import Source

PEDESTRIAN = 1  # of MOT16's classes
LEAST_VISIBLE = 0.3  # of a query's box, where the ground truth says


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of a sequence and whose they are, frames ascending.

    Attributes:
        frames: (N,) from 1.
        boxes: (N, 4) xyxy in pixels.
        ids: (N,) of the objects, or of the tracklets.
    """

    frames: IntArray
    boxes: FloatArray
    ids: IntArray

    def __len__(self) -> int:
        """How many boxes there are."""
        return len(self.frames)

    def select(self, rows: IntArray | BoolArray) -> Boxes:
        """The chosen boxes, in that order."""
        return Boxes(self.frames[rows], self.boxes[rows], self.ids[rows])


def queries_of(source: Source, *, stride: int = 5, gap: int = 60) -> Boxes:
    """The ground truth's boxes in every ``stride``-th frame, from the first on.

    Pedestrians that count (MOT16's mark and class), visible to more than ``LEAST_VISIBLE`` where
    the file says so, with a part inside the frame.

    Args:
        source: a MOT sequence.
        stride: of the frames.
        gap: frames between a query and what it is compared with; at least two frames must lie so
            far apart.

    Raises:
        InputError: no ground truth, no such boxes, or none far enough from another.
        UsageError: a stride or gap that means nothing.
    """
    from tracker.io.mot import read_boxes

    if stride < 1 or gap < 0:
        raise UsageError(f"stride is {stride}, gap {gap}; expected 1 or more, 0 or more")
    path = source.ground_truth_path
    if path is None:
        raise InputError(f"{source.path}: no gt/gt.txt in it, so nobody knows who is who")
    table = read_boxes(path, unique_ids=True)
    chosen = (table.frames - 1) % stride == 0
    chosen &= (table.scores > 0) & np.isin(table.classes, (-1, PEDESTRIAN))
    chosen &= (table.visibility > LEAST_VISIBLE) & (table.frames <= (source.info.length or np.inf))
    table = table.select(chosen)
    queries = _inside(Boxes(table.frames, table.boxes, table.ids), source)
    if not len(queries):
        raise InputError(
            f"{path}: no box in every {stride}. frame that is a visible pedestrian's; see --stride"
        )
    first, last = int(queries.frames[0]), int(queries.frames[-1])
    if last - first < gap:
        raise InputError(
            f"{path}: its boxes lie in frames {first} to {last}, and a query needs another frame "
            f"at least {gap} away; see --gap"
        )
    return queries


def tracklets_of(source: Source, *, most: int = 20_000) -> Boxes:
    """The sequence's own detections that ``sort`` links, as the detector saw them.

    Args:
        source: a MOT sequence.
        most: boxes, about; of more, whole frames at even distances are left out.

    Raises:
        InputError: the sequence has no detections, or nothing can be linked.
    """
    from tools.fit.observe import linked
    from tracker import Tracker
    from tracker.io.mot import read_boxes

    path = source.detections_path
    if path is None:
        raise InputError(
            f"{source.path}: no det/det.txt in it to fit to; --fit other:PATH names other sequences"
        )
    table = read_boxes(path)
    last = min(source.info.length or table.last_frame, table.last_frame)
    tracker = Tracker("sort", frame_rate=source.info.frame_rate or 30.0)
    found = []
    for frame in range(1, last + 1):
        boxes, ids = linked(tracker, table.detections(frame))
        found.append((np.full(len(ids), frame), boxes, ids))
    if not any(len(ids) for _, _, ids in found):
        raise InputError(f"{path}: no detections in it that motion alone can link")
    frames, boxes, ids = (np.concatenate(column) for column in zip(*found, strict=True))
    kept = _inside(Boxes(frames, boxes, ids), source)
    every = -(-len(kept) // max(most, 1))
    return kept.select(kept.frames % every == 0) if every > 1 else kept


def _inside(boxes: Boxes, source: Source) -> Boxes:
    """Those of which something is in the frame."""
    from tracker.boxes import reaches_into

    width, height = source.info.width or np.inf, source.info.height or np.inf
    return boxes.select(reaches_into(boxes.boxes, width, height))


def describe(source: Source, descriptor: Descriptor, groups: Sequence[Boxes]) -> list[FloatArray]:
    """Vectors of several groups of boxes; each frame is read once and described in one call.

    Args:
        source: with images.
        descriptor: see :mod:`reid.descriptors`.
        groups: boxes of that source.

    Returns:
        (N, dim) float32 for each group, in its order.

    Raises:
        InputError: there are no images, or too few.
    """
    if not source.has_images:
        raise InputError(f"{source.path}: it has no images or video to describe boxes of")
    frames = np.concatenate([group.frames for group in groups])
    boxes = np.concatenate([group.boxes for group in groups])
    order = np.argsort(frames, kind="stable")
    vectors = np.zeros((len(frames), descriptor.dim), np.float32)
    for rows, image in _images(source, frames, order):
        vectors[rows] = descriptor(image, boxes[rows])
    return np.split(vectors, np.cumsum([len(group) for group in groups])[:-1])


def cut_crops(source: Source, boxes: Boxes, size: tuple[int, int]) -> Image:
    """The boxes as crops ``(N, 3, height, width)`` uint8, BGR.

    Raises:
        InputError: there are no images, or too few.
    """
    from reid.crops import cut

    if not source.has_images:
        raise InputError(f"{source.path}: it has no images or video to cut crops from")
    crops = np.zeros((len(boxes), 3, *size), np.uint8)
    order = np.argsort(boxes.frames, kind="stable")
    for rows, image in _images(source, boxes.frames, order):
        crops[rows] = cut(image, boxes.boxes[rows], size)
    return crops


def _images(source: Source, frames: IntArray, order: IntArray) -> Iterator[tuple[IntArray, Image]]:
    """The rows of each frame that has any, with its image."""
    from tools.progress import progress

    ascending = frames[order]
    last = int(ascending[-1]) if len(ascending) else 0
    with progress(f"crops of {source.name}", last) as advance:
        for frame in source if last else ():
            first, end = np.searchsorted(ascending, (frame.index, frame.index + 1))
            if first < end and frame.image is not None:
                yield order[first:end], frame.image
            advance(frame.index)
            if frame.index >= last:
                return
    if last:
        raise InputError(f"{source.path}: ends before frame {last}, which has boxes")

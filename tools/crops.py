"""Crops cut out of MOT sequences: the boxes of objects as a data set of images to learn from.

Neighbouring frames show nearly the same picture, so a split at random would test on what was
trained on. Here each sequence is cut in time, and a gap is left between its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trackvae.arrays import BoolArray, Image, IntArray
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from tracker.io.mot import BoxTable
    from tracker.io.sources import Source
    from training.data.dataset import DataSet

Boxes: TypeAlias = Literal["det", "gt"]
_PEDESTRIAN = 1  # of MOT16's classes
_LEAST_INSIDE = 0.5  # of a box's area; less is a strip at the frame's edge
_NARROWEST = 0.25  # of the least height: a width below it is a strip too


@dataclass(frozen=True, slots=True)
class CropOptions:
    """What is cut out, and how it is divided.

    Attributes:
        size: height and width of a crop in pixels; boxes are squeezed to it.
        boxes: ``det`` (``det/det.txt``) or ``gt`` (``gt/gt.txt``: pedestrians that count, with
            their identities as labels).
        most: crops at most, evenly over all that there are; None: all.
        stride: of the frames that are looked at: every n-th.
        min_height: of a box inside the frame, in pixels.
        test: share of each sequence's frames, the last ones.
        validation: share of them, before the test's.
        gap: seconds left out between two parts (at most a quarter of the earlier one).
    """

    size: tuple[int, int] = (64, 64)
    boxes: Boxes = "det"
    most: int | None = None
    stride: int = 1
    min_height: float = 24.0
    test: float = 0.2
    validation: float = 0.0
    gap: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if min(self.size) < 1:
            raise UsageError(f"size is {self.size}, expected height and width from 1 pixel")
        if self.boxes not in ("det", "gt"):
            raise UsageError(f"boxes is {self.boxes!r}, expected det or gt")
        for name in ("most", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, expected 1 or more")
        if not (self.min_height >= 1 and self.gap >= 0):
            raise UsageError(
                f"min_height is {self.min_height}, gap {self.gap}; expected 1 or more, 0 or more"
            )
        if not (self.test >= 0 and self.validation >= 0 and self.test + self.validation < 1):
            raise UsageError(
                f"test {self.test} and validation {self.validation}, expected shares that add to "
                "less than 1"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """The boxes of one sequence that are to be cut out: N rows, frames ascending."""

    source: Source
    frames: IntArray  # (N,)
    boxes: IntArray  # (N, 4) xyxy, whole pixels inside the frame
    ids: IntArray  # (N,), -1 where there are none
    parts: IntArray  # (N,) 0 train, 1 validation, 2 test
    skipped: int

    def select(self, rows: IntArray) -> _Cut:
        columns = (self.frames[rows], self.boxes[rows], self.ids[rows], self.parts[rows])
        return _Cut(self.source, *columns, self.skipped)


def crops_of(sequences: str | Path | Sequence[str | Path], **options: Any) -> DataSet:
    """The boxes of MOT sequences, cut out of their frames.

    The split is by time: of each sequence's T frames the last ``test`` share is the test part, the
    share before it validation, the rest is trained on; ``gap`` seconds before each border are left
    out, since the frames there show what the next part shows. Memory is that of the crops: frames
    are read one after the other, and how many crops there will be is known from the text files.

    Args:
        sequences: a sequence's folder, a folder of them, or several of either.
        **options: fields of :class:`CropOptions`.

    Returns:
        uint8 images (N, 3, H, W), BGR, in the order of time; with ``boxes="gt"`` the identities
        (``sequence/id``) as labels. The note says how it was split and how many boxes were
        skipped: those below ``min_height``, and those of which less than half is in the frame.

    Raises:
        InputError: no sequence, frames or boxes, or fewer than two usable ones to train on.
        UsageError: options that mean nothing.
    """
    from training.data.dataset import LEAST, PARTS, DataSet

    chosen = CropOptions(**options)
    given = [sequences] if isinstance(sequences, (str, Path)) else list(sequences)
    cuts = _thinned([_plan(source, chosen) for source in _open_all(given)], chosen.most)
    counts = np.bincount(np.concatenate([cut.parts for cut in cuts]), minlength=len(PARTS))
    skipped = sum(cut.skipped for cut in cuts)
    name = ", ".join(str(path) for path in given)
    if counts[0] < LEAST:
        raise InputError(
            f"{name}: {counts[0]} box(es) to train on ({skipped} skipped as too small or outside "
            f"the frame), expected at least {LEAST}; see min_height, stride, test"
        )
    arrays = _cut_all(cuts, chosen.size, counts)
    sizes = ", ".join(f"{count} {part}" for count, part in zip(counts, PARTS, strict=True))
    labels, names = _identities(cuts) if chosen.boxes == "gt" else ({}, ())
    return DataSet(
        name=name,
        train=arrays[0],
        validation=arrays[1],
        test=arrays[2],
        labels=labels,
        label_names=names,
        note=f"crops of {chosen.boxes} boxes of {len(cuts)} sequence(s), every {chosen.stride}. "
        f"frame; split by time within each, {chosen.gap:g} s left out between parts: {sizes}; "
        f"{skipped} boxes skipped",
    )


def _open_all(given: Sequence[str | Path]) -> list[Source]:
    """Every sequence that is meant, checked for frames."""
    from tracker.io.sources import list_sources, open_frames

    opened = [open_frames(path) for one in given for path in list_sources(one)]
    if not opened:
        raise InputError("no sequence given to cut crops from")
    for source in opened:
        if not source.has_images:
            raise InputError(f"{source.path}: it has no images or video to cut crops from")
    return opened


def _plan(source: Source, options: CropOptions) -> _Cut:
    """Which boxes of a sequence are cut out, and for which part."""
    from reid.crops import whole_pixels
    from tracker.boxes import areas, clip
    from tracker.io.mot import read_boxes

    path = source.detections_path if options.boxes == "det" else source.ground_truth_path
    if path is None:
        raise InputError(
            f"{source.path}: no {options.boxes}/{options.boxes}.txt in it, so there are no boxes "
            "to cut out; name a MOT sequence, or a folder of them"
        )
    table = read_boxes(path)
    length = source.info.length or table.last_frame
    table = table.select(_counts(table, options) & (table.frames <= length))
    if not len(table):
        raise InputError(f"{path}: no boxes in it that could be cut out")
    width, height = source.info.width, source.info.height
    inside = clip(table.boxes, width, height)
    size = inside[:, 2:] - inside[:, :2]
    usable = (size[:, 1] >= options.min_height) & (size[:, 0] >= _NARROWEST * options.min_height)
    usable &= areas(inside) >= _LEAST_INSIDE * areas(table.boxes)
    parts = _part_of(table.frames, length, source.info.frame_rate, options)
    rows = np.flatnonzero(usable & (parts >= 0))
    pixels = whole_pixels(inside[rows], width, height)
    skipped = int((~usable).sum())
    return _Cut(source, table.frames[rows], pixels, table.ids[rows], parts[rows], skipped)


def _counts(table: BoxTable, options: CropOptions) -> BoolArray:
    """Which rows are looked at: the stride's frames; of ground truth the pedestrians that count."""
    chosen = (table.frames - 1) % options.stride == 0
    if options.boxes == "gt":
        chosen &= (table.scores > 0) & np.isin(table.classes, (-1, _PEDESTRIAN))
    return np.asarray(chosen)


def _part_of(frames: IntArray, length: int, rate: float, options: CropOptions) -> IntArray:
    """0 train, 1 validation, 2 test for each frame (from 1); -1 in a gap."""
    after = {1: options.validation + options.test, 2: options.test}
    borders = [(part, round((1 - after[part]) * length)) for part in (1, 2)]
    if options.validation == 0 or borders[0][1] == borders[1][1]:
        del borders[0]
    parts = np.zeros(len(frames), dtype=np.int64)
    start = 0
    for part, border in borders:
        gap = min(round(options.gap * rate), (border - start) // 4) if border < length else 0
        parts[frames > border - gap] = -1
        parts[frames > border] = part
        start = border
    return parts


def _thinned(cuts: list[_Cut], most: int | None) -> list[_Cut]:
    """At most so many boxes in all, evenly spaced over the sequences and their time."""
    count = sum(len(cut.frames) for cut in cuts)
    if most is None or count <= most:
        return cuts
    keep = np.linspace(0, count - 1, most).round().astype(np.int64)
    thinned, first = [], 0
    for cut in cuts:
        end = first + len(cut.frames)
        thinned.append(cut.select(keep[(keep >= first) & (keep < end)] - first))
        first = end
    return thinned


def _cut_all(
    cuts: Sequence[_Cut], size: tuple[int, int], counts: IntArray
) -> list[npt.NDArray[np.uint8]]:
    """The crops of each part, (N, 3, H, W), frame after frame."""
    arrays = [np.empty((count, 3, *size), dtype=np.uint8) for count in counts]
    filled = [0] * len(arrays)
    for cut in cuts:
        for row, image in _images(cut):
            part = int(cut.parts[row])
            x0, y0, x1, y1 = cut.boxes[row].tolist()
            arrays[part][filled[part]] = _resized(image[y0:y1, x0:x1], size).transpose(2, 0, 1)
            filled[part] += 1
    return arrays


def _images(cut: _Cut) -> Any:
    """Row and frame's image of each box, in order, up to the last frame that has one.

    Raises:
        InputError: a frame is not of the size that the sequence began with, or is missing.
    """
    from tools.progress import progress

    if not len(cut.frames):
        return
    info, last = cut.source.info, int(cut.frames[-1])
    with progress(f"crops of {cut.source.name}", last) as advance:
        for frame in cut.source:
            first, end = np.searchsorted(cut.frames, (frame.index, frame.index + 1))
            if first < end and frame.image is not None:
                if frame.image.shape[:2] != (info.height, info.width):
                    height, width = frame.image.shape[:2]
                    raise InputError(
                        f"{cut.source.path}: frame {frame.index} has {width} x {height} pixels, "
                        f"the first {info.width} x {info.height}"
                    )
                for row in range(int(first), int(end)):
                    yield row, frame.image
            advance(frame.index)
            if frame.index >= last:
                return
    raise InputError(f"{cut.source.path}: ends before frame {last}, which has boxes")


def _resized(crop: Image, size: tuple[int, int]) -> Image:
    """(H, W, 3) scaled to ``size``, by areas where it shrinks."""
    import cv2

    smaller = size[0] <= crop.shape[0] and size[1] <= crop.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (size[1], size[0]), interpolation=how), dtype=np.uint8)


def _identities(
    cuts: Sequence[_Cut],
) -> tuple[dict[str, npt.NDArray[Any]], tuple[str, ...]]:
    """Labels of each part, and the names ``sequence/id`` that they stand for."""
    from training.data.dataset import PARTS

    names: list[str] = []
    numbers, parts = [], []
    for cut in cuts:
        ids, index = np.unique(cut.ids, return_inverse=True)
        numbers.append(index + len(names))
        parts.append(cut.parts)
        names += [f"{cut.source.name}/{identity}" for identity in ids.tolist()]
    all_numbers, all_parts = np.concatenate(numbers), np.concatenate(parts)
    labels: dict[str, npt.NDArray[Any]] = {
        part: all_numbers[all_parts == index] for index, part in enumerate(PARTS)
    }
    return labels, tuple(names)

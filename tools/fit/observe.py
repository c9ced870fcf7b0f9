"""One pass over a video: what motion alone links, and the features of it, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tools.fit.learning import Observed
from trackvae.archives import read_archive
from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError, UsageError
from trackvae.files import atomic_path, write_errors

if TYPE_CHECKING:
    from reid.descriptors import Descriptor
    from tracker import Tracker
    from tracker.detections import Detections
    from tracker.pipeline import DetectedSource

# Numbers of all features: 6,000 crops of 10,468, in half precision 128 MB. Whitening them takes
# eight times that.
MOST_NUMBERS = 64_000_000
_ARRAYS = ("frames", "boxes", "ids", "features")


def check_source(source: DetectedSource) -> None:
    """Refuse what :func:`observe` cannot go through.

    Raises:
        InputError: no images.
        UsageError: a camera, which has no end.
    """
    shown = source.source.path or source.source.name
    if source.source.live:
        raise UsageError(f"{shown}: it has no end, and fit needs a whole video; record it first")
    if not source.source.has_images:
        raise InputError(f"{shown}: it has no images or video to cut crops from")


def linked(
    tracker: Tracker, detections: Detections, timestamp: float | None = None
) -> tuple[FloatArray, IntArray]:
    """A frame's detections that motion joins to a track, as the detector saw them.

    Args:
        tracker: by motion alone; follows the frame.
        detections: of it.
        timestamp: of the frame, where frames are not equally far apart.

    Returns:
        (N, 4) boxes and (N,) tracks.
    """
    rows, ids = tracker.update(detections, None, timestamp).matched
    return detections.boxes[rows], ids


def observe(
    source: DetectedSource,
    descriptor: Descriptor,
    *,
    most: int = MOST_NUMBERS,
    on_frame: Callable[[int, int], None] | None = None,
) -> Observed:
    """Crops of a video, linked by ``sort`` and described, in one pass over its frames.

    Args:
        source: frames and detections.
        descriptor: of the crops; sees the very frame that the boxes lie in.
        most: numbers of all features. Where there would be more, whole frames at even distances
            are left out: every second one, then every fourth.
        on_frame: called after each frame with its number and the crops so far.

    Returns:
        Features as float16: these are histograms, which differ by 1e-1.

    Raises:
        InputError: as :func:`check_source`; no detections, nothing that motion can link, or the
            video breaks off.
    """
    from tracker import Tracker
    from tracker.boxes import reaches_into

    check_source(source)
    shown = source.source.path or source.source.name
    tracker = Tracker("sort", frame_rate=source.source.info.frame_rate or 30.0)
    timed = source.source.kind in ("video", "stream")
    crops = _Crops(most // descriptor.dim)
    detected = 0
    with closing(source.frames()) as moments:
        for frame, detections in moments:
            boxes, ids = linked(tracker, detections, frame.timestamp if timed else None)
            detected += len(detections)
            if frame.image is not None and crops.takes(frame.index):
                height, width = frame.image.shape[:2]
                some = reaches_into(boxes, width, height)
                if some.any():
                    features = descriptor(frame.image, boxes[some]).astype(np.float16)
                    crops.add(_Frame(frame.index, boxes[some], ids[some], features))
            if on_frame is not None:
                on_frame(frame.index, crops.count)
    if not detected:
        raise InputError(f"{shown}: no detections in it, so there are no crops to learn from")
    if not crops.count:
        raise InputError(f"{shown}: {detected} detections, and nothing that motion alone can link")
    return crops.observed(source.source.name)


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """The crops of one frame."""

    index: int
    boxes: FloatArray
    ids: IntArray
    features: npt.NDArray[np.float16]


@dataclass(slots=True)
class _Crops:
    """Crops of frames at even distances; twice as far apart each time there are too many."""

    most: int
    stride: int = 1
    count: int = 0
    _frames: list[_Frame] = field(default_factory=list)

    def takes(self, index: int) -> bool:
        """Whether the frame of that number is one of them."""
        return index % self.stride == 0

    def add(self, frame: _Frame) -> None:
        self._frames.append(frame)
        self.count += len(frame.ids)
        while self.count > self.most and len(self._frames) > 1:
            self.stride *= 2
            self._frames = [kept for kept in self._frames if self.takes(kept.index)]
            self.count = sum(len(kept.ids) for kept in self._frames)

    def observed(self, name: str) -> Observed:
        frames = self._frames
        return Observed(
            name,
            np.repeat([frame.index for frame in frames], [len(frame.ids) for frame in frames]),
            np.concatenate([frame.boxes for frame in frames]),
            np.concatenate([frame.ids for frame in frames]),
            np.concatenate([frame.features for frame in frames]),
        )


def write_observed(path: Path, observed: Observed) -> None:
    """Write it as ``.npz``, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    arrays = {name: getattr(observed, name) for name in _ARRAYS}
    with atomic_path(path) as temporary, write_errors(path), temporary.open("wb") as file:
        np.savez(file, name=np.array(observed.name), **arrays)


def read_observed(path: Path, dim: int) -> Observed:
    """Read what :func:`write_observed` wrote.

    Args:
        path: the file.
        dim: numbers of a crop's features.

    Raises:
        InputError: it is missing, damaged, or of other features.
    """
    from tools.fit.learning import check_features

    arrays = read_archive(path)
    if not {"name", *_ARRAYS} <= set(arrays):
        raise InputError(f"{path}: no crops that trackvae fit has observed")
    found = Observed(str(arrays["name"]), *(arrays[name] for name in _ARRAYS))
    check_features([found], dim)
    return found

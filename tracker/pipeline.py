"""From a source to tracks: frames, their detections, the tracker and the sinks in one loop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracker.appearance import Embedder, described
from tracker.calibration import Calibrator
from tracker.detections import Detections, Frame
from tracker.detectors import Detector, open_detector
from tracker.engine import Tracker
from tracker.io.sinks import Sink
from tracker.io.sources import Source, open_frames
from tracker.presets import TrackerConfig
from trackvae.arrays import Image
from trackvae.errors import InputError, UsageError


@dataclass(frozen=True, eq=False)
class DetectedSource:
    """A source together with what finds the objects in its frames.

    Iterating gives ``(image, detections)``; :meth:`frames` gives the frame with number and time.
    """

    source: Source
    detector: Detector

    def __iter__(self) -> Iterator[tuple[Image | None, Detections]]:
        """Image ``(H, W, 3)`` BGR, or None, and detections, frame after frame."""
        for frame, detections in self.frames():
            yield frame.image, detections

    def frames(
        self, *, need_images: bool = True
    ) -> Generator[tuple[Frame, Detections], None, None]:
        """The frames and their detections.

        Args:
            need_images: False lets a recorded sequence be gone through without decoding it, where
                the detector does without pixels too.
        """
        self.detector.reset()
        length = self.source.info.length
        in_order = self.source.kind == "sequence" and length is not None
        frames: Iterator[Frame] = iter(())
        if in_order and not need_images and not self.detector.needs_image:
            rate = self.source.info.frame_rate
            frames = (Frame(n, (n - 1) / rate) for n in range(1, (length or 0) + 1))
        else:
            frames = iter(self.source)
        for frame in frames:
            yield frame, self.detector(frame)


def open_source(
    source: str | Path | int,
    detector: str | Detector | None = None,
    *,
    frame_rate: float | None = None,
    **settings: Any,
) -> DetectedSource:
    """Open anything that has frames, with a detector.

    Args:
        source: a video, a folder of images, a MOT sequence, a camera's index, an address.
        detector: ``motion``, ``onnx:PATH``, ``torchvision:NAME``, ``file:PATH``, or an object that
            keeps to :class:`tracker.detectors.Detector`. None: the sequence's own ``det/det.txt``.
        frame_rate: frames a second of images that no ``seqinfo.ini`` describes.
        **settings: of the detector.

    Raises:
        InputError: the source or the detector cannot be opened, or it needs images that the
            source does not have.
        UsageError: no such detector, or none was named and the source has no detections.
    """
    opened = open_frames(source, frame_rate=frame_rate)
    if detector is None:
        if opened.detections_path is None:
            raise UsageError(
                f"{source}: it has no det/det.txt, so say what finds the objects: a file of "
                "detections, or a detector (motion, onnx:PATH, torchvision:NAME)"
            )
        detector = f"file:{opened.detections_path}"
    found = open_detector(detector, **settings) if isinstance(detector, str) else detector
    if found.needs_image and not opened.has_images:
        raise InputError(f"{source}: it has no images, and the detector {detector} needs them")
    return DetectedSource(opened, found)


class _Rehearsed:
    """A detector that goes through the first frames twice, but looks at them once.

    Attributes:
        needs_image: as the detector's.
        names: as the detector's.
    """

    def __init__(self, detector: Detector, embedder: Embedder | None) -> None:
        self._detector, self._embedder = detector, embedder
        self._said: dict[int, Detections] = {}
        self._rehearsing = True
        self.needs_image, self.names = detector.needs_image, detector.names

    def __call__(self, frame: Frame) -> Detections:
        """The frame's objects; those of a rehearsed frame are described already."""
        if not self._rehearsing:
            if frame.index in self._said:
                return self._said.pop(frame.index)
            return self._detector(frame)
        seen = self._detector(frame)
        if self._embedder is not None and seen.embeddings is None and len(seen):
            if frame.image is None:
                raise InputError(f"frame {frame.index} has no image to describe its boxes by")
            seen = replace(seen, embeddings=described(self._embedder, frame.image, seen.boxes))
        self._said[frame.index] = seen
        return seen

    def reset(self) -> None:
        """Back to the first frame: after the rehearsal by memory, later from scratch."""
        if self._rehearsing and self._said:
            self._rehearsing = False
            return
        self._said.clear()
        self._detector.reset()


def rehearse(
    source: DetectedSource,
    config: TrackerConfig,
    embedder: Embedder | None,
    *,
    frames: int,
    on_frame: Callable[[int], None] | None = None,
) -> tuple[DetectedSource, Calibrator]:
    """Go through a source's first frames to calibrate a tracker before it starts.

    What was detected and described is remembered, so that it costs no more than reading these
    frames twice.

    Args:
        source: recorded; a live one cannot be gone through twice.
        config: of the tracker.
        embedder: for detections without embeddings; None where there are no images.
        frames: at most so many; an error ends them earlier, since tracking will meet it again.
        on_frame: called after each frame with its number.

    Returns:
        The source to track, and what was collected; its ``fit`` says where that is too little.
    """
    detector = _Rehearsed(source.detector, embedder)
    rehearsed = replace(source, detector=detector)
    calibrator = Calibrator(config.metric, config.gallery_size)
    with suppress(InputError), closing(rehearsed.frames(need_images=embedder is not None)) as shown:
        for frame, seen in shown:
            calibrator.add(seen, seen.embeddings)
            if on_frame is not None:
                on_frame(frame.index)
            if calibrator.frames >= frames:
                break
    return rehearsed, calibrator


@dataclass
class Progress:
    """How far :func:`follow` is.

    Attributes:
        frames: done.
        detections: seen in them.
        boxes: of tracks, reported in them.
        tracks: identities so far.
    """

    frames: int = 0
    detections: int = 0
    boxes: int = 0
    tracks: int = 0


def follow(
    source: DetectedSource,
    tracker: Tracker,
    sinks: Sequence[Sink] = (),
    *,
    need_images: bool = True,
    on_frame: Callable[[Progress], None] | None = None,
) -> Progress:
    """Track a source from its first frame to its last.

    Args:
        source: frames and detections.
        tracker: is reset first.
        sinks: get every frame; closed at the end, whatever happens.
        need_images: whether the sinks or the tracker look at images.
        on_frame: called after each frame.

    Returns:
        What was done; what was written stays valid where an error or Ctrl-C ends it early.
    """
    tracker.reset()
    done = Progress()
    timed = source.source.live or source.source.kind in ("video", "stream", "webcam")
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        moments = stack.enter_context(closing(source.frames(need_images=need_images)))
        for frame, detections in moments:
            timestamp = frame.timestamp if timed else None
            tracks = tracker.update(detections, frame.image, timestamp)
            for sink in sinks:
                sink.write(frame, tracks)
            done.frames = frame.index
            done.detections += len(detections)
            done.boxes += len(tracks)
            done.tracks = max(done.tracks, int(tracks.ids.max(initial=0)))
            if on_frame is not None:
                on_frame(done)
    return done

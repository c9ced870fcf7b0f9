"""A preset from frames on disk to a file of tracks: frames a second, and where the time goes.

    python -m tools.benchmark.end_to_end --sequence DIR

One thread, nothing read ahead: what each stage takes is what it takes alone. (The command reads
ahead in a second thread, which hides the decoding where there is a second core.) A run is the
command's: the first 300 frames are gone through beforehand to calibrate, so they are decoded twice.
A peer goes through the same frames in the same run: DeepSORT with deep-sort-realtime's descriptor,
MobileNetV2 at 224 x 224 (random weights, whose speed is that of trained ones), over fewer frames.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import tyro

from tools.benchmark.report import CLOCK, Clock, paired_ratio, spread, use_one_thread
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from tracker.appearance import Embedder
    from tracker.detections import Detections, Frame
    from tracker.detectors import Detector
    from tracker.io.sources import Source
    from tracker.pipeline import DetectedSource

MODULE = "tools.benchmark.end_to_end"
CALIBRATED = 300  # frames, as trackvae track has it
STAGES: Mapping[str, str] = {
    "decode": "pictures to pixels, the first 300 twice",
    "embed": "boxes to embeddings",
    "calibrate": "probabilities of distances and scores, before the start",
    "camera motion": "estimated and taken out",
    "predict": "Kalman filters",
    "associate": "costs, galleries, assignment",
    "re-identify": "lost tracks by their looks",
    "update": "filters, galleries, births and deaths",
    "write": "MOT text",
    "the rest": "detections looked up, the loop itself",
}
_REST = "the rest"
_PEER_FRAMES = 40
_LEAST = 0.005  # milliseconds a frame; less is a stage that the preset has not
T = TypeVar("T")


@dataclass
class Stopwatch:
    """Processor time of stages; what a stage calls that is timed itself does not count twice.

    Attributes:
        whole: stages to which all belongs that is done in them: the calibration has a tracker of
            its own, whose filters are its work.
        seconds: of each stage.
    """

    whole: frozenset[str] = frozenset()
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _inside: list[float] = field(default_factory=lambda: [0.0])
    _running: list[str] = field(default_factory=list)

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Time what is done in this context."""
        if self._running and self._running[-1] in self.whole:
            yield
            return
        self._running.append(stage)
        start = time.process_time()
        self._inside.append(0.0)
        try:
            yield
        finally:
            passed = time.process_time() - start
            self.seconds[stage] += passed - self._inside.pop()
            self._inside[-1] += passed
            self._running.pop()

    def timed(self, stage: str, function: Callable[..., T]) -> Callable[..., T]:
        """The function, timed."""

        def call(*arguments: Any, **named: Any) -> T:
            with self.running(stage):
                return function(*arguments, **named)

        return call


@contextmanager
def _timed_stages(watch: Stopwatch) -> Iterator[None]:
    """A context in which every tracker's stages are timed."""
    from tracker.calibration import Calibrator
    from tracker.engine import Tracker
    from tracker.io.sinks import MotTextSink
    from tracker.matching import Matcher
    from tracker.reidentification import Reidentifier

    stages: list[tuple[str, type, tuple[str, ...]]] = [
        ("calibrate", Calibrator, ("add", "fit")),
        ("camera motion", Tracker, ("_camera_affine",)),
        ("predict", Tracker, ("_predict",)),
        ("associate", Matcher, ("match",)),
        ("re-identify", Reidentifier, ("find",)),
        ("update", Tracker, ("_clear", "_correct", "_end_lost", "_begin", "_report")),
        ("write", MotTextSink, ("write",)),
    ]
    usual = [(kind, name, getattr(kind, name)) for _, kind, names in stages for name in names]
    try:
        for stage, kind, names in stages:
            for name in names:
                setattr(kind, name, watch.timed(stage, getattr(kind, name)))
        yield
    finally:
        for kind, name, function in usual:
            setattr(kind, name, function)


class _InTurn:
    """A sequence's frames, decoded one after the other by whoever asks, and timed."""

    def __init__(self, source: Source, watch: Stopwatch, most: int | None) -> None:
        from tracker.io.images import list_images

        self.kind, self.live, self.name = source.kind, source.live, source.name
        length = min(source.info.length or sys.maxsize, most or sys.maxsize)
        self.info = replace(source.info, length=length)
        self._paths = list_images(_pictures(source))[:length]
        self._watch = watch

    def __iter__(self) -> Iterator[Frame]:
        from tracker.io.images import image_frames

        frames = image_frames(self._paths, self.info.frame_rate or 30.0)
        for _ in self._paths:
            with self._watch.running("decode"):
                frame = next(frames)
            yield frame


def _pictures(source: Source) -> Path:
    """The folder of a sequence's images.

    Raises:
        InputError: it has none.
    """
    folder = (source.path or Path()) / "img1"
    if not source.has_images or not folder.is_dir():
        raise InputError(f"{source.path}: no folder img1 of images, which are to be decoded here")
    return folder


@dataclass(frozen=True)
class Way:
    """One way through the sequence.

    Attributes:
        name: in the table.
        preset: of the tracker.
        embedder: what describes the boxes; None: nothing, or the detections themselves.
        given: embeddings come with the detections.
        frames: gone through at most.
        settings: of the tracker.
    """

    name: str
    preset: str
    embedder: Embedder | None = None
    given: bool = False
    frames: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """What a run took.

    Attributes:
        frames: gone through.
        boxes: of tracks, reported.
        seconds: of every stage.
    """

    frames: int
    boxes: int
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

    def rate(self, without: Sequence[str] = ()) -> float:
        """Frames a second, as if some stages took no time."""
        return self.frames / (self.total - sum(self.seconds.get(stage, 0.0) for stage in without))


def run_once(way: Way, source: Source, detector: Detector, out: Path) -> Timing:
    """Track a sequence as the command does, and time its stages."""
    from tracker import Tracker
    from tracker.io.sinks import MotTextSink
    from tracker.pipeline import DetectedSource, follow, rehearse
    from tracker.presets import preset

    watch = Stopwatch(frozenset({"calibrate"}))
    config = preset(way.preset).with_settings(way.settings)
    embedder = watch.timed("embed", way.embedder) if way.embedder is not None else None
    frames: Any = _InTurn(source, watch, way.frames)
    pixels = embedder is not None or config.needs_pixels
    detected = DetectedSource(frames, detector)
    with _timed_stages(watch), watch.running(_REST):
        calibration = None
        if config.needs_calibration:
            count = min(CALIBRATED, frames.info.length)
            detected, collected = rehearse(detected, config, embedder, frames=count)
            calibration = _fitted(collected)
        rate = source.info.frame_rate or 30.0
        tracker = Tracker(config, embedder=embedder, calibration=calibration, frame_rate=rate)
        done = follow(detected, tracker, [MotTextSink(out)], need_images=pixels)
    return Timing(done.frames, done.boxes, dict(watch.seconds))


def _fitted(collected: Any) -> Any:
    """The calibration, None where there is too little to see: the tracker makes its own later."""
    try:
        return collected.fit()
    except InputError:
        return None


class _Described:
    """A sequence's detections with their embeddings, made beforehand.

    Attributes:
        needs_image: never.
        names: of the classes.
    """

    needs_image = False

    def __init__(self, detected: DetectedSource, embedder: Embedder) -> None:
        from tracker.appearance import described

        self.names = detected.detector.names
        self._seen: dict[int, Detections] = {}
        for frame, seen in detected.frames():
            if frame.image is not None and len(seen):
                looks = described(embedder, frame.image, seen.boxes)
                seen = replace(seen, embeddings=looks)
            self._seen[frame.index] = seen

    def __call__(self, frame: Frame) -> Detections:
        return self._seen[frame.index]

    def reset(self) -> None:
        """Nothing: each frame is looked up on its own."""


def ways(encoder: str) -> list[Way]:
    """What is measured, ours first, the peer last."""
    from reid.embedder import Embedder as Learned
    from tools.benchmark.embedder import peer
    from trackvae.appearance import encoder_file

    learned = Learned(encoder_file(encoder))
    network = peer("MobileNetV2", 224, "float32")
    flow = {"camera_motion": "flow"}
    return [
        Way(f"trackvae, encoder {encoder}", "trackvae", learned),
        Way("trackvae, its embeddings given", "trackvae", given=True),
        Way("trackvae, camera motion by flow", "trackvae", learned, settings=flow),
        Way("sort, no looks", "sort"),
        Way("deepsort, MobileNetV2", "deepsort", network.look, frames=_PEER_FRAMES),
    ]


def measure(
    every: Sequence[Way], sequence: Path, repeats: int, most: int | None
) -> dict[str, list[Timing]]:
    """Each way in each repeat, every second repeat in reverse order."""
    from tracker.pipeline import open_source

    opened = open_source(sequence)
    _pictures(opened.source)
    learned = next(way.embedder for way in every if way.embedder is not None)
    described = _Described(opened, learned)
    found: dict[str, list[Timing]] = {way.name: [] for way in every}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for way in every if repeat % 2 == 0 else every[::-1]:
                limits = [n for n in (way.frames, most) if n is not None]
                shorter = replace(way, frames=min(limits, default=None))
                detector = described if way.given else opened.detector
                timing = run_once(shorter, opened.source, detector, Path(folder) / "tracks.txt")
                found[way.name].append(timing)
                print(f"{way.name:<34} {timing.rate():>7.1f} frames/s", flush=True)
    return found


def rows_of(found: Mapping[str, Sequence[Timing]]) -> list[dict[str, Any]]:
    """Frames a second of every way, with decoding and without, beside the peer's."""
    *_, peer = found
    rows = []
    for name, timings in found.items():
        for metric, without in (("frames/s", ()), ("frames/s, decoded already", ("decode",))):
            mine = [timing.rate(without) for timing in timings]
            theirs = [timing.rate(without) for timing in found[peer]]
            rows.append(
                {
                    "method": name,
                    "metric": metric,
                    "frames": timings[0].frames,
                    "ours": spread(mine, 4),
                    "peer": {"name": peer, **spread(theirs, 4)},
                    "ratio": paired_ratio(mine, theirs),
                }
            )
    return rows


def budget_of(found: Mapping[str, Sequence[Timing]]) -> list[dict[str, Any]]:
    """Milliseconds a frame of every stage of every way, and its share."""
    lines: list[dict[str, Any]] = []
    for name, timings in found.items():
        total = float(np.median([1e3 * timing.total / timing.frames for timing in timings]))
        for stage, about in STAGES.items():
            each = [1e3 * t.seconds.get(stage, 0.0) / t.frames for t in timings]
            if max(each) >= _LEAST:
                ms = float(np.median(each))
                share = round(100 * ms / total, 1)
                lines.append(
                    {"method": name, "stage": stage, "about": about}
                    | {"ms": round(ms, 3), "share": share, "values": [round(v, 3) for v in each]}
                )
        lines.append({"method": name, "stage": "all", "about": "", "ms": round(total, 3)})
    return lines


@dataclass(frozen=True)
class EndToEndBenchmark:
    """Measure frames a second of a preset from pictures to tracks, stage by stage."""

    sequence: Path
    """A MOT sequence with images and det/det.txt."""
    encoder: str = "default"
    """What describes the boxes: default, or an encoder of trackvae fit."""
    out: Path = Path("results/benchmark-end-to-end.json")
    """Where the figures go."""
    repeats: int = 3
    """Runs of each way; the median counts."""
    frames: int | None = None
    """Only so many frames: does it run?"""

    def run(self) -> int:
        """Measure, print, save."""
        if self.repeats < 1 or (self.frames is not None and self.frames < 1):
            raise UsageError(f"repeats is {self.repeats}, frames {self.frames}; expected 1 or more")
        use_one_thread(MODULE)
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        clock = Clock()
        found = measure(ways(self.encoder), self.sequence, self.repeats, self.frames)
        budget = budget_of(found)
        for line in budget:
            print(f"{line['method']:<34} {line['stage']:<14} {line['ms']:>8.3f} ms a frame")
        first = next(iter(found.values()))[0]
        report = {
            "name": "benchmark-end-to-end",
            "title": f"The trackvae preset on {self.sequence.resolve().name}, detections given",
            "quick": self.frames is not None,
            "rows": rows_of(found),
            "budget": budget,
            "config": {
                "threads": 1,
                "clock": CLOCK,
                "sequence": self.sequence.resolve().name,
                "detections": "det.txt",
                "encoder": self.encoder,
                "calibration_frames": CALIBRATED,
                "boxes_a_frame": round(first.boxes / first.frames, 2),
                "peer_frames": _PEER_FRAMES,
                "repeats": self.repeats,
                "ratio": "frames/s over the peer's",
            },
            "seeds": [],
        }
        packages = ("trackvae", "numpy", "opencv-python", "torch", "torchvision")
        clock.save(report, packages, self.out)
        print(f"written to {self.out}")
        return 0


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(EndToEndBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

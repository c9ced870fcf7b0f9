"""``trackvae track``: follow the objects of one or many sources, write tracks, score, draw."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from trackvae.errors import InputError, UsageError
from trackvae.files import write_text

if TYPE_CHECKING:
    from tracker import Tracker
    from tracker.detectors import Detector
    from tracker.io.sinks import Sink
    from tracker.pipeline import DetectedSource

_RUN_FILE = "run.json"  # what has been done in an output folder, for --resume
_COUNTED = ("frames", "detections", "tracks", "boxes", "seconds")
_SLOWEST, _FASTEST = 1e-3, 1e4  # frames a second that anybody could mean


@dataclass(frozen=True)
class Track:
    """Follow objects: writes DIR/<name>.txt in MOT format for every source.

    Where a source has ground truth (gt/gt.txt) its score is shown at the end. The files are valid
    after every frame, so Ctrl-C loses nothing; --resume goes on with the sources not yet done.
    """

    sources: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE...")]
    """Videos, folders of images, MOT sequences, folders of many of them, a camera's index (0), an
    rtsp:// or http:// address."""
    out: Path
    """Folder of the results."""
    tracker: str = "sort"
    """Preset: sort, deepsort, bytetrack, ocsort, botsort."""
    detector: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """What finds the objects: motion (static camera, no weights), onnx:PATH, torchvision:NAME,
    file:PATH. Left out: the sequence's det/det.txt."""
    detections: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Detections from a file (MOT text, or .npz with frame, tlwh, score, feature), or from a folder
    that holds <name>.txt or <name>.npz for every source."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    """Settings of the tracker: max_age=60 iou.max_cost=0.5 ..."""
    detector_set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    """Settings of the detector: min_score=0.5 classes=person ..."""
    embedder: Literal["colour", "none"] = "colour"
    """Appearance for presets that compare it, where the detections bring none: colour histograms
    in horizontal stripes."""
    video: bool = False
    """Also write DIR/<name>.mp4, the frames with boxes, ids and trails."""
    jsonl: bool = False
    """Also write DIR/<name>.jsonl, one JSON object a frame."""
    interpolate: int = 0
    """Afterwards fill a track's gaps of up to so many frames, in <name>.txt; the video and the
    JSON Lines show the tracks as they were followed."""
    smooth: bool = False
    """Afterwards smooth each track in <name>.txt by a Rauch-Tung-Striebel smoother."""
    frame_rate: Annotated[float | None, tyro.conf.arg(metavar="FPS")] = None
    """Frames a second of images that no seqinfo.ini describes; 30 if left out."""
    resume: bool = False
    """Leave out the sources that DIR already holds, complete and with these settings."""
    no_score: bool = False
    """Do not score the sources that have ground truth."""

    def run(self) -> int:
        """Track everything; the exit code."""
        from tracker.io.sources import list_sources

        if not self.sources:
            raise UsageError("no source given; see trackvae track --help")
        if self.detector is not None and self.detections is not None:
            raise UsageError("give --detector or --detections, not both")
        if self.interpolate < 0:
            raise UsageError(f"--interpolate is {self.interpolate}, expected 0 or more frames")
        if self.frame_rate is not None and not _SLOWEST <= self.frame_rate <= _FASTEST:
            raise UsageError(
                f"--frame-rate is {self.frame_rate}, expected {_SLOWEST:g} to {_FASTEST:g} a second"
            )
        runner = _Runner(self)
        return runner.run([found for source in self.sources for found in list_sources(source)])


@dataclass
class _Runner:
    """One call of the command."""

    command: Track
    _done: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, sources: Sequence[str | Path | int]) -> int:
        """Track the sources one after the other; 130 after Ctrl-C."""
        opened = self._open_all(sources)  # what is wrong with any is told before the first starts
        before = _read_run(self.command.out)
        try:
            for name, source in opened.items():
                if self.command.resume and self._is_done(name, source, before):
                    print(f"{name}: already done, left out")
                    self._done[name] = before[name]
                    continue
                self._track(name, source)
                before[name] = self._done[name]
                write_text(self.command.out / _RUN_FILE, json.dumps(before, indent=1) + "\n")
        except KeyboardInterrupt:
            where = self.command.out / f"{name}.txt"
            print(f"\ninterrupted; {where} is valid up to where it ends", file=sys.stderr)
            return 130
        finally:
            if self._done:
                self._summarise(opened)
        return 0

    # --- opening

    def _open_all(self, sources: Sequence[str | Path | int]) -> dict[str, DetectedSource]:
        """Every source by its name."""
        from tracker.detectors import open_detector

        self._tracker_config()  # a wrong preset or setting comes first
        settings = _assignments(self.command.detector_set, "--detector-set")
        shared = None
        if self.command.detector is not None:
            shared = open_detector(self.command.detector, **settings)
        opened: dict[str, DetectedSource] = {}
        for source in sources:
            found = self._open(source, shared, settings, many=len(sources) > 1)
            name = found.source.name
            if name in opened:
                raise UsageError(
                    f"two sources are called {name}: {opened[name].source.path} and {source}; "
                    "their results would overwrite each other"
                )
            opened[name] = found
        return opened

    def _open(
        self,
        source: str | Path | int,
        detector: Detector | None,
        settings: dict[str, str],
        *,
        many: bool,
    ) -> DetectedSource:
        from tracker.io.sources import open_frames
        from tracker.pipeline import open_source

        found: Detector | str | None = detector
        if self.command.detections is not None:
            name = open_frames(source).name if self.command.detections.is_dir() else ""
            found = f"file:{_detections_file(self.command.detections, name, many)}"
        own = {} if detector is not None else settings
        opened = open_source(source, found, frame_rate=self.command.frame_rate, **own)
        if not opened.source.has_images:
            config = self._tracker_config()
            if config.needs_pixels:
                raise UsageError(
                    f"{source}: it has no images, and {config.name} compensates the camera's "
                    "motion; without: --set camera_motion=none"
                )
            if self.command.video:
                raise UsageError(f"{source}: it has no images that --video could draw into")
        return opened

    def _tracker_config(self) -> Any:
        from tracker.presets import preset

        settings = _assignments(self.command.set, "--set")
        return preset(self.command.tracker).with_settings(settings)

    def _tracker(self, opened: DetectedSource) -> Tracker:
        from reid.descriptors import ColourStripes
        from tracker import Tracker

        embedder = None
        if self.command.embedder == "colour" and opened.source.has_images:
            embedder = ColourStripes()
        rate = opened.source.info.frame_rate or 30.0
        return Tracker(self._tracker_config(), embedder=embedder, frame_rate=rate)

    # --- tracking

    def _track(self, name: str, opened: DetectedSource) -> None:
        from tools.progress import progress
        from tracker.pipeline import follow

        tracker = self._tracker(opened)
        config = tracker.config
        pixels = self.command.video or config.needs_pixels
        if config.uses_appearance and not _brings_embeddings(opened):
            pixels = True
        start = time.perf_counter()
        with progress(name, opened.source.info.length) as advance:
            done = follow(
                opened,
                tracker,
                self._sinks(name, opened),
                need_images=pixels,
                on_frame=lambda state: advance(state.frames),
            )
        seconds = time.perf_counter() - start
        boxes = self._refine(name) or done.boxes
        self._done[name] = {
            "settings": self._fingerprint(opened),
            "frames": done.frames,
            "detections": done.detections,
            "tracks": done.tracks,
            "boxes": boxes,
            "seconds": round(seconds, 3),
        }
        if done.detections and not done.boxes and config.high_score is not None:
            print(
                f"warning: {name}: {done.detections} detections and no track; {config.name} "
                f"starts none below a score of {config.new_score or config.high_score:g}: lower "
                "high_score and new_score by --set, if the scores are no probabilities",
                file=sys.stderr,
            )

    def _sinks(self, name: str, opened: DetectedSource) -> list[Sink]:
        from tracker.io.sinks import JsonLinesSink, MotTextSink

        out = self.command.out
        sinks: list[Sink] = [MotTextSink(out / f"{name}.txt")]
        if self.command.jsonl:
            sinks.append(JsonLinesSink(out / f"{name}.jsonl"))
        if self.command.video:
            from tracker.io.video_sink import VideoSink

            sinks.append(VideoSink(out / f"{name}.mp4", opened.source.info.frame_rate or 30.0))
        return sinks

    def _refine(self, name: str) -> int:
        """Refine the text file; how many boxes it holds then, 0 where nothing was asked for."""
        if not self.command.interpolate and not self.command.smooth:
            return 0
        from tracker.io.mot import read_boxes, write_boxes
        from tracker.refine import interpolate_gaps, smooth

        path = self.command.out / f"{name}.txt"
        table = read_boxes(path, unique_ids=True)
        if self.command.interpolate:
            table = interpolate_gaps(table, max_gap=self.command.interpolate)
        if self.command.smooth:
            table = smooth(table)
        write_boxes(path, table)
        return len(table)

    # --- what was done

    def _fingerprint(self, opened: DetectedSource) -> dict[str, Any]:
        """Everything that decides what the result is."""
        command = asdict(self.command)
        settings = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in command.items()
            if name not in ("sources", "out", "resume", "no_score")
        }
        table = getattr(opened.detector, "path", None)
        settings["files"] = [_stamp(path) for path in (opened.source.path, table) if path]
        return cast(dict[str, Any], json.loads(json.dumps(settings)))

    def _is_done(
        self, name: str, opened: DetectedSource, before: dict[str, dict[str, Any]]
    ) -> bool:
        wanted = [".txt"] + [".mp4"] * self.command.video + [".jsonl"] * self.command.jsonl
        here = all((self.command.out / f"{name}{ending}").is_file() for ending in wanted)
        return here and before.get(name, {}).get("settings") == self._fingerprint(opened)

    def _summarise(self, opened: dict[str, DetectedSource]) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        console = Console(highlight=False)
        columns = _COUNTED[:-1]
        table = Table("sequence", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for column in (*columns, "frames/s"):
            table.add_column(column, justify="right")
        for name, row in self._done.items():
            rate = f"{row['frames'] / max(row['seconds'], 1e-9):.0f}"
            table.add_row(name, *(str(row[column]) for column in columns), rate)
        console.print(table)
        truths = {name: opened[name].source.ground_truth_path for name in self._done}
        scored = {name: path for name, path in truths.items() if path is not None}
        if scored and not self.command.no_score:
            from tools.evaluate import show
            from tracker.evaluation import evaluate

            show(evaluate(scored, {n: self.command.out / f"{n}.txt" for n in scored}))
        console.print(f"tracks: {self.command.out}", soft_wrap=True)


def _assignments(texts: Sequence[str], flag: str) -> dict[str, str]:
    """``name=value`` texts as a dictionary."""
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{flag} {text!r} is not of the form name=value")
        settings[name.replace("-", "_")] = value
    return settings


def _detections_file(given: Path, name: str, many: bool) -> Path:
    """The file of detections that belongs to a source."""
    if given.is_dir():
        for ending in (".npz", ".txt"):
            if (given / f"{name}{ending}").is_file():
                return given / f"{name}{ending}"
        raise InputError(f"{given}: neither {name}.txt nor {name}.npz in it")
    if many:
        raise UsageError(f"--detections {given} is one file for several sources; give a folder")
    return given


def _brings_embeddings(opened: DetectedSource) -> bool:
    """Whether the detector is a file of detections with features."""
    table = getattr(opened.detector, "table", None)
    return table is not None and table.embeddings is not None


def _stamp(path: Path) -> list[Any]:
    """What tells a file (or a folder) from another, or from itself changed."""
    found = path.stat()
    return [str(path.resolve()), found.st_size, found.st_mtime_ns]


def _read_run(out: Path) -> dict[str, dict[str, Any]]:
    """What an earlier run left, by name; whatever cannot be read was not done."""
    try:
        content = json.loads((out / _RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        name: entry
        for name, entry in content.items()
        if isinstance(entry, dict) and all(key in entry for key in ("settings", *_COUNTED))
    }

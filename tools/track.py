"""``trackvae track``: follow the objects of one or many sources, write tracks, score, draw."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import tyro

from tools.finishing import check_relinking, refine, rejoin
from tools.flags import assignments, check_frame_rate
from trackvae.appearance import encoder_file
from trackvae.errors import InputError, UsageError
from trackvae.files import write_text

if TYPE_CHECKING:
    from tracker.appearance import Embedder
    from tracker.calibration import Calibration
    from tracker.detectors import Detector
    from tracker.io.sinks import Sink
    from tracker.pipeline import DetectedSource
    from tracker.relinking import Witness

_RUN_FILE = "run.json"  # what has been done in an output folder, for --resume
_COUNTED = ("frames", "detections", "tracks", "boxes", "seconds")
_DEFAULT_ENCODER = "colour"


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
    """Preset: sort, deepsort, bytetrack, ocsort, botsort, fmvae-sort, trackvae."""
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
    encoder: Annotated[str, tyro.conf.arg(metavar="E", aliases=["--embedder"])] = _DEFAULT_ENCODER
    """Appearance for presets that compare it, where the detections bring none: colour (small
    histograms in horizontal stripes), none, default, weights of trackvae fit or train, or a
    descriptor that trackvae embed knows."""
    calibrate: Annotated[int, tyro.conf.arg(metavar="FRAMES")] = 300
    """Of fmvae-sort and trackvae: how many frames are looked through beforehand, to find from
    which distance on two looks are two objects. 0, and a camera: while tracking."""
    video: bool = False
    """Also write DIR/<name>.mp4, the frames with boxes, ids and trails."""
    jsonl: bool = False
    """Also write DIR/<name>.jsonl, one JSON object a frame."""
    relink: bool = False
    """Afterwards join the tracks that looks and motion say are one object; every file shows the
    joined ones. For trackers by motion such as sort: trackvae has used the looks already, and may
    lose by it. Needs an encoder, or detections with features."""
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
        if self.calibrate < 0:
            raise UsageError(f"--calibrate is {self.calibrate}, expected 0 or more frames")
        check_frame_rate(self.frame_rate)
        runner = _Runner(self)
        return runner.run([found for source in self.sources for found in list_sources(source)])


@dataclass
class _Runner:
    """One call of the command."""

    command: Track
    _done: dict[str, dict[str, Any]] = field(default_factory=dict)
    _described_by: Embedder | None = None

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
                if before.pop(name, None) is not None:  # what it was is overwritten from here on
                    self._write_run(before)
                    for ending in (".mp4", ".jsonl"):
                        (self.command.out / f"{name}{ending}").unlink(missing_ok=True)
                self._track(name, source)
                before[name] = self._done[name]
                self._write_run(before)
        except KeyboardInterrupt:
            where = self.command.out / f"{name}.txt"
            plain = ", not re-linked" if self.command.relink else ""
            print(f"\ninterrupted; {where} is valid up to where it ends{plain}", file=sys.stderr)
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
        settings = assignments(self.command.detector_set, "--detector-set")
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
        if self.command.relink:
            check_relinking(
                opened.source,
                self.command.encoder,
                described=_brings_embeddings(opened),
                video=self.command.video,
            )
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

        settings = assignments(self.command.set, "--set")
        return preset(self.command.tracker).with_settings(settings)

    def _embedder(self, opened: DetectedSource) -> Embedder | None:
        """What describes the boxes; None where nothing asks for it, or there are no images."""
        asked = self._tracker_config().uses_appearance or self.command.relink
        asked = asked and self.command.encoder != "none"
        unused = not asked or not opened.source.has_images or _brings_embeddings(opened)
        if unused and self.command.encoder in ("none", _DEFAULT_ENCODER):
            return None
        if self._described_by is None:  # one that is not used is opened too: it may not exist
            self._described_by = _open_embedder(self.command.encoder)
            if unused:
                print(f"--encoder {self.command.encoder}: nothing asks for it here")
        return None if unused else self._described_by

    def _calibrated(
        self, name: str, opened: DetectedSource, embedder: Embedder | None
    ) -> tuple[DetectedSource, Calibration | None]:
        """The source to track, and what its first frames say about looks; told in one line."""
        from tools.progress import progress
        from tracker.pipeline import rehearse

        config = self._tracker_config()
        frames = min(self.command.calibrate, opened.source.info.length or sys.maxsize)
        looks = embedder is not None or _brings_embeddings(opened)
        if not config.needs_calibration or (config.needs_appearance and not looks):
            return opened, None
        if opened.source.live or not frames:
            print(f"{name}: calibrates itself after {config.calibration_frames} frames")
            return opened, None
        with progress(f"{name}: calibration", frames) as advance:
            opened, collected = rehearse(opened, config, embedder, frames=frames, on_frame=advance)
        try:
            calibration = collected.fit()
        except InputError as error:
            print(f"{name}: by motion alone at first: {error}")
            return opened, None
        scores = ""
        if config.high_linked is not None:
            least = calibration.least_score(config.high_linked)
            scores = f"; {_said_of_scores(least, *collected.scores)}"
        print(f"{name}: {calibration}{scores}")
        return opened, calibration

    # --- tracking

    def _track(self, name: str, opened: DetectedSource) -> None:
        from tools.progress import progress
        from tracker import Tracker
        from tracker.pipeline import follow
        from tracker.relinking import Witness

        embedder = self._embedder(opened)
        config = self._tracker_config()
        pixels = self.command.video or config.needs_pixels or embedder is not None
        rate = opened.source.info.frame_rate or 30.0
        start = time.perf_counter()
        source, calibration = self._calibrated(name, opened, embedder)
        tracker = Tracker(config, embedder=embedder, calibration=calibration, frame_rate=rate)
        sinks = self._sinks(name, opened)
        witness, later = None, sinks[1:]
        if self.command.relink:
            witness = Witness(source.detector, embedder, keep_tracks=bool(later))
            source, sinks = replace(source, detector=witness), [sinks[0], witness]
        with progress(name, opened.source.info.length) as advance:
            done = follow(
                source,
                tracker,
                sinks,
                need_images=pixels,
                on_frame=lambda state: advance(state.frames),
            )
        if witness is not None:
            done.tracks = self._rejoin(name, opened, witness, later)
        seconds = time.perf_counter() - start
        boxes = done.boxes
        if self.command.interpolate or self.command.smooth:
            boxes = refine(
                self.command.out / f"{name}.txt",
                interpolate=self.command.interpolate,
                smooth=self.command.smooth,
            )
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

    def _rejoin(
        self, name: str, opened: DetectedSource, witness: Witness, later: Sequence[Sink]
    ) -> int:
        """Join tracks that are one object, in every file; how many there are then."""
        images = opened.source if self.command.video else None
        per_class = self._tracker_config().per_class
        path = self.command.out / f"{name}.txt"
        before, after = rejoin(path, witness, later, images, per_class=per_class)
        print(f"{name}: {before} tracks, {after} after re-linking")
        return after

    # --- what was done

    def _write_run(self, done: dict[str, dict[str, Any]]) -> None:
        write_text(self.command.out / _RUN_FILE, json.dumps(done, indent=1) + "\n")

    def _fingerprint(self, opened: DetectedSource) -> dict[str, Any]:
        """Everything that decides what the result is."""
        command = asdict(self.command)
        settings = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in command.items()
            if name not in ("sources", "out", "resume", "no_score")
        }
        table = getattr(opened.detector, "path", None)
        given = (opened.source.path, table, self._encoder_path(), *self._detector_path())
        settings["files"] = [_stamp(path) for path in given if path]
        return cast(dict[str, Any], json.loads(json.dumps(settings)))

    def _encoder_path(self) -> Path | None:
        """The file of the encoder, where it is one."""
        path = Path(self.command.encoder)
        return encoder_file(path) if path.exists() else None

    def _detector_path(self) -> tuple[Path, ...]:
        """The file of the detector's network, where it is one."""
        path = Path((self.command.detector or "").partition(":")[2])
        return (path,) if path.is_file() else ()

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


def _open_embedder(name: str) -> Embedder:
    """The encoder of that name."""
    if name == _DEFAULT_ENCODER:
        from reid.descriptors import ColourStripes

        return ColourStripes()
    from tools.embed import open_descriptor

    return open_descriptor(name)[1]


def _said_of_scores(least: float, lowest: float, highest: float) -> str:
    """From which score on a detection is high, where some are and some are not."""
    if least <= lowest:  # the fitted curve goes on below what was seen, to numbers of no meaning
        return "all scores are high"
    return f"scores are high from {least:.3g}" if least <= highest else "no score is high"


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

"""``trackvae fit``: an encoder from a video's own detections; what was begun is gone on with."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import tyro

from tools.flags import assignments, check_frame_rate, check_seed, open_flag
from trackvae.errors import UsageError

if TYPE_CHECKING:
    from tools.fit.learning import LearnOptions
    from tracker.pipeline import DetectedSource


@dataclass(frozen=True)
class Fit:
    """Learn to recognise the objects of a video, without labels: writes DIR/encoder.safetensors.

    Motion links the video's detections into tracklets; the encoder learns from what varies within
    them and what does not. A run that was stopped goes on where it was when the same command is
    given again, and ends as the uninterrupted one would have.
    """

    videos: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO...")]
    """Videos, folders of images, MOT sequences, folders of many of them: one encoder for all."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the run."""
    detector: Annotated[str | None, open_flag("NAME")] = None
    """What finds the objects: motion (static camera, no weights), onnx:PATH, torchvision:NAME,
    file:PATH. Left out: the sequence's det/det.txt."""
    detector_set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    """Settings of the detector: min_score=0.5 classes=person ..."""
    frame_rate: Annotated[float | None, open_flag("FPS")] = None
    """Frames a second of images that no seqinfo.ini describes; 30 if left out."""
    steps: int = 1000
    """Of training."""
    seed: int = 0
    """Of weights, order and noise."""

    def run(self) -> int:
        """Observe, join, learn, save; the exit code."""
        from tools.train.machine import check_torch

        options = self._check()
        check_torch("fit")
        opened = self._open_all()
        from tools.fit.folder import FitFolder
        from tools.fit.run import Run, how_to_use

        folder = FitFolder(self.out)
        if folder.begin(self._settings(options), [_about(one) for one in opened]):
            print(f"{self.out}: this run is finished; {how_to_use(folder)}")
            return 0
        return Run(folder, opened, options).run()

    def _check(self) -> LearnOptions:
        """What can be told before anything is opened."""
        from tools.fit.learning import LearnOptions

        if not self.videos:
            raise UsageError("no video given; see trackvae fit --help")
        check_seed(self.seed)
        check_frame_rate(self.frame_rate)
        if self.steps < 1:
            raise UsageError(f"--steps is {self.steps}, expected 1 or more")
        return LearnOptions(steps=self.steps, seed=self.seed)

    def _open_all(self) -> list[DetectedSource]:
        """Every video with what finds its objects; what is wrong with any is told first."""
        from tools.fit.observe import check_source
        from tracker.detectors import open_detector
        from tracker.io.sources import list_sources
        from tracker.pipeline import open_source

        settings = assignments(self.detector_set, "--detector-set")
        sources = [found for video in self.videos for found in list_sources(video)]
        if self.detector is not None and self.detector.startswith("file:") and len(sources) > 1:
            raise UsageError(
                f"--detector {self.detector} is one file for several videos; fit to MOT sequences, "
                "each with a det/det.txt, or to one video"
            )
        shared = None if self.detector is None else open_detector(self.detector, **settings)
        own = settings if shared is None else {}
        opened = []
        for source in sources:
            opened.append(open_source(source, shared, frame_rate=self.frame_rate, **own))
            check_source(opened[-1])
        return opened

    def _settings(self, options: LearnOptions) -> dict[str, Any]:
        """Everything but the videos that decides what is learned."""
        given = {name: getattr(self, name) for name in ("detector", "detector_set", "frame_rate")}
        return cast(dict[str, Any], json.loads(json.dumps(given | asdict(options))))


def _about(opened: DetectedSource) -> dict[str, Any]:
    """What tells a video and its detections from others, or from themselves changed."""
    source, info = opened.source, opened.source.info
    frames = f"{info.length} frames of {info.width} x {info.height}"
    table: Path | None = getattr(opened.detector, "path", None)
    return {
        "name": source.name,
        "file": None if source.path is None else str(source.path.resolve()),
        "content": _stamp(source.path) or frames,
        "detector file": None if table is None else str(table.resolve()),
        "detector content": _stamp(table),
    }


def _stamp(path: Path | None) -> str | None:
    """Size and time of a file. A folder has none: it may hold results too."""
    if path is None or not path.is_file():
        return None
    found = path.stat()
    changed = datetime.datetime.fromtimestamp(found.st_mtime).isoformat(sep=" ")
    return f"{found.st_size} bytes of {changed}"

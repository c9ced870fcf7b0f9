"""``trackvae demo``: a made street scene, followed by three presets, scored, drawn."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trackvae.errors import InputError
from trackvae.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

    from tracker.appearance import Embedder
    from tracker.evaluation import Scores

_PRESETS = ("sort", "deepsort", "trackvae")  # by motion alone, with colours, with our metric
_SHOWN = ("HOTA", "MOTA", "IDF1", "IDs", "FM", "MT", "ML")
_SHEET_AT = (0.3, 0.6, 0.9)  # of the sequence


@dataclass(frozen=True)
class Demo:
    """Make a street scene, follow its figures with three presets, score them, draw them.

    Writes into the folder: the scene as a MOT16 sequence, the trackers' results and annotated
    videos, a contact sheet of the same moments under each, and the scores.
    """

    out: Path = Path("trackvae-demo")
    """Folder for everything that the demo makes."""
    frames: int = 250
    """Length of the scene."""
    seed: int = 4
    """Another seed is another scene."""

    def run(self) -> int:
        """Run the demo; the exit code."""
        from rich.console import Console

        console = Console(highlight=False)
        sequence = self._make_scene(console)
        scores, speeds = {}, {}
        for preset in _PRESETS:
            scores[preset], speeds[preset] = self._follow(preset, sequence)
        self._draw_sheet(sequence.name)
        saved = {name: row.to_dict() for name, row in scores.items()}
        write_text(self.out / "scores.json", json.dumps(saved, indent=2) + "\n")
        _show_scores(console, scores, speeds)
        self._say_what_next(console, sequence.name)
        return 0

    def _make_scene(self, console: Console) -> Path:
        from tools.progress import progress
        from tracker.synthetic import Scene, SceneConfig

        sequence = self.out / "street"
        scene = Scene(SceneConfig(frames=self.frames, seed=self.seed))
        with progress("making the scene", self.frames) as advance:
            scene.write(sequence, overwrite=True, progress=lambda done, _: advance(done))
        people = len(set(scene.ground_truth.ids.tolist()))
        console.print(
            f"{sequence}: {self.frames} frames, {people} people who cross, hide and come back; "
            f"{len(scene.detections)} imperfect detections",
            soft_wrap=True,
        )
        return sequence

    def _follow(self, preset: str, sequence: Path) -> tuple[Scores, float]:
        """Scores, and frames a second with reading, calibrating, drawing and encoding."""
        from tools.progress import progress
        from tracker import Tracker, evaluate
        from tracker.io.sinks import MotTextSink, Sink
        from tracker.io.video_sink import VideoSink
        from tracker.pipeline import follow, open_source, rehearse
        from tracker.presets import preset as config_of

        source = open_source(sequence)
        rate = source.source.info.frame_rate
        result = self.out / preset / f"{sequence.name}.txt"
        sinks: list[Sink] = [MotTextSink(result), VideoSink(result.with_suffix(".mp4"), rate)]
        config, embedder, calibration = config_of(preset), _embedder(preset), None
        start = time.perf_counter()
        if config.needs_calibration:
            with progress(f"{preset}: calibration", self.frames) as advance:
                source, collected = rehearse(
                    source, config, embedder, frames=self.frames, on_frame=advance
                )
            with suppress(InputError):  # a scene of few frames: by motion alone at first
                calibration = collected.fit()
        tracker = Tracker(config, embedder=embedder, calibration=calibration, frame_rate=rate)
        with progress(preset, self.frames) as advance:
            follow(source, tracker, sinks, on_frame=lambda state: advance(state.frames))
        speed = self.frames / (time.perf_counter() - start)
        return evaluate(sequence, result).combined, speed

    def _draw_sheet(self, name: str) -> None:
        """The same moments under every preset, one row a preset."""
        from tracker.io.annotate import contact_sheet
        from tracker.io.sources import open_frames

        numbers = [1 + int(share * (self.frames - 1)) for share in _SHEET_AT]
        pictures, captions = [], []
        for preset in _PRESETS:
            for frame in open_frames(self.out / preset / f"{name}.mp4"):
                if frame.index in numbers and frame.image is not None:
                    pictures.append(frame.image)
                    captions.append(f"{preset}, frame {frame.index}")
        sheet = self.out / "contact-sheet.png"
        contact_sheet(pictures, sheet, captions=captions, columns=len(_SHEET_AT))

    def _say_what_next(self, console: Console, name: str) -> None:
        best = self.out / _PRESETS[-1] / f"{name}.mp4"
        console.print(
            f"video: {best}\npicture: {self.out / 'contact-sheet.png'}\n\n"
            "Next, a video of your own (motion finds what moves before a static camera):\n"
            "  trackvae track VIDEO.mp4 --detector motion --tracker trackvae --encoder default "
            "--out runs --video",
            soft_wrap=True,
        )


def _embedder(preset: str) -> Embedder:
    """Colours that need no learning, but our own preset has the shipped encoder."""
    import reid
    import trackvae

    if preset == "trackvae":
        return reid.Embedder(trackvae.load("default"))
    return reid.ColourStripes()


def _show_scores(console: Console, scores: dict[str, Scores], speeds: dict[str, float]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("tracker", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in (*_SHOWN, "frames/s"):
        table.add_column(column, justify="right")
    for name, row in scores.items():
        values = row.to_dict()
        shown = (values[column] for column in _SHOWN)
        cells = (str(v) if isinstance(v, int) else f"{v:.1f}" for v in shown)
        table.add_row(name, *cells, f"{speeds[name]:.0f}")
    console.print(table)

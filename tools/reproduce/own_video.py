"""``own-video``: a video that nothing is known of, before and after ``trackvae fit``.

The very commands of the README, each a process of its own with its seconds: ``fit`` on the video
with what moves in it as detections, then ``track`` by motion alone, by colours, by the shipped
encoder and by the fitted one. The video is a made scene, and PETS09-S2L1 where it is held. Nothing
reads the ground truth but the scores and the lines that show who was followed as whom.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.reproduce.experiment import Context, Outcome, row
from trackvae.errors import InputError

TITLE = "A video of your own: tracks before and after trackvae fit"
SEEDS = 1  # of the encoder's weights

_FRAMES, _QUICK_FRAMES = 400, 60  # of the made scene
_SCENE_SEED = 4
_STEPS, _QUICK_STEPS = 1000, 20
_SHOWN = ("IDF1", "HOTA", "AssA", "MOTA", "IDs")
_SHEET_AT = (0.3, 0.6, 0.9)  # of the scene


@dataclass(frozen=True)
class _Method:
    """How a video is tracked.

    Attributes:
        label: in the table.
        flags: of ``trackvae track``.
        fitted: with the encoder of ``trackvae fit``.
    """

    label: str
    flags: tuple[str, ...]
    fitted: bool = False

    @property
    def slug(self) -> str:
        """Its label, for folders."""
        return self.label.lower().replace(",", "").replace(" ", "-")


_BEFORE = _Method("SORT", ("--tracker", "sort"))
_AFTER = _Method("trackvae, fitted", ("--tracker", "trackvae"), fitted=True)
METHODS = (
    _BEFORE,
    _Method("DeepSORT, colours", ("--tracker", "deepsort")),
    _Method("trackvae, default encoder", ("--tracker", "trackvae", "--encoder", "default")),
    _AFTER,
)


@dataclass(frozen=True)
class _Video:
    """A video with the truth about it.

    Attributes:
        name: in the table.
        source: what the commands are given.
        truth: ``gt.txt``.
    """

    name: str
    source: Path
    truth: Path


def run(context: Context) -> Outcome:
    """Fit, track and score on every video; draw before beside after."""
    rows: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    for video in _videos(context):
        fits = [_fit(context, video, seed) for seed in context.seeds]
        for method in METHODS:
            chosen = fits if method.fitted else fits[:1]
            found = [_track(context, video, method, fit) for fit in chosen]
            rows += _rows(video, method, found, chosen)
            table.append(_line(video, method, found, chosen))
        _draw(context, video, fits[0])
    config = {
        "detector": "motion",
        "steps": _steps(context),
        "seconds": "of whole processes, as a user waits for them; fit is done once a video",
    }
    return Outcome(rows, config, {"table": table})


def _videos(context: Context) -> list[_Video]:
    """The made scene, and the real one where it is held."""
    made = context.work / "made"
    if not (made / "gt" / "gt.txt").is_file():
        from tracker.synthetic import Scene, SceneConfig

        frames = _QUICK_FRAMES if context.quick else _FRAMES
        Scene(SceneConfig(frames=frames, seed=_SCENE_SEED)).write(made, overwrite=True)
    found = [_Video("made", made, made / "gt" / "gt.txt")]
    root = context.source("mot")
    held = None if root is None else root / "PETS09-S2L1"
    if held is not None and held.is_dir() and not context.quick:
        (film,) = held.glob("*.avi")
        found.append(_Video("PETS09-S2L1", film, held / "gt" / "gt.txt"))
    return found


def _steps(context: Context) -> int:
    return _QUICK_STEPS if context.quick else _STEPS


def _fit(context: Context, video: _Video, seed: int) -> dict[str, Any]:
    """``trackvae fit``: the seconds, and the folder with the encoder."""
    steps = _steps(context)

    def compute(folder: Path) -> dict[str, Any]:
        out = folder / "look"
        flags = ("--detector", "motion", "--steps", str(steps), "--seed", str(seed))
        return {"folder": folder.name, "seconds": _command("fit", video.source, out, flags)}

    return context.part(f"{video.name}-fit-{seed}", {"steps": steps, "seed": seed}, compute)


def _track(
    context: Context, video: _Video, method: _Method, fit: Mapping[str, Any]
) -> dict[str, Any]:
    """``trackvae track``: the seconds, the scores, and the folder with tracks and video."""
    look = context.work / fit["folder"] / "look"
    encoder = ("--encoder", str(look)) if method.fitted else ()
    drawn = ("--video",) if video.name == "made" else ()

    def compute(folder: Path) -> dict[str, Any]:
        from tracker.evaluation import evaluate

        flags = (*method.flags, *encoder, *drawn, "--detector", "motion", "--no-score")
        seconds = _command("track", video.source, folder, flags)
        tracks = folder / f"{video.source.stem}.txt"
        scores = evaluate({video.name: video.truth}, {video.name: tracks}).combined.to_dict()
        return {"folder": folder.name, "seconds": seconds, "scores": scores}

    about = {"flags": list(method.flags), "fit": fit["folder"] if method.fitted else None}
    name = f"{video.name}-{method.slug}"
    return context.part(f"{name}-{fit['folder']}" if method.fitted else name, about, compute)


def _command(name: str, source: Path, out: Path, flags: Sequence[str]) -> float:
    """Run a command of ours; seconds of the whole process.

    Raises:
        InputError: it failed.
    """
    call = [sys.executable, "-m", "tools.cli", name, str(source), "--out", str(out), *flags]
    start = time.perf_counter()
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(call[2:])} failed: {done.stderr.strip()}")
    return round(time.perf_counter() - start, 1)


def _rows(
    video: _Video,
    method: _Method,
    found: Sequence[Mapping[str, Any]],
    fits: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    values = {name: [one["scores"][name] for one in found] for name in _SHOWN}
    values["track (s)"] = [one["seconds"] for one in found]
    if method.fitted:
        values["fit (s)"] = [one["seconds"] for one in fits]
    return [row(method.label, f"{name} {video.name}", some) for name, some in values.items()]


def _line(
    video: _Video,
    method: _Method,
    found: Sequence[Mapping[str, Any]],
    fits: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A line of the README's table, of the first seed."""
    line: dict[str, Any] = {"video": video.name, "method": method.label}
    line |= {name: found[0]["scores"][name] for name in _SHOWN}
    fit = fits[0]["seconds"] if method.fitted else None
    return line | {"fit (s)": fit, "track (s)": found[0]["seconds"]}


def _draw(context: Context, video: _Video, fit: Mapping[str, Any]) -> None:
    """Who was followed as whom before and after; of the made scene also the same moments."""
    from tools.reproduce import identity_figures as figures

    ends = {"before": _BEFORE, "after": _AFTER}
    folders = {
        f"{word}: {method.label}": context.work / _track(context, video, method, fit)["folder"]
        for word, method in ends.items()
    }
    tracks = {title: folder / f"{video.source.stem}.txt" for title, folder in folders.items()}
    figures.timelines(context.figures / f"identities-{video.name}.png", video.truth, tracks)
    if video.name == "made":
        films = {title: folder / f"{video.source.stem}.mp4" for title, folder in folders.items()}
        _draw_moments(context, films)


def _draw_moments(context: Context, films: Mapping[str, Path]) -> None:
    """The same moments before and after, one above the other."""
    from tracker.io.annotate import contact_sheet
    from tracker.io.sources import open_frames

    frames = _QUICK_FRAMES if context.quick else _FRAMES
    numbers = [1 + int(share * (frames - 1)) for share in _SHEET_AT]
    pictures, captions = [], []
    for title, film in films.items():
        for frame in open_frames(film):
            if frame.index in numbers and frame.image is not None:
                pictures.append(frame.image)
                captions.append(f"{title}, frame {frame.index}")
    sheet = context.figures / "before-and-after.jpg"
    contact_sheet(pictures, sheet, captions=captions, columns=len(_SHEET_AT))

"""Presets on real sequences, through the command itself: scores and frames a second.

    python -m tools.benchmark.tracking --data DIR --models DIR --out results/tracking.json

Every row is a ``trackvae track`` run and its official scores. DIR holds the sequences MOT16-09,
PETS09-S2L1, TUD-Campus and TUD-Stadtmitte of MOTChallenge, the models a YOLOX-nano (ONNX). No
setting was tuned on these sequences; what differs from a preset's defaults stands in the row.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from tools.results import save_results
from tools.track import Track
from trackvae.errors import InputError

_COLUMNS = ("HOTA", "MOTA", "IDF1", "IDs", "FM", "FP", "FN")
# Scores of the public detections are no probabilities, so a tracker that thresholds them takes all.
_ALL_SCORES = ("high_score=-inf", "new_score=-inf")
_EVERY = ("sort", "deepsort", "bytetrack", "ocsort", "botsort")


@dataclass(frozen=True)
class _Case:
    """One row: what is tracked, what finds the objects, which preset."""

    sequence: str
    detector: str
    preset: str
    arguments: tuple[tuple[str, Any], ...] = ()


def _cases(models: Path) -> Iterator[_Case]:
    yolox = f"onnx:{models / 'yolox_nano.onnx'}"
    for preset in _EVERY:
        settings = _ALL_SCORES if preset in ("bytetrack", "ocsort", "botsort") else ()
        for sequence in ("MOT16-09", "TUD-Campus + TUD-Stadtmitte"):
            yield _Case(sequence, "det.txt", preset, (("set", settings),))
    for preset in _EVERY:
        weak_too = ("min_score=0.1",) if preset in ("bytetrack", "botsort") else ()
        network = (("detector", yolox), ("detector_set", ("classes=person", *weak_too)))
        yield _Case("PETS09-S2L1", "YOLOX-nano (ONNX)", preset, network)
    for preset in ("sort", "deepsort"):
        yield _Case("PETS09-S2L1", "motion", preset, (("detector", "motion"),))


@dataclass(frozen=True)
class Benchmark:
    """Track real sequences with every preset, and save the scores."""

    data: Path
    """Folder of the sequences."""
    models: Path
    """Folder of yolox_nano.onnx."""
    out: Path = Path("results/tracking.json")
    """File of the results."""
    only: str = ""
    """Only the cases that contain this text in sequence, detector or preset; nothing is saved."""

    def run(self) -> int:
        """Track, score, save; the exit code."""
        start = time.perf_counter()
        rows = []
        for case in _cases(self.models):
            if self.only not in f"{case.sequence} {case.detector} {case.preset}":
                continue
            row = self._measure(case)
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if not self.only:
            save_results(
                self.out,
                name="tracking",
                title="Presets on real sequences, by the official scores",
                rows=rows,
                config={"score thresholds on det.txt": list(_ALL_SCORES), "embedder": "colour"},
                packages=("trackvae", "numpy", "opencv-python", "onnxruntime", "av", "trackeval"),
                wall_seconds=time.perf_counter() - start,
            )
        return 0

    def _measure(self, case: _Case) -> dict[str, Any]:
        from tracker.evaluation import evaluate

        names = case.sequence.split(" + ")
        sources = tuple(str(self.data / name) for name in names)
        with tempfile.TemporaryDirectory() as folder:
            command = Track(sources=sources, out=Path(folder), tracker=case.preset, no_score=True)
            with contextlib.redirect_stdout(io.StringIO()):
                code = replace(command, **dict(case.arguments)).run()
            if code:
                raise InputError(f"{case.sequence}: tracking ended with exit code {code}")
            done = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
            truths = {name: self.data / name / "gt" / "gt.txt" for name in names}
            files = {name: Path(folder) / f"{name}.txt" for name in names}
            scores = evaluate(truths, files).combined.to_dict()
        seconds = sum(entry["seconds"] for entry in done.values())
        frames = sum(entry["frames"] for entry in done.values())
        return {
            "sequence": case.sequence,
            "detections": case.detector,
            "tracker": case.preset,
            **{c: round(v, 2) if isinstance((v := scores[c]), float) else v for c in _COLUMNS},
            "frames/s": round(frames / seconds, 1),
        }


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(Benchmark).run())
    except InputError as error:
        sys.exit(f"tracking: {error}")

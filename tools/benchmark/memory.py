"""Memory of trackers: the peak of a run, and what stays resident after many frames."""

from __future__ import annotations

import gc
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.benchmark.contenders import Contender
from tools.benchmark.report import Clock, measured_apart
from tracker import Tracker
from tracker.detections import Detections
from tracker.synthetic import box_stream

PRESETS = ("deepsort", "botsort", "ocsort", "bytetrack", "sort")  # the slowest first
_OBJECTS, _DIM, _SEED = 4, 128, 0
_FRAMES = (10_000, 100_000)
_EVERY = 1_000  # frames between two looks
_TOLERANCE = 0.05
_APPEARANCE = ("deepsort", "botsort")
_MB = 1e6


def peak(contender: Contender, frames: list[Detections]) -> dict[str, float]:
    """Megabytes: what is resident at the end, and the peak of the tracker's own allocations.

    Not ``ru_maxrss``: on Linux a child's starts from its parent's.
    """
    import psutil

    native = [contender.prepare(detections) for detections in frames]
    step = contender.start()
    for frame in native:
        step(frame)
    process = psutil.Process().memory_info().rss / _MB
    del step
    gc.collect()
    tracemalloc.start()
    step = contender.start()
    for frame in native:
        step(frame)
    tracker = tracemalloc.get_traced_memory()[1] / _MB
    return {"tracker_mb": round(tracker, 2), "process_mb": round(process, 1)}


def run(out: Path, *, quick: bool) -> int:
    """Resident memory of every preset after 10,000 and after 100,000 frames, within 5%?"""
    clock = Clock()
    first, last = (1_000, 3_000) if quick else _FRAMES
    with ThreadPoolExecutor(2) as pool:  # memory, not time: two processes at once
        rows = list(
            pool.map(
                lambda preset: measured_apart(__name__, "measure", preset, str(first), str(last)),
                PRESETS,
            )
        )
    report = {
        "name": "benchmark-memory",
        "title": f"Resident memory after {first:,} and after {last:,} synthetic frames",
        "quick": quick,
        "rows": rows,
        "config": {
            "objects": _OBJECTS,
            "embedding_dim": {p: _DIM if p in _APPEARANCE else 0 for p in PRESETS},
            "mean_lifetime_frames": 300,
            "resident": "of the whole process (psutil), generator of the scene included",
        },
        "seeds": [_SEED],
    }
    clock.save(report, ("trackvae", "numpy", "scipy", "psutil"), out)
    for row in rows:
        print(
            f"{row['method']:>10}: {row['ours']['early_mb']:7.1f} MB, then "
            f"{row['ours']['late_mb']:7.1f} MB, {100 * (row['ratio'] - 1):+.2f}% "
            f"({row['identities']:,} identities reported)"
        )
    print(f"written to {out}")
    return 0 if all(row["within_tolerance"] for row in rows) else 1


def measure(preset: str, first: str, last: str) -> None:
    """In a fresh process: follow a stream, print what stays resident, as JSON."""
    import psutil

    process = psutil.Process()
    settings: dict[str, Any] = {"camera_motion": "none"} if preset == "botsort" else {}
    tracker = Tracker(preset, **settings)
    dim = _DIM if preset in _APPEARANCE else 0
    resident, identities = {}, 0
    stream = box_stream(_OBJECTS, int(last), _SEED, embedding_dim=dim)
    for number, frame in enumerate(stream, start=1):
        tracks = tracker.update(frame.detections)
        identities = max(identities, int(tracks.ids.max(initial=0)))
        if number % _EVERY == 0:
            gc.collect()
            resident[number] = process.memory_info().rss / _MB
    early, late = resident[int(first)], resident[int(last)]
    row = {
        "method": preset,
        "metric": "resident MB",
        "ours": {
            "early_mb": round(early, 2),
            "late_mb": round(late, 2),
            "highest_mb": round(max(resident.values()), 2),
        },
        "peer": None,
        "ratio": round(late / early, 4),
        "target": f"within {_TOLERANCE:.0%}",
        "within_tolerance": abs(late / early - 1) <= _TOLERANCE,
        "identities": identities,
        "note": "",
    }
    print(json.dumps(row))

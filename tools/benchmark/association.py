"""Our trackers beside the peers: the same detections, one thread, in turns, in one run.

    python -m tools.benchmark.association               frames/s, memory and scores on MOT17-09
    python -m tools.benchmark.association --grow        10 to 1000 objects a frame
    python -m tools.benchmark.association --neighbour   beside a process that keeps all cores busy
    python -m tools.benchmark.association --memory      after 10,000 and after 100,000 frames

A ratio is the median over the repeats of ours to the peer's in the same repeat.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from tools.benchmark import growth, memory, neighbour
from tools.benchmark.contenders import (
    Contender,
    all_contenders,
    ours,
    results_of,
    roboflow_sort,
)
from tools.benchmark.report import (
    Clock,
    measured_apart,
    paired_ratio,
    spread,
    use_one_thread,
)
from tools.benchmark.sequences import SCORES, SEQUENCES, ground_truth, load, scores_of
from tools.benchmark.timing import in_turns, native_inputs
from trackvae.errors import InputError

MODULE = "tools.benchmark.association"
PACKAGES = ("trackvae", "trackers", "deep-sort-realtime", "filterpy", "numpy", "scipy")
TARGETS = {
    (SEQUENCES[0], "sort", "Roboflow SORT"): 1.5,
    (SEQUENCES[0], "deepsort", "deep-sort-realtime"): 3.0,
    (SEQUENCES[0], "deepsort", "original DeepSORT"): 3.0,
}
_LIFE_LONGER = "sort, max age 30"


@dataclass(frozen=True)
class AssociationBenchmark:
    """Measure the association of our presets and of the peers on the same detections."""

    data: Path = Path(os.environ.get("TRACKVAE_DATA", "../shared"))
    """Folder that holds data/mot17/deepsort_features and data/mot17/gt."""
    out: Path | None = None
    """Where the figures go; results/benchmark-MODE.json if left out."""
    original_deepsort: Path | None = None
    """A checkout of nwojke/deep_sort, to have it in the table; it is GPL and stays outside."""
    repeats: int = 5
    """Runs of each tracker; the median counts."""
    quick: bool = False
    """One repeat and short inputs: does it run?"""
    grow: bool = False
    """How the cost grows with the objects in a frame, on synthetic scenes."""
    neighbour: bool = False
    """Frames a second beside a busy process, with the system's own number of BLAS threads."""
    memory: bool = False
    """Resident memory after many synthetic frames."""

    def run(self) -> int:
        """Measure, print, save."""
        if self.grow + self.neighbour + self.memory > 1:
            raise InputError("give one of --grow, --neighbour and --memory, or none")
        repeats = 1 if self.quick else self.repeats
        if self.neighbour:
            out, frames = self._out("neighbour"), 60 if self.quick else 150
            return neighbour.run(out, self.data, frames, self.original_deepsort, min(repeats, 3))
        if self.memory:
            return memory.run(self._out("memory"), quick=self.quick)
        use_one_thread(MODULE)
        if self.grow:
            return growth.run(self._out("growth"), repeats, quick=self.quick)
        return self._associate(repeats)

    def _out(self, mode: str) -> Path:
        return self.out or Path(f"results/benchmark-{mode}.json")

    def _associate(self, repeats: int) -> int:
        clock = Clock()
        contenders = all_contenders(self.original_deepsort)
        longer = [ours("sort", _LIFE_LONGER, max_age=30), roboflow_sort(30, _LIFE_LONGER)]
        rows: list[dict[str, Any]] = []
        trackers: list[dict[str, Any]] = []
        for sequence in SEQUENCES[:1] if self.quick else SEQUENCES:
            frames = load(self.data, sequence, 60 if self.quick else None)
            truth = ground_truth(self.data, len(frames))
            for group in (contenders, longer):
                weighed = group is contenders and sequence == SEQUENCES[0]  # once is enough
                rates = in_turns(group, native_inputs(group, frames), repeats, label=sequence)
                scores = {c.name: scores_of(truth, results_of(c, frames)) for c in group}
                trackers += [
                    _tracker_row(c, sequence, rates, scores)
                    | ({"memory": self._memory(c, sequence)} if weighed else {})
                    for c in group
                ]
                rows += pairs(group, sequence, rates, scores)
        report = {
            "name": "benchmark-association",
            "title": "Our presets beside the peers on the same detections and features",
            "quick": self.quick,
            "rows": rows,
            "deepsort_against_the_faster_peer": _against_the_faster(rows),
            "trackers": trackers,
            "config": {
                "threads": 1,
                "repeats": repeats,
                "frames_per_second": "of association alone; detections in memory in native form",
                "memory": "tracker_mb: peak of what Python and numpy allocate while it runs "
                "(tracemalloc); process_mb: resident memory of its own process at the end, "
                "imports and detections included",
                "original_deepsort": "measured" if self.original_deepsort else "not given",
            },
            "seeds": [],
        }
        out = self._out("association")
        clock.save(report, PACKAGES, out)
        _print(rows, trackers)
        print(f"written to {out}")
        return 0

    def _memory(self, contender: Contender, sequence: str) -> dict[str, float]:
        """Peak memory of one contender, in a process of its own."""
        original = "" if self.original_deepsort is None else str(self.original_deepsort)
        return measured_apart(
            MODULE, "measure_memory", str(self.data), sequence, contender.name, original
        )


def measure_memory(data: str, sequence: str, name: str, original: str) -> None:
    """In a fresh process: run one contender, print its peak memory as JSON."""
    everybody = all_contenders(Path(original) if original else None)
    (contender,) = (c for c in everybody if c.name == name)
    print(json.dumps(memory.peak(contender, load(Path(data), sequence))))


def _tracker_row(
    contender: Contender,
    sequence: str,
    rates: Mapping[str, list[float]],
    scores: Mapping[str, dict[str, float]],
) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "family": contender.family,
        "tracker": contender.name,
        "frames_per_second": spread(rates[contender.name], 5),
        "scores": scores[contender.name],
    }


def pairs(
    contenders: list[Contender],
    sequence: str,
    rates: Mapping[str, list[float]],
    scores: Mapping[str, dict[str, float]],
) -> list[dict[str, Any]]:
    """A row for each of ours and each of its peers: the rates, their ratio, and equal scores."""
    rows = []
    for mine in (c for c in contenders if c.is_ours):
        for peer in contenders:
            if peer.is_ours or peer.family != mine.family:
                continue
            rows.append(
                {
                    "method": mine.family,
                    "metric": f"frames/s, {sequence}",
                    "ours": spread(rates[mine.name], 5),
                    "peer": {"name": peer.name} | spread(rates[peer.name], 5),
                    "ratio": paired_ratio(rates[mine.name], rates[peer.name]),
                    "target": TARGETS.get((sequence, mine.family, peer.name)),
                    "equal_scores": scores[mine.name] == scores[peer.name],
                    "note": peer.note,
                }
            )
    return rows


def _against_the_faster(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Our deepsort against the faster of its peers, by sequence."""
    ratios: dict[str, float] = {}
    for row in rows:
        if row["method"] == "deepsort":
            sequence = row["metric"].removeprefix("frames/s, ")
            ratios[sequence] = min(row["ratio"], ratios.get(sequence, row["ratio"]))
    return ratios


def _print(rows: list[dict[str, Any]], trackers: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = (
        "sequence",
        "method",
        "tracker",
        "frames/s",
        "min",
        "max",
        *SCORES,
        "tracker MB",
        "process MB",
    )
    table = Table(*names, title="one thread, association alone")
    for row in trackers:
        rate, held = row["frames_per_second"], row.get("memory", {})
        cells = [f"{rate[key]:,.0f}" for key in ("median", "min", "max")]
        cells += [f"{row['scores'][name]:.{0 if name == 'IDs' else 1}f}" for name in SCORES]
        cells += [f"{held[key]:.1f}" if held else "" for key in ("tracker_mb", "process_mb")]
        table.add_row(row["sequence"], row["family"], row["tracker"], *cells)
    ratios = Table("method", "metric", "peer", "ratio", "target", "scores", title="ours / peer")
    for row in rows:
        target = "" if row["target"] is None else f"≥ {row['target']}"
        equal = "equal" if row["equal_scores"] else "differ"
        ratios.add_row(
            row["method"], row["metric"], row["peer"]["name"], f"{row['ratio']:.2f}", target, equal
        )
    console = Console(width=max(Console().width, 150))
    console.print(table, ratios)


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(AssociationBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

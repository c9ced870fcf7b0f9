"""Our evaluation beside TrackEval's own: the same files, the same numbers, the seconds of both.

    python -m tools.benchmark.evaluation GT RESULTS --out results/benchmark-evaluation.json

Every repeat starts a fresh process for each side, in turns and on one thread, and measures the
whole process, with Python's start, and the evaluation in it, from the import of the package to the
scores. TrackEval runs its ``Evaluator`` on a tree of links to the files, with its printing,
plotting and writing of tables switched off.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from tools.benchmark.report import Clock, measured_apart
from tools.benchmark.trackeval_peer import TrackEvalTree, lay_out
from tracker.evaluation.inputs import find_pairs
from trackvae.errors import InputError

SIDES = ("ours", "trackeval")
_PACKAGES = ("trackvae", "trackeval", "numpy", "scipy")


def largest_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The largest absolute difference of any column of any row; every column must be in both."""
    worst = 0.0
    for name, row in {**ours["sequences"], "combined": ours["combined"]}.items():
        other = theirs["combined"] if name == "combined" else theirs["sequences"][name]
        if set(row) != set(other):
            raise KeyError(f"{name}: different columns {sorted(set(row) ^ set(other))}")
        worst = max(worst, *(abs(row[column] - other[column]) for column in row))
    return worst


def _process(side: str, gt: Path, results: Path, tree: TrackEvalTree) -> dict[str, Any]:
    """One side in a process of its own, on one thread; adds the wall seconds of all of it."""
    layout = json.dumps(
        {"folder": str(tree.folder), "benchmark": tree.benchmark, "lengths": dict(tree.lengths)}
    )
    start = time.perf_counter()
    found = measured_apart(
        "tools.benchmark.trackeval_peer", "measure_side", side, str(gt), str(results), layout
    )
    return found | {"process_seconds": time.perf_counter() - start}


@dataclass(frozen=True)
class EvaluationBenchmark:
    """Score the same files with trackvae and with TrackEval's own Evaluator, in turns."""

    gt: tyro.conf.Positional[Path]
    """Ground truth: as for `trackvae eval`."""
    results: tyro.conf.Positional[Path]
    """Results: as for `trackvae eval`."""
    out: Path = Path("results/benchmark-evaluation.json")
    """Where the figures go."""
    repeats: int = 3
    """Processes for each side; the median counts."""

    def run(self) -> int:
        """Measure, print, save."""
        clock = Clock()
        pairs, _ = find_pairs(self.gt, self.results)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        with tempfile.TemporaryDirectory() as folder:
            tree = lay_out(pairs, Path(folder))
            for repeat in range(self.repeats):
                for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                    runs[side].append(_process(side, self.gt, self.results, tree))
                    last = runs[side][-1]
                    print(
                        f"{side:>9}: {last['seconds']:7.2f} s, "
                        f"whole process {last['process_seconds']:7.2f} s",
                        flush=True,
                    )
        report = self._report(runs, tree)
        clock.save(report, _PACKAGES, self.out)
        print(
            f"ratio TrackEval / ours: {report['ratio']:.2f} (whole process "
            f"{report['process_ratio']:.2f}); largest difference of any score "
            f"{report['largest_difference']:.1e}; written to {self.out}"
        )
        return 0

    def _report(self, runs: dict[str, list[dict[str, Any]]], tree: TrackEvalTree) -> dict[str, Any]:
        """Everything that the figures need to be understood and repeated."""
        seconds = {side: [run["seconds"] for run in runs[side]] for side in SIDES}
        process = {side: [run["process_seconds"] for run in runs[side]] for side in SIDES}
        medians = {side: statistics.median(seconds[side]) for side in SIDES}
        process_medians = {side: statistics.median(process[side]) for side in SIDES}
        scores = {side: runs[side][0]["scores"] for side in SIDES}
        return {
            "name": "benchmark-evaluation",
            "title": "trackvae's evaluation beside TrackEval's own, one thread",
            "ratio": medians["trackeval"] / medians["ours"],
            "process_ratio": process_medians["trackeval"] / process_medians["ours"],
            "largest_difference": largest_difference(scores["ours"], scores["trackeval"]),
            "seconds": {s: {"median": medians[s], "values": seconds[s]} for s in SIDES},
            "process_seconds": {
                s: {"median": process_medians[s], "values": process[s]} for s in SIDES
            },
            "config": {
                "sequences": dict(tree.lengths),
                "benchmark": tree.benchmark,
                "repeats": self.repeats,
                "threads": 1,
            },
            "combined": scores["ours"]["combined"],
        }


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(EvaluationBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

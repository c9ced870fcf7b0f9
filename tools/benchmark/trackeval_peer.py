"""TrackEval's own evaluation, run as its users run it: a tree of files and its ``Evaluator``.

The oracle of our parity tests and the peer of the benchmark. Only the standard library is imported
before a side runs, so that a process's seconds are that side's own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackvae.errors import InputError

if TYPE_CHECKING:
    from tracker.evaluation.inputs import Pair

_COMBINED = "COMBINED_SEQ"


@dataclass(frozen=True)
class TrackEvalTree:
    """Files laid out as TrackEval wants them, and what its configuration says of them."""

    folder: Path
    benchmark: str
    lengths: Mapping[str, int]


def lay_out(pairs: list[Pair], folder: Path) -> TrackEvalTree:
    """Link the files of each pair to the places where TrackEval looks for them.

    Raises:
        InputError: the sequences need different protocols; TrackEval runs one at a time.
    """
    from tracker.evaluation.inputs import load
    from tracker.evaluation.preprocess import distractor_classes

    lengths, benchmarks = {}, set()
    for pair in pairs:
        gt, results = load(pair.gt), load(pair.results)
        lengths[pair.name] = pair.length() or max(gt.last_frame, results.last_frame)
        classed = distractor_classes(gt, pair.gt_name) is not None
        mot20 = pair.gt_name.upper().startswith("MOT20")
        benchmarks.add(("MOT20" if mot20 else "MOT17") if classed else "MOT15")
        for boxes, place in (
            (pair.gt, folder / "gt" / pair.name / "gt" / "gt.txt"),
            (pair.results, folder / "trackers" / "tracker" / f"{pair.name}.txt"),
        ):
            if not isinstance(boxes, Path):
                raise InputError(f"{pair.name}: TrackEval reads files, not tables in memory")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(boxes.resolve())
    if len(benchmarks) != 1:
        raise InputError(f"the sequences need {len(benchmarks)} protocols, TrackEval runs one")
    return TrackEvalTree(folder, benchmarks.pop(), lengths)


def run_trackeval(tree: TrackEvalTree) -> dict[str, dict[str, dict[str, Any]]]:
    """TrackEval's own run: sequence (and ``COMBINED_SEQ``) to metric family to fields."""
    import trackeval

    config = trackeval.Evaluator.get_default_eval_config()
    config |= {name: False for name, value in config.items() if value is True}
    config["BREAK_ON_ERROR"] = True
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(tree.folder / "gt"),
            "TRACKERS_FOLDER": str(tree.folder / "trackers"),
            "TRACKERS_TO_EVAL": ["tracker"],
            "TRACKER_SUB_FOLDER": "",
            "BENCHMARK": tree.benchmark,
            "SKIP_SPLIT_FOL": True,
            "SEQ_INFO": dict(tree.lengths),
            "PRINT_CONFIG": False,
        }
    )
    quiet = {"PRINT_CONFIG": False, "THRESHOLD": 0.5}
    metrics = [
        trackeval.metrics.HOTA(),
        trackeval.metrics.CLEAR(dict(quiet)),
        trackeval.metrics.Identity(dict(quiet)),
    ]
    found, _ = trackeval.Evaluator(config).evaluate([dataset], metrics)
    sequences = found["MotChallenge2DBox"]["tracker"]
    return {name: families["pedestrian"] for name, families in sequences.items()}


def columns(families: Mapping[str, Mapping[str, Any]], frames: int) -> dict[str, float]:
    """Our columns from TrackEval's fields (percentages 0 to 100, FAR by all frames)."""
    clear, identity, hota = families["CLEAR"], families["Identity"], families["HOTA"]
    rates = {"Recall": "CLR_Re", "Precision": "CLR_Pr"}
    rates |= {name: name for name in ("MOTA", "MOTP", "MOTAL")}
    counts = {"FP": "CLR_FP", "FN": "CLR_FN", "IDs": "IDSW", "FM": "Frag"}
    counts |= {name: name for name in ("MT", "PT", "ML")}
    row = {name: 100.0 * float(clear[field]) for name, field in rates.items()}
    row |= {name: float(clear[field]) for name, field in counts.items()}
    row |= {name: 100.0 * float(identity[name]) for name in ("IDF1", "IDP", "IDR")}
    row |= {name: 100.0 * float(hota[name].mean()) for name in ("HOTA", "DetA", "AssA", "LocA")}
    row |= {"FAR": row["FP"] / frames, "GT": row["MT"] + row["PT"] + row["ML"]}
    return row | {"Frames": frames}


def all_columns(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]], lengths: Mapping[str, int]
) -> dict[str, Any]:
    """Our JSON from TrackEval's run."""
    return {
        "combined": columns(found[_COMBINED], sum(lengths.values())),
        "sequences": {name: columns(found[name], frames) for name, frames in lengths.items()},
    }


def measure_side(side: str, gt: str, results: str, tree: str) -> None:
    """In a fresh process: evaluate once, print seconds and scores as JSON."""
    if side == "ours":
        start = time.perf_counter()
        from tracker.evaluation import evaluate

        scores: dict[str, Any] = evaluate(gt, results).to_dict()
    else:
        settings = json.loads(tree)
        start = time.perf_counter()
        laid = TrackEvalTree(Path(settings["folder"]), settings["benchmark"], settings["lengths"])
        scores = all_columns(run_trackeval(laid), laid.lengths)
    print(json.dumps({"seconds": time.perf_counter() - start, "scores": scores}))

"""The real input of the association benchmarks: detections with features, and the truth."""

from __future__ import annotations

from pathlib import Path

from tracker.detections import Detections
from tracker.evaluation import evaluate
from tracker.io.mot import BoxTable, read_boxes
from tracker.io.npz import read_npz
from trackvae.errors import InputError

SEQUENCES = ("MOT17-09-SDP", "MOT17-09-FRCNN")
SCORES = ("HOTA", "MOTA", "IDF1", "IDs")


def load(data: Path, sequence: str, most: int | None = None) -> list[Detections]:
    """The detections of every frame, or of the first so many, with features.

    Raises:
        InputError: the file is not there.
    """
    path = data / "data" / "mot17" / "deepsort_features" / f"{sequence}.npz"
    if not path.is_file():
        raise InputError(f"{path}: no such file; give --data the folder that holds data/mot17")
    table = read_npz(path)
    return [table.detections(frame) for frame in range(1, table.last_frame + 1)][:most]


def ground_truth(data: Path, frames: int) -> BoxTable:
    """The ground truth of MOT17-09's first frames."""
    truth = read_boxes(data / "data" / "mot17" / "gt" / "MOT17-09" / "gt" / "gt.txt")
    return truth.select(truth.frames <= frames)


def scores_of(truth: BoxTable, results: BoxTable) -> dict[str, float]:
    """The four scores of the table."""
    all_scores = evaluate({"MOT17-09": truth}, {"MOT17-09": results}).combined.to_dict()
    return {name: round(all_scores[name], 3) for name in SCORES}

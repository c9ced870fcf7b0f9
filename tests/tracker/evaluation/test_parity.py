"""Our scores are TrackEval's: every column, against its own run on a tree of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.benchmark.trackeval_peer import all_columns, lay_out, run_trackeval
from tracker.evaluation import COLUMNS, evaluate
from tracker.evaluation.inputs import find_pairs
from tracker.evaluation.metrics import measure
from tracker.evaluation.preprocess import prepare
from tracker.io.mot import BoxTable, read_boxes, write_boxes


def _assert_equal(gt: Path, results: Path, tmp_path: Path) -> None:
    tree = lay_out(find_pairs(gt, results)[0], tmp_path / "tree")
    theirs = all_columns(run_trackeval(tree), tree.lengths)
    ours = evaluate(gt, results).to_dict()
    assert ours["sequences"].keys() == theirs["sequences"].keys()
    for name in (*theirs["sequences"], None):
        mine = ours["combined"] if name is None else ours["sequences"][name]
        other = theirs["combined"] if name is None else theirs["sequences"][name]
        for column in COLUMNS:
            assert mine[column] == pytest.approx(other[column], rel=0, abs=1e-9), (name, column)


@pytest.mark.real_data
def test_mot17_mpntrack(real_data: Path, tmp_path: Path) -> None:
    # six sequences, 4,416 frames; about 6 s for TrackEval and 3 s for us
    root = real_data / "data" / "mot17"
    _assert_equal(root / "gt", root / "results" / "MPNTrack", tmp_path)


@pytest.mark.real_data
def test_mot15_sort(real_data: Path, tmp_path: Path) -> None:
    names = ("TUD-Campus", "TUD-Stadtmitte")
    for folder in ("gt", "out"):
        (tmp_path / folder).mkdir()
    for name in names:
        (tmp_path / "gt" / name).symlink_to(real_data / "data" / "mot" / name)
        results = real_data / "reference" / f"sort_{name}.txt"
        (tmp_path / "out" / f"{name}.txt").symlink_to(results)
    _assert_equal(tmp_path / "gt", tmp_path / "out", tmp_path)


@pytest.mark.real_data
@pytest.mark.parametrize("protocol", ["MOT16-09", "MOT20-09"])
def test_mot16_and_mot20(real_data: Path, tmp_path: Path, protocol: str) -> None:
    folder = tmp_path / "gt" / protocol
    folder.parent.mkdir()
    folder.symlink_to(real_data / "data" / "mot" / "MOT16-09")
    (tmp_path / "out").mkdir()
    results = real_data / "reference" / "sort_MOT16-09.txt"
    (tmp_path / "out" / f"{protocol}.txt").symlink_to(results)
    _assert_equal(folder.parent, tmp_path / "out", tmp_path)


@pytest.mark.real_data
def test_every_field_of_every_family(real_data: Path, tmp_path: Path) -> None:
    """Also the fields that no column shows, threshold by threshold."""
    name = "TUD-Stadtmitte"
    gt = real_data / "data" / "mot" / name
    results = real_data / "reference" / f"sort_{name}.txt"
    tree = lay_out(find_pairs(gt, results)[0], tmp_path)
    theirs = run_trackeval(tree)[name]
    tables = read_boxes(gt / "gt" / "gt.txt"), read_boxes(results)
    ours = measure(prepare(*tables, tree.lengths[name], name))
    for family in ("CLEAR", "Identity", "HOTA"):
        assert ours[family].keys() == theirs[family].keys()
        for field, value in theirs[family].items():
            assert ours[family][field] == pytest.approx(value, rel=0, abs=1e-9), (family, field)


def test_empty_results_equal_trackeval(tmp_path: Path) -> None:
    """Without results for a whole sequence every column but FAR still is TrackEval's."""
    from tests.tracker.evaluation.scenes import THREE_TRACKS, TWO_OBJECTS

    for name, table in (("A", THREE_TRACKS), ("B", BoxTable.empty())):
        (tmp_path / "gt" / name / "gt").mkdir(parents=True)
        (tmp_path / "out").mkdir(exist_ok=True)
        write_boxes(tmp_path / "gt" / name / "gt" / "gt.txt", TWO_OBJECTS)
        write_boxes(tmp_path / "out" / f"{name}.txt", table)
    _assert_equal(tmp_path / "gt", tmp_path / "out", tmp_path)

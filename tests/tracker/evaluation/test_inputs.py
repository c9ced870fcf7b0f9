"""Finding ground truth and results in folders: layouts, names, and what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tracker.evaluation.scenes import THREE_TRACKS, TWO_OBJECTS, scene
from tracker.evaluation import evaluate
from tracker.evaluation.inputs import find_pairs
from tracker.io.mot import BoxTable, write_boxes
from tracker.io.seqinfo import SequenceInfo, write_seqinfo
from trackvae.errors import InputError


def _sequence(folder: Path, length: int | None = None, table: BoxTable = TWO_OBJECTS) -> Path:
    """A sequence's folder with ground truth, and ``seqinfo.ini`` if a length is given."""
    (folder / "gt").mkdir(parents=True)
    write_boxes(folder / "gt" / "gt.txt", table)
    if length is not None:
        write_seqinfo(folder / "seqinfo.ini", SequenceInfo(folder.name, length, 25, 640, 480))
    return folder


def _results(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_boxes(folder / f"{name}.txt", THREE_TRACKS)
    return folder


@pytest.mark.parametrize("below", ["", "train", "data/gt"])
def test_root_of_sequences(tmp_path: Path, below: str) -> None:
    if below == "data/gt":  # two levels below the root that is given
        below, root = "gt", tmp_path / "data"
    else:
        root = tmp_path / "root"
    for name in ("A", "B"):
        _sequence(root / below / name)
    found = evaluate(root, _results(tmp_path / "out", "A", "B"))
    assert list(found.sequences) == ["A", "B"]
    assert found.combined.IDs == 2
    assert found.left_out == ()


@pytest.mark.parametrize("inside", ["", "gt", "gt/gt.txt"])
def test_one_sequence_and_one_file(tmp_path: Path, inside: str) -> None:
    folder = _sequence(tmp_path / "A", length=5)
    results = _results(tmp_path / "out", "any-name") / "any-name.txt"
    found = evaluate(folder / inside, results)
    assert list(found.sequences) == ["A"]
    assert found.combined.Frames == 5


def test_flat_files_of_ground_truth(tmp_path: Path) -> None:
    _results(tmp_path / "gt", "A", "B")
    found = evaluate(tmp_path / "gt", _results(tmp_path / "out", "A", "B"))
    assert found.combined.MOTA == 100


@pytest.mark.parametrize("layout", ["", "data", "tracker", "tracker/data"])
def test_layouts_of_results(tmp_path: Path, layout: str) -> None:
    _results(tmp_path / "out" / layout, "A")
    # what TrackEval and a killed writer leave behind is no result
    (tmp_path / "out" / "pedestrian_summary.txt").write_text("HOTA\n", encoding="utf-8")
    (tmp_path / "out" / ".A.77.part.txt").write_text("1,1", encoding="utf-8")
    found = evaluate(_sequence(tmp_path / "root" / "A").parent, tmp_path / "out")
    assert list(found.sequences) == ["A"]


@pytest.mark.parametrize(
    ("truths", "results", "pairs", "missing"),
    [
        (["MOT17-02"], ["MOT17-02-FRCNN"], [("MOT17-02-FRCNN", "MOT17-02")], []),
        (
            ["MOT17-02"],
            ["MOT17-02-DPM", "MOT17-02-SDP"],
            [("MOT17-02-DPM", "MOT17-02"), ("MOT17-02-SDP", "MOT17-02")],
            [],
        ),
        (
            ["MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-04-DPM"],
            ["MOT17-02"],
            [("MOT17-02", "MOT17-02-DPM")],
            ["MOT17-04-DPM"],
        ),
        (
            ["MOT17-02-DPM", "MOT17-02-FRCNN"],
            ["MOT17-02-FRCNN"],
            [("MOT17-02-FRCNN", "MOT17-02-FRCNN")],
            ["MOT17-02-DPM"],
        ),
        (["MOT17-02-FRCNN"], ["MOT17-02-SDP"], [("MOT17-02-SDP", "MOT17-02-FRCNN")], []),
    ],
    ids=[
        "suffix in the results",
        "two detectors, one truth",
        "suffix in the truth",
        "the exact name first",
        "another detector's folder",
    ],
)
def test_mot17_names(truths, results, pairs, missing) -> None:
    found, left = find_pairs(
        dict.fromkeys(truths, TWO_OBJECTS), dict.fromkeys(results, TWO_OBJECTS)
    )
    assert [(pair.name, pair.gt_name) for pair in found] == pairs
    assert left == missing


def test_only_mot17_has_suffixes() -> None:
    with pytest.raises(InputError, match="results without ground truth: Town-02-SDP"):
        find_pairs({"Town-02": TWO_OBJECTS}, {"Town-02-SDP": TWO_OBJECTS})


def test_sequence_without_results(tmp_path: Path) -> None:
    for name in ("A", "B", "C"):
        _sequence(tmp_path / "root" / name)
    out = _results(tmp_path / "out", "B")
    with pytest.warns(UserWarning, match="no results for A, C; left out"):
        found = evaluate(tmp_path / "root", out)
    assert found.left_out == ("A", "C")
    assert list(found.sequences) == ["B"]
    with pytest.raises(InputError, match="no results for A, C"):
        evaluate(tmp_path / "root", out, strict=True)


def test_length_from_seqinfo_or_the_last_box(tmp_path: Path) -> None:
    for name, length in (("A", 10), ("B", None)):
        _sequence(tmp_path / "root" / name, length)
    out = _results(tmp_path / "out", "A")
    write_boxes(out / "B.txt", scene((1, 1, 0), (7, 1, 0)))
    found = evaluate(tmp_path / "root", out)
    assert [row.Frames for row in found.sequences.values()] == [10, 7]
    assert found.combined.Frames == 17


def test_results_only_read_once_and_in_order(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    tables = {"B": TWO_OBJECTS, "A": TWO_OBJECTS}
    evaluate(tables, tables, progress=lambda *call: calls.append(call))
    assert calls == [("A", 0, 2), ("B", 1, 2), ("", 2, 2)]


def _bad(tmp_path: Path, case: str) -> tuple[Path, Path, str]:
    """Ground truth, results and the pattern of the one line that is expected."""
    root = _sequence(tmp_path / "root" / "A", length=3).parent
    out = _results(tmp_path / "out", "A")
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    empty.mkdir()
    if case == "stranger":
        _results(out, "Z", "Y")
        return root, out, "out: results without ground truth: Y, Z; the ground truth has A"
    if case == "too long":
        write_boxes(out / "A.txt", scene((1, 1, 0), (4, 1, 0)))
        return root, out, "A.txt: frame 4 runs past the end of the sequence; .*seqinfo.ini says 3"
    if case == "truth too long":
        write_seqinfo(root / "A" / "seqinfo.ini", SequenceInfo("A", 2, 25, 640, 480))
        return root, out, "gt.txt: frame 3 runs past the end of the sequence; .* says 2 frames"
    if case == "no truth":
        return empty, out, "empty: no ground truth; expected NAME/gt/gt.txt"
    if case == "no results":
        return root, empty, "empty: no results; expected a NAME.txt for every sequence"
    if case == "nowhere":
        return nowhere, out, "nowhere: no such file or folder; expected ground truth"
    if case == "results nowhere":
        return root, nowhere, "nowhere: no such file or folder; expected results"
    if case == "two trackers":
        for name in ("sort", "mine"):
            _results(empty / name / "data", "A")
        return root, empty, "empty: results of several trackers .mine, sort.; give one folder"
    if case == "twice":
        _sequence(tmp_path / "root" / "train" / "A")
        return root, out, "root: sequence A stands twice: .*gt.txt and .*gt.txt"
    if case == "duplicate id":
        (out / "A.txt").write_text("1,5,0,0,9,9\n1,5,7,0,9,9\n", encoding="utf-8")
        return root, out, "A.txt:2: id 5 stands twice in frame 1"
    (out / "A.txt").write_text("1,-1,0,0,9,9,1,-1,-1,-1\n", encoding="utf-8")
    return root, out, "A: the results hold id -1 in frame 1.*detections"


@pytest.mark.parametrize(
    "case",
    [
        *("stranger", "too long", "truth too long", "no truth", "no results", "nowhere"),
        *("results nowhere", "two trackers", "twice", "duplicate id", "detections"),
    ],
)
def test_bad_input(tmp_path: Path, case: str) -> None:
    gt, results, message = _bad(tmp_path, case)
    with pytest.raises(InputError) as caught:
        evaluate(gt, results)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_score() -> None:
    with pytest.raises(InputError, match="no results for any sequence of the ground truth: A"):
        evaluate({"A": TWO_OBJECTS}, {})

"""Every metric on scenes small enough to be scored by hand, laws, and the empty cases."""

# ruff: noqa: SIM300  (the columns' names look like constants)
from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker.evaluation.scenes import THREE_TRACKS, TWO_OBJECTS, scene
from tracker.evaluation import COLUMNS, evaluate
from tracker.evaluation.metrics import combine, measure, scores
from tracker.evaluation.preprocess import prepare
from tracker.io.mot import BoxTable

COUNTS = ("MT", "PT", "ML", "FP", "FN", "IDs", "FM", "GT", "Frames")


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_clear_by_hand() -> None:
    row = evaluate(TWO_OBJECTS, THREE_TRACKS).combined
    # six boxes, five found; B is missed in frame 2, where track 9 is on nobody
    assert (row.FN, row.FP) == (1, 1)
    assert row.IDs == 1  # A goes from track 1 to track 3
    assert row.FM == 1  # B is lost and found again
    assert (row.MT, row.PT, row.ML) == (1, 1, 0)  # A in 3 of 3 frames, B in 2 of 3
    assert (row.GT, row.Frames) == (2, 3)
    assert row.Recall == pytest.approx(100 * 5 / 6)
    assert row.Precision == pytest.approx(100 * 5 / 6)
    assert row.FAR == pytest.approx(1 / 3)  # one false positive in three frames
    assert row.MOTA == pytest.approx(100 * (1 - 3 / 6))
    assert row.MOTAL == pytest.approx(100 * (1 - 2 / 6))  # log10(1 switch) is 0
    assert row.MOTP == pytest.approx(100)


def test_identity_by_hand() -> None:
    row = evaluate(TWO_OBJECTS, THREE_TRACKS).combined
    # A with track 1 (2 frames), B with track 2 (2 frames): 4 of 6 boxes on both sides
    for value in (row.IDF1, row.IDP, row.IDR):
        assert value == pytest.approx(100 * 4 / 6)


def test_identity_precision_and_recall_by_hand() -> None:
    # one object in four frames, its track in the first two, and two boxes of another on nobody
    gt = scene(*((frame, 1, 0) for frame in (1, 2, 3, 4)))
    results = scene((1, 1, 0), (2, 1, 0), (2, 2, 300), (3, 2, 300), (4, 2, 300))
    row = evaluate(gt, results).combined
    assert row.IDP == pytest.approx(100 * 2 / 5)
    assert row.IDR == pytest.approx(100 * 2 / 4)
    assert row.IDF1 == pytest.approx(100 * 2 * 2 / (5 + 4))


def test_hota_by_hand() -> None:
    row = evaluate(TWO_OBJECTS, THREE_TRACKS).combined
    # 5 matches, 1 miss, 1 false: DetA = 5/7. Of the matches 2 are A with track 1 (2 of the 3 frames
    # of either: 2/3), 1 is A with track 3 (1/3), 2 are B with track 2 (2/3): AssA = 3/5.
    assert row.DetA == pytest.approx(100 * 5 / 7)
    assert row.AssA == pytest.approx(100 * 3 / 5)
    assert row.HOTA == pytest.approx(100 * math.sqrt(3 / 7))
    assert row.LocA == pytest.approx(100)


def test_localisation_by_hand() -> None:
    # moved by 2 of 10 pixels: IoU = 8 / 12, a match at 13 of the 19 thresholds 0.05 ... 0.95
    row = evaluate(scene((1, 1, 0)), scene((1, 1, 2))).combined
    assert row.MOTP == pytest.approx(100 * 2 / 3)
    for value in (row.HOTA, row.DetA, row.AssA):
        assert value == pytest.approx(100 * 13 / 19)
    # TrackEval's convention: where nothing is matched, LocA is 1
    assert row.LocA == pytest.approx(100 * (13 * 2 / 3 + 6) / 19)


@pytest.mark.parametrize(
    ("found", "expected"),
    [(8, "PT"), (9, "MT"), (2, "PT"), (1, "ML")],
    ids=["80% is not yet mostly tracked", "90% is", "20% is not lost", "10% is"],
)
def test_mostly_tracked_and_lost(found: int, expected: str) -> None:
    gt = scene(*((frame, 1, 0) for frame in range(1, 11)))
    results = scene(*((frame, 1, 0) for frame in range(1, found + 1)))
    row = evaluate(gt, results).combined
    assert {name: getattr(row, name) for name in ("MT", "PT", "ML")} == {
        name: int(name == expected) for name in ("MT", "PT", "ML")
    }


def test_motal_damps_the_switches() -> None:
    # a new track in each of eleven frames: ten switches, and log10(10) = 1 of 11 boxes
    frames = range(1, 12)
    gt, results = scene(*((f, 1, 0) for f in frames)), scene(*((f, f, 0) for f in frames))
    row = evaluate(gt, results).combined
    assert row.IDs == 10
    assert row.MOTA == pytest.approx(100 * (1 - 10 / 11))
    assert row.MOTAL == pytest.approx(100 * (1 - 1 / 11))


def test_combined_adds_counts_and_weighs_rates() -> None:
    gt = {"a": TWO_OBJECTS, "b": scene((1, 1, 0), (2, 1, 0))}
    results = {"a": THREE_TRACKS, "b": scene((1, 5, 0), (2, 5, 0))}
    found = evaluate(gt, results)
    a, b, both = found.sequences["a"], found.sequences["b"], found.combined
    for name in COUNTS:
        assert getattr(both, name) == getattr(a, name) + getattr(b, name)
    assert both.MOTA == pytest.approx(100 * (1 - 3 / 8))
    assert both.IDF1 == pytest.approx(100 * 6 / 8)
    assert both.FAR == pytest.approx(1 / 5)
    assert both.AssA == pytest.approx(100 * (5 * 3 / 5 + 2 * 1) / 7)  # weighted by the matches


lefts = st.floats(0, 60, allow_nan=False)
boxes = st.dictionaries(st.tuples(st.integers(1, 6), st.integers(1, 4)), lefts, min_size=1)


def _table(rows: dict[tuple[int, int], float]) -> BoxTable:
    return scene(*((frame, identity, left) for (frame, identity), left in rows.items()))


@given(boxes)
@settings(max_examples=30, deadline=None)
def test_ground_truth_as_results_is_perfect(rows: dict[tuple[int, int], float]) -> None:
    # apart from each other, so that no other match is as good
    gt = scene(
        *((frame, identity, 100.0 * identity + left) for (frame, identity), left in rows.items())
    )
    row = evaluate(gt, gt).combined
    for name in ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR", "MOTA", "MOTP", "MOTAL"):
        assert getattr(row, name) == pytest.approx(100), name
    assert (row.FP, row.FN, row.IDs, row.PT, row.ML, row.MT) == (0, 0, 0, 0, 0, row.GT)


@given(boxes, boxes, st.permutations(range(1, 5)), st.integers(0, 2**40))
@settings(max_examples=30, deadline=None)
def test_names_of_tracks_do_not_matter(gt, results, order, far) -> None:
    renamed = {(frame, order[i - 1] + far): left for (frame, i), left in results.items()}
    before = evaluate(_table(gt), _table(results)).combined.to_dict()
    after = evaluate(_table(gt), _table(renamed)).combined.to_dict()
    for name in COLUMNS:
        assert after[name] == pytest.approx(before[name], abs=1e-9), name


@given(boxes, boxes)
@settings(max_examples=30, deadline=None)
def test_laws_of_the_counts(gt, results) -> None:
    row = evaluate(_table(gt), _table(results)).combined
    found = len(gt) - row.FN
    assert found == len(results) - row.FP  # true positives, seen from either side
    assert row.MT + row.PT + row.ML == row.GT == len({identity for _, identity in gt})
    assert row.Recall == pytest.approx(100 * found / len(gt))
    assert row.Precision == pytest.approx(100 * found / len(results))
    assert row.MOTA == pytest.approx(100 * (1 - (row.FN + row.FP + row.IDs) / len(gt)))
    assert row.IDF1 == pytest.approx(2 * row.IDP * row.IDR / max(1e-9, row.IDP + row.IDR))
    assert row.MOTA <= row.MOTAL


def test_a_sequence_twice_doubles_counts_and_keeps_rates() -> None:
    sequence = prepare(TWO_OBJECTS, THREE_TRACKS, 3, "a")
    raw = measure(sequence)
    once, twice = scores(raw, 2, 3), scores(combine({"a": raw, "b": raw}), 4, 6)
    for name in set(COLUMNS) - {"MOTAL"}:
        factor = 2 if name in COUNTS else 1
        assert getattr(twice, name) == pytest.approx(factor * getattr(once, name)), name


EMPTY = BoxTable.empty()
FAR_AWAY = scene((1, 1, 1000), (2, 1, 1000))
ONE_FRAME = scene((1, 1, 0))


@pytest.mark.parametrize(
    ("gt", "results", "expected"),
    [
        (TWO_OBJECTS, EMPTY, {"FN": 6, "FP": 0, "ML": 2, "MOTA": 0.0, "FAR": 0.0, "Frames": 3}),
        (EMPTY, THREE_TRACKS, {"FN": 0, "FP": 6, "GT": 0, "FAR": 2.0, "Recall": 0.0}),
        (EMPTY, EMPTY, {"FN": 0, "FP": 0, "GT": 0, "FAR": 0.0, "Frames": 0}),
        (TWO_OBJECTS, FAR_AWAY, {"FN": 6, "FP": 2, "HOTA": 0.0, "IDF1": 0.0, "MOTP": 0.0}),
        (ONE_FRAME, ONE_FRAME, {"FN": 0, "FP": 0, "HOTA": 100.0, "MOTA": 100.0, "Frames": 1}),
        (scene((3, 1, 0)), scene((1, 1, 0), (3, 1, 0)), {"FP": 1, "FN": 0, "Frames": 3}),
    ],
    ids=["no results", "no truth", "nothing", "no overlap", "one frame", "empty frames of truth"],
)
def test_edges_give_numbers(gt: BoxTable, results: BoxTable, expected: dict[str, float]) -> None:
    row = evaluate(gt, results).combined.to_dict()
    assert all(np.isfinite(value) for value in row.values())
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_far_counts_the_frames_of_an_empty_result() -> None:
    gt = {"a": TWO_OBJECTS, "b": TWO_OBJECTS}
    row = evaluate(gt, {"a": THREE_TRACKS, "b": EMPTY}).combined
    assert row.FAR == pytest.approx(1 / 6)
    assert (row.FN, row.ML, row.Frames) == (1 + 6, 2, 6)

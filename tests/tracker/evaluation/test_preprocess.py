"""The official pre-processing: by hand, and against TrackEval's own on random scenes."""

# ruff: noqa: SIM300  (the columns' names look like constants)
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker.evaluation.scenes import TWO_OBJECTS, scene
from tracker.evaluation import evaluate
from tracker.evaluation.preprocess import distractor_classes, prepare
from tracker.io.mot import BoxTable
from trackvae.errors import InputError, UsageError

# a pedestrian, somebody standing still, a pedestrian marked zero, a car, a non-MOT vehicle
CLASSES, MARKS = [1, 7, 1, 3, 6], [1, 1, 0, 1, 1]
STREET = scene(*((1, i, 100.0 * i) for i in range(1, 6)), classes=CLASSES, marks=MARKS)
ON_ALL = scene(*((1, i, 100.0 * i) for i in range(1, 6)))


@pytest.mark.parametrize(
    ("benchmark", "name", "false", "found"),
    [
        (None, "MOT16-02", 3, 1),  # zero-marked, car and vehicle are false; 7 is absorbed
        (None, "MOT20-01", 2, 1),  # here the vehicle is a distractor, too
        ("MOT20", "mine", 2, 1),
        ("MOT17", "MOT20-01", 3, 1),
        ("MOT15", "mine", 1, 4),  # no classes: only the zero-marked row goes
    ],
)
def test_which_rows_count(benchmark: str | None, name: str, false: int, found: int) -> None:
    row = evaluate({name: STREET}, {name: ON_ALL}, benchmark=benchmark).combined
    assert (row.FP, row.GT, row.FN) == (false, found, 0)


@pytest.mark.parametrize("distractor", [2, 7, 8, 12])
def test_distractors_absorb_one_result_each(distractor: int) -> None:
    gt = scene((1, 1, 0), (1, 2, 100), classes=[1, distractor])
    results = scene((1, 1, 0), (1, 2, 101), (1, 3, 102))
    row = evaluate(gt, results).combined
    assert (row.FP, row.FN, row.GT) == (1, 0, 1)


def test_a_distractor_absorbs_from_half_overlap_on() -> None:
    gt = scene((1, 1, 0), (1, 2, 100), (1, 3, 200), classes=[1, 7, 7])
    # IoU 6.8/13.2 = 0.515 and 6.6/13.4 = 0.493
    row = evaluate(gt, scene((1, 1, 0), (1, 2, 103.2), (1, 3, 203.4))).combined
    assert row.FP == 1


def test_a_result_better_matched_to_a_pedestrian_stays() -> None:
    gt = scene((1, 1, 0), (1, 2, 2), classes=[1, 7])
    assert evaluate(gt, scene((1, 1, 0))).combined.FP == 0
    assert evaluate(gt, scene((1, 1, 0))).combined.FN == 0
    assert evaluate(gt, scene((1, 1, 2))).combined.FN == 1  # the distractor has it


def test_marks_are_truncated_as_trackeval_does() -> None:
    gt = scene((1, 1, 0), (1, 2, 100), marks=[0.9, 1])
    assert evaluate(gt, scene((1, 1, 100))).combined.GT == 1


def test_ids_are_dense_and_keep_their_labels() -> None:
    gt = scene((1, 40, 0), (2, 7, 0), (2, 9, 100), marks=[1, 1, 0])
    sequence = prepare(gt, scene((2, 2**40, 0), (2, 3, 100)), 3, "x")
    assert sequence.gt_labels.tolist() == [7, 40]
    assert sequence.track_labels.tolist() == [3, 2**40]
    assert [ids.tolist() for ids in sequence.gt_ids] == [[1], [0], []]
    assert [ids.tolist() for ids in sequence.track_ids] == [[], [1, 0], []]
    assert [s.shape for s in sequence.similarity] == [(1, 0), (1, 2), (0, 0)]


@pytest.mark.parametrize(
    ("gt", "results", "benchmark", "message"),
    [
        (TWO_OBJECTS, ON_ALL, "MOT17", "no class column, which MOT17 needs"),
        (scene((1, 1, 0), classes=[14]), ON_ALL, None, "class 14; MOT16/17/20 know 1 to 13"),
        (STREET, scene((1, -1, 0)), None, "results hold id -1 in frame 1"),
        (scene((4, -3, 0)), ON_ALL, None, "ground truth hold id -3 in frame 4"),
        (STREET, scene((1, 2, 0), (1, 2, 9)), None, "in the results id 2 stands twice in frame 1"),
        (STREET, scene((1, 1, 0), classes=[3]), None, "class 3 in frame 1; only pedestrians"),
        (
            STREET,
            scene((1, 1, np.nan)),
            None,
            r"results hold the box .nan, .* in frame 1; expected",
        ),
        (scene((2, 1, 1e200)), ON_ALL, None, "ground truth hold the box .1e.200, .* in frame 2"),
        (STREET, scene((0, 1, 0)), None, "results hold frame 0, expected 1 to 1"),
        (STREET, scene((10**12, 1, 0)), None, "1000000000000 frames; at most 2000000"),
    ],
)
def test_bad_tables(gt: BoxTable, results: BoxTable, benchmark: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        evaluate(gt, results, benchmark=benchmark)
    assert "\n" not in str(caught.value)


def test_unknown_benchmark() -> None:
    with pytest.raises(UsageError, match="unknown benchmark 'MOT18'; choose from MOT15, MOT16"):
        evaluate(STREET, ON_ALL, benchmark="MOT18")


def test_a_truth_without_pedestrians_is_said() -> None:
    with pytest.warns(UserWarning, match=r"no pedestrian .class 1. in the ground truth"):
        evaluate(scene((1, 1, 0), classes=[3]), scene((1, 1, 0)))


def _trackeval_preprocessed(gt: BoxTable, results: BoxTable, length: int, benchmark: str):
    """The same step by TrackEval itself, on its own raw format in memory."""
    from trackeval.datasets import MotChallenge2DBox

    dataset = MotChallenge2DBox.__new__(MotChallenge2DBox)
    dataset.benchmark, dataset.do_preproc = benchmark, True
    names = "pedestrian person_on_vehicle car bicycle motorbike non_mot_vehicle static_person "
    names += "distractor occluder occluder_on_ground occluder_full reflection crowd"
    dataset.class_name_to_class_id = {n: i for i, n in enumerate(names.split(), start=1)}
    dataset.valid_class_numbers = list(range(1, 14))
    raw: dict[str, object] = {"num_timesteps": length, "seq": "x"}
    there, here = ([t.rows(f) for f in range(1, length + 1)] for t in (gt, results))
    raw["gt_ids"] = [gt.ids[rows] for rows in there]
    raw["gt_dets"] = [gt.boxes[rows] for rows in there]
    raw["gt_classes"] = [gt.classes[rows] for rows in there]
    raw["gt_extras"] = [{"zero_marked": gt.scores[rows].astype(int)} for rows in there]
    raw["tracker_ids"] = [results.ids[rows] for rows in here]
    raw["tracker_dets"] = [results.boxes[rows] for rows in here]
    raw["tracker_classes"] = [np.ones(rows.stop - rows.start, dtype=int) for rows in here]
    raw["tracker_confidences"] = [results.scores[rows] for rows in here]
    raw["similarity_scores"] = [
        MotChallenge2DBox._calculate_box_ious(gt.boxes[a], results.boxes[b], box_format="x0y0x1y1")
        for a, b in zip(there, here, strict=True)
    ]
    return dataset.get_preprocessed_seq_data(raw, "pedestrian")


@st.composite
def crowds(draw: st.DrawFn) -> tuple[BoxTable, BoxTable]:
    """Random crowded scenes of a few frames; sizes reach both paths of the IoU."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tables = []
    for classed in (True, False):
        people = draw(st.integers(0, 40))
        frames = np.repeat(np.arange(1, 4), people)
        ids = np.concatenate([random.permutation(people) for _ in range(3)])
        corner, size = (
            random.uniform(0, 120, (3 * people, 2)),
            random.uniform(0, 60, (3 * people, 2)),
        )
        boxes = np.concatenate([corner, corner + size.round(-1)], axis=1)  # some have no area
        classes = random.choice([1, 1, 1, 2, 3, 6, 7, 8, 12, 13], 3 * people) if classed else None
        marks = random.choice([0.0, 1.0, 1.0], 3 * people) if classed else None
        table = BoxTable.of(frames, ids, boxes, marks, classes)
        tables.append(table.select(random.random(3 * people) < 0.8))
    return tables[0], tables[1]


@given(crowds(), st.sampled_from(["MOT15", "MOT16", "MOT17", "MOT20"]))
@settings(max_examples=60, deadline=None)
def test_equals_trackeval_on_random_crowds(
    tables: tuple[BoxTable, BoxTable], benchmark: str
) -> None:
    gt, results = tables
    if not len(gt) and benchmark != "MOT15":
        assert distractor_classes(gt, "x", benchmark) is not None
    ours = prepare(gt, results, 4, "x", benchmark)
    theirs = _trackeval_preprocessed(gt, results, 4, benchmark)
    assert (len(ours.gt_labels), len(ours.track_labels), ours.frames) == (
        theirs["num_gt_ids"],
        theirs["num_tracker_ids"],
        theirs["num_timesteps"],
    )
    for frame in range(4):
        np.testing.assert_array_equal(ours.gt_ids[frame], theirs["gt_ids"][frame])
        np.testing.assert_array_equal(ours.track_ids[frame], theirs["tracker_ids"][frame])
        np.testing.assert_allclose(
            ours.similarity[frame], theirs["similarity_scores"][frame], rtol=0, atol=1e-12
        )

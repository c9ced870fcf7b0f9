"""Events: by hand, against motmetrics' own counts, and on real results."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker.evaluation.scenes import THREE_TRACKS, TWO_OBJECTS, scene
from tracker.evaluation import Events, evaluate, write_events
from tracker.evaluation.events import accumulate, events_of
from tracker.evaluation.preprocess import ScoredSequence, prepare
from tracker.io.mot import BoxTable, read_boxes


def _listed(events: Events, *kinds: str) -> list[tuple[int, str, int, int, int]]:
    chosen = events.of_kind(*kinds)
    columns = (chosen.frames, chosen.kinds, chosen.gt_ids, chosen.track_ids, chosen.previous_ids)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_which_frame_and_which_identity() -> None:
    found = evaluate(TWO_OBJECTS, THREE_TRACKS, events=True).events["sequence"]
    assert _listed(found, "MISS", "FP", "SWITCH", "FRAGMENT", "TRANSFER") == [
        (2, "MISS", 2, -1, 2),  # B, that track 2 had
        (2, "FP", -1, 9, -1),
        (3, "SWITCH", 1, 3, 1),  # A goes from track 1 to track 3
        (3, "FRAGMENT", 2, 2, 2),  # B is found again by its own track
    ]
    assert _listed(found, "ASCEND") == [(3, "ASCEND", 1, 3, 1)]  # track 3 is new


def test_a_track_that_goes_over_to_somebody_else() -> None:
    gt = scene((1, 1, 0), (2, 1, 0), (2, 2, 100))
    found = events_of(prepare(gt, scene((1, 5, 0), (2, 5, 100)), 2, "x"))
    assert _listed(found, "TRANSFER", "MIGRATE", "MISS") == [
        (2, "MIGRATE", 2, 5, -1),
        (2, "TRANSFER", 2, 5, -1),
        (2, "MISS", 1, -1, 5),
    ]


def test_only_what_counts_has_events() -> None:
    gt = scene((1, 1, 0), (1, 2, 100), (1, 3, 200), classes=[1, 7, 1], marks=[1, 1, 0])
    found = evaluate(gt, scene((1, 8, 0), (1, 9, 100)), events=True).events["sequence"]
    assert len(found) == 0


def test_overlap_of_a_switch() -> None:
    gt = scene((1, 1, 0), (2, 1, 0))
    found = events_of(prepare(gt, scene((1, 1, 0), (2, 2, 2)), 2, "x")).of_kind("SWITCH")
    assert found.ious == pytest.approx([8 / 12])


def _summary(sequence: ScoredSequence) -> dict[str, int]:
    """motmetrics' own counts of the same accumulator."""
    import motmetrics

    names = {
        "MISS": "num_misses",
        "FP": "num_false_positives",
        "SWITCH": "num_switches",
        "FRAGMENT": "num_fragmentations",
        "TRANSFER": "num_transfer",
        "ASCEND": "num_ascend",
        "MIGRATE": "num_migrate",
    }
    counts = motmetrics.metrics.create().compute(
        accumulate(sequence), metrics=list(names.values()), return_dataframe=False
    )
    return {kind: int(counts[name]) for kind, name in names.items()}


def _count(events: Events, kinds: dict[str, int]) -> dict[str, int]:
    return {kind: int(np.count_nonzero(events.kinds == kind)) for kind in kinds}


rows = st.dictionaries(
    st.tuples(st.integers(1, 8), st.integers(1, 3)), st.floats(0, 25), min_size=1
)


@given(rows, rows)
@settings(max_examples=25, deadline=None)
def test_counts_equal_motmetrics(gt, results) -> None:
    tables = [scene(*((f, i, x) for (f, i), x in table.items())) for table in (gt, results)]
    sequence = prepare(*tables, 8, "x")
    expected = _summary(sequence)
    assert _count(events_of(sequence), expected) == expected


@pytest.mark.parametrize("gt", [BoxTable.empty(), TWO_OBJECTS])
@pytest.mark.parametrize("results", [BoxTable.empty(), THREE_TRACKS])
def test_empty_sides(gt: BoxTable, results: BoxTable) -> None:
    found = evaluate(gt, results, events=True)
    events = found.events["sequence"]
    assert np.count_nonzero(events.kinds == "MISS") == found.combined.FN
    assert np.count_nonzero(events.kinds == "FP") == found.combined.FP


def test_csv(tmp_path: Path) -> None:
    found = evaluate({"a": TWO_OBJECTS}, {"a": THREE_TRACKS}, events=True)
    write_events(tmp_path / "e.csv", found.events)
    with (tmp_path / "e.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines[0] == {
        "sequence": "a",
        "frame": "2",
        "event": "MISS",
        "gt_id": "2",
        "track_id": "",
        "previous_track_id": "2",
        "iou": "",
    }
    switch = next(line for line in lines if line["event"] == "SWITCH")
    assert (switch["gt_id"], switch["track_id"], switch["previous_track_id"]) == ("1", "3", "1")
    assert float(switch["iou"]) == 1.0


@pytest.mark.real_data
def test_real_counts_equal_motmetrics(real_data: Path) -> None:
    gt = read_boxes(real_data / "data" / "mot" / "TUD-Stadtmitte" / "gt" / "gt.txt")
    results = read_boxes(real_data / "reference" / "sort_TUD-Stadtmitte.txt")
    sequence = prepare(gt, results, 179, "TUD-Stadtmitte")
    expected = _summary(sequence)
    assert _count(events_of(sequence), expected) == expected
    assert expected["SWITCH"] > 20

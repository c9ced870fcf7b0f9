"""Tables, JSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.tracker.evaluation.scenes import THREE_TRACKS, TWO_OBJECTS
from tracker.evaluation import COLUMNS, Evaluation, evaluate, write_csv, write_json
from tracker.io.mot import BoxTable

# Table 5.3 of the thesis, in its order
THESIS = "IDF1 IDP IDR Recall Precision FAR MT PT ML FP FN IDs FM MOTA MOTP MOTAL"


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    gt = {"a": TWO_OBJECTS, "b [odd] name": TWO_OBJECTS, "empty": BoxTable.empty()}
    return evaluate(gt, {"a": THREE_TRACKS, "b [odd] name": TWO_OBJECTS, "empty": THREE_TRACKS})


def test_columns_are_those_of_the_thesis() -> None:
    assert " ".join(COLUMNS) == f"{THESIS} HOTA DetA AssA LocA GT Frames"


def test_json(tmp_path: Path, evaluation: Evaluation) -> None:
    write_json(tmp_path / "e.json", evaluation)
    found = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert set(found) == {"combined", "sequences"}
    assert list(found["sequences"]) == ["a", "b [odd] name", "empty"]
    for row in (found["combined"], *found["sequences"].values()):
        assert tuple(row) == COLUMNS
        for name in ("MT", "PT", "ML", "FP", "FN", "IDs", "FM", "GT", "Frames"):
            assert type(row[name]) is int, name
    assert found["sequences"]["a"]["MOTA"] == pytest.approx(50)
    assert found["sequences"]["b [odd] name"]["MOTA"] == pytest.approx(100)


def test_csv_has_all_digits(tmp_path: Path, evaluation: Evaluation) -> None:
    write_csv(tmp_path / "e.csv", evaluation)
    with (tmp_path / "e.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sequence"] for row in rows] == ["a", "b [odd] name", "empty", "COMBINED"]
    expected = evaluation.combined.to_dict()
    assert {name: float(rows[-1][name]) for name in COLUMNS} == expected


def test_table_shows_every_column_and_row(evaluation: Evaluation) -> None:
    text = str(evaluation)
    words = text.replace("─", " ").split()
    for name in COLUMNS:
        assert name in words
    assert "b [odd] name" in text
    assert text.count("COMBINED") == 2
    assert max(map(len, text.splitlines())) <= 110
    assert "…" not in text


def test_table_figures(evaluation: Evaluation) -> None:
    rates, counts = (line.split()[1:] for line in str(evaluation).splitlines() if " a " in line)
    # HOTA DetA AssA LocA IDF1 IDP IDR MOTA MOTP MOTAL Recall Precision, computed by hand
    expected = "65.5 71.4 60.0 100.0 66.7 66.7 66.7 50.0 100.0 66.7 83.3 83.3"
    assert " ".join(rates) == expected
    assert " ".join(counts) == "3 2 1 1 0 1 1 1 1 0.33"  # Frames GT MT PT ML FP FN IDs FM FAR

"""Rendering tables: what stands in the document is what stands in the results."""

import json

import pytest

from tools import render
from tools.results import save_results
from trackvae.errors import InputError

DOCUMENT = """before
<!-- results: speed | tracker, frames/s as fps -->
old
<!-- end of results -->
after
"""


@pytest.fixture
def results(tmp_path):
    save_results(
        tmp_path / "speed.json",
        name="speed",
        title="Speed",
        rows=[{"tracker": "sort", "frames/s": 1234.5}, {"tracker": "other", "frames/s": None}],
        peers=[{"peer": {"name": "them"}, "equal": True}],
        config={},
        packages=("numpy", "no-such-package"),
        wall_seconds=1.0,
    )
    return tmp_path


def test_a_table_is_made_of_the_results(results):
    made = render.rendered(DOCUMENT, results).splitlines()
    assert made[0] == "before"
    assert made[2:6] == ["| tracker | fps |", "| --- | ---: |", "| sort | 1,234 |", "| other | – |"]
    assert "results/speed.json" in made[7]
    assert made[-1] == "after"


def test_a_column_may_lie_deeper_and_rows_elsewhere(results):
    document = DOCUMENT.replace("speed |", "speed/peers |")
    document = document.replace("tracker, frames/s as fps", "peer.name as who, equal")
    assert "| who | equal |\n| --- | --- |\n| them | yes |" in render.rendered(document, results)


def test_a_column_says_how_its_numbers_are_written(results):
    document = DOCUMENT.replace("frames/s as fps", "frames/s:.2f as fps")
    assert "| sort | 1234.50 |" in render.rendered(document, results)
    unnamed = DOCUMENT.replace("frames/s as fps", "frames/s:.2f")
    assert "| frames/s |" in render.rendered(unnamed, results)


def test_rows_are_chosen_by_an_entry(results):
    document = DOCUMENT.replace("as fps", "as fps | where tracker = sort")
    made = render.rendered(document, results)
    assert "| sort | 1,234 |" in made
    assert "other" not in made
    assert render.rendered(made, results) == made
    with pytest.raises(InputError, match=r"speed\.json: no rows for .* where tracker = none"):
        render.rendered(document.replace("= sort", "= none"), results)


def test_rendering_again_changes_nothing(results):
    once = render.rendered(DOCUMENT, results)
    assert render.rendered(once, results) == once


def test_a_column_that_is_not_there_is_named(results):
    with pytest.raises(InputError, match=r"speed\.json: its rows have no 'ratio'"):
        render.rendered(DOCUMENT.replace("frames/s as fps", "ratio"), results)


def test_results_say_how_they_came_about(results):
    content = json.loads((results / "speed.json").read_text())
    assert set(content) >= {"name", "rows", "config", "seeds", "versions", "machine", "date"}
    assert "numpy" in content["versions"]
    assert content["versions"]["no-such-package"] == "not installed"


def test_the_committed_documents_agree_with_the_committed_results():
    assert render.main(["--check"]) == 0

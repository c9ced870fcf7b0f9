"""The frame of the experiments: parts survive a kill, results say how they were made."""

import importlib
import json
import re
import sys
import types

import pytest

from tools.cli import main
from tools.reproduce import command
from tools.reproduce.experiment import Context, Outcome, by_method, row, some_seeds
from trackvae.errors import InputError


def context(folder, **changes):
    settings = {
        "quick": False,
        "seeds": (0, 1),
        "work": folder / "work",
        "figures": folder / "figures",
        "data": folder / "data",
        "say": lambda line: None,
    }
    return Context(**{**settings, **changes})


def test_a_part_is_computed_once_and_again_when_its_settings_change(tmp_path):
    done = []

    def compute(folder):
        done.append(folder)
        return {"error": 0.25}

    for _ in range(2):
        assert context(tmp_path).part("rewo", {"seed": 1}, compute) == {"error": 0.25}
    assert len(done) == 1
    context(tmp_path).part("rewo", {"seed": 2}, compute)
    assert len(set(done)) == 2


@pytest.mark.parametrize(("asked", "expected"), [(1, 1), (3, 2), (4, 4)])
def test_a_row_of_fewer_seeds_has_all_where_more_than_usual_are_asked_for(
    tmp_path, asked, expected
):
    seeds = some_seeds(context(tmp_path, seeds=tuple(range(asked))), own=2, usual=3)
    assert seeds == tuple(range(expected))


def test_a_part_that_is_there_is_named_once_a_run(tmp_path):
    runs = []
    for _ in range(2):
        said = []
        here = context(tmp_path, say=said.append)
        for name in ("rewo", "rewo", "geco"):
            here.part(name, {}, lambda folder: {})
        runs.append(said)
    assert runs == [["rewo ...", "geco ..."], ["rewo: done before", "geco: done before"]]


def test_a_part_that_was_killed_finds_its_folder_again(tmp_path):
    seen = []

    def compute(folder):
        seen.append(sorted(path.name for path in folder.iterdir()))
        (folder / "checkpoint").write_text("half")
        if len(seen) == 1:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        context(tmp_path).part("rewo", {}, compute)
    context(tmp_path).part("rewo", {}, compute)
    assert seen == [[], ["checkpoint"]]


def test_a_damaged_part_is_told_by_its_path(tmp_path):
    context(tmp_path).part("rewo", {}, lambda folder: {})
    (path,) = tmp_path.glob("work/*/part.json")
    path.write_text("{")
    with pytest.raises(InputError, match=r"part\.json: damaged .*delete its folder"):
        context(tmp_path).part("rewo", {}, lambda folder: {})


def test_a_row_sums_up_its_seeds():
    found = row("REWO", "error (rad)", [0.1, 0.4, 0.1], 0.054, folds=1)
    assert found["ours"]["median"] == 0.1
    assert found["ours"]["mean"] == pytest.approx(0.2)
    assert found["ours"]["std"] == pytest.approx(0.173205, abs=1e-6)
    assert (found["thesis"], found["folds"]) == (0.054, 1)
    assert row("one", "m", [2.0])["ours"]["std"] == 0.0


def test_methods_stand_in_one_line_each_beside_the_thesis():
    rows = [
        row("A", "error (m)", [1.0, 3.0, 2.0], 0.5),
        row("A", "unasked", [9.0]),
        row("B", "error (m)", [4.0]),
        row("A", "R^2", [0.9, 0.8, 0.7]),
    ]
    assert by_method(rows, {"R^2": "fit", "error (m)": "error"}) == [
        {
            "method": "A",
            "seeds": 3,
            "error": 2.0,
            "fit": 0.8,
            "thesis": {"error": 0.5, "fit": None},
        },
        {"method": "B", "seeds": 1, "error": 4.0, "thesis": {"error": None}},
    ]


@pytest.fixture
def made(monkeypatch, tmp_path):
    """An experiment that notes how it was called."""
    module = types.ModuleType("made_experiment")
    module.TITLE, module.SEEDS, module.calls = "A made table", 3, []

    def run(context):
        module.calls.append(context)
        values = [float(seed) for seed in context.seeds]
        return Outcome([row("m", "error", values, 1.5)], {"steps": 7}, {"curves": [[1, 2]]})

    module.run = run
    monkeypatch.setitem(sys.modules, "made_experiment", module)
    monkeypatch.setitem(command.EXPERIMENTS, "table-0.0", "made_experiment")
    monkeypatch.chdir(tmp_path)
    return module


def test_the_file_says_how_it_was_made_and_a_quick_run_leaves_it_alone(made, tmp_path, capsys):
    assert main(["reproduce", "table-0.0"]) == 0
    assert main(["reproduce", "table-0.0", "--quick", "--seeds", "2"]) == 0
    full = json.loads((tmp_path / "results/table-0.0.json").read_text())
    quick = json.loads((tmp_path / "runs/quick/results/table-0.0.json").read_text())
    assert (full["seeds"], quick["seeds"]) == ([0, 1, 2], [0, 1])
    assert (full["quick"], quick["quick"]) == (False, True)
    assert full["rows"][0]["ours"]["values"] == [0.0, 1.0, 2.0]
    assert full["config"] == {"steps": 7}
    assert full["curves"] == [[1, 2]]
    assert {"versions", "machine", "date", "wall_seconds", "title"} <= set(full)
    shown = capsys.readouterr().out
    assert "A made table" in shown
    assert "1.5" in shown
    assert made.calls[0].work != made.calls[1].work


def test_ctrl_c_says_how_to_go_on(made, monkeypatch, capsys):
    def stopped(context):
        raise KeyboardInterrupt

    monkeypatch.setattr(made, "run", stopped)
    assert main(["reproduce", "table-0.0", "--quick"]) == 130
    assert capsys.readouterr().err == (
        "\ninterrupted; the same command goes on with what is finished "
        "(runs/reproduce/table-0.0-quick)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table-3.3"], "nothing is called 'table-3.3'.*expected one of table-3.1"),
        (["table-3.1", "--seeds", "0"], "--seeds is 0, expected 1 or more"),
    ],
)
def test_what_cannot_be_run(arguments, message, capsys):
    assert main(["reproduce", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_every_experiment_is_a_module_of_its_form():
    for name in command.EXPERIMENTS.values():
        module = importlib.import_module(name)
        assert isinstance(module.TITLE, str)
        assert module.SEEDS >= 1
        assert callable(module.run)

"""``trackvae eval`` as a command: what it prints, what it writes, what it imports."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tyro

from tests.tracker.evaluation.scenes import THREE_TRACKS, TWO_OBJECTS
from tools import evaluate as command
from tools.benchmark.evaluation import EvaluationBenchmark
from tools.evaluate import Evaluate
from tracker.evaluation import COLUMNS
from tracker.io.mot import write_boxes
from trackvae.errors import InputError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Ground truth of the sequences A and B, and results of A."""
    for name in ("A", "B"):
        (tmp_path / "gt" / name / "gt").mkdir(parents=True)
        write_boxes(tmp_path / "gt" / name / "gt" / "gt.txt", TWO_OBJECTS)
    (tmp_path / "out").mkdir()
    write_boxes(tmp_path / "out" / "A.txt", THREE_TRACKS)
    return str(tmp_path / "gt"), str(tmp_path / "out")


def _run(*arguments: str) -> int:
    return tyro.cli(Evaluate, args=list(arguments)).run()


def test_prints_the_table_and_names_what_is_left_out(folders, capsys) -> None:
    assert _run(*folders) == 0
    shown = capsys.readouterr()
    assert "warning: no results for B; left out of the scores" in shown.err
    assert shown.err.count("\n") == 1
    rows = [line.split() for line in shown.out.splitlines() if line.split()[:1] == ["A"]]
    assert rows[0][1:5] == ["65.5", "71.4", "60.0", "100.0"]  # HOTA DetA AssA LocA, by hand
    assert all(name in shown.out for name in COLUMNS)


def test_strict_fails_and_writes_nothing(folders, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no results for B"):
        _run(*folders, "--strict", "--json", str(tmp_path / "e.json"))
    assert not (tmp_path / "e.json").exists()


def test_writes_json_csv_and_events(folders, tmp_path: Path) -> None:
    paths = {name: tmp_path / "new" / f"e.{name}" for name in ("json", "csv", "events")}
    flags = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    assert _run(*folders, *flags) == 0
    scores = json.loads(paths["json"].read_text(encoding="utf-8"))
    assert scores["combined"] == scores["sequences"]["A"]
    assert scores["combined"]["IDs"] == 1
    with paths["csv"].open(newline="") as file:
        assert [row["sequence"] for row in csv.DictReader(file)] == ["A", "COMBINED"]
    with paths["events"].open(newline="") as file:
        kinds = [row["event"] for row in csv.DictReader(file)]
    assert [kinds.count(kind) for kind in ("SWITCH", "MISS", "FP", "FRAGMENT")] == [1, 1, 1, 1]


def test_benchmark_flag(folders) -> None:
    with pytest.raises(InputError, match="no class column, which MOT17 needs"):
        _run(*folders, "--benchmark", "MOT17")


@pytest.mark.parametrize("flag", ["--json", "--csv", "--events"])
@pytest.mark.parametrize("place", ["file.txt/e.json", "folder"])
def test_unwritable_output_is_told_before_scoring(
    folders, tmp_path: Path, capsys, flag: str, place: str
) -> None:
    (tmp_path / "file.txt").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=f"{place}: cannot be written"):
        _run(*folders, flag, str(tmp_path / place))
    assert capsys.readouterr().out == ""


def test_a_reader_that_leaves_is_no_failure(folders) -> None:
    command_line = [sys.executable, "-m", "tools.cli", "eval", *folders]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait() == 0
    assert errors == "warning: no results for B; left out of the scores\n"


def test_benchmark_compares_with_trackeval(folders, tmp_path: Path, capsys) -> None:
    gt, results = folders
    out = tmp_path / "benchmark.json"
    assert EvaluationBenchmark(Path(gt), Path(results), out, repeats=1).run() == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["largest_difference"] <= 1e-9
    assert report["config"]["sequences"] == {"A": 3}
    assert report["combined"]["IDs"] == 1
    for side in ("ours", "trackeval"):
        assert 0 < report["seconds"][side]["median"] < report["process_seconds"][side]["median"]
    assert f"{report['ratio']:.2f}" in capsys.readouterr().out


def test_imports_only_what_it_needs(folders) -> None:
    code = (
        "import sys, tyro\n"
        "from tools.evaluate import Evaluate\n"
        "early = {'trackeval', 'scipy', 'rich'} & set(sys.modules)\n"
        "tyro.cli(Evaluate).run()\n"
        "late = {'torch', 'pandas', 'motmetrics', 'matplotlib', 'cv2', 'av'} & set(sys.modules)\n"
        "print('EARLY', sorted(early), 'LATE', sorted(late))\n"
    )
    command_line = [sys.executable, "-c", code, *folders, "--json", f"{folders[1]}/../e.json"]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "EARLY [] LATE []"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("patience", "shown"), [(0.0, True), (60.0, False)])
def test_progress_shows_itself_late(monkeypatch, patience: float, shown: bool) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(command, "_PATIENCE_SECONDS", patience)
    with command._late_bar() as progress:
        assert progress is not None
        progress("MOT16-09", 1, 3)
        time.sleep(0.3 if shown else 0.0)
    assert ("MOT16-09" in terminal.getvalue()) is shown

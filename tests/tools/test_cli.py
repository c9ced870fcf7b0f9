"""The command line as its user meets it: what it writes, what it says when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.processes import start_python
from tools.cli import main
from tracker.io.mot import read_boxes
from tracker.synthetic import Scene, SceneConfig
from trackvae.appearance import encoder_file

FRAMES = 14


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    """A small made sequence with images, detections and ground truth. Not to be changed."""
    scene = Scene(SceneConfig(width=320, height=180, frames=FRAMES, figures=4, density=1.0))
    return scene.write(tmp_path_factory.mktemp("made") / "street")


@pytest.fixture
def own(street, tmp_path):
    """A copy of the sequence that a test may break."""
    return shutil.copytree(street, tmp_path / "street")


def said(capsys, *arguments):
    """Exit code and what was printed on stderr."""
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


# --- the main job


def test_track_writes_everything_that_was_asked_for(street, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--tracker", "deepsort", "--video", "--jsonl", "--set", "min_hits=1"]
    assert main(["track", str(street), "--out", str(out), *arguments]) == 0
    shown = capsys.readouterr().out
    assert "HOTA" in shown  # it has ground truth, so it is scored
    table = read_boxes(out / "street.txt", unique_ids=True)
    lines = (out / "street.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(1, FRAMES + 1))
    assert sum(len(json.loads(line)["tracks"]) for line in lines) == len(table) > 0
    assert (out / "street.mp4").stat().st_size > 1000


def test_eval_and_track_agree_on_the_score(street, tmp_path, capsys):
    main(["track", str(street), "--out", str(tmp_path)])
    tracked = capsys.readouterr().out
    saved = tmp_path / "scores.json"
    main(["eval", str(street), str(tmp_path / "street.txt"), "--json", str(saved)])
    row = next(line for line in capsys.readouterr().out.splitlines() if "street" in line)
    assert row in tracked
    scores = json.loads(saved.read_text())
    assert scores["combined"] == scores["sequences"]["street"]


def test_a_folder_of_sequences_and_resuming(street, tmp_path, capsys):
    root, out = tmp_path / "root", tmp_path / "out"
    for name in ("a", "b"):
        shutil.copytree(street, root / name)
    assert main(["track", str(root), "--out", str(out)]) == 0
    assert sorted(p.name for p in out.glob("*.txt")) == ["a.txt", "b.txt"]
    (out / "b.txt").unlink()
    before = (out / "a.txt").stat().st_mtime_ns
    assert main(["track", str(root), "--out", str(out), "--resume"]) == 0
    assert "a: already done" in capsys.readouterr().out
    assert (out / "a.txt").stat().st_mtime_ns == before
    assert (out / "b.txt").is_file()
    main(["track", str(root), "--out", str(out), "--resume", "--set", "max_age=3"])
    assert "already done" not in capsys.readouterr().out  # other settings, another result


def test_resuming_takes_nothing_else_for_done(street, tmp_path, capsys):
    """Another source of that name, a changed file of detections, a damaged record."""
    other = shutil.copytree(street, tmp_path / "other" / "street")
    out = tmp_path / "out"
    resume = ["--out", str(out), "--resume", "--no-score"]
    main(["track", str(street), *resume])
    for change in (
        lambda: str(other),
        lambda: (other / "det" / "det.txt").write_text("1,-1,10,10,20,20,1,-1,-1,-1\n"),
        lambda: (out / "run.json").write_text('{"street": 3}'),
        lambda: (out / "run.json").write_text("{"),
    ):
        change()
        capsys.readouterr()
        assert main(["track", str(other), *resume]) == 0
        assert "already done" not in capsys.readouterr().out
    main(["track", str(other), *resume])
    assert "already done" in capsys.readouterr().out


def test_a_result_that_was_begun_anew_is_not_done(street, tmp_path, capsys, monkeypatch):
    """A later run that is killed in the middle leaves a part, and nothing of the first beside."""
    resume = ["--out", str(tmp_path), "--resume", "--no-score"]
    main(["track", str(street), "--jsonl", *resume])
    with monkeypatch.context() as killed:
        killed.setattr("tools.track.time.perf_counter", lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            main(["track", str(street), "--set", "max_age=3", *resume])
    assert not (tmp_path / "street.jsonl").exists()
    capsys.readouterr()
    main(["track", str(street), "--jsonl", *resume])
    assert "already done" not in capsys.readouterr().out


def test_another_encoder_of_that_name_is_another_result(street, tmp_path, capsys):
    look = tmp_path / "look.safetensors"
    shutil.copyfile(encoder_file("default"), look)
    flags = ["--tracker", "deepsort", "--encoder", str(look), "--no-score"]
    resume = [*flags, "--out", str(tmp_path / "out"), "--resume"]
    main(["track", str(street), *resume])
    main(["track", str(street), *resume])
    assert "already done" in capsys.readouterr().out
    os.utime(look, (1, 1))
    main(["track", str(street), *resume])
    assert "already done" not in capsys.readouterr().out


def test_what_is_done_is_shown_where_a_later_source_breaks(street, tmp_path, capsys):
    broken = shutil.copytree(street, tmp_path / "zebra")
    (broken / "img1" / "000009.jpg").write_bytes(b"no picture")
    arguments = ["--tracker", "deepsort", "--out", str(tmp_path / "out")]
    code = main(["track", str(street), str(broken), *arguments])
    shown = capsys.readouterr()
    assert code == 1
    assert "000009.jpg" in shown.err
    assert shown.err.count("\n") == 1
    assert "HOTA" in shown.out
    assert read_boxes(tmp_path / "out" / "zebra.txt").last_frame <= 8


def test_a_reader_that_goes_is_no_failure(street):
    command = f"{sys.executable} -m tools.cli info {street} | head -1; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("trackvae 0.")


def test_a_sequence_without_images_is_tracked_from_its_detections(street, own, tmp_path):
    shutil.rmtree(own / "img1")
    assert main(["track", str(own), "--out", str(tmp_path / "out")]) == 0
    with_images = tmp_path / "with"
    assert main(["track", str(street), "--out", str(with_images)]) == 0
    results = [(folder / "street.txt").read_text() for folder in (tmp_path / "out", with_images)]
    assert results[0] == results[1] != ""


def test_refinement_fills_gaps(street, tmp_path):
    for name, more in (("plain", []), ("refined", ["--interpolate", "5", "--smooth"])):
        settings = ["--set", "max_age=5", "min_hits=1"]
        main(["track", str(street), "--out", str(tmp_path / name), *settings, *more])
    plain, refined = (read_boxes(tmp_path / n / "street.txt") for n in ("plain", "refined"))
    assert set(plain.ids) == set(refined.ids)
    assert len(refined) > len(plain)
    for identity in set(refined.ids):
        gaps = np.diff(refined.frames[refined.ids == identity]) - 1
        assert ((gaps == 0) | (gaps > 5)).all()


def test_the_demo_makes_what_it_says(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path), "--frames", "20"]) == 0
    shown = capsys.readouterr().out
    for name in ("trackvae/street.mp4", "contact-sheet.png"):
        assert str(tmp_path / name) in shown
        assert (tmp_path / name).stat().st_size > 1000
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"sort", "deepsort", "trackvae"}


# --- bad input: one clear line, the right exit code


BAD_LINES = {
    "a word": ("3,-1,10,ten,5,5,1,-1,-1,-1", "det.txt:2: column 4 is 'ten', expected a number"),
    "too few columns": ("3,-1,10", "det.txt:2: 3 columns, the lines before have 10"),
    "not a number": ("3,-1,10,nan,5,5,1,-1,-1,-1", "det.txt:2: column 4 is nan"),
    "infinite": ("3,-1,10,inf,5,5,1,-1,-1,-1", "det.txt:2: column 4 is inf"),
    "negative size": ("3,-1,10,10,-5,5,1,-1,-1,-1", "det.txt:2: negative width or height"),
    "frame zero": ("0,-1,10,10,5,5,1,-1,-1,-1", "det.txt:2: frame is 0; frames count from 1"),
    "half a frame": ("1.5,-1,10,10,5,5,1,-1,-1,-1", "det.txt:2: frame is 1.5, expected a whole"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_malformed_line_is_named(own, tmp_path, capsys, name):
    line, message = BAD_LINES[name]
    (own / "det" / "det.txt").write_text(f"1,-1,10,10,5,5,1,-1,-1,-1\n{line}\n")
    code, error = said(capsys, "track", own, "--out", tmp_path / "out")
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


BAD_TRACK = {
    # arguments ({} the sequence), exit code, what the line says
    "no such source": (["nowhere"], 1, "nowhere: no such file or folder"),
    "no source": ([], 2, "no source given"),
    "unknown preset": (["{}", "--tracker", "srot"], 2, "no tracker 'srot' (did you mean 'sort'?)"),
    "unknown flag": (["{}", "--frobnicate"], 2, "Unrecognized options: --frobnicate"),
    "unknown setting": (["{}", "--set", "max_aeg=3"], 2, "no setting 'max_aeg' (did you mean 'max"),
    "wrong value": (["{}", "--set", "max_age=old"], 2, "max_age is 'old', expected a number"),
    "not a setting": (["{}", "--set", "max_age"], 2, "is not of the form name=value"),
    "unknown detector": (["{}", "--detector", "yolo"], 2, "no detector 'yolo'"),
    "detector setting": (["{}", "--detector-set", "scroe=1"], 2, "no setting 'scroe'"),
    "no model": (["{}", "--detector", "onnx:none.onnx"], 1, "none.onnx: no such file"),
    "no detections": (["{}", "--detections", "none.txt"], 1, "none.txt: no such file"),
    "both": (["{}", "--detector", "motion", "--detections", "x"], 2, "not both"),
    "same name": (["{}", "{}"], 2, "two sources are called street"),
    "one is missing": (["{}", "nowhere"], 1, "nowhere: no such file or folder"),
    "negative gap": (["{}", "--interpolate", "-3"], 2, "--interpolate is -3, expected 0 or more"),
    "no rate": (["{}", "--frame-rate", "0"], 2, "--frame-rate is 0.0, expected 0.001 to 10000"),
    "endless rate": (["{}", "--frame-rate", "inf"], 2, "--frame-rate is inf, expected"),
}


@pytest.mark.parametrize("name", BAD_TRACK)
def test_what_track_says(street, tmp_path, capsys, name):
    arguments, expected, message = BAD_TRACK[name]
    given = [a.format(street) for a in arguments]
    code, error = said(capsys, "track", *given, "--out", tmp_path / "out", "--no-score")
    assert not list((tmp_path / "out").glob("*"))  # told before anything is tracked
    assert message in error
    assert error.count("\n") == 1
    assert code == expected


def test_a_missing_image_is_named(own, tmp_path, capsys):
    (own / "img1" / "000007.jpg").unlink()
    code, error = said(capsys, "track", own, "--out", tmp_path / "out", "--video")
    assert code == 1
    assert "000007.jpg: this image is missing" in error
    assert error.count("\n") == 1


def test_a_preset_that_needs_images_says_so(own, tmp_path, capsys):
    shutil.rmtree(own / "img1")
    code, error = said(capsys, "track", own, "--out", tmp_path / "out", "--tracker", "botsort")
    assert code == 2
    assert "it has no images, and botsort compensates the camera's motion" in error


def test_appearance_without_images_or_features_is_told_before_anything_is_written(
    own, tmp_path, capsys
):
    shutil.rmtree(own / "img1")
    code, error = said(capsys, "track", own, "--out", tmp_path / "out", "--tracker", "deepsort")
    assert code == 2
    assert "deepsort compares appearances" in error
    assert not list((tmp_path / "out").glob("*.txt"))


@pytest.mark.parametrize("content", [b"", b"RIFF, but then nothing"], ids=["empty", "broken"])
def test_a_video_that_is_none(tmp_path, capsys, content):
    video = tmp_path / "clip.mp4"
    video.write_bytes(content)
    code, error = said(capsys, "track", video, "--detector", "motion", "--out", tmp_path / "out")
    assert code == 1
    assert "clip.mp4: " in error
    assert error.count("\n") == 1


def test_a_truncated_video_keeps_what_was_tracked(street, tmp_path, capsys):
    main(["track", str(street), "--out", str(tmp_path), "--video"])
    whole = (tmp_path / "street.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: int(len(whole) * 0.7)])
    capsys.readouterr()
    code, error = said(
        capsys, "track", cut, "--detector", "motion", "--out", tmp_path, "--set", "min_hits=1"
    )
    assert code == 1
    assert "cut.mp4: " in error
    assert error.count("\n") == 1
    if (tmp_path / "cut.txt").exists():
        read_boxes(tmp_path / "cut.txt", unique_ids=True)


def test_an_output_that_cannot_be_written(street, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    code, error = said(capsys, "track", street, "--out", tmp_path / "file")
    assert code == 1
    assert "cannot be written" in error
    assert (tmp_path / "file").read_text() == "in the way"


def test_results_without_ground_truth(street, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("")
    code, error = said(capsys, "eval", street.parent, tmp_path)
    assert code == 1
    assert "results without ground truth: other" in error
    assert error.count("\n") == 1


def test_an_id_that_stands_twice_in_a_frame(street, tmp_path, capsys):
    results = tmp_path / "street.txt"
    results.write_text("1,4,10,10,5,5,1,-1,-1,-1\n1,4,20,20,5,5,1,-1,-1,-1\n")
    code, error = said(capsys, "eval", street, results)
    assert code == 1
    assert "street.txt:2: id 4 stands twice in frame 1" in error


def test_detections_out_of_order_give_the_same_tracks(own, tmp_path):
    """They are sorted; ``trackvae info`` tells that they were not."""
    main(["track", str(own), "--out", str(tmp_path / "sorted")])
    file = own / "det" / "det.txt"
    lines = file.read_text().splitlines()
    order = np.argsort([-int(line.split(",")[0]) for line in lines], kind="stable")
    file.write_text("\n".join(lines[i] for i in order))
    main(["track", str(own), "--out", str(tmp_path / "mixed")])
    first, second = ((tmp_path / n / "street.txt").read_text() for n in ("sorted", "mixed"))
    assert first == second


# --- being stopped


def long_sequence(street, folder, frames=200_000):
    """Detections for much more time than a test waits."""
    (folder / "det").mkdir(parents=True)
    lines = (street / "det" / "det.txt").read_text().splitlines()
    columns = [line.split(",", 1)[1] for line in lines if line.startswith("1,")]
    with (folder / "det" / "det.txt").open("w") as file:
        for frame in range(1, frames + 1):
            file.writelines(f"{frame},{rest}\n" for rest in columns)
    return folder


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_stopping_leaves_a_valid_file(street, tmp_path, how):
    source = long_sequence(street, tmp_path / "long")
    arguments = ["track", str(source), "--out", str(tmp_path / "out"), "--jsonl"]
    process = start_python("-m", "tools.cli", *arguments)
    result = tmp_path / "out" / "long.txt"
    deadline = time.monotonic() + 60
    while not (result.exists() and result.stat().st_size > 20_000):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, how)
    _, error = process.communicate(timeout=30)
    table = read_boxes(result, unique_ids=True)
    assert 0 < table.last_frame < 200_000
    for line in (tmp_path / "out" / "long.jsonl").read_text().splitlines():
        json.loads(line)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted" in error
        assert "Traceback" not in error


# --- staying light


@pytest.mark.parametrize("arguments", [["--help"], ["track", "--help"], ["eval", "{}", "{}"]])
def test_help_and_eval_import_neither_torch_nor_video_libraries(street, tmp_path, arguments):
    given = [str(street / "gt" / "gt.txt") if a == "{}" else a for a in arguments]
    code = (
        "import sys, tools.cli\n"
        "try:\n    tools.cli.main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'cv2', 'av', 'supervision', 'onnxruntime', 'faiss', 'pandas'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *given], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr

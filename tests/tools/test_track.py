"""``trackvae track`` with calibrated looks: what it says, and what it refuses."""

import json
import math
import shutil

import pytest

from tools.cli import main
from tools.track import _said_of_scores
from tracker.evaluation import evaluate
from tracker.io.mot import read_boxes, write_boxes
from tracker.synthetic import Scene, SceneConfig


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A made sequence, long enough to calibrate on. Not to be changed."""
    scene = Scene(SceneConfig(width=320, height=180, frames=60, figures=6, density=1.0))
    return scene.write(tmp_path_factory.mktemp("made") / "street")


def track(capsys, source, out, *arguments):
    """Exit code, what was printed, and what was printed on stderr."""
    code = main(["track", str(source), "--out", str(out), "--no-score", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("name", ["trackvae", "fmvae-sort"])
def test_the_threshold_that_was_found_is_shown(street, tmp_path, capsys, name):
    code, out, _ = track(capsys, street, tmp_path, "--tracker", name)
    metric = "cosine" if name == "trackvae" else "squared Euclidean"
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("street: looks"))
    assert f"more likely one object's up to a {metric} distance of 0." in line
    assert ("scores are high from" in line) == (name == "trackvae")
    assert len(read_boxes(tmp_path / "street.txt", unique_ids=True))


def test_too_short_a_video_is_tracked_by_motion_and_says_so(street, tmp_path, capsys):
    code, out, _ = track(capsys, street, tmp_path, "--tracker", "trackvae", "--calibrate", "5")
    assert code == 0
    assert "street: by motion alone at first: too little to calibrate appearance" in out


def test_no_rehearsal_leaves_it_to_the_tracker(street, tmp_path, capsys):
    code, out, _ = track(capsys, street, tmp_path, "--tracker", "trackvae", "--calibrate", "0")
    assert code == 0
    assert "street: calibrates itself after 75 frames" in out


def test_trackvae_without_an_encoder_needs_no_images(street, tmp_path, capsys):
    bare = tmp_path / "street"
    shutil.copytree(street, bare)
    shutil.rmtree(bare / "img1")
    code, out, _ = track(
        capsys, bare, tmp_path / "out", "--tracker", "trackvae", "--encoder", "none"
    )
    assert code == 0
    assert "street: looks say nothing here; scores are high from" in out
    code, _, error = track(capsys, bare, tmp_path / "other", "--tracker", "fmvae-sort")
    assert code == 2
    assert "fmvae-sort compares appearances" in error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--calibrate", "-1"], 2, "--calibrate is -1, expected 0 or more frames"),
        (["--encoder", "colour-strips"], 2, "did you mean 'colour-stripes'"),
        (["--encoder", "missing.safetensors"], 1, "missing.safetensors: no such file"),
        (["--set", "reid_probability=2"], 2, "reid_probability is 2, expected 0.001 to 0.999999"),
    ],
)
def test_what_cannot_be(street, tmp_path, capsys, arguments, code, message):
    got, _, error = track(capsys, street, tmp_path, "--tracker", "trackvae", *arguments)
    assert got == code
    assert message in error
    assert error.count("\n") == 1


def test_an_encoder_that_nothing_asks_for_is_looked_up_all_the_same(street, tmp_path, capsys):
    code, _, error = track(capsys, street, tmp_path, "--tracker", "sort", "--encoder", "nonsense")
    assert code == 2
    assert "nonsense" in error
    code, out, _ = track(capsys, street, tmp_path, "--tracker", "sort", "--encoder", "raw-pixels")
    assert code == 0
    assert "--encoder raw-pixels: nothing asks for it here" in out


# --- re-linking


@pytest.fixture(scope="module")
def gaps(tmp_path_factory):
    """A made sequence whose detector is blind for ten frames in forty. Not to be changed."""
    scene = Scene(SceneConfig(width=320, height=180, frames=120, figures=6, density=1.0))
    folder = scene.write(tmp_path_factory.mktemp("made") / "gaps")
    det = folder / "det" / "det.txt"
    seen = read_boxes(det)
    write_boxes(det, seen.select(seen.frames % 40 < 30))
    return folder


def idf1(folder, tracks):
    truth = folder / "gt" / "gt.txt"
    return evaluate({"gaps": truth}, {"gaps": tracks / "gaps.txt"}).combined.to_dict()["IDF1"]


def test_relinking_mends_broken_tracks_in_every_file(gaps, tmp_path, capsys):
    plain, joined = tmp_path / "plain", tmp_path / "joined"
    track(capsys, gaps, plain)
    code, out, _ = track(capsys, gaps, joined, "--relink", "--jsonl", "--video")
    assert code == 0
    before, after = (read_boxes(to / "gaps.txt", unique_ids=True) for to in (plain, joined))
    assert (before.boxes == after.boxes).all()
    names = set(after.ids.tolist())
    assert f"gaps: {before.ids.max()} tracks, {len(names)} after re-linking" in out
    assert idf1(gaps, joined) > idf1(gaps, plain) + 20  # 60.7 against 29.7
    lines = [json.loads(line) for line in (joined / "gaps.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(1, 121))
    told = [(line["frame"], one["id"]) for line in lines for one in line["tracks"]]
    assert sorted(told) == sorted(zip(after.frames.tolist(), after.ids.tolist(), strict=True))
    assert (joined / "gaps.mp4").stat().st_size > 1000
    assert json.loads((joined / "run.json").read_text())["gaps"]["tracks"] == len(names)


def test_gaps_are_filled_between_joined_tracks(gaps, tmp_path, capsys):
    track(capsys, gaps, tmp_path / "joined", "--relink")
    track(capsys, gaps, tmp_path / "filled", "--relink", "--interpolate", "20")
    joined, filled = (
        read_boxes(tmp_path / name / "gaps.txt", unique_ids=True) for name in ("joined", "filled")
    )
    blind = joined.frames % 40 >= 30
    assert not blind.any()
    assert (filled.frames % 40 >= 30).any()
    assert set(filled.ids.tolist()) == set(joined.ids.tolist())


def test_a_relinked_run_is_resumed_only_as_such(gaps, tmp_path, capsys):
    track(capsys, gaps, tmp_path)
    _, out, _ = track(capsys, gaps, tmp_path, "--resume", "--relink")
    assert "already done" not in out
    joined = (tmp_path / "gaps.txt").read_bytes()
    _, out, _ = track(capsys, gaps, tmp_path, "--resume", "--relink")
    assert "gaps: already done" in out
    assert (tmp_path / "gaps.txt").read_bytes() == joined


def test_relinking_nothing_is_no_error(gaps, tmp_path, capsys):
    empty = shutil.copytree(gaps, tmp_path / "gaps")
    (empty / "det" / "det.txt").write_text("")
    code, out, _ = track(capsys, empty, tmp_path / "out", "--relink", "--jsonl")
    assert code == 0
    assert "gaps: 0 tracks, 0 after re-linking" in out
    assert (tmp_path / "out" / "gaps.txt").read_text() == ""
    assert len((tmp_path / "out" / "gaps.jsonl").read_text().splitlines()) == 120


def test_relinking_without_looks_is_refused(gaps, tmp_path, capsys):
    code, _, error = track(capsys, gaps, tmp_path, "--relink", "--encoder", "none")
    assert code == 2
    assert "--relink compares looks: give --encoder something other than none" in error
    bare = shutil.copytree(gaps, tmp_path / "bare")
    shutil.rmtree(bare / "img1")
    code, _, error = track(capsys, bare, tmp_path / "out", "--relink")
    assert code == 2
    assert "bare: it has no images, and --relink compares looks" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("least", "said"),
    [
        (-3.14, "all scores are high"),  # of motion's scores in [0, 1], where all are linked
        (-math.inf, "all scores are high"),  # the scores say nothing
        (0.4, "scores are high from 0.4"),
        (1.2, "no score is high"),
    ],
)
def test_a_threshold_outside_the_scores_is_said_in_words(least, said):
    assert _said_of_scores(least, 0.1, 0.9) == said

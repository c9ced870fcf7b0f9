"""``trackvae track`` with calibrated looks: what it says, and what it refuses."""

import shutil

import pytest

from tools.cli import main
from tracker.io.mot import read_boxes
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

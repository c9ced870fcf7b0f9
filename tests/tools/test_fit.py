"""``trackvae fit``: crops seen in one pass, being killed and going on, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from reid.descriptors import ColourStripes
from tests.processes import start_python
from tools.cli import main
from tools.fit import run as fit_run
from tools.fit.command import Fit
from tools.fit.learning import LearnOptions
from tools.fit.observe import observe, read_observed
from tools.reid_eval.sequences import describe, tracklets_of
from tracker.pipeline import open_source
from tracker.synthetic import Scene, SceneConfig
from trackvae.appearance import read_appearance_model
from trackvae.storage import load
from training import trainer

torch.set_num_threads(1)

FRAMES, STEPS = 40, 96
LASTING = ("encoder.safetensors", "model.safetensors")
# The state is kept every 250 steps; here oftener.
_OFTENER = """
from training import trainer
config = trainer.TrainConfig
trainer.TrainConfig = lambda *some, **more: config(*some, **more | {"checkpoint_every": 10})
"""


@pytest.fixture(autouse=True, scope="module")
def _state_is_kept_oftener():
    before = trainer.TrainConfig
    exec(_OFTENER, {})  # as in the processes below
    yield
    trainer.TrainConfig = before


@pytest.fixture(scope="session")
def streets(tmp_path_factory):
    """Two made sequences, the second with a video in place of images. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    config = SceneConfig(width=320, height=180, frames=FRAMES, figures=5, density=1.0)
    first = Scene(config).write(folder / "first")
    second = Scene(replace(config, seed=1)).write(folder / "second", images="mp4")
    return first, second


def fit(videos, out, *more, steps=STEPS):
    given = [str(video) for video in videos]
    return main(["fit", *given, "--out", str(out), "--steps", str(steps), *more])


def said(capsys, *arguments, **more):
    """Exit code and what was printed on stderr."""
    capsys.readouterr()
    code = fit(*arguments, **more)
    return code, capsys.readouterr().err


def account_of(out):
    return json.loads((out / "fit.json").read_text())


@pytest.fixture(scope="session")
def whole(streets, tmp_path_factory):
    """A run that nothing disturbed, and what it said. Not to be changed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_run, "_say", lines.append)
        assert fit(streets, out) == 0
    return out, "\n".join(lines)


# --- what is observed


def test_one_pass_sees_what_linking_first_and_describing_then_does(streets):
    descriptor = ColourStripes(bins=2)
    for street in streets:
        opened = open_source(street)
        found = observe(opened, descriptor)
        expected = tracklets_of(opened.source)
        (features,) = describe(opened.source, descriptor, [expected])
        for name in ("frames", "boxes", "ids"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.features.dtype == np.float16
        np.testing.assert_array_equal(found.features, features.astype(np.float16))


def test_too_many_crops_are_thinned_by_whole_frames_at_even_distances(streets):
    descriptor, opened = ColourStripes(bins=2), open_source(streets[0])
    everything = observe(opened, descriptor)
    for most, stride in ((len(everything.ids), 1), (len(everything.ids) - 1, 2), (30, 8)):
        some = observe(opened, descriptor, most=most * descriptor.dim)
        kept = everything.frames % stride == 0
        assert kept.sum() <= most
        for name in ("frames", "boxes", "ids", "features"):
            np.testing.assert_array_equal(getattr(some, name), getattr(everything, name)[kept])


# --- the main job


def test_a_run_leaves_an_encoder_a_model_and_an_account(streets, whole):
    out, lines = whole
    account, encoder = account_of(out), read_appearance_model(out / "encoder.safetensors")
    assert account["finished"]
    assert set(account["seconds"]) == {"observe", "join", "train"}
    assert encoder.card["videos"] == [street.name for street in streets]
    for name in ("crops", "tracklets", "objects", "kappa_met_at"):
        assert encoder.card[name] == account["made"][name]
    assert encoder.card["seed"] == 0
    assert encoder.card["options"]["steps"] == STEPS
    observed = [read_observed(out / f"observed-{n}.npz", encoder.feature_dim) for n in (1, 2)]
    assert encoder.card["tracklets"] == sum(len(set(one.ids.tolist())) for one in observed)
    assert f"{observed[1].name}: {len(observed[1].ids)} crops" in lines
    assert f"kappa met at step {account['made']['kappa_met_at']}" in lines
    assert f"--encoder {out}" in lines


def test_the_encoder_is_the_models_and_embeds_crops(whole):
    out, _ = whole
    encoder = read_appearance_model(out / "encoder.safetensors")
    model, config = load(out / "model.safetensors")
    observed = read_observed(out / "observed-1.npz", encoder.feature_dim)
    mean, variance = encoder.posterior(observed.features.astype(np.float32))
    assert mean.shape == variance.shape == (len(observed.ids), config.latent)
    with torch.no_grad():
        x = torch.from_numpy(encoder.whiten(observed.features.astype(np.float32)))
        expected = model.encode(x)
    np.testing.assert_allclose(mean, expected.mean.numpy(), atol=1e-4)
    np.testing.assert_allclose(variance, expected.log_var.exp().numpy(), rtol=1e-3)


def test_nearest_embeddings_of_other_moments_are_of_the_same_tracklet(whole):
    out, _ = whole
    encoder = read_appearance_model(out / "encoder.safetensors")
    observed = read_observed(out / "observed-1.npz", encoder.feature_dim)
    mean, _ = encoder.posterior(observed.features.astype(np.float32))
    apart = np.linalg.norm(mean[:, None] - mean[None], axis=2)
    apart[np.abs(observed.frames[:, None] - observed.frames[None]) < 10] = np.inf
    hit = observed.ids[apart.argmin(axis=1)] == observed.ids
    once = np.isfinite(np.where(observed.ids[:, None] == observed.ids, apart, np.inf)).any(axis=1)
    assert once.sum() > 50
    assert hit[once].mean() > 0.9


def test_a_kappa_that_was_not_met_is_told(streets, tmp_path, capsys):
    code, error = said(capsys, streets[:1], tmp_path / "run", steps=3)
    assert code == 0
    assert error.startswith("warning: kappa was not met in 3 steps")
    assert error.count("\n") == 1
    assert read_appearance_model(tmp_path / "run" / LASTING[0]).card["kappa_met_at"] is None


def test_a_finished_run_is_left_alone(streets, whole, tmp_path, capsys):
    out = shutil.copytree(whole[0], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in out.glob("*")}
    capsys.readouterr()
    assert fit(streets, out) == 0
    assert "this run is finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.glob("*")} == before


def test_the_steps_of_the_command_are_those_of_learning():
    assert Fit((), out="").steps == LearnOptions().steps


# --- being stopped

# What a process does to itself, and what it has left behind.
_KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from tools.fit import run
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
{}{}
from tools.cli import main
main(sys.argv[1:])
"""
_OBSERVING = """
observe = run.observe
def killed(source, descriptor, *, most, on_frame):
    second = source.source.name == "second"
    look = lambda frame, crops: kill() if second and frame == 30 else on_frame(frame, crops)
    return observe(source, descriptor, most=most, on_frame=look)
run.observe = killed
"""
_LEARNING = """
note = run._note
run._note = lambda report: kill() if report.step == 94 else note(report)
"""
KILLS = {
    # where, what it has left
    "observing": (_OBSERVING, {"observed-1.npz"}),
    "learning": (_LEARNING, {"observed-1.npz", "observed-2.npz", "state.safetensors"}),
}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("where", KILLS)
def test_a_killed_run_goes_on_to_the_same_bytes(streets, whole, tmp_path, monkeypatch, where):
    code, left = KILLS[where]
    out = tmp_path / "run"
    arguments = [*map(str, streets), "--out", str(out), "--steps", str(STEPS)]
    process = start_python("-c", _KILLED.format(_OFTENER, code), "fit", *arguments)
    _, error = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, error
    assert {path.name for path in out.glob("[!.]*")} == {"fit.json"} | left
    observed, steps, lines = [], [], []
    original, note = fit_run.observe, fit_run._note

    def observe_again(source, *rest, **more):
        observed.append(source.source.name)
        return original(source, *rest, **more)

    monkeypatch.setattr(fit_run, "observe", observe_again)
    monkeypatch.setattr(fit_run, "_note", lambda report: steps.append(report.step) or note(report))
    monkeypatch.setattr(fit_run, "_say", lines.append)
    assert fit(streets, out) == 0
    assert observed == ([] if "observed-2.npz" in left else ["second"])
    assert any(line.endswith("observed before") for line in lines)
    assert steps[0] == (91 if where == "learning" else 1)
    for name in LASTING:
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()


def test_ctrl_c_is_told_in_one_line(streets, tmp_path, monkeypatch, capsys):
    note = fit_run._note

    def pressed(report):
        if report.step == 12:
            os.kill(os.getpid(), signal.SIGINT)
        return note(report)

    out = tmp_path / "run"
    monkeypatch.setattr(fit_run, "_note", pressed)
    # a shell that starts the tests in the background has them ignore Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, error = said(capsys, streets, out)
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert error == f"\ninterrupted; the same command goes on from here ({out})\n"
    left = {"fit.json", "observed-1.npz", "observed-2.npz", "state.safetensors"}
    assert {path.name for path in out.iterdir()} == left
    assert set(account_of(out)["seconds"]) == {"observe", "join", "train"}


def interrupted(*_, **__):
    raise KeyboardInterrupt


def begun(streets, whole, out):
    """A run whose crops are observed, and nothing more."""
    out.mkdir()
    account = account_of(whole[0]) | {"finished": False, "seconds": {}}
    (out / "fit.json").write_text(json.dumps(account))
    for number in range(1, len(streets) + 1):
        shutil.copy(whole[0] / f"observed-{number}.npz", out)
    return out


def test_damaged_crops_are_observed_again(streets, whole, tmp_path, monkeypatch):
    out = begun(streets, whole, tmp_path / "run")
    crops = out / "observed-1.npz"
    as_they_were = crops.read_bytes()
    crops.write_bytes(as_they_were[:-100])
    monkeypatch.setattr(fit_run, "join", interrupted)
    assert fit(streets, out) == 130
    assert crops.read_bytes() == as_they_were


def test_a_run_that_came_to_nothing_leaves_its_folder_free(streets, tmp_path, monkeypatch, capsys):
    nothing = tmp_path / "nothing.txt"
    nothing.write_text("")
    out = tmp_path / "run"
    code, _ = said(capsys, streets[:1], out, "--detector", f"file:{nothing}")
    assert code == 1
    monkeypatch.setattr(fit_run, "join", interrupted)
    assert fit(streets[:1], out) == 130
    assert (out / "observed-1.npz").is_file()


# --- how long it will take


class Clock:
    """Time that passes only when it is told to."""

    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(fit_run, "time", made)
    monkeypatch.setattr(fit_run, "_pace", lambda: 2.0)
    return made


def forecast(clock, lengths, *, first=1, known=0, steps=1000):
    """What is said of 0.05 s and 4 crops a frame, where the crops begin in that frame."""
    made = fit_run._Forecast(lengths, known, most=6000, steps=steps)
    for frame in range(1, 301):
        clock.now += 0.05
        made.frame(frame, max(0, 4 * (frame - first + 1)))
    made.observed(1234)


# By hand: at a pace of 2, 4,232 crops are joined in 56 s, 6,000 in 113 s, 1,000 steps take 24 s.
SAID = {
    # lengths, first frame with crops, known; what is said
    "one": ([1058], 1, 0, "this will take about 2 minutes: 1058 frames at 50 ms"),
    "late": ([1058], 90, 0, "about 2 minutes: 1058 frames at 50 ms, joining tracklets and 1000"),
    "two": ([400, 658], 1, 0, "about 2 minutes: 1058 frames at 50 ms"),
    "many": ([36000], 1, 0, "about 32 minutes: 36000 frames at 50 ms"),
    "never": ([1058], 10**9, 0, "about 1 minute: 1058 frames at 50 ms"),
    "unknown": ([None], 1, 0, "50 ms a frame; after the last one about 2 minutes for joining"),
    "short": ([], 1, 4232, "less than a minute: joining tracklets and 1000 steps"),
}


@pytest.mark.parametrize("name", SAID)
def test_the_minutes_are_told_once(clock, monkeypatch, name):
    lengths, first, known, message = SAID[name]
    lines = []
    monkeypatch.setattr(fit_run, "_say", lines.append)
    if lengths:
        forecast(clock, lengths, first=first, known=known)
    else:
        fit_run._Forecast([], known, most=6000, steps=1000).observed(1234)
    assert len(lines) == 1
    assert message in lines[0]


# --- bad input


def no_detections(street):
    (street / "det" / "det.txt").unlink()


def empty_detections(street):
    (street / "det" / "det.txt").write_text("")


def lonely_detections(street):
    rows = [f"{n},-1,{40 * (n % 5)},{30 * (n % 4)},9,9,0.9,-1,-1,-1\n" for n in range(9, FRAMES)]
    (street / "det" / "det.txt").write_text("".join(rows))


def outside(street):
    rows = [f"{n},-1,-90,-90,40,40,0.9,-1,-1,-1\n" for n in range(1, FRAMES)]
    (street / "det" / "det.txt").write_text("".join(rows))


def no_images(street):
    shutil.rmtree(street / "img1")


def broken_image(street):
    (street / "img1" / "000020.jpg").write_bytes(b"no picture")


def too_short(street):
    path = street / "det" / "det.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if int(line.split(",")[0]) <= 3))


def nothing_done(street):
    pass


BAD = {
    # what is done to the sequence, flags, exit code, what the line says
    "no det.txt": (no_detections, [], 2, "it has no det/det.txt, so say what finds the objects"),
    "no detections": (empty_detections, [], 1, "no detections in it"),
    "nothing to link": (lonely_detections, [], 1, "31 detections, and nothing that motion alone"),
    "outside": (outside, [], 1, "39 detections, and nothing that motion alone"),
    "no images": (no_images, [], 1, "it has no images or video to cut crops from"),
    "broken image": (broken_image, [], 1, "000020.jpg"),
    "too little": (too_short, [], 1, "too short to learn from"),
    "detector": (nothing_done, ["--detector", "motoin"], 2, "did you mean 'motion'?"),
    "setting": (nothing_done, ["--detector-set", "score"], 2, "not of the form name=value"),
    "no file": (nothing_done, ["--detector", "file:none.txt"], 1, "none.txt: no such file"),
    "steps": (nothing_done, ["--steps", "0"], 2, "--steps is 0, expected 1 or more"),
    "seed": (nothing_done, ["--seed", "-1"], 2, "--seed is -1, expected 0 to"),
    "rate": (nothing_done, ["--frame-rate", "0"], 2, "--frame-rate is 0.0, expected 0.001 to"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_one_line(streets, tmp_path, capsys, name):
    harm, flags, expected, message = BAD[name]
    street = shutil.copytree(streets[0], tmp_path / "street")
    harm(street)
    code, error = said(capsys, [street], tmp_path / "out", *flags)
    assert message in error
    assert error.count("\n") == 1
    assert code == expected


def test_a_missing_video_and_one_file_for_two(streets, tmp_path, capsys):
    code, error = said(capsys, [tmp_path / "none.mp4"], tmp_path / "out")
    assert (code, error.count("\n")) == (1, 1)
    assert "none.mp4: no such file or folder" in error
    code, error = said(capsys, streets, tmp_path / "out", "--detector", "file:det.txt")
    assert (code, error.count("\n")) == (2, 1)
    assert "is one file for several videos" in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_one_is_told_before_the_work(
    streets, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(fit_run, "observe", interrupted)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.safetensors").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "fit.json").write_text('{"command": "train"}')
    for name, message in {
        "file": "not a folder",
        "file/run": "not a folder",
        "theirs": "holds files of another run and no fit.json",
        "other": "fit.json: not of trackvae fit",
    }.items():
        code, error = said(capsys, streets, tmp_path / name)
        assert (code, error.count("\n")) == (1, 1)
        assert message in error
    assert (tmp_path / "file").read_text() == (tmp_path / "theirs/model.safetensors").read_text()


def fewer(streets, _):
    return streets[:1]


def in_another_order(streets, _):
    return streets[::-1]


OTHER = {
    # the videos, flags, what the line says
    "seed": (None, ["--seed", "1"], "(seed is 0, here 1)"),
    "steps": (None, ["--steps", "500"], f"(steps is {STEPS}, here 500)"),
    "detector": (None, ["--detector", "motion"], "(video 1's detector file is"),
    "number": (fewer, [], "(the number of videos is 2, here 1)"),
    "order": (in_another_order, [], "(video 1's name is first, here second)"),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_run_in_the_folder_is_told(streets, whole, tmp_path, capsys, name):
    change, flags, message = OTHER[name]
    out = begun(streets, whole, tmp_path / "run")
    videos = change(streets, tmp_path) if change else streets
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, error = said(capsys, videos, out, *flags)
    assert message in error
    assert error.count("\n") == 1
    assert code == 2
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_detections_that_changed_make_another_run(streets, tmp_path, monkeypatch, capsys):
    street = shutil.copytree(streets[0], tmp_path / "street")
    monkeypatch.setattr(fit_run, "join", interrupted)
    assert fit([street], tmp_path / "run") == 130
    with (street / "det" / "det.txt").open("a") as file:
        file.write("1,-1,1,1,9,9,0.9,-1,-1,-1\n")
    code, error = said(capsys, [street], tmp_path / "run")
    assert (code, error.count("\n")) == (2, 1)
    assert "video 1's detector content is" in error


def test_without_torch_one_line_says_what_to_install(streets, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, error = said(capsys, streets, tmp_path / "out")
    assert (code, error.count("\n")) == (1, 1)
    assert "trackvae fit needs torch" in error
    assert "pip install 'trackvae[torch]'" in error
    assert not (tmp_path / "out").exists()

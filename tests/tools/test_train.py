"""``trackvae train``: what it writes, being stopped and going on, what it says of bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from tools.cli import main
from tools.data import DataFlags, open_data
from tools.train import run as training_run
from tools.train.plan import ModelFlags, ObjectiveFlags, kappa_of, make_plan
from tracker.synthetic import Scene, SceneConfig
from trackvae.config import build
from trackvae.errors import UsageError
from trackvae.storage import load
from training.data.dataset import DataSet
from training.data.pendulum import pendulum
from training.schedules import GECO, REWO, FixedBeta, WarmUp
from training.trainer import TrainConfig

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """240 pendulum images in an archive. Not to be changed."""
    path = tmp_path_factory.mktemp("data") / "pendulum.npz"
    made = pendulum(300)
    np.savez(path, images=made.train[:, 0], labels=made.labels["train"])
    return path


def train(data, out, *more, steps=24, kappa="0.13", model="vhp-vae"):
    arguments = ["--model", model, "--steps", str(steps), "--batch-size", "16"]
    arguments += ["--checkpoint-every", "10", "--device", "cpu"]
    if kappa is not None:
        arguments += ["--kappa", kappa]
    return main(["train", str(data), "--out", str(out), *arguments, *more])


def said(capsys, *arguments, **more):
    """Exit code and what was printed on stderr."""
    capsys.readouterr()
    code = train(*arguments, **more)
    return code, capsys.readouterr().err


def run_of(out):
    return json.loads((out / "run.json").read_text())


# --- the main job


def test_a_run_leaves_weights_logs_and_an_account(images, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(images, out, "--seed", "3", kappa="0.16") == 0
    shown = capsys.readouterr().out
    model, config = load(out / "model.safetensors")
    assert (config.observation, config.latent, config.prior) == ((1, 16, 16), 2, "vhp")
    run = run_of(out)
    assert run["finished"]
    assert run["settings"]["seed"] == run["plan"]["train"]["seed"] == 3
    x = torch.from_numpy(open_data(images, DataFlags(), 3).values("test"))
    squared = [(model.decode(model.encode(x).sample()) - x).square().mean() for _ in range(20)]
    expected = float(torch.stack(squared).mean().sqrt().detach())
    assert run["figures"]["error"] == pytest.approx(expected, rel=0.05)
    assert run["diagnosis"]["sentence"] in shown
    assert f"trackvae inspect {out / 'model.safetensors'}" in shown
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 10, 20]
    assert list((out / "tensorboard").iterdir())


@pytest.mark.parametrize("model", ["vae", "iwae", "fmvae"])
def test_each_model_is_what_its_name_says(images, tmp_path, model):
    assert train(images, tmp_path, model=model, kappa="0.2") == 0
    plan = run_of(tmp_path)["plan"]
    assert plan["model"]["prior"] == ("vhp" if model == "fmvae" else "normal")
    assert (plan["eta"] > 0) == (model == "fmvae")
    assert (plan["train"]["samples"] > 1) == (model == "iwae")
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (logged[-1]["flatness"] is not None) == (model == "fmvae")  # it joined in


def test_vectors_are_learned_too(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.normal(size=(60, 2)) @ rng.normal(size=(2, 7)))
    assert train(tmp_path / "x.npz", tmp_path / "run", kappa="2") == 0
    assert run_of(tmp_path / "run")["plan"]["model"]["observation"] == [7]


def test_boxes_of_mot_sequences_are_cut_out(tmp_path):
    scene = Scene(SceneConfig(width=320, height=180, frames=14, figures=4, density=1.0))
    street = scene.write(tmp_path / "made" / "street")
    for given in (street, street.parent):
        data = open_data(given, DataFlags(size="32x16", boxes="gt"), seed=0)
        assert data.shape == (3, 32, 16)
        assert len(data.train) > 10
        assert "train" in data.labels


# --- kappa


def test_a_kappa_that_nobody_gave_is_found_once(images, tmp_path, monkeypatch, capsys):
    stop_at(monkeypatch, 5, pressed=True)
    assert train(images, tmp_path, kappa=None) == 130
    monkeypatch.undo()
    found = run_of(tmp_path).get("kappa")
    assert found is None  # stopped while it was searched
    assert train(images, tmp_path, "--resume", kappa=None) in (0, 1)
    found = run_of(tmp_path)["kappa"]
    assert run_of(tmp_path)["plan"]["kappa"] == found
    assert 0.05 < found < 0.25  # the images' own deviation is 0.16
    capsys.readouterr()
    train(images, tmp_path, "--resume", kappa=None)
    assert "finding" not in capsys.readouterr().out


def test_kappa_is_a_little_above_what_the_pilot_reached_at_its_end():
    errors = [1.0] * 80 + [0.04] * 20
    assert kappa_of(errors) == pytest.approx(1.1 * 0.2)
    assert kappa_of([0.09]) == pytest.approx(1.1 * 0.3)


def test_a_kappa_that_is_never_met_is_told_and_fails(images, tmp_path, capsys):
    code, error = said(capsys, images, tmp_path, kappa="0.001")
    assert code == 1
    assert "kappa 0.001 was not met in 24 steps" in error
    assert error.count("\n") == 1
    assert load(tmp_path / "model.safetensors")  # it is there to be looked at


# --- being stopped


def stop_at(monkeypatch, step, *, pressed):
    """Ctrl-C in a step, or the end of the process after it."""
    original = training_run._note

    def note(report):
        if report.step == step:
            if not pressed:
                raise SystemExit(9)
            os.kill(os.getpid(), signal.SIGINT)
        return original(report)

    monkeypatch.setattr(training_run, "_note", note)


@pytest.mark.parametrize("more", [(), ("--restarts", "1")], ids=["one attempt", "restarts"])
@pytest.mark.parametrize("pressed", [True, False], ids=["Ctrl-C", "kill"])
def test_a_stopped_run_goes_on_to_the_same_result(
    images, tmp_path, monkeypatch, capsys, more, pressed
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code = train(images, whole, *more)
    stop_at(monkeypatch, 17, pressed=pressed)
    if pressed:
        stopped, error = said(capsys, images, cut, *more)
        assert stopped == 130
        assert "--resume" in error
    else:
        with pytest.raises(SystemExit):
            train(images, cut, *more)
    monkeypatch.undo()
    assert not (cut / "model.safetensors").exists()
    capsys.readouterr()
    assert train(images, cut, "--resume", *more) == code
    assert f"going on from step {17 if pressed else 10} of 24" in capsys.readouterr().out
    for name in ("model.safetensors", "log.jsonl"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    same = ("figures", "diagnosis", "plan", "kept", "attempts")
    first, second = run_of(whole), run_of(cut)
    assert {name: first[name] for name in same} == {name: second[name] for name in same}


def test_a_finished_run_is_left_alone(images, tmp_path, capsys):
    train(images, tmp_path, kappa="0.2")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*")}
    capsys.readouterr()
    assert train(images, tmp_path, "--resume", kappa="0.2") == 0
    assert "this run is finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*")} == before


# --- what is settled from the data


def a_set(train_part):
    none = train_part[:0]
    return DataSet("made", train_part, none, none, labels={})


SETTLED = {
    # shape, values; network, likelihood, latent
    "grey images": ((1, 16, 16), "greys", "mlp", "gaussian", 2),
    "black and white": ((1, 16, 16), "two", "mlp", "bernoulli", 2),
    "crops": ((3, 64, 32), "greys", "crop-conv", "gaussian", 64),
    "no multiple of 16": ((3, 64, 40), "greys", "mlp", "gaussian", 2),
    "vectors": ((9,), "greys", "mlp", "gaussian", 2),
    "vectors of 0 and 1": ((9,), "two", "mlp", "gaussian", 2),
}


@pytest.mark.parametrize("name", SETTLED)
def test_network_and_likelihood_follow_the_data(name):
    shape, values, network, likelihood, latent = SETTLED[name]
    part = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    part = part.round() if values == "two" else part
    plan = make_plan("vhp-vae", a_set(part), ModelFlags(), ObjectiveFlags(kappa=0.1), TrainConfig())
    assert (plan.model.network, plan.model.likelihood) == (network, likelihood)
    assert plan.model.latent == latent
    assert plan.model.observation == shape
    z = build(plan.model).encode(torch.from_numpy(part)).mean
    assert z.shape == (4, latent)


SCHEDULES = {
    ("vae", None): WarmUp,
    ("iwae", None): FixedBeta,
    ("vhp-vae", None): REWO,
    ("fmvae", None): REWO,
    ("vae", "geco"): GECO,
}


@pytest.mark.parametrize(("kind", "schedule"), SCHEDULES)
def test_a_kappa_is_held_or_is_the_likelihoods_sigma(kind, schedule):
    part = np.random.default_rng(0).random((4, 9)).astype(np.float32)
    objective = ObjectiveFlags(kappa=0.3, schedule=schedule)
    plan = make_plan(kind, a_set(part), ModelFlags(), objective, TrainConfig())
    made = plan.make_schedule()
    assert type(made) is SCHEDULES[kind, schedule]
    held = isinstance(made, (REWO, GECO))
    assert plan.constrained == held
    assert plan.model.sigma == (1.0 if held else 0.3)
    if held:
        assert made.constraint.kappa == 0.3
    assert not plan.needs_kappa


# --- bad input


def picture(path, side=16, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side, 3), value, np.uint8))


def empty_folder(at):
    (at / "d").mkdir()


def one_image(at):
    picture(at / "d" / "a.png")


def different_sizes(at):
    picture(at / "d" / "a.png")
    picture(at / "d" / "b.png", side=20)


def unreadable_image(at):
    one_image(at)
    (at / "d" / "b.png").write_bytes(b"no picture")


def nan(at):
    x = np.ones((20, 3))
    x[7, 1] = np.nan
    with (at / "d").with_suffix(".npz").open("wb") as file:
        np.savez(file, x=x)


def all_the_same(at):
    np.savez(at / "d.npz", x=np.full((30, 3), 2.5))


BAD_DATA = {
    "missing": (lambda at: None, "d", "d: no such file or folder"),
    "empty folder": (empty_folder, "d", "no images in this folder, expected at least 2"),
    "one image": (one_image, "d", "1 image in this folder (a.png), expected at least 2"),
    "different sizes": (different_sizes, "d", "b.png"),
    "unreadable image": (unreadable_image, "d", "b.png: a broken image"),
    "NaN": (nan, "d.npz", "x[7] holds NaN"),
    "all the same": (all_the_same, "d.npz", "its 27 examples to train on are all the same"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_are_told_in_one_line(tmp_path, capsys, name):
    make, data, message = BAD_DATA[name]
    make(tmp_path)
    code, error = said(capsys, tmp_path / data, tmp_path / "out")
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


BAD_FLAGS = {
    "kappa of 0": (["--kappa", "0"], "--kappa is 0.0, expected a positive number"),
    "negative kappa": (["--kappa", "-1"], "--kappa is -1.0, expected a positive number"),
    "infinite kappa": (["--kappa", "inf"], "--kappa is inf, expected a positive number"),
    "unknown model": (["--model", "gan"], "invalid choice 'gan'"),
    "unknown device": (["--device", "cdua"], "--device is 'cdua' (did you mean 'cuda'?)"),
    "no device": (["--devices", "0"], "--devices is 0, expected 1 or more"),
    "unknown network": (["--network", "vgg"], "network is 'vgg', expected one of"),
    "unfit network": (["--network", "vgg16"], "vgg16"),
    "unknown activation": (["--activation", "sigmoid"], "--activation is 'sigmoid'"),
    "eta without fmvae": (["--eta", "3"], "--model is vhp-vae, not fmvae"),
    "samples without iwae": (["--samples", "3"], "--model is vhp-vae"),
    "no steps": (["--steps", "0"], "steps is 0, expected 1 or more"),
    "no latent": (["--latent", "0"], "--latent is 0, expected 1 or more"),
    "size of nothing": (["--size", "64"], "--size is '64', expected height x width"),
    "size of arrays": (["--size", "8x8"], "--size is for folders of images"),
    "boxes of images": (["--boxes", "gt"], "no boxes to cut out"),
    "precision": (["--precision", "16"], "--precision is '16'"),
    "checkpoints": (["--checkpoint-every", "0"], "--checkpoint-every is 0, expected 1 or more"),
    "negative seed": (["--seed", "-1"], "--seed is -1, expected 0 to 4294967295"),
    "endless seed": (["--seed", str(10**20)], "expected 0 to 4294967295"),
    "kappa for nobody": (
        ["--model", "vae", "--likelihood", "bernoulli"],
        "--kappa means nothing to --schedule warm-up with a bernoulli likelihood",
    ),
    "restarts": (["--restarts", "-1"], "--restarts is -1, expected 0 or more"),
}


@pytest.mark.parametrize("name", BAD_FLAGS)
def test_flags_that_mean_nothing_are_told_in_one_line(images, tmp_path, capsys, name):
    flags, message = BAD_FLAGS[name]
    code, error = said(capsys, images, tmp_path / "out", *flags)
    assert message in error
    assert error.count("\n") == 1
    assert code == 2
    assert not (tmp_path / "out").exists()


def test_a_run_among_its_own_data_is_refused(tmp_path, capsys):
    picture(tmp_path / "a.png")
    code, error = said(capsys, tmp_path, tmp_path / "runs" / "first")
    assert code == 2
    assert "lies in DATA" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
def test_a_device_that_is_not_here(images, tmp_path, capsys):
    code, error = said(capsys, images, tmp_path / "out", "--device", "cuda")
    assert code == 1
    assert "--device cuda" in error
    assert error.count("\n") == 1


def another_run(out):
    pass


def corrupt_checkpoint(out):
    path = out / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def corrupt_account(out):
    (out / "run.json").write_text('{"command": "train",')


def account_of_another(out):
    (out / "run.json").write_text('{"street": {"frames": 3}}')


def no_account(out):
    (out / "run.json").unlink()


BAD_FOLDERS = {
    # what was done to the folder, flags, what the line says
    "the same again": (another_run, [], "holds this run already; go on with it by --resume"),
    "another run": (another_run, ["--latent", "3"], "another run (latent is None, here 3)"),
    "another run's resume": (another_run, ["--resume", "--seed", "1"], "another run (seed is 0"),
    "corrupt checkpoint": (corrupt_checkpoint, ["--resume"], "checkpoint.safetensors: "),
    "corrupt account": (corrupt_account, ["--resume"], "run.json: damaged"),
    "of another command": (account_of_another, [], "run.json: not of trackvae train"),
    "no account": (no_account, [], "holds weights without a run.json"),
}


@pytest.fixture(scope="session")
def begun(images, tmp_path_factory):
    """A run that was stopped in step 17. Not to be changed."""
    out = tmp_path_factory.mktemp("begun") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 17, pressed=True)
        assert train(images, out) == 130
    return out


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_folder_that_cannot_be_gone_on_with(begun, images, tmp_path, capsys, name):
    harm, flags, message = BAD_FOLDERS[name]
    out = shutil.copytree(begun, tmp_path / "run")
    harm(out)
    code, error = said(capsys, images, out, *flags)
    assert message in error
    assert error.count("\n") == 1
    assert code == 1


def test_other_data_than_the_run_began_with(begun, tmp_path, capsys):
    made = pendulum(300, seed=1)
    np.savez(tmp_path / "other.npz", images=made.train[:, 0])
    out = shutil.copytree(begun, tmp_path / "run")
    code, error = said(capsys, tmp_path / "other.npz", out, "--resume")
    assert code == 1
    assert "holds another run (the data's digest is" in error


def test_a_file_in_the_way_of_the_folder(images, tmp_path, capsys):
    (tmp_path / "out").write_text("in the way")
    code, error = said(capsys, images, tmp_path / "out")
    assert code == 1
    assert "cannot be written" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_told_in_one_line(images, tmp_path, capsys, monkeypatch):
    import safetensors.torch

    original = safetensors.torch.save_file

    def to_full_disk(tensors, path, metadata=None):
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(safetensors.torch.save(tensors, metadata))
        original(tensors, path, metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", to_full_disk)
    code, error = said(capsys, images, tmp_path / "out")
    assert code == 1
    assert "checkpoint.safetensors: cannot be written (No space left on device)" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*.part*"))


# --- without torch


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_without_torch_one_line_says_what_to_install(
    command, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torch", None)
    more = ["--model", "vae", "--out", str(tmp_path / "out")] if command == "train" else []
    place = [str(images)] if command == "train" else ["model.safetensors", str(images)]
    assert main([command, *place, *more]) == 1
    error = capsys.readouterr().err
    assert "pip install 'trackvae[torch]'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_help_needs_no_torch(command):
    code = (
        "import sys, tools.cli\n"
        "try:\n    tools.cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(', '.join({'torch', 'cv2', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    given = [sys.executable, "-c", code, command, "--help"]
    ran = subprocess.run(given, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "--" in ran.stdout


def test_a_flag_of_the_size_is_read():
    assert DataFlags(size="64x32").sides == (64, 32)
    assert DataFlags().sides is None
    with pytest.raises(UsageError, match="expected height x width"):
        _ = DataFlags(size="64 by 32").sides

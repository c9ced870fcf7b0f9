"""Training: what is frozen when, and that a killed run resumed equals the uninterrupted one."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from trackvae.config import ModelConfig, build  # noqa: E402
from trackvae.errors import InputError, UsageError  # noqa: E402
from trackvae.geometry import condition_number, metric_tensor  # noqa: E402
from trackvae.storage import save  # noqa: E402
from training.batches import Batches, check_data  # noqa: E402
from training.data import DataSet, Partners, glyphs, pendulum  # noqa: E402
from training.objectives import Flatness, FlatnessConfig  # noqa: E402
from training.schedules import GECO, REWO, FixedBeta, WarmUp  # noqa: E402
from training.trainer import TrainConfig, Trainer  # noqa: E402
from training.watch import LevelledOff  # noqa: E402

SHAPE = ModelConfig((6,), hidden=(16,), prior_hidden=(8,), prior_samples=4, activation="tanh")


def ring(count=256):
    """Points of a noisy ring, seen through a linear map: one factor of variation."""
    generator = torch.Generator().manual_seed(0)
    angle = 6.2832 * torch.rand(count, generator=generator)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    return circle @ torch.randn(2, 6, generator=generator)


def a_run(steps=24, schedule=None, eta=0.0, shape=SHAPE, flat_start=False, **settings):
    torch.manual_seed(5)
    model = build(shape)
    config = TrainConfig(steps=steps, batch_size=32, final_learning_rate=1e-4, **settings)
    flatness = Flatness(FlatnessConfig(eta, flat_start=flat_start)) if eta else None
    schedule = schedule or REWO(0.6, alpha=0.5, beta=0.1)
    return model, Trainer(model, schedule, config, flatness=flatness)


def rewo():
    return REWO(1.5, alpha=0.5, beta=0.1)


PLAIN = dataclasses.replace(SHAPE, prior="normal")
KINDS = {
    "VAE": {"shape": PLAIN, "schedule": FixedBeta},
    "IWAE": {"shape": PLAIN, "schedule": FixedBeta, "samples": 3},
    "VHP-VAE": {"schedule": rewo},
    "FMVAE": {"schedule": rewo, "eta": 3.0},
    "FMVAE, flat start": {"schedule": rewo, "eta": 3.0, "flat_start": True},
    "IWAE-FMVAE": {"schedule": rewo, "eta": 3.0, "samples": 3},
    "GECO": {"schedule": lambda: GECO(1.5, alpha=0.5)},
    "warm-up": {"schedule": lambda: WarmUp(20)},
    "optimal sigma": {"shape": dataclasses.replace(PLAIN, sigma="optimal"), "schedule": FixedBeta},
    "clipped": {"schedule": rewo, "clip": 0.5},
}


def a_kind(kind, **settings):
    made = dict(KINDS[kind])
    return a_run(schedule=made.pop("schedule")(), **made, **settings)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_resumed_equals_the_uninterrupted_one(tmp_path, kind):
    data = ring()
    whole, trainer = a_kind(kind)
    reports = []
    ended = trainer.fit(data, on_step=reports.append)

    def killed_at_17(report):
        if report.step == 17:
            raise KilledError

    path = tmp_path / "checkpoint.safetensors"
    _, first = a_kind(kind, checkpoint_every=5)
    with pytest.raises(KilledError):
        first.fit(data, checkpoint=path, on_step=killed_at_17)
    torch.manual_seed(99)  # whatever state the new process has
    resumed, second = a_kind(kind, checkpoint_every=5)
    second.resume(path)
    assert second.step == 15
    again = []
    assert dataclasses.replace(second.fit(data, on_step=again.append), seconds=0.0) == (
        dataclasses.replace(ended, seconds=0.0)
    )
    assert again == reports[15:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


SIGKILLED = """
import os, signal, sys
from tests.training.test_trainer import a_kind, ring

def on_step(report):
    if report.step == 17:
        os.kill(os.getpid(), signal.SIGKILL)

a_kind("FMVAE", checkpoint_every=3)[1].fit(ring(), checkpoint=sys.argv[1], on_step=on_step)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_process_that_is_killed_leaves_a_checkpoint_to_go_on_from(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    root = str(Path(__file__).resolve().parents[2])
    code = subprocess.call(
        [sys.executable, "-c", SIGKILLED, str(path)], env={**os.environ, "PYTHONPATH": root}
    )
    assert code == -signal.SIGKILL
    whole, trainer = a_kind("FMVAE")
    trainer.fit(ring())
    resumed, second = a_kind("FMVAE")
    second.resume(path)
    assert second.step == 15
    second.fit(ring())
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_prior_is_frozen_in_the_initial_phase_and_trained_in_the_main_phase():
    data = ring()
    for kappa, moves in ((1e-6, False), (1e3, True)):
        model, trainer = a_run(steps=6, schedule=REWO(kappa))
        before = [p.clone() for p in model.prior.parameters()]
        others = [p.clone() for p in model.encoder.parameters()]
        trainer.fit(data)
        changed = [
            not torch.equal(a, b) for a, b in zip(before, model.prior.parameters(), strict=True)
        ]
        assert any(changed) is moves
        assert any(
            not torch.equal(a, b) for a, b in zip(others, model.encoder.parameters(), strict=True)
        )


def test_training_meets_the_constraint_and_ends_near_the_elbo():
    kappa = 0.3
    _, trainer = a_run(
        steps=1200, schedule=REWO(kappa, nu=0.05, relative=True, alpha=0.9), learning_rate=3e-3
    )
    reports = []
    trainer.fit(ring(), on_step=reports.append)
    last = reports[-50:]
    assert sum(r.error for r in last) / 50 < 1.15 * kappa**2
    assert last[-1].phase.beta > 0.5 > reports[0].phase.beta


def test_the_regulariser_makes_the_decoder_s_metric_flat():
    """A linear stretch of the ring: without the penalty the metric keeps it, with it not."""
    data, numbers = ring() * torch.tensor([3.0, 3, 3, 1, 1, 1]), {}
    for eta in (0.0, 30.0):
        schedule = REWO(0.5, nu=0.05, relative=True, alpha=0.9)
        model, trainer = a_run(steps=1000, schedule=schedule, eta=eta, learning_rate=3e-3)
        trainer.fit(data)
        with torch.no_grad():
            z = model.encode(data).mean
            numbers[eta] = condition_number(metric_tensor(model.decode, z)).median().item()
    assert numbers[30.0] < 0.6 * numbers[0.0]
    assert numbers[30.0] < 3


def test_a_dynamically_binarised_set_is_drawn_anew_every_epoch_and_the_same_again():
    data = glyphs(images=80, binarise="dynamic")
    shape = ModelConfig(data.shape, hidden=(16,), prior="normal", likelihood="bernoulli")
    _, trainer = a_run(shape=shape, schedule=FixedBeta())
    first, again = trainer._batches.take(data, 0)[0], trainer._batches.take(data, 0)[0]
    assert torch.equal(first, again)
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    trainer.fit(data)
    assert trainer.step == 24


def test_every_epoch_sees_every_observation_once():
    data = torch.arange(64.0).reshape(-1, 1).expand(-1, 6).contiguous()
    batches = Batches(seed=0, size=32)
    seen = [batches.take(data, step)[0] for step in range(4)]
    first = torch.cat(seen[:2])[:, 0]
    assert sorted(first.tolist()) == data[:, 0].tolist()
    assert not torch.equal(first, torch.cat(seen[2:])[:, 0])


def test_what_cannot_be_trained_on(tmp_path):
    _, trainer = a_run()
    with pytest.raises(InputError, match="no data to train on"):
        trainer.fit(torch.zeros(0, 6))
    with pytest.raises(InputError, match="NaN"):
        trainer.fit(torch.full((4, 6), float("nan")))
    with pytest.raises(UsageError, match="steps is 0"):
        TrainConfig(steps=0)
    with pytest.raises(InputError, match="no such checkpoint"):
        trainer.resume(tmp_path / "none")
    (tmp_path / "text").write_text("no checkpoint at all")
    with pytest.raises(InputError, match="not a readable safetensors checkpoint"):
        trainer.resume(tmp_path / "text")


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    _, trainer = a_run(steps=2, eta=1.0)
    trainer.fit(ring(), checkpoint=path)
    trainer.resume(path)
    others = {
        "config.steps is 2, here 3": a_run(steps=3, eta=1.0),
        "config.samples is 1, here 2": a_run(steps=2, eta=1.0, samples=2),
        "schedule.kappa is 0.6, here 0.7": a_run(
            steps=2, eta=1.0, schedule=REWO(0.7, alpha=0.5, beta=0.1)
        ),
        "flatness.eta is 1.0, here 2.0": a_run(steps=2, eta=2.0),
        "flatness is {.*here None": a_run(steps=2),
        r"of another run: model has .*Tanh.*, here .*ReLU": a_run(
            steps=2, eta=1.0, shape=dataclasses.replace(SHAPE, activation="relu")
        ),
        r"weights belong to another model: decoder.0.0.bias is \(16,\), here \(8,\)": a_run(
            steps=2, eta=1.0, shape=dataclasses.replace(SHAPE, hidden=(8,))
        ),
    }
    for message, (_, other) in others.items():
        with pytest.raises(InputError, match=message) as caught:
            other.resume(path)
        assert "\n" not in str(caught.value)
        assert other.step == 0
    a_run(steps=2, eta=1.0, checkpoint_every=7, patience=0)[1].resume(path)  # these are free


def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model, trainer = a_run(steps=2)
    trainer.fit(ring(), checkpoint=path)
    content = path.read_bytes()
    for number, damaged in enumerate(
        (b"", content[:4], content[:100], content[:-7], b"\xff" * 200, content[: len(content) // 2])
    ):
        (broken := tmp_path / f"broken-{number}").write_bytes(damaged)
        with pytest.raises(InputError, match="not a readable safetensors checkpoint") as caught:
            a_run(steps=2)[1].resume(broken)
        assert "\n" not in str(caught.value)
    weights = tmp_path / "weights.safetensors"
    save(weights, model, SHAPE)
    with pytest.raises(InputError, match="it holds no run's state"):
        a_run(steps=2)[1].resume(weights)


def test_a_loss_that_explodes_is_told_and_the_checkpoint_stays_sound(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model, trainer = a_run(steps=9, checkpoint_every=2)

    def break_it(report):
        if report.step == 3:
            with torch.no_grad():
                model.decoder[0][0].weight.fill_(float("inf"))

    with pytest.raises(InputError, match="step 4: the loss is nan"):
        trainer.fit(ring(), checkpoint=path, on_step=break_it)
    model, trainer = a_run(steps=9, checkpoint_every=2)
    trainer.resume(path)
    assert trainer.step == 2
    assert all(value.isfinite().all() for value in model.state_dict().values())
    trainer.fit(ring())


def test_weights_that_are_not_finite_do_not_replace_sound_ones(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model, trainer = a_run(steps=4)
    trainer.save(path)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="no longer finite, not saved"):
        trainer.save(path)
    a_run(steps=4)[1].resume(path)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    _, trainer = a_run(steps=4)
    trainer.fit(ring(), checkpoint=path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    heeded = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            trainer.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, heeded)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_mixed_precision_trains_nearly_as_well_and_keeps_float32_weights(tmp_path):
    from lightning_fabric import Fabric
    from safetensors.torch import load_file

    path, errors = tmp_path / "checkpoint.safetensors", {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(5)
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        config = TrainConfig(steps=250, batch_size=32, learning_rate=3e-3)
        schedule = REWO(0.5, nu=0.05, relative=True, alpha=0.9)
        trainer = Trainer(
            build(SHAPE), schedule, config, flatness=Flatness(FlatnessConfig(1.0)), fabric=fabric
        )
        reports = []
        trainer.fit(ring(), checkpoint=path, on_step=reports.append)
        errors[precision] = [sum(r.error for r in part) for part in (reports[:50], reports[-50:])]
        assert {value.dtype for value in load_file(path).values()} == {torch.float32}
    first, last = errors["bf16-mixed"]
    assert last < 0.5 * first
    assert last == pytest.approx(errors["32-true"][1], rel=0.2)
    assert errors["bf16-mixed"] != errors["32-true"]
    with pytest.raises(UsageError, match="precision is bf16-true"):
        Trainer(
            build(SHAPE),
            FixedBeta(),
            config,
            fabric=Fabric(accelerator="cpu", precision="bf16-true"),
        )


def test_a_kappa_out_of_reach_is_told_and_the_state_saved_first(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    shape = dataclasses.replace(SHAPE, latent=1, hidden=(2,), prior="normal")
    schedule = REWO(0.01, alpha=0.9, beta=0.01)
    _, trainer = a_run(5000, schedule, shape=shape, learning_rate=1e-2, patience=150)
    reports = []
    with pytest.raises(InputError, match=r"kappa 0.01 was not met in \d+ steps: .* levelled off"):
        trainer.fit(ring(), checkpoint=path, on_step=reports.append)
    assert 450 <= trainer.step < 3000
    rest = sum(r.error for r in reports[-150:]) / 150
    assert rest > 0.98 * sum(r.error for r in reports[-300:-150]) / 150
    _, patient = a_run(
        5000, REWO(0.01, alpha=0.9, beta=0.01), shape=shape, learning_rate=1e-2, patience=0
    )
    patient.resume(path)
    assert patient.step == trainer.step


def test_levelled_off_by_hand():
    """Windows of two: 4, 4, 4 is at rest at 4; a fall of 5% a window is not; nor is what is met."""

    def told(errors, target=1.0, remaining=100):
        watch = LevelledOff(2, target)
        return [watch.step(error, remaining) for error in errors]

    assert told([4, 4, 5, 3, 3, 5]) == [None] * 5 + [4]
    assert told([4, 4, 3.8, 3.8, 3.61, 3.61]) == [None] * 6
    assert told([4.0] * 6, target=4.0) == [None] * 6
    # 0.5% a window: in 100 windows it would be 0.995^100 = 0.61 of itself, in reach of 0.7
    slow = [4 * 0.995 ** (step // 2) for step in range(6)]
    assert told(slow, target=4 * 0.7, remaining=200) == [None] * 6
    assert told(slow, target=4 * 0.5, remaining=200)[-1] == pytest.approx(4 * 0.995**2)


def test_a_kappa_that_is_reached_slowly_is_waited_for():
    schedule = REWO(0.5, nu=0.05, relative=True, alpha=0.9)
    _, trainer = a_run(1500, schedule, shape=PLAIN, learning_rate=4e-4, patience=30)
    summary = trainer.fit(ring())
    assert summary.stopped is None
    assert summary.steps == 1500
    assert 3 * 30 < summary.kappa_met_at < 1500
    assert summary.error < 0.5**2 * 1.2


def test_a_run_that_ends_in_the_initial_phase_says_so():
    _, trainer = a_run(steps=8, schedule=REWO(0.01, alpha=0.5))
    summary = trainer.fit(ring())
    assert summary.kappa_met_at is None
    assert summary.stopped.startswith(
        "kappa 0.01 was not met in 8 steps: the root of the error ended at "
    )
    _, trainer = a_run(steps=8, schedule=GECO(0.01, alpha=0.5))
    assert trainer.fit(ring()).stopped is None


def test_the_optimal_sigma_follows_the_error():
    shape = dataclasses.replace(PLAIN, sigma="optimal", reduction="sum")
    model, trainer = a_run(steps=400, schedule=FixedBeta(), shape=shape)
    reports = []
    trainer.fit(ring(), on_step=reports.append)
    sigma2, expected = 1.0, None
    for report in reports:
        sigma2 = 0.95 * sigma2 + 0.05 * report.error / 6  # 6 dimensions: error is their sum
    expected = sigma2**0.5
    assert model.likelihood.sigma.item() == pytest.approx(expected, rel=1e-4)


def test_clipping_bounds_the_norm_of_the_gradient():
    model, trainer = a_run(steps=1, clip=1e-3)
    trainer.fit(ring())
    norm = sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None).sqrt()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_whole_numbers_are_not_looked_at_for_nan_and_floats_in_place():
    data = pendulum(images=40, seed=0)
    check_data(data, 1)
    broken = torch.zeros(3000, 6)
    broken[2047, 3] = float("inf")
    with pytest.raises(InputError, match="observation 2047"):
        check_data(broken, 1)
    check_data(torch.zeros(5, 6, dtype=torch.uint8), 1)
    with pytest.raises(InputError, match=r"5 observation\(s\) to train on in 6 processes"):
        check_data(torch.zeros(5, 6), 6)


def test_processes_share_out_an_epoch():
    data = torch.arange(64.0).reshape(-1, 1)
    shares = [Batches(seed=0, size=8, process=rank, processes=2) for rank in (0, 1)]
    seen = torch.cat([share.take(data, step)[0] for step in range(4) for share in shares])
    assert sorted(seen[:, 0].tolist()) == data[:, 0].tolist()
    noises = [torch.rand(4, generator=share.noise(3)) for share in shares]
    assert not torch.equal(*noises)


# --- another example is decoded than the one that was encoded


def in_groups(groups, data=None, seed=0):
    """Examples, each to be decoded where another of its group is encoded."""
    x = (ring() if data is None else data).numpy()
    return DataSet("ring", x, x[:0], x[:0], {}, partners=Partners.of(np.asarray(groups), seed))


@pytest.mark.parametrize("kind", ["IWAE", "FMVAE, flat start"])
def test_a_killed_run_with_partners_resumed_equals_the_uninterrupted_one(tmp_path, kind):
    data = in_groups(np.arange(96) % 7, ring(96))  # an epoch is three steps
    whole, trainer = a_kind(kind)
    reports = []
    trainer.fit(data, on_step=reports.append)

    def killed_at_17(report):
        if report.step == 17:
            raise KilledError

    path = tmp_path / "checkpoint.safetensors"
    _, first = a_kind(kind, checkpoint_every=5)
    with pytest.raises(KilledError):
        first.fit(data, checkpoint=path, on_step=killed_at_17)
    torch.manual_seed(99)
    resumed, second = a_kind(kind, checkpoint_every=5)
    second.resume(path)
    again = []
    second.fit(in_groups(np.arange(96) % 7, ring(96)), on_step=again.append)
    assert again == reports[15:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    _, other = a_kind(kind)
    different = []
    other.fit(in_groups(np.arange(96) % 7, ring(96), seed=1), on_step=different.append)
    assert different[0].error != reports[0].error  # other partners
    assert different[0].rate == reports[0].rate  # of the same batch


def test_a_run_with_partners_who_are_all_alone_is_the_run_without():
    runs = []
    for data in (ring(), in_groups(np.arange(256))):
        model, trainer = a_kind("FMVAE")
        reports = []
        trainer.fit(data, on_step=reports.append)
        runs.append((reports, model.state_dict()))
    assert runs[0][0] == runs[1][0]
    for name, value in runs[0][1].items():
        assert torch.equal(value, runs[1][1][name]), name


def test_a_step_s_error_is_that_to_the_partner():
    data = in_groups(np.arange(256) % 40)
    model, trainer = a_kind("VAE", steps=1)
    x, target = trainer._batches.take(data, 0)
    rows = [int((data.train == row).all(axis=1).argmax()) for row in x.numpy()]
    partners = [int((data.train == row).all(axis=1).argmax()) for row in target.numpy()]
    assert all(a % 40 == b % 40 and a != b for a, b in zip(rows, partners, strict=True))
    with torch.no_grad():
        decoded = model.decode(model.encode(x).sample(None, trainer._noise()))
        expected = (target - decoded).square().mean(dim=1).mean().item()
        own = (x - decoded).square().mean(dim=1).mean().item()
    reports = []
    trainer.fit(data, on_step=reports.append)
    assert reports[0].error == pytest.approx(expected, rel=1e-6)
    assert reports[0].error != pytest.approx(own, rel=1e-3)


def test_processes_take_partners_of_their_own_rows():
    data = in_groups(np.arange(64) % 5, torch.arange(64.0).reshape(-1, 1))
    shares = [Batches(seed=0, size=8, process=rank, processes=2) for rank in (0, 1)]
    pairs = [share.take(data, step) for step in range(8) for share in shares]
    x, target = (torch.cat(column)[:, 0] for column in zip(*pairs, strict=True))
    assert sorted(x[:64].tolist()) == sorted(x[64:].tolist()) == list(range(64))
    assert torch.equal(x % 5, target % 5)
    assert (x != target).all()
    drawn = [
        dict(zip(a.tolist(), b.tolist(), strict=True))
        for a, b in zip(x.split(64), target.split(64), strict=True)
    ]
    assert drawn[0] != drawn[1]  # anew in every epoch


def test_what_a_partner_does_not_share_is_not_learned():
    """One latent for a loud nuisance and a quiet identity: alone it takes what is loud."""
    generator = torch.Generator().manual_seed(3)
    groups = torch.arange(256) % 16
    identity = torch.linspace(-1.2, 1.2, 16)[groups]
    nuisance = 2 * torch.randn(256, generator=generator)
    x = torch.stack([identity, nuisance], dim=1) @ torch.randn(2, 6, generator=generator)
    shape, known = dataclasses.replace(PLAIN, latent=1, sigma=0.3), {}
    for name, data in (("itself", x), ("another", in_groups(groups.numpy(), x))):
        model, trainer = a_run(400, FixedBeta(), shape=shape, learning_rate=5e-3)
        trainer.fit(data)
        with torch.no_grad():
            z = model.encode(x).mean[:, 0]
        known[name] = [
            abs(torch.corrcoef(torch.stack([z, factor]))[0, 1].item())
            for factor in (identity, nuisance)
        ]
    assert known["itself"][1] > 0.9 > 0.5 > known["itself"][0]
    assert known["another"][0] > 0.9 > 0.5 > known["another"][1]

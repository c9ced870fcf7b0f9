"""Training: what is frozen when, and that a killed run resumed equals the uninterrupted one."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from trackvae.config import ModelConfig, build  # noqa: E402
from trackvae.errors import InputError, UsageError  # noqa: E402
from trackvae.geometry import condition_number, metric_tensor  # noqa: E402
from training.data import glyphs  # noqa: E402
from training.objectives import Flatness, FlatnessConfig  # noqa: E402
from training.schedules import REWO, FixedBeta  # noqa: E402
from training.trainer import TrainConfig, Trainer  # noqa: E402

SHAPE = ModelConfig((6,), hidden=(16,), prior_hidden=(8,), prior_samples=4, activation="tanh")


def ring(count=256):
    """Points of a noisy ring, seen through a linear map: one factor of variation."""
    generator = torch.Generator().manual_seed(0)
    angle = 6.2832 * torch.rand(count, generator=generator)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    return circle @ torch.randn(2, 6, generator=generator)


def a_run(steps=24, schedule=None, eta=0.0, shape=SHAPE, **settings):
    torch.manual_seed(5)
    model = build(shape)
    config = TrainConfig(steps=steps, batch_size=32, final_learning_rate=1e-4, **settings)
    flatness = Flatness(FlatnessConfig(eta)) if eta else None
    schedule = schedule or REWO(0.6, alpha=0.5, beta=0.1)
    return model, Trainer(model, schedule, config, flatness=flatness)


@pytest.mark.parametrize("eta", [0.0, 3.0], ids=["VHP-VAE", "VHP-FMVAE"])
def test_a_killed_run_resumed_equals_the_uninterrupted_one(tmp_path, eta):
    data = ring()
    whole, trainer = a_run(eta=eta, schedule=REWO(1.5, alpha=0.5, beta=0.1))
    losses = []
    trainer.fit(data, on_step=lambda report: losses.append(report))

    class KilledError(Exception):
        pass

    def killed_at_17(report):
        if report.step == 17:
            raise KilledError

    path = tmp_path / "checkpoint.safetensors"
    _, first = a_run(checkpoint_every=5, eta=eta, schedule=REWO(1.5, alpha=0.5, beta=0.1))
    with pytest.raises(KilledError):
        first.fit(data, checkpoint=path, on_step=killed_at_17)
    torch.manual_seed(99)  # whatever state the new process has
    resumed, second = a_run(checkpoint_every=5, eta=eta, schedule=REWO(1.5, alpha=0.5, beta=0.1))
    second.resume(path)
    assert second.step == 15
    again = []
    second.fit(data, on_step=lambda report: again.append(report))
    assert again == losses[15:]
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
    first, again = trainer._batch(data), trainer._batch(data)
    assert torch.equal(first, again)
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    trainer.fit(data)
    assert trainer.step == 24


def test_every_epoch_sees_every_observation_once():
    data = torch.arange(64.0).reshape(-1, 1).expand(-1, 6).contiguous()
    _, trainer = a_run()
    seen = []
    for _ in range(4):
        seen.append(trainer._batch(data))
        trainer.step += 1
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
    with pytest.raises(InputError, match="not a checkpoint"):
        trainer.resume(tmp_path / "text")


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    _, trainer = a_run(steps=2)
    trainer.fit(ring(), checkpoint=path)
    for other in (a_run(steps=3)[1], a_run(steps=2, schedule=FixedBeta())[1]):
        with pytest.raises(InputError, match="of another run"):
            other.resume(path)


def test_a_loss_that_explodes_is_told_and_the_checkpoint_stays_sound(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    model, trainer = a_run(steps=9, checkpoint_every=1)

    def break_it(report):
        if report.step == 3:
            with torch.no_grad():
                model.decoder[0][0].weight.fill_(float("inf"))

    with pytest.raises(InputError, match="step 4: the loss is"):
        trainer.fit(ring(), checkpoint=path, on_step=break_it)

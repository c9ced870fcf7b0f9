"""Several processes: one objective, one update to the last bit, and nobody left behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from tests.training.test_trainer import ring  # noqa: E402
from trackvae.config import ModelConfig, build  # noqa: E402
from training.batches import Batches  # noqa: E402
from training.objectives import Flatness, FlatnessConfig  # noqa: E402
from training.schedules import REWO  # noqa: E402
from training.trainer import TrainConfig, Trainer  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SHAPE = ModelConfig((6,), hidden=(16,), prior_hidden=(8,), prior_samples=4, activation="tanh")
MODELS = ("vhp-vae", "fmvae")
STEPS = 20


def parts(name):
    """Model, schedule, configuration and regulariser of a run; kappa is met after some steps."""
    model = build(SHAPE)
    schedule = REWO(0.92, alpha=0.5, beta=0.1)
    config = TrainConfig(steps=STEPS, batch_size=32, learning_rate=3e-3, seed=4)
    return model, schedule, config, Flatness(FlatnessConfig(3.0)) if name == "fmvae" else None


SCRIPT = """
import sys
import torch
from lightning_fabric import Fabric
from trackvae.errors import InputError
from tests.training.test_torchrun import MODELS, parts, ring
from training.trainer import Trainer

torch.set_num_threads(1)
folder, fails = sys.argv[1:]
fabric = Fabric(accelerator="cpu", devices=2)
fabric.launch()
rank = fabric.global_rank
for name in MODELS:
    torch.manual_seed(7 + rank)  # the second one's weights are not those that count
    model, schedule, config, flatness = parts(name)
    trainer = Trainer(model, schedule, config, flatness=flatness, fabric=fabric)
    reports = []

    def on_step(report):
        reports.append(report)
        if fails == "one" and rank == 1 and report.step == 3:
            sys.exit("this process fails")

    summary = trainer.fit(ring(), checkpoint=f"{folder}/{name}.safetensors", on_step=on_step)
    state = {"weights": model.state_dict(), "schedule": schedule.state_dict(), "reports": reports,
             "flatness": flatness and flatness.state_dict(), "met": summary.kappa_met_at}
    torch.save(state, f"{folder}/{name}-{rank}.pt")

model, schedule, config, flatness = parts("vhp-vae")
trainer = Trainer(model, schedule, config, fabric=fabric)
try:
    trainer.fit(ring() * (1e30 if rank == 1 else 1.0))
except InputError as error:
    torch.save(str(error), f"{folder}/exploded-{rank}.pt")
"""


def torchrun(folder, fails="none", timeout=300):
    (folder / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-addr", "127.0.0.1", "--master-port", str(port)),
            *(str(folder / "script.py"), str(folder), fails),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=timeout)[0], process.returncode
    finally:
        if process.poll() is None:  # it hung: let the test fail, and leave nothing behind
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    output, code = torchrun(folder)
    assert code == 0, output
    return {
        name: [torch.load(folder / f"{name}-{rank}.pt", weights_only=False) for rank in (0, 1)]
        for name in (*MODELS, "exploded")
    } | {"folder": folder}


def start_prior(model, batches, noises):
    """The prior standardises z by the moments of both halves."""
    moments = []
    for x, noise in zip(batches, noises, strict=True):
        z = model.encode(x).sample(8, noise).flatten(0, 1).detach()
        moments.append(torch.stack([z.mean(0), z.square().mean(0)]))
    mean, square = (moments[0] + moments[1]) / 2
    model.prior.start(mean, (square - mean.square()).clamp_min(0).sqrt())


def emulated(name):
    """The same in one process: both halves of a batch one after the other, gradients averaged."""
    torch.manual_seed(7)
    model, schedule, config, flatness = parts(name)
    adam = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    shares = [Batches(config.seed, config.batch_size, rank, 2) for rank in (0, 1)]
    prior = {id(parameter) for parameter in model.prior.parameters()}
    data, moving = ring(), None
    for step in range(STEPS):
        batches = [share.take(data, step)[0] for share in shares]

        def at_samples(batches=batches, step=step):
            return [
                model.terms(x, share.noise(step)) for x, share in zip(batches, shares, strict=True)
            ]

        terms = at_samples()
        errors = [part.error.mean().detach() for part in terms]
        phase = schedule.step(((errors[0] + errors[1]) / 2).item())
        if phase.train_prior and not model.prior.started:
            start_prior(model, batches, [share.noise(step, purpose=1) for share in shares])
            terms = at_samples()
        losses = [part.lagrangian(phase.beta).mean() for part in terms]
        if flatness is not None and phase.train_prior:
            seen = []  # each half's own c^2; the first step needs the mean of both beforehand
            for rank in (0, 1):
                probe = Flatness(flatness.config)
                probe(model.decode, terms[rank].latents, shares[rank].noise(step, purpose=2))
                seen.append(torch.tensor(probe.state_dict()["value"], dtype=torch.float32))
            mean = (seen[0] + seen[1]) / 2
            for rank in (0, 1):
                one = Flatness(flatness.config)
                c2 = float(mean if moving is None else moving)
                one.load_state_dict({"value": c2, "begun": True})
                noise = shares[rank].noise(step, purpose=2)
                penalty = one(model.decode, terms[rank].latents, noise)
                losses[rank] = losses[rank] + penalty
            moving = mean if moving is None else 0.9 * moving + (1 - 0.9) * mean
        gradients = [
            torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
            for loss in losses
        ]
        for parameter, *both in zip(model.parameters(), *gradients, strict=True):
            frozen = not phase.train_prior and id(parameter) in prior
            parameter.grad = None if frozen else (both[0] + both[1]) / 2
        adam.step()
    return model, schedule, moving


@pytest.mark.parametrize("name", MODELS)
def test_both_processes_end_with_the_same_state_to_the_last_bit(trained, name):
    first, second = trained[name]
    for key, value in first["weights"].items():
        assert torch.equal(value, second["weights"][key]), key
    assert first["schedule"] == second["schedule"]
    assert first["flatness"] == second["flatness"]
    assert first["reports"] == second["reports"]
    assert len(first["reports"]) == STEPS
    assert 1 < first["met"] < STEPS  # both phases of REWO were passed through


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_train_the_objective_of_one_with_both_batches(trained, name):
    model, schedule, moving = emulated(name)
    first = trained[name][0]
    for key, value in model.state_dict().items():
        assert torch.equal(value, first["weights"][key]), key
    assert schedule.state_dict() == first["schedule"]
    if name == "fmvae":
        assert first["flatness"]["value"] == pytest.approx(float(moving), rel=1e-6)


def test_a_checkpoint_of_two_processes_is_not_gone_on_from_with_one(trained):
    model, schedule, config, flatness = parts("vhp-vae")
    with pytest.raises(ValueError, match="processes is 2, here 1"):
        Trainer(model, schedule, config, flatness=flatness).resume(
            trained["folder"] / "vhp-vae.safetensors"
        )


def test_a_process_that_fails_does_not_leave_the_other_waiting(tmp_path):
    output, code = torchrun(tmp_path, fails="one")
    assert code != 0
    assert "this process fails" in output
    assert not list(tmp_path.glob("*.pt"))


def test_a_loss_that_is_not_finite_in_one_process_ends_both_in_the_same_step(trained):
    first, second = trained["exploded"]
    assert first == second
    assert first.startswith("step 1: the loss is ")

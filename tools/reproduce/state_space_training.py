"""One training run of a state-space model, for every table and figure of chapter 4."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tools.reproduce.experiment import Context
from tools.reproduce.state_space_measure import (
    generated_error,
    measure,
    prediction_errors,
    turning_velocity,
    velocity_coherence,
)

if TYPE_CHECKING:
    from torch import Tensor

    from training.data.sequences import Sequences, SequenceSet
    from training.dssm.auxiliary import AuxiliaryModel
    from training.dssm.batch import SequenceBatch
    from training.dssm.model import StateSpaceModel
    from training.dssm.pretraining import Pretraining
    from training.schedules import Schedule
    from training.trainer import Report, Trainer

WEIGHTS, HISTORY = "model.safetensors", "history.npz"
VHP_NOTE = "one sample (Eq. 4.7) where prior_samples does not say otherwise"
_EVERY = 10  # steps between two points of a course
_PICTURED = 150  # sequences whose states are kept on the way


@dataclass(frozen=True)
class Run:
    """All that a training run's result depends on but its data and seed.

    Attributes:
        kind: ``ekvae``, ``dvbs``, ``dks``, ``kvae``, ``rssm``.
        model: changes of its configuration.
        schedule: ``co``, constrained optimisation (Algorithm 3); or ``annealing``.
        annealing: steps in which beta rises from 0 to 1.
        steps: of training.
        batch_size: sequences of a step.
        learning_rate: at the start and, on a cosine, at the end.
        later_rate: factor on the learning rate of transition and prior.
        clip: largest norm of the gradients.
        kappa: of the constraint (Table A.2); likewise nu, tau_1 and tau_2.
        nu: see above.
        tau_1: see above.
        tau_2: see above.
    """

    kind: str
    model: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "co"
    annealing: int = 0
    steps: int = 2000
    batch_size: int = 50
    learning_rate: tuple[float, float] = (1e-3, 1e-4)
    later_rate: float = 3.0
    clip: float = 10.0
    kappa: float = 0.03
    nu: float = 300.0
    tau_1: float = 10.0
    tau_2: float = 0.01


def make_model(kind: str, changes: Mapping[str, Any], seed: int) -> StateSpaceModel:
    """A fresh model; the global random state is left as it was.

    Args:
        kind: see :class:`Run`.
        changes: of its configuration's fields.
        seed: of its weights.
    """
    import torch

    from training.dssm.storage import build

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(kind, {"prior_samples": 1, **changes})  # Eq. 4.7, the thesis's


def make_schedule(run: Run, beta: float = 1.0) -> Schedule:
    """How beta moves, and where CO's begins."""
    from training.schedules import SequenceREWO, WarmUp

    if run.schedule == "annealing":
        return WarmUp(max(1, run.annealing))
    return SequenceREWO(run.kappa, nu=run.nu, tau_1=run.tau_1, tau_2=run.tau_2, beta=beta)


def make_trainer(model: StateSpaceModel, run: Run, seed: int, beta: float = 1.0) -> Trainer:
    """The trainer of a run, see :func:`make_schedule`."""
    from training.trainer import TrainConfig, Trainer

    config = TrainConfig(
        steps=run.steps,
        batch_size=run.batch_size,
        learning_rate=run.learning_rate[0],
        final_learning_rate=run.learning_rate[1],
        later_rate=run.later_rate,
        clip=run.clip,
        seed=seed,
        skips=20,
    )
    return Trainer(model, make_schedule(run, beta), config)


class Course:
    """What happens on the way: beta, error and rate every so often, and states at some steps."""

    def __init__(self, model: StateSpaceModel, test: Sequences, steps: int) -> None:
        """Watch a model on a part of the test sequences."""
        from training.dssm.batch import SequenceBatch

        self._model, self._shown = model, SequenceBatch.of(test.take(slice(_PICTURED)))
        self._at = sorted({max(1, round(steps * share)) for share in (0.05, 0.15, 0.35, 1.0)})
        self.points: list[tuple[float, ...]] = []
        self.pictures: dict[str, np.ndarray[Any, Any]] = {}

    def __call__(self, report: Report) -> None:
        """Take a step's report."""
        if report.step % _EVERY == 0 or report.step == 1:
            steps = self._shown.steps
            self.points.append(
                (report.step, report.phase.beta, report.error, report.rate / steps, report.loss)
            )
        if report.step in self._at:
            self.pictures[f"states_{report.step}"] = smoothed_means(self._model, self._shown)


def smoothed_means(model: StateSpaceModel, batch: Any) -> np.ndarray[Any, Any]:
    """States of sequences, ``(N, T, D_z)``; the model is left in training mode."""
    import torch

    model.eval()
    with torch.no_grad():
        means: Tensor = model.smooth(batch).mean
    model.train()
    return np.asarray(means.numpy())


def train_part(
    context: Context,
    name: str,
    run: Run,
    data: SequenceSet,
    seed: int,
    pretraining: Pretraining | None = None,
    beta: float = 1.0,
) -> dict[str, Any]:
    """A run and what it is worth on the test part, done once.

    Args:
        context: of the experiment.
        name: of the part, without the seed.
        run: what to train.
        data: to train and to report on.
        seed: of weights, order and noise.
        pretraining: of encoder and decoder before; its own seed is not used.
        beta: where CO's begins. What is pretrained meets the constraint at once, and beta has no
            time to fall: the main phase would begin with the whole rate.

    Returns:
        What :func:`tools.reproduce.state_space_measure.measure` found; ``pretrained``, how that
        ended, with its ``seconds``; ``seconds`` of training after it,
        ``met_at`` the step at which the constraint was first met, ``skipped`` steps, ``lost``
        covariances, ``beta`` at the end, ``failed`` why a run broke off (its measures are then
        absent), and ``folder`` of its weights and course under the context's.
    """
    settings = {**asdict(run), "model": dict(run.model), "seed": seed, "data": data.note}
    before = None if pretraining is None else replace(pretraining, seed=seed)
    if before is not None:
        settings["pretraining"] = asdict(before)
    if beta != 1.0:
        settings["beta"] = beta

    def compute(folder: Path) -> dict[str, Any]:
        return {**_train(folder, run, data, seed, before, beta), "folder": folder.name}

    return context.part(f"{name}-seed-{seed}", settings, compute)


def judged_part(
    context: Context, found: Mapping[str, Any], run: Run, data: SequenceSet
) -> dict[str, Any]:
    """A finished run's result, with more: what Table 4.1 has beside the others.

    ``turning_velocity``: R^2 of the velocity by a regression that may turn with the angle;
    ``coherence``: see :func:`~tools.reproduce.state_space_measure.velocity_coherence`;
    ``validation_mse``: error of predictions (from the mean of z_1) on the validation part, to
    choose a run by; ``generated_error``: of first images drawn from p(z_1). They are judged apart
    from the training, which need not be done again for them.

    Args:
        context: of the experiment.
        found: what :func:`train_part` returned.
        run: what was trained.
        data: what it was trained and is reported on.
    """
    if "mse" not in found:
        return dict(found)

    def compute(_: Path) -> dict[str, Any]:
        from training.dssm.batch import SequenceBatch

        model = load_model(context.work / found["folder"], run)
        chosen_by = SequenceBatch.of(data.validation)
        parts = (data.train, data.test)
        z = [smoothed_means(model, SequenceBatch.of(part)) for part in parts]
        turning = turning_velocity(z[0], data.train.states, z[1], data.test.states)
        return {
            "turning_velocity": turning,
            "coherence": velocity_coherence(z[1], data.test.states),
            "validation_mse": float(prediction_errors(model, chosen_by, sampled=False).mean()),
            "generated_error": generated_error(model, data.train),
        }

    settings = {
        "of": found["folder"],
        "data": data.note,
        "judged": "validation, coherence, generated",
    }
    return {**found, **context.part(f"{found['folder']}-turning", settings, compute)}


def _train(
    folder: Path,
    run: Run,
    data: SequenceSet,
    seed: int,
    before: Pretraining | None,
    beta: float,
) -> dict[str, Any]:
    import torch

    from trackvae.errors import InputError
    from trackvae.tensors import write_tensors
    from training.dssm.batch import SequenceBatch

    # steps of many small operations: two threads on a busy machine took 2.0 s a step, one 0.1 s
    torch.set_num_threads(1)
    model, sequences = make_model(run.kind, run.model, seed), SequenceBatch.of(data.train)
    trainer, course = make_trainer(model, run, seed, beta), Course(model, data.test, run.steps)
    try:
        pretrained = {} if before is None else _pretrain(model, sequences, before)
        summary = trainer.fit(sequences, on_step=course)
    except InputError as error:
        return {"failed": str(error)}
    model.eval()
    write_tensors(folder / WEIGHTS, model.state_dict(), {"seed": str(seed)})
    np.savez(folder / HISTORY, course=np.array(course.points), **course.pictures)  # type: ignore[arg-type]
    return {
        **measure(model, data.train, data.test),
        **pretrained,
        "seconds": round(summary.seconds, 1),
        "met_at": summary.kappa_met_at,
        "skipped": summary.skipped,
        "lost": int(getattr(model, "lost", 0)),
        "beta": summary.beta,
        "failed": summary.stopped,
    }


def _pretrain(model: StateSpaceModel, x: SequenceBatch, how: Pretraining) -> dict[str, Any]:
    from training.dssm.pretraining import pretrain

    start = time.perf_counter()
    found = pretrain(cast("AuxiliaryModel", model), x, how)  # it tells of another
    seconds = round(time.perf_counter() - start, 1)
    told = {"error": found.error, "unexplained": found.unexplained, "seconds": seconds}
    return {"pretrained": told}


def load_model(folder: Path, run: Run) -> StateSpaceModel:
    """The trained model of a part's folder, in evaluation mode."""
    from trackvae.tensors import read_tensors

    model = make_model(run.kind, run.model, 0)
    tensors, _ = read_tensors(folder / WEIGHTS, "model")
    model.load_state_dict(tensors)
    return model.eval()

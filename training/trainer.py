"""One training loop for every model and schedule, on any device, that can be killed and resumed.

Everything random in a step is drawn from a generator that the seed and the step's number determine,
so that a resumed run needs no hidden state and equals the uninterrupted one to the last bit (on one
kind of machine). Several processes (torchrun) work on parts of one large batch: they share the
error, hence beta; c^2; and the gradients, averaged once a step. So every one makes the same update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trackvae.errors import InputError, UsageError
from trackvae.likelihoods import GaussianLikelihood
from trackvae.priors import VHP
from trackvae.vae import VAE, Terms
from training.batches import Batches, TrainingData, check_data
from training.checkpoints import Checkpoint, structure
from training.dssm.batch import SequenceBatch
from training.dssm.model import StateSpaceModel
from training.objectives import Flatness
from training.optimiser import Optimiser
from training.schedules import MovingConstraint, Phase, Schedule
from training.watch import KappaWatch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_START_DRAWS = 8  # of each posterior, from which the prior learns where z lies
PRECISIONS = ("32-true", "bf16-mixed")
_FREE = ("checkpoint_every", "patience", "skips")  # a resumed run may differ in these


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Attributes:
        steps: batches in all.
        batch_size: observations a batch, in each process.
        learning_rate: of Adam at the start.
        final_learning_rate: at the end, on a cosine; None: constant.
        samples: K of the importance-weighted bound that is maximised (Eq. 2.17); 1: the ELBO.
        seed: of the order of the data and of every sample.
        checkpoint_every: steps between checkpoints; 0: only at the end.
        clip: largest norm of all gradients together; None: as they are.
        patience: steps of one window in which REWO's initial phase must make progress towards
            kappa; three without end the run. 0: never.
        later_rate: factor on the learning rate of what REWO trains in its main phase alone: the
            prior, and a state-space model's transition.
        skips: steps that may be passed over, and not trained on, because their loss or gradient is
            not finite; one more ends the run.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    samples: int = 1
    seed: int = 0
    checkpoint_every: int = 0
    clip: float | None = None
    patience: int = 1000
    later_rate: float = 1.0
    skips: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("samples", 1),
            ("checkpoint_every", 0),
            ("patience", 0),
            ("skips", 0),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {least} or more")
        for name in ("learning_rate", "final_learning_rate", "clip", "later_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} is {value}, expected a positive number")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        if self.final_learning_rate is None:
            return self.learning_rate
        share = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.final_learning_rate + share * (self.learning_rate - self.final_learning_rate)


@dataclass(frozen=True, slots=True)
class Report:
    """What one step did; means over its batch and over the processes.

    Attributes:
        step: its number, from 1.
        phase: beta, and whether the prior was trained.
        rate: in nats.
        distortion: in nats.
        error: what the constraint is about.
        loss: what was minimised.
        learning_rate: of the optimiser.
        constraint: ``C_hat / kappa^2``, met below 1; None where the schedule has none.
        flatness: F_reg, before its weight eta; None where it had no part.
        skipped: it was passed over: loss or gradient was not finite.
    """

    step: int
    phase: Phase
    rate: float
    distortion: float
    error: float
    loss: float
    learning_rate: float
    constraint: float | None = None
    flatness: float | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended.

    Attributes:
        steps: that were made in all.
        seconds: that this part of the run took.
        beta: at the end.
        error: at the end: the constraint's moving average, or that of the last batch.
        kappa_met_at: the first step at which the moving error was below kappa^2; None: at none.
        stopped: why the run is not what it should have been, in one line; None: it is.
        skipped: steps that were passed over: loss or gradient was not finite.
    """

    steps: int
    seconds: float
    beta: float
    error: float
    kappa_met_at: int | None
    stopped: str | None
    skipped: int = 0


class Trainer:
    """Trains a VAE, or a state-space model, under a schedule."""

    def __init__(
        self,
        model: VAE | StateSpaceModel,
        schedule: Schedule,
        config: TrainConfig,
        *,
        flatness: Flatness | None = None,
        fabric: Fabric | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            model: is trained in place. Several processes start from the first one's.
            schedule: moves beta.
            config: how long and how fast.
            flatness: the regulariser that makes a VAE an FMVAE; joins in the main phase (from
                step 0 it stalls).
            fabric: device, precision and processes, launched; one process on the CPU where left
                out.

        Raises:
            UsageError: a precision or a strategy that it does not have; a regulariser for
                something else than a VAE.
        """
        from lightning_fabric import Fabric

        if flatness is not None and not isinstance(model, VAE):
            raise UsageError("flatness regularises a VAE, not a state-space model")

        self._fabric = fabric or Fabric(accelerator="cpu", devices=1)
        self._precision = _checked_precision(self._fabric)
        self._config = config
        self._schedule = schedule
        self._flatness = flatness
        self._model: Any = model.train()  # VAE | StateSpaceModel: they take other batches
        self._fabric.to_device(model)
        if self._fabric.world_size > 1:
            self._model.load_state_dict(self._fabric.broadcast(self._model.state_dict()))
        self._optimiser = Optimiser(
            model.parameters(),
            model.later_parameters(),
            learning_rate=config.learning_rate,
            later_rate=config.later_rate,
            clip=config.clip,
            fused=self._fabric.device.type in ("cpu", "cuda"),
        )
        self._batches = Batches(
            config.seed, config.batch_size, self._fabric.global_rank, self._fabric.world_size
        )
        constraint: MovingConstraint | None = getattr(schedule, "constraint", None)
        self._watch = KappaWatch(constraint, config.patience, config.steps)
        self._last = (math.nan, math.nan)  # beta and error of the last step
        self._skipped = 0
        self.step = 0

    def fit(
        self,
        data: TrainingData,
        *,
        checkpoint: str | Path | None = None,
        on_step: Callable[[Report], None] | None = None,
    ) -> Summary:
        """Train until the configured number of steps is reached.

        Args:
            data: the training part of a data set; or a tensor ``(N, *event)`` on the CPU; or, for
                a state-space model, sequences.
            checkpoint: where the state is written, every so often and at the end.
            on_step: called after each step, in every process with the same report.

        Returns:
            How it ended. A run that never met its kappa says so.

        Raises:
            InputError: no data, or NaN in them; a loss that is no longer finite: the last
                checkpoint is then still that of a sound state; a kappa that will never be met:
                the state is saved first.
        """
        check_data(data, self._fabric.world_size)
        start, every = time.perf_counter(), self._config.checkpoint_every
        while self.step < self._config.steps:
            x, target = self._fabric.to_device(self._batches.take(data, self.step))
            report = self._make_step(x, target)
            if on_step is not None:
                on_step(report)
            if self._watch.rest is not None:
                break
            if checkpoint is not None and every and self.step % every == 0:
                self.save(checkpoint)
        if checkpoint is not None:
            self.save(checkpoint)
        if self._watch.rest is not None:
            raise InputError(self._watch.unmet(self.step, self._watch.rest, "levelled off"))
        return self._summary(time.perf_counter() - start)

    # --- one step

    def _make_step(self, x: Any, target: Tensor | None) -> Report:
        """Algorithms 2 and 3: one batch, one update of beta, one step of the optimiser."""
        terms = self._terms(x, target)
        parts = (terms.error, terms.rate, terms.distortion)
        means = self._together(torch.stack([part.mean().detach() for part in parts]))
        error, rate, distortion = means.tolist()
        if not self._sound(error + rate + distortion):
            return self._pass_over(Phase(self._last[0]), rate, distortion, error)
        phase = self._schedule.step(error)
        if phase.train_prior and self._enter_main_phase(x):
            terms = self._terms(x, target)
        loss, penalty = self._loss(terms, phase)
        self._optimiser.differentiate(loss, train_later=phase.train_prior)
        shared = self._share_gradients(torch.stack([loss.detach(), penalty])).tolist()
        norm = self._optimiser.clip(watch=self._config.skips > 0)
        if not self._sound(shared[0] + norm):
            return self._pass_over(phase, rate, distortion, error)
        learning_rate = self._update()
        likelihood = self._model.likelihood
        if isinstance(likelihood, GaussianLikelihood):
            event = x.event if isinstance(x, SequenceBatch) else x.shape[1:]
            likelihood.observe_error(error, math.prod(event))
        self._watch.step(self.step, error, phase)
        self._last = (phase.beta, error)
        eta = self._flatness.config.eta if self._flatness is not None else math.nan
        return Report(
            self.step,
            phase,
            rate,
            distortion,
            error,
            shared[0],
            learning_rate,
            self._watch.ratio,
            shared[1] / eta if self._flatness is not None and phase.train_prior else None,
        )

    def _loss(self, terms: Terms, phase: Phase) -> tuple[Tensor, Tensor]:
        """What is minimised, and the weighted penalty in it, detached."""
        loss = terms.lagrangian(phase.beta).mean()
        if self._flatness is None or not phase.train_prior:
            return loss, torch.zeros_like(loss)
        z = terms.latents if terms.latents.dim() == 2 else terms.latents[0]
        # in float32 whatever the precision: G is a product of derivatives
        penalty = self._flatness(self._model.decode, z, self._noise(2), self._together)
        return loss + penalty, penalty.detach()

    def _noise(self, purpose: int = 0) -> torch.Generator:
        """This step's noise: the same whenever it is asked for."""
        return self._batches.noise(self.step, self._fabric.device, purpose)

    def _terms(self, x: Any, target: Tensor | None) -> Terms:
        samples = self._config.samples
        with self._fabric.autocast():
            terms: Terms = self._model.terms(
                x, self._noise(), None if samples == 1 else samples, target
            )
        return terms

    def _enter_main_phase(self, x: Any) -> bool:
        """What happens once, when the prior begins to be trained; whether it changed the model.

        The regulariser chooses its coordinates, and the prior is told where z lies in them.
        """
        changed, noise = False, self._noise(1)
        if self._flatness is not None:
            for weights in self._flatness.begin(self._model, x, noise, self._together):
                self._optimiser.forget(weights)
                changed = True
        prior = self._model.prior
        if isinstance(prior, VHP) and (changed or not prior.started):
            with torch.no_grad():
                z = self._model.prior_latents(x, _START_DRAWS, noise)
                moments = self._together(torch.stack([z.mean(0), z.square().mean(0)]))
            prior.start(moments[0], (moments[1] - moments[0].square()).clamp_min(0).sqrt())
            changed = True
        return changed

    def _share_gradients(self, values: Tensor) -> Tensor:
        """Average the gradients over the processes, and some values on the way.

        One exchange, and no wrapper about the model, which knows only its forward pass: the penalty
        decodes beside it, and the prior has gradients in one phase alone.
        """
        if self._fabric.world_size == 1:
            return values
        held = [p.grad for p in self._optimiser.parameters if p.grad is not None]
        flat = self._together(torch.cat([values, *(gradient.flatten() for gradient in held)]))
        sizes = [gradient.numel() for gradient in held]
        parts = torch.split(flat[len(values) :], sizes)
        for gradient, part in zip(held, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[: len(values)]

    def _together(self, value: Tensor) -> Tensor:
        """The mean over the processes, the same in all of them to the last bit."""
        if self._fabric.world_size == 1:
            return value
        try:
            mean: Any = self._fabric.all_reduce(value, reduce_op="mean")
        except RuntimeError as error:  # the others are not to wait for one that is gone
            line = str(error).strip().splitlines()[0]
            raise InputError(
                f"step {self.step + 1}: another process of this run ended ({line})"
            ) from error
        return mean

    def _sound(self, loss: float) -> bool:
        """Whether a step may be made.

        Raises:
            InputError: it may not, and as many were passed over as are allowed.
        """
        if math.isfinite(loss):
            return True
        if self._skipped < self._config.skips:
            return False
        before = f", {self._skipped} steps before it were skipped" if self._skipped else ""
        lost = int(getattr(self._model, "lost", 0))
        why = f" ({lost} covariances so far were not positive definite)" if lost else ""
        raise InputError(
            f"step {self.step + 1}: the loss is {loss}{before}{why}; give a lower learning rate, "
            "or clip"
        )

    def _pass_over(self, phase: Phase, rate: float, distortion: float, error: float) -> Report:
        """A step that trains nothing; beta does not move by an error that is not finite."""
        self._skipped += 1
        learning_rate = self._config.rate_at(self.step)
        self.step += 1
        return Report(
            self.step, phase, rate, distortion, error, math.nan, learning_rate, skipped=True
        )

    def _update(self) -> float:
        """One step of the optimiser; its learning rate."""
        learning_rate = self._config.rate_at(self.step)
        self._optimiser.step(learning_rate)
        self.step += 1
        return learning_rate

    # --- the end

    def _summary(self, seconds: float) -> Summary:
        beta, error = self._last
        error = error if self._watch.average is None else self._watch.average
        initial = bool(getattr(self._schedule, "initial_phase", False))
        stopped = self._watch.unmet(self.step, error, "ended") if initial else None
        return Summary(self.step, seconds, beta, error, self._watch.met_at, stopped, self._skipped)

    # --- checkpoints

    def _run(self) -> dict[str, Any]:
        """What may not differ in a run that goes on from a checkpoint of this one."""
        config = {name: v for name, v in asdict(self._config).items() if name not in _FREE}
        if config["later_rate"] == 1.0:
            del config["later_rate"]  # checkpoints from before there was one
        name = type(self._schedule).__name__
        return {
            "config": config,
            "schedule": {"name": name, **self._schedule.settings},
            "flatness": None if self._flatness is None else asdict(self._flatness.config),
            "processes": self._fabric.world_size,
            "precision": self._precision,
            "model": structure(self._model),
        }

    def save(self, path: str | Path) -> None:
        """Write weights, optimiser, schedule and step; of several processes the first one does.

        Raises:
            InputError: the file cannot be written, or the weights are not finite any more. The
                file that was there stays.
        """
        weights = self._model.state_dict()
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise InputError(f"step {self.step}: the weights are no longer finite, not saved")
        if self._fabric.global_rank != 0:
            return
        state = {
            "step": self.step,
            "schedule": self._schedule.state_dict(),
            "flatness": None if self._flatness is None else self._flatness.state_dict(),
            "watch": self._watch.state_dict(),
            "last": self._last,
            "skipped": self._skipped,
        }
        moments = self._optimiser.moments()
        Checkpoint(self._run(), state, weights, moments).save(path)

    def resume(self, path: str | Path) -> None:
        """Go on from a checkpoint of a run with the same model, schedule and configuration.

        Raises:
            InputError: the file is missing, damaged, or of another run or model.
        """
        found = Checkpoint.load(path)
        found.check(path, self._run(), self._model)
        state = found.state
        try:
            self._schedule.load_state_dict(state["schedule"])
            if self._flatness is not None:
                self._flatness.load_state_dict(state["flatness"])
            self._watch.load_state_dict(state["watch"])
            self._last = (state["last"][0], state["last"][1])
            self._skipped = int(state.get("skipped", 0))
            self.step = int(state["step"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{path}: a damaged checkpoint ({error!r})") from error
        self._model.load_state_dict(found.weights)
        self._optimiser.restore(found.moments)


def _checked_precision(fabric: Fabric) -> str:
    """The fabric's precision.

    Raises:
        UsageError: one that keeps no float32 weights, or a scaler that a checkpoint would need; a
            strategy that spreads one model over several devices.
    """
    precision = str(getattr(fabric.strategy.precision, "precision", "32-true"))
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision}, expected one of {', '.join(PRECISIONS)}")
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    if not isinstance(fabric.strategy, (SingleDeviceStrategy, DDPStrategy)):
        name = type(fabric.strategy).__name__
        raise UsageError(f"strategy is {name}, expected ddp, or a single device")
    return precision

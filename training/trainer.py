"""One training loop for every model and schedule, on any device, that can be killed and resumed.

Everything random in a step is drawn from a generator that the seed and the step's number determine,
so that a resumed run needs no hidden state and equals the uninterrupted one to the last bit (on one
kind of machine). A checkpoint is one safetensors file, written whole or not at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from trackvae.errors import InputError, UsageError
from trackvae.files import atomic_path, write_errors
from trackvae.vae import VAE
from training.data.dataset import DataSet
from training.objectives import Flatness
from training.schedules import Phase, Schedule

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_ENTRY = "training"  # of a checkpoint's metadata


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Attributes:
        steps: batches in all.
        batch_size: observations a batch.
        learning_rate: of Adam at the start.
        final_learning_rate: at the end, on a cosine; None: constant.
        samples: K of the importance-weighted bound that is maximised (Eq. 2.17); 1: the ELBO.
        seed: of the order of the data and of every sample.
        checkpoint_every: steps between checkpoints; 0: only at the end.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    samples: int = 1
    seed: int = 0
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, least in (
            ("steps", 1),
            ("batch_size", 1),
            ("samples", 1),
            ("checkpoint_every", 0),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {least} or more")
        for name in ("learning_rate", "final_learning_rate"):
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
    """What one step did; means over its batch.

    Attributes:
        step: its number, from 1.
        phase: beta, and whether the prior was trained.
        rate: in nats.
        distortion: in nats.
        error: what the constraint is about.
        loss: what was minimised.
    """

    step: int
    phase: Phase
    rate: float
    distortion: float
    error: float
    loss: float


class Trainer:
    """Trains a VAE under a schedule."""

    def __init__(
        self,
        model: VAE,
        schedule: Schedule,
        config: TrainConfig,
        *,
        flatness: Flatness | None = None,
        fabric: Fabric | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            model: is trained in place.
            schedule: moves beta.
            config: how long and how fast.
            flatness: the regulariser that makes a VAE an FMVAE; joins in the main phase (from
                step 0 it stalls).
            fabric: device, precision and processes; the CPU where left out.
        """
        from lightning_fabric import Fabric

        self._fabric = fabric or Fabric(accelerator="cpu", devices=1)
        self._config = config
        self._schedule = schedule
        self._flatness = flatness
        self._parameters = list(model.parameters())
        self._prior_parameters = list(model.prior.parameters())
        optimiser = torch.optim.Adam(self._parameters, lr=config.learning_rate)
        wrapped, self._optimiser = self._fabric.setup(model, optimiser)
        wrapped.mark_forward_method("terms")
        self._wrapped: Any = wrapped
        self._model = model
        self.step = 0

    def fit(
        self,
        data: Tensor | DataSet,
        *,
        checkpoint: str | Path | None = None,
        on_step: Callable[[Report], None] | None = None,
    ) -> None:
        """Train until the configured number of steps is reached.

        Args:
            data: the training part of a data set; or a tensor ``(N, *event)`` on the CPU.
            checkpoint: where the state is written, every so often and at the end.
            on_step: called after each step.

        Raises:
            InputError: no data, NaN in them, or a loss that is no longer finite; the last
                checkpoint is then still that of a sound state.
        """
        if (len(data.train) if isinstance(data, DataSet) else len(data)) == 0:
            raise InputError("no data to train on")
        whole = torch.from_numpy(data.values()) if isinstance(data, DataSet) else data
        if not torch.isfinite(whole).all():
            raise InputError("the data hold NaN or infinity")
        every = self._config.checkpoint_every
        while self.step < self._config.steps:
            report = self._make_step(self._batch(data))
            if on_step is not None:
                on_step(report)
            if checkpoint is not None and every and self.step % every == 0:
                self.save(checkpoint)
        if checkpoint is not None:
            self.save(checkpoint)

    def _generator(self, purpose: int, number: int) -> torch.Generator:
        """A generator that the seed, a purpose and a number determine."""
        mixed = (self._config.seed * 1_000_003 + purpose) * 1_000_000_007 + number
        return torch.Generator().manual_seed(mixed % 2**63)

    def _batch(self, data: Tensor | DataSet) -> Tensor:
        """This step's observations: every epoch goes through the data in an order of its own."""
        count = len(data.train) if isinstance(data, DataSet) else len(data)
        size = min(self._config.batch_size, count)
        processes, process = self._fabric.world_size, self._fabric.global_rank
        a_round = max(1, count // (size * processes))
        epoch, place = divmod(self.step, a_round)
        order = torch.randperm(count, generator=self._generator(1, epoch))
        first = (place * processes + process) * size
        rows = order[first : first + size]
        if isinstance(data, DataSet):
            return self._fabric.to_device(torch.from_numpy(data.batch(rows.numpy(), epoch=epoch)))
        return self._fabric.to_device(data[rows])

    def _make_step(self, x: Tensor) -> Report:
        """Algorithm 2: one batch, one update of beta, one step of the optimiser."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.rate_at(self.step)
        process = self._fabric.global_rank
        noise = self._generator(2 + process, self.step)
        samples = None if self._config.samples == 1 else self._config.samples
        terms = self._wrapped.terms(x, noise, samples)
        reduced = self._fabric.all_reduce(terms.error.mean().detach(), reduce_op="mean")
        error = float(cast(Tensor, reduced))
        phase = self._schedule.step(error)
        loss = terms.lagrangian(phase.beta).mean()
        if self._flatness is not None and phase.train_prior:
            loss = loss + self._flatness(self._model.decode, terms.latents, noise)
        if not torch.isfinite(loss):
            raise InputError(f"step {self.step + 1}: the loss is {float(loss.detach())}")
        self._optimiser.zero_grad()
        self._fabric.backward(loss)
        if not phase.train_prior:
            for parameter in self._prior_parameters:
                parameter.grad = None  # Adam passes over what has no gradient
        self._optimiser.step()
        self.step += 1
        return Report(
            self.step,
            phase,
            float(terms.rate.mean().detach()),
            float(terms.distortion.mean().detach()),
            error,
            float(loss.detach()),
        )

    # --- checkpoints

    def save(self, path: str | Path) -> None:
        """Write weights, optimiser, schedule and step."""
        from safetensors.torch import save_file

        if self._fabric.global_rank != 0:
            return
        tensors = {f"model.{k}": v.detach().cpu() for k, v in self._model.state_dict().items()}
        moments = self._optimiser.state_dict()["state"]
        for index, state in moments.items():
            tensors |= {f"adam.{index}.{k}": v.detach().cpu() for k, v in state.items()}
        about = {
            "step": self.step,
            "config": asdict(self._config),
            "schedule": type(self._schedule).__name__,
            "state": self._schedule.state_dict(),
            "flatness": None if self._flatness is None else self._flatness.state_dict(),
        }
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        with atomic_path(path) as temporary, write_errors(path):
            save_file(tensors, temporary, metadata={_ENTRY: json.dumps(about)})

    def resume(self, path: str | Path) -> None:
        """Go on from a checkpoint of a run with the same model, schedule and configuration.

        Raises:
            InputError: the file is missing, damaged, or of another run.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads(metadata[_ENTRY])
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such checkpoint") from error
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a checkpoint of a training run ({error})") from error
        mine = {"config": asdict(self._config), "schedule": type(self._schedule).__name__}
        for name, value in mine.items():
            if about[name] != value:
                raise InputError(f"{path}: of another run: {name} is {about[name]}, here {value}")
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k[:6] == "model."}
        try:
            self._model.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f"{path}: its weights belong to another model") from error
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": state, "param_groups": groups})
        self._schedule.load_state_dict(about["state"])
        if self._flatness is not None and about["flatness"] is not None:
            self._flatness.load_state_dict(about["flatness"])
        self.step = int(about["step"])

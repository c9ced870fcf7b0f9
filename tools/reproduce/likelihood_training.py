"""How Table 3.2 trains: one run with its history, the best weights by the validation part."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trackvae.errors import InputError
from trackvae.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.config import ModelConfig
    from trackvae.vae import VAE
    from training.data import DataSet
    from training.schedules import Schedule
    from training.trainer import Report

Objective = Literal["rewo", "geco", "warm-up", "elbo"]
WEIGHTS = "model.safetensors"
_STATE, _HISTORY = "state.safetensors", "history.json"
_CHECKS = 20  # of the validation part, over a run
_VALIDATED = 1_000  # images
_POINTS = 200  # of a course


@dataclass(frozen=True)
class Plan:
    """All that a training run depends on besides its data.

    Attributes:
        model: of :class:`trackvae.config.ModelConfig`, plain values.
        objective: how beta moves.
        steps: batches in all.
        samples: K of the importance-weighted objective; 1: the ELBO.
        seed: of weights, order and noise.
        kappa: of the constraint, for REWO and GECO.
        nu: of the relative constraint, for them too. beta should rise slowly: from 0.01 to 1 within
            1,300 of 12,400 steps (0.05) the bound is 93.9 (MNIST's validation part, VHP + REWO),
            with 0.003 it is 92.9; in 4,000 steps 103.4 with 0.05, 100.3 with 0.01.
        warm_up: share of the steps in which beta rises to 1, for warm-up.
        batch_size: images.
        learning_rate: of Adam at the start. In some 2,000 steps 3e-3 is worth 6.6 nats beside 1e-3
            (98.1 against 104.7, MNIST's validation part, normal prior).
        final_learning_rate: at the end.
    """

    model: Mapping[str, Any]
    objective: Objective
    steps: int
    samples: int = 1
    seed: int = 0
    kappa: float = 0.18
    nu: float = 0.003
    warm_up: float = 0.25
    batch_size: int = 128
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4

    def schedule(self) -> Schedule:
        """What moves beta."""
        from training.schedules import GECO, REWO, FixedBeta, WarmUp

        if self.objective == "rewo":
            return REWO(self.kappa, nu=self.nu, relative=True)
        if self.objective == "geco":
            return GECO(self.kappa, nu=self.nu, relative=True)
        if self.objective == "warm-up":
            return WarmUp(max(1, round(self.warm_up * self.steps)))
        return FixedBeta(1.0)


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers below 1e-38, which Adam's moments reach, are slow: they become 0 in here."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@without_denormals()
def train(plan: Plan, data: DataSet, folder: Path) -> dict[str, Any]:
    """Train, or go on with a run that was cut short in this folder.

    Of the second half of a run, when beta and the learning rate have settled, the weights with the
    best bound on the validation part are kept. (From the start, a GECO run would be caught where
    its beta passes 1.)

    Args:
        plan: what to train.
        data: the test part is not looked at.
        folder: for the weights, a checkpoint and the course so far.

    Returns:
        Plain values: ``course`` (step, beta, rate, distortion), ``validation`` (step, bound),
        ``best_step``, ``cpu_seconds`` and ``parameters``.
    """
    import torch

    from trackvae.config import ModelConfig, build
    from training.trainer import TrainConfig, Trainer

    torch.manual_seed(plan.seed)
    config = ModelConfig.from_dict(plan.model)
    model = build(config)
    if config.prior == "vamp":
        _start_nearly_black(model)
    every = max(1, plan.steps // _CHECKS)
    settings = TrainConfig(
        plan.steps,
        plan.batch_size,
        plan.learning_rate,
        plan.final_learning_rate,
        plan.samples,
        plan.seed,
        checkpoint_every=every,
    )
    trainer = Trainer(model, plan.schedule(), settings)
    watch = _Watch(plan, every, folder)
    if (folder / _STATE).is_file():
        trainer.resume(folder / _STATE)
        watch.resume(trainer.step)
    check = spread(data, "validation", _VALIDATED)
    start = time.process_time()

    def on_step(report: Report) -> None:
        nonlocal start
        watch.note(report)
        if report.step % every == 0 or report.step == plan.steps:
            watch.validate(report.step, model, config, check, time.process_time() - start)
            start = time.process_time()

    trainer.fit(data, checkpoint=folder / _STATE, on_step=on_step)
    size = sum(parameter.numel() for parameter in model.parameters())
    return {**asdict(watch.found), "parameters": size}


def _start_nearly_black(model: VAE) -> None:
    """The VampPrior's pseudo-inputs begin as its authors' do, at 0.05 +- 0.01.

    From training images the bound is 2.4 nats worse after 500 steps (119.8 against 117.4).
    """
    import torch

    with torch.no_grad():
        model.prior.get_parameter("pseudo_inputs").normal_(0.05, 0.01)


def spread(data: DataSet, part: Literal["validation", "test"], count: int) -> Tensor:
    """At most ``count`` images of a part, evenly spaced (MNIST's test file has an order)."""
    import numpy as np
    import torch

    values = data.values(part)
    rows = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return torch.from_numpy(values[rows])


@dataclass
class _Found:
    """What a run has shown so far."""

    course: list[tuple[int, float, float, float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    cpu_seconds: float = 0.0


class _Watch:
    """Keeps the course of a run and its best weights, beside its checkpoints."""

    def __init__(self, plan: Plan, every: int, folder: Path) -> None:
        self.found = _Found()
        self._plan, self._every, self._folder = plan, every, folder
        self._stride = max(1, plan.steps // _POINTS)
        self._sums, self._summed = [0.0, 0.0], 0

    def note(self, report: Report) -> None:
        """A point of the course now and then: rate and distortion are means since the last."""
        self._sums[0] += report.rate
        self._sums[1] += report.distortion
        self._summed += 1
        if report.step % self._stride == 0:
            rate, distortion = (total / self._summed for total in self._sums)
            self.found.course.append((report.step, report.phase.beta, rate, distortion))
            self._sums, self._summed = [0.0, 0.0], 0

    def validate(
        self, step: int, model: VAE, config: ModelConfig, images: Tensor, seconds: float
    ) -> None:
        """The bound that is trained, on the validation part; keep the weights if it is the best."""
        import torch

        from trackvae.bounds import iw_elbo
        from trackvae.storage import save

        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            bound = float(-iw_elbo(model, images, self._plan.samples, noise).mean())
        found = self.found
        earlier = [value for at, value in found.validation if 2 * at > self._plan.steps]
        if 2 * step > self._plan.steps and bound < min(earlier, default=math.inf):
            save(self._folder / WEIGHTS, model, config)
            found.best_step = step
        found.validation.append((step, bound))
        found.cpu_seconds += seconds
        write_text(self._folder / _HISTORY, json.dumps(asdict(found)))

    def resume(self, step: int) -> None:
        """Take up the course of the run whose checkpoint was made at ``step``."""
        path = self._folder / _HISTORY
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self.found = _Found(
                [tuple(point) for point in content["course"] if point[0] <= step],
                [tuple(point) for point in content["validation"] if point[0] <= step],
                content["best_step"],
                content["cpu_seconds"],
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"{path}: damaged ({error}); delete its folder") from error

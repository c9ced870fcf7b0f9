"""Training that starts again where the representation is folded or collapsed.

What prevents folds, and what does not (2-d pendulum, REWO's initial phase with a normal prior; an
angle error above 0.2 rad counts; seeds from 100, which no result is reported on):

- Glorot's rule alone: 9 of 12 bad, the constraint met at step 660 (clean runs: at 400).
- The encoder's means made small at the start (:func:`quiet_means`): 3 of 12 with a gain of 0.1,
  4 of 12 with 0.01 (and 8 of 16 where the variances start at 1 besides); 6 of 16 with 0.03 and
  batches of 256; 4 of 16 with 0.01 and a learning rate of 3e-4, in 2.5 times the steps.
- Without that, a learning rate of 3e-3: 7 of 12; 256x4 units: 8 of 12; beta 0.2: 8 of 12; beta
  held at 0.5 and then lowered to 0.01, learning rate 3e-3: 9 of 10.
- ELU 4 of 12, SiLU 5 of 12, tanh 1 of 12 (and 0 of 8 with a gain of 0.1), but ELU and tanh did not
  meet the constraint within 1,500 steps.

Nothing cheap prevents them all, but a fold shows as soon as the constraint is first met, after a
fifth of a run: to start again there is cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn

from trackvae.errors import UsageError
from trackvae.vae import VAE
from training.data.dataset import DataSet
from training.monitors import Diagnosis

if TYPE_CHECKING:
    from training.trainer import Report, Trainer

_Run = TypeVar("_Run")
_STRIDE = 1_000_003  # between the seeds of attempts: no other run's seed


@dataclass(frozen=True, slots=True)
class Restarted(Generic[_Run]):
    """What came of a training with restarts.

    Attributes:
        run: the one that was kept, trained to the end.
        diagnosis: of it, at the end.
        kept: number of its attempt, from 0.
        diagnoses: the last one of every attempt.
    """

    run: _Run
    diagnosis: Diagnosis
    kept: int
    diagnoses: tuple[Diagnosis, ...]

    @property
    def restarts(self) -> int:
        """How often training started again."""
        return len(self.diagnoses) - 1


def train_with_restarts(
    begin: Callable[[int], _Run],
    check: Callable[[_Run], Diagnosis],
    finish: Callable[[_Run], None],
    *,
    most: int = 6,
) -> Restarted[_Run]:
    """Begin, look, and begin again with another seed unless the representation is sound.

    A run is looked at twice: where ``begin`` stops (early, so that a failure is cheap) and at the
    end. The first that is sound both times is kept; where none is, the least bad one.
    It holds no state of its own: with the same three functions it does the same again.

    Args:
        begin: makes the model of an attempt (0, 1, ...) with a seed of its own
            (:func:`attempt_seed`) and trains it as far as it must be to be judged.
        check: for example :func:`training.monitors.diagnose`.
        finish: trains to the end.
        most: attempts.

    Raises:
        UsageError: no attempt is allowed.
    """
    if most < 1:
        raise UsageError(f"{most} attempts to train, expected at least 1")
    tried: list[tuple[_Run, Diagnosis, bool]] = []
    for attempt in range(most):
        run = begin(attempt)
        diagnosis, finished = check(run), False
        if diagnosis.sound:
            finish(run)
            diagnosis, finished = check(run), True
        tried.append((run, diagnosis, finished))
        if diagnosis.sound:
            break
    kept = min(range(len(tried)), key=lambda number: badness(tried[number][1]))
    run, diagnosis, finished = tried[kept]
    if not finished:
        finish(run)
        diagnosis = check(run)
        tried[kept] = (run, diagnosis, True)
    return Restarted(run, diagnosis, kept, tuple(found for _, found, _ in tried))


def badness(diagnosis: Diagnosis) -> tuple[bool, bool, float]:
    """An order of representations: sound, then folded (the fewer strangers the better), collapsed.

    Returns:
        Smaller is better.
    """
    near = diagnosis.neighbourhoods
    return diagnosis.collapsed, diagnosis.folded, near.crossing + 1e-3 * min(near.tear, 1e3)


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed of an attempt: that of the run for the first, and another for each restart."""
    return seed + attempt * _STRIDE


def fit_until(trainer: Trainer, data: Tensor | DataSet, stop: Callable[[Report], bool]) -> bool:
    """Train until a step's report says stop; :meth:`Trainer.fit` then goes on where it stopped.

    Returns:
        Whether it stopped so, and not because the configured steps were done.
    """

    def on_step(report: Report) -> None:
        if stop(report):
            raise _StopError

    try:
        trainer.fit(data, on_step=on_step)
    except _StopError:
        return True
    return False


class _StopError(Exception):
    """Leaves a training loop."""


@torch.no_grad()
def quiet_means(model: VAE, latent: int, gain: float = 0.1) -> None:
    """Make the encoder's means small at the start, so that noise hides all but the main variation.

    At Glorot's scale the first means are a random projection of the data: a tangle, which training
    keeps. From a small start the directions in which the data vary most grow first. Folds on the
    pendulum: 3 of 12 against 9 of 12.

    Args:
        model: freshly built; its encoder ends in a linear layer of means and log-variances.
        latent: dimensions of z.
        gain: what the means' weights are multiplied with.
    """
    layers = [layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear)]
    layers[-1].weight[:latent] *= gain

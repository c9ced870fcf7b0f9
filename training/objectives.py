"""What is added to the Lagrangian: the flatness regulariser of the FMVAE (thesis, Eq. 5.16)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trackvae.errors import UsageError
from trackvae.flatness import (
    ESTIMATORS,
    MovingScale,
    absolute_penalty,
    mixup,
    relative_penalty,
    some_rows,
)
from trackvae.geometry import Decoder, metric_tensor
from trackvae.reparametrisation import change_coordinates, flat_coordinates
from trackvae.vae import VAE

_START_POINTS, _AT_ONCE = 64, 8  # where the metric is looked at, whole; 64 take 5 s in 128-d


@dataclass(frozen=True)
class FlatnessConfig:
    """How the decoder's metric is pulled towards ``c^2 1``.

    Attributes:
        eta: weight of the penalty beside the rate.
        rho_0: how far mixup reaches beyond the data (Eq. 5.14).
        estimator: one of :data:`trackvae.flatness.ESTIMATORS`.
        penalty: ``absolute`` as in the thesis, or ``relative`` to c^2, which has no scale.
        momentum: of the moving c^2 (Eq. 5.15).
        rows: of the batch, drawn anew at each step, that the penalty is taken on; its mean over
            the draws is the whole batch's. None: all of them. A random probe on 64 rows of 64
            makes a step 3.3 times as dear, on 16 of them 1.5 times (crops of 32 x 32, 128-d).
        scale: c^2 is ``moving``, or ``own``: of this step's sketch and not detached, which leaves
            no pull on the decoder's own scale. With a large eta the pull is what counts: on crops
            in 128 dimensions with eta = 512 it shrank J to c^2 below 1e-3 within 300 steps, and
            the rate grew to 630 nats; ``own`` kept c^2 at 0.7 with 137 nats.
        mixup: also between and beyond the data (Eq. 5.14); False: at the posterior's samples alone.
        identity: pull towards ``c^2 1``; False: towards 0, the ablation of section 5.2.3.1.
        flat_start: at its first step take coordinates in which the metric is ``c^2 1`` on average
            (:mod:`trackvae.reparametrisation`). In many dimensions the least eigenvalues, which
            grow by a share of themselves, take thousands of steps otherwise. Crops, 128
            dimensions: a condition number of 2,430 becomes 36 at once and 3.4 within 630 steps;
            without it those steps lead to 154.
    """

    eta: float
    rho_0: float = 0.2
    estimator: str = "random-projection"
    penalty: Literal["absolute", "relative"] = "relative"
    momentum: float = 0.9
    rows: int | None = None
    scale: Literal["moving", "own"] = "moving"
    mixup: bool = True
    identity: bool = True
    flat_start: bool = False

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not self.eta > 0:
            raise UsageError(f"eta is {self.eta}, expected a positive number")
        if not self.rho_0 >= 0:
            raise UsageError(f"rho_0 is {self.rho_0}, expected 0 or more")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum is {self.momentum}, expected 0 to below 1")
        if self.rows is not None and self.rows < 1:
            raise UsageError(f"rows is {self.rows}, expected 1 or more, or None for all")
        if self.scale not in ("moving", "own"):
            raise UsageError(f"scale is {self.scale!r}, expected moving or own")
        if not self.identity and self.penalty == "relative":
            raise UsageError("identity=False pulls towards 0, which needs penalty='absolute'")
        if self.estimator not in ESTIMATORS:
            known = ", ".join(ESTIMATORS)
            raise UsageError(f"estimator is {self.estimator!r}, expected one of {known}")


class Flatness:
    """``eta F_reg`` of Algorithm 4, with the state of its moving c^2."""

    def __init__(self, config: FlatnessConfig) -> None:
        self._config = config
        self._scale = MovingScale(config.momentum)
        self._begun = False

    @property
    def config(self) -> FlatnessConfig:
        """What it was made of."""
        return self._config

    def __call__(
        self,
        decoder: Decoder,
        z: Tensor,
        generator: torch.Generator | None,
        together: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The weighted penalty of a batch of posterior samples, a scalar.

        Args:
            decoder: ``z (N, D) -> x (N, ...)``.
            z: ``(B, D)``.
            generator: on z's device.
            together: the mean over the processes of a run, which share one moving c^2.
        """
        config = self._config
        mixed = mixup(z, config.rho_0, generator) if config.mixup else z
        sketch = ESTIMATORS[config.estimator](
            decoder, some_rows(mixed, config.rows, generator), generator
        )
        moving = self._scale.step(sketch, together)
        c2 = sketch.mean_diagonal().mean() if config.scale == "own" else moving
        c2 = c2 if config.identity else torch.zeros_like(c2)
        penalty = relative_penalty if config.penalty == "relative" else absolute_penalty
        return config.eta * penalty(sketch, c2)

    def begin(
        self,
        model: VAE,
        x: Tensor,
        generator: torch.Generator,
        together: Callable[[Tensor], Tensor] | None = None,
    ) -> list[Tensor]:
        """Once, when the regulariser has joined: the flat start, where the configuration wants it.

        Args:
            model: is rewritten in place.
            x: ``(B, *event)``, whose posterior samples say where the metric is looked at.
            generator: on x's device.
            together: the mean over the processes of a run, which take the same coordinates.

        Returns:
            The parameters that were rewritten.
        """
        if self._begun or not self._config.flat_start:
            return []
        self._begun = True
        share = together or (lambda value: value)
        with torch.no_grad():
            q = model.encode(x)
            draws = -(-_START_POINTS // max(len(x), 1))
            z = torch.cat([q.sample(generator=generator) for _ in range(draws)])[:_START_POINTS]
            mixed = mixup(z, self._config.rho_0, generator)
            G = torch.cat(
                [metric_tensor(model.decode, rows) for rows in torch.split(mixed, _AT_ONCE)]
            )
            A = flat_coordinates(share(G.mean(0, keepdim=True)))
            log_var = share(q.log_var.exp().mean(0, keepdim=True)).log()
        self._scale.value = None
        return change_coordinates(model, A, log_var)

    def state_dict(self) -> dict[str, Any]:
        """The moving c^2, and whether the start is behind it."""
        return {**self._scale.state_dict(), "begun": self._begun}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._scale.load_state_dict(state)
        self._begun = bool(state["begun"])

"""What is added to the Lagrangian: the flatness regulariser of the FMVAE (thesis, Eq. 5.16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trackvae.errors import UsageError
from trackvae.flatness import ESTIMATORS, MovingScale, absolute_penalty, mixup, relative_penalty
from trackvae.geometry import Decoder


@dataclass(frozen=True)
class FlatnessConfig:
    """How the decoder's metric is pulled towards ``c^2 1``.

    Attributes:
        eta: weight of the penalty beside the rate.
        rho_0: how far mixup reaches beyond the data (Eq. 5.14).
        estimator: one of :data:`trackvae.flatness.ESTIMATORS`.
        penalty: ``absolute`` as in the thesis, or ``relative`` to c^2, which has no scale.
        momentum: of the moving c^2 (Eq. 5.15).
    """

    eta: float
    rho_0: float = 0.2
    estimator: str = "random-projection"
    penalty: Literal["absolute", "relative"] = "relative"
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not self.eta > 0:
            raise UsageError(f"eta is {self.eta}, expected a positive number")
        if not self.rho_0 >= 0:
            raise UsageError(f"rho_0 is {self.rho_0}, expected 0 or more")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum is {self.momentum}, expected 0 to below 1")
        if self.estimator not in ESTIMATORS:
            known = ", ".join(ESTIMATORS)
            raise UsageError(f"estimator is {self.estimator!r}, expected one of {known}")


class Flatness:
    """``eta F_reg`` of Algorithm 4, with the state of its moving c^2."""

    def __init__(self, config: FlatnessConfig) -> None:
        self._config = config
        self._scale = MovingScale(config.momentum)

    def __call__(self, decoder: Decoder, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """The weighted penalty of a batch of posterior samples ``(B, D)``, a scalar."""
        config = self._config
        mixed = mixup(z, config.rho_0, generator)
        sketch = ESTIMATORS[config.estimator](decoder, mixed, generator)
        c2 = self._scale.step(sketch)
        penalty = relative_penalty if config.penalty == "relative" else absolute_penalty
        return config.eta * penalty(sketch, c2)

    def state_dict(self) -> dict[str, Any]:
        """The moving c^2."""
        return self._scale.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._scale.load_state_dict(state)

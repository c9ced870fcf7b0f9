"""How the weight of the reconstruction moves during training, and what is trained when.

A loss is ``rate + (C - kappa^2) / beta``, where ``C`` is the reconstruction error (the part of
-log p(x|z) that depends on z) and ``lambda = 1 / beta`` its Lagrange multiplier (thesis, Eq. 3.3).
The methods differ in how beta moves alone, so each is a small object with :meth:`Schedule.step`.

The constraint's error is ``C_hat - kappa^2`` in whatever unit both have; with ``relative=True`` it
is ``C_hat / kappa^2 - 1``, clipped, which needs no tuning to the data's scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from trackvae.errors import UsageError

_LARGEST_EXPONENT = 700.0  # the exponential of more is no number
# REWO's: from an error of 9,000 (data in tens, not ones) beta fell to exactly 0, and stayed there
_LEAST_BETA = 1e-12
_MOST_RELATIVE_ERROR = 2.0  # a start far from the constraint would otherwise throw beta away


@dataclass(frozen=True, slots=True)
class Phase:
    """What the next step of training does.

    Attributes:
        beta: weight of the rate beside the reconstruction error, > 0.
        train_prior: whether the prior's parameters are trained too, and a state-space model's
            transition (REWO: not in its initial phase).
    """

    beta: float
    train_prior: bool = True


class Schedule(Protocol):
    """Moves beta from step to step."""

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of, plain values: a run goes on only with the same."""
        ...

    def step(self, reconstruction_error: float) -> Phase:
        """Take one batch's mean reconstruction error C; say how its step is made."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on exactly."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state of another run."""
        ...


def heaviside_gate(beta: float, error: float, tau: float, tau_2: float = 1.0) -> float:
    """``f_beta`` of Eq. 3.11 and Algorithm 3.

    ``-tau_2`` while the constraint is violated, else ``tanh(tau (beta - 1))``.

    Args:
        beta: in (0, 1].
        error: ``C_hat - kappa^2``; positive: violated.
        tau: slope, > 0 (tau_1 of Algorithm 3).
        tau_2: pace while it is violated, > 0; Eq. 3.11 has 1.
    """
    return -tau_2 if error > 0 else math.tanh(tau * (beta - 1.0))


def rewo_beta(beta: float, error: float, nu: float, tau: float, tau_2: float = 1.0) -> float:
    """One update of beta by REWO (Eq. 3.11; with tau_2 that of Algorithm 3), kept in (0, 1].

    While the constraint is violated it equals GECO's; once it holds, beta moves to 1, where the
    Lagrangian is the ELBO. Beta falls no lower than 1e-12: from 0 it could not rise again.
    """
    exponent = nu * heaviside_gate(beta, error, tau, tau_2) * error
    moved = beta * math.exp(min(exponent, _LARGEST_EXPONENT))
    return min(max(moved, _LEAST_BETA), 1.0)


def geco_beta(beta: float, error: float, nu: float) -> float:
    """One update of beta by GECO: Eq. 3.4 for ``beta = 1 / lambda``."""
    return beta * math.exp(min(-nu * error, _LARGEST_EXPONENT))


class MovingConstraint:
    """``C_hat_t - kappa^2`` from the batches' errors (Algorithm 2): a moving average with alpha."""

    def __init__(self, kappa: float, alpha: float, *, relative: bool) -> None:
        if not (kappa > 0 and math.isfinite(kappa)):
            raise UsageError(f"kappa is {kappa}, expected a positive number")
        if not 0 <= alpha < 1:
            raise UsageError(f"alpha is {alpha}, expected 0 to below 1")
        self.kappa = kappa
        self._target = kappa**2
        self._alpha = alpha
        self._relative = relative
        self.average: float | None = None

    def update(self, error: float) -> float:
        """Take a batch's C; returns the constraint error, > 0 where it is violated."""
        if self.average is None:
            self.average = error
        self.average = (1 - self._alpha) * error + self._alpha * self.average
        if not self._relative:
            return self.average - self._target
        return min(self.average / self._target - 1.0, _MOST_RELATIVE_ERROR)

    @property
    def ratio(self) -> float | None:
        """``C_hat / kappa^2``: below 1 the constraint is met; None before the first batch."""
        return None if self.average is None else self.average / self._target

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of."""
        return {"kappa": self.kappa, "alpha": self._alpha, "relative": self._relative}


class FixedBeta:
    """The beta-VAE (Higgins et al., 2017); with ``beta=1`` the ELBO."""

    def __init__(self, beta: float = 1.0) -> None:
        if not beta > 0:
            raise UsageError(f"beta is {beta}, expected a positive number")
        self.beta = beta

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of."""
        return {"beta": self.beta}

    def step(self, reconstruction_error: float) -> Phase:  # noqa: ARG002
        """Always the same."""
        return Phase(self.beta)

    def state_dict(self) -> dict[str, Any]:
        """Nothing moves."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing moves."""


class WarmUp:
    """Linear annealing of beta from 0 to 1 over ``steps`` steps (Sønderby et al., 2016).

    The first step has ``1 / steps``: with beta = 0 the loss is not defined in this form.
    """

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise UsageError(f"warm-up of {steps} steps, expected at least 1")
        self._steps = steps
        self._done = 0

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of."""
        return {"steps": self._steps}

    def step(self, reconstruction_error: float) -> Phase:  # noqa: ARG002
        """One step further."""
        self._done += 1
        return Phase(min(self._done / self._steps, 1.0))

    def state_dict(self) -> dict[str, Any]:
        """How many steps were made."""
        return {"done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._done = int(state["done"])


class _Constrained:
    """What GECO, REWO and the alternative share: a moving constraint and a beta."""

    def __init__(self, kappa: float, beta: float, alpha: float, *, relative: bool) -> None:
        if not (beta > 0 and math.isfinite(beta)):
            raise UsageError(f"beta is {beta}, expected a positive number")
        self.beta = beta
        self.constraint = MovingConstraint(kappa, alpha, relative=relative)
        self._first_beta = beta

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of."""
        return {"beta": self._first_beta, **self.constraint.settings}

    def state_dict(self) -> dict[str, Any]:
        """Beta and the moving average."""
        return {"beta": self.beta, "average": self.constraint.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.beta = float(state["beta"])
        self.constraint.average = state["average"]


class GECO(_Constrained):
    """Rezende and Viola (2018), Eq. 3.4: beta moves until the constraint is met with equality."""

    def __init__(
        self,
        kappa: float,
        *,
        nu: float = 1.0,
        beta: float = 0.01,
        alpha: float = 0.95,
        relative: bool = False,
    ) -> None:
        super().__init__(kappa, beta, alpha, relative=relative)
        self._nu = nu

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of."""
        return {**super().settings, "nu": self._nu}

    def step(self, reconstruction_error: float) -> Phase:
        """Update beta by the constraint's error."""
        error = self.constraint.update(reconstruction_error)
        self.beta = geco_beta(self.beta, error, self._nu)
        return Phase(self.beta)


class REWO(_Constrained):
    """Reconstruction-error-based weighting of the objective function (Algorithm 2).

    Initial phase: beta stays small and the prior is not trained, until the constraint is met once.
    Main phase: everything is trained, and beta moves by Eq. 3.11.
    """

    def __init__(
        self,
        kappa: float,
        *,
        nu: float = 1.0,
        tau: float = 3.0,
        beta: float = 0.01,
        alpha: float = 0.95,
        relative: bool = False,
    ) -> None:
        if not beta <= 1:
            raise UsageError(f"beta is {beta}, expected (0, 1]: REWO never exceeds the ELBO's 1")
        super().__init__(kappa, beta, alpha, relative=relative)
        self._nu, self._tau = nu, tau
        self.initial_phase = True

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of."""
        return {**super().settings, "nu": self._nu, "tau": self._tau}

    def step(self, reconstruction_error: float) -> Phase:
        """Leave the initial phase once the constraint is met; then update beta."""
        error = self.constraint.update(reconstruction_error)
        if error < 0:
            self.initial_phase = False
        if not self.initial_phase:
            self.beta = self._next_beta(error)
        return Phase(self.beta, train_prior=not self.initial_phase)

    def _next_beta(self, error: float) -> float:
        return rewo_beta(self.beta, error, self._nu, self._tau)

    def state_dict(self) -> dict[str, Any]:
        """Beta, the moving average, the phase."""
        return {**super().state_dict(), "initial_phase": self.initial_phase}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self.initial_phase = bool(state["initial_phase"])


class SequenceREWO(REWO):
    """REWO for deep state-space models (Algorithm 3).

    It differs from Algorithm 2 in that beta starts at 1 and moves in the initial phase too, and in
    its two slopes: with the thesis's constants beta falls a hundred times more slowly than it
    rises. They belong to an error that is a mean over pixels, time and batch (Table A.2).
    """

    def __init__(
        self,
        kappa: float = 0.03,
        *,
        nu: float = 300.0,
        tau_1: float = 10.0,
        tau_2: float = 0.01,
        beta: float = 1.0,
        alpha: float = 0.9,
    ) -> None:
        super().__init__(kappa, nu=nu, tau=tau_1, beta=beta, alpha=alpha)
        if not tau_2 > 0:
            raise UsageError(f"tau_2 is {tau_2}, expected a positive number")
        self._tau_2 = tau_2

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made of."""
        return {**super().settings, "tau_2": self._tau_2}

    def step(self, reconstruction_error: float) -> Phase:
        """Update beta; leave the initial phase once the constraint is met."""
        error = self.constraint.update(reconstruction_error)
        self.beta = rewo_beta(self.beta, error, self._nu, self._tau, self._tau_2)
        if error <= 0:
            self.initial_phase = False
        return Phase(self.beta, train_prior=not self.initial_phase)


class AlternativeREWO(REWO):
    """REWO with the update of Eq. 3.12 and 3.13: ``beta = 1 / (1 + tau gamma)``.

    ``gamma`` moves as GECO's lambda does, so that beta stays below 1; the thesis found it harder
    to tune (section 3.5.1.3).
    """

    def _next_beta(self, error: float) -> float:
        gamma = (1.0 / self.beta - 1.0) / self._tau
        return 1.0 / (1.0 + self._tau * gamma * math.exp(min(self._nu * error, _LARGEST_EXPONENT)))

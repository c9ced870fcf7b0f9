"""What becomes of kappa in a run: whether and when it is met, and whether it ever can be."""

from __future__ import annotations

import math
from typing import Any

from training.schedules import MovingConstraint, Phase

_LEAST_GAIN = 0.99  # of one window's error on the next: above this factor it is at rest


class LevelledOff:
    """Tells that the error has come to rest above kappa^2, so that it will never be met.

    The errors' means over windows of ``window`` steps are compared. It is at rest when two windows
    in a row each gained less than 1% on the one before (a batch's error scatters by about 10%, the
    mean of 1000 by 0.3%), and the pace of both together, kept up to the end of the run, would not
    bring the error to kappa^2: errors fall ever more slowly, so that this is more than can be hoped
    for. What is slow but within reach goes on.
    """

    def __init__(self, window: int, target: float) -> None:
        """Look at windows of ``window`` steps; ``target`` is kappa^2."""
        self._window = window
        self._target = target
        self._sum, self._count = 0.0, 0
        self._means: list[float] = []  # of the last three windows

    def step(self, error: float, remaining: int) -> float | None:
        """Take a batch's error.

        Args:
            error: C.
            remaining: steps to the end of the run.

        Returns:
            Where the error came to rest; None while it has not, or is not above kappa^2.
        """
        self._sum += error
        self._count += 1
        if self._count < self._window:
            return None
        self._means = [*self._means[-2:], self._sum / self._count]
        self._sum, self._count = 0.0, 0
        return self._rest(remaining) if len(self._means) == 3 else None

    def _rest(self, remaining: int) -> float | None:
        first, second, last = self._means
        at_rest = second > _LEAST_GAIN * first and last > _LEAST_GAIN * second
        if not at_rest or last <= self._target:
            return None
        pace = min(last / first, 1.0) ** (1 / (2 * self._window))  # factor a step
        return last if last * pace**remaining > self._target else None

    def state_dict(self) -> dict[str, Any]:
        """The windows so far."""
        return {"sum": self._sum, "count": self._count, "means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._sum, self._count = float(state["sum"]), int(state["count"])
        self._means = [float(mean) for mean in state["means"]]


class KappaWatch:
    """Follows the constraint of a run.

    Attributes:
        met_at: the first step at which the moving error was below kappa^2; None: at none.
        rest: where the error came to rest in REWO's initial phase; None: it has not.
    """

    def __init__(self, constraint: MovingConstraint | None, patience: int, steps: int) -> None:
        """Watch a run.

        Args:
            constraint: of the schedule; None: there is none, and nothing to watch.
            patience: window of :class:`LevelledOff`; 0: never give up.
            steps: of the whole run.
        """
        self._constraint = constraint
        self._patience, self._steps = patience, steps
        self._levelled = None
        if constraint is not None and patience:
            self._levelled = LevelledOff(patience, constraint.kappa**2)
        self.met_at: int | None = None
        self.rest: float | None = None

    @property
    def ratio(self) -> float | None:
        """``C_hat / kappa^2``; None without a constraint."""
        return None if self._constraint is None else self._constraint.ratio

    @property
    def average(self) -> float | None:
        """The constraint's moving error ``C_hat``."""
        return None if self._constraint is None else self._constraint.average

    def step(self, step: int, error: float, phase: Phase) -> None:
        """See what a step did.

        Args:
            step: its number, from 1.
            error: its batch's C.
            phase: what the schedule said to it.
        """
        ratio = self.ratio
        if self.met_at is None and ratio is not None and ratio < 1:
            self.met_at = step
        if self._levelled is not None and not phase.train_prior:
            self.rest = self._levelled.step(error, self._steps - step)

    def unmet(self, step: int, error: float, how: str) -> str:
        """One line about a kappa that was not met."""
        kappa = math.nan if self._constraint is None else self._constraint.kappa
        return (
            f"kappa {kappa:.4g} was not met in {step} steps: the root of the error {how} at "
            f"{math.sqrt(max(error, 0.0)):.3g} (error {error:.3g}); give a kappa above that, a "
            "larger model, or more steps"
        )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on exactly."""
        windows = None if self._levelled is None else self._levelled.state_dict()
        return {"met_at": self.met_at, "windows": windows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; with another patience the windows begin anew."""
        self.met_at, self.rest = state["met_at"], None
        if self._levelled is not None and state["windows"] is not None:
            self._levelled.load_state_dict(state["windows"])

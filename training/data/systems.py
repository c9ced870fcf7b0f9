"""Dynamic systems: recorded into data sets, and stepped as environments a policy is tested on.

A system is its equations and its looks; :class:`Environment` gives it a state and a clock, and
:func:`record` drives many environments at once with random controls. Data set and environment
therefore show the same pictures of the same motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray
from trackvae.errors import UsageError
from training.data.sequences import Sequences, SequenceSet


class System(Protocol):
    """Equations of motion and a camera."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    @property
    def interval(self) -> float:
        """Seconds of one step."""
        ...

    @property
    def controls(self) -> int:
        """D_u."""
        ...

    @property
    def control_scale(self) -> float:
        """What one unit of control is in the system's own unit."""
        ...

    @property
    def state_names(self) -> tuple[str, ...]:
        """Of the D_s columns of a state."""
        ...

    def start(self, count: int, generator: np.random.Generator) -> FloatArray:
        """States (count, D_s) drawn from the initial distribution."""
        ...

    def advance(self, states: FloatArray, controls: FloatArray) -> FloatArray:
        """States (B, D_s) one step later, under controls (B, D_u) in units of control_scale."""
        ...

    def observe(self, states: FloatArray) -> npt.NDArray[Any]:
        """What is seen of states (..., D_s): (..., *event), uint8 or float32."""
        ...


@dataclass(frozen=True)
class Viewed:
    """A system that is looked at in another way: it moves as it did.

    Attributes:
        system: what moves.
        view: of its observations (B, *event) what is seen instead.
    """

    system: System
    view: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

    @property
    def name(self) -> str:
        """The system's; likewise what follows."""
        return self.system.name

    @property
    def interval(self) -> float:
        """Seconds of one step."""
        return self.system.interval

    @property
    def controls(self) -> int:
        """D_u."""
        return self.system.controls

    @property
    def control_scale(self) -> float:
        """What one unit of control is in the system's own unit."""
        return self.system.control_scale

    @property
    def state_names(self) -> tuple[str, ...]:
        """Of the D_s columns of a state."""
        return self.system.state_names

    def start(self, count: int, generator: np.random.Generator) -> FloatArray:
        """As the system's."""
        return self.system.start(count, generator)

    def advance(self, states: FloatArray, controls: FloatArray) -> FloatArray:
        """As the system's."""
        return self.system.advance(states, controls)

    def observe(self, states: FloatArray) -> npt.NDArray[Any]:
        """The view of what the system shows of states (B, D_s)."""
        return self.view(self.system.observe(states))


class Environment:
    """A batch of copies of a system, with ``reset`` and ``step``."""

    def __init__(self, system: System, count: int = 1, *, seed: int = 0) -> None:
        """Make the copies and draw where they start.

        Args:
            system: the equations.
            count: B, how many side by side.
            seed: of the states they start in.

        Raises:
            UsageError: no copy at all.
        """
        if count < 1:
            raise UsageError(f"{count} environments, expected at least 1")
        self.system = system
        self.count = count
        self._generator = np.random.default_rng(seed)
        self._states = system.start(count, self._generator)

    @property
    def states(self) -> FloatArray:
        """(B, D_s), a copy."""
        return self._states.copy()

    def reset(self, states: FloatArray | None = None) -> npt.NDArray[Any]:
        """Start anew.

        Args:
            states: (B, D_s) where; None: drawn from the initial distribution.

        Returns:
            (B, *event), what is seen there.
        """
        if states is None:
            states = self.system.start(self.count, self._generator)
        expected = (self.count, len(self.system.state_names))
        if np.shape(states) != expected:
            raise UsageError(f"states are {np.shape(states)}, expected {expected}")
        self._states = np.array(states, dtype=np.float64)
        return self.system.observe(self._states)

    def step(self, controls: npt.ArrayLike) -> npt.NDArray[Any]:
        """Apply controls for one interval.

        Args:
            controls: (B, D_u), finite, in units of ``system.control_scale``.

        Returns:
            (B, *event), what is seen afterwards.

        Raises:
            UsageError: controls of another shape, or not finite.
        """
        given = np.asarray(controls, dtype=np.float64)
        expected = (self.count, self.system.controls)
        if given.shape != expected or not np.isfinite(given).all():
            raise UsageError(f"controls are {given.shape}, expected finite numbers {expected}")
        self._states = self.system.advance(self._states, given)
        return self.system.observe(self._states)


def record(system: System, count: int, steps: int, *, seed: int) -> Sequences:
    """Drive copies of a system by controls drawn uniformly from [-1, 1] at each step.

    Args:
        system: what moves.
        count: N, sequences.
        steps: T of each.
        seed: of the initial states and of the controls.

    Returns:
        Observations (N, T, *event), controls (N, T, D_u) and states (N, T, D_s).

    Raises:
        UsageError: no sequence, or no step.
    """
    if count < 1 or steps < 1:
        raise UsageError(f"{count} sequences of {steps} steps, expected at least 1 of each")
    generator = np.random.default_rng(seed)
    states = np.empty((count, steps, len(system.state_names)))
    states[:, 0] = system.start(count, generator)
    # float32 before they act: what the model is told is what the system felt
    controls = generator.uniform(-1.0, 1.0, (count, steps, system.controls)).astype(np.float32)
    for t in range(steps - 1):
        states[:, t + 1] = system.advance(states[:, t], controls[:, t].astype(np.float64))
    return Sequences(system.observe(states), controls, states)


def recorded_set(
    system: System, *, train: int, test: int, steps: int, seed: int, validation: int = 0
) -> SequenceSet:
    """Parts of a data set, each from random numbers of its own.

    Args:
        system: what moves.
        train: sequences to train on; likewise ``validation`` and ``test``, which may be 0.
        test: to report on.
        steps: T of each.
        seed: of all; the parts' own seeds are derived from it.
        validation: to choose settings by.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    parts: dict[str, Sequences] = {}
    for number, (part, size) in enumerate(sizes.items()):
        if size < 0 or seed < 0:
            raise UsageError(f"{size} sequences of {part}, seed {seed}: expected 0 or more")
        made = record(system, max(size, 1), steps, seed=3 * seed + number)
        parts[part] = made.take(slice(size))
    return SequenceSet(
        name=system.name,
        **parts,
        interval=system.interval,
        control_scale=system.control_scale,
        state_names=system.state_names,
        note=f"{train} sequences of {steps} steps made with seed {seed}, {validation} more to "
        f"validate and {test} to test on, each part from random numbers of its own",
    )

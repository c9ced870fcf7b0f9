"""Sequences of observations with controls: what a state-space model learns from.

Batch first, ``(N, T, ...)``. Control ``u[t]`` drives the state from ``t`` to ``t + 1``, so that the
last one of a sequence moves nothing. True states lie beside the observations to measure a model by
(R^2); nothing learns from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError
from training.data.dataset import LEAST, PARTS, Part, as_float


@dataclass(frozen=True, slots=True)
class Sequences:
    """Recorded sequences, padded to one length where theirs differ.

    Attributes:
        observations: (N, T, *event), uint8 (pixels, 0 to 255) or float32.
        controls: (N, T, D_u) float32, in the unit that the model sees; D_u may be 0.
        states: (N, T, D_s) the true states, in the system's units; D_s is 0 where unknown.
        lengths: (N,) how many steps of each are real, 1 to T; what is behind them is padding.
            None: all T.
    """

    observations: npt.NDArray[Any]
    controls: npt.NDArray[np.float32]
    states: FloatArray
    lengths: IntArray | None = None

    def __post_init__(self) -> None:
        observed = self.observations
        if observed.ndim < 3 or observed.dtype not in (np.uint8, np.float32):
            raise InputError(
                f"observations are {observed.dtype} {observed.shape}, expected uint8 or float32 "
                "(sequences, steps, ...)"
            )
        for name, array in (("controls", self.controls), ("states", self.states)):
            if array.ndim != 3 or array.shape[:2] != observed.shape[:2]:
                raise InputError(
                    f"{name} are {array.shape}, expected ({observed.shape[0]}, "
                    f"{observed.shape[1]}, ...) as the observations {observed.shape}"
                )
        if self.lengths is not None:
            self._check_lengths(self.lengths)
        self._check_finite()

    def _check_lengths(self, lengths: IntArray) -> None:
        if lengths.shape != self.observations.shape[:1]:
            raise InputError(f"{lengths.shape} lengths for {len(self)} sequences")
        wrong = (lengths < 1) | (lengths > self.steps)
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"sequence {row} is {lengths[row]} steps long, expected 1 to {self.steps}"
            )

    def _check_finite(self) -> None:
        """No NaN or infinity in what a model would see; padding may hold anything."""
        real = self.mask()
        for name, array in (("observations", self.observations), ("controls", self.controls)):
            if array.dtype == np.uint8:
                continue
            finite = np.isfinite(array).all(axis=tuple(range(2, array.ndim))) | ~real
            if not finite.all():
                row, step = np.argwhere(~finite)[0]
                raise InputError(
                    f"{name} of sequence {row} hold NaN or infinity at step {step} "
                    f"({(~finite).any(axis=1).sum()} of {len(self)} sequences do)"
                )

    def __len__(self) -> int:
        return len(self.observations)

    @property
    def steps(self) -> int:
        """T."""
        return self.observations.shape[1]

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.observations.shape[2:]

    def mask(self) -> npt.NDArray[np.bool_]:
        """(N, T) which steps are real."""
        lengths = np.full(len(self), self.steps) if self.lengths is None else self.lengths
        return np.arange(self.steps) < lengths[:, None]

    def values(self) -> npt.NDArray[np.float32]:
        """Observations (N, T, *event) as float32, pixels in [0, 1]; padding is 0."""
        return self._without_padding(as_float(self.observations))

    def inputs(self) -> npt.NDArray[np.float32]:
        """Controls (N, T, D_u); padding is 0."""
        return self._without_padding(self.controls)

    def _without_padding(self, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if self.lengths is None:
            return array
        real = self.mask().reshape(*array.shape[:2], *[1] * (array.ndim - 2))
        return np.where(real, array, np.float32(0))

    def take(self, rows: IntArray | slice) -> Sequences:
        """Some of them."""
        lengths = None if self.lengths is None else self.lengths[rows]
        return Sequences(self.observations[rows], self.controls[rows], self.states[rows], lengths)


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Sequences of one system in three parts.

    Attributes:
        name: for reports.
        train: at least two sequences.
        validation: to choose settings by; may be empty.
        test: to report on; may be empty.
        interval: seconds between two steps.
        control_scale: what one unit of a control is in the system's own unit.
        state_names: of the columns of ``states``.
        note: how it came about and what was reduced, for the results.
    """

    name: str
    train: Sequences
    validation: Sequences
    test: Sequences
    interval: float = 1.0
    control_scale: float = 1.0
    state_names: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.train) < LEAST:
            raise InputError(
                f"{self.name}: {len(self.train)} sequence(s) to train on, expected at least {LEAST}"
            )
        wanted = (self.train.event, self.train.controls.shape[2:])
        for part in PARTS:
            sequences = self.part(part)
            found = (sequences.event, sequences.controls.shape[2:])
            if found != wanted:
                raise InputError(
                    f"{self.name}: {part} has observations {found[0]} and controls {found[1]}, "
                    f"train {wanted[0]} and {wanted[1]}"
                )

    def part(self, part: Part) -> Sequences:
        """A part by name."""
        sequences: Sequences = getattr(self, part)
        return sequences

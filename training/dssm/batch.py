"""Sequences of observations and controls as tensors: what a state-space model takes.

``controls[:, t]`` drives the state from step t to step t + 1, so that T observations go with T - 1
controls. Sequences of unequal length are padded at the end and masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trackvae.errors import InputError
from training.data.sequences import Sequences


@dataclass(frozen=True, slots=True, eq=False)
class SequenceBatch:
    """N sequences of T steps.

    Attributes:
        observations: ``(N, T, *event)``.
        controls: ``(N, T - 1, D_u)``; D_u may be 0.
        mask: ``(N, T)`` of bool, True where there is an observation; None: everywhere. What stands
            at the other steps is not looked at, but must be finite.
    """

    observations: Tensor
    controls: Tensor
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            InputError: controls or a mask of the wrong length, no step at all; no tensors of real
                numbers, no mask of bool.
        """
        for name, values in (("observations", self.observations), ("controls", self.controls)):
            if not isinstance(values, Tensor) or not values.is_floating_point():
                kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
                raise InputError(
                    f"{name} are {kind}, expected a tensor of real numbers (SequenceBatch.of makes "
                    "a batch of recorded sequences)"
                )
        shape = tuple(self.observations.shape)
        if len(shape) < 3 or shape[1] < 1:
            raise InputError(f"observations are {shape}, expected (sequences, steps from 1, event)")
        wanted = (shape[0], shape[1] - 1)
        if self.controls.dim() != 3 or tuple(self.controls.shape[:2]) != wanted:
            raise InputError(
                f"controls are {tuple(self.controls.shape)}, expected {wanted} and their own "
                f"dimensions: one between each two of the {shape[1]} observations"
            )
        if self.mask is not None and tuple(self.mask.shape) != shape[:2]:
            raise InputError(f"mask is {tuple(self.mask.shape)}, expected {shape[:2]}")
        if self.mask is not None and self.mask.dtype != torch.bool:
            raise InputError(f"mask is {self.mask.dtype}, expected bool")

    @classmethod
    def of(cls, sequences: Sequences) -> SequenceBatch:
        """A data set's sequences, whose last control moves nothing and is left out."""
        mask = None if sequences.lengths is None else torch.from_numpy(sequences.mask())
        return cls(
            torch.from_numpy(sequences.values()),
            torch.from_numpy(sequences.inputs()[:, :-1]),
            mask,
        )

    @classmethod
    def padded(cls, observations: Sequence[Tensor], controls: Sequence[Tensor]) -> SequenceBatch:
        """Sequences of unequal length, filled up with zeros and masked.

        Args:
            observations: ``(T_i, *event)`` of each, T_i >= 1.
            controls: ``(T_i - 1, D_u)`` of each.

        Raises:
            InputError: none at all; the controls of a sequence are of the wrong length; sequences
                of different shapes.
        """
        if not observations or len(observations) != len(controls):
            raise InputError(
                f"{len(observations)} sequences of observations and {len(controls)} of controls, "
                "expected as many of both, and one at least"
            )
        event, inputs = observations[0].shape[1:], controls[0].shape[1:]
        for number, (x, u) in enumerate(zip(observations, controls, strict=True)):
            if len(x) < 1 or len(u) != len(x) - 1:
                raise InputError(
                    f"sequence {number}, from 0: {len(x)} observations and {len(u)} controls, "
                    "expected one control between each two observations"
                )
            if x.shape[1:] != event or u.shape[1:] != inputs:
                raise InputError(
                    f"sequence {number}, from 0: observations {tuple(x.shape)} and controls "
                    f"{tuple(u.shape)}, expected (steps, ...) with {tuple(event)} and "
                    f"{tuple(inputs)} as in sequence 0"
                )
        steps = torch.tensor([len(x) for x in observations])
        pad = torch.nn.utils.rnn.pad_sequence
        return cls(
            pad(list(observations), batch_first=True),
            pad(list(controls), batch_first=True),
            torch.arange(int(steps.max())) < steps[:, None],
        )

    def __len__(self) -> int:
        """N."""
        return len(self.observations)

    def __getitem__(self, rows: Tensor | slice) -> SequenceBatch:
        """Some of them."""
        mask = None if self.mask is None else self.mask[rows]
        return SequenceBatch(self.observations[rows], self.controls[rows], mask)

    @property
    def steps(self) -> int:
        """T, padding included."""
        return self.observations.shape[1]

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return tuple(self.observations.shape[2:])

    @property
    def weights(self) -> Tensor:
        """``(N, T)``, 1 where there is an observation, 0 elsewhere."""
        if self.mask is None:
            return torch.ones_like(self.observations.flatten(2)[..., 0])
        return self.mask.to(self.observations.dtype)

    @property
    def going_on(self) -> Tensor | None:
        """``(N, T)`` of bool, where there is an observation at that step or later.

        The rest is padding behind a sequence's end; None: there is no mask.
        """
        return None if self.mask is None else self.mask.flip(1).cummax(1).values.flip(1)

    def first(self, steps: int) -> SequenceBatch:
        """The first so many steps of each, for states that are to be inferred from them alone."""
        mask = None if self.mask is None else self.mask[:, :steps]
        return SequenceBatch(self.observations[:, :steps], self.controls[:, : steps - 1], mask)

    def to(self, device: torch.device | str) -> SequenceBatch:
        """On another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return SequenceBatch(self.observations.to(device), self.controls.to(device), mask)

    def check(self) -> None:
        """See that everything is finite.

        Raises:
            InputError: NaN or infinity, at which sequence and step.
        """
        for name, values in (("observations", self.observations), ("controls", self.controls)):
            sound = values.flatten(2).isfinite().all(-1)
            if not bool(sound.all()):
                row, step = (~sound).nonzero()[0].tolist()
                raise InputError(f"the {name} hold NaN or infinity (sequence {row}, step {step})")

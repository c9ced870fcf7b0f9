"""What the models with recurrent networks share: reading sequences, memories, the rate of z_1.

Deep Kalman smoothers, deep variational Bayes smoothers and recurrent state-space models read
observations by an LSTM that stands in for a filter's or a smoother's recursion (section 2.3.3).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trackvae.distributions import Gaussian
from trackvae.priors import StandardNormal
from training.dssm.batch import SequenceBatch
from training.dssm.model import (
    LearnedGaussian,
    Posterior,
    SequenceConfig,
    States,
    StateSpaceModel,
    check_posterior,
)

Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class RecurrentConfig(SequenceConfig):
    """What the configurations of models with a recurrent posterior have beside the others'.

    Attributes:
        units: of the LSTM, or LSTMs, that read observations.
        head: units between what has been read and the posterior.
        posterior: ``smoother`` or ``filter``; each model says what its filter version leaves out.
    """

    units: int = 128
    head: tuple[int, ...] = (64,)
    posterior: Posterior = "smoother"

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        super().__post_init__()
        check_posterior(self.posterior)


class Reader(nn.Module):
    """An LSTM over observations and controls, from the first step on or from the last one back.

    Forward, its output at t knows ``x_{1:t}`` and ``u_{1:t-1}``; backward, ``x_{t:T}`` and
    ``u_{t:T-1}``. Steps behind a sequence's end are not read.
    """

    def __init__(self, inputs: int, controls: int, units: int, direction: Direction) -> None:
        """Make one.

        Args:
            inputs: dimensions of an observation, all together.
            controls: D_u.
            units: of the LSTM.
            direction: forward or backward.
        """
        super().__init__()
        self.direction = direction
        self.lstm = nn.LSTM(inputs + controls, units, batch_first=True)

    def forward(self, x: SequenceBatch) -> Tensor:
        """What has been read at each step, ``(B, T, units)``; anything behind a sequence's end."""
        weights = None if x.mask is None else x.weights.unsqueeze(-1)
        seen, u = x.observations.flatten(2), x.controls
        if weights is not None:
            u = u * weights[:, 1:]  # a control is felt where there is a step after it
        none = u.new_zeros(len(u), 1, u.shape[2])
        if self.direction == "forward":
            read, _ = self.lstm(torch.cat([seen, torch.cat([none, u], 1)], -1))
            return read
        inputs = torch.cat([seen, torch.cat([u, none], 1)], -1)
        order = reversal(x)
        read, _ = self.lstm(_reordered(inputs, order))
        return _reordered(read, order)


def backward_reading(config: RecurrentConfig) -> tuple[Reader | None, int, tuple[int, ...]]:
    """What reads ``x_{t:T}``, and the network that its output needs to become a Gaussian.

    Returns:
        The reader of a smoother; None of a filter, whose networks see x_t itself and are as much
        deeper; how much they see; their hidden units.
    """
    size = math.prod(config.event)
    if config.posterior == "filter":
        return None, size, (config.units, *config.head)
    reader = Reader(size, config.controls, config.units, "backward")
    return reader, config.units, config.head


def reversal(x: SequenceBatch) -> Tensor:
    """``(B, T)`` the steps of each sequence from its last to its first, padding where it is.

    There are no gaps: an LSTM would read them as if time had stood still.
    """
    steps = torch.arange(x.steps, device=x.observations.device)
    if x.mask is None:
        return steps.flip(0).expand(len(x), -1)
    lengths = x.mask.sum(1, keepdim=True)
    return torch.where(steps < lengths, lengths - 1 - steps, steps)


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    return values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[2]))


class Memory(nn.Module):
    """An LSTM that is advanced step by step; both of its vectors are kept as one.

    Attributes:
        size: of the memory, twice the units.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(inputs, units)
        self.size = 2 * units

    def empty(self, like: Tensor) -> Tensor:
        """The memory before the first step, ``(B, size)``, for inputs ``(B, D)``."""
        return like.new_zeros(len(like), self.size)

    def forward(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """One step on: ``(B, D)`` and ``(B, size)`` to ``(B, size)``."""
        hidden, cell = memory.chunk(2, dim=-1)
        return torch.cat(self.cell(inputs, (hidden.contiguous(), cell.contiguous())), dim=-1)

    def read(self, memory: Tensor) -> Tensor:
        """What other networks see of it, ``(..., units)``."""
        return memory[..., : self.size // 2]


class RecurrentModel(StateSpaceModel):
    """A model whose network reads observations, in a smoother and in a filter version.

    Attributes:
        version: which of the two.
    """

    version: Posterior

    def __init__(
        self, config: RecurrentConfig, decoder: nn.Module, prior: nn.Module | None = None
    ) -> None:
        """As of every model; see :class:`training.dssm.model.StateSpaceModel`."""
        super().__init__(config, decoder, prior)
        self.version = config.posterior

    def filter(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """States given the observations up to each step; of the smoother by T passes."""
        self.check(x, finite=True)
        if self.version == "filter":
            return self._states(x, generator)
        return from_prefixes(x, lambda past: self._states(past, generator))

    def smooth(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """States given all observations; the filter version knows no more than its past."""
        self.check(x, finite=True)
        return self._states(x, generator)

    @abstractmethod
    def _states(self, x: SequenceBatch, generator: torch.Generator | None) -> States:
        """States given all that this version reads, along means, or samples with a generator."""


def initial_rate(
    q: Gaussian, z: Tensor, prior: nn.Module, generator: torch.Generator | None
) -> Tensor:
    """``KL(q(z_1) || p(z_1))``: in closed form, or with a VHP at the sample (Eq. 4.8).

    Args:
        q: the posterior of z_1, ``(B, D_z)``.
        z: its sample, ``(B, D_z)``.
        prior: p(z_1).
        generator: where the VHP's noise comes from.

    Returns:
        ``(B,)``.
    """
    if isinstance(prior, StandardNormal):
        return q.kl_to_standard_normal().sum(-1)
    if isinstance(prior, LearnedGaussian):
        return q.kl_to(prior.gaussian()).sum(-1)
    found: Tensor = q.log_prob(z) - prior.log_prob(z, generator)  # type: ignore[operator]
    return found


def from_prefixes(x: SequenceBatch, smooth: Callable[[SequenceBatch], States]) -> States:
    """Filtered states of a model that has learned to smooth: each step the last one of its past.

    Takes T passes; a network that reads from the end back has no shorter way.

    Args:
        x: the sequences.
        smooth: states given all of a batch's steps.
    """
    found = [smooth(x.first(t + 1)) for t in range(x.steps)]
    memories = [states.memory[:, -1] for states in found if states.memory is not None]
    return States(
        torch.stack([states.mean[:, -1] for states in found], dim=1),
        torch.stack([states.factor[:, -1] for states in found], dim=1),
        torch.stack(memories, dim=1) if memories else None,
    )


def product(first: Gaussian, second: Gaussian) -> Gaussian:
    """The normalised product of two Gaussian densities (Eq. 4.12): precisions add.

    Args:
        first: ``(..., D)``.
        second: the same shape.
    """
    precision, other = (-first.log_var).exp(), (-second.log_var).exp()
    variance = (precision + other).reciprocal()
    mean = variance * (precision * first.mean + other * second.mean)
    return Gaussian(mean, variance.log())


def stacked(gaussians: list[Gaussian]) -> Gaussian:
    """Gaussians ``(B, D)`` of T steps as one ``(B, T, D)``."""
    return Gaussian(
        torch.stack([g.mean for g in gaussians], dim=1),
        torch.stack([g.log_var for g in gaussians], dim=1),
    )

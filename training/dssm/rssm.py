"""The recurrent state-space model (Hafner et al., 2019) as section 4.4.3 of the thesis uses it.

The transition sees the states before only through an LSTM, ``p(z_{t+1} | h_t)`` with
``h_t = LSTM(z_{1:t}, u_{1:t})``; observations are decoded of z alone. What of a system's state the
LSTM keeps, z need not: the state space is not Markovian, as table 4.3 is there to show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from trackvae.distributions import Gaussian
from trackvae.networks import GaussianHead, mlp
from training.dssm.batch import SequenceBatch
from training.dssm.model import (
    Inference,
    States,
    step_networks,
)
from training.dssm.recurrent import (
    Memory,
    RecurrentConfig,
    RecurrentModel,
    backward_reading,
    initial_rate,
    stacked,
)


@dataclass(frozen=True)
class RSSMConfig(RecurrentConfig):
    """An RSSM; as it stands that of the pendulum (Table A.6).

    Attributes:
        transition: units of p(z_{t+1} | h_t).
        memory: units of the LSTM of the transition.
        posterior: ``smoother``: ``q(z_t | h_{t-1}, x_{t:T}, u_{t:T})``; ``filter``: of x_t alone,
            as in the original.
    """

    transition: tuple[int, ...] = (128, 128, 128)
    memory: int = 64


class RSSM(RecurrentModel):
    """``q(z_t | h_{t-1}, x_{t:T}, u_{t:T})``, ``p(z_{t+1} | h_t)`` and ``p(x_t | z_t)``.

    A memory is the LSTM's *before* it has seen the z and u of its step: at the first there is none.
    """

    def __init__(self, config: RSSMConfig | None = None) -> None:
        """Make one, its weights drawn from torch's global generator."""
        config = config or RSSMConfig()
        _, decoder = step_networks(config.event, config.latent, config.hidden)
        super().__init__(config, decoder)
        self.config = config
        self.reader, inputs, hidden = backward_reading(config)
        self.posterior = GaussianHead(mlp(inputs + config.memory, hidden, 2 * config.latent))
        self.lstm = Memory(config.latent + config.controls, config.memory)
        self.transition = GaussianHead(mlp(config.memory, config.transition, 2 * config.latent))

    # --- the interface

    def dynamics(self) -> Iterator[nn.Parameter]:
        """psi: LSTM and transition."""
        return chain(self.lstm.parameters(), self.transition.parameters())

    def step(
        self, z: Tensor, u: Tensor, memory: Tensor | None = None
    ) -> tuple[Gaussian, Tensor | None]:
        """``p(z_{t+1} | h_t)`` with ``h_t = LSTM(h_{t-1}, z_t, u_t)``."""
        memory = self.lstm.empty(z) if memory is None else memory
        memory = self.lstm(torch.cat([z, u], dim=-1), memory)
        following: Gaussian = self.transition(self.lstm.read(memory))
        return following, memory

    def infer(self, x: SequenceBatch, generator: torch.Generator | None = None) -> Inference:
        """The rate of Eq. 4.8, its transition terms in closed form."""
        self.check(x)
        q, expected, z, _ = self._follow(x, generator, sampled=True)
        first = Gaussian(q.mean[:, 0], q.log_var[:, 0])
        rate = initial_rate(first, z[:, 0], self.prior, generator)
        if expected is not None:
            later = Gaussian(q.mean[:, 1:], q.log_var[:, 1:]).kl_to(expected).sum(-1)
            rate = rate + (later * x.weights[:, 1:]).sum(1)
        return Inference(z, self.decoder(z), rate)

    # --- the parts

    def _follow(
        self, x: SequenceBatch, generator: torch.Generator | None, *, sampled: bool
    ) -> tuple[Gaussian, Gaussian | None, Tensor, Tensor]:
        """Along the sequence: posterior, transition (from step 2 on), states, memories.

        Returns:
            ``(B, T, D_z)``; ``(B, T - 1, D_z)``, None where T is 1; ``(B, T, D_z)``;
            ``(B, T, D_h)``, of which one of step t is from before it.
        """
        read = x.observations.flatten(2) if self.reader is None else self.reader(x)
        memory = self.lstm.empty(read[:, 0])
        found: list[Gaussian] = []
        expected: list[Gaussian] = []
        path: list[Tensor] = []
        memories: list[Tensor] = []
        for t, at in enumerate(read.unbind(1)):
            if t:
                following, after = self.step(path[-1], x.controls[:, t - 1], memory)
                assert after is not None
                expected.append(following)
                memory = after
            q: Gaussian = self.posterior(torch.cat([self.lstm.read(memory), at], dim=-1))
            found.append(q)
            path.append(q.sample(None, generator) if sampled else q.mean)
            memories.append(memory)
        following_all = stacked(expected) if expected else None
        return stacked(found), following_all, torch.stack(path, 1), torch.stack(memories, 1)

    def _states(self, x: SequenceBatch, generator: torch.Generator | None) -> States:
        q, _, _, memory = self._follow(x, generator, sampled=generator is not None)
        return States.diagonal(q, memory)

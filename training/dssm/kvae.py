"""The Kalman variational autoencoder (Fraccaro et al., 2017; thesis, sections 4.2 and 4.4.3).

A linear Gaussian model of auxiliary variables a, whose matrices are mixtures that an LSTM chooses
by the a's so far: ``p(z_{t+1} | z_t, h_t, u_t)`` with ``h_t = LSTM(a_{1:t})``. Given the a's it is
linear, so that filter, smoother and the likelihood of the a's are exact. What of a system's state
the LSTM keeps, z need not: the state space is not Markovian, as table 4.3 is there to show.

Fraccaro's observation matrix is such a mixture as well. Ours is one learned matrix: the LSTM then
acts in the transition alone, which is what table 4.3 is about, and a state is decoded by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from trackvae.distributions import Gaussian
from trackvae.errors import UsageError
from trackvae.networks import GaussianHead, mlp
from training.dssm.auxiliary import AuxiliaryModel
from training.dssm.batch import SequenceBatch
from training.dssm.kalman import (
    Filtered,
    Move,
    View,
    kalman_filter,
    kalman_smoother,
)
from training.dssm.model import (
    Inference,
    LearnedGaussian,
    SequenceConfig,
    States,
    step_networks,
)
from training.dssm.recurrent import Memory
from training.dssm.transitions import BaseMatrices, Linear

_LEAST_VARIANCE = 1e-6  # of the observation noise, and of the first state
_NOISE = 0.01  # variance of the observation noise at the start


@dataclass(frozen=True)
class KVAEConfig(SequenceConfig):
    """A KVAE; as it stands that of the pendulum (Table A.5).

    Attributes:
        static: D_a, of the auxiliary variables.
        components: M base matrices.
        alpha_hidden: units between the LSTM and their weights.
        units: of the LSTM.
    """

    static: int = 2
    components: int = 16
    alpha_hidden: tuple[int, ...] = (64,)
    units: int = 64

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        super().__post_init__()
        if self.static < 1:
            raise UsageError(f"static is {self.static}, expected at least 1")


class KVAE(AuxiliaryModel):
    """Encoder q(a|x), decoder p(x|a), ``p(a|z) = N(H z, R)``, dynamics chosen by an LSTM.

    A memory is the LSTM's *before* it has seen the a of its step: at the first step there is none,
    and :meth:`step` takes H z for the a that it has to see.
    """

    def __init__(self, config: KVAEConfig | None = None) -> None:
        """Make one, its weights drawn from torch's global generator."""
        config = config or KVAEConfig()
        encoder, decoder = step_networks(config.event, config.static, config.hidden)
        super().__init__(config, decoder)
        self.config = config
        self.encoder = GaussianHead(encoder)
        self.lstm = Memory(config.static, config.units)
        self.alpha = mlp(config.units, config.alpha_hidden, config.components)
        self.matrices = BaseMatrices(config.latent, config.controls, config.components)
        self.H = nn.Parameter(torch.eye(config.static, config.latent))
        self.log_R = nn.Parameter(torch.full((config.static,), _NOISE).log())
        # what the filter starts from; with another prior, the prior itself
        self.start = LearnedGaussian(config.latent) if config.prior == "vhp" else None
        self.register_buffer("lost", torch.zeros((), dtype=torch.long), persistent=False)

    # --- the interface

    def dynamics(self) -> Iterator[nn.Parameter]:
        """psi: LSTM, base matrices, H, R, and where the filter starts."""
        start = iter(()) if self.start is None else self.start.parameters()
        modules = (self.lstm, self.alpha, self.matrices)
        return chain(*(m.parameters() for m in modules), (self.H, self.log_R), start)

    def emission(self, z: Tensor) -> Tensor:
        """``H z``, ``(..., D_z)`` to ``(..., D_a)``."""
        return z @ self.H.mT

    def step(
        self, z: Tensor, u: Tensor, memory: Tensor | None = None
    ) -> tuple[Gaussian, Tensor | None]:
        """``p(z_{t+1} | z_t, h_t, u_t)``; the LSTM sees H z_t."""
        memory = self.lstm.empty(z) if memory is None else memory
        memory = self.lstm(self.emission(z), memory)
        local = self._linear(memory)
        return Gaussian(local.mean(z, u), local.Q.log()), memory

    def infer(self, x: SequenceBatch, generator: torch.Generator | None = None) -> Inference:
        """Distortion and rate, of one sample of a; z is integrated out but for the first.

        ``log p(a_{1:T} | u)`` is the filter's, exact for the Gaussian that it starts from. Under
        another p(z_1), ``log p(a) >= log p_filter(a) + E[log p(z_1) - log p_filter(z_1)]`` by
        Jensen's inequality, the expectation over the smoothed z_1.
        """
        self.check(x)
        q = self.encoder(x.observations)
        a = q.sample(None, generator)
        filtered, _ = self._filter(a, x)
        smoothed = kalman_smoother(filtered)
        states = States(smoothed.mean, self.factors(smoothed.covariance))
        z = states.sample(generator)
        rate = (q.log_prob(a) * x.weights - filtered.log_likelihood).sum(1)
        if self.start is not None:
            bound = self.prior.log_prob(z[:, 0], generator)  # type: ignore[operator]
            rate = rate + self._start().log_prob(z[:, 0]) - bound
        return Inference(z, self.decoder(a), rate)

    def filter(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """``p(z_t | a_{1:t}, u_{1:t-1})`` of a's means, or of samples."""
        found, memory = self._filter(self._static(x, generator), x)
        return States(found.mean, self.factors(found.covariance), memory)

    def smooth(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """``p(z_t | a_{1:T}, u_{1:T-1})`` of a's means, or of samples.

        The memory of a step is of the a's before it: what came later is in z alone.
        """
        filtered, memory = self._filter(self._static(x, generator), x)
        found = kalman_smoother(filtered)
        return States(found.mean, self.factors(found.covariance), memory)

    # --- the parts

    def _filter(self, a: Tensor, x: SequenceBatch) -> tuple[Filtered, Tensor]:
        """The filter for auxiliary variables ``(B, T, D_a)``, and the memory before each step."""
        memories = [self.lstm.empty(a[:, 0])]
        for seen in a[:, :-1].unbind(1):
            memories.append(self.lstm(seen, memories[-1]))
        memory = torch.stack(memories, dim=1)
        F, B, Q = self._linear(memory[:, 1:])  # at t: after a_{1:t}, (B, T - 1, ...)
        R = torch.diag(self.log_R.exp() + _LEAST_VARIANCE)

        def dynamics(m: Tensor, u: Tensor, t: int) -> Move:
            mean = Linear(F[:, t], B[:, t], Q[:, t]).mean(m, u)
            return Move(mean, F[:, t], torch.diag_embed(Q[:, t]))

        def observation(m: Tensor, _: int) -> View:
            return View(self.emission(m), self.H, R)

        start = self._start()
        prior = (start.mean, torch.diag(start.log_var.exp()))
        weights = None if x.mask is None else x.weights
        found = kalman_filter(a, x.controls, prior, dynamics, observation, weights, x.going_on)
        return found, memory

    def _linear(self, memory: Tensor) -> Linear:
        alpha = torch.softmax(self.alpha(self.lstm.read(memory)), dim=-1)
        return self.matrices.mixed(alpha)

    def _start(self) -> Gaussian:
        """The Gaussian of z_1 that the filter starts from, ``(D_z,)``."""
        held = self.prior if self.start is None else self.start
        if isinstance(held, LearnedGaussian):
            return Gaussian(held.mean, torch.log(held.log_var.exp() + _LEAST_VARIANCE))
        zeros = torch.zeros_like(self.H[0])
        return Gaussian(zeros, zeros)

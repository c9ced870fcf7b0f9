"""The deep Kalman smoother and filter (Krishnan et al., 2015; thesis, section 4.1.3.1).

A recurrent network infers each state from the observations; the transition is a network too. The
thesis's posterior of a step does not depend on the state before it,
``q(z_{1:T} | x, u) = prod_t q(z_t | x_{1:T}, u_{1:T})``; that of Krishnan et al. (2017) does, and
is here as ``conditional``.

Each state is inferred by itself, so nothing but the transition's cost says which side of the
closed curve of angles a positive velocity belongs on: it is learned in stretches of the curve,
with one sign in some and the other in the rest (``trackvae reproduce observation-noise``). A plane
fitted to all angles does not see such a velocity, the transition does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

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
    Reader,
    RecurrentConfig,
    RecurrentModel,
    initial_rate,
    stacked,
)


@dataclass(frozen=True)
class DKSConfig(RecurrentConfig):
    """A deep Kalman smoother; as it stands that of the pendulum (Table A.3).

    Attributes:
        transition: units of the transition network.
        posterior: ``smoother``, or ``filter``: the deep Kalman filter, without the LSTM that reads
            backward.
        conditional: the posterior of z_t depends on z_{t-1}, by the combiner of Krishnan et al.
            (2017), and a loop over time is needed.
        residual: the transition network gives the change of z, not the next z.
    """

    transition: tuple[int, ...] = (128, 128, 128)
    conditional: bool = False
    residual: bool = False


class DKS(RecurrentModel):
    """``q(z_t | x_{1:T}, u_{1:T})``, ``p(z_{t+1} | z_t, u_t)`` and ``p(x_t | z_t)``."""

    def __init__(self, config: DKSConfig | None = None) -> None:
        """Make one, its weights drawn from torch's global generator."""
        config = config or DKSConfig()
        _, decoder = step_networks(config.event, config.latent, config.hidden)
        super().__init__(config, decoder)
        self.config = config
        size = math.prod(config.event)
        self.forward_reader = Reader(size, config.controls, config.units, "forward")
        self.backward_reader = (
            Reader(size, config.controls, config.units, "backward")
            if config.posterior == "smoother"
            else None
        )
        read = config.units * (1 if self.backward_reader is None else 2)
        self.posterior = GaussianHead(mlp(read, config.head, 2 * config.latent))
        self.combiner = nn.Linear(config.latent, read) if config.conditional else None
        self.transition = GaussianHead(
            mlp(config.latent + config.controls, config.transition, 2 * config.latent)
        )

    # --- the interface

    def dynamics(self) -> Iterator[nn.Parameter]:
        """psi: the transition."""
        return self.transition.parameters()

    def step(
        self,
        z: Tensor,
        u: Tensor,
        memory: Tensor | None = None,  # noqa: ARG002  (this model has none)
    ) -> tuple[Gaussian, Tensor | None]:
        """``p(z_{t+1} | z_t, u_t)``, of any batch shape."""
        following: Gaussian = self.transition(torch.cat([z, u], dim=-1))
        if self.config.residual:
            following = Gaussian(z + following.mean, following.log_var)
        return following, None

    def infer(self, x: SequenceBatch, generator: torch.Generator | None = None) -> Inference:
        """The rate of Eq. 4.11, its transition terms in closed form."""
        self.check(x)
        q, z = self._posterior(x, generator, sampled=True)
        following, _ = self.step(z[:, :-1], x.controls)
        later = Gaussian(q.mean[:, 1:], q.log_var[:, 1:]).kl_to(following).sum(-1)
        first = Gaussian(q.mean[:, 0], q.log_var[:, 0])
        rate = initial_rate(first, z[:, 0], self.prior, generator)
        rate = rate + (later * x.weights[:, 1:]).sum(1)
        return Inference(z, self.decoder(z), rate)

    # --- the parts

    def _states(self, x: SequenceBatch, generator: torch.Generator | None) -> States:
        return States.diagonal(self._posterior(x, generator, sampled=generator is not None)[0])

    def _posterior(
        self, x: SequenceBatch, generator: torch.Generator | None, *, sampled: bool
    ) -> tuple[Gaussian, Tensor]:
        """Posterior of all steps, and the states (samples or means) that it is conditional on."""
        read = self.forward_reader(x)
        if self.backward_reader is not None:
            read = torch.cat([read, self.backward_reader(x)], dim=-1)
        if self.combiner is None:
            q: Gaussian = self.posterior(read)
            return q, q.sample(None, generator) if sampled else q.mean
        z = read.new_zeros(len(x), self.latent)
        found, path = [], []
        for at in read.unbind(1):
            q = self.posterior(0.5 * (torch.tanh(self.combiner(z)) + at))
            z = q.sample(None, generator) if sampled else q.mean
            found.append(q)
            path.append(z)
        return stacked(found), torch.stack(path, dim=1)

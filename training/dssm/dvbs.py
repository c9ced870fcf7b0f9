"""The deep variational Bayes smoother and filter (Karl et al., 2017, 2019; section 4.1.3.2).

The posterior is the product of what the transition expects and what the observations say
(Eq. 4.12), ``q(z_t | z_{t-1}, x_{t:T}, u_{t-1:T}) ~ p(z_t | z_{t-1}, u_{t-1}) q(z_t | x_{t:T},
u_{t:T})``, with the locally-linear transition of section 4.2.1. The first state has the VHP for a
prior, or, as in the original model, is a deterministic function of standard normal noise.
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
    RecurrentConfig,
    RecurrentModel,
    backward_reading,
    initial_rate,
    product,
    stacked,
)
from training.dssm.transitions import LocallyLinear


@dataclass(frozen=True)
class DVBSConfig(RecurrentConfig):
    """A deep variational Bayes smoother; as it stands that of the pendulum (Table A.4).

    Attributes:
        components: M base matrices.
        alpha_hidden: units of the network of their weights.
        transform: units of f of the prior ``transform``, the original model's ``z_1 = f(zeta)``.
        posterior: ``smoother``; or ``filter``: the deep variational Bayes filter, ``q(z_t | x_t)``
            in place of ``q(z_t | x_{t:T}, u_{t:T})``.
        process_noise: variance of the transition's at the start. Small, the transition has a say
            in the product from the start: with 0.01 predictions are better after 1,600 steps than
            with 0.1.
    """

    components: int = 16
    alpha_hidden: tuple[int, ...] = (64,)
    transform: tuple[int, ...] = (64, 64)
    process_noise: float = 0.01


class TransformPrior(nn.Module):
    """``z = f(zeta)``, zeta standard normal: can be sampled, but has no density to evaluate."""

    def __init__(self, latent: int, hidden: tuple[int, ...]) -> None:
        """A fully-connected f; zeta has as many dimensions as z."""
        super().__init__()
        self.transform = mlp(latent, hidden, latent)
        self._dim = latent

    def forward(self, zeta: Tensor) -> Tensor:
        """f: ``(..., D_z)`` to ``(..., D_z)``."""
        z: Tensor = self.transform(zeta)
        return z

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, D_z)``."""
        place = next(self.parameters())
        noise = torch.randn(
            count, self._dim, generator=generator, device=place.device, dtype=place.dtype
        )
        return self(noise)


class DVBS(RecurrentModel):
    """The product posterior of Eq. 4.12 around a locally-linear transition."""

    def __init__(self, config: DVBSConfig | None = None) -> None:
        """Make one, its weights drawn from torch's global generator."""
        config = config or DVBSConfig()
        _, decoder = step_networks(config.event, config.latent, config.hidden)
        prior = (
            TransformPrior(config.latent, config.transform) if config.prior == "transform" else None
        )
        super().__init__(config, decoder, prior)
        self.config = config
        self.reader, inputs, hidden = backward_reading(config)
        self.recognition = GaussianHead(mlp(inputs, hidden, 2 * config.latent))
        self.noise = (  # q(zeta | x_{1:T}, u_{1:T})
            GaussianHead(mlp(inputs, hidden, 2 * config.latent))
            if config.prior == "transform"
            else None
        )
        self.transition = LocallyLinear(
            config.latent,
            config.controls,
            config.components,
            config.alpha_hidden,
            config.process_noise,
        )

    # --- the interface

    def dynamics(self) -> Iterator[nn.Parameter]:
        """psi: the transition."""
        return self.transition.parameters()

    def later_parameters(self) -> Iterator[nn.Parameter]:
        """psi, psi_0 and phi_0; without the last two where x_1 is decoded through them."""
        if self.noise is not None:
            return self.dynamics()
        return chain(self.dynamics(), self.prior.parameters())

    def step(
        self,
        z: Tensor,
        u: Tensor,
        memory: Tensor | None = None,  # noqa: ARG002  (this model has none)
    ) -> tuple[Gaussian, Tensor | None]:
        """Eq. 4.13."""
        following: Gaussian = self.transition(z, u)
        return following, None

    def infer(self, x: SequenceBatch, generator: torch.Generator | None = None) -> Inference:
        """The rates of section 4.1.3.2, their transition terms in closed form."""
        self.check(x)
        read = self._read(x)
        first, z1 = self._first(read[:, 0], generator, sampled=True)
        if self.noise is None:
            rate = initial_rate(first, z1, self.prior, generator)
        else:
            rate = first.kl_to_standard_normal().sum(-1)  # of zeta; z_1 adds nothing to it
        q, expected, z = self._follow(z1, read, x, generator, sampled=True)
        if q is not None and expected is not None:
            rate = rate + (q.kl_to(expected).sum(-1) * x.weights[:, 1:]).sum(1)
        return Inference(z, self.decoder(z), rate)

    # --- the parts

    def _read(self, x: SequenceBatch) -> Tensor:
        return x.observations.flatten(2) if self.reader is None else self.reader(x)

    def _first(
        self, read: Tensor, generator: torch.Generator | None, *, sampled: bool
    ) -> tuple[Gaussian, Tensor]:
        """The Gaussian of z_1 (of zeta, where z_1 = f(zeta)), and z_1 itself ``(B, D_z)``."""
        network = self.recognition if self.noise is None else self.noise
        q: Gaussian = network(read)
        drawn = q.sample(None, generator) if sampled else q.mean
        return q, drawn if self.noise is None else self.prior(drawn)

    def _follow(
        self,
        z1: Tensor,
        read: Tensor,
        x: SequenceBatch,
        generator: torch.Generator | None,
        *,
        sampled: bool,
    ) -> tuple[Gaussian | None, Gaussian | None, Tensor]:
        """The posterior and the transition at steps 2 to T, and the path of states from z_1.

        Returns:
            Gaussians ``(B, T - 1, D_z)``, None where T is 1; states ``(B, T, D_z)``.
        """
        told: Gaussian = self.recognition(read)  # q(z_t | x_{t:T}, u_{t:T})
        base, path, going_on = self.transition.base(), [z1], x.going_on
        found, expected = [], []
        for t, u in enumerate(x.controls.unbind(1), start=1):
            local = self.transition.linear(path[-1], u, base)
            p = Gaussian(local.mean(path[-1], u), local.Q.log())
            q = product(p, Gaussian(told.mean[:, t], told.log_var[:, t]))
            following = q.sample(None, generator) if sampled else q.mean
            # predicted on behind its end, a padded sequence's state would leave all bounds
            if going_on is not None:
                following = torch.where(going_on[:, t, None], following, path[-1])
            path.append(following)
            found.append(q)
            expected.append(p)
        z = torch.stack(path, dim=1)
        return (stacked(found), stacked(expected), z) if found else (None, None, z)

    def _states(self, x: SequenceBatch, generator: torch.Generator | None) -> States:
        read, sampled = self._read(x), generator is not None
        first, z1 = self._first(read[:, 0], generator, sampled=sampled)
        if self.noise is not None:  # z_1 is a point given zeta
            first = Gaussian(z1, torch.full_like(z1, -torch.inf))
        q, _, _ = self._follow(z1, read, x, generator, sampled=sampled)
        if q is None:
            return States.diagonal(stacked([first]))
        mean = torch.cat([first.mean.unsqueeze(1), q.mean], dim=1)
        return States.diagonal(
            Gaussian(mean, torch.cat([first.log_var.unsqueeze(1), q.log_var], dim=1))
        )

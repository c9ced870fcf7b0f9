"""The extended Kalman variational autoencoder (thesis, section 4.2), smoother and filter version.

Observations become auxiliary variables a by an encoder of single observations; a Kalman filter,
linearised by the transition's own matrices, infers states z from them in closed form. What is
static in z is a itself: H picks its dimensions out of z (section 4.3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from trackvae.config import Network
from trackvae.distributions import Gaussian, log_mean_exp
from trackvae.errors import UsageError
from trackvae.networks import GaussianHead
from training.dssm.auxiliary import AuxiliaryModel
from training.dssm.batch import SequenceBatch
from training.dssm.kalman import (
    Filtered,
    Move,
    Smoothed,
    View,
    kalman_filter,
    kalman_smoother,
    log_normal,
    log_white,
)
from training.dssm.model import (
    Inference,
    LearnedGaussian,
    Posterior,
    SequenceConfig,
    States,
    check_posterior,
    step_networks,
)
from training.dssm.transitions import Linear, LocallyLinear

_LEAST_VARIANCE = 1e-6  # of the observation noise


@dataclass(frozen=True)
class EKVAEConfig(SequenceConfig):
    """An EKVAE; as it stands that of the pendulum (Table A.2).

    Attributes:
        static: the dimensions of z that are a, in a's order: H of Eq. 4.31 for (0, 1, ...), any
            permutation of a rectangular identity otherwise.
        network: of encoder and decoder, see :class:`trackvae.config.ModelConfig`.
        components: M base matrices.
        alpha_hidden: units of the network of their weights.
        posterior: the smoothed distributions (Eq. 4.18), or the filtered ones (section 4.2.5.3).
        process_noise: variance of the transition's noise at the start. Adam moves a logarithm by
            its learning rate a step: what has to shrink a thousandfold takes thousands of steps.
        observation_noise: the same of R.
    """

    static: tuple[int, ...] = (0, 1)
    network: Network = "mlp"
    components: int = 16
    alpha_hidden: tuple[int, ...] = (64,)
    posterior: Posterior = "smoother"
    process_noise: float = 0.1
    observation_noise: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        super().__post_init__()
        if not isinstance(self.static, tuple) or not self.static:
            raise UsageError(
                f"static is {self.static!r}, expected a tuple of one or more dimensions of z"
            )
        if sorted(set(self.static)) != sorted(self.static) or not all(
            0 <= dim < self.latent for dim in self.static
        ):
            raise UsageError(
                f"static is {self.static}, expected different dimensions of z, from 0 to "
                f"{self.latent - 1}"
            )
        check_posterior(self.posterior)


class EKVAE(AuxiliaryModel):
    """Encoder q(a|x), decoder p(x|a), ``p(a|z) = N(H z, R)`` and a locally-linear transition."""

    takes_gaps = True

    def __init__(self, config: EKVAEConfig | None = None) -> None:
        """Make one, its weights drawn from torch's global generator."""
        config = config or EKVAEConfig()
        encoder, decoder = step_networks(
            config.event, len(config.static), config.hidden, config.network
        )
        super().__init__(config, decoder)
        self.config = config
        self.encoder = GaussianHead(encoder)
        self.transition = LocallyLinear(
            config.latent,
            config.controls,
            config.components,
            config.alpha_hidden,
            config.process_noise,
        )
        self.log_R = nn.Parameter(torch.full((len(config.static),), config.observation_noise).log())
        # what the filter starts from; a VHP has no Gaussian for it (it enters Eq. 4.28 alone)
        self.start = LearnedGaussian(config.latent) if config.prior == "vhp" else None
        self.register_buffer("lost", torch.zeros((), dtype=torch.long))
        H = torch.eye(config.latent)[list(config.static)]
        self.register_buffer("_H", H, persistent=False)

    # --- the interface

    def dynamics(self) -> Iterator[nn.Parameter]:
        """psi: the transition, R, and where the filter starts."""
        start = iter(()) if self.start is None else self.start.parameters()
        return chain(self.transition.parameters(), (self.log_R,), start)

    def emission(self, z: Tensor) -> Tensor:
        """``H z``: the static part of z, ``(..., D_z)`` to ``(..., D_a)``."""
        return z[..., list(self.config.static)]

    def step(
        self,
        z: Tensor,
        u: Tensor,
        memory: Tensor | None = None,  # noqa: ARG002  (this model has none)
    ) -> tuple[Gaussian, Tensor | None]:
        """Eq. 4.13."""
        following: Gaussian = self.transition(z, u)
        return following, None

    def filter(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """``p(z_t | a_{1:t}, u_{1:t-1})`` of a's means, or of samples."""
        found = self.filter_static(self._static(x, generator), x)
        return States(found.mean, self.factors(found.covariance))

    def smooth(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """``p(z_t | a_{1:T}, u_{1:T-1})`` of a's means, or of samples."""
        found = kalman_smoother(self.filter_static(self._static(x, generator), x))
        return States(found.mean, self.factors(found.covariance))

    def infer(
        self, x: SequenceBatch, generator: torch.Generator | None = None, samples: int = 1
    ) -> Inference:
        """Distortion and rate of Eq. 4.24 and 4.27 at samples of a and z.

        Args:
            x: the batch.
            generator: where the noise comes from.
            samples: of z, over which the weights of Eq. 4.26 are averaged before the logarithm is
                taken. With more than one the rate is a tighter bound.
        """
        self.check(x)
        q = self.encoder(x.observations)
        a = q.sample(None, generator)
        filtered = self.filter_static(a, x)
        own = self._own(filtered)
        L_own, L_filtered = self.factors(torch.stack([own.covariance, filtered.covariance]))
        shape = (samples, *own.mean.shape)
        noise = torch.randn(shape, generator=generator, device=a.device, dtype=a.dtype)
        z = own.mean + (L_own @ noise.unsqueeze(-1)).squeeze(-1)  # (K, B, T, D_z)
        # log of p(a_t, z_{t-1} | a_{1:t-1}) over q(z_{t-1}): Eq. 4.26, and 4.28 at t = 1
        density = log_white(noise, L_own)
        weight = self._log_weights(a, z, x.controls, density, filtered, L_filtered, generator)
        rate = ((q.log_prob(a) - log_mean_exp(weight, dim=0)) * x.weights).sum(1)
        return Inference(z[0], self.decoder(a).to(a.dtype), rate)

    # --- the parts

    def filter_static(self, a: Tensor, x: SequenceBatch) -> Filtered:
        """The filter of section 4.2.3 for auxiliary variables ``(B, T, D_a)``."""
        base, H = self.transition.base(), self.get_buffer("_H")
        R = torch.diag(self.observation_noise())

        def dynamics(m: Tensor, u: Tensor, _: int) -> Move:
            local: Linear = self.transition.linear(m, u, base)
            return Move(local.mean(m, u), local.F, torch.diag_embed(local.Q))

        def observation(m: Tensor, _: int) -> View:
            return View(self.emission(m), H, R)

        weights = None if x.mask is None else x.weights
        return kalman_filter(
            a, x.controls, self._start(), dynamics, observation, weights, x.going_on
        )

    def _log_weights(
        self,
        a: Tensor,
        z: Tensor,
        u: Tensor,
        density: Tensor,
        filtered: Filtered,
        L_filtered: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """What stands inside the expectations of Eq. 4.26 and 4.28, ``(K, B, T)``.

        The one at t belongs to z_{t-1}, but for the first, which belongs to z_1.
        """
        R = self.observation_noise()
        prior = self.prior.log_prob(z[..., 0, :], generator)  # type: ignore[operator]
        seen = Gaussian(self.emission(z[..., 0, :]), R.log().expand(a[:, 0].shape))
        first = seen.log_prob(a[:, 0]) + prior - density[..., 0]
        if a.shape[1] == 1:
            return first.unsqueeze(-1)
        before = z[..., :-1, :]
        local = self.transition.linear(before, u.expand(len(z), *u.shape))
        mean = self.emission(local.mean(before, u))
        following = Gaussian(mean, (self.emission(local.Q) + R).log())  # H Q H^T + R is diagonal
        later = following.log_prob(a[:, 1:])
        if self.config.posterior == "smoother":
            known = log_normal(before - filtered.mean[:, :-1], L_filtered[:, :-1])
            later = later + known - density[..., :-1]
        return torch.cat([first.unsqueeze(-1), later], dim=-1)

    def _own(self, filtered: Filtered) -> Smoothed | Filtered:
        """The distributions that z is drawn from: smoothed, or filtered."""
        smooth = self.config.posterior == "smoother"
        return kalman_smoother(filtered) if smooth else filtered

    def observation_noise(self) -> Tensor:
        """Variances of p(a|z), ``(D_a,)``."""
        return self.log_R.exp() + _LEAST_VARIANCE

    def _start(self) -> tuple[Tensor, Tensor]:
        """Mean and covariance of z_1 that the filter starts from."""
        if isinstance(self.prior, LearnedGaussian) or self.start is not None:
            held = self.prior if self.start is None else self.start
            assert isinstance(held, LearnedGaussian)
            return held.mean, torch.diag(held.log_var.exp() + _LEAST_VARIANCE)
        H = self.get_buffer("_H")
        return torch.zeros_like(H[0]), torch.eye(self.latent, dtype=H.dtype, device=H.device)

"""The variational autoencoder: encoder, decoder, likelihood and any prior.

One class serves VAE, IWAE (of one and of two stochastic layers), VHP-VAE and FMVAE: they differ in
the prior that they are given, in how many samples their bound takes and in how they are trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from trackvae.distributions import Gaussian, log_mean_exp
from trackvae.errors import UsageError


class Prior(Protocol):
    """A density of z that can be sampled; ``log_prob`` may be a lower bound."""

    def log_prob(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``(..., D)`` to ``(...)``; a bound may draw samples of its own."""
        ...

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, D)``."""
        ...


class Likelihood(Protocol):
    """p(x|z) from the decoder's output."""

    def mean(self, output: Tensor) -> Tensor:
        """The expected observation, shaped as ``output``."""
        ...

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """Log p(x|z), ``(...)``."""
        ...

    def distortion(self, x: Tensor, output: Tensor) -> Tensor:
        """C, the part of -log p(x|z) that depends on z, ``(...)``."""
        ...

    def error(self, x: Tensor, output: Tensor) -> Tensor:
        """What the constraint is about, ``(...)``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What a batch costs: one value for each observation ``(B,)``, or K for each ``(K, B)``.

    Attributes:
        rate: ``log q(z|x) - log p(z)`` at one sample: an estimate of the KL divergence (with the
            VHP of an upper bound on it, Eq. 3.8).
        distortion: C, the part of -log p(x|z) that depends on z.
        log_likelihood: log p(x|z).
        error: what the constraint ``error <= kappa^2`` is about.
        latents: the samples of z that they belong to, ``(B, D)`` or ``(K, B, D)``.
    """

    rate: Tensor
    distortion: Tensor
    log_likelihood: Tensor
    error: Tensor
    latents: Tensor

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound (Eq. 3.2) at each sample, ``(B,)`` or ``(K, B)``."""
        return self.log_likelihood - self.rate

    def lagrangian(self, beta: float) -> Tensor:
        """What is minimised, ``(B,)``: Eq. 3.9 without its constant.

        One sample: ``rate + C / beta``; at ``beta = 1`` its gradient is that of the negative ELBO
        for a given likelihood scale. K samples: ``-log 1/K sum_k exp(-(rate_k + C_k / beta))``; at
        ``beta = 1`` that of the negative importance-weighted bound (Eq. 2.17).
        """
        cost = self.rate + self.distortion / beta
        return cost if cost.dim() == 1 else -log_mean_exp(-cost, dim=0)


class VAE(nn.Module):
    """Encoder q(z|x), decoder p(x|z), prior p(z)."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, likelihood: nn.Module, prior: nn.Module
    ) -> None:
        """Put a model together.

        Args:
            encoder: ``x (B, *event)`` to a :class:`Gaussian` over z ``(B, D)``.
            decoder: ``z (..., D)`` to the likelihood's parameters ``(..., *event)``.
            likelihood: see :mod:`trackvae.likelihoods`.
            prior: see :mod:`trackvae.priors`.
        """
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.prior = prior

    def encode(self, x: Tensor) -> Gaussian:
        """q(z|x): ``(B, *event)`` to a Gaussian ``(B, D)``."""
        posterior: Gaussian = self.encoder(x)
        return posterior

    def later_parameters(self) -> Iterator[nn.Parameter]:
        """What REWO does not train in its initial phase: the prior's."""
        return self.prior.parameters()

    def prior_latents(
        self, x: Tensor, draws: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples of q(z|x), ``(draws B, D)``: what the prior has to describe."""
        return self.encode(x).sample(draws, generator).flatten(0, 1)

    def decode(self, z: Tensor) -> Tensor:
        """The expected observation E[x|z], ``(..., D)`` to ``(..., *event)``."""
        likelihood: Likelihood = self.likelihood  # type: ignore[assignment]
        return likelihood.mean(self.decoder(z))

    def terms(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        samples: int | None = None,
        target: Tensor | None = None,
    ) -> Terms:
        """Rate, distortion and error of a batch.

        Args:
            x: ``(B, *event)``.
            generator: where the noise comes from.
            samples: K of each observation, for the importance-weighted bound (with a VHP of K = 1
                inside this is the IWAE of two stochastic layers); None: one, for the ELBO.
            target: ``(B, *event)``, what is to be decoded where it is not x itself: another
                observation of the same thing.

        Raises:
            UsageError: fewer than one sample.
        """
        if samples is not None and samples < 1:
            raise UsageError(f"a bound with {samples} samples, expected at least 1")
        likelihood: Likelihood = self.likelihood  # type: ignore[assignment]
        prior: Prior = self.prior  # type: ignore[assignment]
        q = self.encode(x)
        z = q.sample(samples, generator)
        output = self.decoder(z).to(z.dtype)  # not bfloat16 under autocast
        y = x if target is None else target
        return Terms(
            rate=q.log_prob(z) - prior.log_prob(z, generator),
            distortion=likelihood.distortion(y, output),
            log_likelihood=likelihood.log_prob(y, output),
            error=likelihood.error(y, output),
            latents=z,
        )

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Expected observations ``(count, *event)`` of samples from the prior."""
        prior: Prior = self.prior  # type: ignore[assignment]
        return self.decode(prior.sample(count, generator))

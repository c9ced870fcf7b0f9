"""Priors p(z): standard normal, VampPrior, and the variational hierarchical prior (VHP).

A prior is a module with ``log_prob(z)``, exact or a lower bound, and ``sample(count)``. Any model
takes any prior.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from trackvae.distributions import (
    Gaussian,
    log_mean_exp,
    standard_normal_log_prob,
)
from trackvae.errors import UsageError

_LOG_2_PI = math.log(2 * math.pi)


class ConditionalGaussian(Protocol):
    """A network that gives a Gaussian."""

    def __call__(self, condition: Tensor) -> Gaussian:
        """The Gaussian given the condition."""
        ...


class StandardNormal(nn.Module):
    """N(0, 1) in ``dim`` dimensions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = dim
        self.register_buffer("_place", torch.zeros(()), persistent=False)

    def log_prob(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Exact log density: ``(..., D)`` to ``(...)``."""
        return standard_normal_log_prob(z)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, D)``."""
        place = self.get_buffer("_place")
        return torch.randn(
            count, self._dim, generator=generator, device=place.device, dtype=place.dtype
        )


class VampPrior(nn.Module):
    """A mixture of the encoder's posteriors at learned pseudo-inputs (Tomczak and Welling, 2018).

    ``p(z) = 1/K sum_k q(z | u_k)``, with Theta = {u_1 ... u_K} and the encoder's own parameters.
    """

    def __init__(self, encoder: nn.Module, pseudo_inputs: Tensor) -> None:
        """Make the mixture.

        Args:
            encoder: q(z|x), shared with the model; not registered here a second time.
            pseudo_inputs: ``(K, *x)`` where they start (random data points, or noise).
        """
        super().__init__()
        self._encoder = (encoder,)  # a tuple hides it from this module's parameters
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clone())

    def _components(self) -> Gaussian:
        components: Gaussian = self._encoder[0](self.pseudo_inputs)
        return components

    def log_prob(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Exact log density of the mixture: ``(..., D)`` to ``(...)``."""
        # The square is multiplied out: two matrix products in place of a (..., K, D) difference
        # take 33 ms a step against 59 (K = 500, D = 32, batch 128). Taken about the components'
        # centre, so that little is lost to rounding.
        components = self._components()
        centre = components.mean.mean(dim=0).detach()
        mean, precision = components.mean - centre, (-components.log_var).exp()  # (K, D)
        constant = (mean.square() * precision + components.log_var + _LOG_2_PI).sum(dim=-1)
        z = z - centre
        squared = z.square() @ precision.T - 2.0 * z @ (mean * precision).T + constant
        return log_mean_exp(-0.5 * squared, dim=-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, D)``."""
        components = self._components()
        chosen = torch.randint(
            len(self.pseudo_inputs), (count,), generator=generator, device=components.mean.device
        )
        return Gaussian(components.mean[chosen], components.log_var[chosen]).sample(
            generator=generator
        )


class VHP(nn.Module):
    """The variational hierarchical prior: ``p(z) = int p(z|zeta) p(zeta) d zeta`` (section 3.3.1).

    p(zeta) is standard normal; q(zeta|z) is the proposal of an importance-weighted lower bound with
    K samples (Eq. 3.8). With K = 1 the bound is the plain ELBO: the VHP without importance
    weighting of section 3.5.1.2.

    The prior is an autoencoder of z, and as any other it can collapse: q(zeta|z) becomes p(zeta)
    and p(z) one wide Gaussian. What prevents that is how it starts: both networks see z
    standardised (:meth:`start`), and both Gaussians begin narrow (:func:`trackvae.config.build`).
    A ring of radius 3 with ReLU networks of 64x64 units, 800 steps: without either 4 of 4 seeds
    stay one wide Gaussian (4.37 nats), with the narrow start alone 2 of 3 do, with both none of 4
    (3.30 to 3.35; entropy 3.2).
    """

    location: Tensor
    scale: Tensor
    started: Tensor

    def __init__(
        self,
        posterior: ConditionalGaussian,
        conditional: ConditionalGaussian,
        dim: int,
        samples: int = 16,
        latent: int | None = None,
    ) -> None:
        """Make the prior.

        Args:
            posterior: q(zeta|z).
            conditional: p(z|zeta).
            dim: dimensions of zeta.
            samples: K of the bound.
            latent: dimensions of z, each of which is then standardised by itself; None: all alike.

        Raises:
            UsageError: fewer than one sample.
        """
        super().__init__()
        if samples < 1:
            raise UsageError(f"VHP with {samples} importance samples, expected at least 1")
        self.posterior = posterior
        self.conditional = conditional
        self.samples = samples
        self._dim = dim
        shape = () if latent is None else (latent,)
        self.register_buffer("location", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("started", torch.zeros(()))  # 1: :meth:`start` was called

    @torch.no_grad()
    def start(self, location: Tensor, scale: Tensor) -> None:
        """Standardise z from now on; to be called once, before the prior is first trained.

        Args:
            location: (D,), mean of z over the data.
            scale: (D,), its standard deviation.
        """
        self.location.copy_(location)
        self.scale.copy_(scale.clamp_min(torch.finfo(scale.dtype).tiny))
        self.started.fill_(1)

    def encode(self, z: Tensor) -> Gaussian:
        """q(zeta|z): ``(..., D)`` to a Gaussian over zeta."""
        return self.posterior((z - self.location) / self.scale)

    def log_prob(
        self, z: Tensor, generator: torch.Generator | None = None, samples: int | None = None
    ) -> Tensor:
        """A lower bound on log p(z): ``F_VHP`` of Eq. 3.8, one draw of it.

        Args:
            z: ``(..., D)``.
            generator: where the noise comes from.
            samples: K; as the prior was made, where left out.

        Returns:
            ``(...)``.
        """
        u = (z - self.location) / self.scale
        q = self.posterior(u)
        zeta = q.sample(self.samples if samples is None else samples, generator)  # (K, ..., D)
        log_weight = self.conditional(zeta).log_prob(u)
        log_weight = log_weight + standard_normal_log_prob(zeta) - q.log_prob(zeta)
        # the density of z, not of u; a sum over D equal scales where there is one for all
        return log_mean_exp(log_weight, dim=0) - self.scale.expand(z.shape[-1]).log().sum()

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, D)``: zeta from p(zeta), then z from p(z|zeta)."""
        zeta = torch.randn(
            count,
            self._dim,
            generator=generator,
            device=self.scale.device,
            dtype=self.scale.dtype,
        )
        return self.location + self.scale * self.conditional(zeta).sample(generator=generator)

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
    """

    def __init__(
        self,
        posterior: ConditionalGaussian,
        conditional: ConditionalGaussian,
        dim: int,
        samples: int = 16,
    ) -> None:
        """Make the prior.

        Args:
            posterior: q(zeta|z).
            conditional: p(z|zeta).
            dim: dimensions of zeta.
            samples: K of the bound.

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
        self.register_buffer("_place", torch.zeros(()), persistent=False)

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
        q = self.posterior(z)
        zeta = q.sample(self.samples if samples is None else samples, generator)  # (K, ..., D)
        log_weight = self.conditional(zeta).log_prob(z)
        log_weight = log_weight + standard_normal_log_prob(zeta) - q.log_prob(zeta)
        return log_mean_exp(log_weight, dim=0)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, D)``: zeta from p(zeta), then z from p(z|zeta)."""
        place = self.get_buffer("_place")
        zeta = torch.randn(
            count, self._dim, generator=generator, device=place.device, dtype=place.dtype
        )
        return self.conditional(zeta).sample(generator=generator)

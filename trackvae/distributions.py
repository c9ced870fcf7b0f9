"""Distributions that the model is made of, as small frozen structs of tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LOG_2_PI = math.log(2 * math.pi)


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """A Gaussian with diagonal covariance.

    Attributes:
        mean: ``(..., D)``.
        log_var: ``(..., D)``, logarithm of the variances.
    """

    mean: Tensor
    log_var: Tensor

    def sample(self, count: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Reparametrised samples (gradients flow to mean and variance).

        Args:
            count: how many of each; None: one, without a dimension of its own.
            generator: where the noise comes from.

        Returns:
            ``(..., D)``, or ``(count, ..., D)``.
        """
        shape = self.mean.shape if count is None else (count, *self.mean.shape)
        noise = torch.randn(
            shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
        )
        return self.mean + (0.5 * self.log_var).exp() * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, summed over the last dimension: ``(..., D)`` to ``(...)``."""
        squared = (value - self.mean).square() * (-self.log_var).exp()
        return -0.5 * (squared + self.log_var + _LOG_2_PI).sum(dim=-1)

    def kl_to_standard_normal(self) -> Tensor:
        """KL divergence to N(0, 1) of each dimension, ``(..., D)``, in closed form."""
        return 0.5 * (self.mean.square() + self.log_var.exp() - self.log_var - 1.0)

    def kl_to(self, other: Gaussian) -> Tensor:
        """KL divergence to another Gaussian of each dimension, ``(..., D)``, in closed form."""
        difference = self.log_var - other.log_var
        squared = (self.mean - other.mean).square() * (-other.log_var).exp()
        return 0.5 * (difference.exp() + squared - 1.0 - difference)


def standard_normal_log_prob(value: Tensor) -> Tensor:
    """Log density of N(0, 1), summed over the last dimension: ``(..., D)`` to ``(...)``."""
    return -0.5 * (value.square() + _LOG_2_PI).sum(dim=-1)


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """Logarithm of the mean of exponentials along a dimension, without overflow."""
    return torch.logsumexp(values, dim=dim) - math.log(values.shape[dim])

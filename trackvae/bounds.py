"""Bounds on log p(x) by importance sampling, and samples from the posterior that they imply."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trackvae.distributions import Gaussian
from trackvae.errors import UsageError
from trackvae.vae import VAE


def log_weights(
    model: VAE, x: Tensor, samples: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Importance weights of samples from q(z|x).

    ``log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x)``; with a prior whose density is a lower
    bound (VHP) so is every weight.

    Args:
        model: the model.
        x: ``(B, *event)``.
        samples: K.
        generator: where the noise comes from.

    Returns:
        ``log w`` ``(K, B)`` and the samples z ``(K, B, D)``.
    """
    return _weigh(model, x, model.encode(x), samples, generator)


def _weigh(
    model: VAE, x: Tensor, q: Gaussian, samples: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """As :func:`log_weights`, for observations that are encoded already."""
    z = q.sample(samples, generator)
    weights = (
        model.likelihood.log_prob(x, model.decoder(z))  # type: ignore[operator]
        + model.prior.log_prob(z, generator)  # type: ignore[operator]
        - q.log_prob(z)
    )
    return weights, z


def iw_elbo(
    model: VAE, x: Tensor, samples: int, generator: torch.Generator | None = None
) -> Tensor:
    """The importance-weighted bound of Eq. 2.17, ``(B,)``; with one sample it is the ELBO."""
    if samples < 1:
        raise UsageError(f"importance-weighted bound with {samples} samples, expected at least 1")
    weights, _ = log_weights(model, x, samples, generator)
    return torch.logsumexp(weights, dim=0) - math.log(samples)


@torch.no_grad()
def negative_log_likelihood(
    model: VAE,
    x: Tensor,
    samples: int = 5000,
    *,
    chunk: int = 100_000,
    generator: torch.Generator | None = None,
) -> Tensor:
    """An upper bound on -log p(x) that tightens with the samples: minus the bound of Eq. 2.17.

    With a VHP the density of z inside is itself a lower bound, so that this remains an upper bound
    at any number of samples. x is encoded once; samples are drawn in chunks.

    Args:
        model: the model.
        x: ``(B, *event)``.
        samples: K; the thesis takes 5,000.
        chunk: samples times observations that are decoded at once.
        generator: where the noise comes from.

    Returns:
        ``(B,)`` in nats.
    """
    if samples < 1:
        raise UsageError(f"likelihood with {samples} samples, expected at least 1")
    q = model.encode(x)
    at_once = max(1, chunk // max(len(x), 1))
    total = torch.full(x.shape[:1], -math.inf, dtype=q.mean.dtype, device=q.mean.device)
    for first in range(0, samples, at_once):
        weights, _ = _weigh(model, x, q, min(at_once, samples - first), generator)
        total = torch.logaddexp(total, torch.logsumexp(weights, dim=0))
    return math.log(samples) - total


@torch.no_grad()
def sir(
    model: VAE,
    x: Tensor,
    samples: int,
    count: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Samples from the implicit posterior by importance resampling (Algorithm 1).

    Args:
        model: the model.
        x: ``(B, *event)``.
        samples: K, importance samples to choose from.
        count: how many to draw for each observation, with replacement.
        generator: where the noise comes from.

    Returns:
        ``(count, B, D)``.
    """
    weights, z = log_weights(model, x, samples, generator)
    chosen = torch.multinomial(
        torch.softmax(weights, dim=0).T, count, replacement=True, generator=generator
    )  # (B, count)
    index = chosen.T.unsqueeze(-1).expand(-1, -1, z.shape[-1])
    return torch.gather(z, 0, index)

"""Bounds on log p(x) by importance sampling, and samples from the posterior that they imply.

A VHP has a second layer of importance weights, those of its density. ``inner`` is their number:
with 1 every weight is an unbiased estimate of p(x), the plain importance-weighted bound of a model
of two stochastic layers; with more, the density inside is a tighter bound, at their cost each.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trackvae.distributions import Gaussian, log_mean_exp
from trackvae.errors import UsageError
from trackvae.priors import VHP
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
    model: VAE,
    x: Tensor,
    q: Gaussian,
    samples: int,
    generator: torch.Generator | None,
    inner: int | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`log_weights`, for observations that are encoded already."""
    z = q.sample(samples, generator)
    prior = model.prior
    density = (
        prior.log_prob(z, generator, inner)
        if isinstance(prior, VHP)
        else prior.log_prob(z, generator)  # type: ignore[operator]
    )
    likelihood = model.likelihood.log_prob(x, model.decoder(z))  # type: ignore[operator]
    return likelihood + density - q.log_prob(z), z


def iw_elbo(
    model: VAE, x: Tensor, samples: int, generator: torch.Generator | None = None
) -> Tensor:
    """The importance-weighted bound of Eq. 2.17, ``(B,)``; with one sample it is the ELBO."""
    if samples < 1:
        raise UsageError(f"importance-weighted bound with {samples} samples, expected at least 1")
    weights, _ = log_weights(model, x, samples, generator)
    return log_mean_exp(weights, dim=0)


@torch.no_grad()
def negative_log_likelihood(
    model: VAE,
    x: Tensor,
    samples: int = 5000,
    *,
    inner: int | None = None,
    chunk: int = 4_000,
    generator: torch.Generator | None = None,
) -> Tensor:
    """An upper bound on -log p(x) that tightens with the samples: minus the bound of Eq. 2.17.

    With a VHP there are two, both upper bounds at any number of samples. ``inner=1``: every weight
    ``p(x|z) p(z|zeta) p(zeta) / (q(z|x) q(zeta|z))`` is an unbiased estimate of p(x), as in a model
    of two stochastic layers. ``inner=K``: the mean of K such estimates for each z, tighter for as
    many z, at K times the cost of the prior's networks.

    x is encoded once; samples are drawn in chunks.

    Args:
        model: the model.
        x: ``(B, *event)``.
        samples: K of each observation; the thesis takes 5,000.
        inner: K of the VHP's density; as the prior was made, where left out.
        chunk: latents (z, or the VHP's zeta where those are more) whose networks run at once; what
            bounds the memory. 4,000 decoded digits are 12 MB and stay in the cache: 22 us each
            against 43 at 100,000 (300 x 2 units).
        generator: where the noise comes from.

    Returns:
        ``(B,)`` in nats.

    Raises:
        UsageError: numbers below 1, or ``inner`` for a prior whose density is exact.
    """
    for name, value in (("samples", samples), ("inner", inner), ("chunk", chunk)):
        if value is not None and value < 1:
            raise UsageError(f"likelihood with {name}={value}, expected at least 1")
    prior = model.prior
    if inner is not None and not isinstance(prior, VHP):
        raise UsageError(f"inner={inner} samples of a {type(prior).__name__}, expected a VHP")
    each = (inner or prior.samples) if isinstance(prior, VHP) else 1
    rows = max(1, chunk // each)
    q = model.encode(x)
    parts = [
        _negative_log_mean(
            model,
            x[first : first + rows],
            Gaussian(q.mean[first : first + rows], q.log_var[first : first + rows]),
            samples,
            rows,
            inner,
            generator,
        )
        for first in range(0, max(len(x), 1), rows)
    ]
    return torch.cat(parts)


def _negative_log_mean(
    model: VAE,
    x: Tensor,
    q: Gaussian,
    samples: int,
    rows: int,
    inner: int | None,
    generator: torch.Generator | None,
) -> Tensor:
    """Minus the logarithm of the mean weight, ``(B,)``, with at most ``rows`` >= B z at once."""
    at_once = max(1, rows // max(len(x), 1))
    total = torch.full(x.shape[:1], -math.inf, dtype=q.mean.dtype, device=q.mean.device)
    for first in range(0, samples, at_once):
        weights, _ = _weigh(model, x, q, min(at_once, samples - first), generator, inner)
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

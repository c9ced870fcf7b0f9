"""Models as data: a configuration says everything that is needed to build one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import nn

from trackvae.errors import InputError, UsageError
from trackvae.likelihoods import Bernoulli, GaussianLikelihood, Reduction
from trackvae.networks import GaussianHead, mlp
from trackvae.priors import VHP, StandardNormal, VampPrior
from trackvae.settings import parse_value
from trackvae.vae import VAE


@dataclass(frozen=True)
class ModelConfig:
    """A fully-connected VAE (Table A.1: pendulum, human motion).

    Attributes:
        observation: shape of one observation, without the batch.
        latent: dimensions of z.
        hidden: units of the encoder's hidden layers; the decoder has them in reverse.
        activation: between the layers.
        likelihood: of the observations.
        sigma: of the Gaussian likelihood: ``learned``, ``optimal``, or a number.
        reduction: of the constraint's error over the observation's dimensions.
        prior: over z.
        prior_hidden: units of the VHP's networks.
        prior_latent: dimensions of the VHP's zeta; 0: as many as z has.
        prior_samples: K of the VHP's importance-weighted bound.
        pseudo_inputs: components of the VampPrior.
    """

    observation: tuple[int, ...]
    latent: int = 2
    hidden: tuple[int, ...] = (256, 256, 256, 256)
    activation: str = "relu"
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    sigma: float | Literal["learned", "optimal"] = 1.0
    reduction: Reduction = "mean"
    prior: Literal["normal", "vamp", "vhp"] = "vhp"
    prior_hidden: tuple[int, ...] = (256, 256, 256, 256)
    prior_latent: int = 0
    prior_samples: int = 16
    pseudo_inputs: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        for name in ("observation", "hidden", "prior_hidden"):
            sizes = getattr(self, name)
            if not all(isinstance(size, int) and size >= 1 for size in sizes):
                raise UsageError(f"{name} is {sizes}, expected whole numbers from 1")
        for name, least in (
            ("latent", 1),
            ("prior_latent", 0),
            ("prior_samples", 1),
            ("pseudo_inputs", 1),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if not self.observation:
            raise UsageError("observation is (), expected the shape of one observation")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_dict`.

        Raises:
            InputError: an unknown entry, or a value of a wrong kind.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"model configuration has unknown entries: {', '.join(unknown)}")
        if "observation" not in values:
            raise InputError("model configuration has no observation")
        try:
            return cls(**{name: _plain(name, value) for name, value in values.items()})
        except (TypeError, UsageError) as error:
            raise InputError(f"model configuration cannot be used: {error}") from error


_CHOICES = {
    "likelihood": Literal["gaussian", "bernoulli"],
    "reduction": Reduction,
    "prior": Literal["normal", "vamp", "vhp"],
    "activation": str,
}
_SIZES = ("observation", "hidden", "prior_hidden")


def _plain(name: str, value: Any) -> Any:
    """One entry of a configuration as its field's type."""
    if name in _SIZES:
        return tuple(parse_value(name, size, int) for size in value)
    if name == "sigma":
        return value if value in ("learned", "optimal") else parse_value(name, value, float)
    return parse_value(name, value, _CHOICES.get(name, int))


class _Flat(nn.Module):
    """Observations as vectors."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self._dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(start_dim=x.dim() - self._dims)


class _Shaped(nn.Module):
    """Vectors as observations, whatever stands before the last dimension."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self._shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:-1], *self._shape)


def build(config: ModelConfig) -> VAE:
    """A model with fresh weights, drawn from torch's global generator."""
    size, dims = math.prod(config.observation), len(config.observation)
    encoder = GaussianHead(
        nn.Sequential(_Flat(dims), mlp(size, config.hidden, 2 * config.latent, config.activation))
    )
    decoder = nn.Sequential(
        mlp(config.latent, config.hidden[::-1], size, config.activation),
        _Shaped(config.observation),
    )
    likelihood: nn.Module
    if config.likelihood == "bernoulli":
        likelihood = Bernoulli(dims, config.reduction)
    else:
        likelihood = GaussianLikelihood(config.sigma, dims, config.reduction)
    return VAE(encoder, decoder, likelihood, _prior(config, encoder))


def _prior(config: ModelConfig, encoder: nn.Module) -> nn.Module:
    if config.prior == "normal":
        return StandardNormal(config.latent)
    if config.prior == "vamp":
        return VampPrior(encoder, torch.rand(config.pseudo_inputs, *config.observation))
    zeta = config.prior_latent or config.latent
    hidden, activation = config.prior_hidden, config.activation
    return VHP(
        posterior=GaussianHead(mlp(config.latent, hidden, 2 * zeta, activation)),
        conditional=GaussianHead(mlp(zeta, hidden, 2 * config.latent, activation)),
        dim=zeta,
        samples=config.prior_samples,
    )

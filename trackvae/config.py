"""Models as data: a configuration says everything that is needed to build one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import nn

from trackvae.convolutions import ARCHITECTURES, check_observation, image_networks
from trackvae.errors import InputError, UsageError
from trackvae.likelihoods import Bernoulli, Error, GaussianLikelihood, Reduction
from trackvae.networks import GaussianHead, gated_mlp, mlp
from trackvae.priors import VHP, StandardNormal, VampPrior
from trackvae.settings import parse_value
from trackvae.vae import VAE

Network = Literal["mlp", "gated-mlp", "gated-conv", "faces-conv", "vgg16", "crop-conv"]
Constraint = Literal["distortion", "squared"]


@dataclass(frozen=True)
class ModelConfig:
    """A VAE; as it stands the fully-connected one of Table A.1 (pendulum, human motion).

    Attributes:
        observation: shape of one observation, without the batch.
        latent: dimensions of z.
        network: of encoder and decoder: fully-connected ``mlp`` and ``gated-mlp`` for any
            observation; for images ``gated-conv`` (Table A.1, digits), ``faces-conv`` (Table A.1,
            3D Faces; sizes in multiples of 16), ``vgg16`` (Table A.8, MOT16; of 32), ``crop-conv``
            (small and fast; of 16). A VHP's networks are fully connected with any of them.
        hidden: units of the hidden layers of a fully-connected encoder; the decoder has them in
            reverse. Networks of images have sizes of their own.
        activation: between the layers; gated layers take none.
        likelihood: of the observations.
        sigma: of the Gaussian likelihood: ``learned``, ``optimal``, or a number.
        constraint: what is held to kappa^2: the ``distortion`` without its scale (Bernoulli: the
            cross entropy; Gaussian: the squared error), or the ``squared`` error of either.
        reduction: of the constraint's error over the observation's dimensions.
        prior: over z.
        prior_hidden: units of the VHP's networks.
        prior_latent: dimensions of the VHP's zeta; 0: as many as z has.
        prior_samples: K of the VHP's importance-weighted bound.
        pseudo_inputs: components of the VampPrior.
    """

    observation: tuple[int, ...]
    latent: int = 2
    network: Network = "mlp"
    hidden: tuple[int, ...] = (256, 256, 256, 256)
    activation: str = "relu"
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    sigma: float | Literal["learned", "optimal"] = 1.0
    constraint: Constraint = "distortion"
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
        parse_value("network", self.network, Network)
        parse_value("constraint", self.constraint, Constraint)
        if self.network in ARCHITECTURES:
            check_observation(self.network, self.observation)

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
    "network": Network,
    "constraint": Constraint,
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
    encoding, decoder = observation_networks(config)
    encoder, dims = GaussianHead(encoding), len(config.observation)
    likelihood: nn.Module
    if config.likelihood == "bernoulli":
        error: Error = "squared" if config.constraint == "squared" else "cross-entropy"
        likelihood = Bernoulli(dims, config.reduction, error)
    else:
        likelihood = GaussianLikelihood(config.sigma, dims, config.reduction)
    return VAE(encoder, decoder, likelihood, _prior(config, encoder))


def observation_networks(config: ModelConfig) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder: observations to ``(..., 2 D_z)``, z to observations."""
    shape, outputs = config.observation, 2 * config.latent
    if config.network in ARCHITECTURES:
        return image_networks(config.network, shape, config.latent, config.activation)
    size, hidden = math.prod(shape), config.hidden
    encoder = _connected(config, size, hidden, outputs)
    decoder = _connected(config, config.latent, hidden[::-1], size)
    return nn.Sequential(_Flat(len(shape)), encoder), nn.Sequential(decoder, _Shaped(shape))


def _connected(
    config: ModelConfig, inputs: int, hidden: tuple[int, ...], outputs: int
) -> nn.Sequential:
    if config.network == "gated-mlp":
        return gated_mlp(inputs, hidden, outputs)
    return mlp(inputs, hidden, outputs, config.activation)


def _prior(config: ModelConfig, encoder: nn.Module) -> nn.Module:
    if config.prior == "normal":
        return StandardNormal(config.latent)
    if config.prior == "vamp":
        return VampPrior(encoder, torch.rand(config.pseudo_inputs, *config.observation))
    zeta = config.prior_latent or config.latent
    return hierarchical_prior(
        config.latent, zeta, config.prior_hidden, config.prior_samples, config.activation
    )


def hierarchical_prior(
    latent: int, zeta: int, hidden: tuple[int, ...], samples: int, activation: str = "relu"
) -> VHP:
    """A VHP with fully-connected networks that begins narrow (see :class:`trackvae.priors.VHP`).

    Args:
        latent: dimensions of z.
        zeta: dimensions of zeta.
        hidden: units of either network.
        samples: K of the bound (Eq. 3.8); 1: Eq. 4.7.
        activation: one of :data:`trackvae.networks.ACTIVATIONS`.
    """
    return VHP(
        posterior=_narrow(mlp(latent, hidden, 2 * zeta, activation)),
        conditional=_narrow(mlp(zeta, hidden, 2 * latent, activation)),
        dim=zeta,
        samples=samples,
        latent=latent,
    )


@torch.no_grad()
def _narrow(network: nn.Sequential) -> GaussianHead:
    """A conditional Gaussian that begins with small variances: see :class:`VHP`."""
    last = network[-1]
    assert isinstance(last, nn.Linear)
    half = last.out_features // 2
    last.bias[half:] = _LOG_VOLUME / half
    return GaussianHead(network)


# Of the VHP's Gaussians at the start, beside N(0, 1)'s: twice the log of their volume, which makes
# a log-variance of -2 in two dimensions. The same -2 in each of many dimensions costs: digits, 32
# dimensions, 4,000 steps, 103.4 nats (validation part) against 102.2 with none; crops, 128
# dimensions, a rate of 88 nats against 81.
_LOG_VOLUME = -4.0
Experiment = Literal["pendulum", "motion", "digits", "digits-2d", "faces", "mot16"]
_WIDE = (256, 256, 256, 256)
_DIGITS: dict[str, Any] = {
    "latent": 32,
    "likelihood": "bernoulli",
    "constraint": "squared",
    "prior_hidden": (256, 256),
    "prior_samples": 16,
}
_THESIS: dict[Experiment, dict[str, Any]] = {
    "pendulum": {"latent": 2, "hidden": _WIDE, "prior_hidden": _WIDE, "prior_samples": 16},
    "motion": {"latent": 2, "hidden": _WIDE, "prior_hidden": _WIDE, "prior_samples": 32},
    "digits": {**_DIGITS, "network": "gated-conv"},
    "digits-2d": {**_DIGITS, "latent": 2, "hidden": _WIDE, "prior_hidden": _WIDE},
    "faces": {**_DIGITS, "network": "faces-conv"},
    "mot16": {
        "latent": 128,
        "network": "vgg16",
        "prior_hidden": (512, 512),
        "prior_samples": 8,
    },
}


def thesis_config(
    experiment: Experiment, observation: tuple[int, ...], **changes: Any
) -> ModelConfig:
    """The architecture of one of the thesis's experiments (Tables A.1 and A.8).

    How they were trained is not part of the model:

    ========== ===== ============== == === ============ ==================================
    experiment table kappa          nu K   learning rate eta (of the FMVAE), and what it is
    ========== ===== ============== == === ============ ==================================
    pendulum   A.1   0.02           5  16  1e-4         16x16 images
    motion     A.1   0.02           1  32  1e-4         CMU human motion, 50 features
    motion     A.8   0.03           1  32  1e-4         8000
    digits     A.1   0.18, 0.31     1  16  5e-4         MNIST and OMNIGLOT, Fashion-MNIST
    digits-2d  A.8   0.245          1  16  1e-4         8000; MNIST in two dimensions
    faces      A.1   0.2            1  16  5e-4         3D Faces and Chairs, 64x64
    mot16      A.8   0.8            1  8   3e-5         300 or 3000; crops of people, 64x64x3
    ========== ===== ============== == === ============ ==================================

    kappa is the root of the mean squared error in all but the last, where no such unit can be
    meant: pixels in [0, 1] are never 0.8 apart on average.

    Args:
        experiment: which.
        observation: shape of one observation; the tables' own is not insisted on.
        changes: fields of :class:`ModelConfig` that shall differ.

    Raises:
        UsageError: no such experiment or field, or an observation that its network cannot take.
    """
    if experiment not in _THESIS:
        raise UsageError(f"experiment is {experiment!r}, expected one of {', '.join(_THESIS)}")
    known = {field.name for field in fields(ModelConfig)} - {"observation"}
    if unknown := sorted(set(changes) - known):
        raise UsageError(f"a model has no {unknown[0]}, only {', '.join(sorted(known))}")
    return ModelConfig(observation, **{**_THESIS[experiment], **changes})

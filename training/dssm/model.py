"""The one interface of all deep state-space models, and the pieces that they share.

A model is a :class:`StateSpaceModel`: it infers states from sequences, says what they cost (rate
and distortion, Eq. 4.3 to 4.5), filters, smooths and predicts. Training (constrained optimisation
or annealing, :mod:`training.trainer`) and the experiments know nothing else of it.

Everything is batch first: observations ``(B, T, *event)``, states ``(B, T, D_z)``, controls
``(B, T - 1, D_u)`` of which ``u[:, t]`` drives ``z[:, t]`` to ``z[:, t + 1]``.

A model to be written has to give: :meth:`~StateSpaceModel.infer`, :meth:`~StateSpaceModel.filter`,
:meth:`~StateSpaceModel.smooth`, :meth:`~StateSpaceModel.step` and
:meth:`~StateSpaceModel.dynamics`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from trackvae.config import ModelConfig, Network, hierarchical_prior, observation_networks
from trackvae.distributions import Gaussian
from trackvae.errors import InputError, UsageError
from trackvae.likelihoods import GaussianLikelihood
from trackvae.priors import StandardNormal
from trackvae.vae import Likelihood, Prior, Terms
from training.dssm.batch import SequenceBatch

InitialPrior = Literal["normal", "gaussian", "vhp", "transform"]  # the last of DVBS alone
Posterior = Literal["smoother", "filter"]
LEAST_SIGMA = 0.03  # kappa of Table A.2: better than that need no pixel be explained


def check_posterior(posterior: str) -> None:
    """Refuse what is neither a smoother nor a filter.

    Raises:
        UsageError: another word.
    """
    if posterior not in get_args(Posterior):
        raise UsageError(f"posterior is {posterior!r}, expected smoother or filter")


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Gaussians over the states of sequences, one for each step.

    Attributes:
        mean: ``(B, T, D_z)``.
        factor: ``(B, T, D_z, D_z)``, lower triangular L with covariance ``L L^T``.
        memory: ``(B, T, D_h)``, what the model's transition remembers beside z (a recurrent
            network's state, section 4.4.3); None where z is all there is.
    """

    mean: Tensor
    factor: Tensor
    memory: Tensor | None = None

    @classmethod
    def diagonal(cls, gaussian: Gaussian, memory: Tensor | None = None) -> States:
        """Of a Gaussian ``(B, T, D_z)`` with diagonal covariance."""
        return cls(gaussian.mean, torch.diag_embed((0.5 * gaussian.log_var).exp()), memory)

    @property
    def variance(self) -> Tensor:
        """Of each dimension, ``(B, T, D_z)``."""
        return self.factor.square().sum(-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw of each step by itself, ``(B, T, D_z)``."""
        noise = torch.randn(
            self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
        )
        return self.mean + (self.factor @ noise.unsqueeze(-1)).squeeze(-1)

    def at(self, step: int) -> tuple[Tensor, Tensor | None]:
        """Mean ``(B, D_z)`` and memory ``(B, D_h)`` of one step."""
        return self.mean[:, step], None if self.memory is None else self.memory[:, step]


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """What a pass of the recognition model over sequences gives.

    Attributes:
        latents: samples of z, ``(B, T, D_z)``.
        output: the decoder's of them, parameters of p(x_t|z_t), ``(B, T, *event)``.
        rate: ``(B,)``, one-sample estimate of Eq. 4.8, summed over the steps that are observed.
    """

    latents: Tensor
    output: Tensor
    rate: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class SequenceTerms(Terms):
    """What a batch of sequences costs, ``(B,)`` each; rate and distortion are sums over time.

    ``error`` is a mean over time; ``latents`` are ``(B, T, D_z)``.

    Attributes:
        steps: T.
    """

    steps: int = 1

    def lagrangian(self, beta: float) -> Tensor:
        """``(beta rate + distortion) / T``: Eq. 4.9 times beta, per step.

        The factor changes no minimum, but Adam remembers the size of gradients: beta moves from
        below 0.01 to 1 within 100 steps here, and with ``distortion / beta`` the steps that follow
        would be as much too short.
        """
        return (beta * self.rate + self.distortion) / self.steps


@dataclass(frozen=True)
class SequenceConfig:
    """What every model's configuration has; as it stands that of the pendulum (Tables A.2 to A.6).

    Attributes:
        event: shape of an observation.
        controls: D_u.
        latent: D_z.
        hidden: units of the decoder, and in reverse of an encoder of single observations.
        prior: p(z_1).
        least_sigma: of the observation's Gaussian, see :func:`observation_likelihood`.
        sigma: the same, held fixed; None: it follows the error.
        prior_samples: K of a VHP's importance-weighted bound (Eq. 3.8); 1: Eq. 4.7, with which
            the EKVAE's learns where z_1 lies and not what shape it has (table 4.1's ``generated``).
    """

    event: tuple[int, ...] = (16, 16)
    controls: int = 1
    latent: int = 3
    hidden: tuple[int, ...] = (128, 128, 128)
    prior: InitialPrior = "vhp"
    least_sigma: float = LEAST_SIGMA
    sigma: float | None = None
    prior_samples: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            UsageError: of a model's configuration, whichever.
        """
        if self.latent < 1 or self.controls < 0:
            raise UsageError(
                f"latent is {self.latent}, controls {self.controls}: expected at least 1 and 0"
            )
        if self.prior_samples < 1:
            raise UsageError(f"prior_samples is {self.prior_samples}, expected at least 1")


class StateSpaceModel(nn.Module, ABC):
    """A latent state z with a transition, an observation model and a recognition model.

    Attributes:
        takes_gaps: whether steps in the middle of a sequence may be unobserved.
    """

    takes_gaps = False

    def __init__(
        self, config: SequenceConfig, decoder: nn.Module, prior: nn.Module | None = None
    ) -> None:
        """What all have.

        Args:
            config: of the model.
            decoder: theta, of p(x_t|.), ``(..., D)`` to ``(..., *event)``.
            prior: p(z_1); None: the one that the configuration names.
        """
        super().__init__()
        self.event = tuple(config.event)
        self.latent = config.latent
        self.controls = config.controls
        self.decoder = decoder
        self.likelihood = observation_likelihood(config.event, config.least_sigma, config.sigma)
        self.prior = (
            initial_prior(config.prior, config.latent, samples=config.prior_samples)
            if prior is None
            else prior
        )

    # --- what a model has to give

    @abstractmethod
    def infer(self, x: SequenceBatch, generator: torch.Generator | None = None) -> Inference:
        """States, what is decoded of them, and the rate."""

    @abstractmethod
    def filter(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """States given the observations up to each step.

        A posterior that is conditional on the state before it is followed along its means, or,
        given a generator, along samples.
        """

    @abstractmethod
    def smooth(self, x: SequenceBatch, generator: torch.Generator | None = None) -> States:
        """States given all observations of the sequence; as :meth:`filter`."""

    @abstractmethod
    def step(
        self, z: Tensor, u: Tensor, memory: Tensor | None = None
    ) -> tuple[Gaussian, Tensor | None]:
        """The transition p(z_{t+1}|z_t, u_t).

        Args:
            z: ``(B, D_z)``.
            u: ``(B, D_u)``.
            memory: ``(B, D_h)`` of a model that has one; None: as at the start of a sequence.

        Returns:
            A Gaussian ``(B, D_z)``, and the memory at t + 1.
        """

    @abstractmethod
    def dynamics(self) -> Iterator[nn.Parameter]:
        """psi: what Algorithm 3 trains in its main phase alone, the prior p(z_1) not included."""

    # --- what follows from it

    def check(self, x: SequenceBatch, *, finite: bool = False) -> None:
        """See that sequences are what this model takes: the first line of everything that it does.

        Args:
            x: the sequences.
            finite: that all numbers are finite, too, which the trainer sees to once.

        Raises:
            UsageError: no batch of sequences.
            InputError: observations of another shape, controls of another number, numbers of
                another kind; a gap, or a sequence without any observation, where the model takes
                none; NaN or infinity.
        """
        if not isinstance(x, SequenceBatch):
            raise UsageError(
                f"a state-space model takes a SequenceBatch, not a {type(x).__name__}; "
                "SequenceBatch.of makes one of recorded sequences"
            )
        if x.event != self.event or x.controls.shape[2] != self.controls:
            raise InputError(
                f"observations of {x.event} with {x.controls.shape[2]} controls, expected "
                f"{self.event} with {self.controls}"
            )
        kind = next(self.parameters()).dtype
        if x.observations.dtype != kind or x.controls.dtype != kind:
            raise InputError(
                f"observations are {x.observations.dtype} and controls {x.controls.dtype}, "
                f"the model {kind}"
            )
        if finite:
            x.check()
        going_on = x.going_on
        if going_on is None or self.takes_gaps:
            return
        assert x.mask is not None
        gap = (going_on != x.mask).any(1) | ~x.mask[:, 0]
        if bool(gap.any()):
            raise InputError(
                f"sequence {int(gap.nonzero()[0])}, from 0, has a gap or no observation; this "
                "model takes sequences that are padded behind"
            )

    def later_parameters(self) -> Iterator[nn.Parameter]:
        """psi, psi_0 and phi_0: not trained in the initial phase (Algorithm 3)."""
        return chain(self.dynamics(), self.prior.parameters())

    def emission(self, z: Tensor) -> Tensor:
        """What of a state is decoded: z itself, but for models with auxiliary variables."""
        return z

    def decode(self, z: Tensor) -> Tensor:
        """The expected observation E[x|z], ``(..., D_z)`` to ``(..., *event)``."""
        likelihood: Likelihood = self.likelihood
        return likelihood.mean(self.decoder(self.emission(z)))

    def terms(
        self,
        x: SequenceBatch,
        generator: torch.Generator | None = None,
        samples: int | None = None,
        target: Tensor | None = None,
    ) -> SequenceTerms:
        """Rate and distortion (Eq. 4.3, 4.4, 4.8) and the constraint's error of a batch.

        Args:
            x: the batch.
            generator: where the noise comes from.
            samples: there is no importance-weighted bound for sequences; None.
            target: sequences are decoded as themselves; None.

        Raises:
            UsageError: samples or a target.
        """
        if samples is not None or target is not None:
            raise UsageError("a state-space model takes one sample, and decodes its own sequences")
        likelihood: Likelihood = self.likelihood
        found, y, weights = self.infer(x, generator), x.observations, x.weights
        share = weights / weights.sum().clamp_min(1.0) * len(x)  # over batch and time alike
        return SequenceTerms(
            rate=found.rate,
            distortion=(likelihood.distortion(y, found.output) * weights).sum(1),
            log_likelihood=(likelihood.log_prob(y, found.output) * weights).sum(1),
            error=(likelihood.error(y, found.output) * share).sum(1),
            latents=found.latents,
            steps=x.steps,
        )

    def prior_latents(
        self, x: SequenceBatch, draws: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples of z_1 given sequences, ``(draws B, D_z)``: what the prior has to describe."""
        return torch.cat([self.infer(x, generator).latents[:, 0] for _ in range(draws)])

    def predict(
        self,
        z1: Tensor,
        controls: Tensor,
        generator: torch.Generator | None = None,
        memory: Tensor | None = None,
    ) -> Tensor:
        """States that follow a first one under given controls.

        Args:
            z1: ``(B, D_z)``.
            controls: ``(B, H, D_u)``.
            generator: every step is sampled from the transition; None: its mean is taken.
            memory: ``(B, D_h)`` at the first state, of a model that has one.

        Returns:
            ``(B, H + 1, D_z)``, z1 first.

        Raises:
            UsageError: states or controls that do not fit each other or the model.
        """
        if z1.dim() != 2 or z1.shape[1] != self.latent:
            raise UsageError(f"z1 is {tuple(z1.shape)}, expected (sequences, {self.latent})")
        if controls.dim() != 3 or len(controls) != len(z1) or controls.shape[2] != self.controls:
            raise UsageError(
                f"controls are {tuple(controls.shape)}, expected ({len(z1)}, steps, "
                f"{self.controls})"
            )
        path = [z1]
        for u in controls.unbind(1):
            following, memory = self.step(path[-1], u, memory)
            path.append(following.mean if generator is None else following.sample(None, generator))
        return torch.stack(path, dim=1)

    @torch.no_grad()
    def generate(
        self, controls: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sequences from the prior: z_1 from p(z_1), then the transition (sampled).

        Args:
            controls: ``(B, H, D_u)``.
            generator: where the noise comes from.

        Returns:
            Expected observations ``(B, H + 1, *event)`` and their states ``(B, H + 1, D_z)``.
        """
        prior: Prior = self.prior  # type: ignore[assignment]
        z = self.predict(prior.sample(len(controls), generator), controls, generator)
        return self.decode(z), z


class LearnedGaussian(nn.Module):
    """p(z_1) = N(m, diag(v)) with both learned."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(dim))
        self.log_var = nn.Parameter(torch.zeros(dim))

    def gaussian(self) -> Gaussian:
        """The Gaussian, ``(D_z,)``."""
        return Gaussian(self.mean, self.log_var)

    def log_prob(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Exact log density: ``(..., D)`` to ``(...)``."""
        return self.gaussian().log_prob(z)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count, D)``."""
        return self.gaussian().sample(count, generator)


def initial_prior(
    kind: InitialPrior,
    latent: int,
    zeta: int = 0,
    hidden: tuple[int, ...] = (64, 64),
    samples: int = 1,
) -> nn.Module:
    """p(z_1): standard normal, a learned Gaussian, or the VHP of Eq. 4.7.

    Args:
        kind: which.
        latent: D_z.
        zeta: dimensions of the VHP's zeta; 0: D_z.
        hidden: units of both of the VHP's networks (Table A.2).
        samples: K of the VHP's bound.

    Raises:
        UsageError: no such prior.
    """
    if kind == "normal":
        return StandardNormal(latent)
    if kind == "gaussian":
        return LearnedGaussian(latent)
    if kind == "vhp":
        return hierarchical_prior(latent, zeta or latent, hidden, samples=samples)
    raise UsageError(f"prior is {kind!r}, expected normal, gaussian or vhp")


class Steps(nn.Module):
    """A network of one observation or state, for any dimensions before it: batch and time."""

    def __init__(self, network: nn.Module, dims: int) -> None:
        """Wrap a network.

        Args:
            network: ``(N, *in)`` to ``(N, *out)``.
            dims: of ``in``.
        """
        super().__init__()
        self.network = network
        self._dims = dims

    def forward(self, value: Tensor) -> Tensor:
        """``(..., *in)`` to ``(..., *out)``."""
        before = value.shape[: value.dim() - self._dims]
        if len(before) == 1:
            return self.network(value)
        output: Tensor = self.network(value.reshape(-1, *value.shape[len(before) :]))
        return output.reshape(*before, *output.shape[1:])


def step_networks(
    event: tuple[int, ...],
    latent: int,
    hidden: tuple[int, ...] = (128, 128, 128),
    network: Network = "mlp",
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of single observations (Table A.2).

    Args:
        event: shape of an observation.
        latent: D, of what is decoded.
        hidden: units of a fully-connected encoder; the decoder has them in reverse.
        network: see :class:`trackvae.config.ModelConfig`.

    Returns:
        ``(..., *event)`` to ``(..., 2 D)``, means and log-variances, to be made a Gaussian by
        :class:`trackvae.networks.GaussianHead`; and ``(..., D)`` to ``(..., *event)``.
    """
    config = ModelConfig(event, latent=latent, network=network, hidden=hidden)
    encoder, decoder = observation_networks(config)
    return Steps(encoder, len(event)), Steps(decoder, 1)


def observation_likelihood(
    event: tuple[int, ...], least_sigma: float = LEAST_SIGMA, sigma: float | None = None
) -> GaussianLikelihood:
    """p(x_t|.): Gaussian, sigma^2 the moving mean squared error, not below a least one; or fixed.

    The thesis does not give its sigma. The constraint's error is the mean squared error over the
    event, time and batch: the unit in which Table A.2's kappa, nu and tau_2 belong together.

    Args:
        event: shape of an observation.
        least_sigma: see above. It matters to what recurrent models learn, see
            :mod:`training.dssm.dks`.
        sigma: fixed. Where observations are few numbers, as angles are, a sigma that follows the
            error leaves the rate as strong as the distortion all along: both fall slowly.
    """
    if sigma is not None:
        return GaussianLikelihood(sigma, len(event), "mean")
    return GaussianLikelihood("optimal", len(event), "mean", least=least_sigma, momentum=0.9)

"""A first place for auxiliary variables: rings that do not fold, and controls that tell the sides.

What an encoder makes of its first steps decides where the angles of a system will lie. From random
weights a ring may become a figure of eight; the two angles that share a place then share it for
good. And some angles lie along no line of what is learned first: in an image of an arm on a turning
base, what is linear in the pixels and the same at every rotation is even in the bend of the elbow.
An autoencoder tells a bend to the left from one to the right in each stretch of the circle by
itself, with signs that change in between, and no gradient step turns a stretch over afterwards.
What does tell is what moves the arm: a torque bends it by as much, and to the same side, at every
rotation. So encoder and decoder are trained here, without labels,

1. to give principal components, among which a ring lies open;
2. as an autoencoder of single observations, and so that the change of the driven dimensions from
   one step to the next is linear in the control between the two;
3. so that, more and more, every dimension's change is linear in the controls and their products
   with all dimensions, as a point moves that is turned about an axis: it makes rings round.

This is not of the thesis. A model goes on from here by Algorithm 3, as it would have begun.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trackvae.distributions import Gaussian
from trackvae.errors import InputError, UsageError
from training.dssm.auxiliary import AuxiliaryModel
from training.dssm.batch import SequenceBatch

_COMPONENTS_SHARE = 0.08  # of the steps, to give principal components
_COMPONENTS_OF = 4096  # observations
# of a at first, falling to the last one in the first half. With 0.3 rings came out as stars, which
# are longer than circles of their variance
_FIRST_NOISE = 0.1
_SCALE, _SPREAD = 0.1, 0.01  # weights of a's unit covariance, and of q(a|x)'s variances
_JUDGED = 4096  # pairs
_RIDGE = 1e-6


@dataclass(frozen=True)
class Pretraining:
    """How encoder and decoder are trained.

    Attributes:
        driven: which of a's dimensions move with the controls by the same amount everywhere; they
            get the least of the principal components to begin with. None: what is learned begins
            with the components, which alone keeps a ring from folding.
        steps: of training.
        batch_size: pairs of successive observations.
        learning_rate: of Adam at the start; falls to a tenth on a cosine.
        weight: of the unexplained share of the driven dimensions' changes, beside the squared error
            as a share of the data's variance.
        turning: weight, at the end, of the share of all changes that no turning explains; it grows
            in the second half. With 3 a barrel became a bell, whose rim runs away from its axis
            as fast as it turns.
        noise: standard deviation of q(a|x) at the end, where a has unit variance.
        seed: of the order of the data and of every sample.
    """

    driven: tuple[int, ...] = ()
    steps: int = 4000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight: float = 10.0
    turning: float = 0.5
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            UsageError: a driven dimension twice; numbers that are not positive.
        """
        if len(set(self.driven)) != len(self.driven) or min(self.driven, default=0) < 0:
            raise UsageError(f"driven is {self.driven}, expected different dimensions, from 0")
        for name in ("steps", "batch_size", "learning_rate", "noise"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}, expected more than 0")
        for name in ("weight", "turning"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}, expected 0 or more")


class Pretrained(NamedTuple):
    """Where a pretraining is, or how it ended.

    Attributes:
        step: steps done.
        error: squared error of decoded means, as a share of the data's variance.
        unexplained: share of the driven dimensions' changes that is not linear in the controls; 0
            where none is driven.
    """

    step: int
    error: float
    unexplained: float


class _Pairs(NamedTuple):
    """Successive observations ``(2, B, *event)`` and the controls between them ``(B, D_u)``."""

    x: Tensor
    u: Tensor


class _Components(NamedTuple):
    """Whitened principal components of observations, and which of a's dimensions begin as them.

    Attributes:
        dims: of a, K of them, from the largest component on.
        mean: ``(D,)``, of the observations.
        whitening: ``(D, K)``.
    """

    dims: list[int]
    mean: Tensor
    whitening: Tensor


def pretrain(
    model: AuxiliaryModel,
    x: SequenceBatch,
    config: Pretraining,
    on_step: Callable[[Pretrained], None] | None = None,
) -> Pretrained:
    """Train a model's encoder and decoder in place; nothing else of it is changed.

    Args:
        model: an EKVAE or a KVAE.
        x: the training part.
        config: how.
        on_step: called after each step, with the batch's figures.

    Returns:
        How it ended, by pairs of the training part, without noise.

    Raises:
        UsageError: a model without auxiliary variables, or without the driven ones.
        InputError: sequences that the model does not take; no controls; no two successive
            observations, or none that differ; a loss that is no longer finite.
    """
    if not isinstance(model, AuxiliaryModel):
        raise UsageError(f"a {type(model).__name__} has no auxiliary variables to pretrain")
    model.check(x, finite=True)
    if x.controls.shape[2] == 0 and (config.driven or config.turning):
        raise InputError("the sequences have no controls, which driven and turning learn from")
    generator = torch.Generator().manual_seed(config.seed)
    places = _successive(x)
    variance = float(x.observations.flatten(2)[x.weights > 0].var(0).mean())
    if not variance > 0:
        raise InputError("the observations are all the same: there is nothing to learn")
    model.train()
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
    adam = torch.optim.Adam(parameters, config.learning_rate)
    components = _components(model, x, config, generator)
    first = round(_COMPONENTS_SHARE * config.steps)
    for step in range(config.steps):
        pairs = _pairs(x, places, config.batch_size, generator)
        done = step / config.steps
        rate = config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
        for group in adam.param_groups:
            group["lr"] = rate
        if step < first:
            loss = _components_loss(model, components, pairs.x[0])
            now = Pretrained(step + 1, math.nan, math.nan)
        else:
            loss, error, rest = _loss(model, pairs, config, done, variance, generator)
            now = Pretrained(step + 1, float(error.detach()), float(rest.detach()))
        if not bool(loss.isfinite()):
            raise InputError(f"pretraining: the loss is {float(loss)} at step {step + 1}")
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        if on_step is not None:
            on_step(now)
    return _judged(model, _pairs(x, places, _JUDGED, generator), config, variance)


def unexplained(change: Tensor, inputs: Tensor) -> Tensor:
    """Share of changes that is not linear in inputs: 1 less the mean squared canonical correlation.

    It does not depend on the unit or the axes of either, so that nothing is won by scaling a
    dimension, or by mixing it with one that is explained.

    Args:
        change: ``(B, D)``.
        inputs: ``(B, D_u)``.

    Returns:
        From 0, where ``change = inputs W`` for some W, to 1.
    """
    if not change.shape[1]:
        return change.new_zeros(())
    W = torch.linalg.solve(_ridged(inputs.T @ inputs), inputs.T @ change)
    rest, whole = change - inputs @ W, _ridged(change.T @ change)
    return torch.linalg.solve(whole, rest.T @ rest).trace() / len(whole)


def _ridged(gram: Tensor) -> Tensor:
    """A positive definite one, of what may be no more than semidefinite: ``(D, D)``."""
    size = gram.diagonal().mean().clamp_min(1e-12)
    return gram + _RIDGE * size * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)


def _covariance(values: Tensor) -> Tensor:
    """Of ``(N, D)``: ``(D, D)``."""
    apart = values - values.mean(0)
    return apart.T @ apart / (len(values) - 1)


def _loss(
    model: AuxiliaryModel,
    pairs: _Pairs,
    config: Pretraining,
    done: float,
    variance: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of the autoencoder; its squared error and the driven dimensions' unexplained share.

    Args:
        model: is trained.
        pairs: a batch.
        config: of the pretraining.
        done: share of the steps.
        variance: of the observations.
        generator: where the noise comes from.
    """
    q: Gaussian = model.encoder(pairs.x)
    here, after = q.mean
    noise = max(config.noise, _FIRST_NOISE * (1 - 2 * done))
    drawn = torch.randn(here.shape, generator=generator, dtype=here.dtype).to(here.device)
    error = (model.decoder(here + noise * drawn) - pairs.x[0]).square().mean() / variance
    rest = unexplained((after - here)[:, list(config.driven)], pairs.u)
    loss = error + config.weight * rest
    if done > 0.5 and config.turning:
        products = (here.unsqueeze(-1) * pairs.u.unsqueeze(1)).flatten(1)  # (B, D_a D_u)
        turned = unexplained(after - here, torch.cat([pairs.u, products], dim=1))
        loss = loss + config.turning * (2 * done - 1) * turned
    # a's moments to a standard normal's, a rate per dimension
    mean, covariance = q.mean.mean((0, 1)), _ridged(_covariance(q.mean.flatten(0, 1)))
    apart = mean.square() + covariance.diagonal() - 1
    scale = 0.5 * (apart.sum() - torch.logdet(covariance)) / len(mean)
    spread = (q.log_var - 2 * math.log(config.noise)).square().mean()
    return loss + _SCALE * scale + _SPREAD * spread, error, rest


def _components(
    model: AuxiliaryModel, x: SequenceBatch, config: Pretraining, generator: torch.Generator
) -> _Components:
    """The largest ones of some of the observations; the driven dimensions get the least of them.

    Raises:
        UsageError: the model has no such dimension as is to be driven.
    """
    seen = x.observations.flatten(2)[x.weights > 0]
    some = seen[torch.randperm(len(seen), generator=generator)[:_COMPONENTS_OF]]
    with torch.no_grad():
        dims = model.encoder(x.observations[:1, :1]).mean.shape[-1]
    if max(config.driven, default=0) >= dims:
        raise UsageError(f"driven is {config.driven}, but a has {dims} dimensions, from 0")
    mean = some.mean(0)
    _, sizes, directions = torch.linalg.svd(some - mean, full_matrices=False)
    found = min(dims, int((sizes > 1e-6 * sizes[0]).sum()))
    others = [dim for dim in range(dims) if dim not in config.driven]
    whitening = directions[:found].T * (len(some) ** 0.5 / sizes[:found])
    return _Components([*others, *config.driven][:found], mean, whitening)


def _components_loss(model: AuxiliaryModel, components: _Components, x: Tensor) -> Tensor:
    """Mean squared difference of encoded observations ``(B, *event)`` to their components."""
    a: Tensor = model.encoder(x).mean[:, components.dims]
    return (a - (x.flatten(1) - components.mean) @ components.whitening).square().mean()


def _successive(x: SequenceBatch) -> Tensor:
    """Sequence and step of the first of each two successive observations, ``(N, 2)``.

    Raises:
        InputError: there are none.
    """
    seen = x.weights > 0
    places = (seen[:, :-1] & seen[:, 1:]).nonzero()
    if not len(places):
        raise InputError("the sequences have no two successive observations")
    return places


def _pairs(x: SequenceBatch, places: Tensor, count: int, generator: torch.Generator) -> _Pairs:
    """So many of them, drawn with replacement."""
    rows, steps = places[torch.randint(len(places), (count,), generator=generator)].T
    observed = torch.stack([x.observations[rows, steps], x.observations[rows, steps + 1]])
    return _Pairs(observed, x.controls[rows, steps])


def _judged(
    model: AuxiliaryModel, pairs: _Pairs, config: Pretraining, variance: float
) -> Pretrained:
    with torch.no_grad():
        here, after = model.encoder(pairs.x).mean
        error = (model.decoder(here) - pairs.x[0]).square().mean() / variance
        rest = unexplained((after - here)[:, list(config.driven)], pairs.u)
    return Pretrained(config.steps, float(error), float(rest))

"""A first place for auxiliary variables: rings that do not fold, and controls that tell the sides.

What an encoder makes of its first steps decides where the angles of a system will lie. From random
weights a ring may become a figure of eight; the two angles that share a place then share it for
good. And some angles lie along no line of what is learned first: in an image of an arm on a turning
base, what is linear in the pixels and the same at every rotation is even in the bend of the elbow.
An autoencoder tells a bend to the left from one to the right in each stretch of the circle by
itself, with signs that change in between, and no gradient step turns a stretch over afterwards.
What does tell is what moves the arm: a torque that friction works against bends it by as much, and
to the same side, at every rotation. So encoder and decoder are trained here, without labels,

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
        driven: which of a's dimensions move with the controls by the same amount everywhere, within
            the step that the control acts in: a force that changes speeds first, and positions
            later, drives none. They get the least of the principal components to begin with. ():
            what is learned begins with the components, which alone keeps a ring from folding.
        steps: of training.
        batch_size: pairs of successive observations.
        learning_rate: of Adam at the start; falls to a tenth on a cosine.
        weight: of the unexplained share of the driven dimensions' changes, beside the squared error
            as a share of the data's variance.
        turning: weight, at the end, of the share of all changes that no turning explains; it grows
            in the second half. Sequences without controls go without it. With 3 a barrel became a
            bell, whose rim runs away from its axis as fast as it turns.
        noise: standard deviation that q(a|x) is drawn to, as a is to unit variance.
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
            UsageError: driven dimensions that are no numbers of their own; other numbers that are
                not positive.
        """
        if not isinstance(self.driven, tuple) or not all(
            isinstance(dim, int) and dim >= 0 and self.driven.count(dim) == 1 for dim in self.driven
        ):
            raise UsageError(
                f"driven is {self.driven!r}, expected a tuple of different dimensions, from 0"
            )
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{name} is {value!r}, expected a whole number from 1")
        for name in ("learning_rate", "noise"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}, expected more than 0")
        for name in ("weight", "turning"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}, expected 0 or more")


class Pretrained(NamedTuple):
    """Where a pretraining is, or how it ended.

    Attributes:
        step: steps done.
        error: squared error as a share of the data's variance: of what is decoded from noisy a's
            on the way, from their means at the end; NaN in the first steps, which do not decode.
        unexplained: share of the driven dimensions' changes that is not linear in the controls; 0
            where none is driven. Near 1 at the end: nothing was found that moves so.
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
    """Train a model's encoder and decoder in place, and none of its other parameters.

    It is left in training mode, as :class:`training.trainer.Trainer` takes it.

    Args:
        model: an EKVAE or a KVAE.
        x: the training part, on the model's device; observations whose mean is about 0 and whose
            variance is about 1, as all networks learn best from.
        config: how.
        on_step: called after each step, with the batch's figures.

    Returns:
        How it ended, by 4,096 pairs of the training part, drawn with replacement.

    Raises:
        UsageError: a model without auxiliary variables, or without the driven ones.
        InputError: sequences that the model does not take; no controls; no two successive
            observations, none that differ, or too few; a loss that is no longer finite (encoder
            and decoder are then as the step before left them).
    """
    if not isinstance(model, AuxiliaryModel):
        raise UsageError(f"a {type(model).__name__} has no auxiliary variables to pretrain")
    model.check(x, finite=True)
    if config.driven and x.controls.shape[2] == 0:
        raise InputError("the sequences have no controls, which driven dimensions learn from")
    generator = torch.Generator().manual_seed(config.seed)
    places = _successive(x)
    with torch.no_grad():
        dims = model.encoder(x.observations[:1, :1]).mean.shape[-1]
    _check_sizes(x, config, dims, len(places))
    variance = float(x.observations.flatten(2)[x.weights > 0].var(0).mean())
    if not variance > 0:
        raise InputError("the observations are all the same: there is nothing to learn")
    model.train()
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
    adam = torch.optim.Adam(parameters, config.learning_rate)
    components = _components(x, config, dims, generator)
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
    adam.zero_grad()
    return _judged(model, _pairs(x, places, _JUDGED, generator), config, variance)


def unexplained(change: Tensor, inputs: Tensor) -> Tensor:
    """Share of changes that is not linear in inputs: 1 less the mean squared canonical correlation.

    It depends neither on the units nor on the axes of either, nor on what is added to them, so that
    nothing is won by scaling a dimension, or by mixing it with one that is explained.

    Args:
        change: ``(B, D)``.
        inputs: ``(B, D_u)``, fewer than B.

    Returns:
        From 0, where ``change = inputs W + b`` for some W and b, to 1; what never changes counts as
        not explained.
    """
    if not change.shape[1]:
        return change.new_zeros(())
    change, inputs = _standardised(change), _standardised(inputs)
    ridge = _RIDGE * len(change)
    W = torch.linalg.solve(inputs.T @ inputs + ridge * _one(inputs), inputs.T @ change)
    rest, ridge_ = change - inputs @ W, ridge * _one(change)
    return torch.linalg.solve(change.T @ change + ridge_, rest.T @ rest + ridge_).diagonal().mean()


def _standardised(values: Tensor) -> Tensor:
    """``(B, D)`` less their mean, over their standard deviation."""
    apart = values - values.mean(0)
    return apart / apart.square().mean(0).sqrt().clamp_min(1e-12)


def _one(values: Tensor) -> Tensor:
    """Identity of the dimensions of ``(B, D)``."""
    return torch.eye(values.shape[1], dtype=values.dtype, device=values.device)


def _log_det(values: Tensor) -> Tensor:
    """Of the covariance of ``(N, D)``, or, where that is singular, the bound by its diagonal."""
    apart = values - values.mean(0)
    covariance = apart.T @ apart / (len(values) - 1)
    variances = covariance.diagonal().clamp_min(1e-12)
    found = torch.logdet(covariance + _RIDGE * variances.mean() * _one(values))
    # nearly the same dimensions: their covariance is singular in float32, whatever the ridge
    return found if bool(found.isfinite()) else variances.log().sum()


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
    if done > 0.5 and config.turning and pairs.u.shape[1]:
        products = (here.unsqueeze(-1) * pairs.u.unsqueeze(1)).flatten(1)  # (B, D_a D_u)
        turned = unexplained(after - here, torch.cat([pairs.u, products], dim=1))
        loss = loss + config.turning * (2 * done - 1) * turned
    # a's moments to a standard normal's, a rate per dimension
    each = q.mean.flatten(0, 1)
    apart = each.mean(0).square() + each.var(0) - 1
    scale = 0.5 * (apart.sum() - _log_det(each)) / each.shape[1]
    spread = (q.log_var - 2 * math.log(config.noise)).square().mean()
    return loss + _SCALE * scale + _SPREAD * spread, error, rest


def _components(
    x: SequenceBatch, config: Pretraining, dims: int, generator: torch.Generator
) -> _Components:
    """The largest ones of some of the observations; the driven dimensions get the least of them."""
    seen = x.observations.flatten(2)[x.weights > 0]
    some = seen[torch.randperm(len(seen), generator=generator)[:_COMPONENTS_OF]]
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


def _check_sizes(x: SequenceBatch, config: Pretraining, dims: int, pairs: int) -> None:
    """See that a has the driven dimensions, and that there are more changes than explain them.

    Raises:
        UsageError: no such dimension; a batch of too few.
        InputError: too few pairs of observations.
    """
    if max(config.driven, default=0) >= dims:
        raise UsageError(f"driven is {config.driven}, but a has {dims} dimensions, from 0")
    if not (config.driven or config.turning):
        return
    inputs = x.controls.shape[2] * (1 + (dims if config.turning else 0))
    told = f"expected more than {2 * inputs}: {inputs} controls and products explain changes"
    if config.batch_size <= 2 * inputs:
        raise UsageError(f"batch_size is {config.batch_size}, {told}")
    if pairs <= 2 * inputs:
        raise InputError(f"{pairs} pairs of successive observations, {told}")


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

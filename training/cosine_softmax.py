"""The supervised descriptor: a softmax over identities whose logits are cosines.

After Wojke and Bewley ("Deep Cosine Metric Learning for Person Re-identification", WACV 2018),

    p(y = k | r) = exp(s w_k^T r) / sum_j exp(s w_j^T r),

where

- r (D,): a crop's features, of unit length;
- w_k (D,): the direction of identity k, of unit length;
- s > 0: a scale, learned (the paper's kappa).

It pulls features of one identity to one direction, so that cosine distance compares them, also of
identities that it has not seen. This is the row that learned *with* labels; nothing else here has
any. The network is :mod:`trackvae.residual`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trackvae.arrays import Image, IntArray
from trackvae.errors import InputError, UsageError
from trackvae.residual import ResidualConfig, ResidualNetwork

_LEAST_IDENTITIES = 2
_FIRST_SCALE = 10.0  # a right answer at a cosine of 1 then has 99.9% against 37 others at 0
_STREAM = 1_000_003  # keeps the numbers of different steps and seeds apart


@dataclass(frozen=True)
class CosineConfig:
    """How long and how fast to train.

    Attributes:
        steps: batches in all.
        batch_size: crops of a batch; the paper's 128 would take twice as long.
        learning_rate: of Adam at the start; falls on a cosine to a hundredth.
        weight_decay: of all weights; the paper's.
        seed: of weights, batches, flips and dropout.
    """

    steps: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, least in (("steps", 1), ("batch_size", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if not (0 < self.learning_rate < math.inf and self.weight_decay >= 0):
            raise UsageError("learning rate must be positive, weight decay 0 or more")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, from 0."""
        share = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * (0.01 + 0.99 * share)


class CosineSoftmax(nn.Module):
    """The classifier: a direction for each identity, and the scale."""

    def __init__(self, identities: int, dim: int) -> None:
        """Draw directions at random.

        Args:
            identities: C.
            dim: D, of the features.
        """
        super().__init__()
        self.directions = nn.Parameter(torch.randn(identities, dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FIRST_SCALE)))

    @property
    def scale(self) -> Tensor:
        """s, a scalar above 0."""
        return self.log_scale.exp()

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(N, C)`` of features ``(N, D)`` of unit length."""
        return self.scale * features @ functional.normalize(self.directions, dim=1).T


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained descriptor, and how it ended.

    Attributes:
        network: for evaluation.
        identities: it was trained on.
        scale: of the softmax.
        loss: cross entropy in nats, mean over the last tenth of the steps.
        accuracy: share of their crops, dropout on, whose identity was the likeliest.
    """

    network: ResidualNetwork
    identities: int
    scale: float
    loss: float
    accuracy: float


def train_descriptor(
    crops: Image,
    identities: IntArray,
    config: CosineConfig,
    network: ResidualConfig | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train a descriptor on crops whose identities are known.

    Identities are drawn evenly, whatever their number of crops; half of the crops are mirrored, as
    in the paper.

    Args:
        crops: ``(N, 3, H, W)`` uint8, BGR.
        identities: (N,) any whole numbers.
        config: how long.
        network: what; the paper's widths where left out.
        on_step: called after each step with its number from 1 and its loss.

    Raises:
        InputError: crops and identities do not fit, fewer than two identities, or a loss that is
            no longer finite.
    """
    names, classes, counts = np.unique(identities, return_inverse=True, return_counts=True)
    chosen = network or ResidualConfig()
    _check(crops, identities, len(names), chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = ResidualNetwork(chosen)
        softmax = CosineSoftmax(len(names), chosen.dim)
        found = _fit(model.train(), softmax, crops, classes, counts, config, on_step)
    last = np.array(found[-max(1, len(found) // 10) :])
    loss, accuracy = last.mean(axis=0).tolist()
    return Trained(model.eval(), len(names), float(softmax.scale.detach()), loss, accuracy)


def _fit(
    model: ResidualNetwork,
    softmax: CosineSoftmax,
    crops: Image,
    classes: IntArray,
    counts: IntArray,
    config: CosineConfig,
    on_step: Callable[[int, float], None] | None,
) -> list[tuple[float, float]]:
    """The steps; loss and accuracy of each."""
    weights = [*model.parameters(), *softmax.parameters()]
    optimiser = torch.optim.Adam(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    chance = 1 / counts[classes] / len(counts)  # every identity as often as any other
    model.to(memory_format=torch.channels_last)  # 8.7 ms a crop against 10.5
    found = []
    for step in range(config.steps):
        x, y = _batch(crops, classes, chance, config, step)
        logits = softmax(model(x))
        loss = functional.cross_entropy(logits, y)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(f"step {step + 1}: the loss is {value}; give a lower learning rate")
        for group in optimiser.param_groups:
            group["lr"] = config.rate_at(step)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        found.append((value, float((logits.argmax(1) == y).float().mean())))
        if on_step is not None:
            on_step(step + 1, value)
    return found


def _batch(
    crops: Image,
    classes: IntArray,
    chance: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    config: CosineConfig,
    step: int,
) -> tuple[Tensor, Tensor]:
    """The crops ``(B, 3, H, W)`` in [0, 1] and classes ``(B,)`` of a step."""
    generator = np.random.default_rng(config.seed * _STREAM + step)
    rows = generator.choice(len(crops), config.batch_size, p=chance)
    some = crops[rows]
    mirrored = generator.random(len(rows)) < 0.5
    some[mirrored] = some[mirrored, :, :, ::-1]
    x = torch.from_numpy(some).contiguous(memory_format=torch.channels_last).float() / 255
    return x, torch.from_numpy(classes[rows])


def _check(crops: Image, identities: IntArray, count: int, network: ResidualConfig) -> None:
    if crops.dtype != np.uint8 or crops.shape[1:] != (3, *network.size):
        height, width = network.size
        raise InputError(
            f"crops are {crops.dtype} of shape {crops.shape}, expected uint8 "
            f"(N, 3, {height}, {width})"
        )
    if identities.shape != (len(crops),):
        raise InputError(f"{len(crops)} crops, identities of shape {identities.shape}")
    if count < _LEAST_IDENTITIES:
        raise InputError(f"{count} identities to tell apart, expected {_LEAST_IDENTITIES} or more")

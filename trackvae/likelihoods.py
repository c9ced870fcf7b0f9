"""Likelihoods p(x|z): from the decoder's output to log densities and reconstruction errors.

Three quantities are kept apart, since the thesis's kappa is not in one unit throughout:

- ``log_prob``: log p(x|z), summed over the observation's dimensions;
- ``distortion``: the part of -log p(x|z) that depends on z, summed (C of section 3.2.2);
- ``error``: what the constraint ``error <= kappa^2`` is about, by an explicit reduction.

Every one is a sum or a mean over the observation's own dimensions, one value for each of the batch.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from trackvae.errors import UsageError

Reduction = Literal["sum", "mean"]
Error = Literal["cross-entropy", "squared"]


def _reduced(values: Tensor, event_dims: int, reduction: Reduction) -> Tensor:
    """Sum or mean over the last ``event_dims`` dimensions."""
    flat = values.flatten(start_dim=values.dim() - event_dims)
    return flat.sum(dim=-1) if reduction == "sum" else flat.mean(dim=-1)


class Bernoulli(nn.Module):
    """Pixels that are on or off; the decoder gives logits (section 3.2.2.1).

    The distortion is the binary cross entropy, which is -log p(x|z) itself.
    """

    def __init__(
        self,
        event_dims: int = 1,
        reduction: Reduction = "sum",
        error: Error = "cross-entropy",
    ) -> None:
        """Choose the shape of an observation, and what is held to kappa^2.

        Args:
            event_dims: dimensions of one observation (1: a vector, 3: an image with channels).
            reduction: of :meth:`error` over them.
            error: what :meth:`error` is: the cross entropy, or the squared error between
                observation and mean (the thesis's kappa of 0.18 on MNIST fits the root of the
                latter's mean, and no cross entropy).

        Raises:
            UsageError: an error that is neither.
        """
        super().__init__()
        if error not in get_args(Error):
            raise UsageError(f"error is {error!r}, expected one of {', '.join(get_args(Error))}")
        self._event_dims = event_dims
        self._reduction: Reduction = reduction
        self._error: Error = error

    def mean(self, output: Tensor) -> Tensor:
        """Expected observation: probabilities in (0, 1), shaped as ``output``."""
        return torch.sigmoid(output)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """Log p(x|z): ``(..., *event)`` to ``(...)``; ``x`` in [0, 1]."""
        return -self.distortion(x, output)

    def distortion(self, x: Tensor, output: Tensor) -> Tensor:
        """C, the binary cross entropy summed over the event, ``(...)``."""
        return _reduced(self._cross_entropy(x, output), self._event_dims, "sum")

    def error(self, x: Tensor, output: Tensor) -> Tensor:
        """What the constraint is about: the chosen error by the chosen reduction, ``(...)``."""
        if self._error == "squared":
            found = (x - self.mean(output)).square()
        else:
            found = self._cross_entropy(x, output)
        return _reduced(found, self._event_dims, self._reduction)

    def _cross_entropy(self, x: Tensor, output: Tensor) -> Tensor:
        # -x log p - (1 - x) log(1 - p) for p = sigmoid(output), without the logarithm of 0
        return functional.softplus(output) - x * output


class GaussianLikelihood(nn.Module):
    """Real-valued observations with one sigma for all dimensions (section 3.2.2.2).

    ``sigma`` is predefined (a number); ``learned``, a parameter of its own; or ``optimal``, the
    root of the moving mean squared error, which maximises the likelihood in a separate loop
    (Rybkin et al., 2020).
    """

    log_sigma: Tensor

    def __init__(
        self,
        sigma: float | Literal["learned", "optimal"] = 1.0,
        event_dims: int = 1,
        reduction: Reduction = "mean",
        *,
        least: float = 1e-3,
        momentum: float = 0.95,
    ) -> None:
        """Choose how sigma comes about.

        Args:
            sigma: a positive number, ``learned`` or ``optimal``.
            event_dims: dimensions of one observation.
            reduction: of :meth:`error`, the squared error without sigma, over them.
            least: smallest sigma that learning may reach.
            momentum: of the moving mean squared error that makes the optimal sigma.

        Raises:
            UsageError: a sigma that is none of these.
        """
        super().__init__()
        self._event_dims = event_dims
        self._reduction: Reduction = reduction
        self._least, self._momentum = math.log(least), momentum
        self.mode = sigma if isinstance(sigma, str) else "predefined"
        if self.mode not in ("predefined", "learned", "optimal"):
            raise UsageError(f"sigma is {sigma!r}, expected a number, learned or optimal")
        if not isinstance(sigma, str) and not (sigma > 0 and math.isfinite(sigma)):
            raise UsageError(f"sigma is {sigma}, expected a positive number")
        start = torch.tensor(0.0 if isinstance(sigma, str) else math.log(sigma))
        if self.mode == "learned":
            self.log_sigma = nn.Parameter(start)
        else:
            self.register_buffer("log_sigma", start)

    @property
    def sigma(self) -> Tensor:
        """The standard deviation, a scalar."""
        return self._log_sigma.exp()

    def mean(self, output: Tensor) -> Tensor:
        """Expected observation: the decoder's output."""
        return output

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """Log p(x|z): ``(..., *event)`` to ``(...)``."""
        scale = self._size(x) * (self._log_sigma + 0.5 * math.log(2 * math.pi))
        return -self._scaled(x, output) - scale

    def distortion(self, x: Tensor, output: Tensor) -> Tensor:
        """C, the squared error over 2 sigma^2, summed over the event, ``(...)``.

        A learned sigma adds its D log sigma, without which nothing would keep it from growing.
        """
        scaled = self._scaled(x, output)
        return scaled + self._size(x) * self._log_sigma if self.mode == "learned" else scaled

    def _scaled(self, x: Tensor, output: Tensor) -> Tensor:
        squared = _reduced((x - output).square(), self._event_dims, "sum")
        return squared / (2 * self.sigma.square())

    def _size(self, x: Tensor) -> int:
        """D, dimensions of one observation."""
        return math.prod(x.shape[x.dim() - self._event_dims :])

    @property
    def _log_sigma(self) -> Tensor:
        return self.log_sigma.clamp(min=self._least)

    def error(self, x: Tensor, output: Tensor) -> Tensor:
        """What the constraint is about: the squared error by the chosen reduction, ``(...)``."""
        return _reduced((x - output).square(), self._event_dims, self._reduction)

    def observe(self, x: Tensor, output: Tensor) -> None:
        """Move the optimal sigma towards the root mean squared error of a batch."""
        self._approach((x - output).square().mean())

    def observe_error(self, error: float, size: int) -> None:
        """The same for a batch whose mean :meth:`error` is known.

        Args:
            error: mean over the batch, and over the processes of a run where it has several.
            size: of one observation, all its dimensions.
        """
        self._approach(torch.as_tensor(error if self._reduction == "mean" else error / size))

    @torch.no_grad()
    def _approach(self, found: Tensor) -> None:
        if self.mode != "optimal":
            return
        old = (2 * self.log_sigma).exp()
        mixed = self._momentum * old + (1 - self._momentum) * found
        self.log_sigma.copy_((0.5 * mixed.log()).clamp(min=self._least))

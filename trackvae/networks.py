"""Networks of encoders, decoders and priors.

A network maps ``(..., D_in)`` to ``(..., D_out)``; :class:`GaussianHead` turns one into a
conditional Gaussian. The convolutions of Tables A.1 and A.8 are still to be written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from trackvae.distributions import Gaussian
from trackvae.errors import UsageError

# Smooth ones besides ReLU: with ReLU the metric tensor of a high-dimensional decoder is singular.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
_LOG_VAR_RANGE = (-14.0, 8.0)  # standard deviations from 1e-3 to 55: no overflow, no collapse to 0


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, activation: str = "relu"
) -> nn.Sequential:
    """Fully-connected layers with an activation between them.

    Weights are initialised by Glorot's rule and biases to zero: with PyTorch's own rule most runs
    on the pendulum fold the ring.

    Args:
        inputs: dimensions in.
        hidden: units of the hidden layers.
        outputs: dimensions out; no activation there.
        activation: one of :data:`ACTIVATIONS`.

    Raises:
        UsageError: no such activation.
    """
    if activation not in ACTIVATIONS:
        raise UsageError(f"activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    sizes = [inputs, *hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    layers.append(nn.Linear(sizes[-1], outputs))
    return glorot(nn.Sequential(*layers))


def glorot(network: nn.Sequential) -> nn.Sequential:
    """Initialise every linear and convolutional layer: Glorot's uniform weights, zero biases."""
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


class GaussianHead(nn.Module):
    """A conditional Gaussian: a network whose output is its mean and log-variance.

    ``network`` maps ``(..., D_in)`` to ``(..., 2 D)``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, condition: Tensor) -> Gaussian:
        """The Gaussian given the condition."""
        mean, log_var = self.network(condition).chunk(2, dim=-1)
        return Gaussian(mean, torch.clamp(log_var, *_LOG_VAR_RANGE))

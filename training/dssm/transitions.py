"""The locally-linear transition: a mixture of base matrices, weighted by state and control."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trackvae.distributions import Gaussian
from trackvae.errors import UsageError
from trackvae.networks import mlp

_LEAST_VARIANCE = 1e-6  # of the process noise: P_t^- stays positive definite
_SPREAD = 0.1  # of the base matrices at the start; without it they would all stay the same
NOISE = 0.1  # variance of the process noise at the start


class Linear(NamedTuple):
    """A transition at one place, ``N(z' | F z + B u, diag(Q))``.

    Attributes:
        F: ``(..., D_z, D_z)``.
        B: ``(..., D_z, D_u)``.
        Q: ``(..., D_z)``, variances.
    """

    F: Tensor
    B: Tensor
    Q: Tensor

    def mean(self, z: Tensor, u: Tensor) -> Tensor:
        """``F z + B u``, ``(..., D_z)``."""
        return ((self.F @ z.unsqueeze(-1)) + (self.B @ u.unsqueeze(-1))).squeeze(-1)


class BaseMatrices(nn.Module):
    """M base matrices each for F, B and Q, of which the Q^(m) are diagonal; so is their sum."""

    def __init__(self, latent: int, controls: int, components: int, noise: float = NOISE) -> None:
        """Make them.

        Args:
            latent: D_z.
            controls: D_u.
            components: M.
            noise: variance of the process noise at the start.

        Raises:
            UsageError: no component.
        """
        super().__init__()
        if components < 1:
            raise UsageError(f"{components} base matrices, expected at least 1")
        self._latent, self._controls = latent, controls
        start = torch.eye(latent) + _SPREAD * torch.randn(components, latent, latent)
        self.F = nn.Parameter(start)
        self.B = nn.Parameter(_SPREAD * torch.randn(components, latent, controls))
        self.log_Q = nn.Parameter(torch.full((components, latent), noise).log())

    def base(self) -> Tensor:
        """All base matrices side by side, ``(M, D_z (D_z + D_u) + D_z)``, for :meth:`mixed`."""
        Q = self.log_Q.exp() + _LEAST_VARIANCE
        return torch.cat([torch.cat([self.F, self.B], dim=-1).flatten(1), Q], dim=1)

    def mixed(self, alpha: Tensor, base: Tensor | None = None) -> Linear:
        """The matrices for given weights.

        Args:
            alpha: ``(..., M)``, which sum to 1.
            base: of :meth:`base`, where it is wanted at many steps.
        """
        # one product for all three: 1.5 times faster in a filter than three
        mixed = alpha @ (self.base() if base is None else base)
        D, wide = self._latent, self._latent + self._controls
        both = mixed[..., : D * wide].reshape(*alpha.shape[:-1], D, wide)
        return Linear(both[..., :D], both[..., D:], mixed[..., D * wide :])


class LocallyLinear(BaseMatrices):
    """``p(z_{t+1}|z_t, u_t) = N(F(z, u) z + B(z, u) u, Q(z, u))``, Eq. 4.13 and 4.14."""

    def __init__(
        self,
        latent: int,
        controls: int,
        components: int = 16,
        hidden: tuple[int, ...] = (64,),
        noise: float = NOISE,
    ) -> None:
        """Make it.

        Args:
            latent: D_z.
            controls: D_u.
            components: M.
            hidden: units of the network of the weights alpha.
            noise: variance of the process noise at the start.

        Raises:
            UsageError: no component.
        """
        super().__init__(latent, controls, components, noise)
        self.weights = mlp(latent + controls, hidden, components)

    def alpha(self, z: Tensor, u: Tensor) -> Tensor:
        """The weights of Eq. 4.14, ``(..., M)``, which sum to 1."""
        weights: Tensor = torch.softmax(self.weights(torch.cat([z, u], dim=-1)), dim=-1)
        return weights

    def linear(self, z: Tensor, u: Tensor, base: Tensor | None = None) -> Linear:
        """The matrices at a state and control.

        Args:
            z: ``(..., D_z)``.
            u: ``(..., D_u)``.
            base: of :meth:`base`, where it is wanted at many steps.
        """
        return self.mixed(self.alpha(z, u), base)

    def forward(self, z: Tensor, u: Tensor) -> Gaussian:
        """The next state: ``(..., D_z)`` and ``(..., D_u)`` to a Gaussian ``(..., D_z)``."""
        local = self.linear(z, u)
        return Gaussian(local.mean(z, u), local.Q.log())

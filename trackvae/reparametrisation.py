"""Other coordinates for the latent space of a model: ``z = A u`` with an invertible matrix A.

The decoder's first and the encoder's last linear layer take the matrix in, so that what a model
says about observations stays what it was. With ``A = c G_mean^(-1/2)`` the metric tensor of the
new coordinates is ``c^2 1`` on average: all that a linear map can do for flatness is done at once,
and the regulariser is left with the curvature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trackvae.errors import UsageError
from trackvae.networks import Gated
from trackvae.vae import VAE

_LEAST_EIGENVALUE = 1e-6  # of the largest: a direction that the decoder ignores stays short


def flat_coordinates(G: Tensor) -> Tensor:
    """``A = c G_mean^(-1/2)``, symmetric, with ``c^2 = tr(G_mean) / D``.

    Args:
        G: (N, D, D) metric tensors at some points.

    Returns:
        (D, D) in double precision: ``A^T G_mean A = c^2 1``.
    """
    mean = G.double().mean(0)
    eigenvalues, vectors = torch.linalg.eigh(mean)
    c2 = eigenvalues.mean()
    held = eigenvalues.clamp_min(_LEAST_EIGENVALUE * float(eigenvalues[-1]))
    return (vectors * (c2 / held).sqrt()) @ vectors.mT


@torch.no_grad()
def change_coordinates(model: VAE, A: Tensor, log_var: Tensor) -> list[Tensor]:
    """Rewrite a model for latents ``u = A^(-1) z``, in place.

    The decoder of u is that of ``A u``, exactly, and the posterior's mean ``A^(-1)`` times the old
    one. Its covariance ``A^(-1) diag(sigma^2) A^(-T)`` is diagonal no more: its diagonal, averaged
    over observations, is where the variances start again, the same for every observation. The
    prior is left as it is; it has yet to be learned, or to be learned anew.

    Args:
        model: with a linear (or gated) first layer of the decoder, as all of ours.
        A: (D, D), invertible.
        log_var: (N, D), of the posteriors of some observations.

    Returns:
        The parameters that were changed: what an optimiser remembers of them is worthless now.

    Raises:
        UsageError: the model has no such layers.
    """
    first = next((m for m in model.decoder.modules() if isinstance(m, (Gated, nn.Linear))), None)
    inputs = [first.value, first.gate] if isinstance(first, Gated) else [first]
    heads = [m for m in model.encoder.modules() if isinstance(m, nn.Linear)]
    dims = len(A)
    fits = all(isinstance(layer, nn.Linear) and layer.in_features == dims for layer in inputs)
    if not (fits and heads and heads[-1].out_features == 2 * dims and heads[-1].bias is not None):
        raise UsageError("no linear layer takes or gives the latents; leave out flat coordinates")
    A = A.double()
    inverse = torch.linalg.inv(A)
    changed: list[Tensor] = []
    for layer in inputs:
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(layer.weight.double() @ A)
        changed.append(layer.weight)
    weight, bias = heads[-1].weight, heads[-1].bias
    for part in (weight, bias):
        part[:dims] = (inverse @ part[:dims].double()).to(part)
    variances = inverse.square() @ log_var.double().exp().mean(0)
    weight[dims:] = 0
    bias[dims:] = variances.log().to(bias)
    return [*changed, weight, bias]

"""What a trained model does on data: error, rate, bounds, use of its dimensions, flatness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trackvae.arrays import IntArray
from trackvae.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.distributions import Gaussian
    from trackvae.vae import VAE
    from training.data import DataSet
    from training.data.dataset import Part

_BATCH = 256
_DECODED = 2**22  # values that the decoder gives at once
_POINTS, _TANGENTS = 200, 200 * 64  # where G is computed: at so many points, or fewer in high d
_FEWEST_POINTS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """Posteriors of N observations and what they cost, in float64 on the CPU.

    Attributes:
        posterior: q(z|x), (N, D).
        rate: (N,) nats, at one sample each.
        error: (N,) what the constraint is about.
        elbo: (N,) nats.
    """

    posterior: Gaussian
    rate: Tensor
    error: Tensor
    elbo: Tensor


def measured_part(data: DataSet) -> Part:
    """The part to measure on: test; validation or train where there is no other."""
    parts: tuple[Part, ...] = ("test", "validation", "train")
    return next(part for part in parts if len(data.part(part)))


def some_rows(data: DataSet, part: Part, most: int) -> IntArray:
    """Row numbers of at most so many examples of a part, evenly over it (it may be in time)."""
    count = len(data.part(part))
    rows: IntArray = np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
    return rows


def observations(data: DataSet, part: Part, rows: IntArray) -> Tensor:
    """Some examples of a part as float32, without a copy of all of them."""
    import torch

    from training.data.dataset import as_float

    return torch.from_numpy(as_float(data.part(part)[rows]))


def encode(model: VAE, x: Tensor, seed: int = 0) -> Codes:
    """Posteriors and terms of observations ``(N, *event)`` on the model's device."""
    import torch

    from trackvae.distributions import Gaussian

    noise = torch.Generator().manual_seed(seed)
    columns: list[list[Tensor]] = [[], [], [], [], []]
    with torch.no_grad():
        for rows in torch.split(x, _BATCH):
            q, terms = model.encode(rows), model.terms(rows, noise)
            found = (q.mean, q.log_var, terms.rate, terms.error, terms.elbo)
            for column, value in zip(columns, found, strict=True):
                column.append(value.double().cpu())
    mean, log_var, rate, error, elbo = (torch.cat(column) for column in columns)
    return Codes(Gaussian(mean, log_var), rate, error, elbo)


def summary(codes: Codes, part: str) -> dict[str, Any]:
    """Plain figures of some codes."""
    from training.monitors import active_units

    return {
        "part": part,
        "count": len(codes.rate),
        "error": math.sqrt(max(float(codes.error.mean()), 0.0)),
        "rate": float(codes.rate.mean()),
        "negative_elbo": -float(codes.elbo.mean()),
        "active_units": int(active_units(codes.posterior.mean).sum()),
        "latent": codes.posterior.mean.shape[1],
    }


def likelihood_bound(model: VAE, x: Tensor, samples: int, seed: int = 0) -> float:
    """Mean upper bound on -log p(x) with so many samples, nats (thesis, Eq. 2.17)."""
    import torch

    from trackvae.bounds import negative_log_likelihood

    at_once = max(1, _DECODED // math.prod(x.shape[1:]))
    noise = torch.Generator().manual_seed(seed)
    bounds = [
        negative_log_likelihood(model, rows, samples, chunk=at_once, generator=noise)
        for rows in torch.split(x, min(_BATCH, at_once))
    ]
    return float(torch.cat(bounds).double().mean())


def flatness(model: VAE, z: Tensor) -> dict[str, Any]:
    """How far the decoder's metric is from ``c^2 1`` (thesis, section 5.2.3), by exact Jacobians.

    Args:
        model: its expected observation is differentiated.
        z: (N, D), posterior means; the first of them are taken, 200 in up to 64 dimensions and
            fewer in more (the cost grows with points times dimensions).

    Returns:
        ``points``; quartiles of ``condition_number`` and of ``normalised_mf``, and the mean
        ``relative_flatness``; None for what is not finite.

    Raises:
        InputError: no point.
    """
    import torch

    from trackvae import geometry

    count = min(_POINTS, max(_FEWEST_POINTS, _TANGENTS // z.shape[1]), len(z))
    if count == 0:
        raise InputError("no points to measure flatness at")
    with torch.no_grad():
        G = geometry.metric_tensor(model.decode, z[:count]).double().cpu()
    return {
        "points": count,
        "condition_number": _quartiles(geometry.condition_number(G)),
        "normalised_mf": _quartiles(geometry.normalised_magnification_factor(G)),
        "relative_flatness": _finite(float(geometry.relative_flatness(G).mean())),
    }


def _quartiles(values: Tensor) -> list[float | None]:
    """Of ranks, since half of two infinities is none."""
    ordered = np.sort(values.numpy())
    at = [round(share * (len(ordered) - 1)) for share in (0.25, 0.5, 0.75)]
    return [_finite(float(ordered[place])) for place in at]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Where a decoder knows nothing: its standard deviation, and the metric that counts it.

The mean alone knows of no hole in the data: between the sides of a ring it fades from one
observation to another by a way that none took, and nothing says that this is not a path. With a
decoder that is a Gaussian, of mean ``mu(z)`` and standard deviation ``sigma(z)``, the expected
metric is ``G = J_mu^T J_mu + J_sigma^T J_sigma`` (Tosi et al., 2014; Arvanitidis et al., "Latent
space oddity", 2018), and a way off the data is long, since sigma has to rise and to fall again.

That metric is the one of another decoder, ``z -> (mu(z), sigma(z))`` (:func:`with_variance`), which
every length, graph and solver takes as it takes any other.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trackvae.errors import InputError, UsageError
from trackvae.geometry import Decoder, riemannian_length, straight_line
from training.geodesics.graph import neighbour_graph, riemannian
from training.geodesics.search import distances

# Of the mean distance within a cluster: the a of the paper. Along a line, cut into equal cells, a
# centre is then two bandwidths from the next, and a sum of such kernels ripples by 1.4%; with a = 1
# it falls to a quarter midway.
_BANDWIDTH = 2.0
_LEAST, _FEWEST_CENTRES, _PER_CENTRE = 20, 8, 4  # encodings, centres, encodings for each centre
_MOST_CENTRES = 512
_ROUNDS, _TOLERANCE = 500, 1e-6
_AT_ONCE = 1024  # observations
_NEIGHBOURS = 12
_RIPPLE = 1.05  # of a length along the data, between two centres
_ALONG = 12  # points of it
_USUAL = 0.95  # quantile of residuals
_LEAST_RESIDUAL = 1e-12  # of the data's variance: a decoder that misses nothing has no sigma


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """A precision ``1 / sigma^2(z) = sum_k w_k exp(-lambda_k ||z - c_k||^2) + floor``.

    One for all outputs: the likelihoods here have one sigma too, a cluster of a few encodings tells
    one number well and hundreds badly, and as many equal columns are one, times a root.

    Attributes:
        centres: (K, D_z) c_k.
        rates: (K,) lambda_k, positive.
        weights: (K,) w_k, at least 0.
        floor: the precision far from all centres, positive.
        outputs: D_x of the decoder's mean.
    """

    centres: Tensor
    rates: Tensor
    weights: Tensor
    floor: Tensor
    outputs: int

    def precision(self, z: Tensor) -> Tensor:
        """1 / sigma^2 of each output, (N, D_z) to (N,)."""
        # not torch.cdist: solvers differentiate this forward, and twice
        apart = (z[:, None] - self.centres.to(z)).square().sum(-1)
        return (-self.rates.to(z) * apart).exp() @ self.weights.to(z) + self.floor

    def sigma(self, z: Tensor) -> Tensor:
        """Standard deviation of each output, (N, D_z) to (N,)."""
        return self.precision(z).rsqrt()


def with_variance(decoder: Decoder, uncertainty: Uncertainty) -> Decoder:
    """The decoder ``z -> (mu(z), sqrt(D_x) sigma(z))``, whose metric is the expected one.

    D_x equal columns sigma and one of ``sqrt(D_x) sigma`` give the same lengths.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``, the mean.
        uncertainty: of it.

    Returns:
        ``z (N, D_z) -> (N, D_x + 1)``.
    """
    scale = math.sqrt(uncertainty.outputs)

    def stacked(z: Tensor) -> Tensor:
        return torch.cat([decoder(z).flatten(1), scale * uncertainty.sigma(z)[:, None]], dim=1)

    return stacked


def fit_uncertainty(
    decoder: Decoder,
    z: Tensor,
    x: Tensor,
    *,
    far: float | None = None,
    centres: int | None = None,
    seed: int = 0,
) -> Uncertainty:
    """Fit the precision to encodings and to what the decoder misses there; no labels.

    - Centres by k-means; ``lambda_k = 1 / (2 (a d_k)^2)`` with d_k the mean distance within a
      cluster, and a = 2.
    - Weights maximise the likelihood of the residuals. It is concave in them, and each step of
      expectation and maximisation is in closed form: where the kernel of k counts, the mean of
      sigma^2 comes to be that of the squared residuals.
    - The floor is the least sigma for which leaving the data is never a way to save length:
      :func:`far_sigma`.
    - The more centres, the sooner sigma rises beside the data, and the more it ripples along them.
      As many are taken as make the way from one to the next 5% longer at most.

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``, the mean.
        z: (N, D_z) encodings.
        x: (N, ...) what was encoded.
        far: ``sqrt(D_x) sigma`` far from all data, where it is not to be :func:`far_sigma`.
        centres: K, where it is not to be chosen.
        seed: of the clustering.

    Raises:
        InputError: fewer than twenty encodings, encodings or residuals that are not finite, data
            without any spread, or encodings at one point.
        UsageError: a sigma that is not positive, or more centres than encodings.
    """
    squares = _residuals(decoder, z, x)
    points, outputs = z.detach().double(), x[0].numel()
    if far is None:
        far = _far_sigma(decoder, z, x, squares)
    if not 0 < far < math.inf:
        raise UsageError(f"sigma far from the data is {far}, expected a positive number")
    if centres is not None and not 1 <= centres <= len(points):
        raise UsageError(f"{centres} centres of {len(points)} encodings, expected 1 to as many")
    floor = torch.tensor(outputs / far**2).double()

    def fitted(count: int) -> Uncertainty:
        found, rates = _clusters(points, count, seed)
        weights = _fitted_weights(_kernels(points, found, rates), squares, floor)
        return Uncertainty(found, rates, weights, floor, outputs)

    def typed(values: Tensor) -> Tensor:
        return decoder(values.to(z.dtype)).double()

    known = _smoothest(typed, fitted, len(points)) if centres is None else fitted(centres)
    return replace(
        known,
        centres=known.centres.to(z.dtype),
        rates=known.rates.to(z.dtype),
        weights=known.weights.to(z.dtype),
        floor=known.floor.to(z.dtype),
    )


def far_sigma(decoder: Decoder, z: Tensor, x: Tensor) -> float:
    """``sqrt(D_x) sigma`` where nothing is known: half the data's diameter above sigma on them.

    Who leaves the data has sigma rise to that and fall again, which is then as long as the longest
    of all shortest ways on the data (by the mean alone, on a graph): no shortcut leads through
    what is not known. On the data sigma is taken for the residual that nineteen in twenty stay
    below. It is at least the root of the data's own variance, the error of who knows
    only their mean. That alone is too little: it is one radius of a ring, and up, across and down
    can be shorter than half the ring (a pendulum, 30 pairs: R^2 of length against angle 0.92, with
    half the diameter 0.999).

    Args:
        decoder: ``z (N, D_z) -> x (N, ...)``, the mean.
        z: (N, D_z) encodings.
        x: (N, ...) what was encoded.
    """
    return _far_sigma(decoder, z, x, _residuals(decoder, z, x))


def _far_sigma(decoder: Decoder, z: Tensor, x: Tensor, squares: Tensor) -> float:
    """The same, mean squared residuals (N,) given."""
    graph = neighbour_graph(z.detach(), min(_NEIGHBOURS, len(z) - 1), riemannian(decoder)).bridged()
    end = int(distances(graph, np.array([0]))[0].argmax())
    # From any node the farthest is at least half the diameter away; from that one, nearly all.
    diameter = float(distances(graph, np.array([end]))[0].max())
    usual = float((x[0].numel() * squares).sqrt().quantile(_USUAL))
    spread = float(x.flatten(1).double().var(0, correction=0).sum().sqrt())
    return max(usual + diameter / 2, spread)


def _residuals(decoder: Decoder, z: Tensor, x: Tensor) -> Tensor:
    """Mean squared residual of each observation, (N,)."""
    if z.ndim != 2 or len(z) != len(x):
        raise ValueError(f"z {tuple(z.shape)} and x {tuple(x.shape)}, expected as many rows")
    if len(z) < _LEAST:
        raise InputError(f"{len(z)} encodings, expected at least {_LEAST} to fit a variance to")
    rows = zip(torch.split(z.detach(), _AT_ONCE), torch.split(x, _AT_ONCE), strict=True)
    with torch.no_grad():
        misses = [(b - decoder(a)).flatten(1).double().square().mean(1) for a, b in rows]
    squares = torch.cat(misses)
    variance = x.flatten(1).double().var(0, correction=0).mean()
    if not (z.isfinite().all() and squares.isfinite().all()):
        raise InputError("encodings, or what they are decoded to, hold NaN or infinity")
    if not float(variance) > 0:
        raise InputError("the data are one observation, again and again: they have no spread")
    return squares.clamp_min(_LEAST_RESIDUAL * variance)


def _kernels(z: Tensor, centres: Tensor, rates: Tensor) -> Tensor:
    """``exp(-lambda_k ||z - c_k||^2)``, (N, K); for fitting, nothing of size N K D is made."""
    apart = torch.cdist(z, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return (-rates * apart.square()).exp()


def _clusters(z: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Centres (K, D) and rates (K,) by k-means; K is smaller where clusters stay empty.

    Centres drawn by k-means++ cut the data more evenly than some drawn at random (robot arm: the
    middle nine tenths of bandwidths within a factor of 2.8, not 5.2).
    """
    from scipy.cluster.vq import kmeans2

    points = z.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty cluster is left out below
        rng = np.random.default_rng(seed)
        centres, label = kmeans2(points, count, iter=20, minit="++", seed=rng)
    members = np.bincount(label, minlength=count)
    apart = np.linalg.norm(points - centres[label], axis=1)
    mean = np.bincount(label, apart, minlength=count)[members > 0] / members[members > 0]
    usual = float(np.median(mean[mean > 0])) if (mean > 0).any() else 0.0
    if usual == 0:
        raise InputError(f"the encodings are {len(mean)} point(s), expected them to spread")
    wide = _BANDWIDTH * np.maximum(mean, usual / 2)  # a cluster of one has no spread of its own
    return torch.from_numpy(centres[members > 0]), torch.from_numpy(0.5 / wide**2)


def _fitted_weights(kernels: Tensor, squares: Tensor, floor: Tensor) -> Tensor:
    """Weights (K,) of most likelihood ``sum_n (log beta_n - beta_n r_n^2) / 2``.

    With ``beta = kernels w + floor``, Jensen's inequality bounds the logarithm of the sum by a sum
    of logarithms; the bound's maximum is ``w_k <- w_k sum_n (K_nk / beta_n) / sum_n (K_nk r_n^2)``,
    which never lowers the likelihood and keeps weights positive.
    """
    missed = kernels.T @ squares
    weights = kernels.sum(0) / missed.clamp_min(1e-300)
    weights = weights / kernels.sum(1).mean()
    last = -math.inf
    for _ in range(_ROUNDS):
        beta = kernels @ weights + floor
        likelihood = float((beta.log() - beta * squares).mean())
        if likelihood - last < _TOLERANCE:
            break
        last = likelihood
        weights = weights * (kernels.T @ beta.reciprocal()) / missed.clamp_min(1e-300)
    return weights


def _smoothest(
    decoder: Decoder, fitted: Callable[[int], Uncertainty], examples: int
) -> Uncertainty:
    """That of the most centres between which sigma does not ripple, or that which ripples least.

    The likelihood of held-out encodings does not tell (a ring with noise of a fifth of its radius:
    200 centres are within a standard error of the best, and make a half circle 1.4 times as long).
    """
    most = min(_MOST_CENTRES, examples // _PER_CENTRE)
    numbers = [max(most >> halvings, 1) for halvings in range(6)]
    found: list[tuple[float, Uncertainty]] = []
    for count in [n for n in numbers if n >= _FEWEST_CENTRES] or numbers[:1]:
        known = fitted(count)
        found.append((_ripple(decoder, known), known))
        if found[-1][0] <= _RIPPLE:
            break
    return min(found, key=lambda pair: pair[0])[1]


def _ripple(decoder: Decoder, known: Uncertainty) -> float:
    """How much longer the ways from each centre to the nearest one are with the variance."""
    centres = known.centres
    if len(centres) < 2:
        return 1.0
    apart = torch.cdist(centres, centres).fill_diagonal_(math.inf)
    lines = straight_line(centres, centres[apart.argmin(1)], _ALONG)
    with torch.no_grad():
        alone = riemannian_length(decoder, lines).nansum()
        counted = riemannian_length(with_variance(decoder, known), lines).nansum()
    return float(counted / alone) if alone > 0 else 1.0

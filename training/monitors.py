"""Is a representation sound? Diagnoses without labels: active units, folds, collapse, flatness.

Every figure is a pure function of latents and observations; :func:`diagnose` takes a model and
gathers them. What is compared with labels belongs to the experiments.

A *fold* is a place where the encoder's map of the data's manifold is not one to one and continuous:
two strands cross (images far apart become latent neighbours), one strand is torn (neighbouring
images come to lie far apart), or the manifold is dented so deeply that what is far along it is
close through the latent space. A fold costs the objective next to nothing, so the loss does not
show it; neighbourhoods do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from trackvae.distributions import Gaussian
from trackvae.errors import InputError
from trackvae.geometry import condition_number, metric_tensor
from trackvae.priors import VHP
from trackvae.vae import VAE

MOST_POINTS = 2000  # neighbourhoods take the square of it: 1.0 s; 0.2 s for 1,000
_NEIGHBOURS = 5
_GRAPH_NEIGHBOURS = 20  # with 10 a ring of 1,000 random points was open at one place
_LANDMARKS = 200  # shortest paths start from as many: 0.1 s
_LEAST_ACTIVE = 0.01  # variance of a posterior mean (Burda et al., 2016), and nats
_LEAST_RESPONSE = 0.01  # share of the data's variance that the decoder must reproduce
_FAR = 0.5  # of the distance of two random images: no neighbour any more
# Beyond it the latent space has too few dimensions to be one-to-one, and overlap is no accident of
# training: 0.01 on the pendulum, 0.89 for a 2-d VAE of MNIST, 0.70 for its 16 first principal ones.
_UNRESOLVED = 0.35
# Thresholds between clean rings and bad ones (pendulum, seeds 100 to 111): clean 0, 1.2 to 1.3 and
# 0.58 to 0.61; figures of eight have crossings of 0.004 to 0.013, a torn ring a tear of 8.6 and
# dented ones a straightness of 0.22 to 0.25.
_MOST_CROSSING = 0.001
_MOST_TEAR = 4.0
_LEAST_STRAIGHTNESS = 0.4
_GEOMETRY_POINTS, _TANGENTS = 256, 256 * 64  # fewer points in more than 64 dimensions


@dataclass(frozen=True, slots=True)
class Neighbourhoods:
    """How latent and observed neighbourhoods agree.

    Attributes:
        trustworthiness: of the latent neighbours (Venna and Kaski, 2001): 1 where they are observed
            neighbours too; about 0.5 by chance.
        continuity: of the observed neighbours: 1 where they are latent neighbours too.
        overlap: median distance in observation space of latent neighbours, over that of two
            random observations.
        crossing: share of points with a latent neighbour at more than half the distance of two
            random observations.
        tear: the most that the map stretches a pair of observed neighbours, over the median.
        straightness: the least latent distance of two points over the way between them along
            observed neighbours, the inverse of Gromov's distortion: 2 / pi for a circle, 1 for a
            flat piece, 0 where strands cross.
    """

    trustworthiness: float
    continuity: float
    overlap: float
    crossing: float
    tear: float
    straightness: float

    @property
    def resolved(self) -> bool:
        """Whether latent neighbours look alike at all, so that a fold can be told from overlap."""
        return self.overlap < _UNRESOLVED

    @property
    def folded(self) -> bool:
        """Whether the map crosses itself, is torn or dented, though it resolves the data."""
        return self.resolved and (
            self.crossing > _MOST_CROSSING
            or self.tear > _MOST_TEAR
            or self.straightness < _LEAST_STRAIGHTNESS
        )


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a representation looks like without labels.

    Attributes:
        kl: of each dimension of the layer beside p = N(0, 1) (z, or the VHP's zeta), nats.
        active_units: dimensions of z whose posterior mean has a variance above 0.01.
        active_by_kl: entries of ``kl`` above 0.01 nats.
        response: variance of the reconstructions over that of the data; 0 where the decoder
            ignores z.
        information: ``1/2 log(1 + Var(mean) / E(variance))`` summed over z, nats: what z tells of
            x if both are Gaussian; has no scale and needs no prior.
        neighbourhoods: agreement of latent and observed neighbours.
        condition_number: median of the decoder's metric tensor; 1 where it is flat.
        folded: the map of the data crosses itself or is torn.
        collapsed: no dimension carries information, or the decoder ignores z.
        sentence: all that in one line.
    """

    kl: tuple[float, ...]
    active_units: int
    active_by_kl: int
    response: float
    information: float
    neighbourhoods: Neighbourhoods
    condition_number: float
    folded: bool
    collapsed: bool
    sentence: str

    @property
    def sound(self) -> bool:
        """Neither folded nor collapsed."""
        return not (self.folded or self.collapsed)


def kl_per_dimension(posterior: Gaussian) -> Tensor:
    """Mean KL divergence to N(0, 1) of each dimension: ``(N, D)`` to ``(D,)``, nats.

    Of q(z|x) beside a normal prior; of q(zeta|z) it is what Fig. 3.12 shows of the VHP.
    """
    return posterior.kl_to_standard_normal().mean(dim=0)


def active_units(means: Tensor, least: float = _LEAST_ACTIVE) -> Tensor:
    """Which dimensions the encoder uses: ``Var_x(E[z_d|x]) > least`` (Burda et al., 2016).

    Args:
        means: (N, D), of the posteriors.
        least: in the unit of z squared.

    Returns:
        (D,), of booleans.
    """
    return means.var(dim=0, correction=0) > least


def information_per_dimension(posterior: Gaussian) -> Tensor:
    """``1/2 log(1 + Var(mean) / E(variance))``: (N, D) to (D,), nats.

    The capacity of the Gaussian channel that a posterior is: unlike the variance of the means it
    does not change when z is scaled, and unlike the KL divergence it needs no prior.
    """
    signal = posterior.mean.var(dim=0, correction=0)
    return 0.5 * torch.log1p(signal / posterior.log_var.exp().mean(dim=0))


def decoder_response(observations: Tensor, reconstructions: Tensor) -> float:
    """Variance of reconstructions over that of the data, (N, ...) each, summed over pixels.

    About 1 where the model reconstructs; 0 where the decoder ignores z. Data that do not vary have
    nothing to respond to: 1.
    """
    total = observations.var(dim=0, correction=0).sum()
    if total == 0:
        return 1.0
    return float(reconstructions.var(dim=0, correction=0).sum() / total)


def neighbourhoods(latents: Tensor, observations: Tensor, k: int = _NEIGHBOURS) -> Neighbourhoods:
    """Compare neighbourhoods in latent and in observation space, in both directions.

    No figure changes when either space is scaled, shifted or turned.

    Args:
        latents: (N, D), posterior means.
        observations: (N, ...), what they are of.
        k: neighbours; N must be above 3 k.

    Raises:
        InputError: too few points for a neighbourhood to mean something.
    """
    count = len(latents)
    if count <= 3 * k:
        raise InputError(f"{count} observations to diagnose, expected more than {3 * k}")
    z, x = _distances(latents), _distances(observations)
    near_z, near_x = z.topk(k, largest=False).indices, x.topk(k, largest=False).indices
    chance = _off_diagonal(x).median().clamp_min(torch.finfo(x.dtype).tiny)
    apart = x.gather(1, near_z) / chance  # (N, k), of latent neighbours
    return Neighbourhoods(
        trustworthiness=_agreement(near_z, x, k),
        continuity=_agreement(near_x, z, k),
        overlap=float(apart.median()),
        crossing=float((apart > _FAR).any(dim=1).double().mean()),
        tear=_tear(z.gather(1, near_x), x.gather(1, near_x)),
        straightness=_straightness(z, x),
    )


def _tear(z: Tensor, x: Tensor) -> float:
    """The largest ratio ``z / x`` of distances over the median one; 1 where all is one point."""
    stretch = z[x > 0] / x[x > 0]
    if len(stretch) == 0 or not stretch.any():
        return 1.0
    middle = stretch.median()
    return float(stretch.max() / middle) if middle > 0 else math.inf


def _straightness(z: Tensor, x: Tensor) -> float:
    """Latent distance over the way along observed neighbours, at its lowest per mille of pairs.

    Shortest paths in the graph of observed neighbours, whose edges are as long as they are in the
    latent space, from some points to all. 1 where no two points are connected or apart.
    """
    count = len(z)
    ends = x.topk(min(_GRAPH_NEIGHBOURS, count - 1), largest=False).indices  # (N, k)
    starts = torch.arange(count)[:, None].expand_as(ends)
    lengths = z.gather(1, ends.to(z.device)).clamp_min(torch.finfo(z.dtype).tiny)
    entries = [part.flatten().cpu().numpy() for part in (lengths, starts, ends)]
    graph = csr_matrix((entries[0], (entries[1], entries[2])), shape=(count, count))
    landmarks = range(0, count, max(1, count // _LANDMARKS))
    ways = torch.from_numpy(dijkstra(graph, directed=False, indices=list(landmarks)))
    chords = z[list(landmarks)].cpu()
    told = (
        torch.isfinite(ways) & torch.isfinite(chords) & (ways > 1e-12 * ways[ways < math.inf].max())
    )
    if not told.any():
        return 1.0
    return min(1.0, float((chords[told] / ways[told]).quantile(1e-3)))


def _agreement(near: Tensor, other: Tensor, k: int) -> float:
    """Trustworthiness: how far down the other space's ranking the k neighbours of this one stand.

    ``1 - 2 / (N k (2 N - 3 k - 1)) sum max(rank - k, 0)``, with rank 1 for the nearest.
    """
    count = len(other)
    order = other.argsort(dim=1)
    rank = torch.empty_like(order)
    places = torch.arange(1, count + 1, device=order.device).expand_as(order).contiguous()
    rank.scatter_(1, order, places)
    excess = (rank.gather(1, near) - k).clamp_min(0).sum()
    return 1.0 - 2.0 * float(excess) / (count * k * (2 * count - 3 * k - 1))


def _distances(points: Tensor) -> Tensor:
    """(N, ...) to (N, N) in float64, infinity on the diagonal: nobody is its own neighbour."""
    flat = points.detach().double().flatten(start_dim=1)
    found = torch.cdist(flat - flat.mean(dim=0), flat - flat.mean(dim=0))
    return found.fill_diagonal_(math.inf)


def _off_diagonal(distances: Tensor) -> Tensor:
    return distances[torch.isfinite(distances)]


@torch.no_grad()
def diagnose(model: VAE, x: Tensor, *, most: int = MOST_POINTS, seed: int = 0) -> Diagnosis:
    """Look at what a model makes of some data.

    Args:
        model: any of ours.
        x: (N, *event), as it is trained on; more than 15.
        most: as many of them are looked at, drawn with ``seed``.
        seed: of that draw; nothing else is random.

    Raises:
        InputError: too few observations.
    """
    generator = torch.Generator().manual_seed(seed)
    x = x[torch.randperm(len(x), generator=generator)[:most].to(x.device)]
    posterior = model.encode(x)
    reconstructions = model.decode(posterior.mean)
    response = decoder_response(x.flatten(1), reconstructions.flatten(1))
    information = information_per_dimension(posterior)
    agreement = neighbourhoods(posterior.mean, x)
    kl = kl_per_dimension(_beside_standard_normal(model, posterior))
    few = posterior.mean[: min(_GEOMETRY_POINTS, max(16, _TANGENTS // posterior.mean.shape[1]))]
    condition = float(condition_number(metric_tensor(model.decode, few).double()).median())
    collapsed = not bool((information > _LEAST_ACTIVE).any()) or response < _LEAST_RESPONSE
    folded = agreement.folded and not collapsed
    active = int(active_units(posterior.mean).sum())
    return Diagnosis(
        kl=tuple(float(value) for value in kl),
        active_units=active,
        active_by_kl=int((kl > _LEAST_ACTIVE).sum()),
        response=response,
        information=float(information.sum()),
        neighbourhoods=agreement,
        condition_number=condition,
        folded=folded,
        collapsed=collapsed,
        sentence=_sentence(agreement, response, collapsed=collapsed)
        + f" {active} of {few.shape[1]} units are active; "
        + f"the median condition number of the decoder's metric is {condition:.3g}.",
    )


def _beside_standard_normal(model: VAE, posterior: Gaussian) -> Gaussian:
    """The layer whose prior is N(0, 1): zeta of a VHP, else z."""
    if not isinstance(model.prior, VHP):
        return posterior
    return model.prior.encode(posterior.mean)


def _sentence(agreement: Neighbourhoods, response: float, *, collapsed: bool) -> str:
    """The verdict, and the figure that it stands on."""
    if collapsed:
        return (
            "Collapsed: z tells nothing of the data (reconstructions have "
            f"{response:.1%} of their variance)."
        )
    if not agreement.resolved:
        return (
            f"Overlapping: latent neighbours differ by {agreement.overlap:.0%} of what random "
            "pairs do, so that folds cannot be told from a lack of dimensions."
        )
    figures = (
        f"{agreement.crossing:.2%} of the points have a latent neighbour that looks like a "
        f"stranger, neighbours are torn apart by up to {agreement.tear:.3g} times the median, and "
        f"distances are at least {agreement.straightness:.2g} of the way along the data"
    )
    return f"{'Folded' if agreement.folded else 'Sound'}: {figures}."

"""The decoder's variance in the metric: laws of its fit, and a ring that is gone around."""

import math

import pytest
import torch
from torch.func import jacrev

from trackvae.errors import InputError, UsageError
from trackvae.geometry import metric_tensor, riemannian_length, straight_line
from training.geodesics import (
    Chain,
    Path,
    Spline,
    a_star,
    either,
    far_sigma,
    fit_uncertainty,
    latent_bound,
    neighbour_graph,
    on_graph,
    riemannian,
    solve,
    straight,
    with_variance,
)

torch.set_num_threads(1)
NOISE = 0.02


def decoder(z):
    """Linear and isometric: the plane in five dimensions."""
    Q = torch.linalg.qr(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))[0]
    return z @ Q.to(z).mT


def ring(count=800, wide=0.0, seed=0):
    """Points near the unit circle at equal angles, in disorder, (count, 2), float64."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi / count * torch.randperm(count, generator=generator).double()
    radius = 1 + wide * torch.randn(count, generator=generator, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def observed(z, noise=NOISE, seed=1):
    """Decoded, with noise of this size in each output (or one a row)."""
    x = decoder(z)
    return x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)


@pytest.fixture(scope="module")
def fitted():
    z = ring(2_000)
    return z, fit_uncertainty(decoder, z, observed(z), centres=160)


def at(*degrees):
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_on_the_data_sigma_is_that_of_the_residuals(fitted):
    z, known = fitted
    assert known.sigma(z).square().mean().sqrt() == pytest.approx(NOISE, rel=0.03)
    assert (known.sigma(at(*range(0, 360, 5))) / NOISE).log().abs().max() < math.log(1.5)


def test_where_a_kernel_counts_the_mean_variance_is_that_of_the_residuals():
    """The likelihood's gradient by each weight is zero, or the weight is."""
    z = ring()
    x = observed(z, noise=torch.where(z[:, :1] > 0, 0.03, 0.12))
    known = fit_uncertainty(decoder, z, x, centres=12)
    kernels = torch.exp(-known.rates * (z[:, None] - known.centres).square().sum(-1))
    residuals = (x - decoder(z)).square().mean(1)
    ratio = (kernels.T @ known.sigma(z).square()) / (kernels.T @ residuals)
    counts = known.weights > 1e-2 * known.weights.max()
    assert counts.sum() >= 8
    assert (ratio[counts] - 1).abs().max() < 0.01
    assert (ratio[~counts] < 1.01).all()  # a smaller weight would be better still
    right, left = known.sigma(at(0, 30, -30)), known.sigma(at(180, 150, 210))
    assert torch.allclose(right, torch.full_like(right, 0.03), rtol=0.2)
    assert torch.allclose(left, torch.full_like(left, 0.12), rtol=0.2)


def test_far_away_it_tends_to_half_the_datas_diameter_above_sigma_on_them(fitted):
    """The longest of all shortest ways on a ring is half of it."""
    z, known = fitted
    far = known.sigma(torch.tensor([[0.0, 0.0], [9.0, 9.0]]).double()) * 5**0.5
    assert torch.allclose(far, far[:1], rtol=1e-6)
    usual = NOISE * 11.07**0.5  # 95% of chi^2 with five degrees of freedom
    assert float(far[0]) == pytest.approx(math.pi / 2 + usual, rel=0.03)
    assert far_sigma(decoder, z, observed(z)) == pytest.approx(float(far[0]), rel=1e-6)
    asked = fit_uncertainty(decoder, z, observed(z), far=7.0, centres=20)
    outside = torch.tensor([[9.0, 9.0]]).double()
    assert float(asked.sigma(outside)) * 5**0.5 == pytest.approx(7)


def test_far_away_it_is_at_least_the_datas_own_spread():
    """A decoder that says the same everywhere has no diameter."""
    z = ring(60)
    x = observed(z)
    spread = x.var(0, correction=0).sum().sqrt()
    far = far_sigma(lambda p: 0 * decoder(p), z, x)
    assert float(spread) <= far < 1.2 * float(spread)


def test_the_metric_is_the_expected_one(fitted):
    _, known = fitted
    stacked = with_variance(decoder, known)
    points = at(0, 40, 200) * 1.03
    for point, G in zip(points, metric_tensor(stacked, points), strict=True):
        J_mu = jacrev(lambda p: decoder(p[None])[0])(point)
        J_sigma = jacrev(lambda p: known.sigma(p[None]).expand(5))(point)
        assert torch.allclose(G, J_mu.mT @ J_mu + J_sigma.mT @ J_sigma)


def test_a_ring_is_gone_around_with_the_variance_and_crossed_without(fitted):
    z, known = fitted
    stacked = with_variance(decoder, known)
    start, end = at(0, 90, 20), at(100, 250, 60)
    arcs = torch.tensor([100.0, 160.0, 40.0]).double().deg2rad()
    graph = neighbour_graph(z, 12, riemannian(stacked)).bridged()
    found = solve(stacked, start, end, Spline(16, 96, 60), initial=on_graph(graph))
    by_mean = riemannian_length(decoder, found.curves)
    assert torch.allclose(by_mean, arcs, rtol=0.05)
    assert torch.allclose(found.length, arcs, rtol=0.08)
    assert (found.straight > 1.5 * found.length).all()
    assert (found.curves.norm(dim=-1) > 0.9).all()
    across = solve(
        decoder, start, end, Chain(), initial=on_graph(graph.reweighted(riemannian(decoder)))
    )
    assert torch.allclose(across.length, (start - end).norm(dim=1), rtol=1e-3)


def test_every_way_of_searching_takes_it(fitted):
    """Graph, A*, chain, spline: lengths of the same arc."""
    z, known = fitted
    stacked = with_variance(decoder, known)
    start, end = at(0), at(80)
    graph = neighbour_graph(z, 12, riemannian(stacked)).bridged()
    whole = graph.with_points(torch.cat([start, end]))
    best, _ = a_star(whole, len(z), len(z) + 1, latent_bound)
    lengths = [best.cost]
    for solver in (Path(256), Chain(96, 60), Spline(12, 96, 60)):
        lengths.append(float(solve(stacked, start, end, solver, initial=on_graph(graph)).length))
    assert lengths == pytest.approx([math.radians(80)] * 4, rel=0.1)


def test_no_shortcut_leads_through_what_is_not_known(fitted):
    """Up to the farthest level and down again is as long as half the ring."""
    _, known = fitted
    lines = straight_line(at(0), at(180), 400)
    stacked = with_variance(decoder, known)
    only_sigma = riemannian_length(lambda p: stacked(p)[:, -1:], lines)
    assert float(only_sigma) > 0.9 * math.pi


def test_more_examples_bear_more_centres():
    few, many = (fit_uncertainty(decoder, z, observed(z)) for z in (ring(200), ring(2_000)))
    assert len(many.centres) >= 2 * len(few.centres)
    again = fit_uncertainty(decoder, ring(200), observed(ring(200)))
    assert torch.equal(again.centres, few.centres)


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5])
def test_noise_makes_no_ripple_along_the_data(noise):
    """The residuals are alike all around: so is sigma, and a half circle is as long as it is."""
    z = ring(2_000)
    known = fit_uncertainty(decoder, z, observed(z, noise))
    angle = torch.linspace(0, math.pi, 2_000, dtype=torch.float64)
    half = torch.stack([angle.cos(), angle.sin()], dim=1)[None]
    length = float(riemannian_length(with_variance(decoder, known), half))
    assert length == pytest.approx(math.pi, rel=0.1)


def test_a_curve_is_never_longer_than_what_it_began_with(fitted):
    """Few knots cannot follow the way around; the graph's path or the straight line is kept."""
    z, known = fitted
    stacked = with_variance(decoder, known)
    start, end = at(0, 10), at(170, 30)
    graph = neighbour_graph(z, 12, riemannian(stacked)).bridged()
    initial = either(on_graph(graph), straight)
    kept = solve(stacked, start, end, Path(96), initial=initial)
    found = solve(stacked, start, end, Spline(1, 96, 20), initial=initial)
    assert (found.length <= 1.01 * kept.length).all()
    alone = solve(stacked, start, end, Spline(1, 96, 1), initial=on_graph(graph))
    for note, more in zip(alone.notes, alone.length > 1.01 * alone.straight, strict=True):
        assert ("straight line is shorter" in note) == bool(more)


def test_what_is_kept_is_of_the_encodings_type():
    z = ring(100).float()
    known = fit_uncertainty(decoder, z, observed(z).float())
    assert known.sigma(z).dtype == torch.float32
    images = fit_uncertainty(
        lambda p: decoder(p).reshape(-1, 1, 5, 1), z, observed(z)[:, None, :, None]
    )
    assert with_variance(lambda p: decoder(p).reshape(-1, 1, 5, 1), images)(z).shape == (100, 6)
    assert torch.allclose(images.sigma(z), known.sigma(z))


@pytest.mark.parametrize(
    ("z", "x", "said"),
    [
        (ring(12), observed(ring(12)), "12 encodings, expected at least 20"),
        (ring(30) * torch.nan, observed(ring(30)), "NaN or infinity"),
        (0 * ring(30), observed(ring(30)), "expected them to spread"),
        (ring(30), 0 * observed(ring(30)), "no spread"),
    ],
)
def test_what_cannot_be_fitted_is_refused(z, x, said):
    with pytest.raises(InputError, match=said):
        fit_uncertainty(decoder, z, x)


def test_settings_that_mean_nothing_are_refused():
    z = ring(40)
    with pytest.raises(UsageError, match="sigma far from the data is -1"):
        fit_uncertainty(decoder, z, observed(z), far=-1.0)
    with pytest.raises(UsageError, match="41 centres of 40 encodings"):
        fit_uncertainty(decoder, z, observed(z), centres=41)
    with pytest.raises(ValueError, match="as many rows"):
        fit_uncertainty(decoder, z, observed(z)[:-1])


def test_of_several_beginnings_each_pair_has_the_one_of_least_energy(fitted):
    """Near ends: the straight line; ends across the ring: the graph's path."""
    z, known = fitted
    stacked = with_variance(decoder, known)
    graph = neighbour_graph(z[::50], 2, riemannian(stacked)).bridged()
    start, end = at(0, 0), at(1, 120)
    found = solve(stacked, start, end, Path(96), initial=either(on_graph(graph), straight))
    assert found.latent_ratio[0] == pytest.approx(1)
    assert found.latent_ratio[1] < 0.9
    assert found.notes == ("", "")

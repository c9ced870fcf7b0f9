"""Continuous geodesics: surfaces on which they are known, laws of a distance, and bad input."""

import pytest
import torch
from torch.func import jacrev

from tests.training.geodesics.surfaces import sphere, surfaces, torus, uniform
from trackvae.errors import InputError, UsageError
from trackvae.geometry import metric_tensor, riemannian_length, smoothed_metric
from training.geodesics import (
    Chain,
    Neural,
    Path,
    Spline,
    bezier,
    bezier_curves,
    constant_speed,
    floor,
    neighbour_graph,
    on_graph,
    riemannian,
    smoothed_edges,
    smoothed_length,
    smoothing_for,
    solve,
)
from training.geodesics.curves import spline_basis
from training.geodesics.neural import meet_ends
from training.geodesics.solve import Beginning

SURFACES = {s.name: s for s in surfaces()}
QUICK_NEURAL = Neural(hidden=24, samples=48, steps=200, fit_steps=80)
SOLVERS = {
    "chain": Chain(),
    "chain without a Jacobian": Chain(stiffness="laplacian", steps=400),
    "spline": Spline(),
    "spline without a Jacobian": Spline(stiffness="laplacian", steps=400),
    "neural": QUICK_NEURAL,
}


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_lengths_are_those_of_known_geodesics(surface, solver):
    found = solve(surface.decoder, surface.start, surface.end, solver)
    assert found.converged.all(), found.notes
    assert torch.allclose(found.length, surface.length, rtol=0.01)
    assert torch.equal(found.curves[:, 0], surface.start)
    assert torch.equal(found.curves[:, -1], surface.end)
    assert (found.speed_variation < 0.1).all()
    assert (found.straight >= 0.99 * found.length).all()


@pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)
def test_a_graph_is_as_near_as_its_floor_and_a_chain_from_its_path_is_exact(surface):
    both = torch.cat([surface.start, surface.end])
    low, high = both.amin(0) - 0.4, both.amax(0) + 0.4
    nodes = uniform(4_000, low.tolist(), high.tolist(), 9)
    graph = neighbour_graph(nodes, 24, riemannian(surface.decoder))
    path = solve(surface.decoder, surface.start, surface.end, Path(), initial=on_graph(graph))
    # The floor is the loss of a path with the identity as metric. On a surface that stretches one
    # latent direction more than the other (the torus: 3.9 times) the nearest 24 nodes lie in fewer
    # directions, and the path loses more: 0.9 is what is stated here.
    assert floor(graph, surface.start, surface.end).mean() > 0.975
    assert (path.length >= surface.length * (1 - 2e-3)).all()
    assert (path.length <= surface.length / 0.9).all()
    found = solve(surface.decoder, surface.start, surface.end, initial=on_graph(graph))
    assert torch.allclose(found.length, surface.length, rtol=2e-3)


def test_length_does_not_depend_on_the_parametrisation():
    """t -> t^2, as a curve and as a chart of the surface."""
    t = torch.linspace(0, 1, 2_000).double()[:, None]
    curve = torch.cat([2 * t, torch.sin(3 * t)], dim=1)
    slow = torch.cat([2 * t**2, torch.sin(3 * t**2)], dim=1)
    assert torch.isclose(riemannian_length(torus, curve), riemannian_length(torus, slow), rtol=1e-5)

    def other_chart(w):
        return sphere(torch.stack([w[:, 0] + 0.2 * w[:, 1] ** 2, torch.sinh(w[:, 1])], dim=1))

    a, b = uniform(5, (0, -0.8), (2, 0.8), 0), uniform(5, (0, -0.8), (2, 0.8), 1)
    as_w = [
        torch.stack([z[:, 0] - 0.2 * torch.asinh(z[:, 1]) ** 2, torch.asinh(z[:, 1])], dim=1)
        for z in (a, b)
    ]
    here, there = solve(sphere, a, b), solve(other_chart, *as_w)
    assert torch.allclose(here.length, there.length, rtol=1e-3)


def test_it_is_a_distance():
    """Symmetry, and the triangle inequality, up to what a polygon of 64 points loses."""
    a, b, c = (uniform(8, (0, -2), (2.5, 2), seed) for seed in range(3))
    ab, ba = solve(torus, a, b).length, solve(torus, b, a).length
    assert torch.allclose(ab, ba, rtol=1e-3)
    bc, ac = solve(torus, b, c).length, solve(torus, a, c).length
    assert (ac <= (ab + bc) * (1 + 1e-3)).all()


def test_many_pairs_at_once_are_what_they_are_alone():
    surface = SURFACES["swiss roll"]
    together = solve(surface.decoder, surface.start, surface.end, Spline())
    for pair in range(3):
        alone = solve(surface.decoder, surface.start[pair], surface.end[pair], Spline())
        assert torch.allclose(alone.length[0], together.length[pair], rtol=1e-9)


def test_the_velocity_of_a_geodesic_is_constant_and_its_mean_is_the_length():
    surface = SURFACES["sphere"]
    found = solve(sphere, surface.start, surface.end)
    assert (found.speed_variation < 0.01).all()
    assert torch.allclose(found.velocity.mean(1), found.length, rtol=1e-2)


# --- the smoothed metric tensor


def network(seed=0, hidden=16, outputs=5):
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(2, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, outputs)]
    return torch.nn.Sequential(*layers).double().requires_grad_(False)


def test_the_metric_tensor_is_autograds_product_of_jacobians():
    decoder, z = network(), uniform(7, (-1, -1), (1, 1), 0)
    for row, G in zip(z, metric_tensor(decoder, z), strict=True):
        J = jacrev(lambda p: decoder(p[None])[0])(row)
        assert torch.allclose(G, J.mT @ J)


@pytest.mark.parametrize("smoothing", [1e-3, 1.0, 50.0])
def test_the_smoothed_metric_is_both_sides_of_equation_5_10(smoothing):
    G = metric_tensor(network(), uniform(9, (-1, -1), (1, 1), 0))
    U, s, Vt = torch.linalg.svd(G)
    low_rank = U @ torch.diag_embed(s**3 / (s**2 + smoothing)) @ Vt
    smoother = U @ torch.diag_embed(s**2 / (s**2 + smoothing)) @ U.mT @ G
    found = smoothed_metric(G, smoothing)
    assert torch.allclose(found, low_rank)
    assert torch.allclose(found, smoother)
    assert torch.equal(smoothed_metric(G, 0.0), G)


def test_the_smoothed_metric_of_a_singular_tensor_is_finite_and_has_a_gradient():
    J = torch.tensor([[1.0, 2.0], [2.0, 4.0]]).double().requires_grad_()
    found = smoothed_metric(J.mT @ J, 0.5)
    found.sum().backward()
    assert found.isfinite().all()
    assert J.grad.isfinite().all()
    assert smoothed_metric(torch.zeros(2, 2), 0.5).eq(0).all()


def step(height):
    """A gentle slope along u, and a cliff of some height across v = 0, but for u > 1."""

    def decoder(z):
        u, v = z[:, 0], z[:, 1]
        gate = torch.sigmoid((0.6 - u) * 12)
        return torch.stack([u, v, height * gate * torch.sigmoid(40 * v)], dim=1)

    return decoder


def test_smoothing_goes_round_a_cliff_that_the_shortest_way_would_climb():
    """Climbing costs less than the way round, until gentle slopes count for less still."""
    decoder = step(0.8)
    start, end = torch.tensor([[0.0, -0.5]]).double(), torch.tensor([[0.0, 0.5]]).double()
    smooth = smoothing_for(decoder, uniform(200, (0, -1), (2, -0.3), 0), 8.0)
    bent = torch.linspace(0, 1, 64).double()[:, None]
    far = torch.cat([1.6 * torch.sin(torch.pi * bent), bent - 0.5], dim=1)[None]  # round it

    def begin(a, b, points):
        lines = bezier(8, 3)(a, b, points).candidates
        return Beginning(torch.cat([lines, far[None]]), ("",))

    plain = solve(decoder, start, end, Spline(steps=60), initial=begin)
    round_it = solve(decoder, start, end, Spline(steps=60), initial=begin, smoothing=smooth)
    line = plain.curves.new_tensor([[[0.0, -0.5], [0.0, 0.5]]])
    over, beside = (
        smoothed_length(decoder, constant_speed(curve, 200), smooth)
        for curve in (line, round_it.curves)
    )
    assert float(over / beside) > 1.2
    assert plain.curves[0, :, 0].max() < 0.4
    assert round_it.curves[0, :, 0].max() > 0.6


def test_edges_under_the_smoothed_metric_without_smoothing_are_riemannian():
    decoder = network()
    a, b = uniform(9, (-1, -1), (1, 1), 0), uniform(9, (-1, -1), (1, 1), 1)
    plain = riemannian(decoder, 40)(a, b)
    assert torch.allclose(smoothed_edges(decoder, 0.0, 40)(a, b), plain, rtol=1e-3)


# --- curves


def test_a_bezier_curve_is_de_casteljaus():
    start, end = uniform(3, (0, 0), (1, 1), 0), uniform(3, (2, 2), (3, 3), 1)
    generator = torch.Generator().manual_seed(5)
    drawn = bezier_curves(start, end, 9, controls=1, count=2, generator=generator)
    corner = 2 * drawn[:, :, 4] - 0.5 * (start + end)  # of a parabola, from its middle
    for place in range(9):
        t = place / 8
        first, second = torch.lerp(start, corner, t), torch.lerp(corner, end, t)
        assert torch.allclose(drawn[:, :, place], torch.lerp(first, second, t))


def test_control_points_lie_across_the_line_within_a_quarter_of_it():
    start, end = torch.zeros(1, 3).double(), torch.tensor([[3.0, 0, 0]]).double()
    curves = bezier_curves(start, end, 21, controls=1, count=200)
    corner = 2 * curves[:, 0, 10] - 0.5 * (start + end)
    assert torch.allclose(corner[:, 0], torch.tensor(1.5).double())
    across = torch.linalg.vector_norm(corner[:, 1:], dim=1)
    assert across.max() <= 0.75
    assert across.max() > 0.6
    assert torch.equal(bezier_curves(start, end, 5, controls=0)[0, 0, 2], end[0] / 2)


def test_splines_vanish_at_the_ends_and_are_one_at_their_knot():
    basis = spline_basis(41, 3)
    assert (basis[[0, -1]] == 0).all()
    assert torch.allclose(basis[[10, 20, 30]], torch.eye(3).double())


@pytest.mark.parametrize(
    "case", ["affine", "same value at both ends", "ends equal", "far too steep"]
)
def test_the_boundary_is_met_also_where_the_affine_form_is_singular(case):
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(1, 11, 2, generator=generator, dtype=torch.float64)
    wanted = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]).double()
    if case == "same value at both ends":
        g[:, -1] = g[:, 0]
    if case == "ends equal":
        wanted[:, 1] = wanted[:, 0]
    if case == "far too steep":
        g[:, -1] = g[:, 0] + 1e-9
    t = torch.linspace(0, 1, 11).double()[None]
    curve, slope = meet_ends(g, torch.zeros_like(g), g[:, [0, -1]], wanted, t)
    assert torch.allclose(curve[:, [0, -1]], wanted)
    assert curve.isfinite().all()
    assert slope.isfinite().all()
    if case == "ends equal":
        assert (curve[0, 1:-1] - wanted[0, 0]).abs().max() > 0.1  # not frozen


def test_constant_speed_has_equal_steps_and_the_same_ends():
    t = torch.linspace(0, 1, 400).double()[:, None] ** 2
    curves = torch.stack([torch.cat([t, t * (1 - t)], dim=1), torch.cat([3 * t, -t], dim=1)])
    even = constant_speed(curves, 50)
    steps = torch.linalg.vector_norm(even.diff(dim=1), dim=-1)
    assert (steps.std(1) / steps.mean(1) < 1e-3).all()
    assert torch.equal(even[:, [0, -1]], curves[:, [0, -1]])


# --- bad input: results that say so


def test_one_point_is_its_own_geodesic():
    start = torch.tensor([[0.3, 0.4], [0.1, 0.2]]).double()
    end = torch.tensor([[0.3, 0.4], [1.0, 0.2]]).double()
    for solver in (Chain(), Spline(), QUICK_NEURAL):
        found = solve(sphere, start, end, solver)
        assert found.outcome == ("same point", "converged")
        assert float(found.length[0]) == pytest.approx(0, abs=1e-9)
        assert found.converged.all()
        assert "one point" in found.notes[0]


def test_a_decoder_that_does_not_change_is_told():
    found = solve(
        lambda z: torch.ones(len(z), 3) + 0 * z[:, :1], torch.zeros(1, 2), torch.ones(1, 2)
    )
    assert found.outcome == ("no change",)
    assert not found.converged.any()


def test_a_jacobian_that_explodes_is_told():
    def pole(z):
        return torch.cat([z, 1 / (z[:, :1] - 0.5) ** 2], dim=1) * torch.where(
            z[:, :1] > 0.4, torch.inf, 1.0
        )

    start, end = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.3, 0.0]])
    found = solve(pole, start, end)
    assert found.outcome[0] == "not finite"
    assert found.outcome[1] == "converged"


def test_a_search_that_is_cut_short_says_so_and_is_no_straight_line():
    surface = SURFACES["swiss roll"]
    found = solve(surface.decoder, surface.start, surface.end, Chain(steps=1, tolerance=1e-12))
    assert set(found.outcome) == {"not converged"}
    assert not found.converged.any()
    assert (found.steps == 1).all()
    assert "stopped after 1 steps" in found.notes[0]
    assert (found.residual > 1e-12).all()


def test_islands_without_a_path_are_named_and_the_other_pairs_are_solved():
    nodes = torch.cat([uniform(50, (0, 0), (1, 1), 0), uniform(30, (5, 0), (6, 1), 1)])
    graph = neighbour_graph(nodes, 8, riemannian(torus))
    start, end = nodes[[0, 1]], nodes[[60, 2]]
    found = solve(torus, start, end, initial=on_graph(graph))
    assert found.outcome == ("no path", "converged")
    assert "part 1 of the graph (50 nodes)" in found.notes[0]
    assert "part 2 (30 nodes)" in found.notes[0]
    assert found.curves[0].isnan().all()
    assert found.curves[1].isfinite().all()


def test_what_cannot_be_meant_is_refused():
    a = torch.zeros(2, 2)
    with pytest.raises(InputError, match="end point holds NaN"):
        solve(sphere, a, a * torch.nan)
    with pytest.raises(ValueError, match="expected"):
        solve(sphere, a, a[:1])
    with pytest.raises(UsageError, match="smoothing is -1"):
        solve(sphere, a, a, smoothing=-1)
    with pytest.raises(UsageError, match="knots"):
        solve(sphere, a, a + 1, Spline(knots=70))
    with pytest.raises(UsageError, match="2 points"):
        solve(sphere, a, a + 1, Chain(points=2))

"""The graph of latent points: laws of shortest paths, and a second implementation."""

import numpy as np
import pytest
import torch

from trackvae.errors import InputError, UsageError
from trackvae.geometry import length_ratios
from training.geodesics import (
    euclidean,
    floor,
    interpolate,
    neighbour_graph,
    padded,
    resample,
    riemannian,
    smoothness_factor,
)


def uniform(count, dimensions=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, dimensions, generator=generator, dtype=torch.float64)


def floyd_warshall(graph):
    """All distances, by the textbook's three loops (the innermost two as one array)."""
    size = len(graph.nodes)
    distance = np.full((size, size), np.inf)
    np.fill_diagonal(distance, 0.0)
    for (i, j), weight in zip(graph.edges, graph.weights, strict=True):
        distance[i, j] = distance[j, i] = weight
    for k in range(size):
        distance = np.minimum(distance, distance[:, k, None] + distance[k])
    return distance


def bump(z):
    """A hill in the middle of the unit square, as a surface in space."""
    height = (-8 * (z - 0.5).square().sum(-1, keepdim=True)).exp()
    return torch.cat([z, height], dim=-1)


@pytest.mark.parametrize("dimensions", [2, 20])
@pytest.mark.parametrize("cost", [euclidean, riemannian(bump, 4)])
def test_paths_are_as_short_as_by_floyd_and_warshall(dimensions, cost):
    graph = neighbour_graph(uniform(60, dimensions), 3, cost)
    expected = floyd_warshall(graph)
    starts, ends = (index.ravel() for index in np.indices((60, 60)))
    for start, end, path in zip(starts, ends, graph.shortest_paths(starts, ends), strict=True):
        if path is None:
            assert np.isinf(expected[start, end])
            continue
        assert path.cost == pytest.approx(expected[start, end], abs=1e-12)
        assert (path.nodes[0], path.nodes[-1]) == (start, end)
        joined = {tuple(edge) for edge in graph.edges.tolist()}
        steps = zip(path.nodes[:-1].tolist(), path.nodes[1:].tolist(), strict=True)
        assert all((min(step), max(step)) in joined for step in steps)
        walked = cost(path.points[:-1], path.points[1:]).sum()
        assert path.cost == pytest.approx(float(walked), abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 20])
def test_each_node_is_joined_to_its_nearest_and_to_nothing_else(dimensions):
    nodes = uniform(50, dimensions)
    order = torch.cdist(nodes, nodes).argsort(dim=1)[:, 1:5]
    expected = {tuple(sorted((i, int(j)))) for i in range(50) for j in order[i]}
    assert {tuple(edge) for edge in neighbour_graph(nodes, 4).edges.tolist()} == expected


def test_there_and_back_cost_the_same():
    graph = neighbour_graph(uniform(300), 6, riemannian(bump))
    there = graph.shortest_paths([0, 5, 9], [200, 201, 202])
    back = graph.shortest_paths([200, 201, 202], [0, 5, 9])
    for a, b in zip(there, back, strict=True):
        assert a.cost == pytest.approx(b.cost, rel=1e-12)


def test_a_flat_decoder_scales_latent_lengths_and_leaves_the_paths():
    """x = c Q z with orthonormal Q: every length is c times the latent one."""
    Q = torch.linalg.qr(torch.randn(7, 2, dtype=torch.float64))[0]
    nodes = uniform(400)
    plain = neighbour_graph(nodes, 8)
    flat = plain.reweighted(riemannian(lambda z: 3.0 * z @ Q.mT, 3))
    for a, b in zip(
        plain.shortest_paths([0, 1], [2, 3]), flat.shortest_paths([0, 1], [2, 3]), strict=True
    ):
        assert b.cost == pytest.approx(3.0 * a.cost, rel=1e-9)
        assert a.nodes.tolist() == b.nodes.tolist()


def test_a_path_goes_round_a_hill():
    graph = neighbour_graph(
        uniform(2000), 20, riemannian(lambda z: bump(z) * torch.tensor([1, 1, 3]))
    )
    ends = torch.tensor([[0.05, 0.5]]), torch.tensor([[0.95, 0.5]])
    ends = tuple(point.double() for point in ends)
    (path,) = interpolate(graph, *ends)
    assert float((path.points[:, 1] - 0.5).abs().max()) > 0.2
    ratios = length_ratios(lambda z: bump(z) * torch.tensor([1, 1, 3]), padded([path]))
    assert float(ratios.latent) < 0.9
    assert float(ratios.observation) > 1.2


@pytest.mark.parametrize(("neighbours", "expected"), [(12, 0.967), (32, 0.993)])
def test_the_floor_of_a_uniform_graph(neighbours, expected):
    """Measured before the first line was written: 0.967 and 0.993."""
    graph = neighbour_graph(uniform(14_400), neighbours, riemannian(bump))
    inner = 0.1 + 0.8 * uniform(80, seed=1)
    values = floor(graph, inner[:40], inner[40:])
    assert (values <= 1 + 1e-12).all()
    assert values.mean() == pytest.approx(expected, abs=0.006)


def test_more_neighbours_never_lengthen_a_path():
    nodes, pairs = uniform(500), (np.arange(20), np.arange(20, 40))
    costs = [
        [path.cost for path in neighbour_graph(nodes, k).shortest_paths(*pairs)]
        for k in (6, 12, 24, 499)
    ]
    assert all((np.diff(costs, axis=0) <= 1e-12).ravel())
    complete = euclidean(nodes[:20], nodes[20:40])  # k = N - 1: every pair has an edge
    assert costs[-1] == pytest.approx(complete.tolist())


def test_end_points_are_included_and_the_graph_stays_as_it_was():
    graph = neighbour_graph(uniform(200), 6)
    start, end = uniform(5, seed=3), uniform(5, seed=4)
    paths = interpolate(graph, start, end)
    for path, a, b in zip(paths, start, end, strict=True):
        assert torch.equal(path.points[0], a)
        assert torch.equal(path.points[-1], b)
    assert len(graph.nodes) == 200
    curves = padded(paths)
    assert torch.equal(curves[:, -1], end)


def test_adding_points_keeps_old_edges_and_joins_each_new_one_to_its_nearest():
    graph, new = neighbour_graph(uniform(100), 5), uniform(3, seed=1)
    larger = graph.with_points(new)
    old = larger.edges[(larger.edges < 100).all(axis=1)]
    assert np.array_equal(old, graph.edges)
    order = torch.cdist(new, graph.nodes).argsort(dim=1)[:, :5]
    for row in range(3):
        touching = larger.edges[(larger.edges == 100 + row).any(axis=1)]
        assert set(order[row].tolist()) <= set(touching.ravel().tolist())


def test_a_path_does_not_depend_on_what_else_is_asked():
    """A hundred other points between two far ones are no bridge for them."""
    graph = neighbour_graph(uniform(60), 4)
    start, end = uniform(100, seed=3), uniform(100, seed=4)
    together = interpolate(graph, start, end)
    for number in (0, 17, 99):
        (alone,) = interpolate(graph, start[[number]], end[[number]])
        assert torch.equal(alone.points, together[number].points)


def test_two_points_nearer_than_any_node_are_joined_at_once():
    graph = neighbour_graph(uniform(60), 4)
    start = uniform(5, seed=3)
    for path in interpolate(graph, start, start + 1e-4):
        assert len(path.nodes) == 2
        assert path.cost == pytest.approx(1e-4 * 2**0.5, rel=1e-2)


def test_two_islands():
    """No path between them is None, and an error that says so where paths are needed."""
    nodes = torch.cat([uniform(30), uniform(30, seed=1) + 10])
    graph = neighbour_graph(nodes, 4)
    across, within = graph.shortest_paths([0, 0], [40, 0])
    assert across is None
    assert within.cost == 0
    assert within.nodes.tolist() == [0]
    with pytest.raises(InputError, match="1 of 2 pairs are not joined"):
        padded([across, within])
    assert np.isnan(floor(graph, nodes[:1], nodes[40:41])).all()


def test_islands_are_bridged_where_they_are_nearest():
    """Three islands: the two links of the minimum spanning tree between them, and no others."""
    islands = [uniform(30, seed=k) + offset for k, offset in enumerate((0.0, 3.0, 7.0))]
    nodes = torch.cat(islands)
    graph = neighbour_graph(nodes, 4)
    whole = graph.bridged()
    added = {tuple(e) for e in whole.edges.tolist()} - {tuple(e) for e in graph.edges.tolist()}
    expected = set()
    for first in (0, 1):
        apart = torch.cdist(islands[first], islands[first + 1])
        i, j = np.unravel_index(int(apart.argmin()), apart.shape)
        expected.add((30 * first + int(i), 30 * (first + 1) + int(j)))
    assert added == expected
    (path,) = whole.shortest_paths([0], [89])
    assert path.cost >= float(euclidean(nodes[0], nodes[89]))
    assert whole.bridged() is whole


def test_an_infinite_cost_is_a_wall():
    """Motion planning: edges through an obstacle are taken out."""

    def cost(start, end):
        through = (start[:, 0] - 0.5) * (end[:, 0] - 0.5) <= 0
        low = torch.minimum(start[:, 1], end[:, 1]) < 0.8
        return torch.where(through & low, torch.inf, euclidean(start, end))

    graph = neighbour_graph(uniform(800), 10, cost)
    (path,) = interpolate(graph, torch.tensor([[0.1, 0.1]]), torch.tensor([[0.9, 0.1]]))
    crossing = (path.points[:-1, 0] < 0.5) & (path.points[1:, 0] >= 0.5)
    assert float(path.points[:-1][crossing][0, 1]) > 0.7


def test_edges_that_cost_nothing_are_edges():
    """A decoder that ignores z: every distance is 0, none is infinite."""
    graph = neighbour_graph(uniform(50), 5, riemannian(torch.zeros_like))
    assert [path.cost for path in graph.shortest_paths([0, 1], [40, 41])] == [0, 0]


def test_resampling_keeps_ends_and_length_and_makes_equal_steps():
    curve = uniform(9).cumsum(0)
    fine = resample(curve, 2001)
    assert torch.equal(fine[0], curve[0])
    assert torch.allclose(fine[-1], curve[-1])
    length = euclidean(curve[:-1], curve[1:]).sum()
    assert float(euclidean(fine[:-1], fine[1:]).sum()) == pytest.approx(float(length), rel=1e-3)
    steps = euclidean(fine[:-1], fine[1:])
    assert float(steps.median()) == pytest.approx(float(length) / 2000, rel=1e-6)


def test_resampling_by_given_lengths():
    """Two segments, the second of which counts three times: the middle lies a third into it."""
    curve = torch.tensor([[0.0], [1.0], [2.0]])
    found = resample(curve, 3, torch.tensor([1.0, 3.0]))
    assert found.ravel().tolist() == pytest.approx([0, 1 + 1 / 3, 2])
    still = torch.ones(4, 2)
    assert torch.equal(resample(still, 5), torch.ones(5, 2))


def test_smoothness_of_lines_parabolas_and_waves():
    t = np.arange(200)[:, None]
    assert smoothness_factor(3.0 * t + 1) == pytest.approx([0], abs=1e-9)
    assert smoothness_factor(0.5 * t**2.0) == pytest.approx([1])
    wave = np.sin(2 * np.pi * t / 20)  # second difference: -4 sin(pi/20)^2 times itself
    expected = 4 * np.sin(np.pi / 20) ** 2 * np.sqrt((wave[1:-1] ** 2).mean())
    assert smoothness_factor(wave) == pytest.approx([expected])
    both = smoothness_factor(np.stack([wave, 2 * wave]))
    assert both[1] == pytest.approx(2 * both[0])


def test_bad_input():
    with pytest.raises(UsageError, match="0 neighbours"):
        neighbour_graph(uniform(5), 0)
    with pytest.raises(InputError, match="at least 2"):
        neighbour_graph(uniform(1), 3)
    with pytest.raises(InputError, match="NaN"):
        neighbour_graph(torch.full((4, 2), torch.nan), 3)
    with pytest.raises(InputError, match="negative"):
        neighbour_graph(uniform(9), 3, lambda start, end: -euclidean(start, end))

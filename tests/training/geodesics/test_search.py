"""A* against Dijkstra, parts of graphs, distances to all nodes."""

import numpy as np
import pytest
import torch

from tests.training.geodesics.surfaces import torus, uniform
from training.geodesics import (
    a_star,
    distances,
    latent_bound,
    neighbour_graph,
    observation_bound,
    parts,
    riemannian,
)
from training.geodesics.search import why_no_path


@pytest.mark.parametrize("edges", ["euclidean", "riemannian"])
def test_a_star_finds_dijkstras_path_and_opens_fewer_nodes(edges):
    nodes = uniform(1_500, (0, -2), (3, 2), 0)
    if edges == "euclidean":
        graph, bound, cost = neighbour_graph(nodes, 8), latent_bound, None
    else:
        graph = neighbour_graph(nodes, 8)  # whose edges get their cost when they are met
        cost, bound = riemannian(torus), observation_bound(torus)
    reference = graph if cost is None else graph.reweighted(cost)
    for start, end in ((0, 9), (5, 700), (3, 3)):
        path, opened = a_star(graph, start, end, bound, cost)
        (expected,) = reference.shortest_paths([start], [end])
        assert path.cost == pytest.approx(expected.cost)
        assert (path.nodes[0], path.nodes[-1]) == (start, end)
        assert opened < 0.8 * len(nodes)


def test_parts_are_numbered_by_size_and_a_star_says_none_between_them():
    nodes = torch.cat([uniform(20, (9, 9), (10, 10), 0), uniform(60, (0, 0), (1, 1), 1)])
    graph = neighbour_graph(nodes, 8)
    assert parts(graph).tolist() == [1] * 20 + [0] * 60
    path, opened = a_star(graph, 0, 30, latent_bound)
    assert path is None
    assert opened == 20


def test_distances_are_the_costs_of_the_paths():
    graph = neighbour_graph(uniform(200, (0, 0), (1, 1), 0), 5, riemannian(torus))
    found = distances(graph, np.array([3, 8]))
    paths = graph.shortest_paths([3, 8, 8], [10, 11, 8])
    assert found[0, 10] == pytest.approx(paths[0].cost)
    assert found[1, 11] == pytest.approx(paths[1].cost)
    assert found[1, 8] == 0


def test_why_there_is_no_path_names_the_end_that_is_joined_to_nothing():
    nodes = torch.cat([uniform(20, (9, 9), (10, 10), 0), uniform(60, (0, 0), (1, 1), 1)])
    here, there = torch.tensor([0.5, 0.5]), torch.tensor([9.5, 9.5])

    def walled(start, end):  # no way beyond x = 20
        cost = torch.linalg.vector_norm(end - start, dim=-1)
        return torch.where(torch.maximum(start, end)[:, 0] > 20, torch.inf, cost)

    graph = neighbour_graph(nodes, 8, walled)
    apart = float(torch.linalg.vector_norm(nodes - torch.tensor([30.0, 9.5]), dim=1).min())
    said = why_no_path(graph, here, torch.tensor([30.0, 9.5]))
    assert said.startswith(f"the goal is joined to no node: it is {apart:.3g} from the nearest")
    assert "the start is joined to no node" in why_no_path(graph, torch.tensor([30.0, 0.0]), here)
    said = why_no_path(graph, here, there)
    assert said.startswith("the start lies in part 1 of the graph (60 nodes), the goal in part 2")
    assert said.endswith("take more neighbours or nodes")

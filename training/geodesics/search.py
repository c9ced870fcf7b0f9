"""More of graphs: which parts they have, distances to all nodes, and A* for one pair.

Dijkstra's algorithm in :mod:`training.geodesics.graph` needs the cost of every edge. A* looks at
those alone that a best-first search meets, which on a large graph whose edges are dear (Riemannian
lengths) is a fraction.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from trackvae.arrays import FloatArray, IntArray
from trackvae.geometry import Decoder
from training.geodesics.graph import Cost, Graph, GraphPath, trace

Bound: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A lower bound on the cost from points (N, D) to one goal (D,): (N,)."""


def latent_bound(points: Tensor, goal: Tensor) -> Tensor:
    """For Euclidean edges: the straight line in the latent space."""
    return torch.linalg.vector_norm(points - goal, dim=-1)


def observation_bound(decoder: Decoder) -> Bound:
    """For Riemannian edges: the straight line in the observation space."""

    def bound(points: Tensor, goal: Tensor) -> Tensor:
        with torch.no_grad():
            x = decoder(torch.cat([points, goal[None]])).flatten(1)
            return torch.linalg.vector_norm(x[:-1] - x[-1:], dim=-1)

    return bound


def parts(graph: Graph) -> IntArray:
    """Which connected part each node belongs to, (N,), the largest part being 0."""
    from scipy.sparse.csgraph import connected_components

    _, found = connected_components(graph.matrix(), directed=False)
    order = np.argsort(-np.bincount(found), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return np.asarray(rank[found], dtype=np.int64)


def part_of(graph: Graph, points: Tensor) -> IntArray:
    """The part of the node that is nearest to each of (M, D) points, (M,)."""
    nearest = torch.cdist(points.to(graph.nodes), graph.nodes).argmin(1)
    return parts(graph)[nearest.numpy()]


def why_no_path(graph: Graph, start: Tensor, end: Tensor) -> str:
    """One line on why a pair (D,), (D,) is not joined: which parts its ends lie in.

    :meth:`Graph.bridged` joins the parts.
    """
    loose = {
        name: nearest
        for name, point in (("start", start), ("goal", end))
        if (nearest := _loose(graph, point)) is not None
    }
    if loose:
        return "; ".join(
            f"the {name} is joined to no node: it is {nearest:.3g} from the nearest, and to none "
            "near it is there a way of finite length"
            for name, nearest in loose.items()
        )
    sizes = np.bincount(parts(graph))
    a, b = part_of(graph, torch.stack([start, end]))
    if a == b:
        return "the edges between start and goal are closed: their cost is infinite"
    return (
        f"the start lies in part {a + 1} of the graph ({sizes[a]} nodes), the goal in part {b + 1} "
        f"({sizes[b]} nodes); it has {len(sizes)} parts; take more neighbours or nodes"
    )


def _loose(graph: Graph, point: Tensor) -> float | None:
    """How far the nearest node is from a point (D,) that no edge of finite cost joins to any."""
    apart = torch.linalg.vector_norm(graph.nodes.double() - point.double(), dim=1)
    nearest = apart.topk(min(graph.neighbours, len(apart)), largest=False)
    ends = graph.nodes[nearest.indices]
    costs = graph.cost(point.to(ends).expand_as(ends), ends)
    return None if costs.isfinite().any() else float(nearest.values[0])


def distances(graph: Graph, sources: IntArray) -> FloatArray:
    """Cost of the shortest paths from S nodes to all: (S, N), infinity where there is none."""
    from scipy.sparse.csgraph import dijkstra

    return np.asarray(dijkstra(graph.matrix(), indices=np.asarray(sources)), dtype=np.float64)


def a_star(
    graph: Graph, start: int, end: int, bound: Bound, cost: Cost | None = None
) -> tuple[GraphPath | None, int]:
    """The shortest path between two nodes, looking at as few others as it can.

    Args:
        graph: its nodes and edges.
        start: a node.
        end: a node.
        bound: never above the true cost to the goal; the nearer to it, the fewer nodes are opened.
        cost: of the edges, taken when a node is opened; the graph's own weights where left out.

    Returns:
        The path, None where there is none; and how many nodes were opened.
    """
    matrix = graph.matrix()
    known = np.full(len(graph.nodes), np.inf)
    before = np.full(len(graph.nodes), -1, dtype=np.int64)
    ahead = bound(graph.nodes, graph.nodes[end]).numpy().astype(np.float64)
    known[start] = 0.0
    open_, closed = [(float(ahead[start]), start)], np.zeros(len(graph.nodes), dtype=bool)
    opened = 0
    while open_:
        _, node = heapq.heappop(open_)
        if closed[node]:
            continue
        closed[node], opened = True, opened + 1
        if node == end:
            nodes = trace(before, start, end)
            points = graph.nodes[torch.from_numpy(nodes)]
            return GraphPath(nodes, points, float(known[end])), opened
        entries = slice(matrix.indptr[node], matrix.indptr[node + 1])
        near, weights = matrix.indices[entries], matrix.data[entries]
        fresh = ~closed[near]
        near, weights = near[fresh].astype(np.int64), weights[fresh]
        if cost is not None and len(near):
            ends = graph.nodes[torch.from_numpy(near)]
            weights = cost(graph.nodes[node].expand_as(ends), ends).numpy().astype(np.float64)
        for other, weight in zip(near, known[node] + weights, strict=True):
            if weight < known[other]:
                known[other], before[other] = weight, node
                heapq.heappush(open_, (float(weight + ahead[other]), int(other)))
    return None, opened

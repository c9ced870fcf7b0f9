"""Shortest paths on a graph of latent points (thesis, section 3.4; N. Chen et al., 2019).

The continuous latent space is summarised by N nodes, each joined to its nearest ones; a shortest
path through them approximates a geodesic. What an edge costs is a function of its two ends: the
Euclidean distance (3.4), the Riemannian length (5.2.3), or any other (an obstacle's price, say).

The thesis names A* as the search; Dijkstra's algorithm finds the same optimum, without a heuristic,
from one start to all ends at once (scipy: 20 ms a start on 14,400 nodes of 12 neighbours).

A path on a graph turns at its nodes, so it is longer than the geodesic even where the space is
flat: :func:`floor` measures by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError, UsageError
from trackvae.geometry import Decoder, riemannian_length, straight_line

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Cost: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""What edges cost: their starts (E, D) and ends (E, D) to (E,), symmetric, 0 or more; infinity
takes an edge out."""

_TREE_DIMENSIONS = 16  # beyond, a k-d tree visits nearly every node: distances in blocks are faster
_BLOCK = 1024  # query points whose distances to all nodes are held at once
_EDGES = 8192  # that are given to a cost at once
_STARTS = 64  # whose distances to all nodes are held at once


def euclidean(start: Tensor, end: Tensor) -> Tensor:
    """The edges of section 3.4: length in the latent space."""
    return torch.linalg.vector_norm(end - start, dim=-1)


def riemannian(decoder: Decoder, pieces: int = 2) -> Cost:
    """The edges of section 5.2.3: length in the observation space of the straight edge.

    The sum of ``||f(z_{t+1}) - f(z_t)||``, which needs no Jacobian.

    Args:
        decoder: ``z (N, D) -> x (N, ...)``.
        pieces: into how many an edge is cut; edges are short where nodes are dense.
    """
    if pieces < 1:
        raise UsageError(f"edges cut into {pieces} pieces, expected 1 or more")

    def cost(start: Tensor, end: Tensor) -> Tensor:
        with torch.no_grad():
            return riemannian_length(decoder, straight_line(start, end, pieces + 1))

    return cost


@dataclass(frozen=True, slots=True, eq=False)
class GraphPath:
    """A shortest path.

    Attributes:
        nodes: (T,) indices, from start to end.
        points: (T, D) in the latent space.
        cost: the sum of its edges'.
    """

    nodes: IntArray
    points: Tensor
    cost: float


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Latent points and undirected edges between near ones.

    Attributes:
        nodes: (N, D).
        edges: (E, 2) indices, the smaller first, each pair once, in ascending order.
        weights: (E,), at least 0; infinity: no way.
        neighbours: k, also of points that are added.
        cost: that the weights come from.
    """

    nodes: Tensor
    edges: IntArray
    weights: FloatArray
    neighbours: int
    cost: Cost

    def reweighted(self, cost: Cost) -> Graph:
        """The same nodes and edges at another cost."""
        return replace(self, weights=_costs(cost, self.nodes, self.edges), cost=cost)

    def with_points(self, points: Tensor) -> Graph:
        """More nodes, (M, D): the last M of the result, each joined to its k nearest old ones.

        Edges between the old nodes stay as they are.
        """
        _check_points(points, self.nodes.shape[1])
        nodes = torch.cat([self.nodes, points.to(self.nodes)])
        first = len(self.nodes)
        nearest = _nearest(self.nodes, nodes[first:], self.neighbours)
        new = _undirected(np.arange(first, len(nodes)), nearest)
        return replace(self, nodes=nodes)._with_edges(new)

    def bridged(self) -> Graph:
        """The same graph with its parts joined, each to the rest by the shortest straight edge.

        Samples of separate clusters leave a graph in parts; a path then jumps where the nodes come
        nearest. A graph in one part comes back as it is.
        """
        from scipy.sparse.csgraph import connected_components

        graph = self
        while True:
            count, part = connected_components(graph.matrix(), directed=False)
            if count == 1:
                return graph
            inside = part == np.bincount(part).argmin()
            new = _shortest_link(graph.nodes, np.flatnonzero(inside), np.flatnonzero(~inside))
            graph = graph._with_edges(new)

    def _with_edges(self, new: IntArray) -> Graph:
        """Further edges (M, 2), their smaller end first."""
        edges = np.concatenate([self.edges, new])
        weights = np.concatenate([self.weights, _costs(self.cost, self.nodes, new)])
        order = np.lexsort((edges[:, 1], edges[:, 0]))
        return replace(self, edges=edges[order], weights=weights[order])

    def shortest_paths(
        self, starts: Sequence[int] | IntArray, ends: Sequence[int] | IntArray
    ) -> list[GraphPath | None]:
        """The shortest path of each pair of nodes; None where no path joins them.

        Args:
            starts: P indices of nodes.
            ends: P indices of nodes.
        """
        starts, ends = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
        if starts.shape != ends.shape or starts.ndim != 1:
            raise ValueError(f"starts {starts.shape} and ends {ends.shape}, expected one length")
        return self._paths(self.matrix(), starts, ends)

    def _paths(self, matrix: csr_array, starts: IntArray, ends: IntArray) -> list[GraphPath | None]:
        """Shortest paths along the entries of a matrix of (from, to) weights."""
        from scipy.sparse.csgraph import dijkstra

        found: list[GraphPath | None] = [None] * len(starts)
        sources = np.unique(starts)
        for block in np.array_split(sources, max(1, -(-len(sources) // _STARTS))):
            if len(block) == 0:
                continue
            distance, before = dijkstra(matrix, indices=block, return_predecessors=True)
            for pair in np.flatnonzero(np.isin(starts, block)):
                row = int(np.searchsorted(block, starts[pair]))
                cost = float(distance[row, ends[pair]])
                if np.isfinite(cost):
                    nodes = trace(before[row], int(starts[pair]), int(ends[pair]))
                    found[pair] = GraphPath(nodes, self.nodes[torch.from_numpy(nodes)], cost)
        return found

    def matrix(self, only_from: int | None = None, only_to: int | None = None) -> csr_array:
        """(N, N) CSR, rows from and columns to; explicit zeros are edges that cost nothing.

        Symmetric, but for the nodes from ``only_from`` on, which are never arrived at, and those
        from ``only_to`` on, which are never left.
        """
        from scipy.sparse import coo_array

        count = len(self.nodes)
        only_from = count if only_from is None else only_from
        only_to = count if only_to is None else only_to
        passable = np.isfinite(self.weights)
        i, j = self.edges[passable].T
        values = np.tile(self.weights[passable], 2)
        rows, columns = np.concatenate([i, j]), np.concatenate([j, i])
        open_ = ((columns < only_from) | (columns >= only_to)) & (rows < only_to)
        entries = (values[open_], (rows[open_], columns[open_]))
        return coo_array(entries, shape=(count, count)).tocsr()


def neighbour_graph(nodes: Tensor, neighbours: int, cost: Cost = euclidean) -> Graph:
    """Join each node to its k nearest ones in the latent space, by undirected edges.

    A node can so have more than k: those that have it among their own nearest.

    Args:
        nodes: (N, D), finite, N >= 2.
        neighbours: k; all other nodes where there are fewer.
        cost: of an edge.

    Raises:
        UsageError: k below 1.
        InputError: too few nodes, or nodes that are not finite.
    """
    if neighbours < 1:
        raise UsageError(f"{neighbours} neighbours, expected 1 or more")
    _check_points(nodes, nodes.shape[-1])
    if len(nodes) < 2:
        raise InputError(f"a graph of {len(nodes)} node(s), expected at least 2")
    nodes = nodes.detach()
    edges = _undirected(np.arange(len(nodes)), _nearest(nodes, nodes, neighbours + 1))
    return Graph(nodes, edges, _costs(cost, nodes, edges), neighbours, cost)


def interpolate(graph: Graph, start: Tensor, end: Tensor) -> list[GraphPath | None]:
    """Shortest paths between points that are no nodes: they are added, with k neighbours each.

    No path passes through an added point: what is found for one pair does not depend on which
    others are asked for, and data do not fill the gaps of a prior.

    Args:
        graph: stays as it is.
        start: (P, D).
        end: (P, D).

    Returns:
        A path each, end points included; None where the graph has none.
    """
    first, count = len(graph.nodes), len(start)
    whole = graph.with_points(torch.cat([start, end]))
    starts = np.arange(first, first + count)
    near = euclidean(start, end) <= _reach(graph, start)
    own = starts[near.numpy()]  # an end among its start's k nearest is joined to it as a node is
    whole = whole._with_edges(np.stack([own, own + count], axis=1))
    matrix = whole.matrix(only_from=first, only_to=first + count)
    return whole._paths(matrix, starts, starts + count)


def _reach(graph: Graph, points: Tensor) -> Tensor:
    """How far the k-th nearest node of each point is, (P,)."""
    last = _nearest(graph.nodes, points, graph.neighbours)[:, -1]
    return euclidean(points, graph.nodes[torch.from_numpy(last)])


def padded(paths: Sequence[GraphPath | None]) -> Tensor:
    """Paths as one tensor (P, T, D), shorter ones padded by repeating their last point.

    Raises:
        InputError: a pair that no path joins.
    """
    missing = sum(path is None for path in paths)
    if missing or not paths:
        raise InputError(
            f"{missing} of {len(paths)} pairs are not joined by the graph; take more neighbours"
        )
    points = [path.points for path in paths if path is not None]
    longest = max(map(len, points))
    return torch.stack([torch.cat([p, p[-1:].expand(longest - len(p), -1)]) for p in points])


def floor(graph: Graph, start: Tensor, end: Tensor) -> FloatArray:
    """What the graph alone takes from the length ratios of Tables 5.1 and 5.2, a value a pair.

    With the identity as metric a geodesic is the straight line; this is its length over that of the
    shortest path on the same graph with Euclidean edges. Uniform nodes in the plane: 0.967 with 12
    neighbours, 0.993 with 32. No method can be measured to be nearer to 1.

    Args:
        graph: nodes and edges; its own cost does not matter.
        start: (P, D).
        end: (P, D).

    Returns:
        (P,), at most 1; nan for a pair without a path, or of equal points.
    """
    paths = interpolate(graph.reweighted(euclidean), start, end)
    straight = euclidean(start, end).numpy().astype(np.float64)
    length = np.array([np.nan if path is None else path.cost for path in paths])
    return np.divide(straight, length, out=np.full(len(length), np.nan), where=length > 0)


def resample(curve: Tensor, points: int, lengths: Tensor | None = None) -> Tensor:
    """A polygon cut at equal arc length.

    Args:
        curve: (T, D), T >= 2; a repeated point adds nothing.
        points: of the result, at least 2, the two ends included.
        lengths: (T - 1,) of its segments, e.g. :func:`trackvae.geometry.segment_lengths` for equal
            Riemannian arc length; Euclidean ones where left out.

    Returns:
        (points, D); the one point over and over where the curve has no length.
    """
    if points < 2:
        raise UsageError(f"a curve of {points} point(s), expected at least 2")
    lengths = euclidean(curve[:-1], curve[1:]) if lengths is None else lengths
    along = torch.nn.functional.pad(lengths.to(curve).cumsum(0), (1, 0))  # (T,)
    wanted = torch.linspace(0, 1, points, dtype=curve.dtype) * along[-1]
    after = torch.searchsorted(along, wanted).clamp(1, len(curve) - 1)
    low, high = along[after - 1], along[after]
    fraction = torch.where(high > low, (wanted - low) / (high - low), 0.0).clamp(0, 1)
    return torch.lerp(curve[after - 1], curve[after], fraction[:, None])


def smoothness_factor(
    movement: FloatArray | npt.NDArray[np.float32],
) -> FloatArray:
    """Root mean square of the second-order finite difference along a path (section 3.5.2).

    Smaller is smoother. It is of one step: compare movements of equally many frames.

    Args:
        movement: (..., T, J), T frames of J joints, T >= 3.

    Returns:
        (..., J), in the joints' unit.
    """
    if movement.ndim < 2 or movement.shape[-2] < 3:
        raise ValueError(f"movement has shape {movement.shape}, expected (..., T >= 3, J)")
    second = np.diff(movement.astype(np.float64), n=2, axis=-2)
    return np.sqrt((second**2).mean(axis=-2))


def _check_points(points: Tensor, dimensions: int) -> None:
    if points.ndim != 2 or points.shape[1] != dimensions:
        raise ValueError(f"points have shape {tuple(points.shape)}, expected (N, {dimensions})")
    if not torch.isfinite(points).all():
        raise InputError("latent points hold NaN or infinity")


def _nearest(nodes: Tensor, queries: Tensor, count: int) -> IntArray:
    """Indices of the nearest nodes to each query, (Q, min(count, N)), a query itself included."""
    count = min(count, len(nodes))
    if nodes.shape[1] <= _TREE_DIMENSIONS:
        from scipy.spatial import cKDTree

        found = cKDTree(nodes.numpy()).query(queries.numpy(), k=count)[1]
        return np.asarray(found, dtype=np.int64).reshape(len(queries), count)
    blocks = [
        torch.cdist(block, nodes).topk(count, largest=False).indices
        for block in torch.split(queries, _BLOCK)
    ]
    return torch.cat(blocks).numpy()


def _shortest_link(nodes: Tensor, inside: IntArray, outside: IntArray) -> IntArray:
    """The nearest two nodes of two sets of indices, (1, 2), the smaller index first."""
    best, link = np.inf, (0, 0)
    for block in np.array_split(inside, max(1, -(-len(inside) // _BLOCK))):
        apart = torch.cdist(nodes[torch.from_numpy(block)], nodes[torch.from_numpy(outside)])
        row, column = np.unravel_index(int(apart.argmin()), apart.shape)
        if float(apart[row, column]) < best:
            best, link = float(apart[row, column]), (int(block[row]), int(outside[column]))
    return np.array([sorted(link)], dtype=np.int64)


def _undirected(sources: IntArray, nearest: IntArray) -> IntArray:
    """Pairs (E, 2) from (Q,) nodes and their (Q, K) nearest: smaller first, once, no loops."""
    i, j = np.repeat(sources, nearest.shape[1]), nearest.ravel()
    pairs = np.stack([np.minimum(i, j), np.maximum(i, j)], axis=1)[i != j]
    return np.unique(pairs, axis=0)


def _costs(cost: Cost, nodes: Tensor, edges: IntArray) -> FloatArray:
    """The cost of each edge, (E,), in blocks."""
    blocks = np.array_split(edges, max(1, -(-len(edges) // _EDGES)))
    parts = [
        cost(nodes[torch.from_numpy(b[:, 0])], nodes[torch.from_numpy(b[:, 1])]) for b in blocks
    ]
    weights = torch.cat(parts).detach().numpy().astype(np.float64)
    if np.isnan(weights).any() or (weights < 0).any():
        raise InputError("an edge's cost is negative or NaN; shortest paths need 0 or more")
    return weights


def trace(before: IntArray, start: int, end: int) -> IntArray:
    """Nodes from start to end along predecessors."""
    nodes = [end]
    while nodes[-1] != start:
        nodes.append(int(before[nodes[-1]]))
    return np.array(nodes[::-1], dtype=np.int64)

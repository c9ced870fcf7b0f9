"""Shortest paths in a latent space: on a graph of samples (thesis, section 3.4)."""

from training.geodesics.graph import (
    Cost,
    Graph,
    GraphPath,
    euclidean,
    floor,
    interpolate,
    neighbour_graph,
    padded,
    resample,
    riemannian,
    smoothness_factor,
)

__all__ = [
    "Cost",
    "Graph",
    "GraphPath",
    "euclidean",
    "floor",
    "interpolate",
    "neighbour_graph",
    "padded",
    "resample",
    "riemannian",
    "smoothness_factor",
]

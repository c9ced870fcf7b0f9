"""Shortest paths in a latent space: on graphs (thesis, 3.4) and continuous ones (5.1)."""

from training.geodesics.curves import Geodesics, Outcome, bezier_curves, constant_speed
from training.geodesics.energy import smoothed_edges, smoothed_length, smoothing_for
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
from training.geodesics.neural import Neural
from training.geodesics.relax import Chain, Spline
from training.geodesics.search import a_star, distances, latent_bound, observation_bound, parts
from training.geodesics.solve import Path, Solver, bezier, either, on_graph, solve, straight
from training.geodesics.uncertainty import (
    Uncertainty,
    far_sigma,
    fit_uncertainty,
    with_variance,
)

__all__ = [
    "Chain",
    "Cost",
    "Geodesics",
    "Graph",
    "GraphPath",
    "Neural",
    "Outcome",
    "Path",
    "Solver",
    "Spline",
    "Uncertainty",
    "a_star",
    "bezier",
    "bezier_curves",
    "constant_speed",
    "distances",
    "either",
    "euclidean",
    "far_sigma",
    "fit_uncertainty",
    "floor",
    "interpolate",
    "latent_bound",
    "neighbour_graph",
    "observation_bound",
    "on_graph",
    "padded",
    "parts",
    "resample",
    "riemannian",
    "smoothed_edges",
    "smoothed_length",
    "smoothing_for",
    "smoothness_factor",
    "solve",
    "straight",
    "with_variance",
]

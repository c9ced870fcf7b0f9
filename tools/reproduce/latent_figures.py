"""Pictures of two-dimensional latent spaces: magnification, data, lines, graphs (5.2.3, 3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.flatness import PERCENTILES, bounding_box, encoded, uniform_nodes
from trackvae.files import atomic_path
from trackvae.geometry import metric_tensor, scaling_factor, straight_line
from training.geodesics import interpolate, neighbour_graph, riemannian

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from tools.reproduce.flatness import Protocol
    from trackvae.vae import VAE
    from training.data import DataSet
    from training.geodesics import Graph

_GRID = 90  # cells on each side of a picture of the magnification factor
_LARGE = 290_000  # bytes
_RAYS = 36  # that equidistance lines are drawn through
_SHOWN = 3000  # points of a scatter at most, for files that stay small
BLUE, RED, GREY = "#1f77b4", "#d62728", "#888888"


def new_figure(
    rows: int, columns: int, size: tuple[float, float], layout: str = "constrained"
) -> tuple[Any, Any]:
    """A figure without a screen, and its axes (rows, columns)."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, layout=layout, squeeze=False, dpi=130)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole; of 256 colours where it would else be a large file."""
    from io import BytesIO

    import matplotlib.pyplot as plt
    from PIL import Image

    drawn, packed = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=130)
    plt.close(figure)
    image = Image.open(drawn).convert("RGB")
    image.save(packed, format="png", optimize=True)
    if packed.tell() > _LARGE:
        # Median cut would merge the colours of thin lines; this keeps every distinct one.
        image = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with atomic_path(path) as temporary:
        image.save(temporary, format="png", optimize=True)


# --- magnification factor


def magnification_grid(model: VAE, low: Tensor, high: Tensor) -> np.ndarray[Any, Any]:
    """MF on a grid over a box: (_GRID, _GRID), first by the second latent dimension."""
    import torch

    axes = [torch.linspace(float(a), float(b), _GRID) for a, b in zip(low, high, strict=True)]
    y, x = torch.meshgrid(axes[1], axes[0], indexing="ij")
    return magnification_at(model, torch.stack([x.ravel(), y.ravel()], dim=1)).reshape(_GRID, _GRID)


def magnification_at(model: VAE, z: Tensor) -> np.ndarray[Any, Any]:
    """MF at points (N, D): (N,)."""
    import torch

    from trackvae.geometry import magnification_factor, metric_tensor

    with torch.no_grad():
        return magnification_factor(metric_tensor(model.decode, z).double()).numpy()


def draw_magnification(
    ax: Axes, grid: np.ndarray[Any, Any], low: Tensor, high: Tensor, top: float
) -> Any:
    """The grid in grey, from 0 to ``top``; what exceeds it stays at the end of the scale."""
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap

    greys = ListedColormap(mpl.colormaps["Greys"](np.linspace(0, 0.65, 256)))  # lines stay visible
    box = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return ax.imshow(grid, origin="lower", extent=box, cmap=greys, vmin=0, vmax=top, aspect="equal")


def common_top(grid: np.ndarray[Any, Any], mean: float, reference_mean: float) -> float:
    """The upper end of the colours by section 5.2.3.1.

    ``MF_max = max(MF_reference(grid)) mean(MF(data)) / mean(MF_reference(data))``, where the
    reference is the VHP-VAE: equal greys are then equal multiples of the mean at the data.

    Args:
        grid: of the reference.
        mean: over encoded training data, of the model that is drawn.
        reference_mean: the same of the reference.
    """
    return float(grid.max()) * mean / reference_mean


# --- data, lines, geodesics


def label_names(data: DataSet) -> tuple[str, ...]:
    """Of the data, or the labels themselves where they have no names."""
    return data.label_names or tuple(str(n) for n in range(int(data.labels["train"].max()) + 1))


def draw_points(ax: Axes, z: Tensor, labels: np.ndarray[Any, Any], names: Sequence[str]) -> None:
    """Encoded data, coloured by label."""
    import matplotlib as mpl

    colours = mpl.colormaps["tab10"]
    rng = np.random.default_rng(0)
    shown = rng.choice(len(z), min(_SHOWN, len(z)), replace=False)
    points, kinds = z.numpy()[shown], labels[shown]
    for label, name in enumerate(names):
        of_it = points[kinds == label]
        x, y = of_it.T
        ax.scatter(x, y, s=3, color=colours(label % 10), label=name, linewidths=0, alpha=0.7)


def draw_equidistance(ax: Axes, model: VAE, centre: Tensor, distances: Sequence[float]) -> None:
    """Lines of equal Riemannian distance from a point (figures 5.14, 5.19)."""
    import torch

    from trackvae.geometry import circle_directions, equidistance_lines, geodesic_rays

    # Not under no_grad, where silu has no second derivative by forward mode.
    rays = geodesic_rays(
        model.decode, centre, circle_directions(_RAYS), 1.02 * max(distances), steps=40
    ).detach()
    with torch.no_grad():
        lines = equidistance_lines(model.decode, rays, torch.tensor(distances))
    for line in torch.cat([lines, lines[:, :1]], dim=1).numpy():
        ax.plot(*line.T, color="black", linewidth=0.7)
    ax.plot(*centre.numpy(), marker="+", color="black", markersize=5)


def draw_curves(
    ax: Axes, curves: Sequence[Tensor], colours: Sequence[str], style: str = "-"
) -> None:
    """Curves (T, 2), in the latent space."""
    for curve, colour in zip(curves, colours, strict=True):
        ax.plot(*curve.numpy().T, style, color=colour, linewidth=1.4)


def draw_graph(ax: Axes, graph: Graph) -> None:
    """Edges, the darker the shorter (figure 3.6: the bluescale is the edge's weight)."""
    from matplotlib.collections import LineCollection

    ends = graph.nodes.numpy()[graph.edges]  # (E, 2, 2)
    order = np.argsort(-graph.weights)
    lines = LineCollection(list(ends[order]), cmap="Blues_r", linewidths=0.4)
    lines.set_array(graph.weights[order])
    lines.set_clim(0, 1.3 * float(np.quantile(graph.weights, 0.99)))
    ax.add_collection(lines)
    ax.autoscale()


def square(z: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of the square around the bounding box of points (N, 2)."""
    low, high = bounding_box(z)
    centre, half = (low + high) / 2, (high - low).max() / 2
    return centre - half, centre + half


def limits(ax: Axes, z: Tensor) -> None:
    """Show the square around points (N, 2), in equal units."""
    low, high = square(z)
    ax.set_xlim(float(low[0]), float(high[0]))
    ax.set_ylim(float(low[1]), float(high[1]))
    ax.set_aspect("equal")


def latent_figure(
    path: Path,
    models: Mapping[str, VAE],
    scale: tuple[VAE, VAE],
    data: DataSet,
    ends: Mapping[str, tuple[Tensor, Tensor]],
    protocol: Protocol,
) -> None:
    """Figures 5.14, 5.15 and 5.19: one latent space beside the other, on a common scale.

    Args:
        path: of the PNG.
        models: to draw, by name.
        scale: the flat model, whose size the equidistance lines are drawn by, and the plain one,
            the reference of the colours.
        data: with labels.
        ends: of the straight lines and geodesics, for each model (M, 2) and (M, 2).
        protocol: of the graph.
    """
    spaces = {name: encoded(model, data.values("train")) for name, model in models.items()}
    figure, axes = new_figure(1, len(models), (5.6 * len(models), 5.6))
    flat, reference = scale
    grid = magnification_grid(reference, *square(encoded(reference, data.values("train"))))
    reference_mean = float(magnification_at(reference, _some(reference, data)).mean())
    distances = _equidistances(flat, data)
    for ax, (name, model) in zip(axes[0], models.items(), strict=True):
        z = spaces[name]
        mean = float(magnification_at(model, _some(model, data)).mean())
        low, high = square(z)
        top = common_top(grid, mean, reference_mean)
        image = draw_magnification(ax, magnification_grid(model, low, high), low, high, top)
        figure.colorbar(image, ax=ax, shrink=0.75, extend="max").ax.tick_params(labelsize=7)
        draw_points(ax, z, data.labels["train"], label_names(data))
        _draw_geodesics(ax, model, uniform_nodes(z, protocol.nodes, 0), ends[name], protocol)
        for centre in ends[name][0]:
            draw_equidistance(ax, model, centre, distances)
        limits(ax, z)
        ax.set_title(f"{name}: magnification factor (grey)", fontsize=9)
        ax.tick_params(labelsize=7)
    legend_below(figure, axes[0, 0], _line_kinds())
    save_figure(figure, path)


def _draw_geodesics(
    ax: Axes, model: VAE, nodes: Tensor, ends: tuple[Tensor, Tensor], protocol: Protocol
) -> None:
    """Straight lines dashed, geodesics on the graph beside them."""
    graph = neighbour_graph(nodes, protocol.neighbours[0], riemannian(model.decode))
    for found, start, end in zip(interpolate(graph, *ends), *ends, strict=True):
        draw_curves(ax, [straight_line(start, end, 2)], ["black"], "--")
        if found is not None:
            draw_curves(ax, [found.points], [RED])


def legend_below(figure: Figure, ax: Axes, more: Mapping[str, Any] | None = None) -> None:
    """The labels of one panel, and further lines by label, once below all panels."""
    from matplotlib.collections import PathCollection

    handles, labels = ax.get_legend_handles_labels()
    more = more or {}
    legend = figure.legend(
        [*handles, *more.values()],
        [*labels, *more],
        loc="outside lower center",
        ncols=7,
        fontsize=8,
        frameon=False,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([25])


def _line_kinds() -> dict[str, Any]:
    from matplotlib.lines import Line2D

    return {
        "straight line": Line2D([], [], color="black", linestyle="--"),
        "geodesic (graph)": Line2D([], [], color=RED),
        "equal Riemannian distance": Line2D([], [], color="black", linewidth=0.7),
    }


def _some(model: VAE, data: DataSet) -> Tensor:
    """Encoded training data, at most _SHOWN."""
    z = encoded(model, data.values("train"))
    return z[:: max(1, len(z) // _SHOWN)]


def _equidistances(flat: VAE, data: DataSet) -> list[float]:
    """Riemannian distances of the lines: 2, 4 and 6% of the flat latent space's diagonal."""
    import torch

    z = _some(flat, data)
    low, high = bounding_box(z)
    with torch.no_grad():
        c = scaling_factor(metric_tensor(flat.decode, z)).sqrt()
    whole = float(c * torch.linalg.vector_norm(high - low))
    return [share * whole for share in (0.02, 0.04, 0.06)]


def most(ax: Axes, nodes: Tensor, curves: Sequence[Tensor]) -> None:
    """Show all curves and all but the farthest 1% of nodes on each side, in equal units."""
    import torch

    near = [torch.quantile(nodes, q, dim=0)[None] for q in (0.01, 0.99)]
    limits(ax, torch.cat([*near, *curves]))


# --- statistics


def box_figure(
    path: Path, measured: Mapping[str, Mapping[str, Any]], places: Mapping[str, str]
) -> None:
    """Condition number and normalised MF as box plots (figures 5.13 and 5.18).

    Args:
        path: of the PNG.
        measured: of each method, the results of its first seed.
        places: where the metric was measured, and how a picture says so.
    """
    figure, axes = new_figure(len(places), 2, (9, 1.1 + 0.42 * len(measured) * len(places)))
    for across, (place, where) in zip(axes, places.items(), strict=True):
        for ax, figure_name, title in zip(
            across,
            ("condition", "magnification"),
            ("condition number", "normalised MF"),
            strict=True,
        ):
            boxes = [_box(name, m[place][figure_name]) for name, m in measured.items()]
            ax.bxp(
                boxes,
                orientation="horizontal",
                widths=0.6,
                showfliers=False,
                medianprops={"color": RED},
            )
            ax.axvline(1, color=GREY, linewidth=0.8, linestyle="--")
            ax.invert_yaxis()
            ax.set_title(f"{title}, {where}", fontsize=9)
            ax.tick_params(labelsize=8)
            _scale(ax)
        across[1].set_yticklabels([])
    save_figure(figure, path)


def _scale(ax: Axes) -> None:
    """Logarithmic where the boxes span more than a factor of 5, with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_xlim()
    if high < 5 * max(low, 0.2):
        return
    ax.set_xscale("log")
    few = high < 300 * max(low, 1e-9)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _box(name: str, percentiles: Sequence[float]) -> dict[str, Any]:
    """One box as matplotlib takes it: whiskers at 5% and 95%."""
    keys = ("whislo", "q1", "med", "q3", "whishi")
    assert len(keys) == len(PERCENTILES)
    return {"label": name, **dict(zip(keys, percentiles, strict=True)), "fliers": []}

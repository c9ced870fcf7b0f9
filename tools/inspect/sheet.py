"""Pictures of a model: rows of images or curves, its latent space, the use of its dimensions.

Each function draws one PNG, without a window. Images come as ``(N, C, H, W)`` in [0, 1], colour in
OpenCV's order; vectors as ``(N, D)``, which are drawn as curves over their dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray
from trackvae.files import atomic_path, write_errors

_DPI = 130
_TILE = 64  # pixels of an image's longer side on the sheet, at least
_GAP = 3  # pixels between tiles
_WIDEST = 1400  # pixels of a sheet
_GRID = 61  # points a side of the magnification factor
_BEYOND = 0.15  # of the data's range, drawn around it
_LEGEND = 12  # labels in a legend at most; more are told by a colour bar
_BLUE, _ORANGE, _GREY = "#2a6fb0", "#d9730d", "#9a9a9a"


def draw_rows(path: Path, rows: Sequence[tuple[str, npt.NDArray[Any]]]) -> None:
    """Rows of images, each with a name, all with as many images of one size."""
    scale = _scale(rows[0][1].shape)
    lines = [_line_of(images, scale) for _, images in rows]
    mosaic = np.concatenate([part for line in lines for part in (line, _gap(line))][:-1])
    high, wide = mosaic.shape[:2]
    margin = 0.11 * max((len(name) for name, _ in rows), default=0)  # inches
    with _figure(path, (wide / _DPI + margin + 0.2, high / _DPI + 0.2)) as (_, axes):
        axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        step = high / len(rows)
        axes.set_yticks([step * (n + 0.5) for n in range(len(rows))], [name for name, _ in rows])
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def draw_curves(
    path: Path, panels: Sequence[Sequence[FloatArray]], names: Sequence[str], columns: int = 4
) -> None:
    """Small panels of curves over the dimensions; ``names`` are those of a panel's curves."""
    count = len(panels)
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    size = (7.2, 3.2) if count == 1 else (2.6 * columns, 1.6 * lines + 0.4)
    with _figure(path, size, lines, columns) as (figure, grid):
        for place, axes in enumerate(np.atleast_1d(grid).ravel()):
            if place >= count:
                axes.set_axis_off()
                continue
            colours = _colours(len(panels[place]))
            for curve, colour, name in zip(panels[place], colours, names, strict=True):
                axes.plot(curve, color=colour, linewidth=1.1, label=name)
            axes.tick_params(labelsize=7)
            if place // columns == lines - 1:
                axes.set_xlabel("dimension of x", fontsize=8)
        if any(names):
            handles, texts = np.atleast_1d(grid).ravel()[0].get_legend_handles_labels()
            figure.legend(handles, texts, loc="outside upper right", ncols=len(names), fontsize=8)


def draw_latent(
    path: Path,
    points: FloatArray,
    axis_names: Sequence[str],
    labels: npt.NDArray[Any] | None,
    label_names: Sequence[str] = (),
    background: Callable[[FloatArray], FloatArray] | None = None,
) -> None:
    """Data in two latent dimensions, or a histogram in one.

    Args:
        path: PNG.
        points: (N, 2) or (N, 1).
        axis_names: of the dimensions.
        labels: (N,) whole numbers, or angles in radians; None: one colour.
        label_names: what the numbers stand for.
        background: (M, 2) to (M,), the normalised magnification factor.
    """
    with _figure(path, (7.2, 5.6)) as (figure, axes):
        axes.set_xlabel(axis_names[0])
        if points.shape[1] == 1:
            axes.hist(points[:, 0], bins=60, color=_BLUE)
            axes.set_ylabel("observations")
            return
        axes.set_ylabel(axis_names[1])
        if background is not None:
            _draw_background(figure, axes, points, background)
        _draw_points(figure, axes, points, labels, label_names)
        axes.set_aspect("equal", adjustable="box")


def draw_information(path: Path, information: FloatArray, active: npt.NDArray[np.bool_]) -> None:
    """Nats that each latent dimension carries, the largest first; unused ones in grey."""
    order = np.argsort(-information, kind="stable")
    many = len(order) > 32
    with _figure(path, (min(7.2, 2.4 + 0.25 * len(order)), 2.8)) as (_, axes):
        colours = np.where(active[order], _BLUE, _GREY)
        axes.bar(range(len(order)), information[order], color=colours)
        axes.set_ylabel("nats")
        axes.set_xlabel("latent dimension")
        axes.set_xticks([] if many else range(len(order)), [] if many else [str(n) for n in order])
        axes.spines[["top", "right"]].set_visible(False)


# --- parts


@contextmanager
def _figure(
    path: Path, size: tuple[float, float], rows: int = 1, columns: int = 1
) -> Iterator[tuple[Any, Any]]:
    """A figure that is written when the block ends."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns)
    yield figure, axes
    with atomic_path(path) as temporary, write_errors(path):
        figure.savefig(temporary, bbox_inches="tight", pad_inches=0.08)


def _scale(shape: tuple[int, ...]) -> int:
    """How many pixels of the sheet are one of an image."""
    count, _, high, wide = shape
    wanted = max(1, _TILE // max(high, wide))
    return max(1, min(wanted, _WIDEST // (count * wide + 1)))


def _line_of(images: npt.NDArray[Any], scale: int) -> FloatArray:
    """(K, C, H, W) side by side: (H', W', 3) RGB, or (H', W') grey."""
    tiles = np.kron(np.clip(images, 0, 1), np.ones((1, 1, scale, scale)))
    tiles = tiles[:, ::-1].transpose(0, 2, 3, 1)  # BGR to RGB; one channel stays
    parts = [
        part
        for tile in tiles
        for part in (tile, np.ones((tile.shape[0], _GAP, 1)) + 0 * tile[:, :1])
    ]
    line = np.concatenate(parts[:-1], axis=1)
    return line if line.shape[2] == 3 else line[:, :, 0]


def _gap(line: FloatArray) -> FloatArray:
    return np.ones((_GAP, *line.shape[1:]))


def _colours(count: int) -> list[Any]:
    """Two that can be told apart by anybody; more of them from dark to light, in order."""
    if count <= 2:
        return [_BLUE, _ORANGE][:count]
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * n / (count - 1)) for n in range(count)]


def _draw_background(
    figure: Any, axes: Any, points: FloatArray, background: Callable[[FloatArray], FloatArray]
) -> None:
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _BEYOND * np.maximum(high - low, 1e-9)
    x, y = (
        np.linspace(low[axis] - margin[axis], high[axis] + margin[axis], _GRID) for axis in (0, 1)
    )
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    factor = background(places).reshape(_GRID, _GRID)
    levels = np.log10(np.maximum(factor, 1e-6))
    shown = axes.pcolormesh(
        x, y, levels, cmap="Greys", shading="nearest", vmin=-1.5, vmax=1.5, rasterized=True
    )
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, extend="both")
    bar.set_label("log10 of the magnification factor over its mean at the data")


def _draw_points(
    figure: Any,
    axes: Any,
    points: FloatArray,
    labels: npt.NDArray[Any] | None,
    label_names: Sequence[str],
) -> None:
    """Coloured by label: a legend for a few, a colour bar for many or for angles."""
    style: dict[str, Any] = {"s": 7, "linewidths": 0}
    x, y = points.T
    if labels is None:
        axes.scatter(x, y, color=_BLUE, **style)
        return
    kinds = np.unique(labels)
    if labels.dtype.kind in "iub" and len(kinds) <= _LEGEND:
        from matplotlib import colormaps

        for place, kind in enumerate(kinds):
            of = labels == kind
            name = label_names[int(kind)] if 0 <= int(kind) < len(label_names) else str(kind)
            colour = colormaps["tab20"](place * 2 % 20 + place // 10)
            axes.scatter(x[of], y[of], color=colour, label=name, **style)
        axes.legend(markerscale=2.5, fontsize=8, loc="best", framealpha=0.8)
        return
    angles = labels.dtype.kind == "f"
    shown = axes.scatter(x, y, c=labels, cmap="hsv" if angles else "turbo", **style)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("label (radians)" if angles else "label (number)")

"""Pictures of state-space models: states, courses of beta, film strips (figures 4.1 to 4.14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tools.reproduce.experiment import Context
from tools.reproduce.latent_figures import BLUE, GREY, RED, new_figure, save_figure
from tools.reproduce.state_space_measure import GIVEN, start_state
from tools.reproduce.state_space_training import HISTORY, Run, load_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from training.data.sequences import SequenceSet
    from training.dssm.model import StateSpaceModel

_SHOWN = 150  # sequences of a scatter: 2,250 points
_STRIPS = 3  # sequences of a film strip
_SEED = 11  # of what is generated
Array = npt.NDArray[Any]

# the figures of single models, by the name of the row
_OWN = {
    "VHP-EKVAE (CO)": "4.6",
    "VHP-EKVAE, K = 16 (CO)": "4.6-k16",
    "EKVAE (CO)": "4.7",
    "EKVAE (annealing)": "4.8",
    "VHP-DVBS (CO)": "4.9",
    "DVBS (CO)": "4.10",
    "DVBS (annealing)": "4.11",
    "VHP-DKS (CO)": "4.12",
    "DKS (CO)": "4.13",
    "DKS (annealing)": "4.14",
}


def draw(
    context: Context,
    methods: Mapping[str, tuple[Run, Sequence[Mapping[str, Any]]]],
    data: SequenceSet,
) -> None:
    """All figures of the table, of each method's run that predicts the validation part best."""
    models: dict[str, StateSpaceModel] = {}
    folders: dict[str, Path] = {}
    for name, (run, found) in methods.items():
        sound = [one for one in found if "mse" in one]
        if sound:
            best = min(sound, key=lambda one: float(one["validation_mse"]))
            folders[name] = context.work / best["folder"]
            models[name] = load_model(folders[name], run)
    film = {name: films(model, data) for name, model in models.items()}
    for name, number in _OWN.items():
        if name in models:
            path = context.figures / f"figure-{number}.png"
            model_figure(path, name, models[name], film[name], data)
    shown = [name for name in _OWN if name in models]
    if shown:
        prediction_figure(context.figures / "figure-4.5.png", {n: film[n] for n in shown})
    own = [n for n in ("VHP-DKS (CO)", "DKS (CO)", "DKS (annealing)") if n in models]
    if own:
        states_figure(context.figures / "figure-4.2.png", {n: models[n] for n in own}, data)
        generated_figure(context.figures / "figure-4.3.png", {n: film[n] for n in own})
    for name in ("VHP-DKS (CO)", "VHP-EKVAE (CO)"):
        if name in folders:
            suffix = "" if "DKS" in name else "-ekvae"
            with np.load(folders[name] / HISTORY) as file:
                course_figure(context.figures / f"figure-4.1{suffix}.png", name, dict(file), data)


# --- what is drawn


def films(model: StateSpaceModel, data: SequenceSet) -> dict[str, Array]:
    """Film strips of the first test sequences, ``(S, T, *event)`` each.

    ``observed``; ``reconstructed`` from smoothed means; ``one step`` predicted from the smoothed
    state before; ``predicted`` from z_1 given the first observations; ``generated`` from p(z_1).
    """
    import torch

    from training.dssm.batch import SequenceBatch

    held = SequenceBatch.of(data.test.take(slice(_STRIPS)))
    with torch.no_grad():
        states = model.smooth(held)
        z = states.mean
        ahead = [z[:, 0]]
        for t in range(held.steps - 1):
            before, memory = states.at(t)
            ahead.append(model.step(before, held.controls[:, t], memory)[0].mean)
        first, memory = start_state(model.smooth(held.first(GIVEN)), 0, sampled=True)
        path = model.predict(first, held.controls, memory=memory)
        generated, _ = model.generate(held.controls, torch.Generator().manual_seed(_SEED))
        found = {
            "observed": held.observations,
            "reconstructed": model.decode(z),
            "one step": model.decode(torch.stack(ahead, dim=1)),
            "predicted": model.decode(path),
            "generated": generated,
        }
    return {name: value.numpy() for name, value in found.items()}


def _states(model: StateSpaceModel, data: SequenceSet) -> tuple[Array, Array]:
    """Smoothed means of test sequences, and states generated under their controls, ``(N, D_z)``."""
    import torch

    from training.dssm.batch import SequenceBatch

    held = SequenceBatch.of(data.test.take(slice(_SHOWN)))
    with torch.no_grad():
        z = model.smooth(held).mean
        _, drawn = model.generate(held.controls, torch.Generator().manual_seed(_SEED))
    return z.flatten(0, 1).numpy(), drawn.flatten(0, 1).numpy()


def _truth(data: SequenceSet) -> tuple[Array, Array]:
    states = data.test.states[:_SHOWN].reshape(-1, data.test.states.shape[-1])
    return np.mod(states[:, 0], 2 * np.pi), states[:, 1]


# --- pictures


def model_figure(
    path: Path, name: str, model: StateSpaceModel, film: Mapping[str, Array], data: SequenceSet
) -> None:
    """States by angle and by velocity, generated ones, and film strips below (4.6 to 4.14)."""
    figure = _figure((9.5, 6.2))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.0, 1.0))
    _states_row(upper, model, data)
    kinds = list(film)
    axes = lower.subplots(len(kinds), 1)
    for ax, kind in zip(axes, kinds, strict=True):
        _strip(ax, film[kind][0], kind)
    figure.suptitle(name, fontsize=10)
    save_figure(figure, path)


def states_figure(path: Path, models: Mapping[str, StateSpaceModel], data: SequenceSet) -> None:
    """Inferred states by angle and velocity, and generated ones, one model a row (4.2)."""
    figure = _figure((9.5, 3.2 * len(models)))
    rows = figure.subfigures(len(models), 1, squeeze=False)[:, 0]
    for part, (name, model) in zip(rows, models.items(), strict=True):
        _states_row(part, model, data)
        part.suptitle(name, fontsize=9)
    save_figure(figure, path)


def generated_figure(path: Path, film: Mapping[str, Mapping[str, Array]]) -> None:
    """Three generated sequences of each model (4.3)."""
    figure, axes = new_figure(_STRIPS * len(film), 1, (8.0, 0.62 * _STRIPS * len(film)))
    for place, (name, strips) in enumerate(film.items()):
        for number in range(_STRIPS):
            ax = axes[place * _STRIPS + number, 0]
            _strip(ax, strips["generated"][number], f"{name}, {number + 1}")
    save_figure(figure, path)


def prediction_figure(path: Path, film: Mapping[str, Mapping[str, Array]]) -> None:
    """One test sequence as every model predicts it (4.5)."""
    figure, axes = new_figure(len(film) + 1, 1, (8.0, 0.62 * (len(film) + 1)))
    _strip(axes[0, 0], next(iter(film.values()))["observed"][0], "observed")
    for ax, (name, strips) in zip(axes[1:, 0], film.items(), strict=True):
        _strip(ax, strips["predicted"][0], name)
    save_figure(figure, path)


def course_figure(path: Path, name: str, history: Mapping[str, Array], data: SequenceSet) -> None:
    """States at selected steps, and beta beside the error (4.1)."""
    pictures = sorted(
        (int(key.split("_")[1]), value) for key, value in history.items() if key != "course"
    )
    figure = _figure((9.5, 5.2))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.2, 1.0))
    angle, _ = _truth(data)
    points = [
        (value.reshape(-1, value.shape[-1]), angle[: value.shape[0] * value.shape[1]], f"step {at}")
        for at, value in pictures
    ]
    axes, drawn = zip(*_scatters(upper, points), strict=True)
    _colour_bar(upper, drawn[-1], list(axes), "angle", location="right", shrink=0.5)
    ax = lower.subplots()
    course = history["course"]
    ax.plot(course[:, 0], course[:, 1], color=BLUE)
    # beta falls and rises within the first steps of many
    ax.set(xlabel="step (dashed: pictured above)", ylabel="beta", xscale="log", yscale="log")
    for at, _ in pictures:
        ax.axvline(at, color=GREY, lw=0.8, ls="--")
    ax.yaxis.label.set_color(BLUE)
    beside = ax.twinx()
    beside.plot(course[:, 0], course[:, 2], color=RED, lw=0.8)
    beside.set(ylabel="mean squared error", yscale="log")
    beside.yaxis.label.set_color(RED)
    figure.suptitle(name, fontsize=10)
    save_figure(figure, path)


def _figure(size: tuple[float, float]) -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="constrained", dpi=130)


def _states_row(part: Any, model: StateSpaceModel, data: SequenceSet) -> None:
    """Inferred states by angle and by velocity, and generated ones, within the same limits."""
    z, drawn = _states(model, data)
    both = np.concatenate([z, drawn])
    names = ("xlim", "ylim", "zlim")[: both.shape[1]]
    limits = {name: (both[:, d].min(), both[:, d].max()) for d, name in enumerate(names)}
    angle, velocity = _truth(data)
    points = [(z, angle, "angle"), (z, velocity, "velocity"), (drawn, None, "generated")]
    for (ax, shades), (_, value, title) in zip(_scatters(part, points), points, strict=True):
        ax.set(**limits)
        if value is not None:
            _colour_bar(part, shades, ax, title, location="left", shrink=0.6)


def _scatters(
    part: Any, points: Sequence[tuple[Array, Array | None, str]]
) -> list[tuple[Any, Any]]:
    """Points in three dimensions side by side, coloured by a value or plain.

    Returns:
        Of each its axes, and the points as they are drawn.
    """
    found = []
    for place, (z, value, title) in enumerate(points):
        ax = part.add_subplot(1, len(points), place + 1, projection="3d")
        colours = "hsv" if title != "velocity" else "viridis"
        shade: dict[str, Any] = {"color": BLUE} if value is None else {"c": value, "cmap": colours}
        height = z[:, 2] if z.shape[1] > 2 else 0
        found.append((ax, ax.scatter(z[:, 0], z[:, 1], height, s=1.5, lw=0, **shade)))
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=6, pad=-3)
        ax.locator_params(nbins=4, steps=[1, 2, 5, 10])
        ax.set_xlabel("z1", fontsize=7, labelpad=-8)
        ax.set_ylabel("z2", fontsize=7, labelpad=-8)
        # z3's own label would lie beyond the axes, below their neighbours
        ax.text2D(0.99, 0.82, "z3", transform=ax.transAxes, fontsize=7, ha="center")
        ax.set_facecolor("none")
        ax.set_box_aspect(None, zoom=1.1)
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_pane_color("white")  # a grey one gets a tint where colours are reduced
    return found


def _colour_bar(part: Any, shades: Any, axes: Any, value: str, **place: Any) -> None:
    """What the colours of points mean, beside them."""
    bar = part.colorbar(shades, ax=axes, aspect=25, pad=0.02, **place)
    bar.set_label(f"{value}, {'rad' if value == 'angle' else 'rad/s'}", fontsize=7)
    bar.ax.tick_params(labelsize=6)


def _strip(ax: Axes, frames: Array, label: str) -> None:
    """The frames of one sequence side by side, ``(T, H, W)``."""
    edge = np.ones((*frames.shape[:2], 1))
    ax.imshow(
        np.concatenate([np.c_[f, e] for f, e in zip(frames, edge, strict=True)], axis=1),
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    ax.set_ylabel(label, fontsize=6, rotation=0, ha="right", va="center")
    for side in ax.spines.values():
        side.set_visible(False)

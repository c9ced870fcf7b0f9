"""What the observation's sigma does to state-space models of the pendulum.

The thesis does not give the sigma of its Gaussian likelihood. Its ELBO of some 807 nats a sequence
(3,840 pixels) would be that of sigma^2 = 0.1, 893 nats, less a rate of some 86. With a small sigma
each image says the angle so exactly that a recurrent posterior has little use for a transition, and
no step leads to a velocity; the EKVAE, whose states come from its transition, predicts the better
the smaller sigma is.

R^2 is measured twice: by one plane for all angles, as the thesis has it, and by a regression that
may turn with the angle, for a velocity that is there but lies in another direction at each angle.
All is judged on the validation part: Table 4.1 takes its sigmas from here. The two other forms of
the DKS, with the sigma of its row, show whether they are what its velocity wants.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tools.reproduce.experiment import Context, Outcome, by_method, row
from tools.reproduce.state_space import LEAST_SIGMA, budgeted, pendulum_sequences
from tools.reproduce.state_space_training import VHP_NOTE, Run, judged_part, train_part

TITLE = "The observation's sigma: whether state-space models of the pendulum learn its velocity"
SEEDS = 2
STEPS = 1600
SIGMAS = (0.3, 0.1, 0.03)

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "VHP-DVBS (CO)": ("dvbs", {}),
    "VHP-DKS (CO)": ("dks", {}),
    "VHP-DKS (CO), residual transition": ("dks", {"residual": True}),
    "VHP-DKS (CO), q(z_t|z_{t-1}, x)": ("dks", {"residual": True, "conditional": True}),
    "VHP-EKVAE (CO)": ("ekvae", {}),
}
_COLUMNS = {
    "R^2 angle": "angle",
    "R^2 velocity": "velocity",
    "R^2 velocity, turning with the angle": "turning_velocity",
    "coherence of the velocity's direction": "coherence",
    "prediction MSE (mean of z_1)": "mse_of_mean",
    "prediction MSE (mean of z_1), median of the sequences": "mse_of_mean_median",
    "rate (nats a step)": "rate",
    "reconstruction MSE": "reconstruction",
}
_JUDGED = "mse_of_mean"  # what a sigma is chosen by
QUICK = ("VHP-DVBS (CO)", "VHP-DKS (CO)")


def run(context: Context) -> Outcome:
    """Train every model with every sigma, judge, draw."""
    data = pendulum_sequences(context)
    data = replace(data, test=data.validation, note=f"{data.note}; judged on the validation part")
    names = QUICK if context.quick else tuple(MODELS)
    found: dict[str, dict[float, list[dict[str, Any]]]] = {name: {} for name in names}
    for name in names:
        for sigma in sigmas_of(context, name):
            made = run_of(context, name, sigma)
            part = f"{made.kind}{'-'.join(['', *sorted(MODELS[name][1])])}-sigma-{sigma:g}"
            runs = [train_part(context, part, made, data, seed) for seed in context.seeds]
            found[name][sigma] = [
                judged_part(context, one, made, data) for one in runs if "mse" in one
            ]
    rows = [
        line
        for name in names
        for sigma, runs in found[name].items()
        for line in table_rows(name, sigma, runs, len(context.seeds))
    ]
    draw(context.figures / "velocity.png", found)
    config = {
        "runs": {name: asdict(run_of(context, name, SIGMAS[0])) for name in names},
        "least sigmas": {name: list(sigmas_of(context, name)) for name in names},
        "data": data.note,
        "VHP": VHP_NOTE,
        "reduced": f"{STEPS} steps; the thesis does not say how long it trained",
    }
    table = by_method(rows, _COLUMNS)
    each = {r["method"]: r["ours"]["values"] for r in rows if _COLUMNS.get(r["metric"]) == _JUDGED}
    for line in table:
        line["of_each_seed"] = ", ".join(f"{error:.2g}" for error in each[line["method"]])
    return Outcome(rows, config, {"table": table})


def sigmas_of(context: Context, name: str) -> tuple[float, ...]:
    """The least sigmas of a model: all, of a changed one that of its row in Table 4.1."""
    kind, changes = MODELS[name]
    return (LEAST_SIGMA[kind],) if changes or context.quick else SIGMAS


def run_of(context: Context, name: str, sigma: float) -> Run:
    """A model with a least sigma."""
    kind, changes = MODELS[name]
    return budgeted(Run(kind, {"prior": "vhp", **changes, "least_sigma": sigma}), context, STEPS)


def table_rows(
    name: str, sigma: float, found: list[dict[str, Any]], tried: int
) -> list[dict[str, Any]]:
    """The lines of a model with one sigma."""
    note = f"{tried - len(found)} of {tried} runs broke off" if len(found) < tried else ""
    method = f"{name}, sigma >= {sigma:g}"
    if not found:
        return [row(method, "runs that broke off", [tried], None, note)]
    return [
        row(method, text, [one[key] for one in found], None, note) for text, key in _COLUMNS.items()
    ]


def draw(path: Path, found: Mapping[str, Mapping[float, list[dict[str, Any]]]]) -> None:
    """Both R^2 of the velocity against sigma, a point for each seed, a line through medians."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"velocity": "one plane for all angles", "turning_velocity": "turning with the angle"}
    for axes, (key, title) in zip(panels, titles.items(), strict=True):
        for (name, by_sigma), mark in zip(found.items(), "osD^v", strict=False):
            found_by = {
                sigma: [one[key] for one in runs] for sigma, runs in by_sigma.items() if runs
            }
            middle = sorted((sigma, statistics.median(runs)) for sigma, runs in found_by.items())
            if middle:
                (line,) = axes.plot(*zip(*middle, strict=True), mark + "-", label=name, linewidth=1)
                points = [(sigma, value) for sigma, runs in found_by.items() for value in runs]
                axes.plot(*zip(*points, strict=True), mark, color=line.get_color(), alpha=0.4)
        axes.set_xscale("log")
        axes.set_xticks(list(SIGMAS), [f"{sigma:g}" for sigma in SIGMAS])
        axes.minorticks_off()
        axes.set_xlabel("least sigma of the observation model", fontsize=9)
        axes.set_title(title, fontsize=9)
        axes.set_ylim(-0.05, 1.05)
    panels[0].set_ylabel("R² of the velocity", fontsize=9)
    panels[1].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)

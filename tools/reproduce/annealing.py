"""Figure 4.4: schedules of linear annealing against constrained optimisation, over many seeds.

R^2 of the angular velocity of one model for each of several lengths of annealing and for CO, all
with the same steps, with and without the VHP.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.state_space import METHODS, QUICK_STEPS, budgeted, pendulum_sequences
from tools.reproduce.state_space_training import VHP_NOTE, Run, train_part

TITLE = "Figure 4.4: annealing schedules against constrained optimisation, R^2 of the velocity"
SEEDS = 3
STEPS = 1000
SHARES = (0.05, 0.25, 0.5, 1.0)  # of the steps, until beta is 1
# rows of Table 4.1 that are annealed, too; 1,000 steps teach no other model a velocity
_MODELS = ("ekvae", "vhp-ekvae")
_LEARNED = 0.9  # R^2 of the velocity from which the dynamics count as learned


def run(context: Context) -> Outcome:
    """Train every schedule on every seed, draw."""
    data = pendulum_sequences(context)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in _MODELS[:1] if context.quick else _MODELS:
        base, label = METHODS[name].run, METHODS[name].name.split(" ")[0]
        found[label] = {
            schedule: [
                train_part(context, f"{name}-{schedule}", made, data, seed)
                for seed in context.seeds
            ]
            for schedule, made in schedules(base, context).items()
        }
    rows = [
        row(
            label,
            f"R^2 velocity, {schedule}",
            [one.get("velocity", 0.0) for one in runs],  # of a run that broke off: nothing
            None,
            f"{learned(runs)} of {len(runs)} seeds above {_LEARNED}",
        )
        for label, by_schedule in found.items()
        for schedule, runs in by_schedule.items()
    ]
    draw(context.figures / "figure-4.4.png", found)
    config = {
        "steps": QUICK_STEPS if context.quick else STEPS,
        "schedules": "share of the steps until beta is 1",
        "data": data.note,
        "VHP": VHP_NOTE,
        "thesis": "a picture alone, of 25 runs each",
    }
    return Outcome(rows, config, {"runs": found})


def schedules(base: Run, context: Context) -> dict[str, Run]:
    """CO and every length of annealing, of one model in as many steps."""
    run = budgeted(base, context, STEPS)
    shares = SHARES[-1:] if context.quick else SHARES
    annealed = {
        f"annealing {share:.0%}": replace(
            run, schedule="annealing", annealing=round(share * run.steps)
        )
        for share in shares
    }
    return {"CO": replace(run, schedule="co", annealing=0), **annealed}


def learned(runs: Sequence[Mapping[str, Any]]) -> int:
    """Seeds on which the velocity was learned."""
    return sum(one.get("velocity", 0.0) > _LEARNED for one in runs)


def draw(path: Path, found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> None:
    """A box of each schedule with its seeds as points, one model a panel."""
    import numpy as np

    from tools.reproduce.latent_figures import BLUE, RED, new_figure, save_figure

    figure, axes = new_figure(1, len(found), (3.2 * len(found) + 0.6, 3.2))
    for ax, (label, by_schedule) in zip(axes[0], found.items(), strict=True):
        for place, (schedule, runs) in enumerate(by_schedule.items()):
            values = [one["velocity"] for one in runs if "velocity" in one]
            if not values:
                continue
            colour = RED if schedule == "CO" else BLUE
            shown = np.clip(values, 0.0, 1.0)
            ax.boxplot(
                shown,
                positions=[place],
                widths=0.5,
                showfliers=False,
                medianprops={"color": colour},
            )
            ax.plot(np.full(len(values), place), shown, ".", color=colour, ms=5, alpha=0.6)
            ax.plot(place, statistics.median(shown), "_", color=colour, ms=14)
        ax.set_xticks(range(len(by_schedule)), [s.replace("annealing ", "") for s in by_schedule])
        ax.set(title=label, ylim=(-0.03, 1.03), xlabel="annealed share of the steps")
        ax.tick_params(labelsize=7)
    axes[0, 0].set_ylabel("R^2 of the velocity")
    save_figure(figure, path)

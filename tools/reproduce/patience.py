"""Table 4.1 with more patience: three of its models in three times the steps.

The recurrent posteriors learn the velocity long after the EKVAE: what their rows of the table lack
is time, and what a single plane for all angles shows of it.
"""

from __future__ import annotations

from dataclasses import replace

from tools.reproduce.experiment import Context, Outcome
from tools.reproduce.state_space import (
    METHODS,
    STEPS,
    budgeted,
    pendulum_sequences,
    summary,
    table_rows,
)
from tools.reproduce.state_space_training import train_part, turning_part

TITLE = "Table 4.1 with more patience: pendulum images, three times the steps"
SEEDS = 1
TIMES = 3
_METHODS = ("vhp-dks", "vhp-dvbs", "vhp-ekvae")


def run(context: Context) -> Outcome:
    """Train three methods for longer, judge."""
    data, rows, table, found = pendulum_sequences(context), [], [], {}
    for name in _METHODS[:1] if context.quick else _METHODS:
        made = budgeted(METHODS[name].run, context, TIMES * STEPS)
        method = replace(METHODS[name], name=f"{METHODS[name].name}, {made.steps} steps")
        found[name] = [
            turning_part(context, train_part(context, name, made, data, seed), made, data)
            for seed in context.seeds
        ]
        rows += table_rows(method, found[name])
        table.append(summary(method, found[name]))
    config = {"times": TIMES, "data": data.note, "all else": "as in table-4.1"}
    return Outcome(rows, config, {"table": table, "runs": found})

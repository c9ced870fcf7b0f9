"""Table 4.3 and figures 4.17 and 4.18: state spaces that are not Markovian.

The transition of the KVAE and of the RSSM has an LSTM. What a prediction from a smoothed first
state is worth, for which the LSTM has seen nothing yet, against one from a filtered fifth state,
for which it has seen five observations, tells what of the system's state the LSTM keeps. Both
predict fifteen steps. The VHP-EKVAE, which has no such memory, stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tools.reproduce.experiment import Context, Outcome, by_method, row
from tools.reproduce.state_space import budgeted, pendulum_sequences
from tools.reproduce.state_space_measure import GIVEN, prediction_errors
from tools.reproduce.state_space_training import VHP_NOTE, Run, load_model, train_part

if TYPE_CHECKING:
    from training.data.sequences import SequenceSet
    from training.dssm.model import StateSpaceModel

TITLE = "Table 4.3: pendulum images, what recurrent transitions keep out of the state"
SEEDS = 3
STEPS = 2000

METHODS = {
    "VHP-KVAE (CO)": Run("kvae", {"prior": "vhp"}),
    "KVAE (annealing)": Run("kvae", {"prior": "normal"}, "annealing"),
    "VHP-RSSM (CO)": Run("rssm", {"prior": "vhp"}),
    "RSSM (annealing)": Run("rssm", {"prior": "normal"}, "annealing"),
    "VHP-EKVAE (CO)": Run("ekvae", {"prior": "vhp"}),
}
THESIS = {  # R^2 of angle and velocity, prediction errors from smoothed and filtered states
    "VHP-KVAE (CO)": (0.989, 0.043, 2.87e-3, 4.24e-4),
    "KVAE (annealing)": (0.652, 0.134, 3.16e-3, 6.67e-4),
    "VHP-RSSM (CO)": (0.915, 0.086, 3.10e-3, 4.80e-4),
    "RSSM (annealing)": (0.158, 0.060, 3.23e-3, 6.94e-4),
}
_COLUMNS = {
    "R^2 angle": "angle",
    "R^2 velocity": "velocity",
    "prediction MSE, smoothed z_1": "smoothed",
    "prediction MSE, filtered z_5": "filtered",
    "prediction MSE, smoothed z_1, median of the sequences": "smoothed_median",
    "prediction MSE, filtered z_5, median of the sequences": "filtered_median",
    "smoothed over filtered MSE": "ratio",
}
QUICK = ("VHP-KVAE (CO)", "VHP-RSSM (CO)")
_SHOWN = {"VHP-KVAE (CO)": "figure-4.17.png", "VHP-RSSM (CO)": "figure-4.18.png"}


def run(context: Context) -> Outcome:
    """Train, predict from both ends, draw."""
    from tools.reproduce.memory_figures import predictions

    data, longer = pendulum_sequences(context), _longer(context)
    names = QUICK if context.quick else tuple(METHODS)
    rows: list[dict[str, Any]] = []
    runs = {name: budgeted(METHODS[name], context, STEPS) for name in names}
    for name in names:
        found = []
        for seed in context.seeds:
            trained = train_part(context, runs[name].kind + _tag(name), runs[name], data, seed)
            if "mse" in trained:
                found.append(trained | _errors(context, name, runs[name], trained, longer, seed))
        rows += _rows(name, found, len(context.seeds))
        if found and name in _SHOWN:
            model = load_model(context.work / found[0]["folder"], runs[name])
            path = context.figures / _SHOWN[name]
            predictions(path, shown(model, longer, 3), f"{name}, seed {context.seeds[0]}")
    config = {
        "runs": {name: asdict(found) for name, found in runs.items()},
        "data": data.note,
        "VHP": VHP_NOTE,
        "predictions": "15 steps from either state, both given 5 observations, of 19-step "
        "sequences that nothing was trained on; the first state is drawn",
        "KVAE": "one learned observation matrix, where the original mixes several",
        "reduced": f"{STEPS} steps; the thesis does not say how long it trained",
    }
    return Outcome(rows, config, {"table": by_method(rows, _COLUMNS)})


def _tag(name: str) -> str:
    return "-annealing" if "annealing" in name else "-vhp"


def _longer(context: Context) -> SequenceSet:
    """Test sequences that go on for 15 steps behind the last observation that is given."""
    from training.data.actuated import STEPS as FRAMES
    from training.data.actuated import actuated_pendulum

    count = 50 if context.quick else 500
    return actuated_pendulum(2, test=count, validation=0, steps=FRAMES + GIVEN - 1, seed=7)


def _errors(
    context: Context,
    name: str,
    run: Run,
    trained: Mapping[str, Any],
    longer: SequenceSet,
    seed: int,
) -> dict[str, Any]:
    """Prediction errors of a trained model from smoothed and from filtered states."""
    settings = {**asdict(run), "seed": seed, "data": longer.note, "folder": trained["folder"]}

    def compute(folder: Path) -> dict[str, Any]:  # noqa: ARG001  (nothing but figures)
        from training.dssm.batch import SequenceBatch

        model = load_model(context.work / trained["folder"], run)
        held = SequenceBatch.of(longer.test)
        from_first = prediction_errors(model, held.first(held.steps - GIVEN + 1))
        from_fifth = prediction_errors(model, held, start="filtered")
        return {
            "smoothed": float(from_first.mean()),
            "filtered": float(from_fifth.mean()),
            "smoothed_median": float(np.median(from_first)),
            "filtered_median": float(np.median(from_fifth)),
        }

    return context.part(f"{run.kind}{_tag(name)}-errors-seed-{seed}", settings, compute)


def _rows(name: str, found: list[dict[str, Any]], tried: int) -> list[dict[str, Any]]:
    """The lines of a method."""
    note = f"{tried - len(found)} of {tried} runs broke off" if len(found) < tried else ""
    if not found:
        return [row(name, "runs that broke off", [tried], None, note)]
    thesis = THESIS.get(name, (None, None, None, None))
    ratio = None if thesis[2] is None or thesis[3] is None else round(thesis[2] / thesis[3], 1)
    measured = [{**f, "ratio": f["smoothed"] / f["filtered"]} for f in found]
    return [
        row(name, metric, [f[key] for f in measured], figure, note)
        for (metric, key), figure in zip(
            _COLUMNS.items(), (*thesis, None, None, ratio), strict=True
        )
    ]


def shown(
    model: StateSpaceModel, longer: SequenceSet, count: int
) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Some sequences beside their predictions.

    Returns:
        Of each ``observed`` (19, H, W), ``smoothed``, predicted from the first step on (15, H, W),
        and ``filtered``, from the fifth on.
    """
    import torch

    from training.dssm.batch import SequenceBatch

    held = SequenceBatch.of(longer.test.take(slice(count)))
    with torch.no_grad():
        known = held.first(GIVEN)
        z, memory = model.smooth(known).at(0)
        ahead = held.controls[:, : held.steps - GIVEN]
        first = model.decode(model.predict(z, ahead, memory=memory))
        z, memory = model.filter(known).at(GIVEN - 1)
        fifth = model.decode(model.predict(z, held.controls[:, GIVEN - 1 :], memory=memory))
    return [
        {
            "observed": held.observations[i].numpy(),
            "smoothed": first[i].numpy(),
            "filtered": fifth[i].numpy(),
        }
        for i in range(count)
    ]

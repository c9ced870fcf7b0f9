"""What a training step costs: CPU time of one, for several ways to regularise that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.data import DataSet

_DEAR = 20.0  # times the first variant's step; what costs more is measured twice and no more


def step_costs(
    variants: Mapping[str, Mapping[str, Any]], data: DataSet, repeats: int
) -> dict[str, dict[str, float]]:
    """Medians over steps that take turns in one process, on one thread, in its own CPU time.

    Turns, since a machine that others use too is slower at one minute than at the next.

    Args:
        variants: settings of a training run by name: ``model``, ``train`` and ``flatness`` as in
            :func:`tools.reproduce.flatness.train_part`; the first is what the others are
            compared with.
        data: whose first training examples make the batch.
        repeats: of each.

    Returns:
        ``{name: {"seconds": ..., "ratio": to the first}}``.
    """
    import torch

    first = next(iter(variants))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    try:
        for _ in range(repeats):
            for name, settings in variants.items():
                taken = seconds[name]
                if len(taken) < 2 or taken[-1] < _DEAR * seconds[first][-1]:
                    taken.append(_seconds_of_a_step(settings, data))
    finally:
        torch.set_num_threads(threads)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {name: {"seconds": s, "ratio": s / medians[first]} for name, s in medians.items()}


def _seconds_of_a_step(settings: Mapping[str, Any], data: DataSet) -> float:
    """CPU seconds of the second step of a run in its main phase; the first warms up."""
    import torch

    from trackvae.config import ModelConfig, build
    from training.objectives import Flatness, FlatnessConfig
    from training.schedules import FixedBeta
    from training.trainer import TrainConfig, Trainer

    torch.manual_seed(0)
    model = build(ModelConfig.from_dict(settings["model"]))
    flatness = settings["flatness"]
    batch = settings["train"]["batch_size"]
    trainer = Trainer(
        model,
        FixedBeta(1.0),
        TrainConfig(steps=2, batch_size=batch, patience=0),
        flatness=None if flatness is None else Flatness(FlatnessConfig(**flatness)),
    )
    ends: list[float] = []
    x = torch.from_numpy(data.values()[: 2 * batch])
    trainer.fit(x, on_step=lambda _: ends.append(time.process_time()))
    return ends[1] - ends[0]

"""What the policies of figures 4.20 and 4.21 have in common: their models, and how they learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tools.reproduce import reacher
from tools.reproduce.experiment import Context
from tools.reproduce.state_space import budgeted, pretraining
from tools.reproduce.state_space_training import Run, load_model, train_part
from trackvae.arrays import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from training.data.sequences import SequenceSet
    from training.dssm.ekvae import EKVAE
    from training.dssm.policy import Episode, Policy, Reward
    from training.dssm.pretraining import Pretraining

REACHERS = {"reacher": "VHP-EKVAE (CO)", "reacher-images": reacher.PRETRAINED}  # Table 4.2's
_SWING = 7.0  # rad/s^2 (section 4.4.4); gravity's is 9.81


def run_of(context: Context, system: str, static: tuple[int, ...] = (0, 1)) -> Run:
    """How a model is trained: the pendulum's by Table A.2, the reacher's as for Table 4.2."""
    if system in REACHERS:
        return budgeted(reacher.METHODS[REACHERS[system]].run, context, reacher.STEPS)
    return Run("ekvae", {"static": list(static)}, steps=30 if context.quick else 2000)


def pretraining_of(context: Context, system: str) -> Pretraining | None:
    """The pendulum's ring must not fold: no policy works in a model where two angles are one.

    A reacher's as for Table 4.2.
    """
    if system in REACHERS:
        return reacher.pretraining(context, REACHERS[system])
    return pretraining(context)


def of_table(context: Context) -> Context:
    """Where Table 4.2 keeps its parts: images that are drawn once, and models."""
    name = context.work.name.replace("figures-4.19-4.21", "table-4.2")
    return replace(context, work=context.work.with_name(name))


def trained(
    context: Context, data: SequenceSet, system: str, static: tuple[int, ...], seed: int
) -> EKVAE:
    """A trained model; a reacher's is Table 4.2's own."""
    from trackvae.errors import InputError

    run = run_of(context, system, static)
    if system in REACHERS:
        context, name = of_table(context), reacher.tag(REACHERS[system])
    else:
        name = f"{system}-static-{''.join(map(str, static))}"
    found = train_part(context, name, run, data, seed, pretraining_of(context, system))
    if found["failed"] and "angle" not in found:
        raise InputError(f"{name}, seed {seed}: {found['failed']}")
    return cast("EKVAE", load_model(context.work / found["folder"], run))


def policy_settings(context: Context, task: str) -> dict[str, Any]:
    """Of one policy; ``steps`` are the optimiser's, ``test`` the system's."""
    pumped = task == "swing-up"
    return {
        "task": task,
        "limit": _SWING / 15.0 if pumped else 1.0,
        "horizon": 40 if pumped else 25,
        "steps": 4 if context.quick else (300 if pumped else 100),
        "batch": 64,
        "test": 25 if context.quick else 120,
    }


def learned(
    model: EKVAE, data: SequenceSet, reward: Reward, settings: Mapping[str, Any], seed: int
) -> Policy:
    """A policy, learned in the model alone.

    Args:
        model: a trained one.
        data: what it was trained on; paths begin at its states.
        reward: of a state.
        settings: of :func:`policy_settings`.
        seed: of everything random.
    """
    from training.dssm.policy import PolicyConfig, learn_policy

    given = {name: settings[name] for name in ("limit", "horizon", "steps", "batch")}
    config = PolicyConfig(**given, seed=seed)
    return learn_policy(model, _starts(model, data), reward, config).policy


def _starts(model: EKVAE, data: SequenceSet) -> Tensor:
    """Smoothed states of the training sequences, (N, D_z): where paths begin."""
    import torch

    from training.dssm.batch import SequenceBatch

    with torch.no_grad():
        some = data.train.take(slice(200))
        return model.smooth(SequenceBatch.of(some)).mean.flatten(0, 1)


def keep(
    folder: Path, episode: Episode, speed: float | None, target: FloatArray | None = None
) -> None:
    """Write down what happened: ``episode.npz`` in a part's folder.

    Args:
        folder: of the part.
        episode: on the system.
        speed: the goal's, rad/s; None: it has none.
        target: the goal's, (2,) in metres; None: it has none.
    """
    nothing = np.array(np.nan)
    np.savez_compressed(
        folder / "episode.npz",
        observations=episode.observations.astype(np.float16),
        controls=episode.controls,
        states=episode.states,
        speed=nothing if speed is None else np.array(speed),
        target=nothing if target is None else target,
    )


def arrays(context: Context, found: Mapping[str, Any]) -> dict[str, FloatArray]:
    """What :func:`keep` wrote for a part, by name."""
    with np.load(context.work / found["folder"] / "episode.npz") as file:
        return {key: file[key] for key in file.files}

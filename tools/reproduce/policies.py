"""Figures 4.19 to 4.21: what is static and what is dynamic in a state, and policies that use it.

A VHP-EKVAE is trained on the actuated pendulum with three permutations of H, and on the reacher's
angles and images as for Table 4.2. Policies are then learned inside the model alone (Eq. 4.34) and
let loose on the system: the thesis shows pictures, we count successes. Torques stay within what the
data have; the swing-up's are weaker than gravity, so that the pendulum has to be pumped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tools.reproduce import policy_figures as figures
from tools.reproduce import reacher
from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.policy_training import (
    REACHERS,
    arrays,
    keep,
    learned,
    of_table,
    policy_settings,
    pretraining_of,
    run_of,
    trained,
)
from tools.reproduce.state_space import pretraining
from tools.reproduce.state_space_measure import angle_and_velocity, r_squared
from tools.reproduce.state_space_training import VHP_NOTE
from trackvae.arrays import FloatArray

if TYPE_CHECKING:
    from training.data.sequences import Sequences, SequenceSet
    from training.dssm.batch import SequenceBatch
    from training.dssm.ekvae import EKVAE
    from training.dssm.policy import Episode, Policy, Reward

TITLE = "Figures 4.19-4.21: disentangled position and velocity, and policies learned in the model"
SEEDS = 3

PERMUTATIONS = ((0, 1), (0, 2), (1, 2))  # static dimensions of z: velocity is z3, z2 or z1
_STARTS = 10
_SPEEDS = (0.5, -0.85)  # of the fastest in the training data (section 4.4.4)
_UPRIGHT = math.radians(20)
_NEAR = 0.02  # metres
_SHOWN = 8  # sequences that show a goal velocity
_HELD = 20  # last steps that decide: 2 s
_HELD_REACHER = 25  # 1 s


def _data(context: Context) -> SequenceSet:
    from training.data.actuated import actuated_pendulum

    count = 60 if context.quick else 500
    return actuated_pendulum(count, test=count, validation=0)


def _tasks() -> list[str]:
    return ["swing-up", *(f"rotation {speed:+.0%}" for speed in _SPEEDS)]


def run(context: Context) -> Outcome:
    """Train, look at the states, learn policies, test them on the systems, draw."""
    arm = reacher.angle_sequences(context)
    images, mean = reacher.image_sequences(of_table(context))
    rows = [
        *_pendulum(context),
        *_reacher(context, "reacher", arm, None),
        *_reacher(context, "reacher-images", images, mean),
    ]
    systems = ("pendulum", *REACHERS)
    before = {name: pretraining_of(context, name) for name in systems}
    config = {
        "models": {name: asdict(run_of(context, name)) for name in systems},
        "pretraining": {name: asdict(how) for name, how in before.items() if how is not None},
        "reacher": arm.note,
        "reacher-images": images.note,
        "VHP": VHP_NOTE,
        "policies": [policy_settings(context, task) for task in (*_tasks(), "goal")],
        "success": {
            "swing-up": "within 20 degrees of upright through the last 2 of 12 s",
            "rotation": "mean speed of the last 2 of 12 s within 10% of the goal's",
            "reacher": "finger within 2 cm of the goal through the last 1 of 4.8 s",
        },
    }
    return Outcome(rows, config)


# --- the pendulum


def _pendulum(context: Context) -> list[dict[str, Any]]:
    """Rows of figures 4.19 and 4.20."""
    data, first = _data(context), PERMUTATIONS[0]
    rows: list[dict[str, Any]] = []
    clouds: dict[tuple[int, ...], dict[str, FloatArray]] = {}
    models = {seed: trained(context, data, "pendulum", first, seed) for seed in context.seeds}
    for static in PERMUTATIONS:
        seeds = context.seeds if static == first else context.seeds[:1]
        held = [
            models[seed] if static == first else trained(context, data, "pendulum", static, seed)
            for seed in seeds
        ]
        rows += _state_rows(static, [disentangled(model, data) for model in held])
        z = _smoothed(held[0], data.test)
        clouds[static] = {"z": z, "states": data.test.states.reshape(-1, 2)}
    figures.representations(context.figures / "figure-4.19.png", clouds)
    shown: dict[str, dict[str, FloatArray]] = {}
    for task in _tasks():
        done = [_pendulum_part(context, data, models[seed], task, seed) for seed in context.seeds]
        shown[task] = arrays(context, done[0])
        note = f"{_STARTS} random starts of the real system; the goal is given as images"
        metric = f"successes of {_STARTS}"
        rows.append(row(task, metric, [d["successes"] for d in done], None, note))
        rows += _figure_rows(task, [d["figure"] for d in done])
    figures.film_strips(context.figures / "figure-4.20.png", shown)
    figures.traces(context.figures / "figure-4.20-traces.png", shown)
    figures.animation(context.figures / "figure-4.20.gif", shown)
    return rows


def disentangled(model: EKVAE, data: SequenceSet) -> dict[str, float]:
    """R^2 on the test part, fitted on the training part.

    Returns:
        ``angle`` (mean of sine and cosine) and ``leak`` (velocity) from the static dimensions of z
        alone, ``velocity`` from the others.
    """
    static = list(model.config.static)
    rest = [d for d in range(model.latent) if d not in static]
    z, y = _smoothed(model, data.train), data.train.states.reshape(-1, 2)
    z_test, y_test = _smoothed(model, data.test), data.test.states.reshape(-1, 2)
    position = angle_and_velocity(
        z[None][..., static], y[None], z_test[None][..., static], y_test[None]
    )
    velocity = r_squared(z[:, rest], y[:, 1], z_test[:, rest], y_test[:, 1])
    return {"angle": position["angle"], "leak": position["velocity"], "velocity": velocity}


def _smoothed(model: EKVAE, part: Sequences) -> FloatArray:
    """Smoothed states of sequences, (N T, D_z)."""
    import torch

    from training.dssm.batch import SequenceBatch

    with torch.no_grad():
        return model.smooth(SequenceBatch.of(part)).mean.flatten(0, 1).double().numpy()


def _state_rows(static: tuple[int, ...], found: list[dict[str, float]]) -> list[dict[str, Any]]:
    """How well position and velocity lie in the dimensions that are theirs."""
    dynamic = next(d for d in range(3) if d not in static)
    name = f"VHP-EKVAE (CO), velocity in z{dynamic + 1}"
    note = "smoothed states of held-out sequences; the thesis shows a picture"
    return [
        row(name, "R^2 of angle, static dimensions", [f["angle"] for f in found], None, note),
        row(name, f"R^2 of velocity, z{dynamic + 1} alone", [f["velocity"] for f in found]),
        row(name, "R^2 of velocity, static dimensions", [f["leak"] for f in found]),
    ]


def _pendulum_part(
    context: Context, data: SequenceSet, model: EKVAE, task: str, seed: int
) -> dict[str, Any]:
    """Learn one policy and test it: successes, and the task's own figure."""
    settings = {
        **policy_settings(context, task),
        "model": {**asdict(run_of(context, "pendulum")), "seed": seed, "data": data.note},
        "pretraining": asdict(pretraining(context)),
    }

    def compute(folder: Path) -> dict[str, Any]:
        reward, speed = _pendulum_goal(model, data, task)
        policy = learned(model, data, reward, settings, seed)
        episode = _tested(model, policy, settings, seed)
        keep(folder, episode, speed)
        return {**judged(episode.states, speed, data.interval), "folder": folder.name}

    return context.part(f"{task.replace(' ', '')}-seed-{seed}", settings, compute)


def _figure_rows(task: str, found: list[float | None]) -> list[dict[str, Any]]:
    """A task's own figure over the seeds that have one; no row where none has."""
    known = [value for value in found if value is not None]
    if not known:
        return []
    metric = "median time until held, s" if task == "swing-up" else "median error of speed, %"
    some = f"of {len(known)} of {len(found)} seeds; in the others half the starts or more are lost"
    return [row(task, metric, known, None, some if len(known) < len(found) else "")]


def _pendulum_goal(model: EKVAE, data: SequenceSet, task: str) -> tuple[Reward, float | None]:
    """The reward of a task, and the goal speed in rad/s where it has one."""
    import torch

    from training.data.pendulum import render_pendulum
    from training.dssm import policy

    if task == "swing-up":
        upright = torch.from_numpy(render_pendulum(np.zeros(())))
        return policy.position_reward(model, policy.encoded_position(model, upright)), None
    share = _SPEEDS[_tasks().index(task) - 1]
    speed = share * float(np.abs(data.train.states[..., 1]).max())
    goal = policy.encoded_velocity(model, rotating(speed, data.interval, data.train.steps))
    return policy.velocity_reward(model, goal), speed


def rotating(speed: float, interval: float, steps: int) -> SequenceBatch:
    """Sequences of a pendulum that turns steadily, with the torques that this takes.

    Args:
        speed: rad/s.
        interval: seconds of a step.
        steps: T.
    """
    import torch

    from training.data.actuated import DAMPING, GRAVITY, TORQUE
    from training.data.pendulum import render_pendulum
    from training.dssm.batch import SequenceBatch

    first = np.linspace(0, 2 * np.pi, _SHOWN, endpoint=False)[:, None]
    angles = first + speed * interval * np.arange(steps)
    between = angles[:, :-1] + 0.5 * speed * interval
    controls = (DAMPING * speed - GRAVITY * np.sin(between)) / TORQUE
    return SequenceBatch(
        torch.from_numpy(render_pendulum(angles)),
        torch.from_numpy(controls[..., None].astype(np.float32)),
    )


def _tested(model: EKVAE, policy: Policy, settings: Mapping[str, Any], seed: int) -> Episode:
    from training.data.actuated import ActuatedPendulum
    from training.data.systems import Environment
    from training.dssm.policy import act

    world = Environment(ActuatedPendulum(), _STARTS, seed=1000 + seed)
    return act(model, policy, world, settings["test"])


def judged(states: FloatArray, speed: float | None, interval: float) -> dict[str, Any]:
    """Successes and the task's figure, from true states (B, T, 2).

    Args:
        states: angle and velocity.
        speed: the goal's, rad/s; None: the goal is upright.
        interval: seconds of a step.

    Returns:
        ``successes``, and ``figure``: of a rotation the median error of its speed, in %; else the
        median of the seconds until upright is held, None where half the starts or more never do.
    """
    last = _HELD
    if speed is None:
        away = np.abs(np.angle(np.exp(1j * states[..., 0]))) > _UPRIGHT  # (B, T)
        good = ~away[:, -last:].any(axis=1)
        since = states.shape[1] - np.argmax(away[:, ::-1], axis=1)  # the first step held on
        times = np.where(good, interval * np.where(away.any(axis=1), since, 0), np.inf)
        middle = float(np.median(times))
        return {
            "successes": int(good.sum()),
            "figure": middle if math.isfinite(middle) else None,
        }
    wrong = np.abs(states[:, -last:, 1].mean(axis=1) / speed - 1)
    return {"successes": int((wrong <= 0.1).sum()), "figure": float(100 * np.median(wrong))}


# --- the reacher


def _reacher(
    context: Context, system: str, data: SequenceSet, mean: npt.NDArray[np.float32] | None
) -> list[dict[str, Any]]:
    """Rows of figure 4.21.

    Args:
        context: of the experiment.
        system: whose models, see :data:`REACHERS`.
        data: what they learn from.
        mean: of images, see :func:`tools.reproduce.reacher.image_sequences`; None: of angles.
    """
    sight = "angles" if mean is None else "images"
    models = [trained(context, data, system, (0, 1), seed) for seed in context.seeds]
    name, note = f"VHP-EKVAE (CO), reacher's {sight}", f"{data.name}, held-out sequences"
    found = [reacher.joints(model, data, circle=mean is not None) for model in models]
    rows = [row(name, f"R^2 {which}", [f[which] for f in found], None, note) for which in found[0]]
    goals = 2 if context.quick else _STARTS
    done = [
        [_goal_part(context, system, data, mean, model, number, seed) for number in range(goals)]
        for model, seed in zip(models, context.seeds, strict=True)
    ]
    gaps = [[float(d["distance"]) for d in of_seed] for of_seed in done]
    reached = [sum(gap < _NEAR for gap in of_seed) for of_seed in gaps]
    away = [1e3 * float(np.median(of_seed)) for of_seed in gaps]
    rows.append(row(f"reacher, {sight}", f"goals reached of {goals}", reached))
    rows.append(row(f"reacher, {sight}", "median distance in the end, mm", away))
    suffix = "" if mean is None else "-images"
    figures.reaching(
        context.figures / f"figure-4.21{suffix}.png", [arrays(context, d) for d in done[0][:4]]
    )
    return rows


def _goal_part(
    context: Context,
    system: str,
    data: SequenceSet,
    mean: npt.NDArray[np.float32] | None,
    model: EKVAE,
    number: int,
    seed: int,
) -> dict[str, Any]:
    """One policy for one goal posture: how far the finger is from it at the end, in metres."""
    settings = {
        **policy_settings(context, f"goal {number}"),
        "model": {**asdict(run_of(context, system)), "seed": seed, "data": data.note},
        "system": data.name,
    }
    if (before := pretraining_of(context, system)) is not None:
        settings["pretraining"] = asdict(before)

    def compute(folder: Path) -> dict[str, Any]:
        import torch

        from training.data.reacher import finger_position, reacher_system
        from training.data.systems import Environment
        from training.dssm import policy

        arm = reacher_system("angles") if mean is None else reacher.viewed(mean)
        goal = data.test.states[number, 0] * [1, 1, 0, 0]  # a posture, at rest
        seen = torch.from_numpy(arm.observe(goal[None])[0])
        reward = policy.position_reward(model, policy.encoded_position(model, seen))
        chosen = learned(model, data, reward, settings, seed)
        episode = policy.act(
            model, chosen, Environment(arm, 1, seed=2000 + number), settings["test"]
        )
        target = finger_position(goal)
        gaps = np.linalg.norm(finger_position(episode.states[0]) - target, axis=-1)
        keep(folder, episode, None, target=target)
        return {"distance": float(gaps[-_HELD_REACHER:].max()), "folder": folder.name}

    tag = "goal" if mean is None else "images-goal"
    return context.part(f"{tag}-{number}-seed-{seed}", settings, compute)

"""Table 3.1 and figures 3.2 to 3.5: the pendulum's angle in the latent representation.

Methods differ in how beta moves. REWO starts again where the label-free check finds a fold at the
end of its initial phase; the row without restarts stands beside it. Labels (angles) are used to
judge alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.angles import absolute_error, circular_prediction, polar_prediction
from tools.reproduce.experiment import Context, Outcome, row
from trackvae.arrays import FloatArray

if TYPE_CHECKING:
    from trackvae.vae import VAE
    from training.data import DataSet
    from training.monitors import Diagnosis
    from training.schedules import Schedule
    from training.trainer import Report, Trainer

TITLE = "Table 3.1: absolute error of the pendulum's angle, radians"
SEEDS = 8
KAPPA = 0.02  # Table A.1; of the root of the mean squared error per pixel
_FOLD = 0.2  # rad: clean rings have 0.02 to 0.1, folded ones 0.2 to 1.5
_ATTEMPTS = 8
_EPOCHS = 400  # that a run stands for; the thesis does not give its own length
_SNAPSHOT = 1000  # points of a picture


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: as the thesis has it.
        schedule: ``rewo``, ``alternative``, ``geco``, ``elbo``, ``warm-up``.
        thesis: its absolute error, None where it gives a picture alone.
        sigma: of the Gaussian likelihood.
        epochs: of the warm-up.
        samples: K of the VHP.
        restarts: whether a folded representation starts again.
        note: what to know.
    """

    name: str
    schedule: str
    thesis: float | None = None
    sigma: float = 1.0
    epochs: int = 0
    samples: int = 16
    restarts: bool = False
    note: str = ""


METHODS = {
    "rewo": Method("VHP + REWO", "rewo", 0.054, restarts=True),
    "geco": Method("VHP + GECO", "geco", 0.53, note="without restarts"),
    "vhp": Method("VHP*", "elbo", 0.49, sigma=KAPPA, note="sigma = kappa"),
    "warm-up-20": Method("VHP* + WU (20 epochs)", "warm-up", 0.20, sigma=KAPPA, epochs=20),
    "warm-up-200": Method("VHP* + WU (200 epochs)", "warm-up", 0.31, sigma=KAPPA, epochs=200),
    "rewo-plain": Method("VHP + REWO, no restarts", "rewo", 0.054, note="first attempt kept"),
    "rewo-k1": Method("VHP + REWO, no importance weighting", "rewo", samples=1, note="Fig. 3.5a"),
    "alternative": Method("VHP + REWO, alternative update", "alternative", note="Fig. 3.5b"),
}
QUICK = ("rewo", "geco", "warm-up-20")


@dataclass(frozen=True)
class Budget:
    """How much is computed.

    Attributes:
        images: in all; a fifth of them to test on.
        steps: of training.
        hidden: units of encoder and decoder.
        prior_hidden: units of both networks of the VHP.
    """

    images: int = 15_000
    steps: int = 2000
    hidden: tuple[int, ...] = (128, 128)
    prior_hidden: tuple[int, ...] = (64, 64)


FULL, SMALL = Budget(), Budget(images=3000, steps=600)


def run(context: Context) -> Outcome:
    """Train every method on every seed, judge, draw."""
    budget = SMALL if context.quick else FULL
    names = QUICK if context.quick else tuple(METHODS)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed in context.seeds:
        for name in names:
            if name == "rewo-plain" and not results["rewo"][-1]["restarts"]:
                results[name].append(results["rewo"][-1])  # the same run, to the last bit
            else:
                results[name].append(_part(context, name, seed, budget))
    rows = [line for name in names for line in _rows(METHODS[name], results[name])]
    _draw(context, results)
    return Outcome(rows, _config(budget), {"runs": results})


# --- one run


def settings(name: str, seed: int, budget: Budget) -> dict[str, Any]:
    """All that a run's result depends on, as plain values."""
    method = METHODS[name]
    return {
        "schedule": method.schedule,
        "sigma": method.sigma,
        "warm_up_steps": round(budget.steps * method.epochs / _EPOCHS),
        "samples": method.samples,
        "attempts": _ATTEMPTS if method.restarts else 1,
        "seed": seed,
        "images": budget.images,
        "steps": budget.steps,
        "hidden": list(budget.hidden),
        "prior_hidden": list(budget.prior_hidden),
        "kappa": KAPPA,
        "nu": 0.015,
        "tau": 3.0,
        "beta": 0.01,
        "alpha": 0.95,
        "batch_size": 64,
        "learning_rate": [1e-3, 2e-4],
        "gain_of_means": 0.1,
        "snapshots": [0.1, 0.25, 0.5, 1.0],
    }


def _part(context: Context, name: str, seed: int, budget: Budget) -> dict[str, Any]:
    """A run's figures, and the name of the folder with its arrays."""
    wanted = settings(name, seed, budget)
    return context.part(
        f"{name}-seed-{seed}",
        wanted,
        lambda folder: train(wanted, folder) | {"folder": folder.name},
    )


class Recorder:
    """Beta at every tenth step, and what the representation looks like at some."""

    def __init__(self, model: VAE, data: DataSet, wanted: Mapping[str, Any]) -> None:
        self.beta: list[tuple[int, float]] = []
        self.met: int | None = None
        self.pictures: dict[str, FloatArray] = {}
        self._model, self._data = model, data
        self._at = {max(1, round(share * wanted["steps"])) for share in wanted["snapshots"]}

    def __call__(self, report: Report) -> None:
        """Take a step's report."""
        if report.phase.train_prior and self.met is None:
            self.met = report.step
        if report.step % 10 == 0 or report.step == 1:
            self.beta.append((report.step, report.phase.beta))
        if report.step in self._at:
            self._picture(report.step)

    def _picture(self, step: int) -> None:
        """Posterior samples, the variances of the posterior, prior samples."""
        import torch

        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            q = self._model.encode(torch.from_numpy(self._data.values("test")[:_SNAPSHOT]))
            prior: Any = self._model.prior
            self.pictures[f"posterior-{step}"] = q.sample(generator=generator).numpy()
            self.pictures[f"deviation-{step}"] = (0.5 * q.log_var).exp().numpy()
            self.pictures[f"prior-{step}"] = prior.sample(_SNAPSHOT, generator).numpy()


@dataclass(frozen=True, slots=True)
class _Run:
    """A model, its trainer, and what is recorded of it."""

    model: VAE
    trainer: Trainer
    recorder: Recorder


def train(wanted: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train as the settings say, with restarts where more than one attempt is allowed, and judge.

    Args:
        wanted: of :func:`settings`.
        folder: is given ``run.npz``: beta, pictures, latents and angles of the test part.
    """
    import torch

    from training.data import pendulum
    from training.monitors import diagnose
    from training.restarts import train_with_restarts

    data = pendulum(wanted["images"])
    looked_at = torch.from_numpy(data.values("train"))

    def begin(attempt: int) -> _Run:
        made = _make(wanted, data, attempt)
        if wanted["attempts"] > 1:
            _fit_initial_phase(made, data, wanted)
        return made

    def finish(made: _Run) -> None:
        made.trainer.fit(data, on_step=made.recorder)

    def check(made: _Run) -> Diagnosis:
        return diagnose(made.model, looked_at)

    if wanted["attempts"] > 1:
        found = train_with_restarts(begin, check, finish, most=wanted["attempts"])
        made, diagnosis, restarts = found.run, found.diagnosis, found.restarts
    else:
        made = begin(0)
        finish(made)
        diagnosis, restarts = check(made), 0
    arrays = judged_latents(made.model, data)
    kept: dict[str, Any] = {"beta": np.array(made.recorder.beta)}
    kept |= {**arrays, **made.recorder.pictures}
    np.savez(folder / "run.npz", **kept)
    return {
        **judge(arrays),
        **_described(diagnosis),
        "restarts": restarts,
        "constraint_met_at": made.recorder.met,
        "beta": made.recorder.beta[-1][1],
    }


def _make(wanted: Mapping[str, Any], data: DataSet, attempt: int) -> _Run:
    """A fresh model and its trainer, with the attempt's own seed."""
    import torch

    from trackvae.config import ModelConfig, build
    from training.restarts import attempt_seed, quiet_means
    from training.trainer import TrainConfig, Trainer

    seed = attempt_seed(wanted["seed"], attempt)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(
            ModelConfig(
                data.shape,
                hidden=tuple(wanted["hidden"]),
                sigma=wanted["sigma"],
                prior_hidden=tuple(wanted["prior_hidden"]),
                prior_samples=wanted["samples"],
            )
        )
    quiet_means(model, 2, wanted["gain_of_means"])
    config = TrainConfig(
        steps=wanted["steps"],
        batch_size=wanted["batch_size"],
        learning_rate=wanted["learning_rate"][0],
        final_learning_rate=wanted["learning_rate"][1],
        seed=seed,
    )
    return _Run(model, Trainer(model, _schedule(wanted), config), Recorder(model, data, wanted))


def _schedule(wanted: Mapping[str, Any]) -> Schedule:
    """How beta moves."""
    from training.schedules import GECO, REWO, AlternativeREWO, FixedBeta, WarmUp

    kind = wanted["schedule"]
    if kind == "elbo":
        return FixedBeta(1.0)
    if kind == "warm-up":
        return WarmUp(max(1, wanted["warm_up_steps"]))
    common = {"nu": wanted["nu"], "beta": wanted["beta"], "alpha": wanted["alpha"]}
    if kind == "geco":
        return GECO(wanted["kappa"], relative=True, **common)
    made = REWO if kind == "rewo" else AlternativeREWO
    return made(wanted["kappa"], tau=wanted["tau"], relative=True, **common)


def _fit_initial_phase(made: _Run, data: DataSet, wanted: Mapping[str, Any]) -> None:
    """Train until the constraint is met once, or half of the steps are gone."""
    from training.restarts import fit_until

    def stop(report: Report) -> bool:
        made.recorder(report)
        return report.phase.train_prior or report.step >= wanted["steps"] // 2

    fit_until(made.trainer, data, stop)


def _described(diagnosis: Diagnosis) -> dict[str, Any]:
    """What was found without labels, as plain values."""
    near = diagnosis.neighbourhoods
    return {
        "folded": diagnosis.folded,
        "collapsed": diagnosis.collapsed,
        "crossing": near.crossing,
        "tear": None if math.isinf(near.tear) else near.tear,
        "straightness": near.straightness,
        "trustworthiness": near.trustworthiness,
        "continuity": near.continuity,
        "active_units": diagnosis.active_units,
        "condition_number": None
        if math.isinf(diagnosis.condition_number)
        else diagnosis.condition_number,
        "sentence": diagnosis.sentence,
    }


# --- the angle, judged with labels


def judged_latents(model: VAE, data: DataSet) -> dict[str, FloatArray]:
    """Posterior means and angles of both parts, and the mean squared error on the test part."""
    import torch

    found: dict[str, FloatArray] = {}
    with torch.no_grad():
        for part in ("train", "test"):
            x = torch.from_numpy(data.values(part))
            z = model.encode(x).mean
            found |= {f"{part}_z": z.numpy(), f"{part}_angle": data.labels[part]}
        found["mse"] = np.array(float((model.decode(z) - x).square().mean()))
    return found


def judge(arrays: Mapping[str, FloatArray]) -> dict[str, Any]:
    """Both errors of the test part, in radians, fitted on the training part; a fold by labels."""
    places = [arrays[name] for name in ("train_z", "train_angle", "test_z")]
    circular = circular_prediction(*places)
    error = absolute_error(circular, arrays["test_angle"])
    return {
        "error_thesis": absolute_error(polar_prediction(*places), arrays["test_angle"]),
        "error_one_radius": absolute_error(
            polar_prediction(*places, one_radius=True), arrays["test_angle"]
        ),
        "error_circular": error,
        "folded_by_labels": error > _FOLD,
        "mse": float(arrays["mse"]),
    }


# --- the table


def _rows(method: Method, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four lines of a method."""
    count = len(found)
    folds = {
        "folds_by_labels": sum(one["folded_by_labels"] for one in found),
        "folds_without_labels": sum(one["folded"] for one in found),
        "collapsed": sum(one["collapsed"] for one in found),
        "restarts": sum(one["restarts"] for one in found),
    }
    note = (
        f"folds {folds['folds_by_labels']} of {count} by labels, "
        f"{folds['folds_without_labels']} without; {folds['collapsed']} collapsed; "
        f"{folds['restarts']} restarts"
    )
    if method.note:
        note = f"{method.note}; {note}"
    metrics = (
        ("angle error (rad), thesis's protocol", "error_thesis", method.thesis, note),
        ("angle error (rad), one radius for all", "error_one_radius", None, ""),
        ("angle error (rad), leak-free circular", "error_circular", None, ""),
        ("mean squared error per pixel", "mse", None, ""),
    )
    return [
        row(method.name, metric, [one[key] for one in found], thesis, text, **folds)
        for metric, key, thesis, text in metrics
    ]


def _config(budget: Budget) -> dict[str, Any]:
    """What the figures depend on, and what is not the thesis's own."""
    any_run = settings("rewo", 0, budget)
    for name in ("schedule", "sigma", "warm_up_steps", "samples", "attempts", "seed"):
        del any_run[name]
    return {
        **any_run,
        "data": f"made pendulum, {budget.images} images, the last fifth to test on",
        "samples": "K = 16; 1 in the row without importance weighting",
        "attempts": f"at most {_ATTEMPTS} for VHP + REWO, 1 for all others",
        "warm_up": f"scaled: the run of {budget.steps} steps stands for {_EPOCHS} epochs, "
        f"so 20 and 200 epochs are {round(budget.steps * 20 / _EPOCHS)} and "
        f"{round(budget.steps * 200 / _EPOCHS)} steps; the thesis does not say how long it "
        "trained",
        "sigma": f"of VHP*: kappa = {KAPPA}, the noise that REWO is asked to reach; "
        "with sigma = 1 the ELBO collapses; REWO and GECO: 1, beta takes its place",
        "constraint": "mean squared error per pixel, relative: C / kappa^2 - 1, clipped to 2",
        "reduced": "MLPs smaller than Table A.1's 256x4; learning rate 1e-3 to 2e-4, not 1e-4",
        "compare": "the rows of Fig. 3.5 are without restarts, as VHP + REWO, no restarts; the "
        "figure shows the first seed on which that one is not folded, the others the first seed",
        "fold_by_labels": f"leak-free circular error above {_FOLD} rad",
    }


def _draw(context: Context, results: Mapping[str, list[dict[str, Any]]]) -> None:
    """Figures 3.2 to 3.4 of the first seed, 3.5 of the first whose REWO is sound at once."""
    from tools.reproduce.pendulum_figures import latent_figure, regression_figure

    plain = results.get("rewo-plain", [])
    sound = [number for number, found in enumerate(plain) if not found["folded"]]
    figures = (
        ("figure-3.2", ("rewo", "geco"), "deviation", 0),
        ("figure-3.3", ("vhp", "warm-up-20", "warm-up-200"), "angle", 0),
        ("figure-3.5", ("rewo-plain", "rewo-k1", "alternative"), "angle", (sound or [0])[0]),
    )
    for title, names, colour, number in figures:
        shown = {
            METHODS[name].name: _arrays(context, results[name][number])
            for name in names
            if name in results
        }
        if shown:
            latent_figure(context.figures / f"{title}.png", shown, colour=colour)
    table = [name for name in METHODS if name in results][:5]
    regression_figure(
        context.figures / "figure-3.4.png",
        {METHODS[name].name: _arrays(context, results[name][0]) for name in table},
        polar_prediction,
        {METHODS[name].name: results[name][0]["error_thesis"] for name in table},
    )


def _arrays(context: Context, found: Mapping[str, Any]) -> dict[str, FloatArray]:
    """What a run left on disk."""
    with np.load(context.work / found["folder"] / "run.npz") as file:
        return dict(file)

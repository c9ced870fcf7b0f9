"""What Tables 5.1 and 5.2 share: training by plain settings, and the protocol of section 5.2.3.

A straight line is compared with the geodesic between two encoded observations, approximated on a
graph whose nodes are uniform over the bounding box of the encoded data; the metric tensor is
measured at encoded observations and between them. What is drawn lives in
:mod:`tools.reproduce.latent_figures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from tools.reproduce.experiment import Context, row

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.vae import VAE
    from training.data import DataSet
    from training.schedules import Schedule
    from training.trainer import Report, Trainer

_WEIGHTS = "model.safetensors"
_CHECKPOINT = "training.safetensors"
_MARGIN = 0.05  # of the data's extent, on each side of their bounding box
PERCENTILES = (5, 25, 50, 75, 95)  # of a box plot: whiskers, box, median


@dataclass(frozen=True)
class Protocol:
    """Section 5.2.3.

    Attributes:
        nodes: of the graph.
        neighbours: of its nodes; the first is the thesis's, others have a higher floor.
        pairs: of observations, of the part that is reported on.
        samples: at which the metric tensor is measured.
        frames: of a straight line, for the smoothness.
    """

    nodes: int = 14_400
    neighbours: tuple[int, ...] = (12, 32)
    pairs: int = 100
    samples: int = 3_000
    frames: int = 50


# --- training


def run_settings(
    data: DataSet,
    flatness: Mapping[str, Any] | None,
    steps: int,
    seed: int,
    kappa: float,
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
) -> dict[str, Any]:
    """Everything that one training run of Table 5.1 or 5.2 depends on, as plain values."""
    from trackvae.config import ModelConfig

    model = ModelConfig(
        observation=data.shape,
        hidden=(128, 128),
        activation="silu",
        likelihood=likelihood,
        prior_hidden=(64, 64),
        prior_samples=16,
    )
    return {
        "model": model.to_dict(),
        "schedule": {"kind": "rewo", "kappa": kappa, "nu": 0.02, "relative": True},
        "train": {
            "steps": steps,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "final_learning_rate": 1e-4,
            "seed": seed,
        },
        "flatness": None if flatness is None else dict(flatness),
        "data": data.note,
    }


def train_part(
    context: Context, name: str, settings: Mapping[str, Any], data: DataSet
) -> tuple[VAE, dict[str, Any]]:
    """A trained model and how its training ended; from disk where it is there already.

    Args:
        context: where it is kept.
        name: of the part.
        settings: plain values: ``model`` (of ModelConfig), ``schedule`` (``kind`` and its
            arguments), ``train`` (of TrainConfig, with the seed), ``flatness`` (of FlatnessConfig,
            or None), ``data`` (whatever names it); and, if a folded representation is to start
            again, ``attempts``, more than 1.
        data: to train on.
    """
    from trackvae.storage import load

    def compute(folder: Path) -> dict[str, Any]:
        return {**_train(settings, data, folder), "folder": folder.name}

    result = context.part(name, settings, compute)
    return load(context.work / result["folder"] / _WEIGHTS)[0], result


@dataclass
class _Attempt:
    """A model that is being trained, and the reports of its last steps."""

    model: VAE
    trainer: Trainer
    last: list[Report]

    def keep(self, report: Report) -> None:
        """Take a step's report in."""
        self.last[:] = [*self.last[-99:], report]


def _train(settings: Mapping[str, Any], data: DataSet, folder: Path) -> dict[str, Any]:
    from trackvae.config import ModelConfig
    from trackvae.storage import save

    if settings.get("attempts", 1) > 1:
        attempt, restarts = _train_again(settings, data)
    else:
        attempt, restarts = _attempt(settings, data), 0
        checkpoint = folder / _CHECKPOINT
        if checkpoint.is_file():
            attempt.trainer.resume(checkpoint)
        attempt.trainer.fit(data, checkpoint=checkpoint, on_step=attempt.keep)
    save(folder / _WEIGHTS, attempt.model, ModelConfig.from_dict(settings["model"]))
    last = attempt.last
    return {
        "error": _mean([report.error for report in last]),
        "rate": _mean([report.rate for report in last]),
        "beta": last[-1].phase.beta if last else None,
        "initial_phase": not last[-1].phase.train_prior if last else None,
        "restarts": restarts,
    }


def _train_again(settings: Mapping[str, Any], data: DataSet) -> tuple[_Attempt, int]:
    """Training that starts again where a fold shows once the constraint is met, or at the end."""
    import torch

    from training.monitors import diagnose
    from training.restarts import fit_until, quiet_means, train_with_restarts

    seen = torch.from_numpy(data.values())

    def met(report: Report) -> bool:
        return report.constraint is not None and report.constraint < 1

    def begin(number: int) -> _Attempt:
        made = _attempt(settings, data, number)
        quiet_means(made.model, settings["model"]["latent"])
        fit_until(made.trainer, data, met)
        return made

    def finish(made: _Attempt) -> None:
        made.trainer.fit(data, on_step=made.keep)

    found = train_with_restarts(
        begin,
        lambda made: diagnose(made.model, seen),
        finish,
        most=settings["attempts"],
    )
    return found.run, found.restarts


def _attempt(settings: Mapping[str, Any], data: DataSet, number: int = 0) -> _Attempt:
    """A fresh model and its trainer."""
    import torch

    from trackvae.config import ModelConfig, build
    from trackvae.priors import VampPrior
    from training.objectives import Flatness, FlatnessConfig
    from training.restarts import attempt_seed
    from training.trainer import TrainConfig, Trainer

    config = ModelConfig.from_dict(settings["model"])
    train = TrainConfig(**settings["train"])
    train = replace(train, seed=attempt_seed(train.seed, number))
    torch.manual_seed(train.seed)
    model = build(config)
    if isinstance(model.prior, VampPrior):  # starts at data, or its components start in one place
        chosen = np.random.default_rng(train.seed).choice(len(data.train), config.pseudo_inputs)
        model.prior.pseudo_inputs.data = torch.from_numpy(data.values()[chosen])
    flatness = settings["flatness"]
    trainer = Trainer(
        model,
        _schedule(settings["schedule"]),
        train,
        flatness=None if flatness is None else Flatness(FlatnessConfig(**flatness)),
    )
    return _Attempt(model, trainer, [])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _schedule(settings: Mapping[str, Any]) -> Schedule:
    from training.schedules import GECO, REWO, FixedBeta, WarmUp

    kinds: dict[str, Any] = {"rewo": REWO, "geco": GECO, "elbo": FixedBeta, "warm-up": WarmUp}
    arguments = {key: value for key, value in settings.items() if key != "kind"}
    schedule: Schedule = kinds[settings["kind"]](**arguments)
    return schedule


# --- measuring


def encoded(model: VAE, x: np.ndarray[Any, Any]) -> Tensor:
    """Means of q(z|x), (N, D)."""
    import torch

    with torch.no_grad():
        return torch.cat([model.encode(torch.from_numpy(b)).mean for b in _blocks(x)])


def decoded(model: VAE, z: Tensor) -> np.ndarray[Any, Any]:
    """E[x|z], (N, D_x)."""
    import torch

    with torch.no_grad():
        parts = [model.decode(rows).flatten(1) for rows in torch.split(z, 2048)]
        return torch.cat(parts).numpy()


def _blocks(x: np.ndarray[Any, Any], size: int = 4096) -> list[np.ndarray[Any, Any]]:
    return [x[first : first + size] for first in range(0, len(x), size)]


def bounding_box(z: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corner (D,) around points (N, D), with a margin."""
    low, high = z.amin(0), z.amax(0)
    return low - _MARGIN * (high - low), high + _MARGIN * (high - low)


def uniform_nodes(z: Tensor, count: int, seed: int) -> Tensor:
    """(count, D), uniform over the bounding box of (N, D)."""
    import torch

    low, high = bounding_box(z)
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, z.shape[1], generator=generator)


def pairs(z: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Start and end (count, D) of random pairs of different rows of (N, D)."""
    rng = np.random.default_rng(seed)
    rows = np.array([rng.choice(len(z), 2, replace=False) for _ in range(count)])
    return z[rows[:, 0]], z[rows[:, 1]]


def label_frames(data: DataSet, labels: Sequence[int]) -> list[int]:
    """A typical observation of each label: rows of the test part.

    The nearest to the label's median, in the observation space: the same for every model.
    """
    x, found = data.values("test").reshape(len(data.test), -1), []
    for label in labels:
        rows = np.flatnonzero(data.labels["test"] == label)
        distance = np.linalg.norm(x[rows] - np.median(x[rows], axis=0), axis=1)
        found.append(int(rows[distance.argmin()]))
    return found


def ring_ends(model: VAE, data: DataSet, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A line from each label's typical observation to the next label's: ends (M, 2), (M, 2)."""
    start = encoded(model, data.values("test")[label_frames(data, labels)])
    return start, start.roll(-1, 0)


def measure_part(
    context: Context,
    name: str,
    trained: Mapping[str, Any],
    settings: Mapping[str, Any],
    model: VAE,
    data: DataSet,
    protocol: Protocol,
) -> dict[str, Any]:
    """The figures of one model by the protocol, on the data's test part.

    Args:
        context: where they are kept.
        name: of the part.
        trained: result of the training that the model comes from.
        settings: of that training.
        model: to measure.
        data: whose training part spans the bounding box.
        protocol: how many of everything.
    """
    seed = int(settings["train"]["seed"])
    key = {"trained": dict(trained), "protocol": asdict(protocol), "seed": seed}
    return context.part(name, key, lambda _: _measure(model, data, protocol, seed))


def train_and_measure(
    context: Context,
    methods: Mapping[str, Mapping[str, Any] | None],
    settings_of: Callable[[Mapping[str, Any] | None, int], dict[str, Any]],
    data: DataSet,
    protocol: Protocol,
) -> tuple[dict[str, VAE], dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
    """Every method on every seed.

    Args:
        context: where the parts are kept, and the seeds.
        methods: by name, the settings of their regulariser; None: none.
        settings_of: a regulariser and a seed to the settings of a run.
        data: to train on, and to measure on its test part.
        protocol: of the measuring.

    Returns:
        By method: the first seed's model; how each training ended; what each measuring found.
    """
    models: dict[str, VAE] = {}
    trained: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
    for seed in context.seeds:
        for name, flatness in methods.items():
            part = f"{name.lower().replace('²', '2').replace(' ', '-')}-{seed}"
            settings = settings_of(flatness, seed)
            model, ended = train_part(context, part, settings, data)
            found = measure_part(context, f"measure-{part}", ended, settings, model, data, protocol)
            models.setdefault(name, model)
            trained[name].append(ended)
            measured[name].append(found)
    return models, trained, measured


def _measure(model: VAE, data: DataSet, protocol: Protocol, seed: int) -> dict[str, Any]:
    import torch

    z, test = encoded(model, data.values("train")), encoded(model, data.values("test"))
    start, end = pairs(test, protocol.pairs, seed)
    rng = np.random.default_rng(seed + 1)
    here = test[rng.choice(len(test), protocol.samples, replace=len(test) < protocol.samples)]
    a, b = pairs(test, protocol.samples, seed + 2)
    between = torch.lerp(a, b, torch.from_numpy(rng.random((len(a), 1))).to(a))
    found = {
        "ratios": {
            str(k): _ratios(model, uniform_nodes(z, protocol.nodes, seed), k, start, end)
            for k in protocol.neighbours
        },
        "at data": _metric_figures(model, here),
        "between": _metric_figures(model, between),
        "test_error": _test_error(model, data),
    }
    if data.standardisation is not None:  # joints, in degrees
        found["smoothness"] = _smoothness(model, data, start, end, protocol.frames)
    return found


def _ratios(model: VAE, nodes: Tensor, k: int, start: Tensor, end: Tensor) -> dict[str, Any]:
    """Length ratios of Table 5.1 on a graph of k neighbours, and the floor of that graph."""
    import torch

    from trackvae.geometry import length_ratios
    from training.geodesics import floor, interpolate, neighbour_graph, padded, riemannian

    graph = neighbour_graph(nodes, k, riemannian(model.decode))
    with torch.no_grad():
        found = length_ratios(model.decode, padded(interpolate(graph, start, end)))
    return {
        "latent": found.latent.tolist(),
        "observation": found.observation.tolist(),
        "floor": floor(graph, start, end).tolist(),
    }


def _metric_figures(model: VAE, z: Tensor) -> dict[str, list[float]]:
    """Percentiles of the condition number and of the normalised magnification factor."""
    import torch

    from trackvae.geometry import condition_number, metric_tensor, normalised_magnification_factor

    with torch.no_grad():
        G = metric_tensor(model.decode, z).double()
        condition, factor = condition_number(G), normalised_magnification_factor(G)
    # A decoder that is singular somewhere has an infinite one, which JSON cannot hold.
    condition = condition.clamp_max(1e9)
    return {
        "condition": np.percentile(condition.numpy(), PERCENTILES).tolist(),
        "magnification": np.percentile(factor.numpy(), PERCENTILES).tolist(),
    }


def _test_error(model: VAE, data: DataSet) -> float:
    """What the constraint is about, on the test part at the posterior's means."""
    import torch

    from trackvae.vae import Likelihood

    likelihood, errors = cast(Likelihood, model.likelihood), []
    with torch.no_grad():
        for block in _blocks(data.values("test")):
            x = torch.from_numpy(block)
            errors.append(likelihood.error(x, model.decoder(model.encode(x).mean)))
    return float(torch.cat(errors).mean())


def straight_movements(
    model: VAE, data: DataSet, start: Tensor, end: Tensor, frames: int
) -> np.ndarray[Any, Any]:
    """Decoded straight lines, (P, frames, J), in degrees."""
    from trackvae.geometry import straight_line

    lines = straight_line(start, end, frames)
    values = decoded(model, lines.flatten(0, 1)).reshape(len(start), frames, -1)
    scale = data.standardisation
    return values if scale is None else scale.undo(values)


def _smoothness(
    model: VAE, data: DataSet, start: Tensor, end: Tensor, frames: int
) -> dict[str, list[float]]:
    """Mean and deviation over the pairs of each joint's smoothness factor, in degrees."""
    from training.geodesics import smoothness_factor

    factor = smoothness_factor(straight_movements(model, data, start, end, frames))  # (P, J)
    return {"mean": factor.mean(0).tolist(), "std": factor.std(0).tolist()}


# --- rows


def ratio_rows(
    method: str,
    measured: Sequence[Mapping[str, Any]],
    protocol: Protocol,
    thesis: Mapping[str, str],
    note: str = "",
) -> list[dict[str, Any]]:
    """Both length ratios and the floor, for each graph, a value a seed.

    Args:
        method: its name.
        measured: results of :func:`measure_part`, one a seed.
        protocol: whose first number of neighbours is the thesis's.
        thesis: its figures for ``latent`` and ``observation``; empty where it has none.
        note: to all of them.
    """
    rows = []
    for k in protocol.neighbours:
        theirs = thesis if k == protocol.neighbours[0] else {}
        for space in ("latent", "observation", "floor"):
            values = [np.asarray(m["ratios"][str(k)][space]) for m in measured]
            metric = f"length ratio, {space}" if space != "floor" else "floor of the graph"
            rows.append(
                row(
                    method,
                    f"{metric} ({k} neighbours)",
                    [float(v.mean()) for v in values],
                    theirs.get(space),
                    note if space != "floor" else "straight / path with the identity as metric",
                    std_of_pairs=float(np.concatenate(values).std()),
                )
            )
    return rows


def metric_rows(method: str, measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Medians of the condition number and quartiles of the normalised MF, a value a seed."""
    low, middle, high = (PERCENTILES.index(p) for p in (25, 50, 75))
    rows = []
    for place in ("at data", "between"):
        condition = np.array([m[place]["condition"] for m in measured])
        factor = np.array([m[place]["magnification"] for m in measured])
        rows += [
            row(
                method,
                f"condition number, median ({place})",
                condition[:, middle].tolist(),
                quartiles=[float(condition[:, q].mean()) for q in (low, high)],
            ),
            row(
                method,
                f"normalised MF, upper / lower quartile ({place})",
                (factor[:, high] / factor[:, low]).tolist(),
                quartiles=[float(factor[:, q].mean()) for q in (low, high)],
            ),
        ]
    return rows

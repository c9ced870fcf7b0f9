"""``flatness-high-d``: flat latent spaces of 16 to 128 dimensions, on crops of people.

The thesis regularises at most a few dimensions, by the whole Jacobian, and names the cost as its
limit. Here one random probe on a few rows of the batch takes the Jacobian's place
(:func:`trackvae.flatness.random_projection`), so that its price does not grow with the dimensions,
and the regulariser begins in coordinates that are flat on average
(:mod:`trackvae.reparametrisation`), so that it need not wait for the least eigenvalues to grow.
What is drawn lives in :mod:`tools.reproduce.crop_figures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.reproduce.experiment import Context, Outcome, row

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.vae import VAE
    from training.data import DataSet

TITLE = "Flat latent spaces of 16 to 128 dimensions on crops: VHP-VAE and VHP-FMVAE (ours)"
SEEDS = 2  # at the most dimensions; one elsewhere

_SEQUENCES = ("MOT16-09", "PETS09-S2L1", "TUD-Campus", "TUD-Stadtmitte")
_QUICK_SEQUENCES = ("TUD-Campus", "TUD-Stadtmitte")
_LABELS = {
    "none": "VHP-VAE",
    "random-projection": "VHP-FMVAE",
    "finite-difference": "VHP-FMVAE, finite difference",
    "as-printed": "VHP-FMVAE, as printed",
    "exact": "VHP-FMVAE, exact",
    "no-start": "VHP-FMVAE, no flat start",
}
_CHUNK = 8  # points whose Jacobians are held at a time: 8 x 3072 x 128 values are 13 MB
_ORDER = {name: index for index, name in enumerate(_LABELS)}
_COSTLY = "CPU time, one thread, medians of steps that take turns"
_CONDITION_MARK, _COST_MARK = 5.0, 2.0  # what we set out to reach at the most dimensions


@dataclass(frozen=True)
class Plan:
    """How much is computed; all of it is in the results.

    Attributes:
        targets: kappa^2 by latent dimensions, the mean squared error per pixel.
        steps: of training, by latent dimensions; the last eigenvalues of many take longest.
        batch: observations a step.
        rows: of them that are regularised.
        pull: weight of the relative penalty by latent dimension: eta = pull x D_z, since the
            penalty is a mean over them.
        compared: latent dimensions at which the other estimators are trained too, on half the rows.
        points: at which G is measured, of either kind.
        repeats: of a step whose cost is measured.
        side: of a crop, pixels.
        stride: of the frames.
    """

    targets: Mapping[int, float]
    steps: Mapping[int, int]
    batch: int = 32
    rows: int = 8
    pull: float = 4.0
    compared: int = 16
    points: int = 100
    repeats: int = 9
    side: int = 32
    stride: int = 2


FULL = Plan(
    targets={16: 0.028, 32: 0.024, 64: 0.021, 128: 0.018},
    steps={16: 1200, 32: 1200, 64: 1500, 128: 1800},
)
QUICK = Plan(
    targets={8: 0.04, 16: 0.03},
    steps={8: 60, 16: 60},
    compared=8,
    points=24,
    repeats=3,
    side=16,
)


def run(context: Context) -> Outcome:
    """Train, measure, draw."""
    plan = QUICK if context.quick else FULL
    data, source = _crops(context, plan)
    context.say(f"{source}: {data.note}")
    runs = _train_all(context, plan, data, source)
    costs = _cost_part(context, plan, data, source)
    _draw(context, plan, data, runs, costs)
    return Outcome(
        rows=_rows(plan, runs, costs),
        config=_config(plan, data, source),
        more={"runs": {name: found["result"] for name, found in runs.items()}, "cost": costs},
    )


# --- data


def _crops(context: Context, plan: Plan) -> tuple[DataSet, str]:
    """Crops, and where they are from: sequences, or made ones where there are none."""
    from tools.crops import crops_of

    root = context.source("mot")
    names = _QUICK_SEQUENCES if context.quick else _SEQUENCES
    present = [root / name for name in names if (root / name).is_dir()] if root else []
    given = present or [_made_sequence(context)]
    data = crops_of(
        given,
        size=(plan.side, plan.side),
        boxes="gt",
        stride=1 if context.quick else plan.stride,
        min_height=32,
        test=0.2,
    )
    names_of = ", ".join(path.name for path in given)
    return data, names_of if present else f"made stand-in ({names_of})"


def _made_sequence(context: Context) -> Path:
    """A painted street in place of the real sequences."""
    from tracker.synthetic import Scene, SceneConfig

    frames = 60 if context.quick else 400
    config = SceneConfig(width=640, height=360, frames=frames, figures=12, seed=0)

    def compute(folder: Path) -> dict[str, Any]:
        Scene(config).write(folder / "made-street", overwrite=True)
        return {"folder": str(folder / "made-street")}

    return Path(context.part("street", {**asdict(config)}, compute)["folder"])


# --- training


def _settings(
    plan: Plan, dims: int, method: str, seed: int, source: str
) -> tuple[str, dict[str, Any]]:
    """Name and settings of one training run; ``method``: none, no-start, or an estimator."""
    rows = plan.rows if method in ("no-start", "random-projection") else max(plan.rows // 2, 1)
    estimator = "random-projection" if method == "no-start" else method
    flatness = {
        "eta": plan.pull * dims,
        "estimator": estimator,
        "rows": rows,
        "scale": "own",  # a detached c^2 drives J to 0 and the rate up
        "flat_start": method != "no-start",
    }
    settings = {
        "data": f"{source}, {plan.side} x {plan.side}, every {plan.stride}. frame",
        "model": {
            "observation": [3, plan.side, plan.side],
            "latent": dims,
            "network": "crop-conv",
            "activation": "elu",  # with ReLU the metric of so many dimensions is singular
            "prior_hidden": [64, 64],
            "prior_samples": 8,
        },
        "schedule": {
            "kind": "rewo",
            "kappa": plan.targets[dims] ** 0.5,
            "nu": 0.015,
            "tau": 3.0,
            "alpha": 0.95,
            "beta": 0.01,
            "relative": True,
        },
        "train": {
            "steps": plan.steps[dims],
            "batch_size": plan.batch,
            "learning_rate": 1e-3,
            "final_learning_rate": 1e-4,
            "seed": seed,
            "checkpoint_every": 300,
            "patience": 0,
        },
        "flatness": None if method == "none" else flatness,
    }
    return f"{method}-{dims}-seed-{seed}", settings


def _jobs(context: Context, plan: Plan) -> list[tuple[int, str, int]]:
    """Dimensions, method and seed of every run, the most telling first."""
    dims = sorted(plan.targets, reverse=True)
    jobs = [(d, method, context.seeds[0]) for d in dims for method in ("random-projection", "none")]
    jobs += [(dims[0], m, s) for s in context.seeds[1:] for m in ("none", "random-projection")]
    others = () if context.quick else ("finite-difference", "as-printed")
    jobs += [(plan.compared, method, context.seeds[0]) for method in others]
    return [*jobs, (dims[0], "no-start", context.seeds[0])]


def _train_all(
    context: Context, plan: Plan, data: DataSet, source: str
) -> dict[str, dict[str, Any]]:
    """Every run: its ``model``, and what was measured as ``result``."""
    from tools.reproduce.flatness import train_part

    runs: dict[str, dict[str, Any]] = {}
    for dims, method, seed in _jobs(context, plan):
        name, settings = _settings(plan, dims, method, seed, source)
        model, trained = train_part(context, f"train-{name}", settings, data)
        measured = _measure_part(context, name, plan, trained, model, data)
        result = {"dims": dims, "method": method, "seed": seed, "target": plan.targets[dims]}
        runs[name] = {"model": model, "result": {**result, **trained, **measured}}
        context.say(
            f"{name}: condition number {measured['posterior']['condition']:.3g}, training error "
            f"{trained['error'] / plan.targets[dims]:.3f} kappa^2"
        )
    return runs


# --- measuring


def _measure_part(
    context: Context,
    name: str,
    plan: Plan,
    trained: Mapping[str, Any],
    model: VAE,
    data: DataSet,
) -> dict[str, Any]:
    key = {"trained": dict(trained), "points": plan.points}
    return context.part(f"measure-{name}", key, lambda _: _measure(model, data, plan.points))


def _measure(model: VAE, data: DataSet, points: int) -> dict[str, Any]:
    """Reconstruction, rate and the metric tensor, all on the held-out crops."""
    import torch

    from trackvae.flatness import mixup
    from training.monitors import active_units

    generator = torch.Generator().manual_seed(0)
    x = torch.from_numpy(data.values("test"))
    with torch.no_grad():
        terms = [model.terms(rows, generator) for rows in torch.split(x, 256)]
        means = torch.cat([model.encode(rows).mean for rows in torch.split(x, 256)])
        z = torch.cat([term.latents for term in terms])
        chosen = z[torch.randperm(len(z), generator=generator)[:points]]
        return {
            "test_error": float(torch.cat([term.error for term in terms]).mean()),
            "test_rate": float(torch.cat([term.rate for term in terms]).mean()),
            "active": int(active_units(means).sum()),
            "posterior": metric_figures(model.decode, chosen),
            "mixup": metric_figures(model.decode, mixup(chosen, 0.2, generator)),
        }


def metric_figures(decoder: Any, z: Tensor) -> dict[str, Any]:
    """What G is like at (N, D) points: medians, and the quartiles of its spectrum.

    Returns:
        ``condition`` and ``flatness`` (relative), medians over the points; ``condition_90``, the
        90% quantile; ``scale``, c^2; ``spectrum``: of each eigenvalue over c^2, in descending
        order, the lower quartile, median and upper quartile over the points, (3, D).
    """
    import torch

    from trackvae import geometry

    parts = [geometry.jacobian(decoder, rows).double() for rows in torch.split(z, _CHUNK)]
    G = torch.cat([J.mT @ J for J in parts])
    condition = geometry.condition_number(G)
    c2 = geometry.scaling_factor(G)
    spectrum = torch.linalg.eigvalsh(G).flip(-1) / c2  # (N, D), descending
    quartiles = torch.quantile(spectrum, torch.tensor([0.25, 0.5, 0.75], dtype=G.dtype), dim=0)
    return {
        "condition": _finite(condition.median()),
        "condition_90": _finite(condition.sort().values[int(0.9 * (len(condition) - 1))]),
        "flatness": float(geometry.relative_flatness(G).median()),
        "scale": float(c2),
        "spectrum": quartiles.tolist(),
    }


def _finite(value: Tensor) -> float:
    """A condition number that JSON can hold; 1e15 and more is "singular" in float64."""
    return min(float(value), 1e15)


# --- cost


def _cost_part(context: Context, plan: Plan, data: DataSet, source: str) -> dict[str, Any]:
    """CPU seconds of a step: ``{dims: {variant: {seconds, ratio}}}``."""
    from tools.reproduce.step_cost import step_costs

    variants = {str(dims): _variants(context, plan, dims, source) for dims in sorted(plan.targets)}
    key = {"repeats": plan.repeats, "variants": variants}

    def compute(_: Path) -> dict[str, Any]:
        return {dims: step_costs(these, data, plan.repeats) for dims, these in variants.items()}

    return context.part("cost", key, compute)


def _variants(context: Context, plan: Plan, dims: int, source: str) -> dict[str, dict[str, Any]]:
    """Settings of each bar: every estimator on the same rows, and one probe on the whole batch."""
    rows: dict[str, tuple[str, int | None]] = {
        "none": ("none", None),
        "random-projection": ("random-projection", plan.rows),
        "random-projection, whole batch": ("random-projection", None),
        "finite-difference": ("finite-difference", plan.rows),
        "as-printed": ("as-printed", plan.rows),
    }
    if not context.quick:
        rows["exact"] = ("exact", plan.rows)
    found = {}
    for name, (method, count) in rows.items():
        _, settings = _settings(plan, dims, method, 0, source)
        if settings["flatness"] is not None:
            settings["flatness"]["rows"] = count
        found[name] = settings
    return found


# --- results


def _rows(
    plan: Plan, runs: Mapping[str, Mapping[str, Any]], costs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The table: per dimensions and method, over the seeds."""
    found = [run["result"] for run in runs.values()]
    groups = sorted({(f["dims"], f["method"]) for f in found}, key=lambda g: (g[0], _ORDER[g[1]]))
    table: list[dict[str, Any]] = []
    for dims, method in groups:
        some = [f for f in found if (f["dims"], f["method"]) == (dims, method)]
        table += _method_rows(plan, f"{_LABELS[method]}, {dims}-d", some, costs)
    for dims, variants in costs.items():
        table += [
            row(f"{name}, {dims}-d", "cost of a step / plain step", [found["ratio"]], note=_COSTLY)
            for name, found in variants.items()
            if name != "none"
        ]
    return table


def _method_rows(
    plan: Plan, label: str, some: list[Mapping[str, Any]], costs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    dims, method = some[0]["dims"], some[0]["method"]
    target = plan.targets[dims]
    most = dims == max(plan.targets)
    flat = method == "random-projection"
    ratio = costs[str(dims)]["random-projection"]["ratio"]
    mark = (
        f"mark: <= {_CONDITION_MARK:g} at <= {_COST_MARK:g}x the plain step (here {ratio:.2f}x)"
        if most and flat
        else ""
    )
    never = [f["seed"] for f in some if f["initial_phase"]]
    note = f"kappa^2 was never met (seeds {never})" if never else ""
    return [
        row(
            label,
            "condition number, held-out samples",
            _of(some, "posterior", "condition"),
            note=mark,
        ),
        row(label, "condition number, mixup points", _of(some, "mixup", "condition")),
        row(label, "relative flatness, held-out samples", _of(some, "posterior", "flatness")),
        row(label, "training error / kappa^2", [f["error"] / target for f in some], note=note),
        row(label, "held-out error / kappa^2", [f["test_error"] / target for f in some]),
        row(label, "rate, held-out, nats", [f["test_rate"] for f in some]),
        row(label, f"active units of {dims}", [f["active"] for f in some]),
    ]


def _of(some: list[Mapping[str, Any]], where: str, what: str) -> list[float]:
    return [f[where][what] for f in some]


def _plain(plan: Plan) -> dict[str, Any]:
    by_name = {
        key: {str(d): v for d, v in getattr(plan, key).items()} for key in ("targets", "steps")
    }
    return {**asdict(plan), **by_name}


def _config(plan: Plan, data: DataSet, source: str) -> dict[str, Any]:
    name, settings = _settings(plan, max(plan.targets), "random-projection", 0, source)
    return {
        "data": source,
        "split": data.note,
        "plan": _plain(plan),
        f"run {name}": settings,
        "kappa^2": "mean squared error per pixel in [0, 1], chosen by the training part alone: a "
        "PCA with 16, 32, 64, 128 components leaves 0.021, 0.015, 0.009, 0.005 (real sequences)",
        "metric": "G of the mean in plain pixels, from whole Jacobians, at held-out samples of the "
        "posterior and at mixup points of them (rho_0 = 0.2)",
        "cost": "CPU time of a whole training step in the main phase, one thread, variants taking "
        "turns, medians; every estimator on the same number of rows, unless it says whole batch",
        "c^2": "of the step itself, with its gradient",
        "flat start": "once, when the regulariser joins: coordinates with G = c^2 1 on average",
        "other estimators": f"trained at {plan.compared} dimensions on half the rows",
    }


# --- figures


def _draw(
    context: Context,
    plan: Plan,
    data: DataSet,
    runs: Mapping[str, Mapping[str, Any]],
    costs: Mapping[str, Any],
) -> None:
    import torch

    from tools.reproduce import crop_figures

    first = {
        (f["result"]["dims"], f["result"]["method"]): f
        for f in reversed(list(runs.values()))  # the first seed stays
    }
    pairs = ("none", "random-projection")
    labels = {method: _LABELS[method] for method in pairs}
    spectra = {
        dims: {method: first[dims, method]["result"]["posterior"] for method in pairs}
        for dims in sorted(plan.targets)
    }
    crop_figures.spectra(context.figures / "spectra.png", spectra, labels)
    crop_figures.costs(context.figures / "cost.png", costs)
    most = max(plan.targets)
    models = {_LABELS[method]: first[most, method]["model"] for method in pairs}
    x = torch.from_numpy(data.values("test"))
    crop_figures.reconstructions(context.figures / "reconstructions.png", models, x)
    crop_figures.lines(context.figures / "straight-lines.png", models, x)

"""A hundred geodesics of a two-dimensional model: in one batched call, one by one, by stochman.

    python -m tools.benchmark.geodesics [--weights FILE]

Every contender is given the same 100 pairs of encodings and the same decoder, and is judged by its
curves' Riemannian lengths as we measure them, over the shortest that any of them found. stochman
(Apache-2.0, not one of our dependencies) is measured where it can be imported, with its own
defaults: cubic splines of 5 nodes, Adam on the energy at 20 points, in one batch and one by one.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tools.benchmark.report import Clock, paired_ratio, spread, use_one_thread
from trackvae.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from trackvae.geometry import Decoder
    from trackvae.vae import VAE

MODULE = "tools.benchmark.geodesics"
PAIRS = 100
_STEPS = 1_000  # of the training, where no weights are given
_POINTS = 200  # at which all curves are measured
_PACKAGES = ("trackvae", "torch", "numpy", "scipy", "stochman")


@dataclass(frozen=True)
class Contender:
    """A way to find all geodesics.

    Attributes:
        name: of the row.
        find: the curves (P, T, 2), in the pairs' order.
        repeats: how often it is timed.
    """

    name: str
    find: Callable[[], Tensor]
    repeats: int


@dataclass(frozen=True)
class Geodesics:
    """Seconds for 100 geodesics of a 2-d model, batched, one by one, and by stochman."""

    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A model of two latents; a VAE of the pendulum is trained
    here if left out."""
    pairs: int = PAIRS
    """Of encodings."""
    repeats: int = 5
    """Of the batched contenders; the others run once or twice."""
    out: Path = Path("results/benchmark-geodesics.json")
    """The JSON to write."""


def main() -> int:
    """Measure, print, save."""
    use_one_thread(MODULE)
    flags = tyro.cli(Geodesics, prog=MODULE)
    if flags.pairs < 2 or flags.repeats < 1:
        raise UsageError("expected at least 2 pairs and 1 repeat")
    import torch

    torch.set_num_threads(1)
    clock = Clock()
    model, about = _model(flags.weights)
    decoder = model.requires_grad_(False).decode
    start, end = _pairs(model, flags.pairs)
    contenders = [*ours(decoder, start, end, flags.repeats)]
    contenders += stochmans(decoder, start, end, flags.repeats)
    rows = measured(decoder, (start, end), contenders)
    report = {
        "name": "benchmark-geodesics",
        "title": f"Seconds for {flags.pairs} geodesics of a two-dimensional model",
        "rows": rows,
        "config": {
            "model": about,
            "pairs": flags.pairs,
            "threads": 1,
            "seconds": "by the clock; processor: of this process on a core, which a busy neighbour "
            "does not lengthen; ratio: of the latter to the first row's",
            "excess": "mean over the pairs of the curve's Riemannian length, measured at "
            f"{_POINTS} points of equal speed, over the shortest that any contender found, less 1; "
            "worst: its largest; straight: the same of the straight lines",
            "stochman": "as installed" if len(contenders) > 4 else "cannot be imported here",
        },
        "seeds": [0],
    }
    clock.save(report, _PACKAGES, flags.out)
    for row in rows:
        print(
            f"{row['method']:>40}: {row['seconds']['median']:.3g} s, "
            f"{row['processor']['median']:.3g} of the processor, "
            f"{row['ratio']:.2f} times ours, length +{100 * row['excess']:.2f}% "
            f"(straight lines +{100 * row['straight']:.1f}%)"
        )
    print(f"written to {flags.out}")
    return 0


def _model(weights: Path | None) -> tuple[VAE, str]:
    """The model, and what it is."""
    import torch

    from trackvae.config import ModelConfig, build
    from trackvae.storage import load
    from training.data import pendulum
    from training.schedules import FixedBeta
    from training.trainer import TrainConfig, Trainer

    if weights is not None:
        model, config = load(weights)
        if config.latent != 2:
            raise UsageError(f"{weights}: {config.latent} latent dimensions, expected 2")
        return model, f"{weights.name}: observations {config.observation}, {config.hidden}"
    torch.manual_seed(0)
    data = pendulum(3_000)
    config = ModelConfig(
        data.shape, hidden=(128, 128), activation="silu", sigma=0.05, prior="normal"
    )
    model = build(config)
    Trainer(model, FixedBeta(1.0), TrainConfig(_STEPS, learning_rate=2e-3)).fit(data)
    return model.eval(), f"pendulum 16x16, decoder 128, 128 silu, {_STEPS} steps"


def _pairs(model: VAE, count: int) -> tuple[Tensor, Tensor]:
    """Pairs of samples of the prior."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        z = model.prior.sample(2 * count, generator)  # type: ignore[operator]
    return z[:count], z[count:]


def ours(decoder: Decoder, start: Tensor, end: Tensor, repeats: int) -> list[Contender]:
    """Our two solvers, batched, and the first of them one by one."""
    import torch

    from training.geodesics import Chain, Spline, solve

    def batched(solver: Any) -> Callable[[], Tensor]:
        return lambda: solve(decoder, start, end, solver).curves

    def alone() -> Tensor:
        found = [solve(decoder, a, b, Chain()).curves for a, b in zip(start, end, strict=True)]
        return torch.cat(found)

    return [
        Contender("trackvae, chain of 64 points, batched", batched(Chain()), repeats),
        Contender("trackvae, spline of 12 knots, batched", batched(Spline()), repeats),
        Contender(
            "trackvae, spline, no Jacobian, batched",
            batched(Spline(points=32, knots=8, stiffness="laplacian", steps=200)),
            repeats,
        ),
        Contender("trackvae, chain of 64 points, one by one", alone, 1),
    ]


def stochmans(decoder: Decoder, start: Tensor, end: Tensor, repeats: int) -> list[Contender]:
    """Stochman's connecting geodesics; none where it cannot be imported."""
    try:
        embedded: Any = importlib.import_module("stochman.manifold").EmbeddedManifold
    except ImportError:
        return []
    import torch

    class Decoded(embedded):  # type: ignore[misc]
        """The decoder as stochman takes it."""

        def embed(self, points: Tensor, jacobian: bool = False) -> Tensor:
            """``(..., N, 2)`` to ``(..., N, D_x)``; the energy asks for no Jacobian."""
            if jacobian:
                raise NotImplementedError
            return decoder(points.reshape(-1, 2)).flatten(1).reshape(*points.shape[:-1], -1)

    manifold, t = Decoded(), torch.linspace(0, 1, _POINTS)

    def curves(a: Tensor, b: Tensor) -> Tensor:
        curve, _ = manifold.connecting_geodesic(a, b)
        with torch.no_grad():
            found: Tensor = curve(t)
        return found if found.dim() == 3 else found[None]

    def alone() -> Tensor:
        pairs = zip(torch.split(start, 1), torch.split(end, 1), strict=True)
        return torch.cat([curves(a, b) for a, b in pairs])

    return [
        Contender("stochman, batched", lambda: curves(start, end), repeats),
        Contender("stochman, one by one", alone, 1),
    ]


def measured(
    decoder: Decoder, ends: tuple[Tensor, Tensor], contenders: list[Contender]
) -> list[dict[str, Any]]:
    """Time all in turns, the first being ours; lengths of what they found."""
    import torch

    from trackvae.geometry import riemannian_length, segment_lengths, straight_line
    from training.geodesics import constant_speed

    seconds: dict[str, list[float]] = {c.name: [] for c in contenders}
    busy: dict[str, list[float]] = {c.name: [] for c in contenders}
    lengths: dict[str, Tensor] = {}
    for repeat in range(max(c.repeats for c in contenders)):
        for contender in contenders:
            if repeat >= contender.repeats:
                continue
            begin, worked = time.perf_counter(), time.process_time()
            curves = contender.find()
            busy[contender.name].append(time.process_time() - worked)
            seconds[contender.name].append(time.perf_counter() - begin)
            if contender.name not in lengths:
                with torch.no_grad():
                    even = constant_speed(curves, _POINTS, segment_lengths(decoder, curves))
                    lengths[contender.name] = riemannian_length(decoder, even)
    shortest = torch.stack(list(lengths.values())).amin(0)
    straight = riemannian_length(decoder, straight_line(*ends, _POINTS))
    first = busy[contenders[0].name]
    return [
        {
            "method": name,
            "metric": "seconds",
            "seconds": spread(values, 4),
            "processor": spread(busy[name], 4),
            "ratio": paired_ratio(busy[name], first[: len(values)]),
            "excess": float((lengths[name] / shortest - 1).mean()),
            "worst": float((lengths[name] / shortest - 1).max()),
            "straight": float((straight / shortest - 1).mean()),
        }
        for name, values in seconds.items()
    ]


if __name__ == "__main__":
    sys.exit(main())

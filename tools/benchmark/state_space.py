"""Steps of the EKVAE's training a second, and how a step grows with T, batch and D_z.

    python -m tools.benchmark.state_space

A step is what the trainer makes: filter, smoother, rate, gradients, Adam. Its parts, each with
gradients, stand beside it at the pendulum's own size (Table A.2).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from tools.benchmark.report import CLOCK, Clock, spread, use_one_thread
from trackvae.errors import InputError

if TYPE_CHECKING:
    from training.dssm.batch import SequenceBatch
    from training.dssm.ekvae import EKVAE

MODULE = "tools.benchmark.state_space"
STEPS, BATCH, LATENT = 15, 50, 3  # of the pendulum
LONGER, LARGER, WIDER = (5, 15, 30, 60), (10, 50, 200), (3, 4, 6, 8)
_STATIC = 2


def sequences(count: int, steps: int) -> SequenceBatch:
    """Sequences of the pendulum."""
    from training.data.actuated import actuated_pendulum
    from training.dssm.batch import SequenceBatch

    return SequenceBatch.of(actuated_pendulum(count, test=1, validation=1, steps=steps).train)


def make(latent: int, *, double: bool = False) -> EKVAE:
    """The pendulum's model with so many dimensions of z."""
    import torch

    from training.dssm.ekvae import EKVAE, EKVAEConfig

    torch.manual_seed(0)
    model = EKVAE(EKVAEConfig(latent=latent, static=tuple(range(_STATIC))))
    return model.double() if double else model


def ways(steps: int, batch: int, latent: int, *, double: bool = False) -> dict[str, Any]:
    """A whole step, and its parts, as functions without arguments."""
    import torch

    from training.dssm.batch import SequenceBatch
    from training.dssm.kalman import kalman_smoother

    model, x = make(latent, double=double), sequences(batch, steps)
    if double:
        x = SequenceBatch(x.observations.double(), x.controls.double())
    adam = torch.optim.Adam(model.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    a = model.encoder(x.observations).mean.detach()

    def whole() -> None:
        adam.zero_grad()
        model.terms(x, generator).lagrangian(1.0).mean().backward()  # type: ignore[no-untyped-call]
        adam.step()

    def filtered() -> None:
        found = model.filter_static(a, x)
        (found.mean.sum() + found.covariance.sum()).backward()  # type: ignore[no-untyped-call]

    def smoothed() -> None:
        found = kalman_smoother(model.filter_static(a, x))
        (found.mean.sum() + found.covariance.sum()).backward()  # type: ignore[no-untyped-call]

    def autoencoder() -> None:
        z = model.encoder(x.observations).sample(None, generator)
        (model.decoder(z) - x.observations).square().sum().backward()

    return {
        "training step": whole,
        "filter": filtered,
        "filter and smoother": smoothed,
        "encoder and decoder": autoencoder,
    }


def timed(function: Callable[[], None], repeats: int, calls: int) -> list[float]:
    """Processor milliseconds of a call, one for each repeat, after two to warm up."""
    function()
    function()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(calls):
            function()
        found.append(1e3 * (time.process_time() - start) / calls)
    return found


@dataclass(frozen=True)
class StateSpaceBenchmark:
    """Measure the training of the EKVAE."""

    out: Path = Path("results/benchmark-state-space.json")
    """Where the figures go."""
    repeats: int = 5
    """Timings of each; the median counts."""
    calls: int = 5
    """Steps of a timing."""
    quick: bool = False
    """Few sizes: does it run?"""

    def run(self) -> int:
        """Measure, print, save."""
        use_one_thread(MODULE)
        clock, rows = Clock(), []
        for name, function in ways(STEPS, BATCH, LATENT).items():
            rows.append(self._row(name, "pendulum", (STEPS, BATCH, LATENT), function))
        function = ways(STEPS, BATCH, LATENT, double=True)["training step"]
        rows.append(self._row("training step", "float64", (STEPS, BATCH, LATENT), function))
        grown = [("T", (steps, BATCH, LATENT)) for steps in LONGER]
        grown += [("batch", (STEPS, batch, LATENT)) for batch in LARGER]
        grown += [("D_z", (STEPS, BATCH, latent)) for latent in WIDER]
        for name, size in grown[:1] if self.quick else grown:
            rows.append(
                self._row("training step", f"by {name}", size, ways(*size)["training step"])
            )
        report = {
            "name": "benchmark-state-space",
            "title": "Milliseconds of an EKVAE's training step",
            "quick": self.quick,
            "rows": rows,
            "config": {"threads": 1, "repeats": self.repeats, "clock": CLOCK},
            "seeds": [0],
        }
        clock.save(report, ("trackvae", "torch"), self.out)
        print(f"written to {self.out}")
        return 0

    def _row(
        self, name: str, series: str, size: tuple[int, int, int], function: Callable[[], None]
    ) -> dict[str, Any]:
        times = timed(function, self.repeats, self.calls)
        row: dict[str, Any] = {
            "method": name,
            "series": series,
            "T": size[0],
            "batch": size[1],
            "D_z": size[2],
            "ms": spread(times, 4),
            "steps_a_second": float(f"{1e3 / min(times):.4g}"),
        }
        print(
            f"{name:<20} {series:<9} T {size[0]:>3}, batch {size[1]:>3}, D_z {size[2]}: "
            f"{row['ms']['median']:.1f} ms"
        )
        return row


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(StateSpaceBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

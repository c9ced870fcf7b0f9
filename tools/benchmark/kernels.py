"""The engine's kernels, each way beside the other: the numbers that its comments cite.

    python -m tools.benchmark.kernels

Both ways give the same result, which is checked; the constants in the engine say from which size
on the one is taken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tyro

from tools.benchmark.report import Clock, milliseconds, use_one_thread
from tracker import association, boxes, kalman
from tracker.motion import MOTION_MODELS
from tracker.synthetic import box_stream
from tracker.threads import one_blas_thread
from trackvae.arrays import FloatArray
from trackvae.errors import InputError

MODULE = "tools.benchmark.kernels"
SIZES = (10, 20, 30, 50, 100, 300, 1000)
_NAME = "_SPARSE_FROM_PAIRS"
_NEVER = 1 << 60
_MAX_COST = 0.7


@contextmanager
def _sparse_from(module: ModuleType, pairs: int) -> Iterator[None]:
    usual = getattr(module, _NAME)
    setattr(module, _NAME, pairs)
    try:
        yield
    finally:
        setattr(module, _NAME, usual)


def _both(
    module: ModuleType, function: Callable[[], Any], calls: int, repeats: int
) -> dict[str, float]:
    """Milliseconds over all pairs, and over the near ones only."""
    times, results = {}, []
    for name, pairs in (("dense", _NEVER), ("sparse", 0)):
        with _sparse_from(module, pairs):
            results.append(function())
            times[name] = milliseconds(function, repeats, calls)
    for one, other in zip(*(np.atleast_2d(np.asarray(r)) for r in results), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    return times


def scene(objects: int) -> tuple[FloatArray, FloatArray]:
    """Boxes of two frames, one after the other."""
    first, second = box_stream(objects, 2, seed=0)
    return first.detections.boxes, second.detections.boxes


def measure(objects: int, repeats: int) -> list[dict[str, Any]]:
    """Overlap, assignment, gate and filter with so many objects."""
    before, now = scene(objects)
    calls = max(1, 20_000 // objects**2)
    model = MOTION_MODELS["xyah"]
    axis, full = kalman.AxisKalman(model), kalman.FullKalman(model)
    z = model.measure(now)
    mean, covariance = axis.initiate(model.measure(before))
    cost = 1.0 - boxes.iou(before, now)

    def gate() -> FloatArray:
        distance = axis.gating_distance(mean, covariance, z, kalman.CHI2_95)
        return distance[distance <= kalman.CHI2_95]

    def frame(filter_: kalman.KalmanFilter) -> Callable[[], None]:
        mu, sigma = filter_.initiate(model.measure(before))
        rows, found = np.arange(len(before)), model.measure(before)

        def step() -> None:
            filter_.predict(mu, sigma)
            filter_.update(mu, sigma, rows, found)

        return step

    ways = {
        "overlap": _both(boxes, lambda: boxes.iou(before, now), calls, repeats),
        "assignment": _both(
            association, lambda: association.assign(cost, cost <= _MAX_COST, 1.0), calls, repeats
        ),
        "gate": _both(kalman, gate, calls, repeats),
        "filter": {
            "axis": milliseconds(frame(axis), repeats, calls),
            "full": milliseconds(frame(full), repeats, calls),
        },
    }
    return [
        {"method": name, "metric": f"ms, {objects} objects", "objects": objects, "ms": ms}
        for name, ms in ways.items()
    ]


def thread_limit(repeats: int) -> dict[str, Any]:
    """What it costs to limit BLAS, against threadpoolctl's own context."""
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController().select(user_api="blas")

    def ours() -> None:
        with one_blas_thread():
            pass

    def theirs() -> None:
        with controller.limit(limits=1):
            pass

    times = {
        "one_blas_thread": milliseconds(ours, repeats, 300),
        "threadpoolctl": milliseconds(theirs, repeats, 300),
    }
    return {"method": "thread limit", "metric": "ms", "ms": times}


@dataclass(frozen=True)
class KernelBenchmark:
    """Measure the engine's kernels by the number of objects."""

    out: Path = Path("results/benchmark-kernels.json")
    """Where the figures go."""
    repeats: int = 9
    """Timings of each way; the median counts."""
    quick: bool = False
    """Small sizes only: does it run?"""

    def run(self) -> int:
        """Measure, print, save."""
        use_one_thread(MODULE)
        clock = Clock()
        rows = [thread_limit(self.repeats)]
        for objects in SIZES[:3] if self.quick else SIZES:
            rows += measure(objects, 3 if self.quick else self.repeats)
        for row in rows:
            times = ", ".join(f"{name} {1e3 * ms:,.1f}" for name, ms in row["ms"].items())
            print(f"{row['method']:>12} {row['metric']:<18} {times} us")
        report = {
            "name": "benchmark-kernels",
            "title": "The engine's kernels, each way beside the other",
            "quick": self.quick,
            "rows": rows,
            "config": {"threads": 1, "repeats": self.repeats},
            "seeds": [0],
        }
        clock.save(report, ("trackvae", "numpy", "scipy", "threadpoolctl"), self.out)
        print(f"written to {self.out}")
        return 0


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(KernelBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

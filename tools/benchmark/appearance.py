"""Appearance distances by size: our memory, one product over everything, and FAISS.

    python -m tools.benchmark.appearance

As many detections as tracks; the motion gate leaves a few candidates a track. FAISS holds every
entry of every gallery in a flat index; a range search finds what is within the limit, and the best
entry of each gallery is taken from it. Galleries change in every frame, so that an index would be
built anew in every frame; its search alone is also measured. All agree on the distances of the
candidates within the limit; a difference stops the benchmark.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from tools.benchmark.report import Clock, milliseconds, use_one_thread
from tracker import appearance
from tracker.appearance import AppearanceMemory
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import InputError

MODULE = "tools.benchmark.appearance"
TRACKS, ENTRIES, DIM, SEED = (1, 3, 10, 30, 100, 300, 1000), (1, 4, 8, 16, 30, 100), 128, 0
CANDIDATES, LIMIT = 4, 0.2  # detections in a track's gate; the preset's largest distance
_NOISE = 0.45  # cosine distance about 0.17 between two views of one object
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """Galleries and detections of one size.

    Attributes:
        memory: holding ``(tracks, entries)`` embeddings.
        slots: ``(N,)`` of the galleries.
        entries: ``(N, B, D)`` the same embeddings.
        queries: ``(M, D)``.
        wanted: ``(N, M)``.
    """

    memory: AppearanceMemory
    slots: IntArray
    entries: FloatArray
    queries: FloatArray
    wanted: BoolArray


def make_case(tracks: int, entries: int, rng: np.random.Generator) -> Case:
    """Noisy views of as many objects as there are tracks."""

    def views() -> FloatArray:
        noise = rng.standard_normal((tracks, DIM), dtype=np.float32) * (_NOISE / np.sqrt(DIM))
        return memory.prepare((objects + noise).astype(np.float32))

    memory = AppearanceMemory("cosine", entries)
    objects = memory.prepare(rng.standard_normal((tracks, DIM), dtype=np.float32))
    seen = [views() for _ in range(entries)]
    slots = memory.open(seen[0])
    for view in seen[1:]:
        memory.add(slots, view)
    wanted = np.eye(tracks, dtype=bool)
    for _ in range(min(CANDIDATES, tracks) - 1):
        wanted[np.arange(tracks), rng.integers(0, tracks, tracks)] = True
    return Case(memory, slots, np.stack(seen, axis=1), views(), wanted)


def one_product(case: Case) -> FloatArray:
    """All pairs by one product over all galleries: ``(N, M)``."""
    n, depth, dim = case.entries.shape
    product = case.entries.reshape(-1, dim) @ case.queries.T
    return 1.0 - product.reshape(n, depth, -1).max(axis=1)


def build(case: Case) -> Any:
    """A flat index of all entries."""
    import faiss

    index = faiss.IndexFlatIP(DIM)
    index.add(case.entries.reshape(-1, DIM))
    return index


def search(index: Any, case: Case) -> FloatArray:
    """Range search for what is within the limit, reduced to the best entry of each gallery."""
    lims, products, found = index.range_search(case.queries, 1.0 - LIMIT)
    best = np.full((len(case.entries), len(case.queries)), -np.inf, np.float32)
    query = np.repeat(np.arange(len(case.queries)), np.diff(lims.astype(np.int64)))
    np.maximum.at(best, (found // case.entries.shape[1], query), products)
    return 1.0 - best


@contextmanager
def _small_below(products: int) -> Iterator[None]:
    """Our memory, taking all pairs at once where there are fewer products than that."""
    usual = appearance._SMALL
    appearance._SMALL = products
    try:
        yield
    finally:
        appearance._SMALL = usual


def measure(tracks: int, entries: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    """Milliseconds of every way at one size."""
    import faiss

    faiss.omp_set_num_threads(1)
    case = make_case(tracks, entries, rng)
    index = build(case)

    def ours() -> FloatArray:
        return case.memory.distances(case.slots, case.queries, case.wanted)

    ways: dict[str, Callable[[], FloatArray]] = {
        "trackvae": ours,
        "one product": lambda: one_product(case),
        "FAISS": lambda: search(build(case), case),
        "FAISS, search only": lambda: search(index, case),
    }
    _check({name: way() for name, way in ways.items()}, case.wanted)
    calls = max(1, 2000 // (tracks * entries))
    times = {name: milliseconds(way, repeats, calls) for name, way in ways.items()}
    for name, products in (("own candidates", 0), ("all pairs", 1 << 60)):
        with _small_below(products):
            times[name] = milliseconds(ours, repeats, calls)
    peer = min(("one product", "FAISS"), key=times.__getitem__)
    return {
        "method": "AppearanceMemory.distances",
        "metric": f"ms, {tracks} tracks of {entries}",
        "tracks": tracks,
        "entries": entries,
        "ours": times["trackvae"],
        "peer": {"name": peer, "median": times[peer]},
        "ratio": round(times[peer] / times["trackvae"], 2),
        "ms": times,
        "fastest": min(ways, key=times.__getitem__),
    }


def _check(found: dict[str, FloatArray], wanted: BoolArray) -> None:
    """Every way gives the same distance to every candidate within the limit."""
    reference = found["one product"]
    near = wanted & (reference < LIMIT - _TOLERANCE)
    for name, distances in found.items():
        worst = float(np.abs(distances[near] - reference[near]).max(initial=0.0))
        if worst > _TOLERANCE:
            raise AssertionError(f"{name} is {worst:.1e} away from one product")


@dataclass(frozen=True)
class AppearanceBenchmark:
    """Measure appearance distances by the number of tracks and of entries a gallery."""

    out: Path = Path("results/benchmark-appearance.json")
    """Where the figures go."""
    repeats: int = 7
    """Timings of each way; the median counts."""
    quick: bool = False
    """Small sizes only: does it run?"""

    def run(self) -> int:
        """Measure, print, save."""
        use_one_thread(MODULE)
        clock, rng = Clock(), np.random.default_rng(SEED)
        rows = []
        for tracks in TRACKS[:3] if self.quick else TRACKS:
            for entries in ENTRIES:
                repeats = 3 if self.quick or tracks * entries > 20_000 else self.repeats
                rows.append(measure(tracks, entries, repeats, rng))
                times = ", ".join(f"{name} {ms:g}" for name, ms in rows[-1]["ms"].items())
                print(f"{tracks:>5} x {entries:>3}: {times} ms", flush=True)
        report = {
            "name": "benchmark-appearance",
            "title": "Distances to galleries: our memory, one product, FAISS",
            "quick": self.quick,
            "rows": rows,
            "config": {
                "threads": 1,
                "dim": DIM,
                "detections": "as many as tracks",
                "candidates_a_track": CANDIDATES,
                "limit": LIMIT,
                "repeats": self.repeats,
                "own candidates, all pairs": "our memory made to take one way at every size",
            },
            "seeds": [SEED],
        }
        clock.save(report, ("trackvae", "numpy", "faiss-cpu"), self.out)
        print(f"written to {self.out}")
        return 0


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(AppearanceBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

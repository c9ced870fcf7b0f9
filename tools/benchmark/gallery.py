"""Gallery search by size: exact, HNSW and IVF-PQ, milliseconds a query and recall against exact.

    python -m tools.benchmark.gallery

Made embeddings, clustered as an encoder's are: every identity has a place on the unit sphere, and
each of its looks is scattered about it so that two looks of one have a cosine of 0.6 in the mean.
A direction's share of the variance falls as 1 / (1 + its number), in the places and in the scatter;
isotropic vectors in 128 dimensions would have no near neighbours to find. Queries are further looks
of identities that the gallery knows. Recall@k is the share of the k nearest, by exact search, that
a kind finds among its first k.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from reid.gallery import KINDS, Gallery, Kind
from tools.benchmark.report import CLOCK, Clock, use_one_thread
from trackvae.arrays import FloatArray, IntArray, unit_length
from trackvae.errors import InputError, UsageError

MODULE = "tools.benchmark.gallery"
SEED = 0
LOOKS = 20  # of an identity, in the mean
ALIKE = 0.6  # cosine of two looks of one identity, in the mean
K = 10  # answers of a query
QUERIES = 200
_BLOCK = 100_000  # vectors made at once
# Above, building one index takes an hour on one thread; the others are measured all the same.
_MOST_NUMBERS = {"exact": 1 << 40, "hnsw": 160_000_000, "ivf-pq": 1 << 40}


@dataclass(frozen=True)
class Case:
    """Embeddings of one size.

    Attributes:
        vectors: (N, D) float32 of unit length.
        ids: (N,) their identities.
        queries: (Q, D) further looks.
        query_ids: (Q,).
    """

    vectors: FloatArray
    ids: IntArray
    queries: FloatArray
    query_ids: IntArray


def make_case(count: int, dim: int, queries: int, rng: np.random.Generator) -> Case:
    """Looks of ``count / LOOKS`` identities; see the module."""
    people = max(1, count // LOOKS)
    spectrum = np.sqrt(1 / (1 + np.arange(dim)))
    spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
    places = unit_length(rng.standard_normal((people, dim), dtype=np.float32) * spectrum)
    scatter = np.float32(np.sqrt(1 / ALIKE - 1))  # cosine 1 / (1 + scatter^2)

    def looks(ids: IntArray) -> Iterator[FloatArray]:
        for first in range(0, len(ids), _BLOCK):
            some = ids[first : first + _BLOCK]
            noise = rng.standard_normal((len(some), dim), dtype=np.float32)
            yield unit_length(places[some] + noise * (spectrum * scatter))

    ids, asked = rng.integers(0, people, count), rng.integers(0, people, queries)
    return Case(np.concatenate(list(looks(ids))), ids, np.concatenate(list(looks(asked))), asked)


def recall(found: IntArray, exact: IntArray, k: int) -> float:
    """Mean share of the first k of ``exact`` (Q, K) among the first k of ``found`` (Q, K)."""
    hits = (found[:, :k, None] == exact[:, None, :k]) & (exact[:, None, :k] >= 0)
    return float(hits.any(axis=1).sum() / max(1, int((exact[:, :k] >= 0).sum())))


def search_ms(gallery: Gallery, queries: FloatArray) -> float:
    """Milliseconds of a query that comes alone, the median of all."""
    seconds = []
    for query in queries:
        start = time.process_time()
        gallery.search(query[None], K)
        seconds.append(time.process_time() - start)
    return 1e3 * float(np.median(seconds))


def batch_ms(gallery: Gallery, queries: FloatArray) -> float:
    """Milliseconds a query where all come at once."""
    start = time.process_time()
    gallery.search(queries, K)
    return 1e3 * (time.process_time() - start) / len(queries)


def measure(kind: Kind, case: Case, exact: IntArray | None) -> tuple[dict[str, Any], IntArray]:
    """A kind's row, and the places that it found (Q, K); without ``exact`` it is the exact one."""
    count, dim = case.vectors.shape
    gallery = Gallery(dim, kind=kind)
    start = time.process_time()
    gallery.add(case.vectors, case.ids)
    gallery.search(case.queries[:1], K)  # the index is built with the first search
    built = time.process_time() - start
    found = gallery.search(case.queries, K)
    places = found.places
    exact = places if exact is None else exact
    row = {
        "method": kind,
        "entries": count,
        "dim": dim,
        "build_seconds": round(built, 2),
        "ms": float(f"{search_ms(gallery, case.queries):.3g}"),
        "ms_in_batch": float(f"{batch_ms(gallery, case.queries):.3g}"),
        "recall@1": round(100 * recall(places, exact, 1), 1),
        "recall@10": round(100 * recall(places, exact, K), 1),
        "rank1": round(100 * float((found.ids[:, 0] == case.query_ids).mean()), 1),
    }
    return row, places


def rows_of(count: int, dim: int, queries: int) -> Iterator[dict[str, Any]]:
    """A row for each kind, exact search first."""
    case = make_case(count, dim, queries, np.random.default_rng(SEED))
    exact, alone = None, 0.0
    for kind in KINDS:
        if count * dim > _MOST_NUMBERS[kind]:
            continue
        row, places = measure(kind, case, exact)
        exact, alone = (places, row["ms"]) if exact is None else (exact, alone)
        yield row | {"ratio": round(alone / row["ms"], 2)}


@dataclass(frozen=True)
class GalleryBenchmark:
    """Measure gallery search by size, dimension and kind of index."""

    out: Path = Path("results/benchmark-gallery.json")
    """Where the figures go."""
    entries: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    """Vectors in the gallery."""
    dims: tuple[int, ...] = (64, 512)
    """Numbers of a vector: of a fitted encoder, of the default's."""
    queries: int = QUERIES
    """Asked one by one, then all at once."""

    def run(self) -> int:
        """Measure, print, save."""
        if min(*self.entries, *self.dims, self.queries) < 1:
            raise UsageError(
                f"entries are {self.entries}, dims {self.dims}, queries {self.queries}; expected "
                "1 or more"
            )
        use_one_thread(MODULE)
        import faiss

        faiss.omp_set_num_threads(1)
        clock, rows = Clock(), []
        packages = ("trackvae", "numpy", "faiss-cpu")
        for dim in self.dims:
            for count in self.entries:
                for row in rows_of(count, dim, self.queries):
                    rows.append(row)
                    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                    clock.save(self._report(rows), packages, self.out)  # large ones take minutes
        print(f"written to {self.out}")
        return 0

    def _report(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "name": "benchmark-gallery",
            "title": "Gallery search: exact, HNSW, IVF-PQ",
            "rows": list(rows),
            "config": {
                "threads": 1,
                "clock": CLOCK,
                "metric": "euclidean, vectors of unit length",
                "made": f"{LOOKS} looks an identity, cosine {ALIKE} between two of one, variance "
                "of direction i falls as 1 / (1 + i)",
                "queries": self.queries,
                "k": K,
                "ms": "of a query that comes alone; ms_in_batch: of all at once, a query",
                "ratio": "ms of exact search over the kind's",
                "recall@k": "share of exact search's k nearest",
                "rank1": "queries whose nearest entry is of their identity",
                "left_out": "HNSW of more than 160 million numbers (building takes an hour)",
            },
            "seeds": [SEED],
        }


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(GalleryBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

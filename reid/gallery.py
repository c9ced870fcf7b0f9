"""The gallery: embeddings with identities that can be searched, on FAISS.

The vectors themselves are kept beside FAISS's index: they are what is saved, what approximate
answers are ranked again by, and what an index is built from anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from trackvae.archives import read_archive
from trackvae.arrays import FloatArray, IntArray, unit_length
from trackvae.errors import InputError, UsageError
from trackvae.files import atomic_path, write_errors

if TYPE_CHECKING:
    import faiss

    from reid.metrics import Metric

Kind: TypeAlias = Literal["exact", "hnsw", "ivf-pq"]
KINDS: tuple[Kind, ...] = ("exact", "hnsw", "ivf-pq")
NOBODY = -1  # the identity of an answer that is missing: fewer than k entries

_LEAST_TO_TRAIN = 5_000  # entries; below, IVF-PQ has too little to learn its cells from
_RANK_AGAIN = 8  # candidates of an approximate index for each answer, ranked by exact distance
_HNSW_LINKS, _HNSW_SEARCH = 32, 128
_PROBED = 16  # cells that IVF-PQ looks into
_MOST_DEAD = 0.5  # share of removed entries that an index carries before it is built anew
_WRITER = "trackvae gallery build"
_FORMAT = 1


class Matches(NamedTuple):
    """The nearest entries of each query, nearest first.

    Attributes:
        ids: (Q, k), :data:`NOBODY` where there are fewer than k entries.
        distances: (Q, k) Euclidean distances, or 1 - cosine; inf where there is no entry.
        places: (Q, k) which entry, as in :attr:`Gallery.ids`; -1 where there is none.
    """

    ids: IntArray
    distances: FloatArray
    places: IntArray


class Gallery:
    """Embeddings with identities."""

    def __init__(
        self,
        dim: int,
        *,
        kind: Kind = "exact",
        metric: Metric = "euclidean",
        most_per_id: int | None = None,
        encoder: str | None = None,
    ) -> None:
        """Make an empty gallery.

        Args:
            dim: of an embedding.
            kind: ``exact``; ``hnsw`` and ``ivf-pq`` are approximate and pay from some 100,000
                entries on.
            metric: between embeddings.
            most_per_id: entries kept of one identity, the newest; None: all.
            encoder: the name of what makes the embeddings, for whoever opens the gallery later.

        Raises:
            UsageError: settings that mean nothing.
        """
        if dim < 1 or (most_per_id is not None and most_per_id < 1):
            raise UsageError(f"dim is {dim}, most_per_id {most_per_id}, expected 1 or more")
        if kind not in KINDS:
            raise UsageError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
        if metric not in ("euclidean", "cosine"):
            raise UsageError(f"metric is {metric!r}, expected euclidean or cosine")
        self.dim, self.kind, self.metric, self.most_per_id = dim, kind, metric, most_per_id
        self.encoder = encoder
        self._vectors: FloatArray = np.zeros((0, dim), np.float32)  # unit length for the cosine
        self._ids: IntArray = np.zeros(0, np.int64)
        self._alive = np.zeros(0, bool)
        self._notes: npt.NDArray[np.str_] = np.zeros(0, "<U1")
        self._index: faiss.Index | None = None
        self._indexed = 0  # how many of the vectors the index holds

    def __len__(self) -> int:
        return int(self._alive.sum())

    @property
    def ids(self) -> IntArray:
        """The identity of each entry, oldest first, (N,)."""
        return self._ids[self._alive]

    @property
    def embeddings(self) -> FloatArray:
        """The entries, oldest first, (N, D); of unit length for the cosine."""
        return self._vectors[self._alive]

    @property
    def notes(self) -> npt.NDArray[np.str_]:
        """What was noted with each entry, oldest first, (N,)."""
        return self._notes[self._alive]

    def add(
        self, embeddings: FloatArray, ids: IntArray, notes: Sequence[str] | None = None
    ) -> None:
        """Put entries in; of an identity that has too many the oldest are removed.

        Args:
            embeddings: (N, D).
            ids: (N,), not negative.
            notes: N texts, kept beside the entries: where each comes from; empty if left out.

        Raises:
            InputError: they do not fit the gallery or each other, or are not finite.
        """
        vectors = self._checked(embeddings)
        ids = np.asarray(ids, dtype=np.int64)
        if ids.shape != (len(vectors),) or (ids < 0).any():
            raise InputError(
                f"identities {ids.shape} for {len(vectors)} embeddings, expected as many, from 0 on"
            )
        texts = np.asarray([""] * len(ids) if notes is None else notes, dtype=np.str_)
        if texts.shape != ids.shape:
            raise InputError(f"{len(texts)} notes for {len(ids)} embeddings, expected as many")
        self._notes = np.concatenate([self._notes, texts])
        self._vectors = np.concatenate([self._vectors, vectors])
        self._ids = np.concatenate([self._ids, ids])
        self._alive = np.concatenate([self._alive, np.ones(len(ids), bool)])
        if self.most_per_id is not None and len(ids):
            self._bound(np.unique(ids), self.most_per_id)

    def _bound(self, touched: IntArray, most: int) -> None:
        """Remove the oldest entries of identities that have more than ``most``."""
        rows = np.flatnonzero(self._alive & np.isin(self._ids, touched))
        by_id = rows[np.argsort(self._ids[rows], kind="stable")][::-1]  # newest first in each
        same = self._ids[by_id]
        starts = np.flatnonzero(np.r_[True, same[1:] != same[:-1]])
        place = np.arange(len(same)) - np.repeat(starts, np.diff(np.r_[starts, len(same)]))
        self._alive[by_id[place >= most]] = False
        self._tidy()

    def remove(self, ids: IntArray) -> int:
        """Take all entries of these identities out; returns how many there were."""
        gone = self._alive & np.isin(self._ids, ids)
        self._alive[gone] = False
        self._tidy()
        return int(gone.sum())

    def _tidy(self) -> None:
        """Drop removed entries for good once they are many; the index is then built anew."""
        if not self._alive.all() and (~self._alive).sum() >= _MOST_DEAD * len(self._alive):
            self._vectors, self._ids = self._vectors[self._alive], self._ids[self._alive]
            self._notes = self._notes[self._alive]
            self._alive = np.ones(len(self._ids), bool)
            self._index, self._indexed = None, 0

    def search(self, queries: FloatArray, k: int = 1) -> Matches:
        """The k nearest entries of each query.

        Args:
            queries: (Q, D).
            k: at least 1.

        Raises:
            InputError: queries of another dimension, or not finite.
            UsageError: k below 1.
        """
        if k < 1:
            raise UsageError(f"k is {k}, expected 1 or more")
        vectors = self._checked(queries)
        shape = (len(vectors), k)
        missing = Matches(
            np.full(shape, NOBODY), np.full(shape, np.inf, np.float32), np.full(shape, -1)
        )
        if not len(self) or not len(vectors):
            return missing
        exact = self.kind == "exact"
        wanted = min(k if exact else k * _RANK_AGAIN, len(self))
        squared, rows = self._nearest(vectors, wanted)
        if not exact:
            squared, rows = self._ranked_again(vectors, rows)
        found = min(wanted, k)
        squared, rows = squared[:, :found], rows[:, :found]
        ids = np.where(rows >= 0, self._ids[rows], NOBODY)
        # |a - b|^2 = 2 (1 - cos) for vectors of unit length
        distances = squared / 2 if self.metric == "cosine" else np.sqrt(np.maximum(squared, 0))
        missing.ids[:, :found] = ids
        missing.distances[:, :found] = np.where(rows >= 0, distances, np.inf)
        places = rows if self._alive.all() else (np.cumsum(self._alive) - 1)[rows]
        missing.places[:, :found] = np.where(rows >= 0, places, -1)
        return missing

    def _checked(self, embeddings: FloatArray) -> FloatArray:
        """Embeddings as (N, D) float32, of unit length for the cosine."""
        vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise InputError(
                f"embeddings {vectors.shape}, expected (N, {self.dim}): the gallery's dimension; "
                "was it built with another encoder?"
            )
        if not np.isfinite(vectors).all():
            raise InputError("embeddings hold NaN or infinity")
        if self.metric == "cosine":
            vectors = unit_length(vectors)
        return vectors

    # --- FAISS

    def _nearest(self, vectors: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
        """Squared distances and rows (Q, count) by the index; -1 where it found fewer."""
        import faiss

        index = self._up_to_date()
        given: dict[str, Any] = {}
        if not self._alive.all():
            bits = np.packbits(self._alive, bitorder="little")
            given["sel"] = faiss.IDSelectorBitmap(bits)
        if isinstance(index, faiss.IndexHNSW):
            effort = max(_HNSW_SEARCH, 2 * count)
            parameters = faiss.SearchParametersHNSW(efSearch=effort, **given)
        elif isinstance(index, faiss.IndexIVF):
            parameters = faiss.SearchParametersIVF(nprobe=_PROBED, **given)
        else:
            parameters = faiss.SearchParameters(**given)
        squared, rows = index.search(vectors, count, params=parameters)
        return np.asarray(squared), np.asarray(rows)

    def _ranked_again(self, vectors: FloatArray, rows: IntArray) -> tuple[FloatArray, IntArray]:
        """The index's candidates (Q, C) in the order of their exact distances."""
        difference = self._vectors[rows] - vectors[:, None]
        squared = np.where(rows >= 0, np.square(difference).sum(-1), np.inf)
        order = np.argsort(squared, axis=1, kind="stable")
        return np.take_along_axis(squared, order, 1), np.take_along_axis(rows, order, 1)

    def _up_to_date(self) -> faiss.Index:
        """The index with every vector in it."""
        import faiss

        outgrown = self.kind == "ivf-pq" and isinstance(self._index, faiss.IndexFlat)
        if self._index is None or (outgrown and len(self._vectors) >= _LEAST_TO_TRAIN):
            self._index, self._indexed = self._new_index(), 0
        if self._indexed < len(self._vectors):
            self._index.add(np.ascontiguousarray(self._vectors[self._indexed :]))
            self._indexed = len(self._vectors)
        return self._index

    def _new_index(self) -> faiss.Index:
        import faiss

        count = len(self._vectors)
        if self.kind == "hnsw":
            return faiss.IndexHNSWFlat(self.dim, _HNSW_LINKS)
        if self.kind == "exact" or count < _LEAST_TO_TRAIN:
            return faiss.IndexFlatL2(self.dim)
        cells = 2 ** round(math.log2(math.sqrt(count)))
        parts = next(p for p in (16, 8, 4, 2, 1) if self.dim % p == 0)
        quantiser = faiss.IndexFlatL2(self.dim)
        index = faiss.IndexIVFPQ(quantiser, self.dim, cells, parts, 8)
        drawn = np.random.default_rng(0).permutation(count)[: 64 * cells]
        index.train(np.ascontiguousarray(self._vectors[drawn]))
        return index

    # --- on disk

    def save(self, path: str | Path) -> None:
        """Write the gallery with its index, whole or not at all (an ``.npz``).

        Raises:
            InputError: it cannot be written.
        """
        import faiss

        about = {
            "format": _FORMAT,
            "dim": self.dim,
            "kind": self.kind,
            "metric": self.metric,
            "most_per_id": self.most_per_id,
            "encoder": self.encoder,
        }
        arrays: dict[str, Any] = {
            "about": np.array(json.dumps(about)),
            "vectors": self._vectors,
            "ids": self._ids,
            "alive": self._alive,
            "notes": self._notes,
        }
        if self.kind != "exact" and len(self._vectors):  # an exact index is made in no time
            arrays["index"] = faiss.serialize_index(self._up_to_date())
        with atomic_path(path) as temporary, write_errors(path), temporary.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Gallery:
        """Read a gallery that :meth:`save` wrote; never runs code.

        Raises:
            InputError: the file is missing, damaged, or no gallery.
        """
        import faiss

        arrays = read_archive(path, writer=_WRITER)
        try:
            about = json.loads(str(arrays["about"]))
            if about.pop("format") != _FORMAT:
                raise ValueError("of another version")
            gallery = cls(**about)
            vectors, ids, alive = (arrays[name] for name in ("vectors", "ids", "alive"))
            notes = arrays.get("notes", np.full(len(ids), ""))
            sizes = {len(vectors), len(ids), len(alive), len(notes)}
            if len(sizes) > 1 or vectors.shape[1:] != (gallery.dim,):
                raise ValueError(f"{vectors.shape} vectors, {ids.shape} identities")
            gallery._vectors = vectors.astype(np.float32, copy=False)
            gallery._ids, gallery._alive = ids.astype(np.int64), alive.astype(bool)
            gallery._notes = notes.astype(np.str_, copy=False)
            if "index" in arrays:
                gallery._index = faiss.deserialize_index(arrays["index"])
                gallery._indexed = gallery._index.ntotal
                if gallery._indexed != len(vectors) or gallery._index.d != gallery.dim:
                    raise ValueError("index and vectors do not belong together")
        except KeyError as error:
            raise InputError(f"{path}: not a gallery; {_WRITER} writes one") from error
        except (TypeError, ValueError, RuntimeError, UsageError) as error:
            raise InputError(f"{path}: not a gallery of ours ({error})") from error
        return gallery

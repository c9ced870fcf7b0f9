"""Scores of an encoder on a MOT sequence, or on a folder of Market-1501's kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid.market import Crops, read_market, sheets
from reid.metrics import Metric, RetrievalScores, market1501, score_retrieval, within_video
from tools.fit.learning import Observed
from tools.reid_eval.descriptors import Encoder, Fitted, GivenFeatures
from tools.reid_eval.pixels import FromPixels
from tools.reid_eval.sequences import Boxes, describe, queries_of, tracklets_of
from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from reid.descriptors import Descriptor
    from tracker.io.sources import Source

_MOST_NUMBERS = 64_000_000  # that a projection is fitted to: 256 MB; 15,600 crops' colour stripes


@dataclass(frozen=True, slots=True)
class Options:
    """How it is scored.

    Attributes:
        metric: between embeddings.
        fit: sequences that a projection is fitted to; empty: the one that is scored.
        gap: frames between a query and what it is compared with.
        stride: of a sequence's frames.
    """

    metric: Metric = "euclidean"
    fit: tuple[str, ...] = ()
    gap: int = 60
    stride: int = 5


@dataclass(slots=True)
class Retrieval:
    """Scores, and what they were made with.

    Attributes:
        scores: of the ranked lists.
        made: by name: boxes, identities, dimension, what was fitted to how much.
    """

    scores: RetrievalScores
    made: dict[str, Any] = field(default_factory=dict)


def score_sequence(
    folder: str | Path, encoder: Encoder | GivenFeatures | FromPixels, options: Options
) -> Retrieval:
    """Within-video protocol on the ground truth of a MOT sequence.

    Raises:
        InputError: see :func:`queries_of`, :func:`tracklets_of`, :func:`describe`.
        UsageError: a supervised encoder that would be told who it is asked for.
    """
    from tracker.io.sources import open_frames

    source = open_frames(folder)
    queries = queries_of(source, stride=options.stride, gap=options.gap)
    made: dict[str, Any] = {"boxes": len(queries), "gap": options.gap, "stride": options.stride}
    if isinstance(encoder, GivenFeatures):
        vectors, rows = encoder.match(queries.frames, queries.boxes)
        made["without_features"] = len(queries) - len(rows)
        queries = queries.select(rows)
    elif isinstance(encoder, FromPixels):
        descriptor = _trained(encoder, options.fit, source, made)
        (vectors,) = describe(source, descriptor, [queries])
    elif encoder.fitted and not options.fit:
        tracklets = tracklets_of(source, most=_MOST_NUMBERS // encoder.descriptor.dim)
        vectors, samples = describe(source, encoder.descriptor, [queries, tracklets])
        observed = _observed(source.name, tracklets, samples)
        vectors = _fitted(encoder, [observed], folder, made).apply(vectors)
    else:
        (vectors,) = describe(source, encoder.descriptor, [queries])
        if encoder.fitted:
            vectors = _fitted_to_others(encoder, options.fit, made).apply(vectors)
    made |= {"identities": len(np.unique(queries.ids)), "dim": vectors.shape[1]}
    scores = score_retrieval(
        vectors,
        vectors,
        queries.ids,
        queries.ids,
        within_video(queries.frames, options.gap),
        metric=options.metric,
    )
    return Retrieval(scores, made)


def score_market(
    folder: str | Path, encoder: Encoder | GivenFeatures | FromPixels, options: Options
) -> Retrieval:
    """Market-1501's protocol on its folders, or on any folder of crops named as there.

    Raises:
        InputError: see :func:`read_market`.
        UsageError: an encoder that single crops say too little for.
    """
    if isinstance(encoder, GivenFeatures):
        raise UsageError("features:FILE holds features by frame and box, for within-video only")
    trained = isinstance(encoder, FromPixels) or encoder.fitted not in (None, "pca")
    if trained and not options.fit:
        raise UsageError(
            f"{folder}: single crops have no tracklets to learn from; --fit other:SEQUENCE does"
        )
    made: dict[str, Any] = {}
    if isinstance(encoder, FromPixels):
        encoder = Encoder(encoder.name, _trained(encoder, options.fit, None, made))
    queries, gallery = read_market(folder)
    vectors = _describe_crops(gallery, encoder.descriptor)
    row_of = {path: row for row, path in enumerate(gallery.paths)}
    if queries.paths[0] in row_of:  # one folder is both
        asked = vectors[[row_of[path] for path in queries.paths]]
    else:
        asked = _describe_crops(queries, encoder.descriptor)
    made |= {"boxes": len(gallery), "identities": len(np.unique(queries.ids))}
    if encoder.fitted:
        if options.fit:
            projection = _fitted_to_others(encoder, options.fit, made)
        else:
            some = vectors[:: -(-vectors.size // _MOST_NUMBERS)]
            alone = np.arange(len(some))  # crops without frames, each its own tracklet
            single = Observed(str(folder), 0 * alone, np.zeros((len(some), 4)), alone, some)
            projection = _fitted(encoder, [single], folder, made)
        asked, vectors = projection.apply(asked), projection.apply(vectors)
    made["dim"] = vectors.shape[1]
    comparable = market1501(queries.ids, queries.cameras, gallery.ids, gallery.cameras)
    scores = score_retrieval(
        asked, vectors, queries.ids, gallery.ids, comparable, metric=options.metric
    )
    return Retrieval(scores, made)


def _describe_crops(crops: Crops, descriptor: Descriptor) -> FloatArray:
    """Vectors (N, dim) of whole images."""
    from tools.progress import progress

    parts, done = [], 0
    with progress("crops", len(crops), "crops") as advance:
        for image, boxes in sheets(crops):
            parts.append(descriptor(image, boxes))
            done += len(boxes)
            advance(done)
    return np.concatenate(parts)


def _trained(
    encoder: FromPixels, others: Sequence[str], own: Source | None, made: dict[str, Any]
) -> Descriptor:
    """An encoder of pixels, trained on other sequences, or on the one that is scored.

    Raises:
        UsageError: labels of the one that is scored.
    """
    if encoder.supervised and not others:
        raise UsageError(
            f"{encoder.name} learns from identities, and would be told those that it is asked "
            "for; --fit other:SEQUENCE names sequences to learn from"
        )
    from tools.train.machine import check_torch

    check_torch(f"reid-eval --encoder {encoder.name}")
    sources = [own] if own is not None and not others else _open_others(others)
    if encoder.supervised and own is not None:
        for source in sources:
            if _place(source) == _place(own):
                raise UsageError(
                    f"--fit other: names {source.name}, which is the one that is scored, and "
                    f"{encoder.name} learns from identities"
                )
    try:
        embedder, found = encoder.learn(sources)
    except InputError as error:
        where = ", ".join(source.name for source in sources)
        raise InputError(f"{where}: {encoder.name} cannot be trained: {error}") from error
    made["fit"] = {"on": ", ".join(source.name for source in sources)} | found
    return embedder


def _place(source: Source) -> Path | str:
    return source.name if source.path is None else Path(source.path).resolve()


def _open_others(sequences: Sequence[str]) -> list[Source]:
    """The sequences that --fit other: names."""
    from tracker.io.sources import list_sources, open_frames

    paths = [path for given in sequences for path in list_sources(given)]
    if not paths:
        raise UsageError("--fit other: names no sequence")
    return [open_frames(path) for path in paths]


def _fitted_to_others(encoder: Encoder, sequences: Sequence[str], made: dict[str, Any]) -> Fitted:
    """What the encoder learns from the tracklets of other sequences."""
    sources = _open_others(sequences)
    most = _MOST_NUMBERS // encoder.descriptor.dim // len(sources)
    observed = []
    for source in sources:
        found = tracklets_of(source, most=most)
        (samples,) = describe(source, encoder.descriptor, [found])
        observed.append(_observed(source.name, found, samples))
    return _fitted(encoder, observed, ", ".join(source.name for source in sources), made)


def _observed(name: str, boxes: Boxes, features: FloatArray) -> Observed:
    return Observed(name, boxes.frames, boxes.boxes, boxes.ids, features)


def _fitted(
    encoder: Encoder, observed: Sequence[Observed], where: str | Path, made: dict[str, Any]
) -> Fitted:
    """What the encoder learns; notes from what."""
    made["fit"] = {
        "on": str(where),
        "crops": sum(len(one.ids) for one in observed),
        "tracklets": sum(len(np.unique(one.ids)) for one in observed),
    }
    try:
        return encoder.fit(observed)
    except InputError as error:
        raise InputError(f"{where}: {encoder.name} cannot be fitted: {error}") from error

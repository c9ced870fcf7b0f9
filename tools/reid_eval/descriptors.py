"""What ``--encoder`` takes: names of descriptors and networks, paths of weights and features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np

from reid.descriptors import BY_HAND, Descriptor, by_name
from reid.projections import fit_pca, fit_whitening
from tools.fit.learning import (
    Learned,
    LearnOptions,
    Observed,
    join,
    learn,
    one_after_another,
)
from trackvae.appearance import encoder_file
from trackvae.arrays import FloatArray, IntArray, unit_length
from trackvae.errors import InputError, UsageError
from trackvae.settings import did_you_mean

if TYPE_CHECKING:
    from tools.reid_eval.pixels import FromPixels
    from tracker.io.mot import BoxTable

Fit: TypeAlias = Literal["pca", "whitened", "joined", "learned"]

_SHORT = {"colour-stripes-whitened": "whitened:colour-stripes", "pca": "pca:raw-pixels"}
_FITTED: Mapping[str, Fit] = {"pca": "pca", "whitened": "whitened", "joined": "joined"}
LEARNED = "trackvae"  # ours, learned where it is scored
PLAIN, FLAT, SUPERVISED = "vhp-vae", "vhp-fmvae", "supervised"  # trained on pixels
_ETA = "300"  # of the flat one: the smaller of the thesis's two
_PREFIXES = (
    "backbone:NAME[:WEIGHTS]",
    "vhp-fmvae:ETA",
    "features:FILE",
    "whitened:E",
    "joined:E",
    "pca:E",
    "a path",
)
_LEAST_OVERLAP = 0.5  # between a box and the one whose features it takes


class Fitted(Protocol):
    """A map of features that was learned."""

    def apply(self, features: FloatArray) -> FloatArray:
        """(N, F) to (N, D) float32."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LearnedMap:
    """The directions of q(z|x)'s means."""

    learned: Learned

    def apply(self, features: FloatArray) -> FloatArray:
        """(N, F) to (N, D_z) float32 of unit length."""
        return unit_length(self.learned.encoder.posterior(features)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A descriptor, and what is fitted to unlabelled tracklets behind it.

    Attributes:
        name: as it was asked for.
        descriptor: of boxes.
        fitted: None where nothing is fitted.
        options: of ``joined`` and ``learned``.
    """

    name: str
    descriptor: Descriptor
    fitted: Fit | None = None
    options: LearnOptions = field(default_factory=LearnOptions)

    def fit(self, observed: Sequence[Observed]) -> Fitted:
        """What is learned from the crops of videos, as motion has linked them.

        ``pca``: principal components; ``whitened``: by what varies within tracklets; ``joined``: by
        what varies within objects, to which tracklets are joined; ``learned``: the encoder of
        ``trackvae fit``.

        Raises:
            InputError: too few or too uniform to learn from.
        """
        if self.fitted == "joined":
            return join(observed, self.options).projection
        if self.fitted == "learned":
            return LearnedMap(learn(observed, self.options))
        features = np.concatenate([one.features for one in observed])
        if self.fitted == "pca":
            return fit_pca(features)
        return fit_whitening(features, one_after_another([one.ids for one in observed]))


@dataclass(frozen=True, slots=True, eq=False)
class GivenFeatures:
    """Features that came with detections, for boxes that overlap with them.

    Attributes:
        name: as it was asked for.
        table: detections with embeddings.
    """

    name: str
    table: BoxTable

    def match(self, frames: IntArray, boxes: FloatArray) -> tuple[FloatArray, IntArray]:
        """The features of boxes, each of one detection at most.

        Args:
            frames: (N,) from 1.
            boxes: (N, 4) xyxy.

        Returns:
            Features (M, D), and the rows (M,) of the boxes that they belong to: those that some
            detection of the frame covers by half (intersection over union).

        Raises:
            InputError: no box is covered.
        """
        from scipy.optimize import linear_sum_assignment

        from tracker.boxes import iou

        pairs = []
        for frame in np.unique(frames):
            rows, seen = np.flatnonzero(frames == frame), self.table.rows(int(frame))
            overlap = iou(boxes[rows], self.table.boxes[seen])
            overlap[overlap < _LEAST_OVERLAP] = 0.0
            mine, theirs = linear_sum_assignment(overlap, maximize=True)
            near = overlap[mine, theirs] > 0
            pairs.append(np.stack([rows[mine[near]], seen.start + theirs[near]]))
        rows, theirs = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
        if not len(rows) or self.table.embeddings is None:
            raise InputError(f"{self.name}: none of its boxes covers one of the ground truth")
        return self.table.embeddings[theirs], rows


def open_encoder(name: str, seed: int = 0) -> Encoder | GivenFeatures | FromPixels:
    """What a name or a path stands for.

    Args:
        name: one of :data:`reid.descriptors.BY_HAND`; ``colour-stripes-whitened``; ``pca`` (of raw
            pixels); ``whitened:E``, ``joined:E`` or ``pca:E`` of any of these; ``trackvae``, ours,
            learned where it is scored; ``default``, ours as it is shipped;
            ``backbone:NAME[:WEIGHTS]``; ``features:FILE.npz``; a file or folder of
            ``trackvae fit`` or ``trackvae train``; ``vhp-vae``, ``vhp-fmvae[:ETA]`` or
            ``supervised``, trained on pixels.
        seed: of what is learned by chance.

    Raises:
        InputError: a file cannot be used.
        UsageError: there is no such encoder.
    """
    kind, colon, rest = _SHORT.get(name, name).partition(":")
    if colon and kind == "features":
        return _given(name, rest)
    if kind in (PLAIN, FLAT, SUPERVISED):
        return _from_pixels(name, seed)
    options = LearnOptions(seed=seed)
    if name == LEARNED:
        return Encoder(name, by_name(options.features), "learned", options)
    if colon and kind in _FITTED:
        inner = open_encoder(rest)
        if not isinstance(inner, Encoder) or inner.fitted:
            raise UsageError(f"encoder {name!r}: nothing can be fitted behind {rest}")
        return Encoder(name, inner.descriptor, _FITTED[kind], options)
    if colon and kind == "backbone":
        from reid.backbones import Backbone

        network, colon, weights = rest.partition(":")
        return Encoder(name, Backbone(network, weights if colon else None))
    if name in BY_HAND:
        return Encoder(name, by_name(name))
    return Encoder(name, _learned(name))


def _given(name: str, path: str) -> GivenFeatures:
    from tracker.io.npz import read_npz

    table = read_npz(path)
    if table.embeddings is None:
        raise InputError(f"{path}: no array feature, so its boxes have no features")
    return GivenFeatures(name, table)


def _from_pixels(name: str, seed: int) -> FromPixels:
    """The thesis's encoders of pixels, and the supervised descriptor."""
    from tools.reid_eval.pixels import FromPixels, PixelOptions

    kind, colon, said = name.partition(":")
    if kind == SUPERVISED and not colon:
        from training.cosine_softmax import CosineConfig

        return FromPixels(name, CosineConfig(seed=seed))
    if kind != FLAT and colon:
        raise UsageError(f"encoder {name!r}: nothing is to be said behind {kind}")
    try:
        eta = 0.0 if kind == PLAIN else float(said if colon else _ETA)
    except ValueError:
        eta = 0.0
    if kind == FLAT and not 0 < eta < float("inf"):
        raise UsageError(f"encoder {name!r}: eta is {said!r}, expected a number above 0")
    return FromPixels(name, PixelOptions(eta=eta, seed=seed))


def _learned(name: str) -> Descriptor:
    """The encoder of ``trackvae fit`` or ``trackvae train`` at that path, or the shipped one."""
    path = Path(name)
    if not path.exists() and name != "default":
        known = (*BY_HAND, *_SHORT, LEARNED, PLAIN, FLAT, SUPERVISED, "default")
        if path.suffix or path.name != name:
            raise InputError(f"{path}: no such file of weights, and no encoder of that name")
        raise UsageError(
            f"no encoder {name!r}{did_you_mean(name, known)}; there are "
            f"{', '.join((*known, *_PREFIXES))}"
        )
    from reid.embedder import Embedder

    descriptor: Descriptor = Embedder(encoder_file(name))
    return descriptor

"""What ``--encoder`` takes: names of descriptors and networks, paths of weights and features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from reid.descriptors import ColourStripes, Concatenated, Descriptor, Gradients, RawPixels
from reid.projections import Projection, fit_pca, fit_whitening
from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError, UsageError
from trackvae.settings import did_you_mean

if TYPE_CHECKING:
    from tracker.io.mot import BoxTable

Fit: TypeAlias = Literal["pca", "whitened"]

MADE_BY_HAND: Mapping[str, Callable[[], Descriptor]] = {
    "colour-stripes": lambda: ColourStripes(bins=8),
    "colour-stripes-hsv": lambda: ColourStripes(stripes=4, bins=(8, 4, 4), space="hsv"),
    "raw-pixels": RawPixels,
    "gradients": Gradients,
    "colours-and-gradients": lambda: Concatenated(
        [ColourStripes(bins=8), ColourStripes(bins=8, space="lab"), Gradients()]
    ),
}
_SHORT = {"colour-stripes-whitened": "whitened:colour-stripes", "pca": "pca:raw-pixels"}
_PREFIXES = ("backbone:NAME[:WEIGHTS]", "features:FILE", "whitened:E", "pca:E", "a path")
_LEAST_OVERLAP = 0.5  # between a box and the one whose features it takes


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A descriptor, and what is fitted to unlabelled tracklets behind it.

    Attributes:
        name: as it was asked for.
        descriptor: of boxes.
        fitted: None where nothing is fitted.
    """

    name: str
    descriptor: Descriptor
    fitted: Fit | None = None

    def fit(self, features: FloatArray, tracklets: IntArray) -> Projection:
        """The projection of (N, D) features with their tracklets (N,).

        Raises:
            InputError: too few or too uniform to learn from.
        """
        if self.fitted == "pca":
            return fit_pca(features)
        return fit_whitening(features, tracklets)


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


def open_encoder(name: str) -> Encoder | GivenFeatures:
    """What a name or a path stands for.

    Args:
        name: one of :data:`MADE_BY_HAND`; ``colour-stripes-whitened``; ``pca`` (of raw pixels);
            ``whitened:E`` or ``pca:E`` of any of these; ``backbone:NAME[:WEIGHTS]``;
            ``features:FILE.npz``; weights of ``trackvae train``, or their folder.

    Raises:
        InputError: a file cannot be used.
        UsageError: there is no such encoder.
    """
    kind, colon, rest = _SHORT.get(name, name).partition(":")
    if colon and kind == "features":
        return _given(name, rest)
    if colon and kind in ("pca", "whitened"):
        inner = open_encoder(rest)
        if isinstance(inner, GivenFeatures) or inner.fitted:
            raise UsageError(f"encoder {name!r}: nothing can be fitted behind {rest}")
        return Encoder(name, inner.descriptor, "pca" if kind == "pca" else "whitened")
    if colon and kind == "backbone":
        from reid.backbones import Backbone

        network, colon, weights = rest.partition(":")
        return Encoder(name, Backbone(network, weights if colon else None))
    if name in MADE_BY_HAND:
        return Encoder(name, MADE_BY_HAND[name]())
    return Encoder(name, _learned(name))


def _given(name: str, path: str) -> GivenFeatures:
    from tracker.io.npz import read_npz

    table = read_npz(path)
    if table.embeddings is None:
        raise InputError(f"{path}: no array feature, so its boxes have no features")
    return GivenFeatures(name, table)


def _learned(name: str) -> Descriptor:
    """The encoder of ``trackvae train`` at that path."""
    path = Path(name)
    if not path.exists():
        known = (*MADE_BY_HAND, *_SHORT)
        if path.suffix or path.name != name:
            raise InputError(f"{path}: no such file of weights, and no encoder of that name")
        raise UsageError(
            f"no encoder {name!r}{did_you_mean(name, known)}; there are "
            f"{', '.join((*known, *_PREFIXES))}"
        )
    from reid.embedder import Embedder

    descriptor: Descriptor = Embedder(path / "model.safetensors" if path.is_dir() else path)
    return descriptor

"""Linear maps of embeddings that are fitted to data without labels: PCA, and whitening.

What varies inside a short tracklet that motion alone has linked (pose, light, background) says
nothing about who it is. Whitening makes that variation the same in all directions, so that plain
Euclidean distance weighs a direction by how much it differs between objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.descriptors import Descriptor
from trackvae.archives import read_archive
from trackvae.arrays import FloatArray, Image, IntArray
from trackvae.errors import InputError, UsageError
from trackvae.files import atomic_path, write_errors

DIM = 128  # of what is kept
LEAST_CROPS = 5  # of a tracklet; shorter ones show too little of what varies
RIDGE = 0.3  # times the mean eigenvalue of the within-tracklet covariance
_DENSE_UP_TO = 1_000  # sides of a matrix whose eigenvectors are computed in full


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """The map x -> (x - mean) matrix.

    Attributes:
        mean: (D,).
        matrix: (D, d).
    """

    mean: FloatArray
    matrix: FloatArray

    def __post_init__(self) -> None:
        """Refuse arrays that are no such map.

        Raises:
            InputError: shapes that do not fit each other, or values that are not finite.
        """
        if self.mean.ndim != 1 or self.matrix.ndim != 2 or len(self.mean) != len(self.matrix):
            raise InputError(
                f"mean {self.mean.shape} and matrix {self.matrix.shape}, expected (D,) and (D, d)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.matrix).all()):
            raise InputError("a projection's mean and matrix must be finite")

    def apply(self, features: FloatArray) -> FloatArray:
        """(N, D) features to (N, d) float32.

        Raises:
            InputError: they have another dimension than those that it was fitted to.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise InputError(
                f"features have shape {features.shape}, the projection expects "
                f"(N, {len(self.mean)})"
            )
        return np.asarray((features - self.mean) @ self.matrix, dtype=np.float32)

    def save(self, path: str | Path) -> None:
        """Write it as ``.npz``, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        with atomic_path(path) as temporary, write_errors(path), temporary.open("wb") as file:
            np.savez(file, mean=self.mean, matrix=self.matrix)

    @classmethod
    def load(cls, path: str | Path) -> Projection:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is missing, damaged, or holds no projection.
        """
        arrays = read_archive(path)
        if not {"mean", "matrix"} <= set(arrays):
            raise InputError(
                f"{path}: no projection; expected mean and matrix, found "
                f"{', '.join(sorted(arrays)) or 'none'}"
            )
        if any(arrays[name].dtype.kind != "f" for name in ("mean", "matrix")):
            raise InputError(f"{path}: no projection; mean and matrix are not numbers")
        try:
            return cls(arrays["mean"], arrays["matrix"])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def fit_pca(features: FloatArray, dim: int = DIM) -> Projection:
    """Principal components: the directions in which the features vary most, the largest first.

    Args:
        features: (N, D).
        dim: directions kept; fewer where the features do not vary in so many.

    Raises:
        InputError: features that are not finite, too few, or all the same.
        UsageError: no dimension to keep.
    """
    features = _checked(features, dim)
    mean = features.mean(axis=0)
    centred = features - mean
    return Projection(
        mean.astype(np.float32), _directions(centred, min(dim, len(centred) - 1)).astype(np.float32)
    )


def fit_whitening(
    features: FloatArray,
    tracklets: IntArray,
    dim: int = DIM,
    *,
    ridge: float = RIDGE,
    least: int = LEAST_CROPS,
) -> Projection:
    """PCA, then the map under which what varies within tracklets is the same in all directions.

    With P the principal directions and Sigma_w the covariance about their tracklet's mean, pooled
    over tracklets, the map is P L with L Lᵀ = (Sigma_w + r 1)⁻¹ and r = ``ridge`` times the mean
    eigenvalue of Sigma_w. Without ridge the covariance within tracklets becomes the identity.

    Args:
        features: (N, D).
        tracklets: (N,) the tracklet of each; any numbers.
        dim: principal directions kept.
        ridge: keeps directions that hardly vary within these tracklets from counting for
            everything.
        least: features of a tracklet that is looked at; the others count for the PCA only.

    Raises:
        InputError: as :func:`fit_pca`; no tracklet is long enough, or nothing varies within any.
        UsageError: no dimension to keep, or a negative ridge.
    """
    if ridge < 0:
        raise UsageError(f"ridge is {ridge}, expected 0 or more")
    pca = fit_pca(features, dim)
    projected = (features - pca.mean).astype(np.float64) @ pca.matrix.astype(np.float64)
    within = within_covariance(projected, tracklets, least=least)
    d = len(within)
    level = float(np.trace(within)) / d
    between = float(np.trace(np.cov(projected.T).reshape(d, d))) / d
    if not level > _NOTHING * between:
        raise InputError("nothing varies within any tracklet, so there is nothing to whiten by")
    try:
        lower = np.linalg.cholesky(np.linalg.inv(within + ridge * level * np.eye(d)))
    except np.linalg.LinAlgError as error:
        raise InputError(
            "the covariance within tracklets is singular: more crops, or a ridge above 0"
        ) from error
    return Projection(pca.mean, (pca.matrix.astype(np.float64) @ lower).astype(np.float32))


_NOTHING = 1e-10  # share of the variance that is rounding


def within_covariance(
    features: FloatArray, tracklets: IntArray, *, least: int = LEAST_CROPS
) -> FloatArray:
    """Covariance (D, D) about each tracklet's mean, pooled over tracklets of ``least`` or more.

    Unbiased: of T tracklets with N features the sum of squares is divided by N - T.

    Raises:
        InputError: no tracklet has so many features.
    """
    names, index, counts = np.unique(tracklets, return_inverse=True, return_counts=True)
    long_enough = counts >= max(least, 2)
    if not long_enough.any():
        longest = f", the longest {counts.max()}" if len(names) else ""
        raise InputError(
            f"{len(names)} tracklets{longest}, none of {least} or more crops: too short to learn "
            "from what varies within one"
        )
    rows = long_enough[index]
    _, index = np.unique(index[rows], return_inverse=True)
    kept, counts = np.asarray(features[rows], np.float64), counts[long_enough]
    means = np.zeros((len(counts), kept.shape[1]))
    np.add.at(means, index, kept)
    residual = kept - (means / counts[:, None])[index]
    return np.asarray(residual.T @ residual / (len(kept) - len(counts)))


class Projected:
    """A descriptor whose vectors go through a projection."""

    def __init__(self, descriptor: Descriptor, projection: Projection) -> None:
        """Put one after the other.

        Raises:
            InputError: the projection was fitted to vectors of another length.
        """
        if descriptor.dim != len(projection.mean):
            raise InputError(
                f"the descriptor gives {descriptor.dim} numbers, the projection expects "
                f"{len(projection.mean)}"
            )
        self._descriptor, self._projection = descriptor, projection

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._projection.matrix.shape[1])

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Describe the boxes (N, 4) of one image: ``(N, dim)`` float32."""
        return self._projection.apply(self._descriptor(image, boxes))


def _checked(features: FloatArray, dim: int) -> FloatArray:
    """The features as float32, checked."""
    if dim < 1:
        raise UsageError(f"dim is {dim}, expected 1 or more")
    if features.ndim != 2 or len(features) < 2:
        raise InputError(
            f"features have shape {features.shape}, expected (N, D) of at least 2 crops"
        )
    features = np.asarray(features, np.float32)
    if not np.isfinite(features).all():
        raise InputError("features hold NaN or infinity")
    if (features == features[0]).all():
        raise InputError(f"all {len(features)} features are the same: nothing to learn from them")
    return features


def _directions(centred: FloatArray, dim: int) -> FloatArray:
    """The principal directions (D, d) of centred features, at most ``dim``, largest first.

    Columns that never vary (colours that do not occur: two in three of 4,096) are left out, and
    the smaller of the two products is decomposed.
    """
    varies = np.flatnonzero(centred.any(axis=0))
    used = centred[:, varies]
    wide = used.shape[1] > len(used)
    product = np.asarray(used @ used.T if wide else used.T @ used, np.float64)
    values, vectors = _largest(product, min(dim, len(product)))
    sound = values > max(values[0], 0.0) * 1e-7  # float32's rounding is no direction
    directions = vectors[:, sound]
    if wide:
        directions = used.T @ directions
        directions /= np.linalg.norm(directions, axis=0)
    full = np.zeros((centred.shape[1], directions.shape[1]))
    full[varies] = directions
    return full


def _largest(product: FloatArray, dim: int) -> tuple[FloatArray, FloatArray]:
    """The ``dim`` largest eigenvalues, descending, and their vectors as columns."""
    if len(product) <= _DENSE_UP_TO or dim > len(product) // 4:
        values, vectors = np.linalg.eigh(product)
        return values[::-1][:dim], vectors[:, ::-1][:, :dim]
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(0).standard_normal(len(product))  # the same in every run
    values, vectors = eigsh(product, k=dim, which="LA", v0=start)
    order = np.argsort(values)[::-1]
    return np.asarray(values[order]), np.asarray(vectors[:, order])

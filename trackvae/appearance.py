"""An appearance model: features of a crop, whitened by tracklets, and a VAE's encoder of them.

The noise of the features is what varies inside a tracklet. Whitened by its covariance Sigma_w, a
Gaussian likelihood of unit noise is one of covariance Sigma_w in the features' own space, so that
the decoder's metric is ``G = J^T Sigma_w^-1 J``, and a flat latent space is a Euclidean space of
identity. What embeds a crop is the encoder q(z|x) alone: a whitening and a small fully-connected
network, which need no torch. Which features they are is a name, known to :mod:`reid.descriptors`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError
from trackvae.tensors import has_note, read_arrays, write_arrays

ENCODER = "encoder.safetensors"  # in the folder of a run of ``trackvae fit``
_ENTRY = "trackvae-appearance"  # of the file's metadata
_SHIPPED = Path(__file__).parent / "weights"


def _silu(x: FloatArray) -> FloatArray:
    return np.asarray(x / (1 + np.exp(-np.clip(x, -80, None))))


ACTIVATIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "silu": _silu,
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AppearanceModel:
    """q(z|x) for the features of a crop.

    Attributes:
        features: their name.
        mean: (F,) of the features.
        matrix: (F, D) that whitens them.
        layers: weights (in, out) and biases (out,) of the encoder, the last of 2 D_z outputs: mean
            and log-variance.
        activation: between the layers, one of :data:`ACTIVATIONS`.
        card: what it was trained on and what it scores; plain values.
    """

    features: str
    mean: FloatArray
    matrix: FloatArray
    layers: tuple[tuple[FloatArray, FloatArray], ...]
    activation: str = "silu"
    card: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """In one line, without its arrays."""
        layers = len(self.layers)
        return f"AppearanceModel({self.features}, {layers} layers, dim {self.dim})"

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other.

        Raises:
            InputError: so, or values that are not finite.
        """
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"activation is {self.activation!r}, expected one of {', '.join(ACTIVATIONS)}"
            )
        width = self.matrix.shape[1] if self.matrix.ndim == 2 else 0
        fits = self.mean.ndim == 1 and self.matrix.shape == (self.mean.size, width)
        fits = fits and len(self.layers) > 0
        for weight, bias in self.layers:
            fits = fits and bias.ndim == 1 and weight.shape == (width, bias.size)
            width = bias.size
        if not fits or width % 2 or not width:
            raise InputError("the arrays of the appearance model do not fit each other")
        arrays = (self.mean, self.matrix, *(array for layer in self.layers for array in layer))
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError("the appearance model holds NaN or infinity")

    @property
    def dim(self) -> int:
        """D_z."""
        return self.layers[-1][0].shape[1] // 2

    @property
    def feature_dim(self) -> int:
        """F, numbers of a crop's features."""
        return len(self.mean)

    def whiten(self, features: FloatArray) -> FloatArray:
        """Features (N, F) as the encoder takes them, (N, D) float32."""
        return np.asarray((features - self.mean) @ self.matrix, np.float32)

    def posterior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of q(z|x).

        Args:
            features: (N, F).

        Returns:
            (N, D_z) float32 both.

        Raises:
            InputError: features of another length.
        """
        if features.ndim != 2 or features.shape[1] != self.feature_dim:
            raise InputError(
                f"features have shape {features.shape}, the encoder expects (N, {self.feature_dim})"
            )
        activate = ACTIVATIONS[self.activation]
        h = self.whiten(features)
        for weight, bias in self.layers[:-1]:
            h = activate(h @ weight + bias)
        weight, bias = self.layers[-1]
        mean, log_var = np.split(np.asarray(h @ weight + bias, np.float32), 2, axis=1)
        return mean, np.exp(_soft_clamp(log_var))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all.

        The whitening is kept in half precision: it is what makes the file large, and the embeddings
        turn by less than 1e-5 (1 - cosine). Of features in a unit so large or so small that half
        precision does not hold it, it is kept in single. Rows of features that never varied
        (colours that did not occur: half of them) are left out.

        Raises:
            InputError: it cannot be written.
        """
        rows = np.flatnonzero(self.matrix.any(axis=1))
        arrays: dict[str, Any] = {
            "mean": self.mean.astype(np.float32),
            "matrix": _halved(self.matrix[rows]),
            "rows": rows.astype(np.int32),
        }
        for number, (weight, bias) in enumerate(self.layers):
            arrays[f"layers.{number}.weight"] = np.ascontiguousarray(weight, np.float32)
            arrays[f"layers.{number}.bias"] = np.ascontiguousarray(bias, np.float32)
        note = {
            "features": self.features,
            "activation": self.activation,
            "layers": len(self.layers),
            "card": dict(self.card),
        }
        write_arrays(path, arrays, {_ENTRY: json.dumps(note)})


def _halved(matrix: FloatArray) -> FloatArray:
    """In half precision where that holds it, else in single."""
    with np.errstate(over="ignore"):
        half = matrix.astype(np.float16)
    lost = np.linalg.norm(half.astype(np.float64) - matrix)  # of normal numbers 5e-4 at most
    return half if lost <= 1e-3 * np.linalg.norm(matrix) else matrix.astype(np.float32)


_LOG_VAR_RANGE = (-14.0, 8.0)  # as trackvae.networks has it


def _soft_clamp(value: FloatArray) -> FloatArray:
    """Between the limits, as trackvae.networks does: a hard one is off by a factor of 2 there."""
    low, high = _LOG_VAR_RANGE
    above = low + np.logaddexp(0, value - low)
    return np.asarray(high - np.logaddexp(0, high - above), np.float32)


def is_appearance_model(path: str | Path) -> bool:
    """Whether the file holds one; another safetensors file, or none at all, does not."""
    return has_note(path, _ENTRY)


def read_appearance_model(path: str | Path) -> AppearanceModel:
    """Read what :meth:`AppearanceModel.save` wrote.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such encoder")
    arrays, note = read_arrays(path, "file")
    if _ENTRY not in note:
        raise InputError(f"{path}: no appearance model of trackvae fit")
    try:
        said = json.loads(note[_ENTRY])
        rows = arrays.pop("rows")
        arrays = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
        layers = tuple(
            (arrays[f"layers.{number}.weight"], arrays[f"layers.{number}.bias"])
            for number in range(int(said["layers"]))
        )
        return AppearanceModel(
            str(said["features"]),
            arrays["mean"],
            _spread(arrays["matrix"], rows, arrays["mean"].size),
            layers,
            str(said["activation"]),
            dict(said["card"]),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}: {error})") from error


def _spread(matrix: FloatArray, rows: IntArray, count: int) -> FloatArray:
    """The matrix with the rows of zeros that its file leaves out, ``(count, D)``.

    Raises:
        InputError: rows that are not the matrix's.
    """
    fits = matrix.ndim == 2 and rows.shape == matrix.shape[:1] and (np.diff(rows) > 0).all()
    if not fits or rows.min(initial=0) < 0 or rows.max(initial=-1) >= count:
        raise InputError("the arrays of the appearance model do not fit each other")
    full = np.zeros((count, matrix.shape[1]), np.float32)
    full[rows] = matrix
    return full


def encoder_file(encoder: str | Path) -> Path:
    """The file that a name, a path or a run's folder stands for.

    Args:
        encoder: ``default``, which comes with this software; a file; the folder of a run of
            ``trackvae fit`` or ``trackvae train``.

    Raises:
        InputError: a name that neither is a file nor comes with trackvae.
    """
    path = Path(encoder)
    if path.is_dir():
        fitted = path / ENCODER
        return fitted if fitted.is_file() else path / "model.safetensors"
    if path.exists() or path.suffix or path.name != str(encoder):
        return path
    path = _SHIPPED / f"{encoder}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in _SHIPPED.glob("*.safetensors")))
        raise InputError(
            f"no encoder {str(encoder)!r} comes with trackvae; there are: {known or 'none'}"
        )
    return path

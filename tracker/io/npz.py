"""Detections with appearance vectors, from a numpy archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracker.boxes import xyxy_from_tlwh
from tracker.detections import LARGEST
from tracker.io.mot import BoxTable
from trackvae.archives import read_archive
from trackvae.errors import InputError


def read_npz(path: str | Path) -> BoxTable:
    """Read detections with features: arrays ``frame, tlwh, score`` and, if there, ``feature``.

    Shapes ``(N,)``, ``(N, 4)``, ``(N,)``, ``(N, D)``; an optional ``class`` ``(N,)``.

    Raises:
        InputError: not an ``.npz``, an array is missing, or lengths differ.
    """
    path = Path(path)
    arrays = read_archive(path)
    missing = {"frame", "tlwh"} - set(arrays)
    if missing:
        raise InputError(
            f"{path}: no array {', '.join(sorted(missing))}; "
            f"expected frame, tlwh, score, feature, found {', '.join(sorted(arrays)) or 'none'}"
        )
    rows = arrays["frame"].size
    known = ("frame", "tlwh", "score", "feature", "class")
    arrays = {name: array for name, array in arrays.items() if name in known}
    wrong = {name: a.shape for name, a in arrays.items() if a.ndim == 0 or len(a) != rows}
    if wrong or arrays["tlwh"].shape != (rows, 4):
        raise InputError(f"{path}: arrays of different lengths; frame has {rows}, {wrong}")
    for name, array in arrays.items():
        _check_npz_array(path, name, array)
    return BoxTable.of(
        frames=arrays["frame"].astype(np.int64),
        ids=np.full(rows, -1),
        boxes=xyxy_from_tlwh(arrays["tlwh"].astype(np.float64)),
        scores=arrays.get("score"),
        classes=arrays.get("class"),
        embeddings=arrays.get("feature"),
    )


def _check_npz_array(path: Path, name: str, array: npt.NDArray[Any]) -> None:
    """Raise where an array of an ``.npz`` is not what its name says, naming the row."""
    dimensions = 2 if name in ("tlwh", "feature") else 1
    if array.dtype.kind not in "iuf" or array.ndim != dimensions:
        raise InputError(
            f"{path}: {name} has type {array.dtype} and shape {array.shape}, "
            f"expected numbers in {dimensions} dimension{'s' * (dimensions - 1)}"
        )
    bad = ~np.isfinite(array)
    if name in ("frame", "class"):
        bad |= (array != np.floor(array)) | (np.abs(array) >= LARGEST)
        bad |= (array < 1) & (name == "frame")
    elif name == "tlwh":
        bad |= np.abs(array) >= LARGEST
        bad[:, 2:] |= array[:, 2:] < 0
    if bad.any():
        row = int(np.argmax(bad.any(axis=1) if bad.ndim == 2 else bad))
        raise InputError(f"{path}: row {row} is no detection: {name} is {array[row].tolist()}")

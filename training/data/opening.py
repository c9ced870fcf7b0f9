"""DATA as a user names it: a folder, an idx file, an archive of arrays, or a made set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trackvae.archives import read_archive
from trackvae.errors import InputError, UsageError
from trackvae.settings import did_you_mean
from training.data.binarise import Binarisation, check_binarisation
from training.data.dataset import DataSet, Standardisation, split
from training.data.gait import gait
from training.data.glyphs import glyphs
from training.data.images import binarised, idx_images, image_folder, list_images, mnist, omniglot
from training.data.mocap import cmu, subjects
from training.data.pendulum import pendulum

MADE: dict[str, Callable[..., DataSet]] = {"pendulum": pendulum, "glyphs": glyphs, "gait": gait}
_CHANNELS = (1, 3)
_EXPECTED = "a folder of images, an idx file, an .npz, a .zip of OMNIGLOT, motion capture"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How DATA is taken.

    Attributes:
        size: height and width of images from a folder; None: they must be of one size.
        grey: one channel in place of three, of images from a folder.
        binarise: of images; None is the literature's: static for MNIST's files, dynamic for
            OMNIGLOT, none for all else.
        test: fraction of the user's own images or vectors to test on; other sets have their
            own split.
        validation: fraction of them to validate on.
        seed: of the split and of binarisation.
    """

    size: tuple[int, int] | None = None
    grey: bool = False
    binarise: Binarisation | None = None
    test: float = 0.1
    validation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size is not None and not all(1 <= side <= 4096 for side in self.size):
            raise UsageError(f"size is {self.size}, expected height and width from 1 to 4096")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected 0 or more")
        if self.binarise is not None:
            check_binarisation(self.binarise)


def load(
    data: str | Path, labels: str | Path | None = None, options: LoadOptions | None = None
) -> DataSet:
    """Open a data set.

    Args:
        data: one of

            - a folder with MNIST's four idx files (gzipped or not), or Fashion-MNIST's;
            - a folder with OMNIGLOT's zips, or one such zip;
            - a folder of motion capture: CMU's as :func:`training.data.mocap.cmu` takes it, or
              any subjects' ``.asf`` and ``.amc``;
            - a folder of images, and of folders of them;
            - an idx file of images;
            - an ``.npz`` with ``images`` or ``x``, and ``labels`` if there are any;
            - the name of a made set: pendulum, glyphs, gait.
        labels: an idx file of labels, beside an idx file of images.
        options: how to take it.

    Raises:
        InputError: it is missing, empty, of one example, damaged, or nothing that is known here.
        UsageError: options that mean nothing.
    """
    options = options or LoadOptions()
    path = Path(data)
    if str(data) in MADE and not path.exists():
        return _made(str(data), options)
    if path.is_dir():
        return _folder(path, options)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file or folder{did_you_mean(str(data), MADE)}; expected {_EXPECTED}, "
            f"or one of {', '.join(MADE)}"
        )
    if path.suffix.lower() == ".npz":
        return _binarised(read_arrays(path, options), options, "none")
    if path.suffix.lower() == ".zip":
        return omniglot(path, binarise=options.binarise or "dynamic", seed=options.seed)
    if path.suffix.lower() not in ("", ".gz") and "ubyte" not in path.name:
        raise InputError(f"{path}: a {path.suffix} file, expected {_EXPECTED}")
    parts = {"test": options.test, "validation": options.validation}
    return _binarised(idx_images(path, labels, seed=options.seed, **parts), options, "static")


def _made(name: str, options: LoadOptions) -> DataSet:
    if name == "glyphs":
        return glyphs(binarise=options.binarise or "static", seed=options.seed)
    if options.binarise not in (None, "none"):
        raise UsageError(f"{name} is not binarised; leave out binarise={options.binarise}")
    return MADE[name](seed=options.seed)


def _folder(path: Path, options: LoadOptions) -> DataSet:
    """A folder, by what lies in it."""
    try:
        names = {child.name for child in path.iterdir()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if "seqinfo.ini" in names or any(path.glob("*/seqinfo.ini")):
        raise InputError(
            f"{path}: MOT sequences, whose frames are no crops; cut out their boxes, or name img1"
        )
    if any(name.startswith("train-images") for name in names):
        return mnist(path, binarise=options.binarise or "static", seed=options.seed)
    if any(name.endswith(".asf") for name in names) or any(path.glob("*/*.asf")):
        whole = (path / "35" / "35.asf").is_file() and (path / "49").is_dir()
        return cmu(path) if whole and any(path.glob("*.mat")) else subjects(path)
    if not list_images(path) and any(name.endswith(".zip") for name in names):
        return omniglot(path, binarise=options.binarise or "dynamic", seed=options.seed)
    made = image_folder(
        path,
        size=options.size,
        grey=options.grey,
        test=options.test,
        validation=options.validation,
        seed=options.seed,
    )
    return _binarised(made, options, "none")


def _binarised(data: DataSet, options: LoadOptions, usual: Binarisation) -> DataSet:
    kind = options.binarise or usual
    if kind != "none" and len(data.shape) != 3:
        raise UsageError(f"{data.name}: vectors are not binarised; leave out binarise={kind}")
    return binarised(data, kind, seed=options.seed)


def read_arrays(path: str | Path, options: LoadOptions | None = None) -> DataSet:
    """A user's own arrays, split at random.

    ``images`` is ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)`` with 1 or 3 channels (where
    both would fit, the last is taken for the channels): bytes, or numbers in [0, 1]. ``x`` is
    ``(N, D)``, any finite numbers, which are standardised. ``labels`` (N,) is optional.

    Raises:
        InputError: no archive, no such array, or values that cannot be learned from.
    """
    path, options = Path(path), options or LoadOptions()
    arrays = read_archive(path, ("images", "x", "labels"))
    found = [name for name in ("images", "x") if name in arrays]
    if len(found) != 1:
        raise InputError(
            f"{path}: expected an array named images or x, found {', '.join(arrays) or 'none'}"
        )
    name = found[0]
    values = _check(path, name, arrays[name])
    labels = arrays.get("labels")
    label_names: list[str] = []
    if labels is not None and labels.dtype.kind in "US":
        unique, labels = np.unique(labels.astype(str), return_inverse=True)
        label_names = unique.tolist()
    if labels is not None and labels.shape != values.shape[:1]:
        raise InputError(f"{path}: labels {labels.shape} for {len(values)} of {name}")
    values = _planes(path, values) if name == "images" else values
    made = split(
        str(path),
        values,
        test=options.test,
        validation=options.validation,
        seed=options.seed,
        labels=labels,
        label_names=label_names,
    )
    return made if name == "images" else _standardised(made, arrays[name].dtype)


def _check(path: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as uint8 or floats, if it can be learned from."""
    wanted = (2,) if name == "x" else (3, 4)
    if array.ndim not in wanted or array.dtype.kind not in "uifb" or 0 in array.shape[1:]:
        raise InputError(
            f"{path}: {name} is {array.dtype} {array.shape}, expected numbers (N, D) for x, "
            "(N, H, W), (N, H, W, C) or (N, C, H, W) for images"
        )
    if name == "images" and array.dtype in (np.uint8, np.bool_):
        return array.astype(np.uint8) * np.uint8(255 if array.dtype == np.bool_ else 1)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is told
        values = array.astype(np.float32)
    bad = ~np.isfinite(values).all(axis=tuple(range(1, array.ndim)))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{path}: {name}[{row}] holds NaN, infinity or a number beyond float32 "
            f"({bad.sum()} of {len(array)} do)"
        )
    if name == "images" and array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"{path}: images from {array.min():g} to {array.max():g}, expected 0 to 1, or uint8"
        )
    return values


def _planes(path: Path, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Images as (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] in _CHANNELS:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if images.shape[1] in _CHANNELS:
        return images
    raise InputError(f"{path}: images {images.shape}, expected 1 or 3 channels, first or last")


def _standardised(data: DataSet, kind: np.dtype[Any]) -> DataSet:
    """Vectors by the training part's mean and deviation."""
    scale = Standardisation.of(data.train.astype(np.float64))
    return replace(
        data,
        train=scale.apply(data.train),
        validation=scale.apply(data.validation),
        test=scale.apply(data.test),
        standardisation=scale,
        note=f"{data.note}; {kind} values standardised",
    )

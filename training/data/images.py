"""Image data sets from files: MNIST and Fashion-MNIST, OMNIGLOT, and anybody's folder of images."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trackvae.errors import InputError
from trackvae.images import IMAGE_SUFFIXES, decode_image, natural_key, read_image
from training.data.binarise import (
    Binarisation,
    DynamicBinarisation,
    bernoulli,
    check_binarisation,
    threshold,
)
from training.data.dataset import LEAST, PARTS, DataSet, split
from training.data.idx import read_idx

Pixels = npt.NDArray[np.uint8]

_VALIDATION = 6  # the last sixth of the training file: 10,000 of 60,000

# Of the 32,460 images, Burda et al. (2016) and Tomczak and Welling (2018) test on 8,070 and
# validate on 1,345 of 32,415; what we hold is cut in the same proportions.
_OMNIGLOT_TEST, _OMNIGLOT_VALIDATION = 8_070 / 32_415, 1_345 / 32_415
OMNIGLOT_SIDE = 28


def binarised(data: DataSet, kind: Binarisation, *, seed: int = 0) -> DataSet:
    """A data set of pixels with 0 and 1 for its pixels.

    ``static`` draws every part once. ``dynamic`` draws the training part anew in each batch; the
    other parts are drawn once all the same, so that every model is measured on the same pixels
    (Tomczak and Welling, 2018). ``threshold`` cuts at one half, ``none`` leaves the greys.

    Raises:
        UsageError: no such kind.
    """
    check_binarisation(kind)
    if kind == "none":
        return data
    rng = np.random.default_rng((seed, 1))  # not the stream that split the set
    drawn = {
        part: threshold(data.part(part)) if kind == "threshold" else bernoulli(data.part(part), rng)
        for part in PARTS
    }
    dynamic = kind == "dynamic"
    return replace(
        data,
        train=data.train if dynamic else drawn["train"],
        validation=drawn["validation"],
        test=drawn["test"],
        binarisation=DynamicBinarisation(seed) if dynamic else None,
        note=f"{data.note}; binarised: {kind}, seed {seed}",
    )


def mnist(folder: str | Path, *, binarise: Binarisation = "static", seed: int = 0) -> DataSet:
    """MNIST or Fashion-MNIST: both come as the same four idx files, gzipped or not.

    The last sixth of the training file is for validation: 50,000 / 10,000 / 10,000 as in
    Larochelle and Murray (2011). Static binarisation is our own seeded draw from the greys and not
    their published one, so likelihoods agree only up to the noise of the draw.

    Returns:
        Images (N, 1, 28, 28), the classes as labels.

    Raises:
        InputError: a file is missing or damaged, or images and labels differ in number.
        UsageError: no such binarisation.
    """
    folder = Path(folder)
    check_binarisation(binarise)
    images, labels = _idx_pair(_idx_path(folder, "train-images-idx3-ubyte"))
    tests, test_labels = _idx_pair(_idx_path(folder, "t10k-images-idx3-ubyte"))
    if tests.shape[1:] != images.shape[1:]:
        raise InputError(
            f"{folder}: test images of {_size(tests)}, training images of {_size(images)}"
        )
    train = len(images) - len(images) // _VALIDATION
    found: dict[str, npt.NDArray[np.int64]] = {}
    if labels is not None:
        found |= {"train": labels[:train], "validation": labels[train:]}
    if test_labels is not None:
        found["test"] = test_labels
    data = DataSet(
        name=folder.resolve().name,
        train=images[:train],
        validation=images[train:],
        test=tests,
        labels=dict(found),
        note=f"the first {train} to train on, the next {len(images) - train} to validate; "
        "the test file to test on",
    )
    return binarised(data, binarise, seed=seed)


def idx_images(
    images: str | Path,
    labels: str | Path | None = None,
    *,
    test: float = 0.1,
    validation: float = 0.0,
    seed: int = 0,
) -> DataSet:
    """One idx file of images, split at random; labels from ``labels`` or the file named alike.

    Raises:
        InputError: a file is missing or damaged, or images and labels differ in number.
    """
    pixels, found = _idx_pair(Path(images), labels)
    return split(str(images), pixels, test=test, validation=validation, seed=seed, labels=found)


def _idx_path(folder: Path, name: str) -> Path:
    """The file of that name in ``folder``, also with a dot for the last hyphen, or gzipped."""
    names = [name, name.replace("-idx", ".idx")]
    for candidate in [*names, *(f"{n}.gz" for n in names)]:
        if (folder / candidate).is_file():
            return folder / candidate
    raise InputError(f"{folder / name}: no such file (nor {name}.gz)")


def _idx_pair(
    images: Path, labels: str | Path | None = None
) -> tuple[Pixels, npt.NDArray[np.int64] | None]:
    """Images (N, 1, H, W) and their labels, where a file of them is given or lies beside."""
    pixels = read_idx(images, dimensions=3)
    if pixels.dtype != np.uint8:
        raise InputError(f"{images}: values of type {pixels.dtype}, expected bytes")
    if not pixels.size:
        raise InputError(f"{images}: no images in it")
    beside = images.with_name(re.sub(r"images(.)idx3", r"labels\1idx1", images.name))
    if labels is None and (beside == images or not beside.is_file()):
        return pixels[:, None], None
    path = beside if labels is None else Path(labels)
    numbers = read_idx(path, dimensions=1)
    if len(numbers) != len(pixels):
        raise InputError(f"{path}: {len(numbers)} labels for the {len(pixels)} images of {images}")
    return pixels[:, None], numbers.astype(np.int64)


def omniglot(
    archives: str | Path | Sequence[str | Path],
    *,
    binarise: Binarisation = "dynamic",
    side: int = OMNIGLOT_SIDE,
    seed: int = 0,
) -> DataSet:
    """OMNIGLOT (Lake et al., 2015) from its zips of 105 x 105 PNGs.

    Ink is made 1 and paper 0, and the picture scaled to 28 x 28 by averaging over areas: the grey
    is the share of ink, to be binarised as MNIST's. The literature's own 28 x 28 file (Burda et
    al., 2016) holds all 50 alphabets and is not made from the zips here, so likelihoods are only
    roughly comparable. The split is random with ``seed``, in the literature's proportions
    (75.1 / 24.9, of which 4.1 for validation), across characters and drawers as theirs.

    Args:
        archives: a zip, several, or the folder in which they lie.
        binarise: of the literature: dynamic.
        side: of the made images, pixels.
        seed: of the split and of binarisation.

    Returns:
        Images (N, 1, side, side), the alphabets as labels.

    Raises:
        InputError: no zip, a damaged one, or one without images.
        UsageError: no such binarisation.
    """
    check_binarisation(binarise)
    paths = _archives(archives)
    pictures, alphabets = _characters(paths, side)
    names = sorted(set(alphabets))
    data = split(
        "omniglot",
        pictures[:, None],
        test=_OMNIGLOT_TEST,
        validation=_OMNIGLOT_VALIDATION,
        seed=seed,
        labels=np.array([names.index(alphabet) for alphabet in alphabets]),
        label_names=names,
    )
    note = f"{len(names)} alphabets, {len(pictures)} images; {data.note}"
    return binarised(replace(data, note=note), binarise, seed=seed)


def _characters(archives: Sequence[Path], side: int) -> tuple[Pixels, list[str]]:
    """Every drawn character once, (N, side, side) with bright ink, and its alphabet."""
    pictures: dict[str, Pixels] = {}
    alphabets: list[str] = []
    for path in archives:
        for name, content in _zip_images(path):
            parts = Path(name).parts[-3:]  # alphabet, character, drawing
            key = "/".join(parts)
            if key in pictures:  # the two small archives have two alphabets in common
                continue
            grey = decode_image(f"{path}:{name}", content, colour=False)[..., 0]
            pictures[key] = _resize(255 - grey, (side, side))
            alphabets.append(parts[0] if len(parts) == 3 else path.stem)
    if len(pictures) < LEAST:
        raise InputError(f"{archives[0]}: {len(pictures)} image(s) in it, expected many")
    return np.stack(list(pictures.values())), alphabets


def _archives(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """The zips that are meant, at least one."""
    if not isinstance(given, (str, Path)):
        return [Path(path) for path in given]
    path = Path(given)
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.zip"), key=natural_key)
    if not found:
        raise InputError(f"{path}: no .zip in this folder")
    return found


def _zip_images(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each image in an archive, in natural order."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if _is_image(Path(n))]
            for name in sorted(names, key=natural_key):
                yield name, archive.read(name)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable zip, or a damaged one ({error})") from error
    except Exception as error:  # zlib.error, RuntimeError (a password), NotImplementedError
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: a zip that cannot be unpacked ({error})") from error


def image_folder(
    folder: str | Path,
    *,
    size: tuple[int, int] | None = None,
    grey: bool = False,
    test: float = 0.1,
    validation: float = 0.0,
    seed: int = 0,
) -> DataSet:
    """Every image in a folder and the folders in it, in natural order, split at random.

    Args:
        folder: hidden files and folders are passed over.
        size: height and width to which each is resized, pixels (crops of a tracker all differ);
            None: they must be of one size.
        grey: one channel in place of three.
        test: fraction to test on.
        validation: fraction to validate on.
        seed: of the split.

    Returns:
        Images (N, C, H, W) uint8, the folders in which they lie as labels where there are several.

    Raises:
        InputError: no such folder, fewer than two images, one that cannot be read (by name), or
            different sizes where ``size`` is None.
    """
    folder = Path(folder)
    paths = list_images(folder)
    if len(paths) < LEAST:
        only = f" ({paths[0].name})" if paths else ""
        raise InputError(
            f"{folder}: {len(paths) or 'no'} image{'s' * (not paths)} in this folder{only}, "
            f"expected at least {LEAST}"
        )
    images = _read_all(paths, size, colour=not grey)
    places = [path.parent.relative_to(folder).as_posix() for path in paths]
    names = sorted(set(places), key=natural_key)
    several = len(names) > 1
    return split(
        str(folder),
        images,
        test=test,
        validation=validation,
        seed=seed,
        labels=np.array([names.index(place) for place in places]) if several else None,
        label_names=names if several else (),
    )


def _read_all(paths: Sequence[Path], size: tuple[int, int] | None, *, colour: bool) -> Pixels:
    """Every image as (N, C, H, W), resized where a size is given."""
    images = np.empty((0, 0, 0, 0), dtype=np.uint8)
    for row, path in enumerate(paths):
        image = read_image(path, colour=colour)
        if size is not None:
            image = _resize(image, size)
        if row == 0:
            images = np.empty((len(paths), image.shape[2], *image.shape[:2]), dtype=np.uint8)
        if image.shape[:2] != images.shape[2:]:
            raise InputError(
                f"{path}: {image.shape[1]} x {image.shape[0]} pixels, but {paths[0].name} has "
                f"{_size(images)}; give a size to which all are resized"
            )
        images[row] = image.transpose(2, 0, 1)
    return images


def list_images(folder: Path) -> list[Path]:
    """Every image below ``folder`` in natural order.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    try:
        found = [
            path
            for path in folder.rglob("*")
            if _is_image(path.relative_to(folder)) and path.is_file()
        ]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return sorted(found, key=natural_key)


def _is_image(path: Path) -> bool:
    """Whether a file is an image by its name, and neither it nor a folder on the way is hidden."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W) or (H, W, C) scaled to ``size`` = (height, width), by areas where it shrinks."""
    import cv2

    if image.shape[:2] == size:
        return image
    smaller = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=how), dtype=np.uint8)
    return scaled.reshape(*size, *image.shape[2:])


def _size(images: Pixels) -> str:
    return f"{images.shape[-1]} x {images.shape[-2]}"

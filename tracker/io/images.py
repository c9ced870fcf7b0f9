"""Folders of images: which files, in which order, and what is in one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tracker.detections import Frame
from trackvae.arrays import Image
from trackvae.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# How a whole file of a format ends. OpenCV fills the missing part of a cut JPEG with grey and
# says nothing to its caller, so the end is looked for here.
_ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}


def natural_key(path: str | Path) -> list[tuple[int, int, str]]:
    """Sorting key by which ``img2`` comes before ``img10``."""
    parts = re.split(r"(\d+)", Path(path).name.casefold())
    key = [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]
    return [*key, (2, 0, str(path))]  # 01 and 1 are equal numbers: the name itself decides


def list_images(folder: Path) -> list[Path]:
    """The images directly in ``folder``, in natural order; hidden files are passed over."""
    return sorted(
        (
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ),
        key=natural_key,
    )


def read_image(path: Path) -> Image:
    """One image, ``(H, W, 3)`` uint8 BGR, turned as its EXIF orientation says.

    Raises:
        InputError: the file is missing, cut short, or no image.
    """
    import cv2

    try:
        data = np.fromfile(path, dtype=np.uint8)  # unlike imread, takes any name on any system
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not len(data):
        raise InputError(f"{path}: an empty file, expected an image")
    _check_whole(path, data)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"{path}: a broken image ({str(error).splitlines()[0]})") from error
    if image is None:
        raise InputError(f"{path}: a broken image, or none at all; it cannot be decoded")
    return np.asarray(image, dtype=np.uint8)


def _check_whole(path: Path, data: Image) -> None:
    """Raise for a JPEG or PNG whose end is missing."""
    content = data.tobytes()
    for start, end in _ENDINGS.items():
        # The second half is enough: an earlier mark belongs to an embedded thumbnail.
        if content.startswith(start) and content.find(end, len(content) // 2) < 0:
            raise InputError(f"{path}: a broken image, cut short after {len(content)} bytes")


def image_frames(paths: Sequence[Path], frame_rate: float) -> Iterator[Frame]:
    """The images as frames, read one at a time.

    Raises:
        InputError: at the first image that is missing or broken.
    """
    for row, path in enumerate(paths):
        yield Frame(row + 1, row / frame_rate, read_image(path))

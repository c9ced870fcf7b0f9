"""Image files: which ones they are, in which order, and what is in one of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trackvae.arrays import Image
from trackvae.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# How a whole file of a format ends. OpenCV fills the missing part of a cut JPEG with grey and
# says nothing to its caller, so the end is looked for here.
_ENDINGS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}


def natural_key(path: str | Path) -> list[tuple[int, int, str]]:
    """Sorting key by which ``a/img2`` comes before ``a/img10``, and that before ``b/img1``."""
    parts = re.split(r"(\d+)", str(path).casefold())
    key = [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts]
    return [*key, (2, 0, str(path))]  # 01 and 1 are equal numbers: the name itself decides


def read_image(path: Path, *, colour: bool = True) -> Image:
    """One image, as :func:`decode_image`; takes any name on any system, unlike cv2.imread.

    Raises:
        InputError: the file is missing, cut short, or no image.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return decode_image(str(path), content, colour=colour)


def decode_image(name: str, content: bytes, *, colour: bool = True) -> Image:
    """An image file's bytes as ``(H, W, 3)`` uint8 BGR, or ``(H, W, 1)``, turned as EXIF says.

    Args:
        name: for the messages.
        content: the whole file.
        colour: three channels instead of one.

    Raises:
        InputError: it is cut short, or no image.
    """
    import cv2

    if not content:
        raise InputError(f"{name}: an empty file, expected an image")
    for start, end in _ENDINGS.items():
        # The second half is enough: an earlier mark belongs to an embedded thumbnail.
        if content.startswith(start) and content.find(end, len(content) // 2) < 0:
            raise InputError(f"{name}: a broken image, cut short after {len(content)} bytes")
    flag = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
    try:
        image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flag)
    except cv2.error as error:
        raise InputError(f"{name}: a broken image ({str(error).splitlines()[0]})") from error
    if image is None:
        raise InputError(f"{name}: a broken image, or none at all; it cannot be decoded")
    return np.asarray(image, dtype=np.uint8).reshape(*image.shape[:2], -1)

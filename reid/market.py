"""Folders of crops named as Market-1501's: ``0002_c1s1_000451_03.jpg``, person 2 in camera 1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trackvae.arrays import FloatArray, Image, IntArray
from trackvae.errors import InputError
from trackvae.images import IMAGE_SUFFIXES, natural_key, read_image

QUERY, GALLERY = "query", "bounding_box_test"  # the two folders that the protocol compares
NAMED_LIKE = "0002_c1s1_000451_03.jpg"
_NAME = re.compile(r"(-1|\d+)_c(\d+)(?!\d)")
_MOST_IMAGES = 64  # that are described in one call
_TALLEST = 16_384  # rows of them; OpenCV samples no more than 32,766


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Images that show one box each.

    Attributes:
        paths: N image files, in natural order.
        ids: (N,) identities; -1 junk, 0 a distractor (background, a person without identity).
        cameras: (N,).
    """

    paths: tuple[Path, ...]
    ids: IntArray
    cameras: IntArray

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.paths)

    def people(self) -> Crops:
        """Those that show somebody with an identity: what can be a query."""
        rows = np.flatnonzero(self.ids > 0)
        return Crops(tuple(self.paths[row] for row in rows), self.ids[rows], self.cameras[rows])


def read_crops(folder: str | Path) -> Crops:
    """The images in a folder (not below it), identities and cameras read from their names.

    Raises:
        InputError: there is no such folder, no image in it, or a name without identity and camera.
    """
    folder = Path(folder)
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no such folder") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error})") from error
    if not found:
        raise InputError(f"{folder}: no images in it; expected names like {NAMED_LIKE}")
    paths = sorted(found, key=natural_key)
    parsed = [_NAME.match(path.name) for path in paths]
    strange = [path for path, match in zip(paths, parsed, strict=True) if match is None]
    if strange:
        raise InputError(
            f"{folder}: {len(strange)} of {len(paths)} images say nothing of identity and camera, "
            f"such as {strange[0].name}; expected names like {NAMED_LIKE}"
        )
    ids, cameras = ([int(match[group]) for match in parsed if match] for group in (1, 2))
    return Crops(tuple(paths), np.array(ids, np.int64), np.array(cameras, np.int64))


def read_market(root: str | Path) -> tuple[Crops, Crops]:
    """Queries and gallery of a data set, or of any folder of crops.

    A root with ``query/`` and ``bounding_box_test/`` gives these. In another folder every image of
    somebody is a query against all of them. Queries that show nobody are left out.

    Raises:
        InputError: as :func:`read_crops`; one of the two folders is missing; nobody is a query.
    """
    root = Path(root)
    halves = [root / name for name in (QUERY, GALLERY)]
    there = [half.is_dir() for half in halves]
    if any(there) and not all(there):
        raise InputError(f"{root}: {QUERY}/ and {GALLERY}/ belong together, one is missing")
    if all(there):
        queries, gallery = (read_crops(half) for half in halves)
    else:
        queries = gallery = read_crops(root)
    people = queries.people()
    if not len(people):
        raise InputError(f"{root}: no image of anybody with an identity from 1 on to look for")
    return people, gallery


def sheets(crops: Crops) -> Iterator[tuple[Image, FloatArray]]:
    """The images one below the other, many in one, so that a descriptor takes them at once.

    Yields:
        An image and the boxes (N, 4) in it, in the order of the crops.

    Raises:
        InputError: an image cannot be read.
    """
    waiting: list[Image] = []
    for path in crops.paths:
        image = read_image(path)
        tall = sum(len(other) for other in waiting) + len(image)
        if waiting and (len(waiting) == _MOST_IMAGES or tall > _TALLEST):
            yield _sheet(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield _sheet(waiting)


def _sheet(images: list[Image]) -> tuple[Image, FloatArray]:
    """The images one below the other, and where each of them lies."""
    heights, widths = np.array([image.shape[:2] for image in images]).T
    ends = np.cumsum(heights)
    sheet = np.zeros((ends[-1], widths.max(), 3), np.uint8)
    for image, end in zip(images, ends.tolist(), strict=True):
        sheet[end - len(image) : end, : image.shape[1]] = image
    boxes = np.stack([np.zeros(len(images)), ends - heights, widths, ends], axis=1)
    return sheet, boxes.astype(np.float64)

"""Pictures of answers: each query's crop, then the nearest ones, with identity and distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reid.crops import check_image
from trackvae.arrays import Image
from trackvae.errors import UsageError
from trackvae.files import atomic_path, write_errors

_HEIGHT, _WIDTH = 128, 84  # pixels of a crop's place; a crop keeps its shape in it
_FRAME, _GAP, _CAPTION = 4, 8, 34
_BACKGROUND, _INK = (250, 250, 250), (40, 40, 40)
_RIGHT, _WRONG, _UNKNOWN = (70, 160, 40), (50, 50, 215), (190, 190, 190)  # BGR
_FONT_SCALE, _LETTERS = 0.38, 13  # of a caption's line: more do not fit below a crop


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One crop of a rank list.

    Attributes:
        crop: ``(H, W, 3)`` uint8 BGR; None: its picture is not at hand.
        lines: the caption, two short lines at most.
        right: whether it shows whom the query shows; None: not known.
    """

    crop: Image | None
    lines: tuple[str, ...]
    right: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RankList:
    """A query and its answers, nearest first."""

    query: Tile
    answers: Sequence[Tile] = field(default_factory=tuple)


def draw_rank_lists(path: str | Path, lists: Sequence[RankList]) -> None:
    """Draw rank lists below each other, the query at the left, as a PNG.

    A green frame is a right answer, a red one a wrong one, a grey one not known.

    Raises:
        InputError: the file cannot be written, or a crop is no colour image.
        UsageError: there is no list, or the file's name does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"{path}: the picture is a PNG; expected a name that ends in .png")
    picture = rank_lists(lists)
    import cv2

    _, encoded = cv2.imencode(".png", picture)
    with atomic_path(path) as temporary, write_errors(path):
        temporary.write_bytes(encoded.tobytes())


def rank_lists(lists: Sequence[RankList]) -> Image:
    """As :func:`draw_rank_lists`, the picture itself: ``(H, W, 3)`` uint8 BGR.

    Raises:
        InputError: a crop is no colour image.
        UsageError: there is no list.
    """
    if not lists:
        raise UsageError("no query to draw")
    columns = 1 + max(len(one.answers) for one in lists)
    step_x, step_y = _WIDTH + 2 * _FRAME + _GAP, _HEIGHT + 2 * _FRAME + _CAPTION + _GAP
    aside = 2 * _GAP  # between the query and its answers
    shape = (_GAP + step_y * len(lists), _GAP + step_x * columns + aside, 3)
    sheet = np.full(shape, _BACKGROUND, np.uint8)
    for line, one in enumerate(lists):
        top = _GAP + line * step_y
        _draw(sheet, _GAP, top, one.query)
        for place, answer in enumerate(one.answers, start=1):
            _draw(sheet, _GAP + place * step_x + aside, top, answer)
    return sheet


def _draw(sheet: Image, left: int, top: int, tile: Tile) -> None:
    """A crop in its frame, its caption below."""
    import cv2

    colour = {True: _RIGHT, False: _WRONG, None: _UNKNOWN}[tile.right]
    wide, high = _WIDTH + 2 * _FRAME, _HEIGHT + 2 * _FRAME
    sheet[top : top + high, left : left + wide] = colour
    inside = sheet[top + _FRAME : top + high - _FRAME, left + _FRAME : left + wide - _FRAME]
    inside[:] = _BACKGROUND
    if tile.crop is None:
        centre = (left + _FRAME + 6, top + high // 2)
        cv2.putText(
            sheet, "no picture", centre, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, _UNKNOWN, 1,
            cv2.LINE_AA,
        )  # fmt: skip
    else:
        check_image(tile.crop)
        crop = _fitted(tile.crop)
        y, x = (_HEIGHT - crop.shape[0]) // 2, (_WIDTH - crop.shape[1]) // 2
        inside[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    for line, text in enumerate(tile.lines):
        at = (left, top + high + 13 + 15 * line)
        cv2.putText(
            sheet, _short(text), at, cv2.FONT_HERSHEY_SIMPLEX, _FONT_SCALE, _INK, 1, cv2.LINE_AA
        )


def _fitted(crop: Image) -> Image:
    """A crop as large as its place allows, its shape kept."""
    import cv2

    height, width = crop.shape[:2]
    scale = min(_HEIGHT / height, _WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(crop, size, interpolation=how), dtype=np.uint8)


def _short(text: str) -> str:
    """The end of a text that is too long, where names differ."""
    plain = text.encode("ascii", "replace").decode()  # OpenCV's font has no other letters
    return plain if len(plain) <= _LETTERS else ".." + plain[-(_LETTERS - 2) :]

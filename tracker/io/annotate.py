"""Pictures of tracks: boxes, ids and trails drawn into frames, and sheets of several frames.

supervision's annotators draw. A track keeps its colour for life; a track that is carried by its
motion alone, seen by no detection, has a thin box.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracker.detections import Tracks
from tracker.io.sinks import check_writable
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError
from trackvae.files import atomic_path
from trackvae.images import IMAGE_SUFFIXES

# Eighteen colours far apart in hue or lightness, neighbours in the list most of all: ids are
# given in order, so people who enter together get neighbouring ids.
_HEX = (
    "#e6194b #3cb44b #ffe119 #4363d8 #f58231 #42d4f4 #f032e6 #bfef45 #8a2be2 #fabed4 "
    "#008080 #dcbeff #9a6324 #aaffc3 #c00000 #ffd8b1 #1e90ff #808000"
)
_COLOURS = _HEX.split()
_LARGEST = 1e6  # pixels; OpenCV's integer coordinates overflow far beyond


class Annotator:
    """Draws tracks into the frames of one source, given in order.

    Line and text sizes follow the picture's, so that labels can be read in a 4K frame and do not
    cover a small one. Only living tracks have a trail, and a trail is at most ``trail`` frames
    long: memory does not grow with the video.
    """

    def __init__(self, trail: int = 45) -> None:
        """Start without trails.

        Args:
            trail: length of the trails in frames; 0 draws none.
        """
        self._trail = trail
        self._tools: _Tools | None = None

    def draw(self, image: Image, tracks: Tracks) -> Image:
        """The image ``(H, W, 3)`` with the frame's tracks drawn **into** it."""
        if self._tools is None:
            self._tools = _Tools(image.shape[0], self._trail)
        return self._tools.draw(image, tracks)


class _Tools:
    """supervision's annotators for pictures of one height."""

    def __init__(self, height: int, trail: int) -> None:
        import supervision as sv

        palette = sv.ColorPalette.from_hex(_COLOURS)
        lettering = sv.ColorPalette.from_hex([_readable_on(colour) for colour in _COLOURS])
        look: dict[str, Any] = {"color": palette, "color_lookup": sv.ColorLookup.TRACK}
        line = max(1, round(height / 360))
        self._padding = max(3, round(height / 200))
        self._label_height = round(22 * max(0.4, height / 1300)) + 2 * self._padding
        self._make = sv.Detections
        self._box = sv.BoxAnnotator(thickness=line, **look)
        self._thin_box = sv.BoxAnnotator(thickness=1, **look)
        self._label = sv.LabelAnnotator(
            text_color=lettering,
            text_scale=max(0.4, height / 1300),
            text_thickness=1 if height < 1000 else 2,
            text_padding=self._padding,
            **look,
        )
        self._trace = (
            sv.TraceAnnotator(
                position=sv.Position.BOTTOM_CENTER, trace_length=trail, thickness=line, **look
            )
            if trail > 0
            else None
        )

    def draw(self, image: Image, tracks: Tracks) -> Image:
        boxes = np.clip(np.nan_to_num(tracks.boxes), -_LARGEST, _LARGEST)
        shown: Any = self._make(
            xyxy=boxes,
            confidence=tracks.scores,
            class_id=tracks.classes.astype(int),
            tracker_id=tracks.ids.astype(int),
        )
        if self._trace is not None:
            image = self._trace.annotate(image, shown)
        carried = tracks.detection_index < 0
        if carried.any():
            image = self._thin_box.annotate(image, shown[carried])
        image = self._box.annotate(image, shown[~carried])
        labels = [str(identity) for identity in tracks.ids.tolist()]
        shown.xyxy = self._label_places(boxes, image.shape[1], image.shape[0])
        drawn: Image = self._label.annotate(image, shown, labels=labels)
        return drawn

    def _label_places(self, boxes: FloatArray, width: int, height: int) -> FloatArray:
        """The boxes ``(N, 4)`` moved so that the label above each is inside the picture."""
        inside = boxes.copy()
        inside[:, 0] = np.clip(boxes[:, 0], 0, max(0, width - self._label_height))
        inside[:, 1] = np.clip(boxes[:, 1], self._label_height, height)
        inside[:, 2:] = np.maximum(boxes[:, 2:], inside[:, :2])
        return inside


def _readable_on(colour: str) -> str:
    """Black or white, whichever stands out on the colour (ITU-R BT.601 luma)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def fit(image: Image, width: int, height: int) -> Image:
    """The image scaled to fit into ``width`` by ``height``, centred on black; itself if it fits."""
    import cv2

    rows, columns = image.shape[:2]
    if (columns, rows) == (width, height):
        return image
    scale = min(width / columns, height / rows)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    smaller = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    left, top = fit_offset(size, (width, height))
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = smaller
    return canvas


def fit_offset(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Left and top of something of ``size`` centred on ``canvas``, both (width, height)."""
    return (canvas[0] - size[0]) // 2, (canvas[1] - size[1]) // 2


def contact_sheet(
    frames: Sequence[Image],
    path: str | Path,
    *,
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    width: int = 1600,
) -> None:
    """Write a grid of frames as one picture, whole or not at all.

    Args:
        frames: images ``(H, W, 3)``, at least one; each fills a cell of the first one's shape.
        path: a ``.png`` or ``.jpg`` file.
        captions: one text a frame, drawn above it.
        columns: cells in a row; about the square root of their number where left out.
        width: of the picture in pixels.

    Raises:
        InputError: no frames, a file name that is no picture's, or it cannot be written.
    """
    import cv2

    if not frames:
        raise InputError(f"{path}: no frames to put on a contact sheet")
    target = check_writable(path)
    if target.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: a contact sheet is a .png or .jpg file")
    sheet = _grid(frames, captions, columns or int(np.ceil(np.sqrt(len(frames)))), width)
    good, data = cv2.imencode(target.suffix.lower(), sheet)
    if not good:
        raise InputError(f"{path}: OpenCV cannot write {target.suffix}")
    with atomic_path(target) as temporary:
        temporary.write_bytes(data.tobytes())


def _grid(
    frames: Sequence[Image], captions: Sequence[str] | None, columns: int, width: int
) -> Image:
    """The frames in rows of ``columns``, ``width`` pixels wide."""
    gap, header = max(2, width // 200), max(18, width // 64) if captions else 0
    columns = min(columns, len(frames))
    cell_width = (width - gap * (columns + 1)) // columns
    rows, cols = frames[0].shape[:2]
    cell_height = max(1, round(cell_width * rows / cols))
    lines = -(-len(frames) // columns)
    step = cell_height + header + gap
    sheet = np.full((gap + lines * step, width, 3), 24, dtype=np.uint8)
    for number, frame in enumerate(frames):
        top = gap + number // columns * step
        left = gap + number % columns * (cell_width + gap)
        if captions:
            _write(sheet, captions[number], left, top + header, header)
        cell = sheet[top + header :, left:]
        cell[:cell_height, :cell_width] = fit(frame, cell_width, cell_height)
    return sheet


def _write(sheet: Image, text: str, left: int, bottom: int, height: int) -> None:
    """Text in a line of ``height`` pixels that ends at ``bottom``."""
    import cv2

    origin = (left + height // 6, bottom - height // 3)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, height / 40
    cv2.putText(sheet, text, origin, font, scale, (235, 235, 235), 1, cv2.LINE_AA)


def scaled(tracks: Tracks, scale: float) -> Tracks:
    """The tracks with their boxes for an image ``scale`` times as large."""
    boxes: FloatArray = tracks.boxes * scale
    return Tracks(tracks.ids, boxes, tracks.scores, tracks.classes, tracks.detection_index)

"""Where tracks go, frame by frame: MOT text and JSON Lines.

Both files are valid after every frame, whatever ends the program: a frame's lines go to the
system in one write. The annotated video is :mod:`tracker.io.video_sink`.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from tracker.boxes import tlwh_from_xyxy
from tracker.detections import Frame, Tracks
from tracker.io.mot import format_tracks
from trackvae.errors import InputError
from trackvae.files import atomic_path, make_parent, write_errors


class Sink(Protocol):
    """Takes the tracks of one frame after the other; a context manager."""

    def write(self, frame: Frame, tracks: Tracks) -> None:
        """Take the next frame's tracks."""
        ...

    def close(self) -> None:
        """Finish the file; again does nothing."""
        ...

    def __enter__(self) -> Sink:
        """The sink itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close the sink, whatever happened."""
        ...


def check_writable(path: str | Path) -> Path:
    """The file that writing to ``path`` would replace, after making sure that it can be.

    Raises:
        InputError: the folder cannot be made or written, or ``path`` is no ordinary file.
    """
    with write_errors(path):
        target = Path(path).resolve()  # of a link, the file behind it is replaced, not the link
        if target.is_dir():
            raise InputError(f"{path}: cannot be written, it is a folder")
        if target.exists() and not target.is_file():
            raise InputError(f"{path}: cannot be written, it is not an ordinary file")
        make_parent(target)
        probe = target.with_name(f".{target.stem}.{os.getpid()}.probe")
        probe.touch()
        probe.unlink()
    return target


class _BlockFile:
    """A text file that grows by whole blocks.

    A file that is there already stays until the first block, and is then replaced by one renamed
    onto it: a run that fails before its first frame loses nothing, and no reader ever meets an
    emptied file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = check_writable(path)
        self._file: int | None = None
        self._length = 0

    def append(self, text: str) -> None:
        """Add a block by one write of the system: it is there whole, or not at all.

        Raises:
            InputError: the disk is full, or the file went away; the blocks before stay valid.
        """
        block = text.encode()
        with write_errors(self._path):
            if self._file is None:
                with atomic_path(self._path) as temporary:
                    temporary.write_bytes(block)
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | _BINARY)
            elif os.write(self._file, block) != len(block):
                os.ftruncate(self._file, self._length)
                raise InputError(f"{self._path}: the disk is full; {self._length} bytes written")
        self._length += len(block)

    @property
    def begun(self) -> bool:
        """Whether there was a block."""
        return self._file is not None

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with write_errors(self._path):
                os.close(file)


_BINARY = getattr(os, "O_BINARY", 0)  # Windows would turn \n into \r\n


class _TextSink(ABC):
    """A text file of blocks, one a frame.

    The file is made at the first frame; from then on it is a valid result after every frame. A
    run that ends well without a frame leaves an empty file, not the result of an earlier run; one
    that fails before its first frame leaves what was there.
    """

    def __init__(self, path: str | Path) -> None:
        """Check that ``path`` can be written; what is there stays until the first frame.

        Raises:
            InputError: it cannot.
        """
        self._file = _BlockFile(path)
        self._closed = False

    @abstractmethod
    def _block(self, frame: Frame, tracks: Tracks) -> str:
        """The frame's lines."""

    def write(self, frame: Frame, tracks: Tracks) -> None:
        """Append the frame's lines.

        Raises:
            InputError: the disk is full.
            ValueError: the sink is closed.
        """
        if self._closed:  # the file would be begun anew
            raise ValueError("write to a closed sink")
        self._file.append(self._block(frame, tracks))

    def close(self) -> None:
        """Finish the file.

        Raises:
            InputError: the system reports only now that it could not write.
        """
        self._finish(well=True)

    def _finish(self, well: bool) -> None:
        if not self._closed:
            self._closed = True
            try:
                if well and not self._file.begun:
                    self._file.append("")
            finally:
                self._file.close()

    def __enter__(self) -> Sink:
        """The sink itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        self._finish(well=not any(raised))


class MotTextSink(_TextSink):
    """Results in MOT's text form, ten columns (:func:`tracker.io.mot.format_tracks`).

    A frame without tracks has no line.
    """

    def _block(self, frame: Frame, tracks: Tracks) -> str:
        return format_tracks(frame.index, tracks)


class JsonLinesSink(_TextSink):
    """One JSON object a frame, one a line.

    The form, broken here for the page::

        {"frame": 1, "timestamp": 0.0, "tracks": [{"id": 1, "tlwh": [10.0, 20.0, 30.0, 60.0],
         "score": 0.9, "class": -1, "detection": 0}]}

    ``tlwh`` is left, top, width, height in pixels; ``class`` is -1 where it is unknown;
    ``detection`` is the row among the frame's detections, null where the track was carried by its
    motion alone. A frame without tracks has a line with an empty list.
    """

    def _block(self, frame: Frame, tracks: Tracks) -> str:
        columns = zip(
            tracks.ids.tolist(),
            tlwh_from_xyxy(tracks.boxes).round(3).tolist(),
            tracks.scores.tolist(),
            tracks.classes.tolist(),
            tracks.detection_index.tolist(),
            strict=True,
        )
        rows = [
            {
                "id": identity,
                "tlwh": tlwh,
                "score": float(f"{score:.6g}"),
                "class": label,
                "detection": row if row >= 0 else None,
            }
            for identity, tlwh, score, label, row in columns
        ]
        line = {"frame": frame.index, "timestamp": round(frame.timestamp, 6), "tracks": rows}
        return json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n"

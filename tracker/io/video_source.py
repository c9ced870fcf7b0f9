"""Frames out of videos, streams and cameras.

PyAV decodes files and URLs, with the time stamps that the container gives (a variable frame rate
stays one); OpenCV opens the camera, the one thing that it does on every system.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from tracker.detections import Frame
from tracker.io.broken_off import missing_bytes
from trackvae.arrays import Image
from trackvae.errors import InputError

_CONTAINERS = (
    "mp4 m4v mov avi mkv webm mpg mpeg ts mts m2ts wmv flv ogv 3gp h264 h265 hevc y4m mjpeg"
)
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _CONTAINERS.split())  # looked for in folders
_DEFAULT_RATE = 30.0
_HIGHEST_RATE = 1000.0  # containers without a rate of their own report their clock, 90 kHz
_TIMEOUT_SECONDS = 8.0
_AVI_TOLERANCE = 0.05  # of the frames that an AVI's header counts, which recorders write ahead
_BAD_PACKETS_IN_A_ROW = 200  # of a stream: more than a lost key frame explains


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a container says of its first video stream.

    Attributes:
        length: number of frames; exact, estimated from the duration, or None.
        frame_rate: average, frames a second.
        width: of the upright picture in pixels.
        height: of the upright picture in pixels.
        live: has neither a length nor an end: a camera, a broadcast.
    """

    length: int | None
    frame_rate: float
    width: int
    height: int
    live: bool = False


def is_url(source: str) -> bool:
    """Whether ``source`` is a network address (``rtsp://``, ``http://``, ...)."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source) is not None


def shown(source: str) -> str:
    """The source as it may be printed: without the password of an address."""
    return re.sub(r"://[^/@\s]*@", "://...@", source)


def open_container(source: str) -> Any:
    """The container and a check that it holds video.

    Raises:
        InputError: nothing there, nothing that PyAV can read, or no video in it.
    """
    import av

    remote = is_url(source)
    options = {"rtsp_transport": "tcp"} if source.lower().startswith("rtsp") else {}
    start = time.monotonic()
    try:
        container = av.open(source, options=options, timeout=_TIMEOUT_SECONDS if remote else None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{shown(source)}: {_open_problem(source, error, start)}") from error
    # FFmpeg draws any text file as a page of ANSI art.
    if not container.streams.video or container.format.name == "tty":
        name = container.format.long_name or container.format.name
        container.close()
        raise InputError(f"{shown(source)}: holds no video ({name})")
    container.streams.video[0].thread_type = "AUTO"
    return container


def _open_problem(source: str, error: Exception, start: float) -> str:
    """Why PyAV, asked at ``start``, could not open ``source``, for a user."""
    if is_url(source):
        # What FFmpeg says of a time-out differs from protocol to protocol; the clock does not.
        if time.monotonic() - start >= 0.9 * _TIMEOUT_SECONDS:
            return f"no answer within {_TIMEOUT_SECONDS:g} s"
        return f"cannot be opened ({_reason(error)})"
    path = Path(source)
    if not path.stat().st_size:
        return "an empty file (0 bytes), expected a video"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    with path.open("rb") as file:
        mp4 = file.read(12)[4:8] == b"ftyp"
    if mp4:
        return "cannot be opened: the video was broken off before its index was written"
    return "no video that can be decoded; expected a video file, or a folder of images"


@dataclass(slots=True)
class _Damage:
    """What could not be decoded so far."""

    packets: int = 0
    first_after: int = 0  # good frames before the first broken packet


class VideoReader:
    """A file or an address, opened, with its first frame decoded; read once, from the start.

    Attributes:
        source: path or address.
        info: what the container says.
    """

    def __init__(self, source: str) -> None:
        """Open ``source``.

        Raises:
            InputError: it is not there, holds no video, or not one frame can be decoded.
        """
        import av

        self.source = source
        self._container = open_container(source)
        self._damage = _Damage()
        self._read = 0  # frames decoded
        self._decoded = self._decode()
        try:
            self._first: Any = next(self._decoded, None)
        except (av.error.FFmpegError, OSError) as error:
            self.close()
            raise InputError(f"{shown(source)}: cannot be read ({_reason(error)})") from error
        if self._first is None:
            self.close()
            raise InputError(f"{shown(source)}: holds no frame that can be decoded")
        self._format: str = self._container.format.name
        self._promised = (self._container.streams.video[0].frames, self._duration())
        self.info = self._probe()

    def __enter__(self) -> VideoReader:
        """The reader itself; closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def _probe(self) -> VideoInfo:
        frames, seconds = self._promised
        rate = _rate(self._container)
        if not frames and (seconds or self._container.duration):
            frames = round((seconds or self._container.duration / 1e6) * rate)
        width, height = self._first.width, self._first.height
        if _quarter_turns(self._first) % 2:
            width, height = height, width
        live = is_url(self.source) and not frames
        return VideoInfo(frames or None, rate, width, height, live)

    def _duration(self) -> float | None:
        """Seconds of video that the container promises, or None."""
        stream = self._container.streams.video[0]
        if self._format == "avi" and stream.frames and stream.time_base:
            # Of a file without its index FFmpeg guesses a duration that the file's size allows.
            return float(stream.frames * stream.time_base)
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        # Matroska writes it for the file alone. Elsewhere it may be a guess from the bit rate.
        alone = "matroska" in self._container.format.name and len(self._container.streams) == 1
        duration = self._container.duration
        return duration / 1e6 if duration and alone else None

    def _decode(self) -> Iterator[Any]:
        """Decoded frames; packets that cannot be decoded are counted, not raised.

        Raises:
            av.error.FFmpegError: the container itself cannot be read any further.
        """
        import av

        in_a_row = 0
        for packet in self._container.demux(self._container.streams.video[0]):
            try:
                frames = packet.decode()
                in_a_row = 0
            except (av.error.InvalidDataError, av.error.UnknownError):
                if not self._damage.packets:
                    self._damage.first_after = self._read
                self._damage.packets += 1
                in_a_row += 1
                if is_url(self.source) and in_a_row > _BAD_PACKETS_IN_A_ROW:
                    raise
                continue
            for frame in frames:
                self._read += 1
                yield frame

    def frames(self) -> Iterator[Frame]:
        """The frames, decoded one by one.

        What can be decoded is delivered; a file that is damaged or broken off raises after the
        last good frame, so that the caller keeps what it made of them.

        Raises:
            InputError: after the last good frame, naming it.
        """
        import av

        clock = _Clock(1 / self.info.frame_rate)
        seconds = 0.0
        try:
            for index, decoded in enumerate(chain([self._first], self._decoded), start=1):
                seconds = clock.time_of(decoded)
                yield Frame(index, seconds, _image(decoded))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{shown(self.source)}: broken off after frame {self._read} ({_reason(error)})"
            ) from error
        finally:
            self.close()
        if not is_url(self.source):
            self._check_end(clock.first + seconds)

    def _check_end(self, end: float) -> None:
        """Raise where the file was damaged, or holds less than its header promises.

        A count alone is no proof: a file that repeats frames, or is trimmed by an edit list, has
        fewer than its header counts and is whole all the same. The time must fall short too; that
        of an AVI, which is its count, by more than frames that the recorder dropped at the end,
        unless bytes are missing.
        """
        frames, seconds = self._promised
        slack = 2.5 / self.info.frame_rate
        if self._format == "avi" and seconds:
            cut = missing_bytes(self.source) > 0
            slack = 0.0 if cut else max(slack, _AVI_TOLERANCE * seconds)
        short = seconds is not None and end + slack < seconds
        if short and (not frames or frames > self._read):
            promise = f"{frames} frames" if frames else f"{seconds:.1f} s"
            raise InputError(
                f"{self.source}: broken off after frame {self._read}; its header promises {promise}"
            )
        if self._damage.packets:
            raise InputError(
                f"{self.source}: damaged after frame {self._damage.first_after}: "
                f"{self._damage.packets} packets cannot be decoded; "
                f"the {self._read} good frames were read"
            )


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _rate(container: Any) -> float:
    """Average frames a second, a usual one where the container gives nonsense."""
    stream = container.streams.video[0]
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return rate if 0 < rate <= _HIGHEST_RATE else _DEFAULT_RATE


class _Clock:
    """Seconds since the first frame, rising strictly whatever the stream's stamps do."""

    def __init__(self, period: float) -> None:
        self.first = 0.0
        self._period = period
        self._last: float | None = None

    def time_of(self, decoded: Any) -> float:
        """The frame's time; where its stamp is missing or not later, one period more."""
        stamp = decoded.time
        if self._last is None:
            self.first, self._last = stamp or 0.0, 0.0
            return 0.0
        elapsed = None if stamp is None else stamp - self.first
        if elapsed is None or elapsed <= self._last:
            elapsed = self._last + self._period
        self._last = elapsed
        return elapsed


def _quarter_turns(decoded: Any) -> int:
    """Quarter turns, counter-clockwise, that the stream's rotation asks for (0 to 3)."""
    return round(getattr(decoded, "rotation", 0) / 90) % 4


def _image(decoded: Any) -> Image:
    """The picture, upright, ``(H, W, 3)`` uint8 BGR."""
    image: Image = decoded.to_ndarray(format="bgr24")
    turns = _quarter_turns(decoded)
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class CameraReader:
    """A camera, opened and checked to give a picture.

    Attributes:
        info: size and rate that the camera reports.
    """

    def __init__(self, index: int) -> None:
        """Open camera ``index``.

        Raises:
            InputError: there is none, or it gives nothing.
        """
        import cv2

        self._index = index
        with _quiet_opencv():
            self._capture = cv2.VideoCapture(index)
            opened = self._capture.isOpened() and self._capture.read()[0]
        if not opened:
            self._capture.release()
            raise InputError(f"webcam {index}: cannot be opened (none there, or in use elsewhere)")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.info = VideoInfo(
            None,
            rate if 0 < rate <= _HIGHEST_RATE else _DEFAULT_RATE,
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            live=True,
        )

    def frames(self) -> Iterator[Frame]:
        """The frames, stamped by a steady clock, until the camera stops giving any.

        Raises:
            InputError: the camera went away.
        """
        start: float | None = None
        try:
            for index in count(1):
                good, image = self._capture.read()
                if not good:
                    raise InputError(f"webcam {self._index}: stopped after frame {index - 1}")
                now = time.monotonic()
                start = now if start is None else start
                yield Frame(index, now - start, np.asarray(image, dtype=np.uint8))
        finally:
            self._capture.release()


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Without OpenCV's own complaints, which would stand above the one line of ours."""
    import cv2

    logging: Any = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)

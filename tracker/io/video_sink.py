"""The annotated video: H.264 in MP4, playable in a browser, and up to its last second when killed.

While it grows the file is fragmented MP4: each second of video is complete in itself, so that a
killed run leaves what it had. At the end it becomes an ordinary MP4 with its index in front (no
picture is encoded anew), the form that every player can seek in and that starts at once on a page.
"""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tracker.detections import Frame, Tracks
from tracker.io.annotate import Annotator, fit, scaled
from tracker.io.sinks import check_writable
from trackvae.arrays import Image
from trackvae.errors import InputError
from trackvae.files import atomic_path

_CLOCK = 90_000  # ticks a second of the time stamps; MPEG's own, fine enough for any frame rate
_GROWING = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_FINISHED = {"movflags": "faststart"}


class VideoSink:
    """Frames with their tracks drawn in, as H.264 in MP4 (``yuv420p``, even width and height).

    Frames are shown at their own times, so a variable frame rate stays one. The first frame fixes
    the picture's size; a frame of another size is scaled to fit. What lies at ``path`` is replaced
    once the first second of the new video is complete.
    """

    def __init__(
        self,
        path: str | Path,
        frame_rate: float,
        *,
        max_width: int | None = 1280,
        trail_seconds: float = 1.5,
        quality: int = 24,
    ) -> None:
        """Check that ``path`` can be written.

        Args:
            path: a ``.mp4`` file.
            frame_rate: frames a second, about; the frames' time stamps decide.
            max_width: scale wider frames down to this; None keeps their size.
            trail_seconds: how long a trail reaches back; 0 draws none.
            quality: x264's constant rate factor, 0 (lossless) to 51.

        Raises:
            InputError: the file cannot be written, or is no ``.mp4``.
        """
        self._path = check_writable(path)
        if self._path.suffix.lower() != ".mp4":
            raise InputError(f"{path}: the annotated video is an .mp4 file")
        self._growing = self._path.with_name(f".{self._path.stem}.{os.getpid()}.part.mp4")
        self._frame_rate = frame_rate if frame_rate > 0 else 30.0
        self._max_width = max_width
        self._quality = quality
        self._annotator = Annotator(round(trail_seconds * self._frame_rate))
        self._output: Any = None
        self._stream: Any = None
        self._last_stamp = -1

    def write(self, frame: Frame, tracks: Tracks) -> None:
        """Draw the tracks into a copy of the frame's image and encode it.

        Raises:
            InputError: the frame has no image, or the disk is full.
        """
        if frame.image is None:
            raise InputError(f"{self._path}: frame {frame.index} has no image to draw into")
        picture = self._annotator.draw(*self._prepare(frame.image, tracks))
        if self._output is None:
            self._start(picture)
        self._encode(picture, frame.timestamp)

    def _prepare(self, image: Image, tracks: Tracks) -> tuple[Image, Tracks]:
        """A copy of the image at the size of the video, and the tracks at that size."""
        import cv2

        height, width = image.shape[:2]
        scale = min(1.0, self._max_width / width) if self._max_width else 1.0
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale == 1:
            return image.copy(), tracks
        # 1080p to 720p: 8 ms linear, 23 by area, which only a stronger reduction needs.
        method = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
        picture = cv2.resize(image, size, interpolation=method)
        return np.asarray(picture, dtype=np.uint8), scaled(tracks, scale)

    def _start(self, picture: Image) -> None:
        """Open the output for pictures of this size."""
        import av

        height, width = picture.shape[:2]
        with self._reported():
            self._output = av.open(str(self._growing), "w", format="mp4", options=_GROWING)
            rate = Fraction(self._frame_rate).limit_denominator(1001)
            stream: Any = self._output.add_stream("libx264", rate=rate)
            stream.width, stream.height = width + width % 2, height + height % 2
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.time_base = Fraction(1, _CLOCK)
            context.max_b_frames = 0  # they would start the video late, and be lost in a kill
            context.gop_size = max(1, round(self._frame_rate))  # one fragment a second
            # BT.601, as cv2 converts; untagged, players guess by the height and shift colours.
            context.colorspace, context.color_primaries, context.color_trc = 5, 6, 6
            # 1080p: superfast 22 ms a frame, veryfast 47 (two thirds of the size), ultrafast 13
            # (half as large again).
            stream.options = {"crf": str(self._quality), "preset": "superfast"}
            self._stream = stream

    def _encode(self, picture: Image, seconds: float) -> None:
        import av
        import cv2

        padded = _pad(picture, (self._stream.width, self._stream.height))
        # cv2 converts 1080p in 2 ms, swscale in 10.
        planes: Any = cv2.cvtColor(padded, cv2.COLOR_BGR2YUV_I420)
        decoded = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        stamp = max(round(seconds * _CLOCK), self._last_stamp + 1)
        decoded.pts, decoded.time_base = stamp, Fraction(1, _CLOCK)
        self._last_stamp = stamp
        with self._reported():
            self._mux(self._stream.encode(decoded))

    def _mux(self, packets: Any) -> None:
        """Write encoded packets; with the second key frame the first second is on disk."""
        for packet in packets:
            published = packet.is_keyframe and (packet.pts or 0) > 0
            self._output.mux(packet)
            if published and self._growing.exists():
                # A system that does not rename open files does so in close().
                with suppress(OSError):
                    os.replace(self._growing, self._path)

    def close(self) -> None:
        """Finish the file; without a frame there is none, and what was there stays.

        Raises:
            InputError: the disk is full; the fragmented file stays, playable to its last second.
        """
        if self._output is None:
            return
        output, self._output = self._output, None
        with self._reported():
            for packet in self._stream.encode(None):
                output.mux(packet)
            output.close()
        grown = self._growing if self._growing.exists() else self._path
        with self._reported(), atomic_path(self._path) as temporary:
            _rewrap(grown, temporary)
        with suppress(OSError):
            self._growing.unlink()

    def __enter__(self) -> VideoSink:
        """The sink itself."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reported(self) -> _Reported:
        return _Reported(self._path)


class _Reported:
    """Turns PyAV's and the system's errors into one line for the user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        import av

        if isinstance(error, (av.error.FFmpegError, OSError)):
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self._path}: the video cannot be written ({reason})") from error


def _pad(picture: Image, size: tuple[int, int]) -> Image:
    """The picture at the video's size: one row or column repeated, or scaled to fit."""
    width, height = size
    rows, columns = picture.shape[:2]
    if 0 <= width - columns <= 1 and 0 <= height - rows <= 1:
        if (columns, rows) == size:
            return picture
        return np.pad(picture, ((0, height - rows), (0, width - columns), (0, 0)), mode="edge")
    return fit(picture, width, height)


def _rewrap(source: Path, target: Path) -> None:
    """Copy the packets of a fragmented MP4 into an ordinary one, its index in front."""
    import av

    with (
        av.open(str(source)) as fragments,
        av.open(str(target), "w", format="mp4", options=_FINISHED) as output,
    ):
        stream = fragments.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for packet in fragments.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)

"""What frames come from: a video, a folder of images, a MOT sequence, a camera, an address.

:func:`open_frames` looks at what it is given and returns a :class:`Source`; :func:`list_sources`
finds the sources in a folder of many. How pictures are decoded is the matter of
:mod:`tracker.io.images` and :mod:`tracker.io.video_source`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from tracker.detections import Frame
from tracker.io.images import image_frames, list_images
from tracker.io.mot import read_length
from tracker.io.prefetch import read_ahead
from tracker.io.seqinfo import MOST_FRAMES, SequenceInfo, read_seqinfo
from tracker.io.video_source import (
    VIDEO_SUFFIXES,
    CameraReader,
    VideoInfo,
    VideoReader,
    is_url,
)
from trackvae.errors import InputError
from trackvae.images import IMAGE_SUFFIXES, natural_key, read_image

Kind: TypeAlias = Literal["video", "images", "sequence", "webcam", "stream"]
_DEFAULT_RATE = 30.0
_LISTING_DEPTH = 3  # ROOT/train/MOT16-09 and one more; a whole disk is not searched


@dataclass(frozen=True, eq=False)
class Source:
    """Frames, and what is known of them before the first is read.

    Iterating reads the frames one after the other in bounded memory, a few ahead in a thread of
    their own; files can be iterated again. A sequence without images gives frames whose image is
    None, one for each number up to its length.

    Attributes:
        name: the sequence's folder, the file's stem; what results are called.
        kind: what it is.
        info: length (None where unknown; of a video an estimate), rate, size in pixels.
        path: the file or folder, or None for a camera or an address.
        detections_path: its ``det/det.txt``, or None.
        ground_truth_path: its ``gt/gt.txt``, or None.
        has_images: whether its frames have an image.
        live: a camera or a broadcast: no end, and frames are dropped where the caller is slow.
    """

    name: str
    kind: Kind
    info: SequenceInfo
    path: Path | None = None
    detections_path: Path | None = None
    ground_truth_path: Path | None = None
    has_images: bool = True
    live: bool = False
    _frames: Callable[[], Iterator[Frame]] = field(default=lambda: iter(()), repr=False)

    def __iter__(self) -> Iterator[Frame]:
        """The frames, from the first.

        Raises:
            InputError: after the last good frame, where the source is damaged or breaks off.
        """
        if not self.has_images:
            return self._frames()
        return read_ahead(self._frames, newest_only=self.live)


def open_frames(source: str | Path | int, *, frame_rate: float | None = None) -> Source:
    """Open a source of frames, whatever it is.

    A file or folder of that name wins over a camera's index. The source is looked at before it is
    returned: a missing image, a broken video, a camera that is not there are errors here.

    Args:
        source: a video file; an image; a folder of images; a MOT sequence (``seqinfo.ini``,
            ``img1/``, ``det/det.txt`` or ``gt/gt.txt``, with images, with one video, or with
            neither); a camera's index; an ``rtsp://``, ``http://``, ... address.
        frame_rate: frames a second of images that no ``seqinfo.ini`` describes; 30 if left out.

    Raises:
        InputError: it is not there, or not a source of frames; says what was found.
    """
    text = str(source)
    if is_url(text):
        return _open_stream(text)
    path = Path(text)
    try:
        exists = not isinstance(source, int) and path.exists()
        if not exists and text.isdecimal():
            return _open_camera(int(text))
        if not exists:
            raise InputError(f"{path}: no such file or folder")
        return _open_path(path, frame_rate)
    except OSError as error:  # a folder that may not be listed, a name too long
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _open_path(path: Path, frame_rate: float | None) -> Source:
    """As :func:`open_frames`, for what lies on disk."""
    if is_sequence(path):
        return open_sequence(path, frame_rate=frame_rate)
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_images(path, frame_rate or _DEFAULT_RATE)
    return _open_video(path)


def is_sequence(path: Path) -> bool:
    """Whether the folder is laid out as MOTChallenge's are."""
    return path.is_dir() and (
        any((path / part).is_file() for part in ("seqinfo.ini", "det/det.txt", "gt/gt.txt"))
        or (path / "img1").is_dir()
    )


def _folder_name(path: Path) -> str:
    """The folder's own name, also of ``.`` and ``..``."""
    return path.resolve().name or "sequence"


# Videos, streams, cameras


def _described(name: str, video: VideoInfo) -> SequenceInfo:
    return SequenceInfo(name, video.length, video.frame_rate, video.width, video.height)


def _open_video(path: Path) -> Source:
    if path.suffix.lower() == ".txt":
        raise InputError(f"{path}: a text file, no video; give the sequence's folder instead")
    text = str(path)
    with VideoReader(text) as reader:
        info = _described(path.stem, reader.info)
    return Source(path.stem, "video", info, path, _frames=lambda: VideoReader(text).frames())


def _open_stream(url: str) -> Source:
    """An address; the first iteration goes on with the connection made here."""
    parts = urlsplit(url)
    stem = Path(parts.path).stem or parts.hostname or "stream"
    name = re.sub(r"[^\w.-]+", "_", stem)
    reader = VideoReader(url)
    waiting = [reader]
    return Source(
        name,
        "stream",
        _described(name, reader.info),
        live=reader.info.live,
        _frames=lambda: (waiting.pop() if waiting else VideoReader(url)).frames(),
    )


def _open_camera(index: int) -> Source:
    """A camera; the first iteration goes on with the device opened here."""
    name = f"webcam{index}"
    reader = CameraReader(index)
    waiting = [reader]
    return Source(
        name,
        "webcam",
        _described(name, reader.info),
        live=True,
        _frames=lambda: (waiting.pop() if waiting else CameraReader(index)).frames(),
    )


# Images


def _open_images(path: Path, rate: float) -> Source:
    """A folder of images, or one image."""
    paths = list_images(path) if path.is_dir() else [path]
    if not paths:
        raise InputError(f"{path}: {_not_images(path)}")
    height, width = read_image(paths[0]).shape[:2]
    name = _folder_name(path) if path.is_dir() else path.stem
    info = SequenceInfo(name, len(paths), rate, width, height, ".", paths[0].suffix)
    return Source(name, "images", info, path, _frames=lambda: image_frames(paths, rate))


def _not_images(folder: Path) -> str:
    """What a folder without images is, for the user who named it."""
    inside = _sources_in(folder, _LISTING_DEPTH)
    if inside:
        return f"a folder of {len(inside)} sources, such as {inside[0].name}; name one of them"
    found = sorted(p.name for p in folder.iterdir())
    holds = f"holds {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}" if found else "empty"
    return f"{holds}; expected images, img1/, det/det.txt or a video"


# MOT sequences


def open_sequence(
    path: Path, *, frame_rate: float | None = None, check_images: bool = True
) -> Source:
    """Open a MOT sequence's folder.

    Args:
        path: the folder.
        frame_rate: where no ``seqinfo.ini`` gives one.
        check_images: raise where images are missing, rather than when they are read.

    Raises:
        InputError: ``seqinfo.ini`` is malformed, an image is missing, or the video is broken.
    """
    ini = path / "seqinfo.ini"
    info = read_seqinfo(ini) if ini.is_file() else SequenceInfo("", frame_rate=frame_rate or 0)
    info = replace(info, name=_folder_name(path))
    files = {kind: path / kind / f"{kind}.txt" for kind in ("det", "gt")}
    source = Source(
        info.name,
        "sequence",
        info,
        path,
        detections_path=files["det"] if files["det"].is_file() else None,
        ground_truth_path=files["gt"] if files["gt"].is_file() else None,
    )
    images = sequence_images(path, info)
    if images:
        return _with_images(source, images, check_images)
    video = sequence_video(path)
    if video is not None:
        return _with_video(source, video)
    return _without_images(source)


def sequence_images(path: Path, info: SequenceInfo) -> list[Path]:
    """The images of a sequence in the folder that its ``seqinfo.ini`` names, else in ``img1``."""
    for name in dict.fromkeys((info.image_dir, "img1")):
        folder = path / name
        if folder.is_dir() and folder.resolve() != path.resolve():
            images = list_images(folder)
            if images:
                return images
    return []


def missing_images(images: list[Path], length: int | None) -> list[Path]:
    """The images that a sequence lacks, by the numbers that their names are.

    MOTChallenge counts from 000001. Images that run without a gap from another number are taken
    as they are, the first as frame 1, unless there are fewer than ``length``. Names that are not
    numbers, or too large to be those of frames (dates), can only be counted (see
    :func:`open_sequence`).
    """
    stems = [image.stem for image in images]
    if not all(stem.isdecimal() for stem in stems):
        return []
    numbers = {int(stem) for stem in stems}
    lowest, highest = min(numbers), max(numbers)
    whole = len(numbers) == highest - lowest + 1 and len(numbers) >= (length or 0)
    if whole or highest > MOST_FRAMES:
        return []
    start = min(lowest, 1)
    end = max(start + length - 1 if length else highest, 0)
    sample = images[0]
    return [
        sample.with_name(f"{number:0{len(sample.stem)}d}{sample.suffix}")
        for number in range(start, end + 1)
        if number not in numbers
    ]


def _with_images(source: Source, images: list[Path], check: bool) -> Source:
    info = source.info
    if check:
        missing = missing_images(images, info.length)
        says = f"seqinfo.ini says {info.length} frames" if info.length else "the others are there"
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(f"{missing[0]}: this image is missing{more}; {says}")
        if info.length and len(images) < info.length:
            raise InputError(f"{images[0].parent}: {len(images)} images, but {says}")
    images = images[: info.length]
    height, width = read_image(images[0]).shape[:2]
    rate = info.frame_rate or _DEFAULT_RATE
    info = replace(info, length=len(images), frame_rate=rate, width=width, height=height)
    return replace(source, info=info, _frames=lambda: image_frames(images, rate))


def sequence_video(path: Path) -> Path | None:
    """The video that stands in for a sequence's images, or None.

    Raises:
        InputError: there are several, and none has the folder's name.
    """
    videos = sorted(
        (p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES), key=natural_key
    )
    named = [video for video in videos if video.stem == _folder_name(path)]
    if len(videos) > 1 and len(named) != 1:
        names = ", ".join(video.name for video in videos)
        raise InputError(f"{path}: several videos ({names}) and none named after the folder")
    return next(iter(named or videos), None)


def _with_video(source: Source, video: Path) -> Source:
    """The sequence with its video; ``seqinfo.ini`` has the word on rate and length."""
    with VideoReader(str(video)) as reader:
        found = reader.info
    info = source.info
    rate, length = info.frame_rate, info.length

    def frames() -> Iterator[Frame]:
        read = 0
        for frame in VideoReader(str(video)).frames():
            read = frame.index
            yield replace(frame, timestamp=(read - 1) / rate) if rate else frame
            if read == length:
                return
        if length:
            raise InputError(f"{video}: ends after frame {read}; seqinfo.ini says {length}")

    info = replace(
        info,
        length=length or found.length,
        frame_rate=rate or found.frame_rate,
        width=found.width,
        height=found.height,
    )
    return replace(source, info=info, _frames=frames)


def _without_images(source: Source) -> Source:
    """The sequence as numbers only, up to its length or the last frame of its text file."""
    file = source.detections_path or source.ground_truth_path
    length = source.info.length or (read_length(file) if file else 0)
    if not file and not length:
        raise InputError(f"{source.path}: no images, no video, no det/det.txt: nothing to follow")
    rate = source.info.frame_rate or _DEFAULT_RATE
    return replace(
        source,
        info=replace(source.info, length=length, frame_rate=rate),
        has_images=False,
        _frames=lambda: (Frame(n, (n - 1) / rate) for n in range(1, length + 1)),
    )


# Folders of many


def list_sources(source: str | Path | int) -> list[str | Path | int]:
    """The sources that ``source`` stands for: itself, or those in a folder of many, in order.

    Sequences, videos and folders of images are found up to three folders deep
    (``ROOT/train/MOT16-09``); hidden files are passed over.

    Raises:
        InputError: nothing is there, or a folder holds images beside videos, so that it is not
            clear which are meant.
    """
    path = Path(str(source))
    if isinstance(source, int) or is_url(str(source)):
        return [source]
    try:
        if not path.is_dir():
            return [source]  # what it is, or that it is not there, is for open_frames to say
        found: list[str | Path | int] = list(_sources_in(path, _LISTING_DEPTH))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not found:
        raise InputError(f"{path}: {_not_images(path)}")
    return found


def _sources_in(folder: Path, depth: int) -> list[Path]:
    """The sources in a folder, natural order; the folder itself where it is one."""
    if is_sequence(folder):
        return [folder]
    entries = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=natural_key)
    folders = [entry for entry in entries if entry.is_dir()]
    inner = {f: _sources_in(f, depth - 1) for f in folders} if depth else {}
    videos = [p for p in entries if p.is_file() and p.suffix.lower() in VIDEO_SUFFIXES]
    images = list_images(folder)
    sequences = any(is_sequence(path) for paths in inner.values() for path in paths)
    if images and videos and not sequences:
        raise InputError(
            f"{folder}: holds {len(images)} images and {len(videos)} videos; "
            "name the video, or put the images into a folder of their own"
        )
    if images and not sequences:
        return [folder]
    return [p for entry in entries for p in (inner.get(entry) or [entry] * (entry in videos))]

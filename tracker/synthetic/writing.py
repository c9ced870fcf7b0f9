"""A made scene on disk, in MOT16's layout."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tracker.io.mot import write_boxes
from tracker.io.seqinfo import write_seqinfo
from trackvae.errors import InputError, UsageError
from trackvae.files import make_parent, write_errors

if TYPE_CHECKING:
    from tracker.synthetic.scene import Scene

Progress: TypeAlias = Callable[[int, int], None]

IMAGES = ("jpg", "png", "mp4", "none")
_JPEG_QUALITY = 92

_MAKER = "trackvae"  # in seqinfo.ini: nobody else's sequence is ever overwritten
_FOLDERS = {
    "img1": re.compile(r"\d{6,}\.(jpg|png)"),
    "det": re.compile(r"det\.txt"),
    "gt": re.compile(r"gt\.txt"),
}
_OF_THE_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini")  # left by whoever looks into a folder


def write_sequence(
    scene: Scene,
    directory: Path,
    *,
    images: str = "jpg",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write ``seqinfo.ini``, pictures, ``gt/gt.txt`` and ``det/det.txt``; see ``Scene.write``."""
    if images not in IMAGES:
        raise UsageError(f"images is {images!r}, expected one of {', '.join(IMAGES)}")
    with _whole_folder(directory, overwrite) as folder:
        info = replace(scene.info, name=directory.name)
        if images in ("jpg", "png"):
            info = replace(info, image_ext=f".{images}")
            _write_images(scene, folder / info.image_dir, images, progress)
        elif images == "mp4":
            info = replace(info, image_ext=".mp4")
            _write_video(scene, folder / f"{directory.name}.mp4", progress)
        write_seqinfo(folder / "seqinfo.ini", info, maker=_MAKER)
        write_boxes(folder / "gt" / "gt.txt", scene.ground_truth, ground_truth=True)
        write_boxes(folder / "det" / "det.txt", scene.detections)
        if images == "none" and progress is not None:
            progress(scene.config.frames, scene.config.frames)
    return directory


@contextmanager
def _whole_folder(directory: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside ``directory`` that takes its place when the block succeeds."""
    with write_errors(directory):
        _check_replaceable(directory, overwrite)
    directory = directory.resolve()  # of a link, the folder behind it is replaced, not the link
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    with write_errors(directory):
        make_parent(directory)
        temporary.mkdir()
    try:
        yield temporary
        with write_errors(directory):
            _check_replaceable(directory, overwrite)  # it may have changed in the meantime
            _swap(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, directory: Path) -> None:
    """Put ``new`` where ``directory`` is, or is to be; where that fails the old one stays."""
    old = directory.with_name(f".{directory.name}.{os.getpid()}.old")
    try:
        if directory.exists():
            os.replace(directory, old)
        os.replace(new, directory)
    except BaseException:
        if old.exists() and not directory.exists():
            os.replace(old, directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(directory: Path, overwrite: bool) -> None:
    """Raise unless the folder is new, or empty, or with ``overwrite`` a made scene and no more.

    Raises:
        InputError: names what is in the way.
        OSError: the folder cannot be read.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise InputError(f"{directory}: is a file; name a folder to write to")
    found = [path for path in directory.iterdir() if path.name not in _OF_THE_SYSTEM]
    if not found:
        return
    if not overwrite:
        raise InputError(f"{directory}: exists and is not empty; name another, or overwrite it")
    for stranger in _strangers(directory, found):
        raise InputError(f"{stranger}: not of a made scene, so its folder is not overwritten")
    ini = directory / "seqinfo.ini"
    if not ini.is_file() or f"maker={_MAKER}" not in ini.read_text("utf-8", "replace").split("\n"):
        raise InputError(
            f"{directory}: not overwritten, as it is no made scene ({ini.name} does not say "
            f"maker={_MAKER}); name another folder"
        )


def _strangers(directory: Path, found: list[Path]) -> Iterator[Path]:
    """What lies in a sequence's folder and is nothing that :func:`write_sequence` makes."""
    files = ("seqinfo.ini", f"{directory.resolve().name}.mp4")
    for path in found:
        expected = _FOLDERS.get(path.name)
        if expected is None or path.is_symlink() or not path.is_dir():
            if path.name not in files or path.is_symlink() or not path.is_file():
                yield path
            continue
        for inner in path.iterdir():
            if inner.name in _OF_THE_SYSTEM:
                continue
            if inner.is_dir() or not expected.fullmatch(inner.name):
                yield inner


def _write_images(scene: Scene, folder: Path, ending: str, progress: Progress | None) -> None:
    import cv2

    folder.mkdir(parents=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if ending == "jpg" else []
    total = scene.config.frames
    for number, image in enumerate(scene.frames(), start=1):
        path = folder / f"{number:06d}.{ending}"
        if not cv2.imwrite(str(path), image, options):
            raise InputError(f"{path}: cannot be written (disk full?)")
        if progress is not None:
            progress(number, total)


def _write_video(scene: Scene, path: Path, progress: Progress | None) -> None:
    """One H.264 file that browsers play."""
    import av

    config = scene.config
    if config.width % 2 or config.height % 2:
        raise UsageError(f"mp4 needs even sides, the picture is {config.width}x{config.height}")
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        rate = Fraction(config.frame_rate).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = config.width, config.height, "yuv420p"
        stream.thread_count = 1
        for number, image in enumerate(scene.frames(), start=1):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            container.mux(stream.encode(picture))
            if progress is not None:
                progress(number, config.frames)
        container.mux(stream.encode())

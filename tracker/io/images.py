"""Folders of images as frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tracker.detections import Frame
from trackvae.images import IMAGE_SUFFIXES, natural_key, read_image


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


def image_frames(paths: Sequence[Path], frame_rate: float) -> Iterator[Frame]:
    """The images as frames, read one at a time.

    Raises:
        InputError: at the first image that is missing or broken.
    """
    for row, path in enumerate(paths):
        yield Frame(row + 1, row / frame_rate, read_image(path))

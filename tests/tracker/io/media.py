"""Small videos, images and sequences in which every frame shows its own number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from trackvae.arrays import Image

BITS = 6  # a frame's number, as so many black or white squares


def picture(number: int, width: int = 96, height: int = 64) -> Image:
    """A grey picture whose top row of squares is ``number`` in binary."""
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    side = width // BITS
    for bit in range(BITS):
        image[:side, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
    return image


def number_of(image: Image | None) -> int:
    """The number that :func:`picture` drew, through any codec."""
    assert image is not None
    side = image.shape[1] // BITS
    cells = [
        image[side // 4 : side // 2, b * side + side // 4 :][:, : side // 2] for b in range(BITS)
    ]
    return sum(int(cell.mean() > 128) << bit for bit, cell in enumerate(cells))


def make_video(
    path: Path,
    frames: int = 20,
    *,
    codec: str = "libx264",
    rate: int = 10,
    times: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    gop: int = 5,
) -> Path:
    """Write frames numbered from 1, at the given times in seconds if any."""
    with av.open(str(path), "w", options=options or {}) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = gop
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for row in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(row + 1), format="bgr24")
            if times is not None:
                frame.pts, frame.time_base = round(times[row] * 1000), Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def make_images(folder: Path, names: Sequence[str]) -> Path:
    """Write a picture under each name, numbered from 1 in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        assert cv2.imwrite(str(folder / name), picture(number))
    return folder


def make_sequence(folder: Path, frames: int = 5, *, seqinfo: str = "", images: bool = True) -> Path:
    """A MOT sequence with ``det/det.txt``; ``seqinfo`` adds lines to its ini file."""
    (folder / "det").mkdir(parents=True)
    lines = [f"{n},-1,10,10,20,30,0.5,-1,-1,-1\n" for n in range(1, frames + 1)]
    (folder / "det" / "det.txt").write_text("".join(lines))
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nframeRate=5\n{seqinfo}\n")
    if images:
        make_images(folder / "img1", [f"{n:06d}.png" for n in range(1, frames + 1)])
    return folder

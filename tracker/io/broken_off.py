"""Whether a video file is as long as it says, told from its outermost headers alone.

A container writes in front of each part how long that part is. A file that ends before then was
broken off: a copy that stopped, a disk that was full. That is told here in a few reads, without
decoding; what is damaged inside a file of the right length is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_ISO_BOXES = frozenset(
    b"ftyp moov mdat moof mfra free skip wide sidx styp uuid meta pdin ssix emsg prft udta".split()
)
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: str | Path) -> int:
    """How many bytes short of its own headers a file on this machine is.

    AVI (also beyond 1 GB, OpenDML), MP4 and QuickTime, Matroska and WebM; 0 for what else there
    is, for recordings whose length was never filled in, and for what cannot be read.
    """
    with suppress(OSError), Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(12)
        if start[:4] == b"RIFF":
            ends = _riff_ends(file)
        elif start[4:8] in _ISO_BOXES:
            ends = _iso_ends(file)
        elif start[:4] == _EBML:
            ends = _ebml_ends(file)
        else:
            return 0
        return max(0, max(ends, default=0) - size)
    return 0


def _riff_ends(file: BinaryIO) -> Iterator[int]:
    """Where each RIFF list ends: ``RIFF``, size (32 bits, little endian), that many bytes."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or len(head) < 8 or length in (0, 0xFFFFFFFF):
            return
        yield at + 8 + length
        at += 8 + length + length % 2


def _iso_ends(file: BinaryIO) -> Iterator[int]:
    """Where each box ends: size (32 bits, big endian), type; a size of 1 has 64 bits after."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if head[4:8] not in _ISO_BOXES or length < 8:  # 0: up to the end, whatever that is
            return
        at += length
        yield at


def _ebml_ends(file: BinaryIO) -> Iterator[int]:
    """Where the header and the segment end: id, size (1 to 8 bytes), that many bytes."""
    at = 0
    for name in (_EBML, _SEGMENT):
        file.seek(at)
        head = file.read(12)
        if head[:4] != name or len(head) < 12:
            return
        width = 9 - head[4].bit_length()  # as many bytes as there are zeros in front, and one
        unknown = (1 << 7 * width) - 1
        length = int.from_bytes(head[4 : 4 + width], "big") & unknown
        if width > 8 or length == unknown:
            return
        at += 4 + width + length
        yield at

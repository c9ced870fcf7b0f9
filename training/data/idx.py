"""The idx format of MNIST and Fashion-MNIST, plain or gzipped.

Two zero bytes, the type, the number of dimensions; each dimension as a big-endian 32-bit number;
then the values, the last dimension fastest (yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trackvae.errors import InputError
from trackvae.files import atomic_path, write_errors

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 8
_GZIP = b"\x1f\x8b"


def read_idx(path: str | Path, *, dimensions: int | None = None) -> npt.NDArray[Any]:
    """Read an idx file, gzipped or not, whatever its name.

    Args:
        path: the file.
        dimensions: how many it must have (images 3, labels 1), or None for any.

    Returns:
        The array, in the machine's byte order.

    Raises:
        InputError: it is missing, no idx file, cut short, too long, or of other dimensions.
    """
    path = Path(path)
    data = _read_bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise InputError(
            f"{path}: not an idx file: it starts with {data[:4].hex(' ') or 'nothing'}, "
            "expected 00 00, a type from 08 to 0e, and the number of dimensions"
        )
    count = data[3]
    if dimensions is not None and count != dimensions:
        raise InputError(
            f"{path}: an idx file of {count} dimension(s), expected {dimensions}"
            f"{_hint(count, dimensions)}"
        )
    if not 1 <= count <= _MOST_DIMENSIONS or len(data) < 4 + 4 * count:
        raise InputError(f"{path}: an idx file that ends in its header")
    shape = struct.unpack(f">{count}I", data[4 : 4 + 4 * count])
    kind = np.dtype(_TYPES[data[2]])
    expected = math.prod(shape) * kind.itemsize
    found = len(data) - 4 - 4 * count
    if found != expected:
        raise InputError(
            f"{path}: cut short or damaged: {found} bytes of values, its header "
            f"({' x '.join(map(str, shape))}) promises {expected}"
        )
    values = np.frombuffer(data, dtype=kind, offset=4 + 4 * count).reshape(shape)
    return values.astype(kind.newbyteorder("="))


def write_idx(path: str | Path, array: npt.NDArray[Any]) -> None:
    """Write an array as idx, gzipped if the name ends in ``.gz``; whole or not at all.

    Raises:
        InputError: the file cannot be written.
        ValueError: the array's type has no idx code.
    """
    kinds = {np.dtype(kind).newbyteorder("="): (code, kind) for code, kind in _TYPES.items()}
    if array.dtype not in kinds:
        raise ValueError(f"idx has no type for {array.dtype}")
    code, kind = kinds[array.dtype]
    data = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data += array.astype(kind).tobytes()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, compresslevel=6, mtime=0)
    with atomic_path(path) as temporary, write_errors(path):
        temporary.write_bytes(data)


def _hint(found: int, wanted: int) -> str:
    return {(1, 3): " (labels in place of images)", (3, 1): " (images in place of labels)"}.get(
        (found, wanted), ""
    )


def _read_bytes(path: Path) -> bytes:
    """The file's bytes, unpacked where they start as gzip does."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: a gzip file cut short or damaged ({error})") from error

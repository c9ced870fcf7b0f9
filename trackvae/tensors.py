"""Arrays with a note on disk: safetensors files, written whole or not at all, that run no code.

As torch's tensors, or as numpy's arrays where torch need not be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trackvae.errors import InputError
from trackvae.files import atomic_path, write_errors

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], note: Mapping[str, str]) -> None:
    """Write tensors, on the CPU; what was there before stays where that fails.

    Args:
        path: a ``.safetensors`` file.
        tensors: by name.
        note: the file's metadata.

    Raises:
        InputError: the file cannot be written: no right to, or a full disk.
    """
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with _written(path) as temporary:
        save_file(plain, temporary, metadata=dict(note))


def write_arrays(path: str | Path, arrays: Mapping[str, Any], note: Mapping[str, str]) -> None:
    """As :func:`write_tensors`, of numpy's arrays and without torch."""
    from safetensors.numpy import save_file

    with _written(path) as temporary:
        save_file(dict(arrays), temporary, metadata=dict(note))


def read_tensors(path: str | Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU, and the file's note.

    Args:
        path: a ``.safetensors`` file.
        what: it should be, for the message: ``file``, ``checkpoint``.

    Raises:
        InputError: the file is missing, or damaged, or something else.
    """
    return _read(path, what, "pt")


def read_arrays(path: str | Path, what: str) -> tuple[dict[str, Any], dict[str, str]]:
    """As :func:`read_tensors`, as numpy's arrays and without torch."""
    return _read(path, what, "np")


def has_note(path: str | Path, entry: str) -> bool:
    """Whether it is a safetensors file whose notes hold that entry; no file at all does not."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="np") as file:
            return entry in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


@contextmanager
def _written(path: str | Path) -> Iterator[Path]:
    from safetensors import SafetensorError

    with atomic_path(path) as temporary, write_errors(path):
        try:
            yield temporary
        except SafetensorError as error:  # what a full disk gives
            raise OSError(str(error)) from error


def _read(
    path: str | Path, what: str, framework: Literal["pt", "np"]
) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework=framework) as file:
            note = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such {what}") from error
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: numbers numpy has not
        raise InputError(f"{path}: not a readable safetensors {what} ({error})") from error

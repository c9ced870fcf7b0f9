"""Tensors with a note on disk: safetensors files, written whole or not at all, that run no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary, write_errors(path):
        try:
            save_file(plain, temporary, metadata=dict(note))
        except SafetensorError as error:  # what a full disk gives
            raise OSError(str(error)) from error


def read_tensors(path: str | Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU, and the file's note.

    Args:
        path: a ``.safetensors`` file.
        what: it should be, for the message: ``file``, ``checkpoint``.

    Raises:
        InputError: the file is missing, or damaged, or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="pt") as file:
            note = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such {what}") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors {what} ({error})") from error

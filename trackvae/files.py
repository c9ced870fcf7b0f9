"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trackvae.errors import InputError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it onto ``path`` when the block succeeds.

    Readers see the old file or the new one, never a part of it; a block that raises leaves the old
    file as it was and removes the temporary one. The suffix is kept, for writers that look at it.

    Raises:
        InputError: the folder cannot be written, or the file cannot take its place. What the
            block itself raises passes through.
    """
    target = Path(path)
    with write_errors(target):
        if target.is_dir():
            raise InputError(f"{target}: cannot be written, it is a folder")
        make_parent(target)
        temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
        temporary.touch()
        mode = temporary.stat().st_mode  # a writer may put a file of its own there, for its owner
    try:
        yield temporary
        with write_errors(target):
            temporary.chmod(mode)
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` (UTF-8), whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with atomic_path(path) as temporary, write_errors(path):
        temporary.write_text(text, encoding="utf-8")


def make_parent(path: Path) -> None:
    """Make the folder that ``path`` is to lie in.

    Raises:
        InputError: a part of the path is no folder.
        OSError: the system does not let us.
    """
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{path}: cannot be written ({folder} is not a folder)")
    path.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turn the system's complaint about writing ``path`` into one line.

    Raises:
        InputError: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error

"""The file in which a command notes whose run a folder holds, so that it can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trackvae.errors import InputError
from trackvae.files import write_text


class Account:
    """A folder with such a file: ``path`` and what stands in the file."""

    file: str  # its name

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: dict[str, Any] = {}

    def note(self, name: str) -> Any:
        """An entry of the run's file, or None."""
        return self._content.get(name)

    def write(self, **entries: Any) -> None:
        """Add entries to the run's file.

        Raises:
            InputError: it cannot be written.
        """
        self._content |= entries
        text = json.dumps(self._content, indent=1, allow_nan=False) + "\n"
        write_text(self.path / self.file, text)

    def refuse_other(
        self, pairs: Iterable[tuple[str, Any, Any]], error: type[Exception], advice: str
    ) -> None:
        """Refuse another run, by the first thing that differs.

        Args:
            pairs: what, what the folder's run has, what this one has.
            error: to raise.
            advice: what to do.
        """
        for name, there, here in pairs:
            if there != here:
                raise error(
                    f"{self.path}: holds another run ({name} is {there}, here {here}); {advice}"
                )


def read_account(path: Path, command: str) -> dict[str, Any]:
    """What a command notes of a run that can be gone on with: finished, settings, data.

    Raises:
        InputError: it is missing, damaged, or of another command.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); delete it, or name another folder") from error
    wanted = {"finished": bool, "settings": dict, "data": dict}
    if not isinstance(content, dict) or content.get("command") != command:
        raise InputError(f"{path}: not of trackvae {command}; name another folder")
    for name, kind in wanted.items():
        if not isinstance(content.get(name), kind):
            raise InputError(
                f"{path}: damaged ({name} is missing); delete it, or name another folder"
            )
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")

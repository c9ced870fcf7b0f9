"""Arrays from numpy archives, without ever unpickling."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trackvae.errors import InputError


def read_archive(
    path: str | Path, wanted: Collection[str] | None = None, writer: str = "numpy.savez"
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an ``.npz`` by name.

    Args:
        path: the archive.
        wanted: read only these, where any of them is there; otherwise all.
        writer: what writes such a file, for the message about one that is no archive.

    Raises:
        InputError: the file is missing, no archive, damaged, or holds Python objects.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            # numpy takes what is no archive for a pickle, and would have the user allow that.
            if not zipfile.is_zipfile(file):
                raise InputError(f"{path}: not a readable .npz; {writer} writes one")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                names = [name for name in archive.files if wanted is None or name in wanted]
                return {name: archive[name] for name in names or archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except InputError:
        raise
    except Exception as error:  # numpy raises many kinds for a broken archive
        reason = getattr(error, "strerror", None) or error
        if "pickle" in str(error):
            reason = "it holds Python objects; expected arrays of numbers"
        raise InputError(f"{path}: not a readable .npz ({reason})") from error

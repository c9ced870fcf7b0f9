"""The folder of a training run: what lies where, whose it is, and what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.account import Account, read_account
from trackvae.errors import InputError

if TYPE_CHECKING:
    from training.data import DataSet

RUN_FILE = "run.json"
_COMMAND = "train"  # the folder of another command holds a run.json too
# How it is computed, not what: a run may go on elsewhere and be saved more often.
_FREE = ("device", "checkpoint_every")


class RunFolder(Account):
    """``DIR`` of ``trackvae train``."""

    file = RUN_FILE

    @property
    def weights(self) -> Path:
        """The trained model."""
        return self.path / "model.safetensors"

    def of_attempt(self, name: str, attempt: int) -> Path:
        """A file of one attempt to train: ``log.jsonl``, then ``log-1.jsonl``."""
        path = self.path / name
        return path.with_stem(f"{path.stem}-{attempt}") if attempt else path

    def begin(self, settings: Mapping[str, Any], data: DataSet, *, resume: bool) -> bool:
        """Take the folder, or the run in it.

        Args:
            settings: of the command, plain values.
            data: what is learned from.
            resume: go on with the run that is there; a new one where there is none.

        Returns:
            Whether the run is finished already.

        Raises:
            InputError: the folder holds something else, a damaged file, or a run that is not to
                be gone on with; or it cannot be written.
        """
        about = _about(data)
        before = read_run(self.path) if (self.path / RUN_FILE).exists() else None
        if before is None:
            if self.path.is_dir() and any(self.path.glob("*.safetensors")):
                raise InputError(f"{self.path}: holds weights without a {RUN_FILE}, of another run")
            self.write(command=_COMMAND, finished=False, settings=dict(settings), data=about)
            return False
        self._check_same(before, settings, about)
        if not resume:
            raise InputError(
                f"{self.path}: holds this run already; go on with it by --resume, or choose "
                "another --out"
            )
        self._content = before
        return bool(before["finished"])

    def _check_same(
        self, before: Mapping[str, Any], settings: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        pairs = [
            (name, before["settings"].get(name), value)
            for name, value in settings.items()
            if name not in _FREE
        ]
        pairs.append(("the data's digest", before["data"].get("digest"), about["digest"]))
        self.refuse_other(pairs, InputError, "choose another --out")


def read_run(folder: Path) -> dict[str, Any]:
    """The file of a training run.

    Raises:
        InputError: it is missing, damaged, or of another command.
    """
    return read_account(folder / RUN_FILE, _COMMAND)


def _about(data: DataSet) -> dict[str, Any]:
    """What tells a data set from another."""
    from training.data.dataset import PARTS

    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(np.ascontiguousarray(data.part(part)).tobytes())
    return {
        "name": data.name,
        "note": data.note,
        "shape": list(data.shape),
        "counts": {part: len(data.part(part)) for part in PARTS},
        "digest": digest.hexdigest()[:16],
    }

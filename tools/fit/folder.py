"""The folder of ``trackvae fit``: what lies where, and whose run it is."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tools.account import Account, read_account
from tools.fit.learning import STATE
from trackvae.errors import InputError, UsageError
from trackvae.files import write_errors

FIT_FILE = "fit.json"
_COMMAND = "fit"
Videos: TypeAlias = Sequence[Mapping[str, Any]]


class FitFolder(Account):
    """``DIR`` of ``trackvae fit``."""

    file = FIT_FILE

    @property
    def encoder(self) -> Path:
        """What embeds crops."""
        return self.path / "encoder.safetensors"

    @property
    def model(self) -> Path:
        """The whole VAE."""
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        """A training that can be gone on with."""
        return self.path / STATE

    def observed(self, number: int) -> Path:
        """The crops of a video, from 1."""
        return self.path / f"observed-{number}.npz"

    def begin(self, settings: Mapping[str, Any], videos: Videos) -> bool:
        """Take the folder, or go on with the run in it.

        A run that has come to nothing yet (the wrong detector was named) leaves its folder free.

        Args:
            settings: everything but the videos that decides what is learned; plain values.
            videos: what tells each of them from another; plain values.

        Returns:
            Whether the run is finished already.

        Raises:
            InputError: the folder cannot be written, or holds something else.
            UsageError: it holds another run.
        """
        path = self.path / FIT_FILE
        with write_errors(path):
            before = read_account(path, _COMMAND) if path.exists() else None
            anything = any(True for _ in self._work())
        if before is None and anything:
            raise InputError(
                f"{self.path}: holds files of another run and no {FIT_FILE}; choose another --out"
            )
        if before is not None and anything:
            self._check_same(before, settings, videos)
            self._content = before
            return bool(before["finished"]) and self.encoder.is_file() and self.model.is_file()
        self.write(
            command=_COMMAND,
            finished=False,
            settings=dict(settings),
            data={"videos": list(videos)},
            begun=datetime.date.today().isoformat(),
            seconds={},
        )
        return False

    def _work(self) -> Iterator[Path]:
        """What a run has brought about so far."""
        for pattern in ("observed-*.npz", "*.safetensors"):
            yield from self.path.glob(pattern)

    def _check_same(
        self, before: Mapping[str, Any], settings: Mapping[str, Any], videos: Videos
    ) -> None:
        """Refuse another run, by the first thing that differs."""
        known = before["data"].get("videos", [])
        pairs: list[tuple[str, Any, Any]] = [("the number of videos", len(known), len(videos))]
        for number, (there, here) in enumerate(zip(known, videos, strict=False), 1):
            pairs += [(f"video {number}'s {name}", there.get(name), here[name]) for name in here]
        for name in {**settings, **before["settings"]}:
            pairs.append((name, before["settings"].get(name), settings.get(name)))
        self.refuse_other(
            pairs,
            UsageError,
            "choose another --out, or give the same arguments to go on with it",
        )

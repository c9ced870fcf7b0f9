"""Logs of a run: JSON Lines and TensorBoard, as callables that :meth:`Trainer.fit` takes.

    with JsonLines("log.jsonl", every=10) as lines, TensorBoard("logs") as board:
        trainer.fit(data, on_step=lambda report: (lines(report), board(report)))

They write in the process that they are made in: of several, make them in the first one alone. What
is written at a step depends on its number only, so that the log of a resumed run is that of the
uninterrupted one: what an earlier process logged at or after the first step seen is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import torch
from torch import Tensor

from trackvae.distributions import Gaussian
from trackvae.errors import InputError, UsageError
from trackvae.files import make_parent, write_errors, write_text
from trackvae.vae import VAE
from training.monitors import active_units
from training.trainer import Report

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_ROWS = 256  # encoded at once


@dataclass(frozen=True, slots=True)
class LatentUse:
    """What the dimensions of z are used for.

    Attributes:
        kl: of each dimension, in nats.
        active: how many dimensions the encoder uses (Burda et al., 2016).
    """

    kl: tuple[float, ...]
    active: int


@torch.no_grad()
def latent_use(model: VAE, x: Tensor) -> LatentUse:
    """How the encoder uses the dimensions of z.

    The divergence is that of the posteriors from the Gaussian that has the mean and the variance of
    them all, one dimension at a time: what a dimension tells of an observation. Unlike that from
    the prior it exists per dimension for every prior.

    Args:
        model: the model.
        x: ``(N, *event)``, at least two; a thousand are enough.
    """
    place = next(model.parameters()).device
    codes = [model.encode(rows.to(place)) for rows in torch.split(x, _ROWS)]
    q = Gaussian(torch.cat([q.mean for q in codes]), torch.cat([q.log_var for q in codes]))
    variance = q.mean.var(dim=0, correction=0) + q.log_var.exp().mean(dim=0)
    kl = q.kl_to(Gaussian(q.mean.mean(dim=0), variance.log())).mean(dim=0)
    return LatentUse(tuple(kl.tolist()), int(active_units(q.mean).sum()))


class _Log:
    """When to write; the writing is a subclass's."""

    def __init__(
        self, every: int, use: Callable[[], LatentUse] | None = None, use_every: int = 500
    ) -> None:
        for name, steps in (("every", every), ("use_every", use_every)):
            if steps < 1:
                raise UsageError(f"a log's {name} is {steps}, expected 1 or more")
        self._every, self._use, self._use_every = every, use, use_every
        self._begun = False

    def __call__(self, report: Report) -> None:
        """Log a step if it is one that is logged."""
        if not self._begun:
            self._begin(report.step)
            self._begun = True
        use = None
        if self._use is not None and report.step % self._use_every == 0:
            use = self._use()
        if report.step == 1 or report.step % self._every == 0 or use is not None:
            self._write(report, use)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, step: int) -> None:
        """Open, and cut off what is there from this step on."""
        raise NotImplementedError

    def _write(self, report: Report, use: LatentUse | None) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Write out what is left."""
        raise NotImplementedError


class JsonLines(_Log):
    """One JSON object a line and a logged step; every line is on disk when the step is over."""

    def __init__(
        self,
        path: str | Path,
        *,
        every: int = 1,
        use: Callable[[], LatentUse] | None = None,
        use_every: int = 500,
    ) -> None:
        """Name the file; it is opened at the first step.

        Args:
            path: of the file.
            every: steps from one line to the next; the first step has one too.
            use: gives the use of the latent dimensions, e.g.
                ``lambda: latent_use(model, some_rows)``; None: not logged.
            use_every: steps from one such line to the next.

        Raises:
            UsageError: an interval below 1.
        """
        super().__init__(every, use, use_every)
        self._path = Path(path)
        self._file: TextIO | None = None

    def _begin(self, step: int) -> None:
        """Keep the whole lines of earlier steps, and open the file behind them.

        Raises:
            InputError: the file is no log, or cannot be written.
        """
        with write_errors(self._path):
            make_parent(self._path)
            kept = _lines_before(self._path, step) if self._path.exists() else []
        write_text(self._path, "".join(line + "\n" for line in kept))
        with write_errors(self._path):
            self._file = self._path.open("a", encoding="utf-8")

    def _write(self, report: Report, use: LatentUse | None) -> None:
        values = _values(report) | ({} if use is None else {"kl": use.kl, "active": use.active})
        with write_errors(self._path):
            assert self._file is not None
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file; the next step opens it again."""
        if self._file is not None:
            with write_errors(self._path):
                self._file.close()
        self._file, self._begun = None, False


class TensorBoard(_Log):
    """Curves for TensorBoard; what lies in the folder from the first step on is hidden by it."""

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 10,
        use: Callable[[], LatentUse] | None = None,
        use_every: int = 500,
    ) -> None:
        """Name the folder; see :class:`JsonLines` for the rest.

        Raises:
            InputError: tensorboard is not installed.
            UsageError: an interval below 1.
        """
        super().__init__(every, use, use_every)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                "TensorBoard logs need a package that is absent: pip install 'trackvae[torch]'"
            ) from error
        self._make = SummaryWriter
        self._folder = Path(folder)
        self._board: SummaryWriter | None = None

    def _begin(self, step: int) -> None:
        with write_errors(self._folder):
            self._board = self._make(str(self._folder), purge_step=step, flush_secs=10)

    def _write(self, report: Report, use: LatentUse | None) -> None:
        assert self._board is not None
        values: dict[str, Any] = _values(report)
        if use is not None:
            values["active"] = use.active
            values |= {f"kl/{place:03d}": kl for place, kl in enumerate(use.kl)}
        with write_errors(self._folder):
            for name, value in values.items():
                if name != "step" and value is not None:
                    self._board.add_scalar(name, float(value), report.step)

    def close(self) -> None:
        """Write out what is left; the next step opens a new file."""
        if self._board is not None:
            with write_errors(self._folder):
                self._board.close()
        self._board, self._begun = None, False


def _values(report: Report) -> dict[str, float | bool | None]:
    """What is logged of a step, by name."""
    return {
        "step": report.step,
        "beta": report.phase.beta,
        "train_prior": report.phase.train_prior,
        "constraint": report.constraint,
        "rate": report.rate,
        "distortion": report.distortion,
        "error": report.error,
        "loss": report.loss,
        "flatness": report.flatness,
        "learning_rate": report.learning_rate,
    }


def _lines_before(path: Path, step: int) -> list[str]:
    """The whole lines of a log that belong to steps before this one.

    Raises:
        InputError: a line in the middle is none of a log: this is another file.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a log of a run, and not overwritten") from error
    kept = []
    for number, line in enumerate(lines[:-1], start=1):  # a killed process may leave half a line
        try:
            if int(json.loads(line)["step"]) < step:
                kept.append(line)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}:{number}: not a log of a run, and not overwritten; "
                f"expected one JSON object with a step a line"
            ) from error
    return kept

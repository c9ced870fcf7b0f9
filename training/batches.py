"""What a step draws: its observations, and its noise. The seed and its number determine both."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from trackvae.errors import InputError, UsageError
from training.data.dataset import DataSet
from training.dssm.batch import SequenceBatch

TrainingData: TypeAlias = Tensor | DataSet | SequenceBatch
_CHECKED = 1024  # observations that are looked at for NaN at once
_ORDER, _NOISE = 1, 2  # what a generator is for
_PURPOSES = 3  # of a step's noise, in each process


def seeded(
    seed: int, purpose: int, number: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator that a seed, a purpose and a number determine."""
    mixed = (seed * 1_000_003 + purpose) * 1_000_000_007 + number
    return torch.Generator(device).manual_seed(mixed % 2**63)


class Batches:
    """The batches of one process.

    An epoch goes through the data in an order of its own; each step's part of it is divided among
    the processes.
    """

    def __init__(self, seed: int, size: int, process: int = 0, processes: int = 1) -> None:
        """Say whose they are.

        Args:
            seed: of order and noise.
            size: observations of one step in one process.
            process: which one, from 0.
            processes: how many.
        """
        self._seed, self._size = seed, size
        self._process, self._processes = process, processes
        self._order: tuple[tuple[int, int], Tensor] | None = None

    def take(self, data: TrainingData, step: int) -> tuple[Tensor | SequenceBatch, Tensor | None]:
        """The observations of a step, and what is to be decoded of them.

        Returns:
            ``(B, *event)`` on the CPU, and the same of their partners, or None where each
            observation is its own; of sequences B of them.
        """
        count = len(data.train) if isinstance(data, DataSet) else len(data)
        size = min(self._size, count // self._processes)
        epoch, place = divmod(step, count // (size * self._processes))
        if self._order is None or self._order[0] != (epoch, count):
            # drawn once an epoch: of 50,000 at each step it would take 0.5 ms
            order = torch.randperm(count, generator=seeded(self._seed, _ORDER, epoch))
            self._order = ((epoch, count), order)
        first = (place * self._processes + self._process) * size
        rows = self._order[1][first : first + size]
        if isinstance(data, DataSet):
            target = data.target(rows.numpy(), epoch=epoch)
            x = torch.from_numpy(data.batch(rows.numpy(), epoch=epoch))
            return x, None if target is None else torch.from_numpy(target)
        return data[rows], None

    def noise(
        self, step: int, device: torch.device | str = "cpu", purpose: int = 0
    ) -> torch.Generator:
        """Where the samples of a step come from, of 3 purposes each (0, 1, 2)."""
        return seeded(self._seed, _NOISE + _PURPOSES * self._process + purpose, step, device)


def check_data(data: TrainingData, processes: int) -> None:
    """See that there is something sound to train on, without a copy of it.

    Raises:
        InputError: too few observations, NaN or infinity.
        UsageError: something else than these two.
    """
    if not isinstance(data, (DataSet, Tensor, SequenceBatch)):
        raise UsageError(
            f"data are a {type(data).__name__}, expected a DataSet, a torch.Tensor, or a "
            "SequenceBatch (SequenceBatch.of makes one of recorded sequences)"
        )
    values: Any = data.train if isinstance(data, DataSet) else data
    if len(values) == 0:
        raise InputError("no data to train on")
    if len(values) < processes:
        raise InputError(f"{len(values)} observation(s) to train on in {processes} processes")
    if isinstance(data, SequenceBatch):
        data.check()
        return
    is_array = isinstance(values, np.ndarray)
    if not (values.dtype.kind == "f" if is_array else values.is_floating_point()):
        return  # whole numbers cannot be NaN
    for first in range(0, len(values), _CHECKED):
        part = values[first : first + _CHECKED]
        sound = (np.isfinite(part) if is_array else torch.isfinite(part)).reshape(len(part), -1)
        if not sound.all():
            row = first + int(sound.all(1).tolist().index(False))
            raise InputError(f"the data hold NaN or infinity (observation {row}, from 0)")

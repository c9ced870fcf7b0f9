"""The one noun of this package: a data set in three parts, as arrays that a trainer can take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError, UsageError
from training.data.binarise import DynamicBinarisation
from training.data.partners import Partners

Part: TypeAlias = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
LEAST = 2  # one example has no distribution


@dataclass(frozen=True, slots=True)
class Standardisation:
    """``(raw - mean) / scale`` per channel, from the training part alone.

    Attributes:
        mean: (D,), in the raw unit.
        scale: (D,), in the raw unit, > 0.
    """

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, raw: FloatArray) -> Standardisation:
        """Mean and standard deviation of ``raw`` (N, D); a constant channel is only centred."""
        deviation = raw.std(axis=0)
        # Rounding alone leaves a constant channel a deviation of some 1e-15.
        constant = deviation <= 1e-9 * np.maximum(np.abs(raw).max(axis=0), 1e-300)
        return cls(raw.mean(axis=0), np.where(constant, 1.0, deviation))

    def apply(self, raw: FloatArray) -> FloatArray:
        """Raw values (..., D) to float32 of mean 0 and deviation 1."""
        return ((raw - self.mean) / self.scale).astype(np.float32)

    def undo(self, values: FloatArray) -> FloatArray:
        """The raw values of standardised ones (..., D)."""
        return values * self.scale + self.mean


@dataclass(frozen=True, slots=True)
class DataSet:
    """Examples to learn from, to choose settings by, and to report on.

    Images are ``(N, C, H, W)``, vectors ``(N, D)``. Pixels that come from 8-bit files stay uint8,
    0 to 255, which takes a quarter of the memory; :meth:`values` and :meth:`batch` give float32,
    in [0, 1] for pixels. Colour is in OpenCV's order, BGR, as everywhere in this software.

    Attributes:
        name: for reports.
        train: uint8 or float32, at least two examples.
        validation: the same shape of example; may be empty.
        test: the same; may be empty.
        labels: of each part that has them, (N,) integers or, for the pendulum, angles. Never
            trained on.
        label_names: what the integers stand for.
        binarisation: draws 0 or 1 with the pixel as probability, anew for each batch; of the
            training part only. None: what is stored is what is learned.
        standardisation: how vectors were scaled, or None.
        partners: of the training part: which example is to be decoded where one is encoded. None:
            the same one.
        note: how it was split and what was reduced, for the results.
    """

    name: str
    train: npt.NDArray[Any]
    validation: npt.NDArray[Any]
    test: npt.NDArray[Any]
    labels: dict[str, npt.NDArray[Any]]
    label_names: tuple[str, ...] = ()
    binarisation: DynamicBinarisation | None = None
    standardisation: Standardisation | None = None
    partners: Partners | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.train) < LEAST:
            raise InputError(
                f"{self.name}: {len(self.train)} example(s) to train on, expected at least {LEAST}"
            )
        if self.partners is not None and len(self.partners.order) != len(self.train):
            raise ValueError(f"{len(self.partners.order)} partners, {len(self.train)} examples")
        for part in PARTS:
            array = self.part(part)
            if array.dtype not in (np.uint8, np.float32) or array.shape[1:] != self.shape:
                raise ValueError(f"{part} is {array.dtype} {array.shape}, train {self.train.shape}")
            if part in self.labels and len(self.labels[part]) != len(array):
                raise ValueError(f"{len(self.labels[part])} labels for {len(array)} of {part}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: ``(C, H, W)`` or ``(D,)``."""
        return self.train.shape[1:]

    def part(self, part: Part) -> npt.NDArray[Any]:
        """A part by name, as it is stored."""
        array: npt.NDArray[Any] = getattr(self, part)
        return array

    def values(self, part: Part = "train") -> npt.NDArray[np.float32]:
        """A whole part as float32; of a dynamically binarised set the intensities."""
        return as_float(self.part(part))

    def batch(self, rows: IntArray, *, epoch: int = 0) -> npt.NDArray[np.float32]:
        """Some training examples as float32, binarised anew where the set says so.

        Args:
            rows: (B,), of the training part.
            epoch: which pass over the data. With the rows it names the draw: a resumed run sees
                what the uninterrupted one does.
        """
        chosen = self.train[rows]
        if self.binarisation is not None:
            chosen = self.binarisation.draw(chosen, rows, epoch)
        return as_float(chosen)

    def target(self, rows: IntArray, *, epoch: int = 0) -> npt.NDArray[np.float32] | None:
        """What is to be decoded of the examples of :meth:`batch`; None: they themselves."""
        if self.partners is None:
            return None
        return self.batch(self.partners.draw(rows, epoch), epoch=epoch)


def as_float(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """uint8 pixels divided by 255; float32 as it is."""
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    return array.astype(np.float32, copy=False)


def split(
    name: str,
    examples: npt.NDArray[Any],
    *,
    test: float = 0.1,
    validation: float = 0.0,
    seed: int = 0,
    labels: npt.NDArray[Any] | None = None,
    label_names: Sequence[str] = (),
) -> DataSet:
    """Shuffle ``examples`` with ``seed`` and cut them into parts.

    Args:
        name: for reports.
        examples: (N, ...), uint8 or float32.
        test: fraction of N, rounded; at least two examples always stay to train on.
        validation: fraction of N.
        seed: of the shuffle.
        labels: (N,) or None.
        label_names: what they stand for.

    Raises:
        InputError: fewer than two examples.
        UsageError: fractions that leave nothing to train on.
    """
    if not (0 <= test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise UsageError(
            f"test {test} and validation {validation}, expected fractions that add to less than 1"
        )
    order = np.random.default_rng(seed).permutation(len(examples))
    tests = min(round(test * len(order)), max(len(order) - LEAST, 0))
    checks = min(round(validation * len(order)), max(len(order) - LEAST - tests, 0))
    rows: dict[Part, IntArray] = {
        "train": order[tests + checks :],
        "validation": order[tests : tests + checks],
        "test": order[:tests],
    }
    made = DataSet(
        name=name,
        train=examples[rows["train"]],
        validation=examples[rows["validation"]],
        test=examples[rows["test"]],
        labels={} if labels is None else {part: labels[rows[part]] for part in PARTS},
        label_names=tuple(label_names),
    )
    sizes = ", ".join(f"{len(rows[part])} {part}" for part in PARTS)
    return replace(made, note=f"split at random with seed {seed}: {sizes}")

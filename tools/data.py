"""DATA of ``trackvae train`` and ``trackvae inspect``: what training takes, and cut-out boxes."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from tools.flags import open_flag
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from training.data import DataSet

_MOST = 20_000  # cut-out boxes: 0.25 GB at 64 x 64


@dataclass(frozen=True)
class DataFlags:
    """How DATA is taken."""

    size: Annotated[str | None, open_flag("HxW")] = None
    """Height and width to which images of a folder
    (without it they must be of one size) and cut-out boxes
    (64x64) are resized, e.g. 64x32."""
    grey: bool = False
    """One channel in place of three."""
    binarise: Annotated[
        Literal["none", "threshold", "static", "dynamic"] | None,
        open_flag("{none,threshold,static,dynamic}"),
    ] = None
    """Make pixels 0 or 1: once (static), or anew for each
    batch (dynamic). Left out: static for MNIST's files,
    dynamic for OMNIGLOT, else none."""
    boxes: Annotated[Literal["det", "gt"] | None, open_flag("{det,gt}")] = None
    """Which boxes of MOT sequences are cut out: detections
    (left out, these) or ground truth."""
    most: Annotated[int | None, open_flag("INT")] = None
    """Boxes of MOT sequences at most, evenly in time; 20000
    if left out."""

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width, pixels.

        Raises:
            UsageError: the text is not of the form HxW.
        """
        if self.size is None:
            return None
        found = re.fullmatch(r"(\d{1,4})[x×](\d{1,4})", self.size.strip().lower())
        if found is None:
            raise UsageError(f"--size is {self.size!r}, expected height x width, e.g. 64x32")
        return int(found[1]), int(found[2])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def over(self, before: dict[str, Any]) -> DataFlags:
        """These flags, and what they leave open as in ``before`` (of :meth:`to_dict`)."""
        mine = self.to_dict()
        return DataFlags(**{name: mine[name] or before.get(name, mine[name]) for name in mine})


def open_data(data: str | Path, flags: DataFlags, seed: int) -> DataSet:
    """Open DATA.

    Args:
        data: what :func:`training.data.load` takes; or a MOT sequence, or a folder of them.
        flags: how to take it.
        seed: of the split into parts and of binarisation.

    Raises:
        InputError: nothing that can be learned from.
        UsageError: a flag that DATA has no use for.
    """
    from training.data import LoadOptions, load

    sides, sequences = flags.sides, _sequences(Path(data))
    if sequences:
        from tools.crops import crops_of

        if flags.grey or flags.binarise not in (None, "none"):
            raise UsageError(f"{data}: boxes are cut out in colour; leave out --grey, --binarise")
        size = {} if sides is None else {"size": sides}
        return crops_of(sequences, boxes=flags.boxes or "det", most=flags.most or _MOST, **size)
    if flags.boxes is not None or flags.most is not None:
        raise UsageError(f"{data}: no MOT sequence, so there are no boxes to cut out")
    options = LoadOptions(size=sides, grey=flags.grey, binarise=flags.binarise, seed=seed)
    found = load(data, options=options)
    if all(np.array_equal(found.train[0], other) for other in found.train[1:]):
        raise InputError(f"{data}: its {len(found.train)} examples to train on are all the same")
    if sides is not None and found.shape[1:] != sides:
        raise UsageError(f"{data}: --size is for folders of images; it is {_size(found.shape)}")
    if flags.grey and (len(found.shape) != 3 or found.shape[0] != 1):
        raise UsageError(f"{data}: --grey is for folders of images; it is {_size(found.shape)}")
    return found


def _sequences(folder: Path) -> list[Path]:
    """The MOT sequences that a folder is or holds."""
    if (folder / "seqinfo.ini").is_file():
        return [folder]
    return sorted(found.parent for found in folder.glob("*/seqinfo.ini"))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)

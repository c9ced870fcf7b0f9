"""Motions of a skeleton: the Acclaim ``.amc`` file, and CMU's walks and jogs as one ``.mat``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trackvae.arrays import FloatArray
from trackvae.errors import InputError
from training.data.skeleton import Skeleton, read_lines

CMU_RATE = 120.0  # frames a second
_WALK_JOG_RATE = 30.0  # of the .mat: every fourth frame


@dataclass(frozen=True, slots=True)
class Motion:
    """One recording.

    Attributes:
        columns: (bone, channel) of each column, as :attr:`Skeleton.columns`.
        values: (T, C), translations in the skeleton's unit, angles in degrees.
        rate: frames a second.
        name: of the file.
    """

    columns: tuple[tuple[str, str], ...]
    values: FloatArray
    rate: float = CMU_RATE
    name: str = ""

    def every(self, step: int) -> Motion:
        """Every ``step``-th frame."""
        return replace(self, values=self.values[::step], rate=self.rate / step)


def read_amc(path: str | Path, skeleton: Skeleton, *, rate: float = CMU_RATE) -> Motion:
    """Read a motion of ``skeleton``.

    Raises:
        InputError: the file is missing, empty or cut short, or a line does not fit the skeleton.
    """
    path = Path(path)
    count = {n: len(cs) for n, cs in zip(skeleton.names, skeleton.channels, strict=True)}
    bones = [bone for bone, _ in skeleton.columns]
    first = {bone: bones.index(bone) for bone in bones}  # a bone's first column
    frames: list[list[float]] = []
    missing: set[str] = set()
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        if not words or words[0][0] in "#:":
            if words and words[0].upper() == ":RADIANS":
                raise InputError(f"{path}:{number}: angles in radians, expected :DEGREES")
            continue
        if len(words) == 1 and words[0].isdecimal():
            _check_whole(path, len(frames), missing)
            frames.append([math.nan] * len(skeleton.columns))
            missing = set(first)
            continue
        bone = words[0]
        if bone not in missing:
            raise InputError(f"{path}:{number}: {_unexpected(bone, count, bool(frames))}")
        numbers = _numbers(words[1:])
        if len(numbers) != count[bone]:
            raise InputError(
                f"{path}:{number}: found {line.strip()!r}, expected {count[bone]} number(s) "
                f"for {bone}"
            )
        frames[-1][first[bone] : first[bone] + len(numbers)] = numbers
        missing.remove(bone)
    if not frames:
        raise InputError(f"{path}: no frames in it, expected an .amc motion")
    _check_whole(path, len(frames), missing)
    return Motion(skeleton.columns, np.array(frames), rate, path.stem)


def amc_text(motion: Motion) -> str:
    """The motion as an ``.amc`` file; :func:`read_amc` reads the same numbers back."""
    bones = list(dict.fromkeys(bone for bone, _ in motion.columns))
    places = {b: [i for i, (bone, _) in enumerate(motion.columns) if bone == b] for b in bones}
    lines = [":FULLY-SPECIFIED", ":DEGREES"]
    for number, row in enumerate(motion.values.tolist(), start=1):
        lines.append(str(number))
        lines += [f"{b} {' '.join(repr(row[i]) for i in places[b])}" for b in bones]
    return "\n".join([*lines, ""])


def read_walk_jog(path: str | Path, skeleton: Skeleton) -> list[Motion]:
    """Read ``cmu35WalkJog.mat``: subject 35 at 30 frames a second.

    ``Y`` has all frames (T, 62) with the columns of the skeleton, ``lbls`` (T, S) says with a one
    to which of the S sequences a frame belongs.

    Returns:
        The sequences; :func:`is_jog` tells which are jogs.

    Raises:
        InputError: the file is missing, or is another.
    """
    from scipy.io import loadmat

    path = Path(path)
    if not path.is_file():  # of which scipy says no such thing
        raise InputError(f"{path}: no such file")
    try:
        content = loadmat(path, variable_names=["Y", "lbls"])
        values = np.asarray(content["Y"], dtype=np.float64)
        labels = np.asarray(content["lbls"])
    except Exception as error:  # scipy raises many kinds for what is no .mat
        raise InputError(
            f"{path}: not the walks and jogs of subject 35 ({type(error).__name__}: {error})"
        ) from error
    columns = skeleton.columns
    if values.shape != (len(labels), len(columns)) or not np.isfinite(values).all():
        raise InputError(f"{path}: Y is {values.shape}, expected (T, {len(columns)}) numbers")
    sequence = labels.argmax(axis=1)
    return [
        Motion(columns, values[sequence == s], _WALK_JOG_RATE, f"{path.stem}-{s}")
        for s in range(labels.shape[1])
    ]


def speed(motion: Motion, skeleton: Skeleton) -> float:
    """Mean speed of the root over the ground, in metres a second."""
    ground = [motion.columns.index(("root", channel)) for channel in ("tx", "tz")]
    if len(motion.values) < 2:
        return 0.0
    steps = np.linalg.norm(np.diff(motion.values[:, ground], axis=0), axis=1)
    return float(steps.mean() * skeleton.unit * motion.rate)


def is_jog(motion: Motion, skeleton: Skeleton) -> bool:
    """Whether subject 35 jogs: above 2 m/s (its walks have 1.1 to 1.3, its jogs 3.2 to 3.6)."""
    return speed(motion, skeleton) > 2.0


def _numbers(words: list[str]) -> list[float]:
    """The words as finite numbers; none where one is not."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _check_whole(path: Path, frame: int, missing: set[str]) -> None:
    if missing:
        names = ", ".join(sorted(missing)[:3])
        raise InputError(f"{path}: frame {frame} is cut short or incomplete: no {names}")


def _unexpected(bone: str, count: dict[str, int], started: bool) -> str:
    """Why a line for ``bone`` cannot stand where it does."""
    if not started:
        return f"found {bone!r} before the first frame's number; not an .amc motion?"
    if bone not in count:
        return f"found {bone!r}, which the skeleton does not have"
    if not count[bone]:
        return f"found {bone!r}, which the skeleton does not move"
    return f"found {bone!r} twice in a frame"

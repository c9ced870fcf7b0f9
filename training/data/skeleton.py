"""Skeletons of motion capture: the Acclaim ``.asf`` file, and where the joints are in space.

A bone's rest direction is given in the frame of the whole body, and its rotation about axes of its
own. With ``C`` the rotation to those axes and ``M`` the motion's, the bone is turned by
``G = G_parent C M C^-1`` and ends at ``p = p_parent + G (length * direction)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError

ROOT = "root"
ROOT_CHANNELS = ("tx", "ty", "tz", "rx", "ry", "rz")
_ROTATIONS = ("rx", "ry", "rz")
_INCH = 0.0254  # metres; an .asf's lengths are inches times its unit


@dataclass(frozen=True, slots=True)
class Skeleton:
    """B bones; the root is bone 0 and has no length.

    Attributes:
        names: of the bones.
        parents: (B,), -1 for the root.
        offsets: (B, 3), from a bone's start to its end at rest, in the file's unit.
        axes: (B, 3), degrees about x, y, z: the frame of each bone's rotations.
        channels: per bone, what moves it, in the order of the motion file.
        unit: of lengths, in metres.
    """

    names: tuple[str, ...]
    parents: IntArray
    offsets: FloatArray
    axes: FloatArray
    channels: tuple[tuple[str, ...], ...]
    unit: float = _INCH / 0.45

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Every (bone, channel) that moves, in order: the columns of a motion."""
        return tuple((n, c) for n, cs in zip(self.names, self.channels, strict=True) for c in cs)

    @property
    def bones(self) -> IntArray:
        """(B - 1, 2): parent and child, for drawing."""
        return np.stack([self.parents, np.arange(len(self.names))], axis=1)[1:]


def joint_positions(skeleton: Skeleton, values: FloatArray) -> FloatArray:
    """Forward kinematics.

    Args:
        skeleton: whose columns ``values`` has.
        values: (T, C), translations in the file's unit and angles in degrees.

    Returns:
        (T, B, 3): where each bone ends, in metres; x to the left of a body that faces z, y up.
    """
    values = np.asarray(values, dtype=np.float64)
    columns = skeleton.columns
    if values.ndim != 2 or values.shape[1] != len(columns):
        raise ValueError(f"values {values.shape}, expected (T, {len(columns)})")
    bone = {name: row for row, name in enumerate(skeleton.names)}
    angles = np.zeros((len(values), len(skeleton.names), 3))
    start = np.zeros((len(values), 3))
    for column, (name, channel) in enumerate(columns):
        place = "xyz".index(channel[1])
        if channel[0] == "r":
            angles[:, bone[name], place] = values[:, column]
        else:
            start[:, place] = values[:, column]
    frames = rotation_matrices(skeleton.axes)  # (B, 3, 3)
    turned = frames @ rotation_matrices(angles) @ frames.swapaxes(-1, -2)  # (T, B, 3, 3)
    positions = np.empty((len(values), len(skeleton.names), 3))
    positions[:, 0] = start
    for row in _parents_first(skeleton.parents):
        parent = skeleton.parents[row]
        turned[:, row] = turned[:, parent] @ turned[:, row]
        positions[:, row] = positions[:, parent] + turned[:, row] @ skeleton.offsets[row]
    return positions * skeleton.unit


def _parents_first(parents: IntArray) -> list[int]:
    """Every bone but the root, each after its parent."""
    depth = np.zeros(len(parents), dtype=np.int64)
    above = parents
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return np.argsort(depth, kind="stable")[1:].tolist()


def rotation_matrices(degrees: FloatArray) -> FloatArray:
    """``Rz Ry Rx`` of angles (..., 3) in degrees about the fixed axes x, then y, then z."""
    cx, cy, cz = np.moveaxis(np.cos(np.radians(degrees)), -1, 0)
    sx, sy, sz = np.moveaxis(np.sin(np.radians(degrees)), -1, 0)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


@dataclass(slots=True)
class _Bone:
    """A bone as its lines in the file tell it."""

    name: str = ""
    direction: tuple[float, ...] = ()
    length: float = 0.0
    axis: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: tuple[str, ...] = ()


def read_asf(path: str | Path) -> Skeleton:
    """Read a skeleton.

    Raises:
        InputError: the file is missing, or a line of it cannot be used (it is named).
    """
    path = Path(path)
    root, unit, bones, children = _Bone(ROOT), _INCH, dict[str, _Bone](), dict[str, str]()
    bone = _Bone()
    for place, section, words in _lines(path):
        key, rest = words[0], words[1:]
        if section == "units" and key == "length":
            scale = _numbers(place, rest, 1)[0]
            if not 0 < _INCH / (scale or -1.0) < math.inf:
                raise InputError(f"{place}: a unit of {scale:g}, expected a positive number")
            unit = _INCH / scale
        elif section == "units" and key == "angle" and rest != ["deg"]:
            raise InputError(f"{place}: angles in {' '.join(rest)!r}, expected deg")
        elif section == "root" and key == "order":
            root.channels = _channels(place, [w.lower() for w in rest], ROOT_CHANNELS)
        elif section == "root" and key == "orientation":
            root.axis = _numbers(place, rest, 3)
        elif section == "root" and key == "axis":
            _check_order(place, rest[-1:])
        elif section == "bonedata" and key == "begin":
            bone = _Bone()
        elif section == "bonedata" and key == "end":
            if not bone.name or not bone.direction:
                raise InputError(f"{place}: the bone {bone.name!r} ends without name or direction")
            bones[bone.name] = bone
        elif section == "bonedata":
            _read_bone(place, bone, key, rest)
        elif section == "hierarchy" and key not in ("begin", "end"):
            children |= dict.fromkeys(rest, key)
    if not bones or not root.channels:
        raise InputError(f"{path}: not an .asf skeleton, it has no bones or no root")
    return _skeleton(path, root, bones, children, unit)


def _read_bone(place: str, bone: _Bone, key: str, rest: list[str]) -> None:
    """One line between ``begin`` and ``end``; limits and mass are passed over."""
    if key == "name":
        bone.name = rest[0] if rest else ""
    elif key == "direction":
        bone.direction = _numbers(place, rest, 3)
    elif key == "length":
        bone.length = _numbers(place, rest, 1)[0]
    elif key == "axis":
        bone.axis = _numbers(place, rest[:3], 3)
        _check_order(place, rest[3:])
    elif key == "dof":
        bone.channels = _channels(place, [w.lower() for w in rest], _ROTATIONS)


def _skeleton(
    path: Path, root: _Bone, bones: dict[str, _Bone], parents: dict[str, str], unit: float
) -> Skeleton:
    """The bones in the order of the file, each with its place in the hierarchy."""
    for name in bones:
        line = [name]
        while line[-1] != ROOT:
            parent = parents.get(line[-1])
            if parent is None or parent in line or (parent != ROOT and parent not in bones):
                raise InputError(
                    f"{path}: the hierarchy does not lead from the bone {name!r} to the root "
                    f"({line[-1]!r} hangs on {parent!r})"
                )
            line.append(parent)
    names = [ROOT, *bones]
    found = [root, *bones.values()]
    return Skeleton(
        names=tuple(names),
        parents=np.array([-1, *(names.index(parents[n]) for n in names[1:])]),
        offsets=np.array([np.zeros(3), *(np.array(b.direction) * b.length for b in found[1:])]),
        axes=np.array([b.axis for b in found]),
        channels=tuple(b.channels for b in found),
        unit=unit,
    )


def asf_text(skeleton: Skeleton) -> str:
    """The skeleton as an ``.asf`` file; :func:`read_asf` reads the same back."""
    lines = [":version 1.10", ":name made", ":units", "  mass 1.0"]
    lines += [f"  length {_INCH / skeleton.unit!r}", "  angle deg", ":root"]
    lines += [f"  order {' '.join(skeleton.channels[0]).upper()}", "  axis XYZ"]
    lines += ["  position 0 0 0", f"  orientation {_text(skeleton.axes[0])}", ":bonedata"]
    for row, name in enumerate(skeleton.names[1:], start=1):
        length = float(np.linalg.norm(skeleton.offsets[row]))
        lines += ["  begin", f"    id {row}", f"    name {name}"]
        lines += [f"    direction {_text(skeleton.offsets[row] / (length or 1.0))}"]
        lines += [f"    length {length!r}", f"    axis {_text(skeleton.axes[row])} XYZ"]
        if skeleton.channels[row]:
            lines.append(f"    dof {' '.join(skeleton.channels[row])}")
        lines.append("  end")
    lines += [":hierarchy", "  begin"]
    for row, name in enumerate(skeleton.names):
        held = [skeleton.names[i] for i in np.flatnonzero(skeleton.parents == row)]
        if held:
            lines.append(f"    {name} {' '.join(held)}")
    return "\n".join([*lines, "  end", ""])


def read_lines(path: Path) -> list[str]:
    """A text file's lines.

    Raises:
        InputError: it is missing or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _lines(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """``file:line``, the section it stands in, and its words; comments are passed over."""
    section = ""
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split("#", 1)[0].split()
        if words and words[0].startswith(":"):
            section = words[0][1:].lower()
        elif words:
            yield f"{path}:{number}", section, words


def _numbers(place: str, words: list[str], count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"{place}: found {' '.join(words)!r}, expected {count} number(s)")
    return numbers


def _channels(place: str, words: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    if set(words) - set(known) or len(set(words)) != len(words) or not words:
        raise InputError(f"{place}: found {' '.join(words)!r}, expected some of {' '.join(known)}")
    return tuple(words)


def _check_order(place: str, words: list[str]) -> None:
    if [w.upper() for w in words] != ["XYZ"]:
        raise InputError(f"{place}: axis order {' '.join(words)!r}, only XYZ is supported")


def _text(numbers: FloatArray) -> str:
    return " ".join(repr(float(number)) for number in numbers)

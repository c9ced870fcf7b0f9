"""Which ground truth belongs to which results: reading folders without any configuration.

Everything that :func:`tracker.evaluation.evaluate` accepts becomes a list of :class:`Pair`; no file
of boxes is read here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tracker.io.mot import BoxTable, read_boxes
from tracker.io.seqinfo import read_seqinfo
from trackvae.errors import InputError

Boxes: TypeAlias = Path | BoxTable
Source: TypeAlias = str | Path | BoxTable | Mapping[str, Boxes]

_IN_MEMORY = "sequence"  # the name of a table that came without one
# MOT17 lists every video three times, once a public detector; the ground truth is the same.
_MOT17_DETECTOR = re.compile(r"^(MOT17-\d+)-(DPM|FRCNN|SDP)$", re.IGNORECASE)
_SHOWN_NAMES = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """The ground truth and the results of one sequence.

    Attributes:
        name: under which the scores are reported.
        gt_name: the sequence's name; it differs from ``name`` in MOT17's detector suffix only.
        gt: file or table of the ground truth.
        results: file or table of the results.
        info: the sequence's ``seqinfo.ini``, or None.
    """

    name: str
    gt_name: str
    gt: Boxes
    results: Boxes
    info: Path | None = None

    def length(self) -> int | None:
        """The number of frames that ``seqinfo.ini`` states, or None."""
        return None if self.info is None else read_seqinfo(self.info).length


def load(boxes: Boxes) -> BoxTable:
    """The table itself, or the file's boxes with every id unique in its frame."""
    return read_boxes(boxes, unique_ids=True) if isinstance(boxes, Path) else boxes


def describe(boxes: Boxes, name: str, what: str) -> str:
    """How an error names a file or a table."""
    return str(boxes) if isinstance(boxes, Path) else f"{what} of {name}"


def listed(names: list[str]) -> str:
    """Names for a message of one line, cut after a few."""
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def find_pairs(gt: Source, results: Source) -> tuple[list[Pair], list[str]]:
    """Pair every result with its ground truth, by name.

    One result and one ground truth belong together whatever their names, unless the result was
    looked up in a folder. MOT17's detector suffix may stand on either side
    (``MOT17-02-FRCNN.txt`` is scored on ``MOT17-02`` and the other way round).

    Returns:
        The pairs in the order of their names, and the names of the sequences without results.

    Raises:
        InputError: nothing is found, or there are results without ground truth.
    """
    truths = _ground_truths(gt)
    tables, by_name = _results(results)
    pairs, strangers = [], []
    alone = len(truths) == 1 and len(tables) == 1 and not by_name
    for name, boxes in sorted(tables.items()):
        gt_name = _partner(name, truths)
        if gt_name is None and alone:
            gt_name = name = next(iter(truths))
        if gt_name is None:
            strangers.append(name)
            continue
        truth, info = truths[gt_name]
        pairs.append(Pair(name, gt_name, truth, boxes, info))
    if strangers:
        raise InputError(
            f"{_place(results)}: results without ground truth: {listed(strangers)}; the ground "
            f"truth has {listed(sorted(truths))}. To score one sequence give its file"
        )
    covered = {pair.gt_name for pair in pairs} | set(tables)
    missing = [name for name in sorted(truths) if not {name, _video(name)} & covered]
    return pairs, missing


def _video(name: str) -> str:
    """The name without MOT17's detector suffix."""
    suffixed = _MOT17_DETECTOR.match(name)
    return suffixed.group(1) if suffixed else name


def _partner(name: str, truths: Mapping[str, object]) -> str | None:
    """The ground truth of the results ``name``: the same name, else the same MOT17 video."""
    if name in truths:
        return name
    same = (truth for truth in sorted(truths) if _video(truth) == _video(name))
    return next(same, None)


def _place(source: Source) -> str:
    return str(source) if isinstance(source, (str, Path)) else "results"


def _ground_truths(gt: Source) -> dict[str, tuple[Boxes, Path | None]]:
    """Name to (file or table, ``seqinfo.ini`` or None)."""
    if isinstance(gt, BoxTable):
        return {_IN_MEMORY: (gt, None)}
    if isinstance(gt, Mapping):
        return {
            name: (boxes, _sequence_of(boxes)[1] if isinstance(boxes, Path) else None)
            for name, boxes in gt.items()
        }
    path = Path(gt)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected ground truth")
    if path.is_file():
        files = [path]
    else:
        own = [file for file in (path / "gt" / "gt.txt", path / "gt.txt") if file.is_file()]
        files = own[:1] or sorted([*path.glob("*/gt/gt.txt"), *path.glob("*/*/gt/gt.txt")])
        files = files or _text_files(path)
    if not files:
        raise InputError(
            f"{path}: no ground truth; expected NAME/gt/gt.txt below it, a sequence's folder with "
            "gt/gt.txt, or a gt.txt"
        )
    found: dict[str, tuple[Boxes, Path | None]] = {}
    for file in files:
        name, info = _sequence_of(file)
        if name in found:
            raise InputError(f"{path}: sequence {name} stands twice: {found[name][0]} and {file}")
        found[name] = (file, info)
    return found


def _sequence_of(gt_file: Path) -> tuple[str, Path | None]:
    """Name of the sequence that a ground-truth file belongs to, and its ``seqinfo.ini``."""
    if gt_file.name != "gt.txt":
        return gt_file.stem, None
    folder = Path(os.path.abspath(gt_file)).parent  # not resolve(): a link has a name of its own
    if folder.name == "gt":
        folder = folder.parent
    info = folder / "seqinfo.ini"
    return folder.name, info if info.is_file() else None


def _results(results: Source) -> tuple[dict[str, Boxes], bool]:
    """Name to file or table, and whether the names were looked up in a folder."""
    if isinstance(results, BoxTable):
        return {_IN_MEMORY: results}, False
    if isinstance(results, Mapping):
        return dict(results), True
    path = Path(results)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected results")
    if path.is_file():
        return {path.stem: path}, False
    return {file.stem: file for file in _result_files(path)}, True


def _result_files(folder: Path) -> list[Path]:
    """Result files in a folder, in its ``data``, or in those of the only tracker below it."""
    own = _text_files(folder) or _text_files(folder / "data")
    if own:
        return own
    below = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    trackers = {d.name: _text_files(d) or _text_files(d / "data") for d in below}
    trackers = {name: files for name, files in trackers.items() if files}
    if not trackers:
        raise InputError(f"{folder}: no results; expected a NAME.txt for every sequence")
    if len(trackers) > 1:
        raise InputError(
            f"{folder}: results of several trackers ({listed(list(trackers))}); give one folder"
        )
    return next(iter(trackers.values()))


def _text_files(folder: Path) -> list[Path]:
    """The ``*.txt`` of a folder, without unfinished files and TrackEval's own summaries."""
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    return [f for f in files if not f.name.startswith(".") and not f.name.endswith("_summary.txt")]

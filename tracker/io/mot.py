"""MOTChallenge's text format of boxes: detections, ground truth and results.

One line a box: ``frame, id, left, top, width, height, score[, class, visibility]``. Detections and
results have ten columns (the last three unused), MOT15 ground truth ten (8 to 10 are world
coordinates), MOT16/17/20 ground truth nine (class, visibility), the shortest form seven. Only the
count of columns tells them apart: a tenth column means that there is no class.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracker.boxes import tlwh_from_xyxy, xyxy_from_tlwh
from tracker.detections import LARGEST, Detections, Tracks
from tracker.io.seqinfo import MOST_FRAMES
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import InputError
from trackvae.files import write_text

_MIN_COLUMNS, _MAX_COLUMNS = 6, 10
CLASS_COLUMNS = (8, 9)  # counts of columns with a class; with the last there is a visibility too


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """Boxes of a whole sequence, sorted by frame (stable within a frame).

    Attributes:
        frames: ``(N,)`` int64, ≥ 1, ascending.
        ids: ``(N,)`` int64; -1 in detections.
        boxes: ``(N, 4)`` float64, xyxy in pixels.
        scores: ``(N,)`` float64; in ground truth the mark (0: to be ignored).
        classes: ``(N,)`` int64; -1 where the file has no class.
        visibility: ``(N,)`` float64 in [0, 1]; 1 where the file has none.
        embeddings: ``(N, D)`` float32, or None.
    """

    frames: IntArray
    ids: IntArray
    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    visibility: FloatArray
    embeddings: FloatArray | None = None

    def __len__(self) -> int:
        """How many boxes there are."""
        return len(self.frames)

    @property
    def last_frame(self) -> int:
        """The highest frame number, 0 in an empty table."""
        return int(self.frames[-1]) if len(self) else 0

    def rows(self, frame: int) -> slice:
        """The rows of one frame (1-based), empty where there are none."""
        first, last = np.searchsorted(self.frames, (frame, frame + 1))
        return slice(int(first), int(last))

    def detections(self, frame: int) -> Detections:
        """The boxes of one frame (1-based) as detections."""
        rows = self.rows(frame)
        return Detections(
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            None if self.embeddings is None else self.embeddings[rows],
        )

    def select(self, rows: IntArray | BoolArray) -> BoxTable:
        """The table with the chosen rows only; they must keep the frames ascending."""
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return BoxTable(
            self.frames[rows],
            self.ids[rows],
            self.boxes[rows],
            self.scores[rows],
            self.classes[rows],
            self.visibility[rows],
            embeddings,
        )

    @classmethod
    def of(
        cls,
        frames: IntArray,
        ids: IntArray,
        boxes: FloatArray,
        scores: FloatArray | None = None,
        classes: IntArray | None = None,
        visibility: FloatArray | None = None,
        embeddings: FloatArray | None = None,
    ) -> BoxTable:
        """A table from unsorted columns (shapes as the attributes); left-out ones get defaults."""
        rows = len(frames)
        table = cls(
            np.asarray(frames, dtype=np.int64),
            np.asarray(ids, dtype=np.int64),
            np.asarray(boxes, dtype=np.float64).reshape(rows, 4),
            np.ones(rows) if scores is None else np.asarray(scores, dtype=np.float64),
            np.full(rows, -1) if classes is None else np.asarray(classes, dtype=np.int64),
            np.ones(rows) if visibility is None else np.asarray(visibility, dtype=np.float64),
            None if embeddings is None else np.asarray(embeddings, dtype=np.float32),
        )
        if (np.diff(table.frames) < 0).any():
            return table.select(np.argsort(table.frames, kind="stable"))
        return table

    @classmethod
    def empty(cls) -> BoxTable:
        """A table without boxes."""
        none = np.zeros(0, dtype=np.int64)
        return cls.of(none, none, np.zeros((0, 4)))


def read_boxes(path: str | Path, *, unique_ids: bool = False) -> BoxTable:
    """Read a MOT text file: detections, ground truth or results.

    Args:
        path: the file. An empty file is an empty table.
        unique_ids: also require that no id ≥ 0 stands twice in a frame (ground truth, results).

    Raises:
        InputError: the file is missing, or a line is malformed; names the line and what it holds.
    """
    path = Path(path)
    values = _read_numbers(path)
    if not len(values):
        return BoxTable.empty()
    _check_rows(path, values)
    columns = values.shape[1]
    has_class = columns in CLASS_COLUMNS
    table = BoxTable.of(
        frames=values[:, 0].astype(np.int64),
        ids=values[:, 1].astype(np.int64),
        boxes=xyxy_from_tlwh(values[:, 2:6]),
        scores=values[:, 6] if columns > 6 else None,
        classes=values[:, 7].astype(np.int64) if has_class else None,
        visibility=values[:, 8] if columns == CLASS_COLUMNS[-1] else None,
    )
    if unique_ids:
        _check_unique(path, values)
    return table


def read_length(path: str | Path) -> int:
    """The last frame of a MOT text file: how long a sequence is of which nothing else is known.

    Raises:
        InputError: as :func:`read_boxes`; or a frame number beyond ``MOST_FRAMES``, which would
            make a sequence without end of what is a slip.
    """
    path = Path(path)
    values = _read_numbers(path)
    if not len(values):
        return 0
    _check_rows(path, values)
    row = int(np.argmax(values[:, 0]))
    last = int(values[row, 0])
    if last > MOST_FRAMES:
        _raise_at(path, row, f"frame is {last}; a sequence has at most {MOST_FRAMES}")
    return last


def _read_numbers(path: Path) -> FloatArray:
    """The file's numbers, one row a line ``(N, columns)``; blank lines are passed over."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not a text file; expected MOT text") from error
    if not text.strip():
        return np.zeros((0, _MAX_COLUMNS))
    delimiter = "," if "," in text else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values: FloatArray = np.loadtxt(
                io.StringIO(text), delimiter=delimiter, comments=None, ndmin=2
            )
    except (ValueError, UserWarning):
        values = _read_lines(path, text, delimiter)
    if not _MIN_COLUMNS <= values.shape[1] <= _MAX_COLUMNS:
        raise InputError(
            f"{path}:{_line_number(text, 0)}: {values.shape[1]} columns, expected "
            f"{_MIN_COLUMNS} to {_MAX_COLUMNS}: frame,id,left,top,width,height,score,..."
        )
    return np.asarray(values, dtype=np.float64)


def _read_lines(path: Path, text: str, delimiter: str | None) -> FloatArray:
    """As the fast reader, line by line, to say which line is wrong and what it holds."""
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        cells = line.rstrip().rstrip(",").split(delimiter)
        row = []
        for column, cell in enumerate(cells, start=1):
            try:
                row.append(float(cell))
            except ValueError:
                raise InputError(
                    f"{path}:{number}: column {column} is {cell.strip()[:40]!r}, expected a number"
                ) from None
        if rows and len(row) != len(rows[0]):
            raise InputError(
                f"{path}:{number}: {len(row)} columns, the lines before have {len(rows[0])}"
            )
        rows.append(row)
    return np.array(rows, dtype=np.float64)


def _line_number(text: str, row: int) -> int:
    """The line (1-based) of the text that holds the given row of numbers."""
    filled = (n for n, line in enumerate(text.splitlines(), start=1) if line.strip())
    return next(n for index, n in enumerate(filled) if index == row)


def _raise_at(path: Path, row: int, problem: str) -> None:
    text = path.read_text(encoding="utf-8-sig")
    raise InputError(f"{path}:{_line_number(text, row)}: {problem}")


def _check_rows(path: Path, values: FloatArray) -> None:
    """Raise for the first row that cannot be a box, naming its line."""
    usable = np.isfinite(values)
    usable[:, :6] &= np.abs(values[:, :6]) < LARGEST  # a right edge must not overflow
    finite = np.asarray(usable.all(axis=1))
    used = np.where(finite[:, None], values, 0.0)
    whole = np.abs(used[:, :2]) < LARGEST
    whole &= used[:, :2] == np.floor(used[:, :2])
    if values.shape[1] in CLASS_COLUMNS:
        whole[:, 1] &= used[:, 7] == np.floor(used[:, 7])
        whole[:, 1] &= np.abs(used[:, 7]) < LARGEST
    sized = np.asarray((used[:, 4:6] >= 0).all(axis=1))
    bad = ~finite | ~whole.all(axis=1) | (used[:, 0] < 1) | ~sized
    if not bad.any():
        return
    row = int(np.argmax(bad))
    frame, tlwh = values[row, 0], values[row, 2:6].tolist()
    if not finite[row]:
        column = int(np.argmax(~usable[row])) + 1
        expected = "a finite number" if column > 6 else f"a finite number below {LARGEST:.0e}"
        problem = f"column {column} is {values[row, column - 1]}, expected {expected}"
    elif not whole[row, 0]:
        problem = f"frame is {frame}, expected a whole number"
    elif frame < 1:
        problem = f"frame is {frame:.0f}; frames count from 1"
    elif not sized[row]:
        problem = f"negative width or height in {tlwh} (left, top, width, height)"
    else:
        problem = f"id or class is not a whole number: {values[row].tolist()}"
    _raise_at(path, row, problem)


def _check_unique(path: Path, values: FloatArray) -> None:
    """Raise where an id stands twice in one frame, naming the second line."""
    order = np.lexsort((np.arange(len(values)), values[:, 1], values[:, 0]))
    ordered = values[order, :2]
    same = ordered[1:] == ordered[:-1]
    again = np.all(same, axis=1) & (ordered[1:, 1] >= 0)
    if again.any():
        row = int(order[1:][again].min())
        frame, identity = values[row, :2].astype(np.int64)
        _raise_at(path, row, f"id {identity} stands twice in frame {frame}")


def format_tracks(frame: int, tracks: Tracks) -> str:
    """One frame of results as MOT text: ``frame,id,left,top,width,height,score,-1,-1,-1``."""
    tlwh = tlwh_from_xyxy(tracks.boxes)
    return "".join(
        f"{frame},{i},{x:.3f},{y:.3f},{w:.3f},{h:.3f},{s:.6g},-1,-1,-1\n"
        for i, (x, y, w, h), s in zip(
            tracks.ids.tolist(), tlwh.tolist(), tracks.scores.tolist(), strict=True
        )
    )


def write_boxes(path: str | Path, table: BoxTable, *, ground_truth: bool = False) -> None:
    """Write a MOT text file, whole or not at all.

    Args:
        path: the file.
        table: its boxes.
        ground_truth: nine columns with class and visibility, instead of ten without.
    """
    write_text(path, "".join(_lines(table, ground_truth)))


def _lines(table: BoxTable, ground_truth: bool) -> Iterator[str]:
    columns = (table.frames, table.ids, tlwh_from_xyxy(table.boxes), table.scores)
    tails = zip(table.classes.tolist(), table.visibility.tolist(), strict=True)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for (frame, identity, (x, y, w, h), score), (label, seen) in zip(rows, tails, strict=True):
        tail = f"{label},{seen:.3f}" if ground_truth else "-1,-1,-1"
        yield f"{frame},{identity},{x:.3f},{y:.3f},{w:.3f},{h:.3f},{score:.6g},{tail}\n"

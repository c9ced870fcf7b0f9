"""What a source and its text files hold, and what is wrong with them.

The readers stop at the first thing that cannot be used; the checks here go on and list them all.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracker.detections import LARGEST
from tracker.io.broken_off import missing_bytes
from tracker.io.mot import CLASS_COLUMNS
from tracker.io.seqinfo import MOST_FRAMES, SequenceInfo, read_seqinfo
from tracker.io.sources import (
    Source,
    is_sequence,
    missing_images,
    open_frames,
    open_sequence,
    sequence_images,
    sequence_video,
)
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import InputError

_SHOWN = 3  # places named of each problem; the others are counted
_LAYOUTS = {
    6: "6 columns: frame, id, box",
    7: "7 columns: frame, id, box, score",
    8: "8 columns: with class, no visibility",
    9: "9 columns: MOT16/17/20 ground truth, with class and visibility",
    10: "10 columns: MOT15, detections or results; without a class",
}


@dataclass(frozen=True, slots=True)
class BoxReport:
    """What a MOT text file holds.

    Attributes:
        path: the file.
        boxes: usable lines.
        frames: frames with at least one box.
        first_frame: lowest frame number, 0 in an empty file.
        last_frame: highest frame number, 0 in an empty file.
        most: boxes in the fullest frame.
        scores: lowest and highest score.
        identities: different ids ≥ 0.
        layout: what the columns are.
        notes: worth knowing, nothing wrong.
        problems: what is wrong, each with the file and line.
    """

    path: Path
    boxes: int = 0
    frames: int = 0
    first_frame: int = 0
    last_frame: int = 0
    most: int = 0
    scores: tuple[float, float] = (0.0, 0.0)
    identities: int = 0
    layout: str = "empty"
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What a source is, and what is wrong with it.

    Attributes:
        source: opened, or None where it could not be.
        detections: of its ``det.txt``, or None.
        ground_truth: of its ``gt.txt``, or None.
        problems: of the frames; those of the text files stand in their own reports.
    """

    source: Source | None
    detections: BoxReport | None = None
    ground_truth: BoxReport | None = None
    problems: tuple[str, ...] = field(default=())

    @property
    def all_problems(self) -> tuple[str, ...]:
        """The problems of frames, detections and ground truth together."""
        reports = (self.detections, self.ground_truth)
        return (*self.problems, *(p for report in reports if report for p in report.problems))


def check_source(source: str | Path | int, *, decode: bool = False) -> SourceReport:
    """Look at a source and everything that belongs to it.

    Args:
        source: as :func:`tracker.io.sources.open_frames` takes it.
        decode: also decode every frame, which finds broken images and damaged videos.

    Raises:
        InputError: nothing of it can be read.
    """
    path = Path(str(source))
    if isinstance(source, int) or not is_sequence(path):
        opened = open_frames(source)
        video = opened.path if opened.kind == "video" else None
        return SourceReport(opened, problems=_check_pictures(opened, video, decode))
    try:
        opened = open_sequence(path, check_images=False)
        problems, length = _check_files(path, opened)
    except InputError as error:
        return _only_text(path, error)
    info = opened.info
    size = (info.width, info.height)
    reports = [
        check_boxes(file, size=size, length=length, identities=identities) if file else None
        for file, identities in ((opened.detections_path, False), (opened.ground_truth_path, True))
    ]
    if not problems and opened.has_images:
        folder = sequence_images(path, info)
        problems = _check_pictures(opened, None if folder else sequence_video(path), decode)
    return SourceReport(opened, reports[0], reports[1], problems)


def _only_text(path: Path, error: InputError) -> SourceReport:
    """The report on a sequence whose frames cannot be opened; raises if it has nothing else."""
    files = [path / name / f"{name}.txt" for name in ("det", "gt")]
    reports = [check_boxes(f, identities=f.stem == "gt") if f.is_file() else None for f in files]
    if not any(reports):
        raise error
    # Where a text file alone is to blame, its own report has it, and all the others like it.
    told = any(r and r.problems and str(error).startswith(f"{r.path}:") for r in reports)
    return SourceReport(None, reports[0], reports[1], () if told else (str(error),))


def _check_files(path: Path, found: Source) -> tuple[tuple[str, ...], int | None]:
    """Missing images, and where ``seqinfo.ini`` says other than the files; the true length."""
    ini = path / "seqinfo.ini"
    said = read_seqinfo(ini) if ini.is_file() else SequenceInfo("")
    images = sequence_images(path, said)
    missing = missing_images(images, said.length) if images else []
    problems = []
    if missing:
        problems.append(_missing(missing))
    if images and said.length and not missing and len(images) != said.length:
        problems.append(f"{ini}: seqLength is {said.length}, but there are {len(images)} images")
    size = (found.info.width, found.info.height)
    if said.width and said.height and found.has_images and size != (said.width, said.height):
        problems.append(
            f"{ini}: {said.width} x {said.height}, but the first frame is {size[0]} x {size[1]}"
        )
    counted = len(images) + len(missing) if images else found.info.length
    return tuple(problems), said.length or counted


def _missing(images: list[Path]) -> str:
    """Missing images by name, the first few."""
    names = ", ".join(image.name for image in images[1:_SHOWN])
    others = f" (also {names}" + (", ...)" if len(images) > _SHOWN else ")") if names else ""
    return f"{images[0]}: missing image, {len(images)} in all{others}"


def _check_pictures(source: Source, video: Path | None, decode: bool) -> tuple[str, ...]:
    """What decoding finds, where that is asked for; and whether a video is all there."""
    problems = _check_decoding(source) if decode else ()
    missing = missing_bytes(video) if video and not problems else 0
    if missing:
        problems = (f"{video}: broken off: its header promises {missing} bytes more",)
    return problems


def _check_decoding(source: Source) -> tuple[str, ...]:
    """Read every frame; what stops it, and whether sizes or the length differ."""
    if not source.has_images or source.live:
        return ()
    sizes: dict[tuple[int, int], int] = {}
    read = 0
    problems = []
    try:
        for frame in source:
            read = frame.index
            if frame.image is not None:
                sizes.setdefault((frame.image.shape[1], frame.image.shape[0]), read)
    except InputError as error:
        problems.append(str(error))
    if len(sizes) > 1:
        kinds = ", ".join(f"{w} x {h} from frame {n}" for (w, h), n in list(sizes.items())[:4])
        problems.append(f"{source.name}: frames of different sizes ({kinds})")
    if not problems and source.info.length and read != source.info.length:
        problems.append(f"{source.name}: {read} frames decoded, {source.info.length} expected")
    return tuple(problems)


def check_boxes(
    path: Path,
    *,
    size: tuple[int, int] = (0, 0),
    length: int | None = None,
    identities: bool = True,
) -> BoxReport:
    """Look at a MOT text file line by line.

    Args:
        path: detections, ground truth or results.
        size: width and height of the image, to find boxes outside it; 0 where unknown.
        length: number of frames of the sequence, or None.
        identities: whether ids must be unique in a frame (ground truth, results).

    Raises:
        InputError: the file cannot be read at all.
    """
    scan = _scan(path)
    small = np.abs(scan.values[:, :6]) < LARGEST
    finite = np.asarray(np.isfinite(scan.values).all(axis=1) & small.all(axis=1))
    scan.report(~finite, "not a finite number, or far too large")
    scan.keep(finite)
    v = scan.values
    scan.report((v[:, 0] < 1) | (v[:, 0] != np.floor(v[:, 0])), "no frame number from 1 on")
    scan.report(v[:, 0] > MOST_FRAMES, f"frame number above {MOST_FRAMES}")
    scan.keep((v[:, 0] >= 1) & (v[:, 0] <= MOST_FRAMES) & (v[:, 0] == np.floor(v[:, 0])))
    v = scan.values
    whole = np.asarray(v[:, 1] == np.floor(v[:, 1]))
    if v.shape[1] in CLASS_COLUMNS:
        whole &= (v[:, 7] == np.floor(v[:, 7])) & (np.abs(v[:, 7]) < LARGEST)
    scan.report(~whole, "id or class is not a whole number")
    scan.report((v[:, 4:6] < 0).any(axis=1), "negative width or height")
    scan.report((v[:, 4:6] == 0).any(axis=1), "box without area")
    if identities:  # files with ids are often sorted by id, and may be
        scan.report(_repeated(v[:, :2]) & (v[:, 1] >= 0), "id twice in a frame")
    else:
        before = np.concatenate([[-np.inf], v[:-1, 0]])
        scan.report(v[:, 0] < before, "frame before that of the line above")
        scan.report(_repeated(v[:, [0, 2, 3, 4, 5]]), "the same box twice in a frame")
    if all(size):
        outside = (v[:, 2] >= size[0]) | (v[:, 3] >= size[1])
        outside |= (v[:, 2] + v[:, 4] <= 0) | (v[:, 3] + v[:, 5] <= 0)
        scan.report(
            outside & (v[:, 4:6] >= 0).all(axis=1),
            f"box outside the image of {size[0]} x {size[1]}",
        )
    if length:
        scan.report(v[:, 0] > length, f"frame after the last, {length}")
    scan.keep(whole & (v[:, 4:6] >= 0).all(axis=1))
    return _summary(scan, identities, length)


@dataclass(slots=True)
class _Scan:
    """A text file's numbers with the lines they stand in, and what was found wrong so far."""

    path: Path
    values: FloatArray  # (N, columns ≥ 6)
    lines: IntArray  # (N,)
    problems: list[str]

    def report(self, wrong: npt.ArrayLike, what: str) -> None:
        """Note the lines of the rows that are wrong."""
        lines: list[int] = self.lines[np.asarray(wrong, dtype=np.bool_)].tolist()
        if lines:
            self.problems.append(_at_lines(self.path, lines, what))

    def keep(self, rows: BoolArray) -> None:
        """Go on with these rows only."""
        self.values, self.lines = self.values[rows], self.lines[rows]


def _at_lines(path: Path, lines: list[int], what: str) -> str:
    """``file:line: what``, further lines counted."""
    if len(lines) == 1:
        return f"{path}:{lines[0]}: {what}"
    others = ", ".join(str(line) for line in lines[1:_SHOWN])
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"{path}:{lines[0]}: {what}; also in lines {others}{more}"


def _scan(path: Path) -> _Scan:
    """Every line that is a row of numbers; the others are problems.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    filled = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    delimiter = "," if "," in text else None
    lines = np.array([n for n, _ in filled], dtype=np.int64)
    try:  # the fast way, for a file in which every line is good
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.loadtxt(StringIO(text), delimiter=delimiter, comments=None, ndmin=2)
        if values.shape[0] == len(lines) and 6 <= values.shape[1] <= 10:
            return _Scan(path, values, lines, [])
    except (ValueError, UserWarning):
        pass
    return _scan_lines(path, filled, delimiter)


def _scan_lines(path: Path, filled: list[tuple[int, str]], delimiter: str | None) -> _Scan:
    """As :func:`_scan`, line by line; the first good line fixes the number of columns."""
    rows: list[list[float]] = []
    kept, not_numbers, ragged = [], [], []
    for number, line in filled:
        try:
            row = [float(cell) for cell in line.strip().rstrip(",").split(delimiter)]
        except ValueError:
            not_numbers.append(number)
            continue
        if not 6 <= len(row) <= 10 or (rows and len(row) != len(rows[0])):
            ragged.append(number)
            continue
        rows.append(row)
        kept.append(number)
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 6)
    scan = _Scan(path, values, np.array(kept, dtype=np.int64), [])
    if not_numbers:
        scan.problems.append(_at_lines(path, not_numbers, "not numbers"))
    if ragged:
        columns = f"{values.shape[1]} columns as the lines before" if rows else "6 to 10 columns"
        scan.problems.append(_at_lines(path, ragged, f"not {columns}"))
    return scan


def _repeated(keys: FloatArray) -> BoolArray:
    """Rows of ``keys`` ``(N, K)`` that an earlier row equals."""
    order = np.lexsort((np.arange(len(keys)), *keys.T[::-1]))
    same = np.all(keys[order][1:] == keys[order][:-1], axis=1)
    repeated = np.zeros(len(keys), dtype=np.bool_)
    repeated[order[1:][same]] = True
    return repeated


def _summary(scan: _Scan, identities: bool, length: int | None) -> BoxReport:
    """Counts over the usable rows."""
    v = scan.values
    if not len(v):
        return BoxReport(
            scan.path, problems=tuple(scan.problems) or (f"{scan.path}: holds no boxes",)
        )
    frames, counts = np.unique(v[:, 0].astype(np.int64), return_counts=True)
    scores = v[:, 6] if v.shape[1] > 6 else np.ones(len(v))
    last = max(length or 0, int(frames[-1]))
    notes = []
    if len(frames) < last:
        notes.append(f"{last - len(frames)} of {last} frames have no box{_longest_gap(frames)}")
    if not identities and (scores.min() < 0 or scores.max() > 1):
        notes.append("scores are not probabilities: a threshold is on their own scale")
    ids = v[v[:, 1] >= 0, 1]
    unscored = int((scores == 0).sum()) if identities else 0
    if unscored:
        notes.append(f"{unscored} boxes are marked 0: not scored")
    if identities and len(ids):
        notes += _broken_off(v)
    return BoxReport(
        scan.path,
        len(v),
        len(frames),
        int(frames[0]),
        int(frames[-1]),
        int(counts.max()),
        (float(scores.min()), float(scores.max())),
        len(np.unique(ids)),
        _LAYOUTS[v.shape[1]],
        tuple(notes),
        tuple(scan.problems),
    )


def _longest_gap(frames: IntArray) -> str:
    """The longest run of frames without a box between two that have some."""
    gaps = np.diff(frames) - 1
    if not len(gaps) or gaps.max() < 1:
        return ""
    row = int(np.argmax(gaps))
    return f"; the longest gap is {gaps[row]} after frame {frames[row]}"


def _broken_off(values: FloatArray) -> list[str]:
    """How many identities are away for some frames and come back."""
    pairs = values[values[:, 1] >= 0][:, :2]
    ordered = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    step = np.diff(ordered, axis=0)
    away = (step[:, 1] == 0) & (step[:, 0] > 1)
    if not away.any():
        return []
    broken = len(np.unique(ordered[1:][away, 1]))
    return [f"{broken} of {len(np.unique(pairs[:, 1]))} identities are away and come back"]

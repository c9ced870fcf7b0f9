"""``trackvae info``: what a source is, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from trackvae.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from tracker.io.check import BoxReport, SourceReport


@dataclass(frozen=True)
class Info:
    """Say what a source is: frames, size, rate, detections, identities, and problems found."""

    source: Annotated[str, tyro.conf.Positional]
    """A video, a folder of images, a MOT sequence, a folder of many, a camera's index, an address,
    or a MOT text file (detections, ground truth, results)."""

    decode: bool = False
    """Decode every frame, which finds broken images and damaged videos."""

    def run(self) -> int:
        """Print the report.

        Returns:
            0 where there was something to report on, whatever problems it has; 1 where nothing
            could be opened.

        Raises:
            InputError: the one thing named cannot be opened.
        """
        from rich.console import Console

        from tracker.io.sources import list_sources

        console = Console(highlight=False)
        path = Path(self.source)
        if path.is_file() and path.suffix.lower() == ".txt":
            return _show_text(console, path)
        sources = list_sources(self.source)
        if len(sources) == 1:
            return _show_one(console, sources[0], self.decode)
        return _show_many(console, sources, self.decode)


def _show_text(console: Console, path: Path) -> int:
    """A MOT text file on its own; one without ids ≥ 0 holds detections."""
    from tracker.io.check import check_boxes

    report = check_boxes(path)
    if report.boxes and not report.identities:
        report = check_boxes(path, identities=False)
    rows = [("file", str(path)), ("layout", report.layout), *_box_rows("boxes", report)]
    _print_rows(console, rows)
    _print_problems(console, report.problems)
    return 0


def _show_one(console: Console, source: str | Path | int, decode: bool) -> int:
    from tracker.io.check import check_source

    report = check_source(source, decode=decode)
    rows = _source_rows(report)
    for name, boxes in (("detections", report.detections), ("ground truth", report.ground_truth)):
        if boxes is not None:
            rows += _box_rows(name, boxes)
    _print_rows(console, rows)
    _print_problems(console, report.all_problems)
    return 0


def _source_rows(report: SourceReport) -> list[tuple[str, str]]:
    """Kind, frames, size, rate, duration."""
    source = report.source
    if source is None:
        return [("frames", "cannot be opened")]
    info = source.info
    kind = source.kind if source.has_images else f"{source.kind} without images"
    rows = [("name", source.name), ("kind", kind), ("frames", str(info.length or "unknown"))]
    if info.width and info.height:
        rows.append(("size", f"{info.width} x {info.height}"))
    rows.append(("rate", f"{info.frame_rate:.4g} frames/s"))
    if info.length:
        rows.append(("duration", _clock(info.length / info.frame_rate)))
    return rows


def _box_rows(name: str, report: BoxReport) -> list[tuple[str, str]]:
    """Boxes, identities, scores and notes of one text file."""
    if not report.boxes:
        return [(name, "none")]
    mean = report.boxes / report.frames
    rows = [
        (
            name,
            f"{report.boxes} boxes in {report.frames} frames ({report.first_frame} to "
            f"{report.last_frame}), {mean:.1f} a frame, at most {report.most}",
        )
    ]
    if report.identities:
        rows.append(("", f"{report.identities} identities"))
    low, high = report.scores
    rows.append(("", f"scores {low:.4g} to {high:.4g}"))
    if name != "boxes":
        rows.append(("", report.layout))
    return rows + [("", note) for note in report.notes]


def _show_many(console: Console, sources: list[str | Path | int], decode: bool) -> int:
    """One line a source, then every problem."""
    from rich.table import Table

    from tracker.io.check import check_source

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("source", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for column in ("frames", "size", "rate", "detections", "ids", "problems"):
        table.add_column(column, justify="right", no_wrap=True)
    problems: list[str] = []
    readable = False
    for source in sources:
        try:
            report = check_source(source, decode=decode)
        except InputError as error:
            problems.append(str(error))
            table.add_row(Path(str(source)).name, "unreadable", *[""] * 5, "1")
            continue
        readable = True
        problems += report.all_problems
        table.add_row(*_cells(source, report))
    console.print(table)
    _print_problems(console, tuple(problems))
    return 0 if readable else 1


def _cells(source: str | Path | int, report: SourceReport) -> list[str]:
    """The table's cells for one source."""
    opened, found, truth = report.source, report.detections, report.ground_truth
    info = opened.info if opened else None
    return [
        Path(str(source)).name,
        "unreadable" if opened is None else opened.kind if opened.has_images else "no images",
        str(info.length or "?") if info else "?",
        f"{info.width} x {info.height}" if info and info.width else "?",
        f"{info.frame_rate:.4g}" if info else "?",
        str(found.boxes) if found else "",
        str(truth.identities) if truth else "",
        str(len(report.all_problems) or ""),
    ]


def _print_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows:
        table.add_row(Text(name, style="bold"), Text(value))
    console.print(table)


def _print_problems(console: Console, problems: tuple[str, ...]) -> None:
    """One line each; a file's place stays in one piece, to be clicked or copied."""
    if not problems:
        console.print("no problems found", style="green")
        return
    console.print(f"{len(problems)} problem{'s' * (len(problems) > 1)} found:", style="bold red")
    for problem in problems:
        console.print(f"  {problem}", markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    """Seconds as 12.3 s, 4:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

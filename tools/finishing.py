"""What ``trackvae track`` does with the tracks of a sequence when its last frame is through."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trackvae.errors import UsageError

if TYPE_CHECKING:
    from tracker.io.sinks import Sink
    from tracker.io.sources import Source
    from tracker.relinking import Witness


def check_relinking(source: Source, encoder: str, *, described: bool, video: bool) -> None:
    """Refuse to re-link tracks of which nothing shows what they look like.

    Args:
        source: what is tracked.
        encoder: the name of what describes the boxes.
        described: whether the detections bring their embeddings.
        video: whether the tracks are to be drawn.

    Raises:
        UsageError: so; or what is to be drawn cannot be gone through twice.
    """
    if video and source.live:
        raise UsageError(
            f"{source.name}: --relink draws --video after the last frame, and a live source cannot "
            "be gone through twice"
        )
    if described:
        return
    if encoder == "none":
        raise UsageError(
            "--relink compares looks: give --encoder something other than none, or detections "
            "with features"
        )
    if not source.has_images:
        raise UsageError(
            f"{source.name}: it has no images, and --relink compares looks; give detections with "
            "features"
        )


def rejoin(
    path: Path, witness: Witness, later: Sequence[Sink], images: Source | None, *, per_class: bool
) -> tuple[int, int]:
    """Join tracks in a text file of results, and write the other files by the new names.

    Args:
        path: the text file; is replaced whole.
        witness: of the run that wrote it.
        later: sinks that have got nothing yet.
        images: the source once more, where a sink draws into its images.
        per_class: join tracks of one class only.

    Returns:
        How many tracks there were, and are.
    """
    from tracker.io.mot import read_boxes, write_boxes
    from tracker.relinking import relink, renamed, replayed

    table = read_boxes(path, unique_ids=True)
    names = relink(table, witness.table, per_class=per_class)
    write_boxes(path, replace(table, ids=renamed(table.ids, names)))
    with ExitStack() as stack:
        for sink in later:
            stack.enter_context(sink)
        for frame, tracks in replayed(witness.followed, names, images):
            for sink in later:
                sink.write(frame, tracks)
    return len(names), len(set(names.values()))


def refine(path: Path, *, interpolate: int, smooth: bool) -> int:
    """Fill gaps in a text file of results and smooth its tracks; how many boxes it holds then."""
    from tracker import refine as tracks
    from tracker.io.mot import read_boxes, write_boxes

    table = read_boxes(path, unique_ids=True)
    if interpolate:
        table = tracks.interpolate_gaps(table, max_gap=interpolate)
    if smooth:
        table = tracks.smooth(table)
    write_boxes(path, table)
    return len(table)

"""``trackvae reid-eval``: score an encoder's recognition, show it, save it."""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from tools.flags import check_seed, open_flag
from trackvae.errors import InputError, UsageError
from trackvae.files import write_text
from trackvae.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from tools.reid_eval.evaluation import Retrieval


@dataclass(frozen=True)
class ReidEval:
    """Score how well an encoder tells who is in a box: CMC at 1, 5, 10, mAP, mINP.

    On a MOT sequence every ground-truth box (pedestrians, visibility above 0.3) is a query against
    the boxes that lie far enough away in time. On a folder of crops named as Market-1501's
    (query/ and bounding_box_test/, or any one folder) queries meet the other cameras.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """A MOT sequence, or a folder of crops."""
    encoder: Annotated[str, tyro.conf.arg(metavar="E")]
    """default, as it comes with trackvae; trackvae, ours learned
    from --fit; a file or folder of trackvae fit or train;
    colour-stripes, colour-stripes-hsv, gradients, raw-pixels,
    colours-and-gradients, colours-and-shape; pca:E, whitened:E or
    joined:E (of any of these) fits a projection to tracklets that
    motion links, joined: and appearance joins; (pca: of
    raw-pixels; colour-stripes-whitened); backbone:NAME[:WEIGHTS]
    of torchvision; features:FILE.npz given with detections;
    vhp-vae or vhp-fmvae[:ETA], the thesis's, trained on pixels of
    --fit; supervised, trained on the identities of --fit."""
    protocol: Annotated[
        Literal["market1501", "within-video"] | None, open_flag("{market1501,within-video}")
    ] = None
    """Told from the folder if left out."""
    json: Annotated[Path | None, open_flag("FILE")] = None
    """Write the scores and what they were made with to this file."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Between embeddings."""
    fit: Annotated[tuple[str, ...], tyro.conf.arg(metavar="own|other:PATH...")] = ("own",)
    """What is learned from: the sequence's own detections, or
    those of other sequences. No labels, but for supervised."""
    gap: int = 60
    """Frames between a query and what it is compared with."""
    stride: int = 5
    """Every so many frames of a sequence are looked at."""
    seed: int = 0
    """Of what is learned."""

    def run(self) -> int:
        """Score, show, save; the exit code."""
        from tools.reid_eval.descriptors import open_encoder
        from tools.reid_eval.evaluation import Options, score_market, score_sequence
        from tracker.io.sinks import check_writable

        if self.json is not None:
            check_writable(self.json)
        options = Options(self.metric, self._others(), self.gap, self.stride)
        check_seed(self.seed)
        encoder = open_encoder(self.encoder, self.seed)
        protocol = self.protocol or self._told_protocol()
        score = score_sequence if protocol == "within-video" else score_market
        found = score(self.folder, encoder, options)
        _show(found)
        if self.json is not None:
            content = found.scores.to_dict() | {
                "folder": str(self.folder),
                "encoder": self.encoder,
                "protocol": protocol,
                "metric": self.metric,
                **found.made,
            }
            write_text(self.json, json_format.dumps(content, indent=1) + "\n")
        return 0

    def _told_protocol(self) -> str:
        """The protocol that the folder is made for.

        Raises:
            InputError: it is neither a sequence nor holds images.
        """
        from reid.market import NAMED_LIKE, QUERY
        from tracker.io.sources import is_sequence

        if is_sequence(self.folder):
            return "within-video"
        if not self.folder.is_dir() or (self.folder / QUERY).is_dir():
            return "market1501"
        if not any(path.suffix.lower() in IMAGE_SUFFIXES for path in self.folder.iterdir()):
            raise InputError(
                f"{self.folder}: neither a MOT sequence (gt/gt.txt) nor a folder of crops with "
                f"names like {NAMED_LIKE}"
            )
        return "market1501"

    def _others(self) -> tuple[str, ...]:
        """The sequences that ``--fit`` names; none for ``own``.

        Raises:
            UsageError: it is of neither form.
        """
        if self.fit == ("own",):
            return ()
        first, colon, path = (self.fit or ("",))[0].partition(":")
        if first != "other" or not colon or not path:
            raise UsageError(f"--fit is {' '.join(self.fit)!r}, expected own, or other:PATH ...")
        return (path, *(word.removeprefix("other:") for word in self.fit[1:]))


def _show(found: Retrieval) -> None:
    """Print the scores and what they were made with."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    scores: dict[str, Any] = found.scores.to_dict()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in scores:
        table.add_column(name, justify="right")
    table.add_row(*(f"{v:.1f}" if isinstance(v, float) else str(v) for v in scores.values()))
    console = Console(highlight=False)
    console.print(table)
    for name, value in found.made.items():
        text = value
        if isinstance(value, dict):
            text = ", ".join(f"{key} {entry}" for key, entry in value.items())
        console.print(f"{name}: {text}", soft_wrap=True)

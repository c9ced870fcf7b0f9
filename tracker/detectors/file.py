"""Detections from a file: MOT text, or an ``.npz`` with features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tracker.detections import Detections, Frame
from tracker.detectors.settings import FileSettings, class_numbers
from tracker.io.mot import read_boxes
from tracker.io.npz import read_npz
from trackvae.errors import InputError


class FileDetector:
    """Detections that another program wrote, looked up by the frame's number.

    The boxes are the file's own: they are not clipped, so that a tracker sees what its reference
    saw (public detections reach beyond the image). Boxes without area, and those outside the
    settings, are left out. Embeddings ride along.

    Attributes:
        needs_image: False.
        names: empty; a file has class numbers only.
        table: the boxes that are kept.
    """

    needs_image = False

    def __init__(self, path: str | Path, settings: FileSettings | None = None) -> None:
        """Read the whole file.

        Args:
            path: MOT text (``det.txt``), or an ``.npz`` (``frame, tlwh, score, feature``).
            settings: see there.

        Raises:
            InputError: the file cannot be read, or it has no classes to choose from.
            UsageError: a class is no number.
        """
        self.path, self.settings = Path(path), settings or FileSettings()
        self.names: dict[int, str] = {}
        table = read_npz(self.path) if self.path.suffix == ".npz" else read_boxes(self.path)
        keep = table.scores >= self.settings.min_score
        keep &= (table.boxes[:, 2:] > table.boxes[:, :2]).all(axis=1)
        classes = class_numbers(self.settings.classes, self.names, f"file:{self.path.name}")
        if classes is not None:
            if len(table) and (table.classes < 0).all():
                raise InputError(f"{self.path}: has no classes to choose from; leave out classes=")
            keep &= np.isin(table.classes, sorted(classes))
        self.table = table if keep.all() else table.select(keep)

    def __call__(self, frame: Frame) -> Detections:
        """The file's detections of that frame, in the file's order."""
        return self.table.detections(frame.index)

    def reset(self) -> None:
        """Nothing: each frame is looked up on its own."""

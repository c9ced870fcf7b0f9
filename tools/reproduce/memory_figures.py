"""Figures 4.17 and 4.18: predictions from a smoothed and from a filtered state, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

_LABELS = {"observed": "observed", "smoothed": "from z1, smoothed", "filtered": "from z5, filtered"}


def predictions(
    path: Path, sequences: Sequence[Mapping[str, npt.NDArray[np.float32]]], title: str
) -> None:
    """Observed frames above the predicted ones, which stand below the time that they are of.

    Args:
        path: a PNG file.
        sequences: each with ``observed`` (T, H, W), ``smoothed`` (T', H, W) from the first step on,
            and ``filtered`` (T'', H, W), which ends with the last.
        title: of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 1.6 * len(sequences) + 0.4), layout="constrained")
    grid = figure.subplots(len(sequences), 1, squeeze=False)[:, 0]
    for axes, sequence in zip(grid, sequences, strict=True):
        steps, height, width = sequence["observed"].shape
        sheet = np.full((3 * (height + 1), steps * (width + 1)), np.nan, np.float32)
        for line, (name, first) in enumerate(
            (("observed", 0), ("smoothed", 0), ("filtered", steps - len(sequence["filtered"])))
        ):
            for t, frame in enumerate(sequence[name], start=first):
                top, left = line * (height + 1), t * (width + 1)
                sheet[top : top + height, left : left + width] = frame
        axes.set_facecolor("#dfe3e8")  # where nothing is predicted
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        middles = np.arange(3) * (height + 1) + height / 2
        axes.set_yticks(middles, list(_LABELS.values()), fontsize=7)
        axes.set_xticks(np.arange(steps) * (width + 1) + width / 2, range(1, steps + 1), fontsize=6)
        axes.tick_params(length=0)
    grid[-1].set_xlabel("step; both predictions are given the first five observations", fontsize=7)
    figure.suptitle(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)

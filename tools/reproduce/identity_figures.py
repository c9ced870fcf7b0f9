"""Who was followed as whom: a line for each person of the ground truth, a colour for each track."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trackvae.arrays import IntArray

_GOLDEN = 0.618034  # of the circle of hues from one track to the next
_VALUES, _SATURATIONS = (
    (0.9, 0.6, 0.35),
    (0.9, 0.55),
)  # in turn, so that hues that meet again differ


def timelines(path: Path, truth: Path, results: Mapping[str, Path]) -> None:
    """One panel a result: over the frames, which track each person was matched with.

    A person who keeps an identity is a line of one colour; grey is nobody's.

    Args:
        path: of the PNG.
        truth: ``gt.txt``.
        results: title of a panel to MOT text.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = {title: _matches(truth, tracks) for title, tracks in results.items()}
    people = _in_order_of_entry(*next(iter(found.values()))[:2])
    figure, axes = plt.subplots(
        1,
        len(found),
        figsize=(5.5 * len(found), 0.6 + 0.16 * len(people)),
        sharey=True,
        squeeze=False,
        constrained_layout=True,
    )
    for axis, (title, (frames, persons, tracks)) in zip(axes[0], found.items(), strict=True):
        rows = np.searchsorted(people[:, 0], persons)
        place = people[rows, 1]
        seen = tracks >= 0
        axis.scatter(frames[~seen], place[~seen], s=4, marker="|", color="#d0d0d0", linewidths=1)
        axis.scatter(
            frames[seen], place[seen], s=40, marker="|", c=_colours(tracks[seen]), linewidths=1
        )
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("frame")
        axis.set_xlim(0, frames.max() + 1)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0, 0].set_yticks(people[:, 1], people[:, 0].tolist(), fontsize=7)
    axes[0, 0].set_ylabel("person")
    axes[0, 0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _matches(truth: Path, tracks: Path) -> tuple[IntArray, IntArray, IntArray]:
    """Frame, person and track (-1: none) of every box of the ground truth."""
    from tracker.evaluation.evaluation import prepared
    from tracker.evaluation.events import matches_of
    from tracker.evaluation.inputs import find_pairs

    ((pair,), _) = find_pairs({"video": truth}, {"video": tracks})
    return matches_of(prepared(pair))


def _in_order_of_entry(frames: IntArray, persons: IntArray) -> IntArray:
    """``(P, 2)``: each person, ascending, and the line that is theirs."""
    names = np.unique(persons)
    first = np.array([frames[persons == name].min() for name in names])
    line = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    return np.stack([names, line], axis=1)


def _colours(tracks: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """``(N, 3)`` RGB, of every track its own, far apart for tracks that follow each other."""
    from matplotlib.colors import hsv_to_rgb

    _, shown = np.unique(tracks, return_inverse=True)  # only those that are seen take a colour
    hue = shown * _GOLDEN % 1.0
    value = np.take(_VALUES, shown % 3)
    saturation = np.take(_SATURATIONS, shown // 3 % 2)
    return np.asarray(hsv_to_rgb(np.stack([hue, saturation, value], axis=1)))

"""The figure of ``table-5.3``: IDF1 of every method on every sequence and its detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_COLOURS = {  # by the labels that the looks need
    "n.a.": "#dddddd",
    "by hand": "#c3cbc8",
    "unsupervised": "#8a9a94",
    "supervised": "#b08d3c",
}
_OURS = "#c0392b"
_NAMES = {"n.a.": "no looks", "by hand": "looks by hand", "unsupervised": "learned without labels"}
_ACROSS = 3  # panels in a row


def bars(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    """One panel a case: IDF1 as a bar, AssA as a dot, ID switches as a number; ours in red.

    Args:
        path: of the PNG.
        table: lines with case, method, type, IDF1, AssA, IDs.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    cases = list(dict.fromkeys(line["case"] for line in table))
    methods = list(dict.fromkeys(line["method"] for line in table))[::-1]
    across = min(len(cases), _ACROSS)
    down = -(-len(cases) // across)
    figure, axes = plt.subplots(
        down,
        across,
        figsize=(1.8 + 3.0 * across, down * (0.28 * len(methods) + 0.9)),
        sharey=True,
        squeeze=False,
        constrained_layout=True,
    )
    for axis in axes.ravel()[len(cases) :]:
        axis.set_visible(False)
    for axis, case in zip(axes.ravel(), cases, strict=False):
        for line in (one for one in table if one["case"] == case):
            place = methods.index(line["method"])
            colour = _OURS if line["method"] == "trackvae" else _COLOURS[line["type"]]
            axis.barh(place, line["IDF1"], color=colour, height=0.72)
            axis.plot(line["AssA"], place, "o", color="black", markersize=3.5)
            axis.text(1.5, place, f"{line['IDF1']:.1f}", va="center", fontsize=7)
            axis.text(99, place, f"{line['IDs']:g}", va="center", ha="right", fontsize=7)
        axis.set_title(case, fontsize=10)
        axis.set_xlim(0, 100)
    for axis in axes[-1]:
        axis.set_xlabel("IDF1 (bar), AssA (dot), ID switches (right)", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_yticks(range(len(methods)), methods, fontsize=8)
    patches = [
        Patch(color=colour, label=_NAMES.get(name, name))
        for name, colour in (_COLOURS | {"trackvae": _OURS}).items()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=2 * across, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)

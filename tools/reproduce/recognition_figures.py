"""The figure of ``recognition``: bars of rank-1 and mAP for every descriptor and sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_COLOURS = {"ours": "#c0392b", "supervised": "#b08d3c", "MobileNetV2": "#b08d3c"}  # by first word
_OTHERS = "#8a9a94"


def bars(path: Path, rows: Sequence[Mapping[str, Any]], sequences: Sequence[str]) -> None:
    """One panel a sequence: mAP a bar, rank-1 a mark; ours in red, what saw labels in ochre."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(row["method"] for row in rows))[::-1]
    figure, axes = plt.subplots(
        1,
        len(sequences),
        figsize=(3.4 + 2.6 * len(sequences), 0.27 * len(methods) + 1.1),
        sharey=True,
        squeeze=False,
        constrained_layout=True,
    )
    for axis, name in zip(axes[0], sequences, strict=True):
        found = {(row["method"], row["metric"]): row["ours"]["median"] for row in rows}
        for place, method in enumerate(methods):
            first_word = method.replace(":", " ").replace(",", " ").split()[0]
            colour = _COLOURS.get(first_word, _OTHERS)
            if (method, f"mAP {name}") not in found:
                continue
            score, first = found[method, f"mAP {name}"], found[method, f"rank-1 {name}"]
            axis.barh(place, score, color=colour, height=0.7)
            axis.plot(first, place, "o", color="black", markersize=4)
            shown = f"{score:.1f} / {first:.1f}"
            axis.text(1, place, shown, va="center", fontsize=7)
        axis.set_title(name, fontsize=10)
        axis.set_xlim(0, 100)
        axis.set_xlabel("mAP (bar), rank-1 (dot)")
    axes[0][0].set_yticks(range(len(methods)), methods, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)

"""How the cost of a frame grows with the objects in it: ours beside the peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tools.benchmark.contenders import (
    Contender,
    deep_sort_realtime,
    ours,
    roboflow_bytetrack,
    roboflow_ocsort,
    roboflow_sort,
)
from tools.benchmark.report import Clock, paired_ratio, spread
from tools.benchmark.timing import in_turns, native_inputs
from tracker.synthetic import box_stream
from trackvae.files import atomic_path

FIGURE = Path("docs/figures/benchmark-association/growth.png")
FRAMES = {10: 300, 30: 200, 100: 150, 300: 70, 1000: 30}  # of them the first are not timed
_SKIP = {10: 20, 30: 20, 100: 20, 300: 10, 1000: 8}
_DIM, _SEED = 128, 1
_SLOWEST_PEER_OBJECTS = 100  # deep-sort-realtime with more takes longer than all others together
_LABEL_STEP = 1.28  # between two names, on the logarithmic axis
TARGETS = {("sort", 100): 5.0, ("sort", 300): 8.0}


def contenders_at(objects: int) -> list[Contender]:
    """Who is measured with so many objects."""
    everybody = [
        ours("sort"),
        roboflow_sort(),
        ours("bytetrack"),
        roboflow_bytetrack(),
        ours("ocsort"),
        roboflow_ocsort(),
        ours("deepsort"),
    ]
    return everybody + ([deep_sort_realtime()] if objects <= _SLOWEST_PEER_OBJECTS else [])


def run(out: Path, repeats: int, *, quick: bool) -> int:
    """Measure, print, draw, save."""
    clock = Clock()
    sizes = (10, 30) if quick else tuple(FRAMES)
    rates: dict[int, dict[str, list[float]]] = {}
    rows: list[dict[str, Any]] = []
    for objects in sizes:
        stream = box_stream(objects, FRAMES[objects], _SEED, embedding_dim=_DIM)
        frames = [frame.detections for frame in stream]
        group = contenders_at(objects)
        label, skip = f"{objects} objects", _SKIP[objects]
        rates[objects] = in_turns(group, native_inputs(group, frames), repeats, skip, label)
        rows += _pairs(group, objects, rates[objects])
    slopes = {name: _slope(rates, name) for name in rates[sizes[0]]}
    report = {
        "name": "benchmark-growth",
        "title": "Frames a second by the number of objects in a frame",
        "quick": quick,
        "rows": rows,
        "slopes": slopes,
        "config": {
            "threads": 1,
            "repeats": repeats,
            "frames": {str(n): FRAMES[n] for n in sizes},
            "frames_not_timed": {str(n): _SKIP[n] for n in sizes},
            "embedding_dim": _DIM,
            "galleries": "deepsort's hold at most as many entries as there were frames",
            "slope": "of log(time a frame) over log(objects)",
        },
        "seeds": [_SEED],
    }
    packages = ("trackvae", "trackers", "deep-sort-realtime", "numpy", "scipy")
    clock.save(report, packages, out)
    for row in rows:
        target = "" if row["target"] is None else f"  (target ≥ {row['target']})"
        print(
            f"{row['method']:>10} {row['metric']:<24} {row['ours']['median']:9,.1f} "
            + (f"{row['peer']['name']:>20} {row['peer']['median']:9,.1f} " if row["ratio"] else "")
            + (f"ratio {row['ratio']:6.2f}{target}" if row["ratio"] else "  peer not measured")
        )
    for name, slope in slopes.items():
        print(f"{name:>20}: time a frame grows as objects^{slope:.2f}")
    if not quick:
        _draw(rates, FIGURE)
        print(f"written to {out} and {FIGURE}")
    return 0


def _pairs(
    group: list[Contender], objects: int, rates: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """A row for each of ours, with its peer where there is one."""
    rows = []
    for mine in (c for c in group if c.is_ours):
        peers = [c.name for c in group if c.family == mine.family and not c.is_ours]
        theirs = rates[peers[0]] if peers else None
        rows.append(
            {
                "method": mine.family,
                "metric": f"frames/s, {objects} objects",
                "objects": objects,
                "ours": spread(rates[mine.name], 5),
                "peer": {"name": peers[0]} | spread(theirs, 5)
                if theirs
                else {"name": "not measured", "median": None},
                "ratio": paired_ratio(rates[mine.name], theirs) if theirs else None,
                "target": TARGETS.get((mine.family, objects)),
                "note": "",
            }
        )
    return rows


def _times(rates: dict[int, dict[str, list[float]]], name: str) -> tuple[list[int], list[float]]:
    """Objects, and median milliseconds a frame."""
    sizes = [objects for objects in rates if name in rates[objects]]
    return sizes, [1e3 / float(np.median(rates[objects][name])) for objects in sizes]


def _slope(rates: dict[int, dict[str, list[float]]], name: str) -> float:
    sizes, times = _times(rates, name)
    return round(float(np.polyfit(np.log(sizes), np.log(times), 1)[0]), 3)


def _draw(rates: dict[int, dict[str, list[float]]], path: Path) -> None:
    """Milliseconds a frame over objects, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.6), constrained_layout=True)
    colours: dict[str, str] = {}
    ends: list[tuple[float, int, str, str]] = []
    palette = ("#1f77b4", "#2ca02c", "#9467bd", "#d62728")
    for contender in contenders_at(min(rates)):
        colour = colours.setdefault(contender.family, palette[len(colours) % len(palette)])
        sizes, times = _times(rates, contender.name)
        style = "-" if contender.is_ours else "--"
        width = 2.2 if contender.is_ours else 1.4
        axes.plot(sizes, times, style, color=colour, marker="o", ms=4, lw=width)
        ends.append((times[-1], sizes[-1], contender.name, colour))
    _label(axes, ends)
    axes.set(xscale="log", yscale="log", xlabel="objects in a frame", ylabel="milliseconds a frame")
    ticks = sorted(rates)
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.minorticks_off()
    axes.set_xlim(ticks[0] * 0.8, ticks[-1] * 5)
    axes.grid(alpha=0.3)
    axes.set_title("Cost of a frame: trackvae (solid) and peers (dashed), one thread", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def _label(axes: Any, ends: list[tuple[float, int, str, str]]) -> None:
    """Names beside the ends of the lines, from below, each at least so far above the last."""
    lowest = 0.0
    for time, size, name, colour in sorted(ends):
        height = max(time, lowest)
        axes.annotate(
            name,
            (size, height),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=colour,
        )
        if size == max(end[1] for end in ends):
            lowest = height * _LABEL_STEP

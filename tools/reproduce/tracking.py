"""``table-5.3``: every descriptor in the tracker, on every sequence and its detections.

All trackers of a case get the very same boxes; what differs is who says which of them look alike.
What is learned is learned from the sequence's own detections, as motion alone has linked them;
identities enter the scores only. The thesis's figures are of other detections of all of MOT16, so
they stand in a list of their own.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from tools.reproduce import pixel_encoders
from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.tracking_cases import CALIBRATED, WANTED, Looks, Opened, cases, options

TITLE = "Table 5.3: descriptors in the tracker, on every sequence and its detections"
SEEDS = 2  # of what is learned

COLUMNS: tuple[str, ...] = (
    *("IDF1", "IDP", "IDR", "Recall", "Precision", "FAR", "MT", "PT", "ML"),
    *("FP", "FN", "IDs", "FM", "MOTA", "MOTP", "MOTAL", "HOTA", "AssA"),
)
SHOWN = ("IDF1", "HOTA", "AssA", "MOTA", "IDs", "IDs/SORT")  # of which there are rows
_ABLATED = ("IDF1", "HOTA", "AssA", "MOTA", "IDs")


@dataclass(frozen=True)
class Method:
    """A line of the table.

    Attributes:
        label: in the table.
        type: whose labels the looks need.
        preset: the tracker.
        looks: what describes the boxes; None: nothing.
        settings: of the tracker.
    """

    label: str
    type: Literal["n.a.", "supervised", "by hand", "unsupervised"]
    preset: str
    looks: Looks | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


METHODS = (
    Method("SORT", "n.a.", "sort"),
    Method("DeepSORT", "supervised", "deepsort", "supervised"),
    Method("DeepSORT, trained here", "supervised", "deepsort", "cosine-softmax"),
    Method("DeepSORT, trained here, calibrated", "supervised", "fmvae-sort", "cosine-softmax"),
    Method("VHP-VAE-SORT of pixels", "unsupervised", "fmvae-sort", "vhp-vae"),
    Method("VHP-FMVAE-SORT of pixels, eta 300", "unsupervised", "fmvae-sort", "vhp-fmvae-300"),
    Method("VHP-FMVAE-SORT of pixels, eta 3000", "unsupervised", "fmvae-sort", "vhp-fmvae-3000"),
    Method(
        "VHP-FMVAE-SORT of pixels, relative", "unsupervised", "fmvae-sort", "vhp-fmvae-relative"
    ),
    Method("DeepSORT, RGB stripes", "by hand", "deepsort", "stripes"),
    Method("whitened-SORT", "unsupervised", "fmvae-sort", "whitened"),
    Method("VHP-VAE-SORT", "unsupervised", "fmvae-sort", "vae"),
    Method("VHP-FMVAE-SORT", "unsupervised", "fmvae-sort", "fmvae"),
    Method("trackvae", "unsupervised", "trackvae", "fmvae"),
    Method("trackvae, whitened looks", "unsupervised", "trackvae", "whitened"),
    Method("trackvae, supervised looks", "supervised", "trackvae", "supervised"),
    Method("trackvae, no looks", "n.a.", "trackvae"),
)
_OURS = next(method for method in METHODS if method.label == "trackvae")
_WHITENED = next(method for method in METHODS if method.label == "trackvae, whitened looks")
ABLATION = {
    "looks not weighed beside IoU": {"trust": "0.5"},
    "no search for lost tracks by looks": {"lost.max_cost": "0"},
    "no weak detections": {"low.max_cost": "0"},
    "scores not calibrated": {"high_linked": "none"},
    "covered looks remembered": {"covered_limit": "1"},
    "no re-identification": {"reid_probability": "none"},
    "no coasting": {"coast": "0"},
}
UNSURE = "unsure quarter of the crops not remembered"
RELINKED = {"re-linked off-line": _OURS, "SORT, re-linked off-line by our looks": METHODS[0]}

# MOT16 with the detections of Yu et al. (2016), as printed; all columns but HOTA and AssA.
_THESIS = {
    "VHP-FMVAE-SORT, eta 300": "63.7 77.0 54.3 65.0 92.3 1.12 158 269 90 5950 38592 616 1143 "
    "59.1 81.8 59.7",
    "VHP-FMVAE-SORT, eta 3000": "64.2 77.6 54.8 65.1 92.3 1.13 162 265 90 6026 38515 598 1163 "
    "59.1 81.8 59.7",
    "VHP-VAE-SORT": "60.5 72.3 52.1 65.8 91.4 1.28 170 266 81 6820 37739 693 1264 59.0 81.6 59.6",
    "SORT": "57.0 67.4 49.4 66.4 90.6 1.44 158 275 84 7643 37071 1486 1515 58.2 81.9 59.5",
    "DeepSORT": "64.7 76.9 55.8 66.7 91.9 1.22 180 250 87 6506 36747 585 1165 60.3 81.6 60.8",
}


def run(context: Context) -> Outcome:
    """Learn, track and score on every sequence, draw the figure."""
    from tools.reproduce import tracking_figures as figures

    table: list[dict[str, Any]] = []
    ablation: list[dict[str, Any]] = []
    encoders: list[dict[str, Any]] = []
    of_pixels: list[dict[str, Any]] = []
    found = cases(context)
    missing = [name for name in WANTED if name not in {case.name for case in found}]
    if missing:
        context.say(f"not held, left out: {', '.join(missing)}")
    for case in found:
        opened = Opened(context, case)
        table += _lines(opened)
        ablation += _without(opened)
        encoders += opened.encoders
        of_pixels += [one for one in opened.pixel_encoders if one not in of_pixels]
    figures.bars(context.figures / "tracking.png", table)
    config = {
        "cases": {case.name: case.detections.name for case in found},
        "calibration_frames": CALIBRATED,
        "learning": asdict(options(context, 0, "fmvae")),
        "table": "means over the seeds",
        "learned_from": "all of the sequence's own detections, before it is tracked; no labels. "
        "Of pixels: the video's detections in its det.txt, whichever are tracked. Trained here, "
        "supervised: the identities of the other videos",
        "thesis_table": "MOT16 with the detections of Yu et al. (2016), which are not held here: "
        "its figures cannot stand beside ours",
        "not_computed": "DeepSORT's own features on boxes other than MOT17-09's, for which alone "
        "they are held",
        "left_out": missing,
    }
    means = _means(ablation)
    more = {"table": table, "ablation": ablation, "ablation_means": means}
    more |= {"encoders": encoders, "pixel_encoders": of_pixels, "thesis_table": thesis_table()}
    return Outcome([*_rows(table), *_mean_rows(means)], config, more)


def thesis_table() -> list[dict[str, Any]]:
    """The thesis's Table 5.3, with ID switches relative to SORT's."""
    lines: list[dict[str, Any]] = []
    for name, printed in _THESIS.items():
        values = [float(text) if "." in text else int(text) for text in printed.split()]
        lines.append({"method": name} | dict(zip(COLUMNS[: len(values)], values, strict=True)))
    switches = next(line["IDs"] for line in lines if line["method"] == "SORT")
    return [line | {"IDs/SORT": round(line["IDs"] / switches, 3)} for line in lines]


# --- tables


def _lines(opened: Opened) -> list[dict[str, Any]]:
    """A line for each method of a case: means over the seeds, and each seed's scores."""
    case, lines = opened.case, []
    for method in METHODS:
        if method.looks == "supervised" and not case.supervised:
            continue
        seeds = _seeds(opened.context, method)
        found = [_scores(opened, method, seed) for seed in seeds]
        line: dict[str, Any] = {"case": case.name, "method": method.label, "type": method.type}
        line |= {column: round(_mean(found, column), 2) for column in COLUMNS}
        line["values"] = {column: [one[column] for one in found] for column in COLUMNS}
        lines.append(line)
    switches = lines[0]["IDs"]  # SORT's
    for line in lines:
        line["IDs/SORT"] = round(line["IDs"] / max(switches, 1), 3)
        each = [count / max(switches, 1) for count in line["values"]["IDs"]]
        line["values"]["IDs/SORT"] = each
    return lines


def _seeds(context: Context, method: Method) -> tuple[int, ...]:
    """Those that a method is computed with."""
    if method.looks is not None and pixel_encoders.is_one(method.looks):
        return pixel_encoders.seeds_of(context, method.looks)
    return context.seeds if method.looks == "fmvae" else context.seeds[:1]


def _scores(opened: Opened, method: Method, seed: int) -> dict[str, Any]:
    """Of a method; its part's name says how it differs from the preset."""
    words = (method.label, *method.settings.values(), str(seed))
    name = "-".join(words).lower().replace(",", "").replace(" ", "-")
    return opened.scores(name, method.preset, method.settings, method.looks, seed)


def _without(opened: Opened) -> list[dict[str, Any]]:
    """``trackvae`` with one part switched off after the other, and re-linked; first seed."""
    seed = opened.context.seeds[0]
    variants: dict[str, Mapping[str, str]] = {"all parts": {}, **ABLATION}
    found = {
        prefix + label: _scores(opened, replace(method, settings=settings), seed)
        for prefix, method in (("", _OURS), ("whitened looks: ", _WHITENED))
        for label, settings in variants.items()
    }
    words = (f"trackvae-sure-{seed}", _OURS.preset, _OURS.settings)
    found[UNSURE] = opened.scores(*words, "fmvae", seed, unsure=0.25)
    for label, method in RELINKED.items():
        found[label] = opened.relinked(_scores(opened, method, seed), "fmvae", seed)
    return [
        {"case": opened.case.name, "variant": label} | {column: one[column] for column in _ABLATED}
        for label, one in found.items()
    ]


def _means(ablation: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line for each variant: means over the cases, of the ID switches the sum."""
    lines = []
    for variant in dict.fromkeys(line["variant"] for line in ablation):
        some = [line for line in ablation if line["variant"] == variant]
        line: dict[str, Any] = {"variant": variant}
        line |= {column: round(_mean(some, column), 2) for column in _ABLATED if column != "IDs"}
        lines.append(line | {"IDs": sum(one["IDs"] for one in some)})
    return lines


def _mean(found: Sequence[Mapping[str, Any]], column: str) -> float:
    return statistics.fmean(one[column] for one in found)


def _rows(table: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for line in table:
        for column in SHOWN:
            metric, values = f"{column} {line['case']}", line["values"][column]
            yield row(line["method"], metric, values, type=line["type"], case=line["case"])


def _mean_rows(means: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for line in means:
        for column in _ABLATED:
            over = "sum" if column == "IDs" else "mean"
            metric = f"ablation: {column}, {over} over the cases"
            yield row(f"trackvae: {line['variant']}", metric, [line[column]], section="ablation")

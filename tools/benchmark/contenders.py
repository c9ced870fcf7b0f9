"""The trackers of the association benchmarks, ours and the peers', behind one interface.

A contender's settings are those of our preset of the same family, so that the same detections go
in. Its native input is made outside every timed loop. Peers are imported when they are made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tracker import Tracker
from tracker.detections import Detections
from tracker.io.mot import BoxTable
from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError

Step = Callable[[Any], Any]
EVERY_SCORE = -1e9


@dataclass(frozen=True)
class Contender:
    """A tracker that is measured.

    Attributes:
        name: of the tracker.
        family: which algorithm; our contender of a family is compared with its peers.
        prepare: our detections to the tracker's native input.
        start: makes a tracker and returns what takes a frame.
        read: a frame's native input and answer to ids ``(K,)`` and boxes ``(K, 4)`` xyxy.
        note: where it differs from ours by its nature.
    """

    name: str
    family: str
    prepare: Callable[[Detections], Any]
    start: Callable[[], Step]
    read: Callable[[Any, Any], tuple[IntArray, FloatArray]]
    note: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether it is one of our presets."""
        return self.name.startswith("trackvae ")


def ours(preset: str, family: str | None = None, **settings: Any) -> Contender:
    """One of our presets."""
    return Contender(
        f"trackvae {preset}",
        family or preset,
        lambda detections: detections,
        lambda: Tracker(preset, **settings).update,
        lambda _, tracks: (tracks.ids, tracks.boxes),
    )


# --- Roboflow's trackers


def _supervision(detections: Detections) -> Any:
    import supervision

    return supervision.Detections(
        xyxy=detections.boxes, confidence=detections.scores, class_id=detections.classes
    )


def _identified(_: Any, answer: Any) -> tuple[IntArray, FloatArray]:
    known = answer.tracker_id >= 0
    return answer.tracker_id[known] + 1, answer.xyxy[known]


def roboflow(class_name: str, family: str, note: str = "", **settings: Any) -> Contender:
    """A tracker of Roboflow's ``trackers``."""

    def start() -> Step:
        import trackers

        return getattr(trackers, class_name)(**settings).update

    name = f"Roboflow {class_name.removesuffix('Tracker')}"
    return Contender(name, family, _supervision, start, _identified, note)


_ITS_OWN_FILTER = (
    "other filter (corners as state, other noises) and the detections' boxes in the answer; a "
    "track once confirmed is never on probation again: other scores"
)
_ONE_LIMIT = (
    "other filter (corners as state), IoU not weighted by the score, one IoU limit for all "
    "stages: other scores"
)
_CLOSE = "written from the same paper; close, not equal: where they part was not traced"
_NO_APPEARANCE = "no appearance, where ours compares the features too: other scores"


def roboflow_sort(max_age: int = 1, family: str = "sort") -> Contender:
    """Its SORT with our preset's settings: every detection may start a track."""
    return roboflow(
        "SORTTracker",
        family,
        _ITS_OWN_FILTER,
        lost_track_buffer=max_age,
        track_activation_threshold=EVERY_SCORE,
        minimum_consecutive_frames=3,
        minimum_iou_threshold=0.3,
    )


def roboflow_bytetrack() -> Contender:
    """Its ByteTrack with our preset's settings."""
    return roboflow("ByteTrackTracker", "bytetrack", _ONE_LIMIT, minimum_iou_threshold=0.2)


def roboflow_ocsort() -> Contender:
    """Its OC-SORT; the defaults are our preset's settings."""
    return roboflow("OCSORTTracker", "ocsort", _CLOSE)


def roboflow_botsort() -> Contender:
    """Its BoT-SORT without camera motion, as there are no images."""
    return roboflow("BoTSORTTracker", "botsort", _NO_APPEARANCE, enable_cmc=False)


# --- DeepSORT


def _tlwh(detections: Detections) -> FloatArray:
    boxes = detections.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _confirmed(tracks: list[Any], to_box: str) -> tuple[IntArray, FloatArray]:
    shown = [t for t in tracks if t.is_confirmed() and t.time_since_update <= 1]
    ids = np.array([int(t.track_id) for t in shown], dtype=np.int64)
    return ids, np.array([getattr(t, to_box)() for t in shown]).reshape(-1, 4)


def deep_sort_realtime() -> Contender:
    """deep-sort-realtime with our preset's settings, features given."""

    def prepare(detections: Detections) -> Any:
        scores = detections.scores.tolist()
        raw = [(b, s, "1") for b, s in zip(_tlwh(detections).tolist(), scores, strict=True)]
        return raw, list(_features(detections))

    def start() -> Step:
        from deep_sort_realtime.deepsort_tracker import DeepSort

        tracker = DeepSort(embedder=None, nn_budget=100, max_cosine_distance=0.2, max_age=30)
        return lambda native: tracker.update_tracks(native[0], embeds=native[1])

    return Contender(
        "deep-sort-realtime",
        "deepsort",
        prepare,
        start,
        lambda _, tracks: _confirmed(tracks, "to_ltrb"),
        "each feature is twice in its gallery, which so reaches back half as far: other scores",
    )


def original_deepsort(checkout: Path) -> Contender:
    """The original DeepSORT from a checkout of the user's; it is GPL and no part of this project.

    Raises:
        InputError: there is no such checkout.
    """
    if not (checkout / "deep_sort" / "tracker.py").is_file():
        raise InputError(
            f"{checkout}: no deep_sort/tracker.py; give a checkout of nwojke/deep_sort"
        )
    if str(checkout) not in sys.path:
        sys.path.append(str(checkout))

    def prepare(detections: Detections) -> Any:
        make = import_module("deep_sort.detection").Detection
        rows = zip(_tlwh(detections), detections.scores, _features(detections), strict=True)
        return [make(*row) for row in rows]

    def start() -> Step:
        matching = import_module("deep_sort.nn_matching")
        metric = matching.NearestNeighborDistanceMetric("cosine", 0.2, 100)
        tracker = import_module("deep_sort.tracker").Tracker(metric)

        def step(native: Any) -> Any:
            tracker.predict()
            tracker.update(native)
            return tracker.tracks

        return step

    return Contender(
        "original DeepSORT",
        "deepsort",
        prepare,
        start,
        lambda _, tracks: _confirmed(tracks, "to_tlbr"),
        "the same algorithm: equal scores",
    )


def _features(detections: Detections) -> FloatArray:
    if detections.embeddings is None:
        raise InputError("these detections have no features; DeepSORT compares them")
    return detections.embeddings


# --- filterpy


def filterpy_sort(max_age: int = 1) -> Contender:
    """SORT with one filterpy filter a track."""

    def start() -> Step:
        from tools.benchmark.filterpy_sort import FilterpySort

        return FilterpySort(max_age).update

    return Contender(
        "filterpy, one filter a track",
        "sort",
        lambda detections: detections.boxes,
        start,
        lambda _, answer: answer,
        "the same algorithm: equal scores",
    )


def all_contenders(original: Path | None = None) -> list[Contender]:
    """Everybody, ours of each family before its peers."""
    deepsort = [ours("deepsort"), deep_sort_realtime()]
    if original is not None:
        deepsort.append(original_deepsort(original))
    return [
        ours("sort"),
        roboflow_sort(),
        filterpy_sort(),
        *deepsort,
        ours("bytetrack"),
        roboflow_bytetrack(),
        ours("ocsort"),
        roboflow_ocsort(),
        ours("botsort", camera_motion="none"),
        roboflow_botsort(),
    ]


def results_of(contender: Contender, frames: list[Detections]) -> BoxTable:
    """What a contender answers, as a table of results."""
    step = contender.start()
    numbers, ids, boxes = [], [], []
    for number, detections in enumerate(frames, start=1):
        native = contender.prepare(detections)
        found, where = contender.read(native, step(native))
        numbers.append(np.full(len(found), number))
        ids.append(np.array(found))
        boxes.append(np.array(where))
    return BoxTable.of(np.concatenate(numbers), np.concatenate(ids), np.concatenate(boxes))

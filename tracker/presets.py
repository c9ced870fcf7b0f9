"""Trackers as data: what is filtered, which costs match in which order, how tracks live and die.

A preset is a frozen :class:`TrackerConfig` that :class:`tracker.engine.Tracker` carries out. Each
is written from its paper: SORT (Bewley et al., 2016), DeepSORT (Wojke et al., 2017), ByteTrack
(Zhang et al., 2022), OC-SORT (Cao et al., 2023), BoT-SORT (Aharon et al., 2022).
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from tracker.appearance import Metric
from trackvae.errors import UsageError
from trackvae.settings import did_you_mean, parse_value

Cost = Literal[
    "iou",  # 1 - IoU with the predicted box
    "iou_score",  # 1 - IoU x score (ByteTrack)
    "iou_direction",  # IoU and consistency of the direction of motion (OC-SORT)
    "observed_iou",  # 1 - IoU with the last box that was seen (OC-SORT)
    "appearance",  # distance to the nearest entry of the track's gallery (DeepSORT)
    "iou_appearance",  # the smaller of iou_score and half the appearance distance (BoT-SORT)
    "match",  # 1 - the match probability of the appearance distance, calibrated on the video
    "iou_match",  # 1 - the probability whose odds are IoU's times those of "match"
]


@dataclass(frozen=True)
class Stage:
    """One round of matching: some tracks with some detections by one cost.

    Attributes:
        name: by which settings reach it (``appearance.max_cost``).
        cost: what a pair costs.
        max_cost: pairs above it are not made (``iou_direction``: of 1 - IoU alone).
        tracks: which of the tracks that are still unmatched take part. ``recent`` ones were matched
            in the last update, ``lost`` ones are confirmed and were not.
        detections: of high or of low score.
        gate: also refuse pairs beyond the 95% ellipsoid of the predicted measurement.
        cascade: match the tracks seen last first (DeepSORT's matching cascade).
        refuse_after: minimise over all pairs, those beyond ``max_cost`` too, and drop these
            afterwards (SORT, OC-SORT); otherwise no good pair is given up for a refused one.
    """

    name: str
    cost: Cost
    max_cost: float
    tracks: Literal["all", "confirmed", "tentative", "recent", "lost", "recent_or_tentative"] = (
        "all"
    )
    detections: Literal["high", "low"] = "high"
    gate: bool = False
    cascade: bool = False
    refuse_after: bool = False

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing."""
        _check(f"{self.name}.max_cost", self.max_cost, 0, _HIGHEST_COST)


@dataclass(frozen=True)
class Range:
    """Values of a setting that are worth trying: from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class TrackerConfig:
    """A tracker, as data. Times are in frames.

    Attributes:
        name: of the preset.
        motion: measured coordinates of the filter, see :mod:`tracker.motion`.
        stages: rounds of matching, in order.
        high_score: detections at or above are ``high``; None: all are.
        low_score: detections between this and ``high_score`` are ``low``; others are not used.
        new_score: a track is born only from a high detection at or above; None: from any.
        min_hits: matches in a row that confirm a track.
        birth_is_hit: whether the first detection counts as one of them.
        warmup_frames: in the first so many frames tracks are confirmed at once; None: ``min_hits``.
        max_age: a confirmed track that was not seen for longer dies.
        tentative_max_age: the same for a track that is not confirmed; None: as ``max_age``.
        reconfirm: after a miss a track is silent until it has ``min_hits`` again (SORT).
        coast: a track is reported while it was seen at most so many frames ago.
        hold_size: a track that is not seen keeps its size (ByteTrack, BoT-SORT).
        report: the filter's box, or the last box that was seen.
        observation_centric: on re-discovery, filter again along the straight line between the
            last box and the new one (OC-SORT).
        direction_span: frames over which the direction of motion is measured (OC-SORT).
        direction_weight: of the direction's consistency beside IoU (OC-SORT).
        metric: of the appearance.
        gallery_size: embeddings remembered a track.
        gallery_momentum: remember one moving average instead; None: the latest embeddings.
        appearance_limit: ``iou_appearance``: larger distances do not count.
        proximity_limit: ``iou_appearance``: nor does the appearance of boxes with a larger 1 - IoU.
        calibration_frames: where no calibration was given, the tracker makes one from so many
            frames; until then it does without what needs one.
        high_linked: with a calibration, ``high`` are instead the detections of a score that motion
            links with at least this probability; all others are ``low``.
        trust: ``iou_match``: looks alone never say more than this probability, or less than its
            complement.
        covered_limit: the looks of a detection are not remembered where another box that stands
            nearer covers more than this share of it; 1: they are.
        reid_probability: a track takes up the identity of a lost one when it is confirmed, if the
            calibrated probability that they are the same is at least this; None: never.
        reid_age: so long a lost track's identity can be taken up.
        reid_most: lost tracks that are remembered; of more, those seen last.
        reid_speed: nothing moves faster between losing and finding, in heights of the object a
            second.
        camera_motion: how the camera's motion is estimated and taken out.
        per_class: match only within a class.
        search: settings worth tuning, by the names that :meth:`with_settings` takes.
    """

    name: str
    motion: Literal["xysr", "xyah", "xywh"]
    stages: tuple[Stage, ...]
    high_score: float | None = None
    low_score: float | None = None
    new_score: float | None = None
    min_hits: int = 3
    birth_is_hit: bool = True
    warmup_frames: int | None = 0
    max_age: float = 30
    tentative_max_age: float | None = 0
    reconfirm: bool = False
    coast: float = 0
    hold_size: bool = False
    report: Literal["state", "observation"] = "state"
    observation_centric: bool = False
    direction_span: int = 3
    direction_weight: float = 0.2
    metric: Metric = "cosine"
    gallery_size: int = 100
    gallery_momentum: float | None = None
    appearance_limit: float = 0.25
    proximity_limit: float = 0.5
    calibration_frames: int = 75
    high_linked: float | None = None
    trust: float = 0.95
    covered_limit: float = 1.0
    reid_probability: float | None = None
    reid_age: float = 900
    reid_most: int = 200
    reid_speed: float = 3.0
    camera_motion: Literal["none", "flow", "ecc"] = "none"
    per_class: bool = True
    search: Mapping[str, Range | tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing, alone or together."""
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if value is not None:
                _check(name, value, low, high)
        for name in ("high_score", "low_score", "new_score"):
            if (value := getattr(self, name)) is not None:
                _check(name, value, -math.inf, math.inf)
        if self.observation_centric:
            if self.camera_motion != "none":
                raise UsageError(f"{self.name} remembers boxes, which camera_motion does not move")
            return
        if self.report == "observation":
            raise UsageError("report=observation needs observation_centric=yes")
        for stage in self.stages:
            if stage.cost in ("observed_iou", "iou_direction"):
                raise UsageError(f"{stage.name}.cost={stage.cost} needs observation_centric=yes")

    @property
    def uses_appearance(self) -> bool:
        """Whether a stage looks at embeddings."""
        return self.needs_calibration or any("appearance" in s.cost for s in self.stages)

    @property
    def needs_appearance(self) -> bool:
        """Whether a stage cannot do without embeddings; ``iou_match`` is then IoU."""
        costs = {stage.cost for stage in self.stages}
        return "appearance" in costs or ("match" in costs and "iou_match" not in costs)

    @property
    def needs_calibration(self) -> bool:
        """Whether anything asks for match probabilities."""
        calibrated = any(stage.cost in ("match", "iou_match") for stage in self.stages)
        return calibrated or self.reid_probability is not None

    @property
    def needs_pixels(self) -> bool:
        """Whether the frames' images are needed, beyond what makes the embeddings."""
        return self.camera_motion != "none"

    def settings(self) -> dict[str, Any]:
        """Every setting and its value, by the names that :meth:`with_settings` takes."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_SETTABLE}
        for stage in self.stages:
            for f in fields(stage):
                if f.name != "name":
                    own[f"{stage.name}.{f.name}"] = getattr(stage, f.name)
        return own

    def with_settings(self, settings: Mapping[str, Any]) -> TrackerConfig:
        """A copy with some settings changed.

        Args:
            settings: name to value; ``stage.field`` reaches into a stage. Strings are parsed.

        Raises:
            UsageError: no such setting, or a value it cannot take.
        """
        config = self
        for name, value in settings.items():
            if name not in self.settings():
                raise UsageError(
                    f"{self.name} has no setting {name!r}{did_you_mean(name, self.settings())}; "
                    f"it has {', '.join(sorted(self.settings()))}"
                )
            stage_name, dot, entry = name.rpartition(".")
            if dot:
                parsed = parse_value(name, value, typing.get_type_hints(Stage)[entry])
                stages = tuple(
                    replace(stage, **{entry: parsed}) if stage.name == stage_name else stage
                    for stage in config.stages
                )
                config = replace(config, stages=stages)
            else:
                parsed = parse_value(name, value, typing.get_type_hints(TrackerConfig)[name])
                config = replace(config, **{name: parsed})
        return config


_NOT_SETTABLE = {"name", "stages", "search"}
HALF_FRAME = 0.5  # time stamps jitter: ages are compared to the nearest frame
_HIGHEST_COST = 1e6
_LIMITS = {
    "min_hits": (0, 10**6),
    "warmup_frames": (0, 10**9),
    "max_age": (0, 1e9),
    "tentative_max_age": (0, 1e9),
    "coast": (0, 1e9),
    "direction_span": (1, 1000),
    "direction_weight": (0, 1000),
    "gallery_size": (1, 100_000),
    "gallery_momentum": (0, 0.999_999),
    "appearance_limit": (0, _HIGHEST_COST),
    "proximity_limit": (0, 1),
    "calibration_frames": (1, 10**6),
    "high_linked": (0.001, 0.999),
    "trust": (0.5, 0.999_999),
    "covered_limit": (0, 1),
    "reid_probability": (0.001, 0.999_999),
    "reid_age": (0, 1e9),
    "reid_most": (0, 10**6),
    "reid_speed": (0, 1e9),
}


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is {value:g}, expected {low:g} to {high:g}")


_SORT = TrackerConfig(
    name="sort",
    motion="xysr",
    stages=(Stage("iou", "iou", 0.7, refuse_after=True),),
    min_hits=3,
    birth_is_hit=False,
    warmup_frames=None,
    max_age=1,
    tentative_max_age=None,
    reconfirm=True,
    search={
        "iou.max_cost": Range(0.5, 0.95),
        "max_age": Range(1, 60, log=True, integer=True),
        "min_hits": Range(1, 5, integer=True),
    },
)

_DEEPSORT = TrackerConfig(
    name="deepsort",
    motion="xyah",
    stages=(
        Stage("appearance", "appearance", 0.2, tracks="confirmed", gate=True, cascade=True),
        Stage("iou", "iou", 0.7, tracks="recent_or_tentative"),
    ),
    min_hits=3,
    max_age=30,
    coast=1,
    search={
        "appearance.max_cost": Range(0.05, 0.6),
        "iou.max_cost": Range(0.5, 0.9),
        "max_age": Range(10, 120, log=True, integer=True),
        "min_hits": Range(1, 5, integer=True),
        "gallery_size": Range(10, 200, log=True, integer=True),
    },
)

_BYTETRACK = TrackerConfig(
    name="bytetrack",
    motion="xyah",
    stages=(
        Stage("high", "iou_score", 0.8, tracks="confirmed"),
        Stage("low", "iou", 0.5, tracks="recent", detections="low"),
        Stage("new", "iou_score", 0.7, tracks="tentative"),
    ),
    high_score=0.6,
    low_score=0.1,
    new_score=0.7,
    min_hits=2,
    warmup_frames=1,
    max_age=30,
    hold_size=True,
    search={
        "high_score": Range(0.3, 0.8),
        "new_score": Range(0.3, 0.9),
        "high.max_cost": Range(0.6, 0.95),
        "low.max_cost": Range(0.3, 0.7),
        "max_age": Range(10, 120, log=True, integer=True),
    },
)

_OCSORT = TrackerConfig(
    name="ocsort",
    motion="xysr",
    stages=(
        Stage("momentum", "iou_direction", 0.7, refuse_after=True),
        Stage("recovery", "observed_iou", 0.7, refuse_after=True),
    ),
    high_score=0.6,
    min_hits=3,
    birth_is_hit=False,
    warmup_frames=None,
    max_age=30,
    tentative_max_age=None,
    reconfirm=True,
    report="observation",
    observation_centric=True,
    search={
        "high_score": Range(0.3, 0.8),
        "momentum.max_cost": Range(0.5, 0.9),
        "direction_span": Range(1, 6, integer=True),
        "direction_weight": Range(0.0, 0.5),
        "max_age": Range(10, 120, log=True, integer=True),
    },
)

# BoT-SORT: ByteTrack with another state, appearance beside IoU, and the camera's motion taken out.
_BOTSORT = replace(
    _BYTETRACK,
    name="botsort",
    motion="xywh",
    stages=(
        Stage("high", "iou_appearance", 0.8, tracks="confirmed"),
        Stage("low", "iou", 0.5, tracks="recent", detections="low"),
        Stage("new", "iou_appearance", 0.7, tracks="tentative"),
    ),
    gallery_momentum=0.9,
    camera_motion="flow",
    search={
        **_BYTETRACK.search,
        "appearance_limit": Range(0.05, 0.6),
        "proximity_limit": Range(0.3, 0.9),
        "camera_motion": ("none", "flow", "ecc"),
    },
)

# The thesis's (section 5.2.3.3): DeepSORT with a learned descriptor in the place of its own, whose
# distance is Euclidean and whose gate is calibrated.
_FMVAE_SORT = replace(
    _DEEPSORT,
    name="fmvae-sort",
    stages=(
        Stage("appearance", "match", 0.5, tracks="confirmed", gate=True, cascade=True),
        _DEEPSORT.stages[1],
    ),
    metric="euclidean",
    search={**_DEEPSORT.search, "appearance.max_cost": Range(0.05, 0.95)},
)

# Ours: what motion and looks say, as one probability; then lost tracks within the motion's gate by
# their looks; weak detections by motion; and, once a new track is sure, the identity of a lost one.
_TRACKVAE = TrackerConfig(
    name="trackvae",
    motion="xywh",
    stages=(
        Stage("joint", "iou_match", 0.6, tracks="confirmed"),
        Stage("lost", "match", 0.3, tracks="lost", gate=True),
        Stage("low", "iou", 0.5, tracks="recent", detections="low"),
        Stage("new", "iou_match", 0.7, tracks="tentative"),
    ),
    high_linked=0.7,
    min_hits=3,
    max_age=30,
    coast=3,
    covered_limit=0.4,
    reid_probability=0.6,
    search={
        "high_linked": Range(0.3, 0.9),
        "joint.max_cost": Range(0.5, 0.95),
        "lost.max_cost": Range(0.1, 0.9),
        "trust": Range(0.6, 0.99),
        "covered_limit": Range(0.2, 1.0),
        "max_age": Range(10, 120, log=True, integer=True),
        "reid_probability": Range(0.3, 0.99),
        "camera_motion": ("none", "flow", "ecc"),
    },
)

PRESETS: Mapping[str, TrackerConfig] = types.MappingProxyType(
    {
        config.name: config
        for config in (_SORT, _DEEPSORT, _BYTETRACK, _OCSORT, _BOTSORT, _FMVAE_SORT, _TRACKVAE)
    }
)


def preset(name: str) -> TrackerConfig:
    """The preset of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS)
        raise UsageError(f"no tracker {name!r}{hint}; there are {', '.join(PRESETS)}")
    return PRESETS[name]

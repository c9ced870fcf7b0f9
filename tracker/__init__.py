"""Follow objects through video: detections in, tracks out, and their scores.

What is listed in ``__all__`` is the public interface. Names are imported when first used, so that
scoring does not load video and detection libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker.calibration import Calibration, Calibrator, calibrate
    from tracker.detections import Detections, Frame, Tracks
    from tracker.engine import Tracker
    from tracker.evaluation import Evaluation, evaluate
    from tracker.io.mot import BoxTable, read_boxes, write_boxes
    from tracker.pipeline import follow, open_source
    from tracker.presets import PRESETS, TrackerConfig

_HOME = {
    "BoxTable": "tracker.io.mot",
    "Calibration": "tracker.calibration",
    "Calibrator": "tracker.calibration",
    "Detections": "tracker.detections",
    "Evaluation": "tracker.evaluation",
    "Frame": "tracker.detections",
    "PRESETS": "tracker.presets",
    "Tracker": "tracker.engine",
    "TrackerConfig": "tracker.presets",
    "Tracks": "tracker.detections",
    "calibrate": "tracker.calibration",
    "evaluate": "tracker.evaluation",
    "follow": "tracker.pipeline",
    "open_source": "tracker.pipeline",
    "read_boxes": "tracker.io.mot",
    "write_boxes": "tracker.io.mot",
}

__all__ = [
    "PRESETS",
    "BoxTable",
    "Calibration",
    "Calibrator",
    "Detections",
    "Evaluation",
    "Frame",
    "Tracker",
    "TrackerConfig",
    "Tracks",
    "calibrate",
    "evaluate",
    "follow",
    "open_source",
    "read_boxes",
    "write_boxes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tracker' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

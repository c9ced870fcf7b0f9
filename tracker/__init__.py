"""Follow objects through video: detections in, tracks out, and their scores.

What is listed in ``__all__`` is the public interface. Names are imported when first used, so that
scoring does not load video and detection libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker.detections import Detections, Tracks

_HOME = {
    "Detections": "tracker.detections",
    "Tracks": "tracker.detections",
}

__all__ = ["Detections", "Tracks"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tracker' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

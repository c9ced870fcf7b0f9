"""Detectors behind one small protocol, opened by a text such as ``onnx:yolox.onnx``.

============================ ==================================================================
``file:PATH``                boxes from MOT text or an ``.npz``; embeddings ride along
``onnx:PATH``                YOLOX and YOLOv5/v8/11-style exports
``torchvision:NAME``         torchvision's models; needs torch
``motion``                   background subtraction, for static cameras; needs no weights
============================ ==================================================================

What can be set on each is a dataclass in :mod:`tracker.detectors.settings`. Only the detector
that is opened is imported.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from tracker.detections import Detections, Frame
from tracker.detectors.settings import (
    FileSettings,
    MotionSettings,
    OnnxSettings,
    TorchvisionSettings,
    parse_settings,
)
from trackvae.errors import UsageError
from trackvae.settings import did_you_mean

__all__ = ["SETTINGS", "Detector", "detector_kind", "open_detector"]

SETTINGS: dict[str, type] = {
    "file": FileSettings,
    "onnx": OnnxSettings,
    "torchvision": TorchvisionSettings,
    "motion": MotionSettings,
}
_FORMS = {"file": "file:PATH", "onnx": "onnx:PATH", "torchvision": "torchvision:NAME"}


@runtime_checkable
class Detector(Protocol):
    """Finds the objects of one frame.

    Attributes:
        needs_image: whether the frame must carry its image.
        names: class names by number; empty where there are none.
    """

    needs_image: bool
    names: dict[int, str]

    def __call__(self, frame: Frame) -> Detections:
        """The frame's objects: xyxy in pixels of the image.

        Boxes found in an image are clipped to it and have positive size; boxes from a file are
        the file's own.

        Raises:
            InputError: the frame has no image and the detector needs one.
        """
        ...

    def reset(self) -> None:
        """Forget what was seen: the next frame starts another video."""
        ...


def detector_kind(spec: str) -> tuple[str, str]:
    """Kind and argument of a text such as ``onnx:yolox.onnx``; ``motion`` has an empty argument.

    Raises:
        UsageError: no such kind, or its argument is missing or too much.
    """
    kind, colon, argument = spec.partition(":")
    known = ", ".join(_FORMS.get(name, name) for name in SETTINGS)
    if kind not in SETTINGS:
        raise UsageError(f"no detector {kind!r}{did_you_mean(kind, SETTINGS)}; there are {known}")
    if (kind in _FORMS) != bool(argument) or (colon and not argument):
        raise UsageError(f"detector {spec!r} is not of the form {_FORMS.get(kind, kind)}")
    return kind, argument


def open_detector(spec: str, **settings: Any) -> Detector:
    """A detector, ready for its first frame.

    Args:
        spec: ``file:PATH``, ``onnx:PATH``, ``torchvision:NAME`` or ``motion``.
        **settings: fields of its dataclass in :data:`SETTINGS`; text is parsed by their type.

    Raises:
        UsageError: an unknown detector, setting or class.
        InputError: the file or the weights cannot be used, or torch is missing.
    """
    kind, argument = detector_kind(spec)
    values: Any = parse_settings(SETTINGS[kind], settings, kind)
    if kind == "file":
        from tracker.detectors.file import FileDetector

        return FileDetector(argument, values)
    if kind == "onnx":
        from tracker.detectors.onnx import OnnxDetector

        return OnnxDetector(argument, values)
    if kind == "torchvision":
        from tracker.detectors.torchvision import TorchvisionDetector

        return TorchvisionDetector(argument, values)
    from tracker.detectors.motion import MotionDetector

    return MotionDetector(values)

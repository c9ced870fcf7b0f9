"""What can be set on each detector, and how ``name=value`` from a command line becomes it.

Each detector's settings are one frozen dataclass: its fields are the valid names, their types say
how text is parsed, their values are the defaults. No heavy import lives here, so that a command
line can list the settings of every detector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

from trackvae.errors import UsageError
from trackvae.settings import did_you_mean, parse_value

S = TypeVar("S")

FAMILIES = ("auto", "yolox", "yolox-decoded", "yolov5", "yolov8", "end2end")
DEVICES = ("auto", "cpu", "cuda")
ALGORITHMS = ("knn", "mog2")


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Settings of ``file:PATH``.

    Attributes:
        min_score: detections below are left out. The scale is the file's own; DPM's runs below 0.
        classes: class numbers to keep, all where empty.
    """

    min_score: float = -math.inf
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OnnxSettings:
    """Settings of ``onnx:PATH``.

    Attributes:
        min_score: detections below are left out; in [0, 1].
        nms_iou: of two boxes of one class that overlap more, the weaker is left out; in [0, 1].
        classes: names (``person``) or numbers to keep, all where empty.
        agnostic: boxes of different classes suppress each other too.
        size: side in pixels of the square that the network sees, where the model leaves it open;
            0: the model's own, or 640.
        family: how the output is read: yolox, yolox-decoded, yolov5, yolov8 (also v9 and 11),
            end2end (suppression inside the model); auto: told from the model.
        threads: threads inside one operation; 0: onnxruntime's choice, one a core.
        device: cpu, cuda, or auto (cuda where onnxruntime has it).
    """

    min_score: float = 0.3
    nms_iou: float = 0.45
    classes: tuple[str, ...] = ()
    agnostic: bool = False
    size: int = 0
    family: str = "auto"
    threads: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_unit(self, "min_score", "nms_iou")
        _check_least(self, 0, "size", "threads")
        _check_choice(self, "family", FAMILIES)
        _check_choice(self, "device", DEVICES)


@dataclass(frozen=True, slots=True)
class TorchvisionSettings:
    """Settings of ``torchvision:NAME``.

    Attributes:
        min_score: detections below are left out; in [0, 1].
        nms_iou: of two boxes of one class that overlap more, the weaker is left out; in [0, 1].
        classes: names (``person``) or numbers to keep, all where empty.
        agnostic: boxes of different classes suppress each other too.
        weights: ``DEFAULT`` (torchvision's hub, cached), or a ``.pth`` or ``.safetensors`` file.
        num_classes: of the weights in a file, background included; 0: torchvision's own (COCO).
        size: shorter side of the image that the network sees; 0: the model's own.
        device: cpu, cuda, or auto (cuda where torch has it).
    """

    min_score: float = 0.3
    nms_iou: float = 0.5
    classes: tuple[str, ...] = ()
    agnostic: bool = False
    weights: str = "DEFAULT"
    num_classes: int = 0
    size: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        _check_unit(self, "min_score", "nms_iou")
        _check_least(self, 0, "size", "num_classes")
        _check_choice(self, "device", DEVICES)


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """Settings of ``motion``, the background subtraction for static cameras.

    Lengths are relative to the image, so that they mean the same at every resolution.

    Attributes:
        min_score: boxes of which a smaller share is foreground are left out; in [0, 1].
        min_area: smallest foreground of an object as a share of the image.
        merge_gap: fragments above one another belong together when the gap between them is at
            most this share of the larger one's size; 0 merges only what overlaps.
        algorithm: knn or mog2.
        history: frames that the background remembers.
        threshold: squared distance in grey levels at which a pixel leaves the background (knn), or
            the same in variances (mog2); 0: 800 for knn, 36 for mog2.
        shadows: take shadows (darker, same colour) off the objects.
        warmup: first frames that only teach the background and give no boxes.
    """

    min_score: float = 0.2
    min_area: float = 5e-4
    merge_gap: float = 0.25
    algorithm: str = "knn"
    history: int = 500
    threshold: float = 0.0
    shadows: bool = True
    warmup: int = 5

    def __post_init__(self) -> None:
        _check_unit(self, "min_score", "min_area")
        _check_least(self, 0, "merge_gap", "threshold", "warmup")
        _check_least(self, 1, "history")
        _check_choice(self, "algorithm", ALGORITHMS)


def _check_unit(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:
            raise UsageError(f"{name} is {value}, expected 0 to 1")


def _check_least(settings: object, least: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not (value >= least and math.isfinite(value)):
            raise UsageError(f"{name} is {value}, expected {least} or more")


def _check_choice(settings: object, name: str, choices: Iterable[str]) -> None:
    value = getattr(settings, name)
    if value not in choices:
        raise UsageError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def parse_settings(cls: type[S], values: Mapping[str, Any], detector: str) -> S:
    """An instance of a settings dataclass from values that may be text.

    Args:
        cls: the dataclass.
        values: by field name. Text is parsed by the field's type (``classes=person,car``,
            ``agnostic=yes``); other values are taken as they are.
        detector: its name, for the message.

    Raises:
        UsageError: an unknown name (the valid ones are listed with their defaults), or a value
            that its field cannot take.
    """
    defaults = {f.name: f.default for f in fields(cls)}  # type: ignore[arg-type]
    kinds = get_type_hints(cls)
    for name in values:
        if name not in defaults:
            valid = ", ".join(f"{key}={_as_text(value)}" for key, value in defaults.items())
            raise UsageError(
                f"detector {detector} has no setting {name!r}"
                f"{did_you_mean(name, defaults)}; it has {valid}"
            )
    return cls(**{name: parse_value(name, value, kinds[name]) for name, value in values.items()})


def _as_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def class_numbers(
    wanted: Iterable[str], names: Mapping[int, str], detector: str
) -> frozenset[int] | None:
    """The class numbers that a ``classes`` setting means; None where it is empty (all).

    Args:
        wanted: names or numbers.
        names: the detector's own names by number; empty where it has none.
        detector: its name, for the message.

    Raises:
        UsageError: a name that the detector does not know, or a number that it never gives.
    """
    by_name = {name.lower(): number for number, name in names.items()}
    numbers = set()
    for word in wanted:
        if word.lower() in by_name:
            numbers.add(by_name[word.lower()])
        elif word.isdecimal() and (not names or int(word) in names):
            numbers.add(int(word))
        elif names:
            some = ", ".join(list(by_name)[:6])
            raise UsageError(
                f"detector {detector} has no class {word!r}{did_you_mean(word.lower(), by_name)}; "
                f"it knows {len(names)}: {some}{', ...' if len(names) > 6 else ''}"
            )
        else:
            raise UsageError(
                f"classes is {word!r}, but {detector} has no class names: give numbers"
            )
    return frozenset(numbers) or None

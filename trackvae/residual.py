"""The network of a supervised descriptor: crops in, features of unit length out.

A wide residual network after Wojke and Bewley ("Deep Cosine Metric Learning for Person
Re-identification", WACV 2018), which DeepSORT's descriptor is. It is no VAE: it has no decoder and
no posterior. How it is trained is in ``training.cosine_softmax``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trackvae.errors import InputError, UsageError
from trackvae.tensors import has_note, read_tensors, write_tensors

_ENTRY = "trackvae-residual"  # of the file's metadata
_HALVED = 16  # how often less a side is at the end


@dataclass(frozen=True)
class ResidualConfig:
    """A residual network of crops.

    Attributes:
        size: height and width of a crop, multiples of 16.
        widths: channels of its three pairs of residual blocks; the paper's.
        dim: of the features; the paper's.
        dropout: share of the units that are left out while it is trained, within a block and before
            the last layer; that of the paper's published code.
    """

    size: tuple[int, int] = (128, 64)
    widths: tuple[int, int, int] = (32, 64, 128)
    dim: int = 128
    dropout: float = 0.4

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if len(self.size) != 2 or any(side < 1 or side % _HALVED for side in self.size):
            raise UsageError(f"size is {self.size}, expected multiples of {_HALVED}")
        if len(self.widths) != 3 or min(*self.widths, self.dim) < 1:
            raise UsageError(f"widths {self.widths}, dim {self.dim}; expected 3 widths, all from 1")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}, expected 0 to below 1")


class ResidualNetwork(nn.Module):
    """Two convolutions, three pairs of residual blocks, one linear layer; ELU throughout.

    The first convolution takes every second pixel, where the paper's takes all of them: a quarter
    of the work, 9 ms a crop to train with and 4 to describe it on one CPU thread against the
    paper's fourfold.
    """

    def __init__(self, config: ResidualConfig) -> None:
        """Build it with fresh weights, drawn from torch's global generator."""
        super().__init__()
        first, second, third = config.widths
        self.config = config
        self.stem = nn.Sequential(
            *_normalised(3, first, 2), nn.ELU(), *_normalised(first, first, 1), nn.ELU()
        )
        self.blocks = nn.Sequential(
            _Block(first, first, 1, config.dropout, begins=True),
            _Block(first, first, 1, config.dropout),
            _Block(first, second, 2, config.dropout),
            _Block(second, second, 1, config.dropout),
            _Block(second, third, 2, config.dropout),
            _Block(third, third, 1, config.dropout),
        )
        height, width = config.size
        count = third * (height // _HALVED) * (width // _HALVED)
        self.dense = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(count, config.dim, bias=False),
            nn.BatchNorm1d(config.dim),
            nn.ELU(),
        )

    def forward(self, crops: Tensor) -> Tensor:
        """Describe crops.

        Args:
            crops: ``(N, 3, H, W)`` in [0, 1], BGR.

        Returns:
            ``(N, dim)`` of unit length.
        """
        small = functional.max_pool2d(self.stem(crops), kernel_size=3, stride=2, padding=1)
        features: Tensor = self.dense(self.blocks(small).flatten(1))
        return functional.normalize(features, dim=1)


def _normalised(before: int, after: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """A convolution of 3 x 3 without bias, and batch normalisation."""
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)


class _Block(nn.Module):
    """``x + f(x)`` with f two convolutions, activated before them (He et al., 2016)."""

    def __init__(
        self, before: int, after: int, stride: int, dropout: float, *, begins: bool = False
    ) -> None:
        super().__init__()
        # The first block's input is normalised and activated already.
        self.before = nn.Identity() if begins else nn.Sequential(nn.BatchNorm2d(before), nn.ELU())
        self.inner = nn.Sequential(
            *_normalised(before, after, stride),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Conv2d(after, after, 3, padding=1),
        )
        same = before == after and stride == 1
        self.beside = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        beside: Tensor = self.beside(x)
        return beside + self.inner(self.before(x))


def save_residual(
    path: str | Path, network: ResidualNetwork, card: Mapping[str, Any] | None = None
) -> None:
    """Write one safetensors file that holds weights, configuration and card, whole or not at all.

    Args:
        path: a ``.safetensors`` file.
        network: its weights are taken as they are.
        card: what it was trained on; plain values.

    Raises:
        InputError: it cannot be written.
    """
    note = {"network": asdict(network.config), "card": dict(card or {})}
    write_tensors(path, network.state_dict(), {_ENTRY: json.dumps(note)})


def load_residual(path: str | Path) -> tuple[ResidualNetwork, dict[str, Any]]:
    """Read what :func:`save_residual` wrote, for evaluation: the network and its card.

    Raises:
        InputError: the file is missing, damaged, holds something else, NaN or infinity.
    """
    weights, note = read_tensors(path, "file")
    if _ENTRY not in note:
        raise InputError(f"{path}: these weights are not of a supervised descriptor of trackvae")
    try:
        said = json.loads(note[_ENTRY])
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in said["network"].items()
        }
        network = ResidualNetwork(ResidualConfig(**plain))
        network.load_state_dict(weights)
        card = dict(said["card"])
    except (KeyError, TypeError, ValueError, RuntimeError, UsageError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{path}: weights and configuration do not belong together ({reason})"
        ) from error
    if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
        raise InputError(f"{path}: its weights hold NaN or infinity; train anew")
    return network.eval(), card


def is_residual(path: str | Path) -> bool:
    """Whether the file holds such a network; another file, or none at all, does not."""
    return has_note(path, _ENTRY)

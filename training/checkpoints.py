"""A run's state on disk: one safetensors file, written whole or not at all.

Weights and Adam's moments are its tensors, everything else is JSON in its metadata: reading one
never runs code. What the state means is the trainer's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trackvae.errors import InputError
from trackvae.tensors import read_tensors, write_tensors

_ENTRY = "training"  # of a checkpoint's metadata


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run.

    Attributes:
        run: what may not differ in a run that goes on from it, plain values.
        state: counters and moving averages, plain values.
        weights: of the model.
        moments: of Adam, by the parameter's number.
    """

    run: Mapping[str, Any]
    state: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    moments: Mapping[int, Mapping[str, Tensor]]

    def save(self, path: str | Path) -> None:
        """Write it; what was there before stays where that fails.

        Raises:
            InputError: the file cannot be written: no right to, or a full disk.
        """
        tensors = {f"model.{name}": value for name, value in self.weights.items()}
        for index, moments in self.moments.items():
            tensors |= {f"adam.{index}.{name}": value for name, value in moments.items()}
        about = json.dumps({"run": self.run, "state": self.state})
        write_tensors(path, tensors, {_ENTRY: about})

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read one, on the CPU.

        Raises:
            InputError: the file is missing, damaged, or something else.
        """
        tensors, metadata = read_tensors(path, "checkpoint")
        if _ENTRY not in metadata:
            raise InputError(f"{path}: not a checkpoint of a training run, it holds no run's state")
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        try:
            about = json.loads(metadata[_ENTRY])
            for name, value in tensors.items():
                kind, rest = name.split(".", 1)
                if kind == "model":
                    weights[rest] = value
                else:
                    index, key = rest.split(".", 1)
                    moments.setdefault(int(index), {})[key] = value
            return cls(about["run"], about["state"], weights, moments)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: a damaged checkpoint ({error!r})") from error

    def check(self, path: str | Path, run: Mapping[str, Any], model: nn.Module) -> None:
        """See that a run of this model may go on from here.

        Args:
            path: where it was read, for the message.
            run: of the run that is to go on.
            model: of the run that is to go on.

        Raises:
            InputError: of another run, or of another model.
        """
        wrong = _first_misfit(self.weights, model.state_dict())
        if wrong is not None:
            raise InputError(f"{path}: its weights belong to another model: {wrong}")
        here = json.loads(json.dumps(run))  # tuples as lists, as in the file
        for name in sorted(here.keys() | self.run.keys()):
            was, is_now = self.run.get(name), here.get(name)
            if was != is_now:
                raise InputError(f"{path}: of another run: {_difference(name, was, is_now)}")
        shapes = dict(enumerate(value.shape for value in model.parameters()))
        for index, moments in self.moments.items():
            for name, value in moments.items():
                if index not in shapes or value.shape not in (torch.Size(), shapes[index]):
                    raise InputError(f"{path}: a damaged checkpoint (adam.{index}.{name})")


def structure(model: nn.Module) -> list[str]:
    """A model's layers as text: two with the same weights may differ in what is between them."""
    return str(model).splitlines()


def _difference(name: str, was: Any, is_now: Any) -> str:
    """Where two settings differ, in one line."""
    if isinstance(was, dict) and isinstance(is_now, dict):
        for key in sorted(was.keys() | is_now.keys()):
            if was.get(key) != is_now.get(key):
                return f"{name}.{key} is {was.get(key)}, here {is_now.get(key)}"
    if isinstance(was, list) and isinstance(is_now, list):
        for old, new in _pairs(was, is_now):
            if old != new:
                return f"{name} has {old.strip() or 'less'}, here {new.strip() or 'less'}"
    return f"{name} is {was}, here {is_now}"


def _pairs(was: list[str], is_now: list[str]) -> Iterable[tuple[str, str]]:
    """Lines side by side, the shorter text filled up."""
    longer = max(len(was), len(is_now))
    fill = [""] * longer
    return zip((was + fill)[:longer], (is_now + fill)[:longer], strict=True)


def _first_misfit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first weight that is missing, too much, or of another shape."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is too much"
        if found[name].shape != expected[name].shape:
            return f"{name} is {tuple(found[name].shape)}, here {tuple(expected[name].shape)}"
    return None

"""Models on disk: one safetensors file that holds the weights and, as JSON, the configuration.

A file of numbers and text: loading one never runs code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trackvae.errors import InputError
from trackvae.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trackvae.config import ModelConfig
    from trackvae.vae import VAE

_ENTRY = "trackvae"  # of the file's metadata


def save(path: str | Path, model: VAE, config: ModelConfig) -> None:
    """Write a model, whole or not at all.

    Args:
        path: a ``.safetensors`` file.
        model: its weights are taken as they are, on the CPU.
        config: what :func:`trackvae.config.build` made it of.

    Raises:
        InputError: the file cannot be written.
    """
    write_tensors(path, model.state_dict(), {_ENTRY: json.dumps(config.to_dict())})


def load(path: str | Path) -> tuple[VAE, ModelConfig]:
    """Read a model, on the CPU and in evaluation mode.

    Args:
        path: a file that :func:`save` wrote.

    Raises:
        InputError: the file is missing, damaged, not one of ours, its weights do not belong to its
            configuration, or hold NaN or infinity.
    """
    from trackvae.config import ModelConfig, build

    weights, about = read_configured(path, _ENTRY, "trackvae")
    with configuration_errors(path):
        config = ModelConfig.from_dict(json.loads(about))
        model = build(config)
    take_up(path, model, weights)
    return model.eval(), config


def read_configured(path: str | Path, entry: str, what: str) -> tuple[dict[str, Tensor], str]:
    """A file's weights by name, and the configuration that it carries, as it was written.

    Args:
        path: a ``.safetensors`` file.
        entry: of its metadata.
        what: kind of configuration it is, for the message.

    Raises:
        InputError: the file is missing, damaged, or carries none.
    """
    weights, metadata = read_tensors(path, "file")
    if entry not in metadata:
        raise InputError(f"{path}: these weights carry no {what} configuration")
    return weights, metadata[entry]


@contextmanager
def configuration_errors(path: str | Path) -> Iterator[None]:
    """Of a model that is made by a file's configuration: whatever is wrong, of that file.

    Raises:
        InputError: instead of what was raised.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        said = " ".join(str(error).split())  # RuntimeError: sizes that no memory holds
        raise InputError(f"{path}: its configuration cannot be used ({said})") from error


def take_up(path: str | Path, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put a file's weights into the model that its configuration made, in their own precision.

    Args:
        path: the file, for messages.
        model: gets them.
        weights: by name.

    Raises:
        InputError: they do not belong to the model, or hold NaN or infinity.
    """
    expected = model.state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | weights.keys()
        if name not in expected
        or name not in weights
        or expected[name].shape != weights[name].shape
    )
    if wrong:
        raise InputError(
            f"{path}: weights and configuration do not belong together: {wrong[0]}"
            + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")
        )
    lost = next((name for name, value in weights.items() if not value.isfinite().all()), None)
    if lost is not None:
        raise InputError(f"{path}: {lost} holds NaN or infinity; train anew")
    model.to(next(value.dtype for value in weights.values() if value.is_floating_point()))
    model.load_state_dict(weights)

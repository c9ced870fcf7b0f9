"""Encoders as ONNX: written from a model, and run by ONNX Runtime without torch."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trackvae.arrays import FloatArray
from trackvae.errors import InputError
from trackvae.files import atomic_path, write_errors

if TYPE_CHECKING:
    from trackvae.config import ModelConfig
    from trackvae.vae import VAE

_INPUT, _OUTPUTS = "crops", ("mean", "log_variance")
_OPSET = 17  # ONNX Runtime 1.13 and later


def export_onnx(model: str | Path | tuple[VAE, ModelConfig], path: str | Path) -> None:
    """Write the encoder of a model as ONNX, whole or not at all.

    The graph takes ``crops``, float32 ``(N, C, H, W)``, BGR in [0, 1], any N, and gives ``mean``
    and ``log_variance``, ``(N, D)``.

    Args:
        model: weights that ``trackvae train`` wrote, or what :func:`trackvae.storage.load` gives.
        path: a ``.onnx`` file.

    Raises:
        InputError: weights that cannot be read, a model of no images, a file that cannot be
            written.
    """
    from reid.embedder import check_observation
    from trackvae.storage import load

    vae, config = load(model) if isinstance(model, (str, Path)) else model
    check_observation(config.observation)
    content = onnx_bytes(vae, config)
    with atomic_path(path) as temporary, write_errors(path):
        temporary.write_bytes(content)


def onnx_bytes(vae: VAE, config: ModelConfig) -> bytes:
    """The encoder as the content of an ONNX file.

    Raises:
        InputError: the package onnx is missing.
    """
    import copy

    import torch

    class Head(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = copy.deepcopy(vae.encoder).to(device="cpu", dtype=torch.float32).eval()

        def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            q = self.encoder(crops)
            shape = (-1, config.latent)  # written down, so that whoever opens the file knows D
            return q.mean.reshape(shape), q.log_var.reshape(shape)

    written = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The exporter that replaces it needs onnxscript; what it warns of in our networks is
            # the batch, which folds and unfolds by -1 whatever its size.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Head(),
                (torch.zeros(2, *config.observation),),
                cast(Any, written),  # a path by its signature; it takes a stream as well
                input_names=[_INPUT],
                output_names=list(_OUTPUTS),
                dynamic_axes={name: {0: "N"} for name in (_INPUT, *_OUTPUTS)},
                opset_version=_OPSET,
                dynamo=False,
            )
    except ImportError as error:
        raise InputError(f"ONNX cannot be written ({error}): pip install onnx") from error
    return written.getvalue()


class OnnxEncoder:
    """q(z|x) by ONNX Runtime, on the CPU."""

    def __init__(self, model: str | Path | bytes, threads: int = 1) -> None:
        """Open a file, or the content of one.

        Raises:
            InputError: it is missing, damaged, or no encoder of ours.
        """
        import onnxruntime

        name = "ONNX model" if isinstance(model, bytes) else str(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        try:
            content = model if isinstance(model, bytes) else Path(model).read_bytes()
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # ONNX Runtime has a kind of its own for each failure
            said = " ".join(str(error).split())
            raise InputError(f"{name}: not a readable ONNX file ({said})") from error
        self.observation, self.dim = _shapes(name, self._session)

    def __call__(self, crops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Crops ``(N, C, H, W)`` in [0, 1] to mean and log-variance, ``(N, D)`` float32."""
        given = np.ascontiguousarray(crops, dtype=np.float32)
        mean, log_var = self._session.run(_OUTPUTS, {_INPUT: given})
        return np.asarray(mean), np.asarray(log_var)


def _shapes(name: str, session: Any) -> tuple[tuple[int, ...], int]:
    """Shape of an observation and D.

    Raises:
        InputError: inputs or outputs are not those of :func:`export_onnx`.
    """
    from reid.embedder import check_observation

    inputs = {each.name: each.shape for each in session.get_inputs()}
    outputs = {each.name: each.shape for each in session.get_outputs()}
    shape = inputs.get(_INPUT, [])[1:]
    dims = [outputs.get(output, [])[1:] for output in _OUTPUTS]
    fixed = all(isinstance(side, int) for side in [*shape, *dims[0]])
    if len(inputs) != 1 or not fixed or len(dims[0]) != 1 or dims[0] != dims[1]:
        raise InputError(
            f"{name}: not an encoder of ours: it has inputs {', '.join(inputs)} and outputs "
            f"{', '.join(outputs)}, expected {_INPUT} and {', '.join(_OUTPUTS)}"
        )
    try:
        check_observation(shape)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return tuple(shape), int(dims[0][0])

"""A learned encoder as a descriptor: a frame and its boxes in, posterior means out.

What a crop is made of is in :mod:`reid.crops`, ONNX Runtime in :mod:`reid.onnx_backend`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from reid.appearance import AppearanceEncoder
from reid.crops import cut
from trackvae.appearance import (
    AppearanceModel,
    encoder_file,
    is_appearance_model,
    read_appearance_model,
)
from trackvae.arrays import FloatArray, Image, unit_length
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from trackvae.config import ModelConfig
    from trackvae.residual import ResidualNetwork
    from trackvae.vae import VAE

Backend: TypeAlias = Literal["torch", "onnx"]
Precision: TypeAlias = Literal["float32", "bfloat16"]
Crops: TypeAlias = npt.NDArray[np.uint8]
_DEFAULT_BATCH = 256  # crops a pass: 25 MB of activations at 64 x 64 each; a frame has fewer


class Network(Protocol):
    """What computes q(z|x) from pixels."""

    observation: tuple[int, ...]
    dim: int

    def __call__(self, crops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Crops ``(N, C, H, W)`` in [0, 1] to mean and log-variance, ``(N, D)`` float32."""
        ...


class Encoder(Protocol):
    """What gives mean and variance of q(z|x), ``(N, D)`` float32 both."""

    @property
    def dim(self) -> int:
        """D."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its crops."""
        ...

    def encode(self, image: Image, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of boxes ``(N, 4)`` of an image."""
        ...

    def encode_crops(self, crops: Crops) -> tuple[FloatArray, FloatArray]:
        """Of crops ``(N, 3, H, W)`` uint8."""
        ...


class Embedder:
    """The encoder of a VAE as a callable ``(image, boxes) -> (N, D)`` with a ``dim``.

    One pass a frame, whatever the number of boxes. It can be given to a tracker as it is.
    """

    def __init__(
        self,
        model: str | Path | AppearanceModel | ResidualNetwork | tuple[VAE, ModelConfig],
        *,
        backend: Backend = "torch",
        precision: Precision = "float32",
        batch: int = _DEFAULT_BATCH,
        normalise: bool | None = None,
        threads: int = 1,
    ) -> None:
        """Take an encoder.

        Args:
            model: what :func:`trackvae.load` gives or takes: ``default``, or a path to an encoder
                of ``trackvae fit`` (or its folder), weights of ``trackvae train``, a ``.onnx`` of
                :func:`reid.onnx_backend.export_onnx`, a supervised descriptor
                (:mod:`trackvae.residual`).
                The model itself is neither changed nor held.
            backend: ``onnx`` takes weights too; a ``.onnx`` needs no torch and is always taken so.
            precision: of torch's weights and activations; embeddings are float32 in any case.
                With bfloat16 1 - cosine to float32's is 8e-6 (1e-5 at most; ONNX Runtime: 2e-7) on
                236 boxes of MOT16-09, where two people's are 0.6 apart.
            batch: crops in a pass at most.
            normalise: give embeddings of unit length; left out, those of ``trackvae fit`` alone,
                whose directions say who it is.
            threads: of a pass. Beside a busy process every layer waits for the slowest thread, so
                that one is the steady choice for a frame's few crops.

        Raises:
            InputError: weights that cannot be read, a model of anything but images, no torch.
            UsageError: settings that mean nothing.
        """
        _check_settings(backend, precision, batch, threads)
        if isinstance(model, (str, Path)):
            model = encoder_file(model)
        fitted = _appearance_model(model)
        self._normalise = fitted is not None if normalise is None else normalise
        self._encoder: Encoder
        if fitted is None:
            network = _network(cast(Any, model), backend, precision, threads)
            self._encoder = _NetworkEncoder(network, batch)
        elif (backend, precision) != ("torch", "float32"):
            raise UsageError(
                "an encoder of trackvae fit has one form; leave out backend and precision"
            )
        else:
            self._encoder = AppearanceEncoder(fitted)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._encoder.dim

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the crops that it takes."""
        return self._encoder.size

    def __call__(self, image: Image, boxes: FloatArray) -> FloatArray:
        """Embed the boxes of one frame.

        Args:
            image: ``(H, W, 3)`` uint8, BGR.
            boxes: ``(N, 4)`` xyxy in pixels; see :func:`reid.crops.cut`.

        Returns:
            Posterior means ``(N, dim)`` float32, of unit length where that was chosen.

        Raises:
            InputError: an image or boxes of another type or shape.
        """
        mean, _ = self.encode(image, boxes)
        return unit_length(mean) if self._normalise else mean

    def embed_crops(self, crops: Crops) -> FloatArray:
        """As a call, for crops that are cut out already: ``(N, 3, H, W)`` uint8, BGR."""
        mean, _ = self.encode_crops(crops)
        return unit_length(mean) if self._normalise else mean

    def encode(self, image: Image, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of q(z|x) for each box, ``(N, dim)`` float32 both.

        The variance says how far a crop can be relied on: it grows where the crop tells little.
        Neither is scaled to unit length.
        """
        return self._encoder.encode(image, boxes)

    def encode_crops(self, crops: Crops) -> tuple[FloatArray, FloatArray]:
        """As :meth:`encode`, for crops that are cut out already.

        Args:
            crops: ``(N, 3, H, W)`` uint8, BGR; an encoder of grey images also takes one channel.

        Raises:
            InputError: crops of another type or size.
        """
        return self._encoder.encode_crops(crops)


class _NetworkEncoder:
    """A network of pixels, and the crops that it looks at."""

    def __init__(self, network: Network, batch: int) -> None:
        self._network, self._batch = network, batch
        self.dim = network.dim

    @property
    def size(self) -> tuple[int, int]:
        _, height, width = self._network.observation
        return height, width

    def encode(self, image: Image, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.encode_crops(cut(image, boxes, self.size))

    def encode_crops(self, crops: Crops) -> tuple[FloatArray, FloatArray]:
        crops = self._observed(crops)
        means = [np.zeros((0, self.dim), np.float32)]
        variances = [np.zeros((0, self.dim), np.float32)]
        for first in range(0, len(crops), self._batch):
            some = crops[first : first + self._batch]
            mean, log_var = self._network(some.astype(np.float32) / np.float32(255))
            means.append(mean)
            variances.append(np.exp(log_var))
        return np.concatenate(means), np.concatenate(variances)

    def _observed(self, crops: Crops) -> Crops:
        """Crops with as many channels as the encoder looks at."""
        channels, height, width = self._network.observation
        taken = {(channels, height, width), (3, height, width)}
        if crops.dtype != np.uint8 or crops.shape[1:] not in taken:
            raise InputError(
                f"crops are {crops.dtype} of shape {crops.shape}, expected uint8 "
                f"(N, 3, {height}, {width})"
            )
        if channels == crops.shape[1] or not len(crops):
            return crops[:, :channels]
        import cv2

        lines = np.ascontiguousarray(crops.transpose(0, 2, 3, 1)).reshape(-1, width, 3)
        grey = np.asarray(cv2.cvtColor(lines, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
        return grey.reshape(-1, 1, height, width)


def _appearance_model(model: object) -> AppearanceModel | None:
    """The appearance model that it is or holds; None: it is something else."""
    if isinstance(model, AppearanceModel):
        return model
    if isinstance(model, (str, Path)) and is_appearance_model(model):
        return read_appearance_model(model)
    return None


def encoder_name(path: str | Path) -> str:
    """A file of weights by its name and the start of its SHA-256: ``model.safetensors 1f3a09c2``.

    Embeddings of different encoders may have one dimension and still not be comparable.

    Raises:
        InputError: it cannot be read.
    """
    try:
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return f"{Path(path).name} {digest[:8]}"


def check_observation(observation: Sequence[int]) -> None:
    """Refuse a model that does not look at colour or grey images.

    Raises:
        InputError: its observation is neither ``(3, H, W)`` nor ``(1, H, W)``.
    """
    if len(observation) != 3 or observation[0] not in (1, 3):
        shape = " x ".join(map(str, observation))
        raise InputError(
            f"the model observes {shape}, so it cannot embed crops; expected 3 x H x W or 1 x H x W"
        )


def _check_settings(backend: str, precision: str, batch: int, threads: int) -> None:
    if backend not in ("torch", "onnx"):
        raise UsageError(f"backend is {backend!r}, expected torch or onnx")
    if precision not in ("float32", "bfloat16"):
        raise UsageError(f"precision is {precision!r}, expected float32 or bfloat16")
    if batch < 1 or threads < 1:
        raise UsageError(f"batch is {batch}, threads {threads}; expected 1 or more")


def _network(
    model: str | Path | ResidualNetwork | tuple[VAE, ModelConfig],
    backend: Backend,
    precision: Precision,
    threads: int,
) -> Network:
    """The encoder's network of weights, of an exported file, or of a model in memory."""
    exported = isinstance(model, (str, Path)) and Path(model).suffix.lower() == ".onnx"
    if (exported or backend == "onnx") and precision != "float32":
        raise UsageError("ONNX Runtime computes in float32; leave out precision")
    if exported:
        from reid.onnx_backend import OnnxEncoder

        return OnnxEncoder(cast("str | Path", model), threads)
    where = f"{model}: " if isinstance(model, (str, Path)) else ""
    try:
        from trackvae.residual import ResidualNetwork, is_residual, load_residual
        from trackvae.storage import load

        if isinstance(model, (str, Path)) and is_residual(model):
            model = load_residual(model)[0]
        if isinstance(model, ResidualNetwork):
            if (backend, precision) != ("torch", "float32"):
                raise UsageError(
                    "a supervised descriptor has one form; leave out backend and precision"
                )
            return _SupervisedEncoder(model, threads)
        vae, config = load(model) if isinstance(model, (str, Path)) else model
    except ImportError as error:
        raise InputError(
            f"{where}weights need torch ({error}): pip install 'trackvae[torch]', or export them "
            "to .onnx elsewhere"
        ) from error
    try:
        check_observation(config.observation)
    except InputError as error:
        raise InputError(f"{where}{error}") from error
    if backend == "torch":
        return _TorchEncoder(vae, config, precision, threads)
    from reid.onnx_backend import OnnxEncoder, onnx_bytes

    return OnnxEncoder(onnx_bytes(vae, config), threads)


class _TorchEncoder:
    """A copy of an encoder with its channels last, which its convolutions take as they come."""

    def __init__(self, vae: VAE, config: ModelConfig, precision: Precision, threads: int) -> None:
        import copy

        import torch

        self.observation, self.dim = config.observation, config.latent
        self._type = torch.bfloat16 if precision == "bfloat16" else torch.float32
        encoder = copy.deepcopy(vae.encoder).to(device="cpu", dtype=self._type).eval()
        self._encoder = encoder.to(memory_format=torch.channels_last)
        self._threads = threads

    def __call__(self, crops: FloatArray) -> tuple[FloatArray, FloatArray]:
        import torch

        with torch.inference_mode(), _torch_threads(torch, self._threads):
            given = torch.from_numpy(crops).to(self._type)
            q = self._encoder(given.contiguous(memory_format=torch.channels_last))
            return q.mean.float().numpy(), q.log_var.float().numpy()


class _SupervisedEncoder:
    """A descriptor that was trained with labels; it knows no variance, which is 0."""

    def __init__(self, network: ResidualNetwork, threads: int) -> None:
        self.observation: tuple[int, ...] = (3, *network.config.size)
        self.dim = network.config.dim
        self._network, self._threads = network, threads

    def __call__(self, crops: FloatArray) -> tuple[FloatArray, FloatArray]:
        import torch

        with torch.inference_mode(), _torch_threads(torch, self._threads):
            given = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
            features = self._network(given).numpy()
        return features, np.full_like(features, -np.inf)


@contextmanager
def _torch_threads(torch: Any, threads: int) -> Iterator[None]:
    """A context in which torch uses so many threads."""
    before = torch.get_num_threads()
    if before != threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if before != threads:
            torch.set_num_threads(before)

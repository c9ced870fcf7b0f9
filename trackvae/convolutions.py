"""Networks of images: those of Tables A.1 and A.8, and a small fast one for crops.

Each is an encoder ``(..., *observation)`` to ``(..., 2 D_z)`` and a decoder ``(..., D_z)`` to
``(..., *observation)``, with any leading dimensions. An observation is ``(C, H, W)``, or ``(H, W)``
for one channel. Made with ``.to(memory_format=torch.channels_last)`` they stay in that layout.

The tables name layers and kernels. What they leave open is chosen here and said where it is:
padding is half the kernel (Keras's "same"), the Gaussian's parameters and the pixels come from
linear layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn

from trackvae.errors import UsageError
from trackvae.networks import Gated, activation_layer, glorot, he

Shape: TypeAlias = tuple[int, ...]
Image: TypeAlias = tuple[int, int, int]  # (C, H, W)
Layer: TypeAlias = tuple[int, int, int]  # (channels out, kernel, stride)

_GATED_ENCODER: tuple[Layer, ...] = ((32, 7, 1), (32, 3, 2), (64, 5, 1), (64, 3, 2), (64, 3, 1))
_GATED_DECODER: tuple[Layer, ...] = ((64, 3, 1),) * 5
_FACES: tuple[Layer, ...] = (
    *((32, 5, 2), (32, 3, 1), (48, 5, 2), (48, 3, 1)),
    *((64, 5, 2), (64, 3, 1), (96, 5, 2), (96, 3, 1)),
)
_FACES_UNITS = 256
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions of a block
_VGG16_DECODER = (256, 128, 64, 32, 16)
# 11 million multiplications to encode a 64x64 crop and 28 to decode one. On one CPU thread it
# encodes 3,600 crops/s with ReLU, 3,200 with SiLU, 1,400 with ELU (an exponential in full precision
# for each unit), and trains in 5 to 7 ms an image.
_CROP_ENCODER: tuple[Layer, ...] = ((32, 3, 2), (64, 3, 2), (96, 3, 2), (128, 3, 2))
_CROP_DECODER = (96, 64, 32, 16)


class ImageEncoder(nn.Module):
    """Images ``(..., *observation)`` to vectors ``(..., D_out)``."""

    def __init__(self, network: nn.Module, observation: Shape) -> None:
        """Wrap a network.

        Args:
            network: ``(N, C, H, W)`` to ``(N, D_out)``.
            observation: ``(C, H, W)`` or ``(H, W)``.
        """
        super().__init__()
        self.network = network
        self._dims, self._image = len(observation), _image(observation)

    def forward(self, x: Tensor) -> Tensor:
        """Fold the leading dimensions into one, which is all that a convolution takes."""
        leading = x.shape[: x.dim() - self._dims]
        out: Tensor = self.network(x.reshape(math.prod(leading), *self._image))
        return out.reshape(*leading, out.shape[-1])


class ImageDecoder(nn.Module):
    """Vectors ``(..., D_z)`` to images ``(..., *observation)``."""

    def __init__(self, network: nn.Module, observation: Shape) -> None:
        """Wrap a network.

        Args:
            network: ``(N, D_z)`` to ``(N, C, H, W)``.
            observation: ``(C, H, W)`` or ``(H, W)``.
        """
        super().__init__()
        self.network = network
        self._observation = observation

    def forward(self, z: Tensor) -> Tensor:
        """Fold the leading dimensions into one, which is all that a convolution takes."""
        leading = z.shape[:-1]
        out: Tensor = self.network(z.reshape(math.prod(leading), z.shape[-1]))
        return out.reshape(*leading, *self._observation)


def image_networks(
    network: str, observation: Shape, latent: int, activation: str
) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder, freshly initialised.

    Args:
        network: one of :data:`ARCHITECTURES`.
        observation: ``(C, H, W)`` or ``(H, W)``.
        latent: D_z.
        activation: between the layers; gated layers take none.

    Returns:
        ``(..., *observation)`` to ``(..., 2 D_z)``, and ``(..., D_z)`` to ``(..., *observation)``.

    Raises:
        UsageError: the observation does not fit the network, or no such activation.
    """
    check_observation(network, observation)
    activation_layer(activation)
    made = ARCHITECTURES[network]
    image = _image(observation)
    initialised = he if made.deep else glorot
    encoder = initialised(made.encoder(image, 2 * latent, activation))
    decoder = initialised(made.decoder(image, latent, activation))
    return ImageEncoder(encoder, observation), ImageDecoder(decoder, observation)


def check_observation(network: str, observation: Shape) -> None:
    """Refuse an observation that does not fit a network of images.

    Raises:
        UsageError: it is no image, has its channels last, or a size that cannot be halved so often.
    """
    found = f"the observation is {' x '.join(map(str, observation))}"
    if len(observation) not in (2, 3):
        raise UsageError(f"network {network} needs images, C x H x W or H x W; {found}")
    channels, height, width = _image(observation)
    if width in (1, 3) and channels > width:
        raise UsageError(f"network {network} needs the channels first, C x H x W; {found}")
    step = ARCHITECTURES[network].multiple
    if height % step or width % step:
        raise UsageError(
            f"network {network} needs height and width in multiples of {step}; {found}"
        )


def _image(observation: Shape) -> Image:
    channels, height, width = (1,) * (3 - len(observation)) + tuple(observation)
    return channels, height, width


# --- Table A.1: digits


def _gated(before: int, layers: tuple[Layer, ...]) -> list[nn.Module]:
    """Gated convolutions one after the other."""
    made: list[nn.Module] = []
    for channels, kernel, stride in layers:
        value, gate = (
            nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2) for _ in range(2)
        )
        made.append(Gated(value, gate))
        before = channels
    return made


def _gated_encoder(image: Image, outputs: int, activation: str) -> nn.Module:  # noqa: ARG001
    """Five gated convolutions; the VampPrior's own code has 6 channels in the last, we 64."""
    channels, height, width = image
    small = math.ceil(height / 4) * math.ceil(width / 4)
    convolutions = _gated(channels, _GATED_ENCODER)
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64 * small, outputs))


def _gated_decoder(image: Image, latent: int, activation: str) -> nn.Module:  # noqa: ARG001
    """A gated layer draws one plane of pixels, five gated convolutions refine it."""
    channels, height, width = image
    plane = Gated(nn.Linear(latent, height * width), nn.Linear(latent, height * width))
    convolutions = _gated(1, _GATED_DECODER)
    pixels = nn.Conv2d(64, channels, kernel_size=1)
    return nn.Sequential(plane, nn.Unflatten(1, (1, height, width)), *convolutions, pixels)


# --- Table A.1: 3D Faces, 3D Chairs


def _strided(before: int, layers: tuple[Layer, ...], activation: str) -> list[nn.Module]:
    """Convolutions with an activation after each."""
    made: list[nn.Module] = []
    for channels, kernel, stride in layers:
        made.append(nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2))
        made.append(activation_layer(activation))
        before = channels
    return made


def _faces_encoder(image: Image, outputs: int, activation: str) -> nn.Module:
    channels, height, width = image
    size = 96 * (height // 16) * (width // 16)
    return nn.Sequential(
        *_strided(channels, _FACES, activation),
        nn.Flatten(),
        nn.Linear(size, _FACES_UNITS),
        activation_layer(activation),
        nn.Linear(_FACES_UNITS, outputs),
    )


def _faces_decoder(image: Image, latent: int, activation: str) -> nn.Module:
    """The encoder in reverse: every convolution transposed, in the opposite order."""
    channels, height, width = image
    small = (96, height // 16, width // 16)
    made: list[nn.Module] = [
        nn.Linear(latent, _FACES_UNITS),
        activation_layer(activation),
        nn.Linear(_FACES_UNITS, math.prod(small)),
        activation_layer(activation),
        nn.Unflatten(1, small),
    ]
    before = [channels, *(layer[0] for layer in _FACES)]
    for place in reversed(range(len(_FACES))):
        out, kernel, stride = _FACES[place]
        made.append(
            nn.ConvTranspose2d(
                out, before[place], kernel, stride, padding=kernel // 2, output_padding=stride - 1
            )
        )
        made.append(activation_layer(activation))
    return nn.Sequential(*made[:-1])


# --- Table A.8: MOT16


def _vgg16_encoder(image: Image, outputs: int, activation: str) -> nn.Module:
    """The 13 convolutions of VGG16 (configuration D of Simonyan and Zisserman, 2015).

    Its three fully-connected layers are made for 7 x 7 places and 1,000 classes; one linear layer
    to the Gaussian's parameters stands for them.
    """
    before, height, width = image
    made: list[nn.Module] = []
    for channels, count in _VGG16:
        made += _strided(before, ((channels, 3, 1),) * count, activation)
        made.append(nn.MaxPool2d(2))
        before = channels
    size = before * (height // 32) * (width // 32)
    return nn.Sequential(*made, nn.Flatten(), nn.Linear(size, outputs))


def _doubled(before: int, after: int, activation: str) -> list[nn.Module]:
    """A transposed convolution that doubles height and width.

    Kernel 4, a multiple of the stride, so that every pixel is made of as many terms and no
    chequered pattern appears (Odena et al., 2016).
    """
    layer = nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1)
    return [layer, activation_layer(activation)]


def _unfolded(latent: int, small: Image, activation: str) -> list[nn.Module]:
    """Where a decoder begins: a vector as a small image of many channels."""
    layer = nn.Linear(latent, math.prod(small))
    return [layer, activation_layer(activation), nn.Unflatten(1, small)]


def _vgg16_decoder(image: Image, latent: int, activation: str) -> nn.Module:
    """Five times Conv2DT (doubles the size) and Conv2D 3 x 3, from the encoder's 512 channels."""
    channels, height, width = image
    small = (512, height // 32, width // 32)
    made = _unfolded(latent, small, activation)
    for before, after in pairwise((small[0], *_VGG16_DECODER)):
        made += _doubled(before, after, activation)
        made += _strided(after, ((after, 3, 1),), activation)
    pixels = nn.Conv2d(_VGG16_DECODER[-1], channels, kernel_size=3, padding=1)
    return nn.Sequential(*made, pixels)


# --- crops


def _crop_encoder(image: Image, outputs: int, activation: str) -> nn.Module:
    channels, height, width = image
    size = _CROP_ENCODER[-1][0] * (height // 16) * (width // 16)
    convolutions = _strided(channels, _CROP_ENCODER, activation)
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(size, outputs))


def _crop_decoder(image: Image, latent: int, activation: str) -> nn.Module:
    channels, height, width = image
    small = (_CROP_ENCODER[-1][0], height // 16, width // 16)
    made = _unfolded(latent, small, activation)
    for before, after in pairwise((small[0], *_CROP_DECODER)):
        made += _doubled(before, after, activation)
    pixels = nn.Conv2d(_CROP_DECODER[-1], channels, kernel_size=3, padding=1)
    return nn.Sequential(*made, pixels)


class Architecture(NamedTuple):
    """How an encoder and its decoder are made.

    Attributes:
        encoder: image, outputs and activation to a network ``(N, C, H, W)`` to ``(N, outputs)``.
        decoder: image, D_z and activation to a network ``(N, D_z)`` to ``(N, C, H, W)``.
        multiple: height and width must be divisible by it.
        deep: whether Glorot's rule would let the signal die out (:func:`trackvae.networks.he`).
    """

    encoder: Callable[[Image, int, str], nn.Module]
    decoder: Callable[[Image, int, str], nn.Module]
    multiple: int
    deep: bool = False


ARCHITECTURES = {
    "gated-conv": Architecture(_gated_encoder, _gated_decoder, 1),
    "faces-conv": Architecture(_faces_encoder, _faces_decoder, 16),
    "vgg16": Architecture(_vgg16_encoder, _vgg16_decoder, 32, deep=True),
    "crop-conv": Architecture(_crop_encoder, _crop_decoder, 16),
}

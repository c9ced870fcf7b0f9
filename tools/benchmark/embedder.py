"""Crops a second of our encoders, MobileNetV2 and ResNet-18, on one thread and in turns.

    python -m tools.benchmark.embedder

Two figures each: boxes of a made 1080p frame to embeddings, cutting out included, and finished
crops (bytes of the encoder's own size) to embeddings. Ours are the shipped default, an encoder of
the sizes that ``trackvae fit`` learns, and a convolutional one of ``trackvae train``; all networks
but the default have random weights, whose speed is that of trained ones, and take their crops as
one batch with channels last. deep-sort-realtime embeds by MobileNetV2 at 224 x 224; the peers at
64 x 64 say what of the difference is size.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import tyro

from reid.crops import cut
from tools.benchmark.report import CLOCK, Clock, paired_ratio, spread, use_one_thread
from trackvae.arrays import FloatArray, Image
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from trackvae.appearance import AppearanceModel

MODULE = "tools.benchmark.embedder"
SIZE, DIM, SEED = 64, 128, 0
FRAME = (1080, 1920)
_PEER = "MobileNetV2, 224 x 224, float32"
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB
_LEAST_SECONDS = 0.2  # of one timing

Crops = npt.NDArray[np.uint8]
Measure = Literal["boxes", "crops"]


@dataclass(frozen=True)
class Contender:
    """A network with a way to use it.

    Attributes:
        name: with size of a crop and precision.
        size: height and width of the crops that it takes, pixels.
        embed: crops (N, 3, height, width) uint8, BGR, to (N, D) float32.
        look: image and boxes (N, 4) to (N, D), as a tracker calls it.
    """

    name: str
    size: tuple[int, int]
    embed: Callable[[Crops], FloatArray]
    look: Callable[[Image, FloatArray], FloatArray]


def shipped() -> Contender:
    """The encoder that comes with trackvae."""
    from trackvae.appearance import encoder_file

    return _by_features("default", encoder_file("default"))


def fitted() -> Contender:
    """An encoder as ``trackvae fit`` learns it: its features and sizes, random weights.

    All of its features vary; a video in which some colours never occur makes it no slower.
    """
    from reid.descriptors import by_name
    from tools.fit.learning import LearnOptions
    from trackvae.appearance import AppearanceModel

    rng, options = np.random.default_rng(SEED), LearnOptions()
    count = by_name(options.features).dim
    widths = (options.whitened, *options.hidden, 2 * options.latent)

    def weights(rows: int, columns: int) -> FloatArray:
        return rng.standard_normal((rows, columns), dtype=np.float32) / np.float32(np.sqrt(rows))

    layers = tuple(
        (weights(before, after), np.zeros(after, np.float32))
        for before, after in itertools.pairwise(widths)
    )
    mean = np.zeros(count, np.float32)
    model = AppearanceModel(options.features, mean, weights(count, options.whitened), layers)
    return _by_features("as trackvae fit learns", model)


def _by_features(name: str, model: Path | AppearanceModel) -> Contender:
    from reid.embedder import Embedder

    embedder = Embedder(model)
    return Contender(f"{name}, {embedder.dim}-d", embedder.size, embedder.embed_crops, embedder)


def ours(side: int, **settings: Any) -> Contender:
    """Our small convolutional encoder, as the tracker would call it."""
    from reid.embedder import Embedder
    from trackvae.config import ModelConfig, build

    config = ModelConfig(
        (3, side, side), DIM, "crop-conv", activation="silu", prior="normal", sigma=1.0
    )
    how = settings.get("precision") or ("ONNX Runtime" if settings else "float32")
    embedder = Embedder((build(config), config), **settings)
    name = f"crop-conv, {side} x {side}, {how}"
    return Contender(name, embedder.size, embedder.embed_crops, embedder)


def peer(title: str, side: int, precision: Literal["float32", "bfloat16"]) -> Contender:
    """A torchvision network without its classifier, in the layout that is fastest on a CPU."""
    import torch
    import torchvision

    if title == "MobileNetV2":
        network = torchvision.models.mobilenet_v2(weights=None)
        network.classifier = torch.nn.Identity()
    else:
        network = torchvision.models.resnet18(weights=None)
        network.fc = torch.nn.Identity()
    kind = getattr(torch, precision)
    network = network.eval().to(dtype=kind, memory_format=torch.channels_last)
    mean = torch.tensor(_MEAN[::-1]).view(3, 1, 1)
    scale = 1 / torch.tensor(_DEVIATION[::-1]).view(3, 1, 1)

    def embed(crops: Crops) -> FloatArray:
        with torch.inference_mode():
            given = (torch.from_numpy(crops).float() / 255 - mean) * scale
            given = given.to(kind).contiguous(memory_format=torch.channels_last)
            return np.asarray(network(given).float().numpy())

    size = (side, side)
    name = f"{title}, {side} x {side}, {precision}"
    return Contender(name, size, embed, lambda image, boxes: embed(cut(image, boxes, size)))


def contenders(quick: bool) -> list[Contender]:
    """Everything that is measured, ours first."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    mine = [shipped(), fitted(), ours(SIZE)]
    mine += [ours(SIZE, precision="bfloat16"), ours(SIZE, backend="onnx")]
    sides = (224, SIZE)
    theirs = [peer("MobileNetV2", side, "float32") for side in sides]
    if not quick:
        theirs += [peer("MobileNetV2", side, "bfloat16") for side in sides]
        theirs += [peer("ResNet-18", side, "float32") for side in sides]
        theirs += [peer("ResNet-18", side, "bfloat16") for side in sides]
    return mine + theirs


def make_frame(count: int, rng: np.random.Generator) -> tuple[Image, FloatArray]:
    """A frame of noise, and boxes of the sizes that people have in MOT16-09."""
    image = rng.integers(0, 256, (*FRAME, 3)).astype(np.uint8)
    high = np.exp(rng.normal(np.log(290), 0.6, count)).clip(60, 900)
    sides = np.stack([high * rng.uniform(0.3, 0.45, count), high], axis=1)
    corner = rng.uniform(0, 1, (count, 2)) * (np.array(FRAME[::-1]) - sides)
    return image, np.hstack([corner, corner + sides])


def crops_a_second(contender: Contender, what: Measure, image: Image, boxes: FloatArray) -> float:
    """One timing: of whole frames for a fifth of a second of processor time."""
    crops = cut(image, boxes, contender.size)
    done, start = 0, time.process_time()
    while (passed := time.process_time() - start) < _LEAST_SECONDS or not done:
        if what == "crops":
            contender.embed(crops)
        else:
            contender.look(image, boxes)
        done += len(boxes)
    return done / passed


def measure(
    every: Sequence[Contender], what: Measure, count: int, repeats: int
) -> dict[str, list[float]]:
    """Crops a second of each contender in each repeat, every second repeat in reverse order."""
    image, boxes = make_frame(count, np.random.default_rng(SEED))
    for contender in every:
        contender.look(image, boxes)  # to warm up
    rates: dict[str, list[float]] = {contender.name: [] for contender in every}
    for repeat in range(repeats):
        for contender in every if repeat % 2 == 0 else every[::-1]:
            rates[contender.name].append(crops_a_second(contender, what, image, boxes))
    return rates


def rows_of(rates: dict[str, list[float]], what: Measure, count: int) -> list[dict[str, Any]]:
    """A row for each contender, beside deep-sort-realtime's network."""
    return [
        {
            "method": name,
            "metric": f"crops/s, {count} {what} a frame",
            "what": what,
            "crops": count,
            "ours": spread(values, 4),
            "peer": {"name": _PEER, **spread(rates[_PEER], 4)},
            "ratio": paired_ratio(values, rates[_PEER]),
        }
        for name, values in rates.items()
    ]


@dataclass(frozen=True)
class EmbedderBenchmark:
    """Measure crops a second of our encoders and of the peers' networks."""

    out: Path = Path("results/benchmark-embedder.json")
    """Where the figures go."""
    repeats: int = 7
    """Timings of each network; the median counts."""
    crops: tuple[int, ...] = (10, 50)
    """Boxes of a frame, one batch."""
    quick: bool = False
    """Fewer networks, one size of frame, two timings: does it run?"""

    def run(self) -> int:
        """Measure, print, save."""
        if min(self.repeats, *self.crops) < 1:
            raise UsageError(f"repeats is {self.repeats}, crops {self.crops}; expected 1 or more")
        use_one_thread(MODULE)
        import cv2

        cv2.setNumThreads(1)
        clock, every, rows = Clock(), contenders(self.quick), []
        repeats = 2 if self.quick else self.repeats
        whats: tuple[Measure, ...] = ("boxes", "crops")
        for count in self.crops[:1] if self.quick else self.crops:
            for what in whats:
                rates = measure(every, what, count, repeats)
                made = rows_of(rates, what, count)
                rows += made
                for row in made:
                    print(
                        f"{row['metric']}: {row['method']:<35} {row['ours']['median']:>7.0f}  "
                        f"x {row['ratio']:g}",
                        flush=True,
                    )
        report = {
            "name": "benchmark-embedder",
            "title": "Crops a second: our encoders, MobileNetV2, ResNet-18",
            "quick": self.quick,
            "rows": rows,
            "config": {
                "threads": 1,
                "clock": CLOCK,
                "frame": list(FRAME),
                "repeats": repeats,
                "weights": "random, but for default",
                "layout": "channels last",
                "ratio": f"crops/s over those of {_PEER}",
            },
            "seeds": [SEED],
        }
        packages = ("trackvae", "numpy", "opencv-python", "torch", "torchvision", "onnxruntime")
        clock.save(report, packages, self.out)
        print(f"written to {self.out}")
        return 0


def main() -> int:
    """Run from the command line."""
    try:
        return tyro.cli(EmbedderBenchmark).run()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

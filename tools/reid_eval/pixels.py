"""Encoders that learn from pixels: the thesis's VHP-VAE and VHP-FMVAE, the supervised descriptor.

The thesis's (5.2.3.3, Table A.8): 64 x 64 x 3 crops of the video's own detections, z of 128
dimensions, a Gaussian likelihood, trained with REWO, the posterior's mean in the place of the
descriptor of DeepSORT. What is ours:

- The network. VGG16 takes 140 ms a crop and step on a CPU thread, ``crop-conv`` 4.5.
- kappa. The printed 0.8 cannot be the root of a mean squared error of pixels in [0, 1]: that of the
  mean crop is 0.2. Here kappa^2 is a share of the crops' variance, and the same with and without
  flatness, so that what is compared has the same reconstruction.
- eta counts what the thesis's counts: ``eta E ||G - c^2 1||_F^2`` (5.14 to 5.16) is added to the
  rate in nats, summed over all entries, with G of pixels in [0, 1] and c^2 not divided out. Its
  pull on the shape of G is that of ``eta D_z c^4`` on the relative penalty, which has no scale: at
  c^2 = 0.1 and D_z = 128, 384 for eta = 300. It is partly met by smaller J, which costs nothing
  where the prior is learned, until ``eta D_z c^4`` no longer counts beside the rate.
- A third VHP-FMVAE, with our relative penalty and flat start, since the absolute penalty is met by
  smaller J first: condition numbers of 1,400 and 1,000 for eta = 300 and 3,000 where the VHP-VAE's
  is 30,000 (PETS09-S2L1, 170 steps of it).
- One random probe on 8 rows of the batch for G, in the place of 128 differences for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reid_eval.sequences import cut_crops, queries_of, tracklets_of
from trackvae.arrays import Image, IntArray
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from reid.embedder import Embedder
    from tracker.io.sources import Source
    from trackvae.config import ModelConfig
    from trackvae.residual import ResidualNetwork
    from trackvae.vae import VAE
    from training.cosine_softmax import CosineConfig

_MOST_CROPS = 6_000  # that are learned from: 74 MB, and more than the steps go through
_POINTS = 48  # at which the decoder's metric is looked at, whole; 10 s
_ROWS = 8  # of a batch that are regularised
_NOTHING = 1e-9  # of a variance: rounding
_LABELLED_STRIDE = 2  # of the frames whose identities are learned from


@dataclass(frozen=True)
class PixelOptions:
    """How a VAE of pixels is learned.

    Attributes:
        eta: weight of the flatness regulariser; 0: a VHP-VAE.
        relative: the penalty is relative to c^2 and begins in coordinates that are flat on average,
            as ours is elsewhere; False: the thesis's, in its units.
        size: height and width of a crop.
        latent: dimensions of z.
        unexplained: kappa^2, as a share of the variance of the crops' pixels about the mean crop.
        steps: of training; the thesis's training is some hundred times as long.
        batch_size: crops of a step.
        learning_rate: of Adam at the start; falls on a cosine to a tenth.
        clip: largest norm of all gradients together; what the penalty begins with is large.
        seed: of weights, order and noise.
    """

    eta: float = 0.0
    relative: bool = False
    size: tuple[int, int] = (64, 64)
    latent: int = 128
    unexplained: float = 0.45
    steps: int = 350
    batch_size: int = 32
    learning_rate: float = 1e-3
    clip: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 <= self.eta < np.inf:
            raise UsageError(f"eta is {self.eta}, expected 0 or more")
        if not 0 < self.unexplained < 1:
            raise UsageError(f"unexplained is {self.unexplained}, expected between 0 and 1")


@dataclass(frozen=True, slots=True, eq=False)
class LearnedVAE:
    """A VAE of pixels.

    Attributes:
        model: for evaluation.
        config: of the model.
        made: plain values: from how many crops, kappa^2, and how the training ended.
    """

    model: VAE
    config: ModelConfig
    made: dict[str, Any]


def learn_vae(
    crops: Image, options: PixelOptions, on_step: Callable[[int], None] | None = None
) -> LearnedVAE:
    """Train on crops ``(N, 3, H, W)`` uint8, BGR; no labels.

    Raises:
        InputError: too few crops, or all the same.
    """
    import torch

    from trackvae.config import ModelConfig, build
    from training.data import DataSet
    from training.schedules import REWO
    from training.trainer import TrainConfig, Trainer

    if len(crops) < options.batch_size:
        raise InputError(f"{len(crops)} crops to learn from, expected {options.batch_size} or more")
    kappa2 = options.unexplained * pixel_variance(crops)
    if not kappa2 > _NOTHING:
        raise InputError("all crops are the same, so there is nothing to learn")
    config = ModelConfig(
        observation=(3, *options.size),
        latent=options.latent,
        network="crop-conv",
        activation="silu",  # with ReLU the metric of so many dimensions is singular
        prior_hidden=(128, 128),
        prior_samples=8,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = build(config)
    settings = TrainConfig(
        options.steps,
        options.batch_size,
        options.learning_rate,
        final_learning_rate=options.learning_rate / 10,
        seed=options.seed,
        clip=options.clip,
        patience=0,
    )
    schedule = REWO(float(np.sqrt(kappa2)), nu=0.1, relative=True)
    trainer = Trainer(model, schedule, settings, flatness=_flatness(options))
    data = DataSet("crops", crops, crops[:0], crops[:0], {})
    summary = trainer.fit(data, on_step=lambda report: on_step(report.step) if on_step else None)
    model.eval()
    made = {
        "crops": len(crops),
        "kappa2": kappa2,
        "kappa_met_at": summary.kappa_met_at,
        "beta": summary.beta,
        "error_of_kappa2": summary.error / kappa2,
    }
    return LearnedVAE(model, config, made)


def _flatness(options: PixelOptions) -> Any:
    """The regulariser from one random probe; None without."""
    from training.objectives import Flatness, FlatnessConfig

    if not options.eta:
        return None
    if options.relative:
        return Flatness(FlatnessConfig(options.eta, rows=_ROWS, scale="own", flat_start=True))
    return Flatness(FlatnessConfig(eta=options.eta, penalty="absolute", rows=_ROWS))


def pixel_variance(crops: Image) -> float:
    """Mean variance of the pixels of ``(N, ...)`` uint8 crops about the mean crop, in [0, 1]^2."""
    total = np.zeros(crops.shape[1:])
    squares = 0.0
    for first in range(0, len(crops), 512):  # a copy in float64 would be eight times the crops
        some = crops[first : first + 512] / 255.0
        total += some.sum(axis=0)
        squares += float(np.square(some).sum())
    mean = total / max(len(crops), 1)
    return squares / max(crops.size, 1) - float(np.square(mean).mean())


# --- from sequences


@dataclass(frozen=True, slots=True, eq=False)
class FromPixels:
    """An encoder that is to be trained on crops before it describes any.

    Attributes:
        name: as it was asked for.
        options: of a VAE, which learns from detections; or of the supervised descriptor, which
            learns from the identities of the ground truth.
    """

    name: str
    options: PixelOptions | CosineConfig

    @property
    def supervised(self) -> bool:
        """Whether it needs labels."""
        return not isinstance(self.options, PixelOptions)

    def learn(self, sources: Sequence[Source]) -> tuple[Embedder, dict[str, Any]]:
        """Train it on sequences; plain values that say from what, and how it ended.

        Raises:
            InputError: too little to learn from.
        """
        from reid.embedder import Embedder

        if isinstance(self.options, PixelOptions):
            learned = learn_vae(unlabelled(sources, self.options.size), self.options)
            return Embedder((learned.model, learned.config)), learned.made
        network, made = learn_supervised(sources, self.options)
        return Embedder(network), made


def unlabelled(sources: Sequence[Source], size: tuple[int, int]) -> Image:
    """Crops ``(N, 3, H, W)`` of the detections that motion links."""
    most = _MOST_CROPS // len(sources)
    return np.concatenate([cut_crops(one, tracklets_of(one, most=most), size) for one in sources])


def labelled(sources: Sequence[Source], size: tuple[int, int]) -> tuple[Image, IntArray]:
    """Crops ``(N, 3, H, W)`` of the ground truth in every second frame, and whose they are (N,).

    People of different sequences are different people.
    """
    crops, ids, first = [], [], 0
    for one in sources:
        boxes = queries_of(one, stride=_LABELLED_STRIDE, gap=0)
        crops.append(cut_crops(one, boxes, size))
        ids.append(boxes.ids + first)
        first += int(boxes.ids.max()) + 1
    return np.concatenate(crops), np.concatenate(ids)


def learn_supervised(
    sources: Sequence[Source],
    options: CosineConfig,
    on_step: Callable[[int], None] | None = None,
) -> tuple[ResidualNetwork, dict[str, Any]]:
    """The supervised descriptor, trained on the identities of sequences; and how it ended."""
    from trackvae.residual import ResidualConfig
    from training.cosine_softmax import train_descriptor

    network = ResidualConfig()
    crops, ids = labelled(sources, network.size)
    trained = train_descriptor(
        crops, ids, options, network, lambda step, _: on_step(step) if on_step else None
    )
    return trained.network, {
        "crops": len(crops),
        "identities": trained.identities,
        "scale": trained.scale,
        "loss": trained.loss,
        "accuracy": trained.accuracy,
    }


def shape_of_metric(learned: LearnedVAE, crops: Image) -> dict[str, float]:
    """What the decoder's metric is like at the means of some crops ``(N, 3, H, W)``: medians."""
    import torch

    from reid.embedder import Embedder
    from trackvae.geometry import condition_number, jacobian, relative_flatness, scaling_factor

    rows = np.linspace(0, len(crops) - 1, min(_POINTS, len(crops))).round().astype(int)
    mean, _ = Embedder((learned.model, learned.config)).encode_crops(crops[rows])
    parts = [
        jacobian(learned.model.decode, z).detach().double()
        for z in torch.split(torch.from_numpy(mean), 8)  # 8 x 12288 x 128 in float64: 100 MB
    ]
    G = torch.cat([J.mT @ J for J in parts])
    return {
        "condition": float(condition_number(G).median()),
        "flatness": float(relative_flatness(G).median()),
        "c2": float(scaling_factor(G)),
    }

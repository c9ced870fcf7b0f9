"""How an appearance encoder is learned from tracklets that motion alone has linked.

In turn, each with the other's last result: tracklets are joined to objects by motion and by the
metric so far (:mod:`tracker.linking`), and the features are whitened by what varies within them
(:mod:`reid.projections`). Then an FMVAE learns in the whitened space: it encodes one crop and
decodes *another* crop of the same object, so that pose, light and background stop paying.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid.projections import LEAST_CROPS, RIDGE, Projection, fit_whitening, within_covariance
from tracker.linking import NONE, cut_at_overlaps, link_tracklets
from trackvae.appearance import AppearanceModel
from trackvae.arrays import FloatArray, IntArray
from trackvae.errors import InputError, UsageError

if TYPE_CHECKING:
    from trackvae.config import ModelConfig
    from trackvae.vae import VAE
    from training.data import DataSet
    from training.trainer import Report

STATE = "state.safetensors"  # of a training that can be gone on with
STATE_EVERY = 250  # steps


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """A video's crops, as motion has linked them.

    Attributes:
        name: of the video.
        frames: (N,) from 1.
        boxes: (N, 4) xyxy.
        ids: (N,) tracklets.
        features: (N, F) of the crops.
    """

    name: str
    frames: IntArray
    boxes: FloatArray
    ids: IntArray
    features: FloatArray


@dataclass(frozen=True)
class LearnOptions:
    """How it is learned.

    Attributes:
        features: name of the descriptor, of :data:`reid.descriptors.BY_HAND`.
        whitened: dimensions of the whitened features.
        ridge: of the whitening, in mean eigenvalues of what varies within an object.
        rounds: of joining tracklets and whitening.
        latent: dimensions of z.
        hidden: units of the encoder's layers; the decoder has them in reverse.
        slack: kappa^2 beside the variance within the objects, below which no decoder of another
            crop can come. With 1 the constraint is not met and REWO does not leave its initial
            phase.
        eta: weight of the flatness regulariser; 0: a VHP-VAE.
        other: decode another crop of the object; False: the crop itself.
        steps: of training.
        batch_size: crops of a step.
        learning_rate: of Adam at the start; falls on a cosine.
        seed: of weights, order and noise.
    """

    features: str = "colours-and-shape"
    whitened: int = 192
    ridge: float = RIDGE
    rounds: int = 3
    latent: int = 64
    hidden: tuple[int, ...] = (512,)
    slack: float = 1.3
    eta: float = 64.0
    other: bool = True
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        for name in ("whitened", "rounds", "latent", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not (self.slack > 0 and self.eta >= 0 and self.learning_rate > 0):
            raise UsageError("slack and learning rate must be positive, eta 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Tracklets joined, and the whitening that they say.

    Attributes:
        ids: (N,) objects of all videos' crops one after the other; ``NONE`` where nobody knows.
        projection: of the features.
    """

    ids: IntArray
    projection: Projection


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A learned encoder.

    Attributes:
        encoder: what embeds crops.
        model: the whole VAE, over whitened features.
        config: of the VAE.
        made: plain values: how much it was learned from, and how the training ended.
    """

    encoder: AppearanceModel
    model: VAE
    config: ModelConfig
    made: dict[str, Any] = field(default_factory=dict)


def join(
    observed: Sequence[Observed],
    options: LearnOptions,
    *,
    on_round: Callable[[int], None] | None = None,
) -> Objects:
    """Tracklets to objects and features to whitened ones, in turn.

    Args:
        observed: of each video.
        options: how.
        on_round: called after each round with how many are done.

    Raises:
        InputError: nothing to learn from: no tracklet is long enough.
    """
    if not observed:
        raise UsageError("no video to learn from")
    features = np.concatenate([one.features for one in observed]).astype(np.float32, copy=False)
    tracklets = one_after_another([one.ids for one in observed])
    cut = [cut_at_overlaps(one.frames, one.boxes, one.ids) for one in observed]
    places = np.cumsum([0, *(len(one.frames) for one in observed)])
    projection = fit_whitening(features, tracklets, options.whitened, ridge=options.ridge)
    ids = tracklets
    for done in range(1, options.rounds + 1):
        joined = []
        for one, pieces, first in zip(observed, cut, places[:-1], strict=True):
            some = projection.apply(features[first : first + len(one.frames)])
            joined.append(link_tracklets(one.frames, one.boxes, pieces, some))
        ids = one_after_another(joined)
        projection = _whitened(features, ids, options)
        if on_round is not None:
            on_round(done)
    return Objects(ids, projection)


def whiten(
    observed: Sequence[Observed], objects: Sequence[IntArray], options: LearnOptions
) -> Projection:
    """The whitening of several videos, whose objects are known.

    Args:
        observed: of each video.
        objects: of each video's crops, ``NONE`` where nobody knows.
        options: how.
    """
    features = np.concatenate([one.features for one in observed]).astype(np.float32, copy=False)
    return _whitened(features, one_after_another(objects), options)


def _whitened(features: FloatArray, ids: IntArray, options: LearnOptions) -> Projection:
    known = ids != NONE
    return fit_whitening(features[known], ids[known], options.whitened, ridge=options.ridge)


def one_after_another(ids: Sequence[IntArray]) -> IntArray:
    """The videos' numbers one after the other, no number in two of them."""
    parts, first = [], 0
    for some in ids:
        parts.append(np.where(some == NONE, NONE, some + first))
        first += int(some.max(initial=-1)) + 1
    return np.concatenate(parts)


def learn(
    observed: Sequence[Observed],
    options: LearnOptions,
    *,
    objects: Objects | None = None,
    folder: Path | None = None,
    on_step: Callable[[Report], None] | None = None,
) -> Learned:
    """Join tracklets, then train.

    Args:
        observed: of each video.
        options: how.
        objects: of an earlier :func:`join` with these options.
        folder: where the training's state is kept, to go on with if it is there.
        on_step: called after each step of training.

    Raises:
        InputError: too little to learn from, or a state that does not belong to it.
    """
    import torch

    from trackvae.config import build
    from training.objectives import Flatness, FlatnessConfig
    from training.schedules import REWO
    from training.trainer import TrainConfig, Trainer

    found = objects or join(observed, options)
    known = found.ids != NONE
    features = np.concatenate([one.features for one in observed])[known]
    data, scale, within = _data(found.projection.apply(features), found.ids[known], options)
    config = _model_config(data.shape[0], within, options)
    torch.manual_seed(options.seed)
    model = build(config)
    kappa = float(np.sqrt(options.slack * within))
    settings = TrainConfig(
        options.steps,
        options.batch_size,
        options.learning_rate,
        final_learning_rate=options.learning_rate / 100,
        seed=options.seed,
        checkpoint_every=STATE_EVERY,
        patience=0,
    )
    flatness = None
    if options.eta:
        flatness = Flatness(FlatnessConfig(eta=options.eta, rows=16, scale="own", flat_start=True))
    trainer = Trainer(model, REWO(kappa, nu=0.05, relative=True), settings, flatness=flatness)
    state = None if folder is None else folder / STATE
    if state is not None and state.is_file():
        trainer.resume(state)
    summary = trainer.fit(data, checkpoint=state, on_step=on_step)
    model.eval()
    made = {
        "videos": [one.name for one in observed],
        "crops": len(features),
        "tracklets": sum(len(np.unique(one.ids)) for one in observed),
        "objects": len(np.unique(found.ids[known])),
        "kappa_met_at": summary.kappa_met_at,
        "beta": summary.beta,
        "error_of_kappa2": summary.error / kappa**2,
    }
    return Learned(_encoder(model, config, found.projection, scale, options), model, config, made)


def linear_encoder(projection: Projection, options: LearnOptions) -> AppearanceModel:
    """The encoder that joining alone gives: z is the whitened features, and its variance their 1.

    It knows of no object but through Sigma_w, so that it suits videos that it has not seen; the
    FMVAE's suits the video that it was learned from.
    """
    d = projection.matrix.shape[1]
    weight = np.concatenate([np.eye(d), np.zeros((d, d))], axis=1).astype(np.float32)
    layer = (weight, np.zeros(2 * d, np.float32))
    return AppearanceModel(options.features, projection.mean, projection.matrix, (layer,))


def _data(
    whitened: FloatArray, ids: IntArray, options: LearnOptions
) -> tuple[DataSet, float, float]:
    """The crops to learn from, scaled to a mean square of 1; the scale, the variance within."""
    from training.data import DataSet, Partners

    scale = float(np.sqrt(np.square(whitened).mean()))
    x = np.asarray(whitened / scale, np.float32)
    within = within_covariance(x, ids, least=LEAST_CROPS)
    partners = Partners.of(ids, options.seed) if options.other else None
    data = DataSet("crops", x, x[:0], x[:0], {}, partners=partners)
    return data, scale, float(np.trace(within)) / len(within)


def _model_config(observed: int, within: float, options: LearnOptions) -> ModelConfig:
    """The VAE: a Gaussian of the tracklets' own noise, a hierarchical prior."""
    from trackvae.config import ModelConfig

    return ModelConfig(
        observation=(observed,),
        latent=options.latent,
        hidden=options.hidden,
        activation="silu",
        sigma=float(np.sqrt(within)),
        prior="vhp",
        prior_hidden=(128, 128),
        prior_samples=4,
    )


def _encoder(
    model: VAE, config: ModelConfig, projection: Projection, scale: float, options: LearnOptions
) -> AppearanceModel:
    """The encoder alone, with the whitening before it."""
    from torch import nn

    linear = [layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear)]
    layers = tuple(
        (layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy())
        for layer in linear
    )
    return AppearanceModel(
        options.features,
        projection.mean,
        projection.matrix / np.float32(scale),
        layers,
        config.activation,
    )


def check_features(observed: Sequence[Observed], dim: int) -> None:
    """Refuse observed crops of other features.

    Raises:
        InputError: so.
    """
    for one in observed:
        if one.features.shape != (len(one.frames), dim):
            raise InputError(
                f"{one.name}: features of shape {one.features.shape}, expected "
                f"({len(one.frames)}, {dim})"
            )

"""Encoders trained from pixels, once for all experiments: the thesis's two, and the supervised one.

The thesis's learn from a video's own detections, whichever detections are tracked later. The
supervised one learns from the identities of all *other* videos, never from those of the video that
it describes. How: :mod:`tools.reid_eval.pixels`, :mod:`training.cosine_softmax`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.reproduce.experiment import Context, made_sequence

if TYPE_CHECKING:
    from reid.embedder import Embedder
    from tools.reid_eval.pixels import PixelOptions
    from tracker.io.sources import Source
    from training.cosine_softmax import CosineConfig

_SEEDS, _SUPERVISED_SEEDS = 1, 1  # a training takes 1 to 2 minutes
VIDEOS = ("MOT16-09", "PETS09-S2L1", "TUD-Stadtmitte", "TUD-Campus")
SUPERVISED = "cosine-softmax"
VAES: Mapping[str, Mapping[str, Any]] = {  # the thesis's by its eta, and one more; their options
    "vhp-vae": {},
    "vhp-fmvae-300": {"eta": 300.0},
    "vhp-fmvae-3000": {"eta": 3000.0},
    "vhp-fmvae-relative": {"eta": 512.0, "relative": True},  # 4 for each latent dimension
}
_QUICK_STEPS = _QUICK_BATCH = 8
_WEIGHTS = "encoder.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """An encoder, and what is known of it.

    Attributes:
        embedder: describes boxes.
        made: plain values: from what it was learned, how the training ended; of a VAE also
            ``condition`` and ``flatness`` of its decoder.
    """

    embedder: Embedder
    made: Mapping[str, Any]


def is_one(name: str) -> bool:
    """Whether an encoder of that name is trained here."""
    return name in VAES or name == SUPERVISED


def seeds_of(context: Context, name: str) -> tuple[int, ...]:
    """Those that an encoder is trained with."""
    return context.seeds[: _SUPERVISED_SEEDS if name == SUPERVISED else _SEEDS]


def settings_of(context: Context, name: str, video: str, seed: int) -> dict[str, Any]:
    """All that an encoder depends on, plain values."""
    learning = asdict(_options(context, name, seed))
    if not learning.get("relative"):  # as it was before there was a choice
        learning.pop("relative", None)
    return {
        "encoder": name,
        "from": _learned_from(context, name, video),
        "learning": learning,
    }


def trained(context: Context, name: str, video: str, seed: int) -> Trained:
    """An encoder for a video, from disk where it is there already.

    Args:
        context: of any experiment; the weights lie beside its work.
        name: one of :data:`VAES`, or :data:`SUPERVISED`.
        video: that is to be described: one of :data:`VIDEOS`, or ``made``.
        seed: of the training.
    """
    from reid.embedder import Embedder

    together = replace(context, work=context.work.parent / _folder(context))
    settings = settings_of(context, name, video, seed)

    def compute(folder: Path) -> dict[str, Any]:
        start = time.process_time()
        found = _train(context, folder, name, settings["from"], seed)
        seconds = round(time.process_time() - start)
        return {"folder": folder.name, "cpu_seconds": seconds} | found

    made = together.part(f"{name}-{video}-{seed}", settings, compute)
    about = {"encoder": name, "video": video, "seed": seed}
    about |= {key: value for key, value in made.items() if key != "folder"}
    return Trained(Embedder(together.work / made["folder"] / _WEIGHTS), about)


def _folder(context: Context) -> str:
    return "pixel-encoders-quick" if context.quick else "pixel-encoders"


def _learned_from(context: Context, name: str, video: str) -> list[str]:
    """Names of the videos that an encoder for this one learns from."""
    if name != SUPERVISED:
        return [video]
    if video == "made":
        return ["made otherwise"]
    root = context.data / "mot"
    return [other for other in VIDEOS if other != video and (root / other).is_dir()]


def _options(context: Context, name: str, seed: int) -> PixelOptions | CosineConfig:
    from tools.reid_eval.pixels import PixelOptions
    from training.cosine_softmax import CosineConfig

    if name == SUPERVISED:
        labelled = CosineConfig(seed=seed)
        if not context.quick:
            return labelled
        return replace(labelled, steps=_QUICK_STEPS, batch_size=_QUICK_BATCH)
    plain = PixelOptions(**VAES[name], seed=seed)
    if not context.quick:
        return plain
    return replace(plain, latent=8, unexplained=0.95, steps=_QUICK_STEPS, batch_size=_QUICK_BATCH)


def _train(
    context: Context, folder: Path, name: str, videos: Sequence[str], seed: int
) -> dict[str, Any]:
    """Train, leave the weights behind; what is known of the encoder."""
    from tools.reid_eval.pixels import (
        PixelOptions,
        learn_supervised,
        learn_vae,
        shape_of_metric,
        unlabelled,
    )
    from trackvae.residual import save_residual
    from trackvae.storage import save

    sources = [_source(context, video) for video in videos]
    options = _options(context, name, seed)
    if not isinstance(options, PixelOptions):
        network, made = learn_supervised(sources, options)
        save_residual(folder / _WEIGHTS, network, {"trained_on": list(videos), **made})
        return made
    crops = unlabelled(sources, options.size)
    learned = learn_vae(crops, options)
    save(folder / _WEIGHTS, learned.model, learned.config)
    return learned.made | shape_of_metric(learned, crops[:8] if context.quick else crops)


def _source(context: Context, video: str) -> Source:
    from tracker.io.sources import open_frames

    if video == "made":
        return open_frames(made_sequence(context))
    if video == "made otherwise":
        return open_frames(made_sequence(context, seed=1))
    return open_frames(context.data / "mot" / video)

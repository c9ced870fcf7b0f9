"""``default-encoder``: the encoder that comes with the software, and what it scores elsewhere.

It is fitted to the unlabelled detections of all sequences that are held: tracklets are joined and
the features whitened by what varies within an object. An FMVAE behind that whitening recognises
better in the video that it was learned from, and worse in any other (``recognition``), so none is
shipped. What it is worth on a video that it has not seen is measured with that video left out.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from reid.metrics import score_retrieval, within_video
from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.recognition import ALSO_LEARNED_FROM, Opened, gap, names

if TYPE_CHECKING:
    from tools.fit.learning import LearnOptions
    from trackvae.appearance import AppearanceModel

TITLE = "The shipped encoder: recognition in a sequence that was left out"
SEEDS = 1

_LICENCE = (
    "MOTChallenge's sequences are CC BY-NC-SA 3.0: these weights are for research, with attribution"
)
_LIMITS = (
    "people filmed from the side or from above, in daylight; colours and outlines only: people who "
    "are dressed alike are confused"
)


def run(context: Context) -> Outcome:
    """Score with each sequence left out, then fit to all and write the weights."""
    opened, options = Opened(context), recipe()
    every = names(context)
    rows: list[dict[str, Any]] = []
    for name in every:
        if name in ALSO_LEARNED_FROM:
            continue
        rest = [other for other in every if other != name] or [name]
        for label, encoder in (("shipped recipe", _fit(opened, rest, options)), ("raw", None)):
            scores = _score(context, opened, name, options, encoder)
            shown = "RGB, Lab, HSV stripes and gradients, as they are" if label == "raw" else label
            rows += [row(shown, f"{metric} {name}", [value]) for metric, value in scores.items()]
    card = {
        "trained_on": every,
        "labels": "none: the sequences' own detections, linked by motion",
        "licence": _LICENCE,
        "limits": _LIMITS,
        "scores_left_out": {
            one["metric"]: one["ours"]["median"]
            for one in rows
            if one["method"] == "shipped recipe"
        },
        "options": asdict(options),
    }
    path = context.figures.parents[2] / "trackvae" / "weights" / "default.safetensors"
    replace(_fit(opened, every, options), card=card).save(path)
    config = {"options": asdict(options), "sequences": every, "gap": gap(context)}
    return Outcome(rows, config, {"card": card, "bytes": path.stat().st_size})


def recipe() -> LearnOptions:
    """More dimensions and a stronger ridge than for the video that it is fitted to."""
    from tools.fit.learning import LearnOptions

    return LearnOptions(whitened=512, ridge=2.0)


def _fit(opened: Opened, sequences: list[str], options: LearnOptions) -> AppearanceModel:
    """Joined within each sequence as ``trackvae fit`` joins, whitened over all."""
    from tools.fit.learning import LearnOptions, join, linear_encoder, whiten

    observed = [opened.get(name, options.features).observed(options.features) for name in sequences]
    objects = [join([one], LearnOptions()).ids for one in observed]
    return linear_encoder(whiten(observed, objects, options), options)


def _score(
    context: Context,
    opened: Opened,
    name: str,
    options: LearnOptions,
    encoder: AppearanceModel | None,
) -> dict[str, float]:
    """Rank-1 and mAP, by cosine."""
    sequence = opened.get(name, options.features)
    vectors, _ = sequence.features[options.features]
    if encoder is not None:
        vectors, _ = encoder.posterior(vectors)
    ids, frames = sequence.queries.ids, sequence.queries.frames
    found = score_retrieval(
        vectors, vectors, ids, ids, within_video(frames, gap(context)), metric="cosine"
    )
    return {"rank-1": found.rank1, "mAP": found.mAP}

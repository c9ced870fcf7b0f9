"""``default-encoder``: the encoder that comes with the software, and what it scores elsewhere.

It is fitted to the unlabelled detections of all sequences that are held: tracklets are joined and
the features whitened by what varies within an object. An FMVAE behind that whitening recognises
better in the video that it was learned from, and worse in any other (``recognition``), so none is
shipped. What it is worth on a video that it has not seen is measured with that video left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tools.reproduce.experiment import Context, Outcome, row
from tools.reproduce.recognition import ALSO_LEARNED_FROM, Opened, gap, names

if TYPE_CHECKING:
    from tools.fit.learning import LearnOptions, Observed
    from trackvae.appearance import AppearanceModel
    from trackvae.arrays import IntArray

TITLE = "The shipped encoder: recognition in a sequence that was left out"
SEEDS = 1

_SHIPPED, _RAW = "shipped recipe", "RGB, Lab, HSV stripes and gradients, as they are"

_LICENCE = (
    "MOTChallenge's sequences are CC BY-NC-SA 3.0: these weights are for research, with attribution"
)
_LIMITS = (
    "people filmed from the side or from above, in daylight; colours and outlines only: people who "
    "are dressed alike are confused"
)


def run(context: Context) -> Outcome:
    """Score with each sequence left out, then fit to all and write the weights."""
    from tools.fit.learning import LearnOptions, join

    opened, options = Opened(context), recipe()
    every, features = names(context), options.features
    observed = {name: opened.get(name, features).observed(features) for name in every}
    # as trackvae fit joins: with the options for the video itself
    objects = {name: join([observed[name]], LearnOptions()).ids for name in every}
    rows: list[dict[str, Any]] = []
    for name in every:
        if name in ALSO_LEARNED_FROM:
            continue
        rest = [other for other in every if other != name] or [name]
        sequence = opened.get(name, features)
        vectors, _ = sequence.features[features]
        encoded, _ = _fit(observed, objects, rest, options).posterior(vectors)
        for label, seen in ((_SHIPPED, encoded), (_RAW, vectors)):
            scores = sequence.scores(seen, gap(context))
            rows.append(row(label, f"rank-1 {name}", [scores.rank1]))
            rows.append(row(label, f"mAP {name}", [scores.mAP]))
    card = {
        "trained_on": every,
        "labels": "none: the sequences' own detections, linked by motion",
        "licence": _LICENCE,
        "limits": _LIMITS,
        "scores_left_out": {
            one["metric"]: one["ours"]["median"] for one in rows if one["method"] == _SHIPPED
        },
        "options": asdict(options),
    }
    path = context.figures.parents[2] / "trackvae" / "weights" / "default.safetensors"
    replace(_fit(observed, objects, every, options), card=card).save(path)
    config = {"options": asdict(options), "sequences": every, "gap": gap(context)}
    return Outcome(rows, config, {"card": card, "bytes": path.stat().st_size})


def recipe() -> LearnOptions:
    """More dimensions and a stronger ridge than for the video that it is fitted to."""
    from tools.fit.learning import LearnOptions

    return LearnOptions(whitened=512, ridge=2.0)


def _fit(
    observed: Mapping[str, Observed],
    objects: Mapping[str, IntArray],
    sequences: Sequence[str],
    options: LearnOptions,
) -> AppearanceModel:
    """The encoder of some of the sequences, whose tracklets are joined."""
    from tools.fit.learning import linear_encoder, whiten

    crops, ids = [observed[name] for name in sequences], [objects[name] for name in sequences]
    return linear_encoder(whiten(crops, ids, options), options)

"""The scores: CLEAR, Identity and HOTA as TrackEval, the official kit, computes them.

Nothing is re-implemented: TrackEval's metric classes get the prepared sequence in memory. So
``IDs`` and ``FM`` are TrackEval's counts; motmetrics, from which the events come, counts switches
by a slightly different rule (see :mod:`tracker.evaluation.events`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from tracker.evaluation.preprocess import MATCH_IOU, ScoredSequence

RawScores: TypeAlias = dict[str, dict[str, Any]]  # metric family to TrackEval's own fields


@dataclass(frozen=True, slots=True)
class Scores:
    """One row of the table: the columns of the thesis's Table 5.3, then HOTA's.

    Rates are percentages (0 to 100; MOTA and MOTAL have no lower bound), counts are integers.

    Attributes:
        IDF1: F1 of the identities' best one-to-one assignment (Ristani et al., 2016).
        IDP: its precision.
        IDR: its recall.
        Recall: share of the ground-truth boxes that are found.
        Precision: share of the result boxes that are right.
        FAR: false positives a frame.
        MT: identities tracked in more than 80% of their frames.
        PT: identities in between.
        ML: identities tracked in less than 20% of their frames.
        FP: false positives.
        FN: missed boxes.
        IDs: identity switches, TrackEval's count.
        FM: fragmentations, TrackEval's count.
        MOTA: 1 − (FN + FP + IDs) / boxes.
        MOTP: mean IoU of the matches.
        MOTAL: MOTA with log10(IDs) in the place of IDs.
        HOTA: geometric mean of DetA and AssA, averaged over the thresholds 0.05 to 0.95.
        DetA: detection accuracy, averaged in the same way.
        AssA: association accuracy.
        LocA: localisation accuracy.
        GT: identities in the ground truth.
        Frames: frames in the sequence.
    """

    IDF1: float
    IDP: float
    IDR: float
    Recall: float
    Precision: float
    FAR: float
    MT: int
    PT: int
    ML: int
    FP: int
    FN: int
    IDs: int
    FM: int
    MOTA: float
    MOTP: float
    MOTAL: float
    HOTA: float
    DetA: float
    AssA: float
    LocA: float
    GT: int
    Frames: int

    def to_dict(self) -> dict[str, float | int]:
        """Column name to value."""
        return asdict(self)


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Scores))

_CLEAR_RATES = {
    "Recall": "CLR_Re",
    "Precision": "CLR_Pr",
    "MOTA": "MOTA",
    "MOTP": "MOTP",
    "MOTAL": "MOTAL",
}
_CLEAR_COUNTS = {
    "MT": "MT",
    "PT": "PT",
    "ML": "ML",
    "FP": "CLR_FP",
    "FN": "CLR_FN",
    "IDs": "IDSW",
    "FM": "Frag",
}
_IDENTITY_RATES = ("IDF1", "IDP", "IDR")
_HOTA_RATES = ("HOTA", "DetA", "AssA", "LocA")


@cache
def _families() -> dict[str, Any]:
    """TrackEval's metrics; they keep no state between sequences."""
    from trackeval.metrics import CLEAR, HOTA, Identity  # 0.6 s, most of it scipy

    # TrackEval prints the configuration unless told not to.
    config = {"THRESHOLD": MATCH_IOU, "PRINT_CONFIG": False}
    return {"CLEAR": CLEAR(dict(config)), "Identity": Identity(dict(config)), "HOTA": HOTA()}


def measure(sequence: ScoredSequence) -> RawScores:
    """Every field that TrackEval computes for one sequence, by family."""
    data = {
        "seq": sequence.name,
        "num_timesteps": sequence.frames,
        "num_gt_ids": len(sequence.gt_labels),
        "num_tracker_ids": len(sequence.track_labels),
        "num_gt_dets": sum(map(len, sequence.gt_ids)),
        "num_tracker_dets": sum(map(len, sequence.track_ids)),
        "gt_ids": sequence.gt_ids,
        "tracker_ids": sequence.track_ids,
        "similarity_scores": sequence.similarity,
    }
    return {name: family.eval_sequence(data) for name, family in _families().items()}


def combine(sequences: Mapping[str, RawScores]) -> RawScores:
    """The fields over all sequences, by TrackEval's rule: counts are added, rates computed anew."""
    return {
        name: family.combine_sequences({seq: raw[name] for seq, raw in sequences.items()})
        for name, family in _families().items()
    }


def scores(raw: RawScores, identities: int, frames: int) -> Scores:
    """The table's row from TrackEval's fields.

    FAR divides by the true number of frames: TrackEval's own ``FP_per_frame``, equal otherwise,
    leaves out the frames of a sequence without any result (or any ground truth).

    Args:
        raw: by family, of one sequence or of all.
        identities: in the ground truth, after pre-processing.
        frames: in the sequence or sequences.
    """
    clear, identity, hota = raw["CLEAR"], raw["Identity"], raw["HOTA"]
    row: dict[str, Any] = {name: 100.0 * float(identity[name]) for name in _IDENTITY_RATES}
    row |= {name: 100.0 * float(clear[field]) for name, field in _CLEAR_RATES.items()}
    row |= {name: int(clear[field]) for name, field in _CLEAR_COUNTS.items()}
    row |= {name: 100.0 * float(np.mean(hota[name])) for name in _HOTA_RATES}
    return Scores(**row, FAR=row["FP"] / max(1, frames), GT=identities, Frames=frames)

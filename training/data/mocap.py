"""Human motion as vectors of 50 joint angles (thesis, sections 3.5.2, 5.1.4 and 5.2.3.1).

The thesis prepares CMU's recordings "as described by N. Chen et al. (2015)": 50 numbers a frame. An
``.amc`` frame has 62. Six are the root's (where the body stands and faces, which is no posture),
and six are the same in every frame of every recording, because the capture's model does not move
them: the two clavicles (ry, rz) and the fingers (rx). Without both, 50 are left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError
from training.data.dataset import PARTS, DataSet, Standardisation
from training.data.motion import CMU_RATE, Motion, is_jog, read_amc, read_walk_jog
from training.data.skeleton import ROOT, Skeleton, read_asf

_LEG = (("femur", "xyz"), ("tibia", "x"), ("foot", "xz"), ("toes", "x"))
_SPINE = ("lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head")
_ARM = (("humerus", "xyz"), ("radius", "x"), ("wrist", "y"), ("hand", "xz"), ("thumb", "xz"))

FEATURES: tuple[tuple[str, str], ...] = (
    *((s + bone, f"r{a}") for s in "lr" for bone, axes in _LEG for a in axes),
    *((bone, f"r{a}") for bone in _SPINE for a in "xyz"),
    *((s + bone, f"r{a}") for s in "lr" for bone, axes in _ARM for a in axes),
)
"""Bone and channel of each of the 50 features."""

STEP = 4  # 120 to 30 frames a second, the rate of the walks and jogs in the .mat
_HELD_OUT = 5  # every fifth recording
_FEW = 3  # the last recording of fewer than five; of fewer than this, the last fifth of each
_WALK_JOG = "cmu35WalkJog.mat"

# Trials beside subject 35's. Of 07 and 08 those in which no thumb's angle jumps by half a turn.
_TRIALS: dict[str, tuple[str, tuple[str, ...]]] = {
    "balance": ("49", ("18", "19", "20")),
    "walk 07": ("07", ("01", "02", "03", "06", "07", "08", "09", "10", "11")),
    "stride 08": ("08", ("02", "03", "06", "08")),
}
CMU_MOTIONS = ("walk", "jog", *_TRIALS)


def joint_features(motion: Motion) -> FloatArray:
    """The 50 joint angles of each frame.

    Returns:
        (T, 50), degrees, in the order of :data:`FEATURES`.

    Raises:
        InputError: the motion's skeleton lacks one of them.
    """
    missing = [
        f"{bone} {channel}" for bone, channel in FEATURES if (bone, channel) not in motion.columns
    ]
    if missing:
        raise InputError(
            f"{motion.name}: a skeleton without {', '.join(missing[:3])}; expected CMU's"
        )
    return motion.values[:, [motion.columns.index(feature) for feature in FEATURES]]


def pose(features: FloatArray, skeleton: Skeleton) -> FloatArray:
    """Values for :func:`joint_positions` from features: a body at the origin that faces z.

    Args:
        features: (T, 50), degrees.
        skeleton: with CMU's bones; what the features leave out stays at rest.

    Returns:
        (T, C) with the skeleton's columns.
    """
    values = np.zeros((len(features), len(skeleton.columns)))
    values[:, [skeleton.columns.index(feature) for feature in FEATURES]] = features
    return values


def motion_set(
    name: str, motions: Mapping[str, Sequence[Motion]], *, rate: float = CMU_RATE / STEP
) -> DataSet:
    """A data set of postures from recordings of named motions.

    Neighbouring frames are nearly equal, so a test at random frames would be a test on the
    training data. Whole recordings are held out: every fifth, or the last of three or four; of a
    motion with one or two, the last fifth of each.

    Args:
        name: for reports.
        motions: recordings of each motion; its place is the label.
        rate: frames a second to which all are thinned out.

    Returns:
        (N, 50), each feature standardised by the training part's mean and deviation.

    Raises:
        InputError: nothing to train on, or a skeleton other than CMU's.
        UsageError: a rate that a recording cannot be thinned to.
    """
    frames: dict[str, list[FloatArray]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    for label, recordings in enumerate(motions.values()):
        features = [joint_features(_at_rate(recording, rate)) for recording in recordings]
        for part, found in zip(("train", "test"), _hold_out(features), strict=True):
            frames[part] += found
            labels[part] += [label] * sum(map(len, found))
    if not frames["train"]:
        raise InputError(f"{name}: no recordings")
    scale = Standardisation.of(np.concatenate(frames["train"]))
    parts = {part: scale.apply(np.concatenate(found)) for part, found in frames.items()}
    counts = ", ".join(f"{len(found)} of {motion}" for motion, found in motions.items())
    return DataSet(
        name=name,
        train=parts["train"],
        validation=parts["train"][:0],
        test=parts["test"],
        labels={part: np.array(labels.get(part, []), dtype=np.int64) for part in PARTS},
        label_names=tuple(motions),
        standardisation=scale,
        note=f"recordings: {counts}; {rate:g} frames a second; every {_HELD_OUT}th recording (the "
        f"last of {_FEW} or 4, the last {_HELD_OUT}th of each of fewer) to test on",
    )


def _hold_out(recordings: list[FloatArray]) -> tuple[list[FloatArray], list[FloatArray]]:
    """One motion's recordings to train on, and those to test on."""
    if len(recordings) < _FEW:
        cuts = [len(frames) - len(frames) // _HELD_OUT for frames in recordings]
        both = list(zip(recordings, cuts, strict=True))
        return [frames[:cut] for frames, cut in both], [frames[cut:] for frames, cut in both]
    last = min(_HELD_OUT, len(recordings)) - 1
    held = set(range(last, len(recordings), _HELD_OUT))
    return (
        [frames for row, frames in enumerate(recordings) if row not in held],
        [recordings[row] for row in sorted(held)],
    )


def _at_rate(motion: Motion, rate: float) -> Motion:
    step = motion.rate / rate
    if step < 1 or step != int(step):
        raise UsageError(
            f"{motion.name}: {motion.rate:g} frames a second cannot be thinned to {rate:g}"
        )
    return motion.every(int(step))


def read_subject(folder: str | Path) -> tuple[Skeleton, list[Motion]]:
    """A subject's skeleton and every motion of it: one ``.asf`` and its ``.amc`` files.

    Raises:
        InputError: none, or more than one skeleton, no motion, or a damaged file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found = sorted(folder.glob("*.asf"))
    if len(found) != 1:
        raise InputError(f"{folder}: {len(found) or 'no'} .asf skeletons in it, expected one")
    skeleton = read_asf(found[0])
    motions = [read_amc(path, skeleton) for path in sorted(folder.glob("*.amc"))]
    if not motions:
        raise InputError(f"{folder}: no .amc motions beside {found[0].name}")
    return skeleton, motions


def subjects(folder: str | Path) -> DataSet:
    """A subject's folder, or a folder of them: one label a subject.

    Raises:
        InputError: no skeletons in it, or a damaged file.
    """
    folder = Path(folder)
    homes = sorted({path.parent for path in folder.rglob("*.asf")})
    if not homes:
        raise InputError(f"{folder}: no .asf skeletons in it")
    return motion_set(str(folder), {home.name: read_subject(home)[1] for home in homes})


def cmu(folder: str | Path, motions: Sequence[str] = CMU_MOTIONS) -> DataSet:
    """The thesis's kind of motions, as far as we hold them.

    Subject 35 walks (22 recordings) and jogs (9), from ``cmu35WalkJog.mat``; subject 49 lifts an
    arm, then balances on one leg (3). The thesis's waving, punching (143) and kicking (74) are not
    here; in their place other subjects' walks: 07's of 1.0 to 1.7 m/s, and 08's, of long strides
    and high arms, of 1.5 to 1.8 m/s.

    Args:
        folder: with ``35/35.asf``, ``cmu35WalkJog.mat``, and the folders of the other subjects.
        motions: which of :data:`CMU_MOTIONS`.

    Raises:
        InputError: a file is missing or damaged.
        UsageError: no such motion.
    """
    folder = Path(folder)
    for motion in motions:
        if motion not in CMU_MOTIONS:
            raise UsageError(f"motion is {motion!r}, expected some of {', '.join(CMU_MOTIONS)}")
    return motion_set("cmu", {motion: _recordings(folder, motion) for motion in motions})


def _recordings(folder: Path, motion: str) -> list[Motion]:
    if motion in _TRIALS:
        subject, trials = _TRIALS[motion]
        skeleton = read_asf(folder / subject / f"{subject}.asf")
        return [read_amc(folder / subject / f"{subject}_{t}.amc", skeleton) for t in trials]
    skeleton = read_asf(folder / "35" / "35.asf")
    both = read_walk_jog(folder / _WALK_JOG, skeleton)
    return [m for m in both if is_jog(m, skeleton) == (motion == "jog")]


def without_root(motion: Motion) -> FloatArray:
    """The motion's values (T, C) with the body held at the origin, for pictures."""
    values = motion.values.copy()
    values[:, [i for i, (bone, _) in enumerate(motion.columns) if bone == ROOT]] = 0.0
    return values

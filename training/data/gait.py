"""A made skeleton that walks, jogs and balances: motion capture for tests, without a download.

It has CMU's bones and columns under made lengths, at rest with arms stretched out; the joints swing
as sines of one phase. It looks like a walk and is not one: use it to try code, never to report.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackvae.arrays import FloatArray
from trackvae.errors import UsageError
from training.data.dataset import DataSet
from training.data.mocap import motion_set
from training.data.motion import CMU_RATE, Motion
from training.data.skeleton import ROOT, ROOT_CHANNELS, Skeleton, joint_positions

# Bone, what it hangs on, direction (x left, y up, z ahead; mirrored on the right), metres, and
# the axes that it turns about.
_SIDE = (
    ("hipjoint", ROOT, (0.7, -0.7, 0.1), 0.14, ""),
    ("femur", "hipjoint", (0.0, -1.0, 0.0), 0.42, "xyz"),
    ("tibia", "femur", (0.0, -1.0, 0.0), 0.43, "x"),
    ("foot", "tibia", (0.0, -0.3, 1.0), 0.14, "xz"),
    ("toes", "foot", (0.0, 0.0, 1.0), 0.07, "x"),
)
_TRUNK = (
    ("lowerback", ROOT, (0.0, 1.0, 0.0), 0.12, "xyz"),
    ("upperback", "lowerback", (0.0, 1.0, 0.0), 0.12, "xyz"),
    ("thorax", "upperback", (0.0, 1.0, 0.0), 0.12, "xyz"),
    ("lowerneck", "thorax", (0.0, 1.0, 0.0), 0.09, "xyz"),
    ("upperneck", "lowerneck", (0.0, 1.0, 0.1), 0.09, "xyz"),
    ("head", "upperneck", (0.0, 1.0, 0.0), 0.10, "xyz"),
)
_ARM = (
    ("clavicle", "thorax", (0.95, 0.3, 0.0), 0.19, "yz"),
    ("humerus", "clavicle", (1.0, 0.0, 0.0), 0.29, "xyz"),
    ("radius", "humerus", (1.0, 0.0, 0.0), 0.20, "x"),
    ("wrist", "radius", (1.0, 0.0, 0.0), 0.09, "y"),
    ("hand", "wrist", (1.0, 0.0, 0.0), 0.05, "xz"),
    ("fingers", "hand", (1.0, 0.0, 0.0), 0.04, "x"),
    ("thumb", "wrist", (0.7, 0.0, 0.7), 0.05, "xz"),
)
_SHARED = (ROOT, "thorax")


@dataclass(frozen=True, slots=True)
class _Style:
    """How a motion swings: steps a second, metres a second, and amplitudes in degrees."""

    cadence: float
    speed: float
    hip: float
    knee: float
    arm: float
    elbow: float
    lean: float
    raised: float  # of the arms from the body
    lifted: float = 0.0  # the left thigh


_STYLES = {
    "walk": _Style(0.95, 1.2, 24.0, 28.0, 18.0, 15.0, 3.0, 12.0),
    "jog": _Style(1.35, 3.3, 36.0, 48.0, 34.0, 80.0, 10.0, 20.0),
    "balance": _Style(0.20, 0.0, 3.0, 4.0, 5.0, 8.0, 0.0, 82.0, 70.0),
}
STYLES = tuple(_STYLES)


def made_skeleton() -> Skeleton:
    """A body of 1.7 m with CMU's bones, in CMU's order, and its 62 columns."""
    rows: list[tuple[str, str, tuple[float, float, float], float, tuple[str, ...]]]
    rows = [(ROOT, "", (0.0, 0.0, 0.0), 0.0, ROOT_CHANNELS)]
    for table in (_SIDE, _TRUNK, _ARM):
        for side, mirror in (("", 1),) if table is _TRUNK else (("l", 1), ("r", -1)):
            for name, parent, (x, y, z), length, turns in table:
                above = parent if parent in _SHARED or not side else side + parent
                channels = tuple(f"r{axis}" for axis in turns)
                rows.append((side + name, above, (x * mirror, y, z), length, channels))
    names = [row[0] for row in rows]
    directions = np.array([row[2] for row in rows])
    lengths = np.array([row[3] for row in rows])
    norms = np.linalg.norm(directions, axis=1)
    axes = np.zeros((len(rows), 3))
    # An elbow has rx alone, as CMU's; its x axis is laid along the body's y, about which it bends.
    axes[names.index("lradius"), 2], axes[names.index("rradius"), 2] = 90.0, -90.0
    unit = 0.05
    return Skeleton(
        names=tuple(names),
        parents=np.array([names.index(row[1]) if row[1] else -1 for row in rows]),
        offsets=directions / np.where(norms > 0, norms, 1.0)[:, None] * lengths[:, None] / unit,
        axes=axes,
        channels=tuple(row[4] for row in rows),
        unit=unit,
    )


def made_motion(
    style: str = "walk", *, seconds: float = 3.0, seed: int = 0, rate: float = CMU_RATE
) -> Motion:
    """A recording of the made skeleton: the lowest point of its feet always on the ground.

    Args:
        style: of :data:`STYLES`.
        seconds: length.
        seed: of the start, and of some 5% in speed and amplitude.
        rate: frames a second.

    Raises:
        UsageError: no such style.
    """
    if style not in _STYLES:
        raise UsageError(f"style is {style!r}, expected one of {', '.join(STYLES)}")
    how, skeleton = _STYLES[style], made_skeleton()
    rng = np.random.default_rng(seed)
    pace, swing = rng.uniform(0.95, 1.05, size=2)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * (how.cadence * pace * time + rng.uniform())
    columns = skeleton.columns
    values = np.zeros((len(time), len(columns)))

    def turn(bone: str, channel: str, degrees: FloatArray | float) -> None:
        values[:, columns.index((bone, channel))] = degrees

    for side, sign, at in (("l", 1.0, phase), ("r", -1.0, phase + np.pi)):
        lifted = how.lifted if side == "l" else 0.0
        turn(f"{side}femur", "rx", -how.lean - lifted - swing * how.hip * np.sin(at))
        # The knee bends most while its leg swings ahead, a quarter before the hip's far end.
        turn(f"{side}tibia", "rx", 5.0 + lifted + swing * how.knee * (1 + np.cos(at)) / 2)
        turn(f"{side}foot", "rx", -how.lean / 2 + swing * 0.3 * how.hip * np.sin(at - 0.6))
        turn(f"{side}toes", "rx", 0.2 * how.hip * (1 - np.cos(at)) / 2)
        turn(f"{side}humerus", "rz", sign * (how.raised - 90.0))
        turn(f"{side}humerus", "ry", sign * swing * how.arm * np.sin(at))
        turn(f"{side}radius", "rx", -how.elbow - 0.2 * how.arm * np.sin(at))
        turn(f"{side}hand", "rz", sign * 0.1 * how.arm * np.cos(at))
        turn(f"{side}thumb", "rx", 0.05 * how.arm * np.sin(at))
    for share, bone in ((0.5, "lowerback"), (0.3, "upperback"), (0.2, "thorax")):
        turn(bone, "rx", share * how.lean * (1 + 0.2 * np.cos(2 * phase)))
        turn(bone, "ry", share * 0.3 * how.hip * np.sin(phase))
        turn(bone, "rz", share * 0.1 * how.hip * np.cos(phase))
    turn("head", "rx", -0.5 * how.lean)
    turn(ROOT, "tz", how.speed * pace * time / skeleton.unit)
    ground = joint_positions(skeleton, values)[..., 1].min(axis=1)
    turn(ROOT, "ty", -ground / skeleton.unit)
    return Motion(columns, values, rate, f"made-{style}-{seed}")


def gait(recordings: int = 5, *, seconds: float = 3.0, seed: int = 0) -> DataSet:
    """The stand-in for :func:`training.data.mocap.cmu`: (N, 50), three made motions."""
    return motion_set(
        "gait",
        {
            style: [
                made_motion(style, seconds=seconds, seed=seed * 1000 + number)
                for number in range(recordings)
            ]
            for style in STYLES
        },
    )

"""A robot arm whose end effector moves along a circle (thesis, section 5.1.4.3).

The thesis generated joint angles of a KUKA arm with six degrees of freedom by inverse kinematics,
without saying which arm, where the circle lay or how the tool was held. Ours has the proportions
of a small industrial arm like theirs (a reach of 1.1 m, three axes that meet in the wrist), a
horizontal circle in front of it, and a tool that is tilted, so that every joint takes part. Its
kinematics are closed forms from Denavit and Hartenberg's parameters.
"""

from __future__ import annotations

import math

import numpy as np

from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError
from training.data.dataset import DataSet, Standardisation

_HALF = math.pi / 2
# Of each joint: d and a in metres, alpha in radians; link i is Rz(theta) Tz(d) Tx(a) Rx(alpha).
DH = (
    (0.400, 0.025, -_HALF),
    (0.000, 0.560, 0.0),
    (0.000, 0.035, -_HALF),
    (0.515, 0.000, _HALF),
    (0.000, 0.000, -_HALF),
    (0.080, 0.000, 0.0),
)
JOINTS = len(DH)
_STRETCHED = 1e-9  # sine of the wrist's middle joint
CENTRE = (0.60, 0.0, 0.35)  # of the circle, metres from the foot of the arm
RADIUS = 0.4  # metres
TILT = math.radians(30)  # of the tool, from straight down towards +y
TRAIN, TEST = 6_284, 150  # time steps; 6,284 of a milliradian each are one round


def forward_kinematics(joints: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where the end effector is.

    Args:
        joints: (..., 6), radians.

    Returns:
        Its position (..., 3) in metres, and its rotation (..., 3, 3): columns are the tool's axes
        in the frame of the arm's foot; the third is where it points.
    """
    if joints.shape[-1] != JOINTS:
        raise ValueError(f"joints have shape {joints.shape}, expected (..., {JOINTS})")
    pose = _links(np.asarray(joints, dtype=np.float64), range(JOINTS))
    return pose[..., :3, 3], pose[..., :3, :3]


def _links(joints: FloatArray, which: range) -> FloatArray:
    """The product of some links' transforms, (..., 4, 4)."""
    pose = np.broadcast_to(np.eye(4), (*joints.shape[:-1], 4, 4))
    for i in which:
        d, a, alpha = DH[i]
        c, s = np.cos(joints[..., i]), np.sin(joints[..., i])
        ca, sa = math.cos(alpha), math.sin(alpha)
        zero, one = np.zeros_like(c), np.ones_like(c)
        entries = [
            [c, -s * ca, s * sa, a * c],
            [s, c * ca, -c * sa, a * s],
            [zero, sa * one, ca * one, d * one],
            [zero, zero, zero, one],
        ]
        link = np.stack([np.stack(line, axis=-1) for line in entries], axis=-2)
        pose = pose @ link
    return pose


def inverse_kinematics(position: FloatArray, rotation: FloatArray) -> FloatArray:
    """Joint angles that bring the end effector to a pose: elbow up, wrist not flipped.

    The wrist's centre, where the last three axes meet, lies ``d_6`` behind the tool. It decides the
    first three joints: the arm's plane, then a triangle in it; what is left of the rotation decides
    the wrist's.

    Args:
        position: (..., 3), metres.
        rotation: (..., 3, 3).

    Returns:
        (..., 6), radians in [-pi, pi]; where the fifth joint is 0 so is the fourth, since the
        sixth turns about the same axis.

    Raises:
        InputError: out of reach; with the first such place.
    """
    (d1, a1, _), (_, a2, _), (_, a3, _), (d4, _, _), _, (d6, _, _) = DH
    wrist = position - d6 * rotation[..., :, 2]
    theta1 = np.arctan2(wrist[..., 1], wrist[..., 0])
    u = np.hypot(wrist[..., 0], wrist[..., 1]) - a1  # in the arm's plane, from the second axis:
    v = d1 - wrist[..., 2]  # outwards and down
    forearm, bend = math.hypot(a3, d4), math.atan2(d4, a3)
    cosine = (u**2 + v**2 - a2**2 - forearm**2) / (2 * a2 * forearm)
    far = np.abs(cosine) > 1
    if far.any():
        at = np.broadcast_to(position, (*far.shape, 3))[far][0]
        raise InputError(
            f"the arm does not reach {np.round(at, 3).tolist()} m ({int(far.sum())} of {far.size} "
            "places)"
        )
    elbow = np.arccos(cosine)
    theta2 = np.arctan2(v, u) - np.arctan2(forearm * np.sin(elbow), a2 + forearm * np.cos(elbow))
    first = np.stack([theta1, theta2, elbow - bend], axis=-1)
    lower = _links(first, range(3))[..., :3, :3]
    left = np.swapaxes(lower, -1, -2) @ rotation  # Rz(theta4) Ry(-theta5) Rz(theta6)
    bent = np.hypot(left[..., 0, 2], left[..., 1, 2])
    stretched = bent < _STRETCHED  # the wrist's first and last axis are one: all by the last
    theta4 = np.where(stretched, 0.0, np.arctan2(-left[..., 1, 2], -left[..., 0, 2]))
    theta5 = np.arctan2(bent, left[..., 2, 2])
    turned = np.arctan2(left[..., 1, 0], left[..., 0, 0])
    theta6 = np.where(stretched, turned, np.arctan2(-left[..., 2, 1], left[..., 2, 0]))
    return np.concatenate([_wrapped(first), np.stack([theta4, theta5, theta6], axis=-1)], axis=-1)


def _wrapped(angles: FloatArray) -> FloatArray:
    """To [-pi, pi)."""
    return (angles + math.pi) % (2 * math.pi) - math.pi


def circle_joints(angles: FloatArray) -> FloatArray:
    """Joint angles with the end effector on the circle.

    Args:
        angles: (N,), radians along the circle, in the order in which it is run through.

    Returns:
        (N, 6), radians, without jumps of 2 pi between neighbouring rows.
    """
    x, y, z = CENTRE
    steps = (x + RADIUS * np.cos(angles), y + RADIUS * np.sin(angles), np.full_like(angles, z))
    down = math.pi + TILT  # about x: the tool's z axis from up to down and on by the tilt
    c, s = math.cos(down), math.sin(down)
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    turned = np.broadcast_to(rotation, (len(angles), 3, 3))
    return np.unwrap(inverse_kinematics(np.stack(steps, axis=-1), turned), axis=0)


def off_circle(position: FloatArray) -> FloatArray:
    """How far places are from the circle.

    Args:
        position: (..., 3), metres.

    Returns:
        (...), metres.
    """
    x, y, z = CENTRE
    radial = np.hypot(position[..., 0] - x, position[..., 1] - y) - RADIUS
    return np.hypot(radial, position[..., 2] - z)


def arm(train: int = TRAIN, test: int = TEST) -> DataSet:
    """The movement as a data set, with the angle along the circle as label.

    Args:
        train: time steps of one round; the thesis has 6,284.
        test: time steps of another, between those of the first; the thesis has 150.

    Returns:
        (N, 6); all joints centred and divided by one number, so that lengths keep their unit up to
        it.

    Raises:
        UsageError: fewer than two time steps of either.
    """
    if min(train, test) < 2:
        raise UsageError(f"{train} and {test} time steps, expected 2 or more of each")
    angles = {
        "train": np.arange(train) * (2 * math.pi / train),
        "test": (np.arange(test) + 0.5) * (2 * math.pi / test),
        "validation": np.zeros(0),
    }
    raw = {part: circle_joints(angles[part]) for part in ("train", "test")}
    mean = raw["train"].mean(axis=0)
    spread = float((raw["train"] - mean).std())
    scale = Standardisation(mean, np.full(JOINTS, spread))
    values = scale.apply(raw["train"])
    return DataSet(
        name="arm",
        train=values,
        validation=values[:0],
        test=scale.apply(raw["test"]),
        labels=angles,
        standardisation=scale,
        note=f"{train} time steps of one round of the circle, {test} of another to test on; joints "
        f"centred, in units of {spread:.3f} rad",
    )

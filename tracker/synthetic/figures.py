"""The body of a walking figure seen from the side: a pose of the gait to a stack of outlines.

Units are body heights: x forward, y up, the origin on the ground below the pelvis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from tracker.synthetic.shapes import Part, arc, ellipse, extent, hanging, limb, plain, solid, spline
from tracker.synthetic.wardrobe import Cloth, Look
from trackvae.arrays import FloatArray

PHASES = 24  # poses of one gait cycle (two steps)
GAITS = (0.0, 0.5, 1.0)  # amplitudes of the swing: standing, slowing down, walking
STANDING = 0
POSES = 1 + (len(GAITS) - 1) * PHASES  # standing has one pose
STRIDE = 0.80  # body heights walked in one cycle: twice a step of 2 sin(0.42) legs of 0.5

_THIGH, _SHIN, _ANKLE, _FOOT = 0.235, 0.225, 0.030, 0.092
_TRUNK, _NECK, _UPPER_ARM, _FOREARM = 0.290, 0.128, 0.150, 0.135
_FAR_SHADE = 0.70  # limbs on the far side of the body


def pose_index(phase: float, gait: int) -> int:
    """The number of a pose: phase in cycles (any real), gait an index into ``GAITS``."""
    if gait == STANDING:
        return 0
    return 1 + (gait - 1) * PHASES + int(phase * PHASES) % PHASES


def body(look: Look, pose: int) -> list[Part]:
    """The parts of a figure in a pose, the farthest first; it walks towards +x."""
    gait = 0 if pose == 0 else 1 + (pose - 1) // PHASES
    phase = 0.0 if pose == 0 else 2 * np.pi * ((pose - 1) % PHASES) / PHASES
    swing = GAITS[gait]
    hip = np.zeros(2)
    lean = np.array([0.02 + 0.03 * swing, 1.0])
    shoulder = hip + _TRUNK * lean / np.linalg.norm(lean)
    far_leg, _ = _leg(look, hip, phase + np.pi, swing, _FAR_SHADE)
    near_leg, knee = _leg(look, hip, phase, swing, 1.0)
    loaded = 0.35 if look.bag in ("tote", "case") else 1.0
    near_arm, hand = _arm(look, shoulder, phase, -0.45 * swing * loaded, 1.0)
    far_arm, _ = _arm(look, shoulder, phase, 0.45 * swing, _FAR_SHADE)
    parts = [*far_arm, *far_leg, *_backpack(look, hip, shoulder), *near_leg]
    parts += _clothing(look, hip, shoulder, knee, phase, swing)
    parts += _head(look, shoulder, phase, swing)
    parts += _strap(look, hip, shoulder)
    parts += [*_handbag(look, hand), *near_arm]
    lift = np.array([0.0, -extent(parts)[1]])  # the lower foot stands on the ground
    return [replace(p, outline=p.outline + lift, origin=p.origin + lift) for p in parts]


def _leg(
    look: Look, hip: FloatArray, phase: float, swing: float, shade: float
) -> tuple[list[Part], FloatArray]:
    """Thigh, shin and shoe, and where the knee is; ``phase`` 0 is the heel's strike in front."""
    b = look.build
    thigh = 0.02 + 0.42 * swing * np.cos(phase)
    flexion = 0.05 + swing * (0.95 * _bump(phase, 1.48, 0.5) + 0.15 * _bump(phase, 0.3, 0.4))
    pitch = 0.32 * _bump(phase, 0.0, 0.35) - 0.85 * _bump(phase, 1.18, 0.5)
    pitch = swing * (pitch - 0.35 * _bump(phase, 1.55, 0.35))
    knee = hip + _THIGH * _down(thigh)
    ankle = knee + _SHIN * _down(thigh - flexion)
    skin = Cloth("plain", look.skin, look.skin)
    upper = skin if look.lower == "skirt" else look.bottom
    lower = look.bottom if look.lower == "trousers" else skin
    wide = 0.045 if look.lower == "trousers" else 0.036
    leg = [
        limb(knee, ankle, wide * b, 0.030 * b if lower is skin else 0.034 * b, lower, shade),
        limb(hip, knee, 0.062 * b, (0.05 if upper is look.bottom else 0.044) * b, upper, shade),
    ]
    return [_shoe(look, ankle, pitch, shade), *leg], knee


def _shoe(look: Look, ankle: FloatArray, pitch: float, shade: float) -> Part:
    along = np.array([np.cos(pitch), np.sin(pitch)])
    across = np.array([-along[1], along[0]])
    shape = np.array(
        [[-0.038, 0.022], [-0.042, -0.026], [0.03, -0.032], [_FOOT, -0.03], [_FOOT - 0.008, -0.006]]
    )
    shape = np.vstack([shape, [[0.04, 0.016], [0.025, 0.03]]])
    outline = ankle + shape[:, :1] * along + shape[:, 1:] * across
    return solid(spline(outline, 4), look.shoes, 0.06, shade)


def _arm(
    look: Look, shoulder: FloatArray, phase: float, swing: float, shade: float
) -> tuple[list[Part], FloatArray]:
    """Upper arm, forearm and hand, and where the hand is."""
    b = look.build
    angle = 0.02 + swing * np.cos(phase)
    bend = 0.22 + 0.35 * max(0.0, angle)
    top = shoulder + np.array([0.0, -0.022])
    elbow = top + _UPPER_ARM * _down(angle)
    wrist = elbow + _FOREARM * _down(angle + bend)
    hand = wrist + 0.026 * _down(angle + bend)
    skin = Cloth("plain", look.skin, look.skin)
    sleeve = look.top if look.sleeves == "long" else skin
    parts = [
        solid(ellipse(hand, 0.021, 0.026, angle + bend), look.skin, 0.03, shade),
        limb(elbow, wrist, 0.032 * b, 0.025 * b, sleeve, shade * 0.97),
    ]
    if look.sleeves == "short":
        parts.append(limb(top, elbow, 0.034 * b, 0.03 * b, skin, shade * 0.97))
        elbow = top + 0.6 * _UPPER_ARM * _down(angle)
    parts.append(limb(top, elbow, 0.042 * b, 0.036 * b, look.top, shade * 0.93))
    return parts, hand


def _clothing(
    look: Look, hip: FloatArray, shoulder: FloatArray, knee: FloatArray, phase: float, swing: float
) -> list[Part]:
    """Skirt and top."""
    b, parts = look.build, []
    reach = 0.42 * swing * abs(np.cos(phase)) * _THIGH * 0.55
    if look.lower == "skirt":
        hem = knee[1] + 0.01
        skirt = [[-0.07 * b, 0.05], [-0.095 * b, -0.03], [-0.085 * b - reach, hem]]
        skirt += [[0.0, hem - 0.012], [0.09 * b + reach, hem], [0.085 * b, -0.03], [0.07 * b, 0.05]]
        parts.append(hanging(spline(hip + np.array(skirt), 4), look.bottom, hip, 0.15))
    along = (shoulder - hip) / np.linalg.norm(shoulder - hip)
    side = np.array([along[1], -along[0]])
    low = -0.15 if look.coat else -0.035
    flare = reach if look.coat else 0.0
    shape = np.array(
        [
            [0.024, 0.335], [0.060, 0.300], [0.088, 0.220], [0.083, 0.10], [0.083, 0.0],
            [0.088 + flare, low], [0.0, low - 0.006], [-0.088 - flare, low], [-0.088, 0.0],
            [-0.076, 0.10], [-0.090, 0.220], [-0.072, 0.300], [-0.026, 0.335],
        ]
    )  # fmt: skip
    outline = hip + b * shape[:, :1] * side + shape[:, 1:] * along
    neck = limb(shoulder, shoulder + 0.075 * along, 0.034, 0.03, plain(look.skin), 0.86)
    return [*parts, neck, Part(spline(outline, 5), look.top, shoulder, -along, 0.095 * b)]


def _head(look: Look, shoulder: FloatArray, phase: float, swing: float) -> list[Part]:
    """Head, face, hair and hat."""
    size = 1.2 if look.stature < 0.8 else 1.04
    centre = shoulder + np.array([0.016, _NECK + 0.07 * (size - 1.0)])

    def at(points: Sequence[Sequence[float]]) -> FloatArray:
        return centre + size * np.array(points)

    sway = 0.012 * swing * float(np.sin(2 * phase))
    parts = _back_hair(look, at, sway)
    parts.append(solid(at(arc(0.056, 0.07, 0, 360)), look.skin, 0.085, 1.0))
    nose = [[0.048, 0.02], [0.069, -0.012], [0.05, -0.022]]
    parts.append(solid(spline(at(nose), 4), look.skin, 0.1, 1.0))
    if look.beard:
        jaw = [*arc(0.059, 0.074, -125, -12), [0.04, -0.028], [0.012, -0.03], [-0.014, 0.0]]
        parts.append(solid(at(jaw), look.hair, 0.1, 0.95))
    parts.append(solid(at([[x + 0.034, y + 0.014] for x, y in arc(0.007, 0.010, 0, 360)]),
                        (30, 26, 26), 0.1, 1.0))  # fmt: skip
    parts.append(solid(at([[x - 0.006, y - 0.006] for x, y in arc(0.011, 0.016, 0, 360)]),
                        look.skin, 0.1, 0.86))  # fmt: skip
    inner = [[-0.02, -0.03], [-0.014, 0.01], [0.012, 0.016], [0.026, 0.04]]
    if look.hair_style == "afro":
        parts.append(solid(at([*arc(0.083, 0.094, 48, 235), *inner]), look.hair, 0.12, 1.0))
    elif look.hair_style != "bald":
        cap = [*arc(0.063, 0.079, 50, 226), [-0.032, -0.05], *inner]
        parts.append(solid(at(cap), look.hair, 0.1, 1.0))
    return parts + _hat(look, at)


def _back_hair(look: Look, at: _Placer, sway: float) -> list[Part]:
    """Hair behind the head: curtain, bun or tail."""
    if look.hair_style == "long":
        curtain = [[0.0, 0.06], [-0.06, 0.03], [-0.078 - sway, -0.07], [-0.066 - sway, -0.165]]
        curtain += [[-0.02, -0.165], [0.004, -0.05]]
        return [solid(spline(at(curtain), 5), look.hair, 0.1, 0.9)]
    if look.hair_style == "bun":
        return [solid(at([[x - 0.067, y + 0.036] for x, y in arc(0.03, 0.03, 0, 360)]),
                       look.hair, 0.05, 0.92)]  # fmt: skip
    if look.hair_style == "ponytail":
        tail = [[-0.05, 0.035], [-0.085, 0.03], [-0.108 - 1.5 * sway, -0.04]]
        tail += [[-0.100 - 2 * sway, -0.125], [-0.074, -0.06], [-0.05, 0.0]]
        return [solid(spline(at(tail), 5), look.hair, 0.06, 0.92)]
    return []


def _hat(look: Look, at: _Placer) -> list[Part]:
    colour = look.hat_colour
    if look.hat == "cap":
        visor = [[0.03, 0.042], [0.065, 0.044], [0.118, 0.024], [0.112, 0.010], [0.05, 0.022]]
        crown = [*arc(0.067, 0.082, 14, 180), [-0.062, 0.006], [0.05, 0.018]]
        return [solid(at(visor), colour, 0.1, 0.72), solid(at(crown), colour, 0.1, 1.0)]
    if look.hat == "beanie":
        crown = [*arc(0.067, 0.098, 12, 176), [-0.066, -0.006], [0.06, 0.012]]
        band = [[0.066, 0.036], [0.068, 0.008], [-0.068, -0.012], [-0.068, 0.018]]
        cloth = Cloth("hoops", colour, (238, 236, 228), 0.05)
        top = at([[0.0, 0.06]])[0]
        return [
            hanging(at(crown), cloth, top, 0.1),
            solid(at(band), colour, 0.1, 0.8),
            solid(at([[x, y + 0.1] for x, y in arc(0.022, 0.02, 0, 360)]), colour, 0.05, 1.0),
        ]
    if look.hat == "brim":
        crown = [[0.056, 0.034], [0.052, 0.09], [0.02, 0.104], [-0.03, 0.104], [-0.058, 0.086]]
        crown += [[-0.06, 0.034]]
        brim = [[x - 0.004, y + 0.034] for x, y in arc(0.115, 0.017, 0, 360)]
        band = [[0.057, 0.05], [0.057, 0.034], [-0.061, 0.034], [-0.06, 0.05]]
        return [
            solid(spline(at(crown), 4), colour, 0.1, 1.0),
            solid(at(band), (40, 34, 34), 0.1, 1.0),
            solid(at(brim), colour, 0.14, 0.85),
        ]
    return []


def _backpack(look: Look, hip: FloatArray, shoulder: FloatArray) -> list[Part]:
    if look.bag != "backpack":
        return []
    middle = hip + 0.62 * (shoulder - hip) + np.array([-0.088 * look.build, 0.0])
    shape = [[0.03, 0.105], [-0.035, 0.105], [-0.068, 0.05], [-0.078, -0.06], [-0.06, -0.095]]
    shape += [[0.03, -0.095]]
    pocket = [[-0.03, -0.01], [-0.082, -0.012], [-0.088, -0.05], [-0.07, -0.088], [-0.03, -0.088]]
    return [
        solid(spline(middle + np.array(shape), 4), look.bag_colour, 0.1, 1.0),
        solid(spline(middle + np.array(pocket), 4), look.bag_colour, 0.1, 0.8),
    ]


def _strap(look: Look, hip: FloatArray, shoulder: FloatArray) -> list[Part]:
    """What crosses the trunk: a backpack's strap, or a shoulder bag with its own."""
    b = look.build
    if look.bag == "backpack":
        top, low = shoulder + np.array([0.012, 0.012]), shoulder + np.array([-0.03 * b, -0.19])
        mid = shoulder + np.array([0.05 * b, -0.07])
        cloth = plain(look.bag_colour)
        return [
            limb(top, mid, 0.012, 0.012, cloth, 0.75),
            limb(mid, low, 0.012, 0.011, cloth, 0.75),
        ]
    if look.bag == "shoulder":
        bag = hip + np.array([-0.03, -0.02])
        flap = [[-0.066, 0.05], [0.066, 0.05], [0.072, -0.05], [0.06, -0.062], [-0.06, -0.062]]
        flap += [[-0.072, -0.05]]
        lid = [[-0.067, 0.052], [0.067, 0.052], [0.07, -0.012], [-0.07, -0.012]]
        cloth = plain(look.bag_colour)
        return [
            limb(shoulder + np.array([0.035 * b, 0.02]), bag, 0.010, 0.010, cloth, 0.7),
            solid(bag + np.array(flap), look.bag_colour, 0.09, 0.85),
            solid(bag + np.array(lid), look.bag_colour, 0.09, 1.1),
        ]
    return []


def _handbag(look: Look, hand: FloatArray) -> list[Part]:
    if look.bag == "tote":
        shape = [[-0.055, -0.075], [0.055, -0.075], [0.07, -0.20], [-0.07, -0.20]]
        cloth = plain(look.bag_colour)
        handles = [
            limb(hand, hand + np.array([x, -0.08]), 0.008, 0.008, cloth, 0.7) for x in (-0.04, 0.04)
        ]
        outline = hand + np.array(shape)
        stripe = Cloth("block", look.bag_colour, (238, 236, 228), 0.05)
        return [*handles, hanging(outline, stripe, hand + np.array([0.0, -0.075]), 0.09)]
    if look.bag == "case":
        shape = [[-0.085, -0.03], [0.085, -0.03], [0.088, -0.14], [-0.088, -0.14]]
        lid = [[-0.088, -0.028], [0.088, -0.028], [0.088, -0.062], [-0.088, -0.062]]
        return [
            solid(hand + np.array(shape), look.bag_colour, 0.12, 0.85),
            solid(hand + np.array(lid), look.bag_colour, 0.12, 1.1),
        ]
    return []


class _Placer(Protocol):
    """Type of the function that maps points of the head's frame to the figure's."""

    def __call__(self, points: Sequence[Sequence[float]]) -> FloatArray: ...


def _bump(phase: float, centre: float, width: float) -> float:
    """A periodic bell about ``centre``·π."""
    gap = (phase - centre * np.pi + np.pi) % (2 * np.pi) - np.pi
    return float(np.exp(-0.5 * (gap / width) ** 2))


def _down(angle: float) -> FloatArray:
    """The unit vector that hangs down, turned forward by ``angle`` radians."""
    return np.array([np.sin(angle), -np.cos(angle)])

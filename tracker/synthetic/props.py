"""Street furniture that stands before the figures and hides them for a while."""

from __future__ import annotations

import numpy as np

from tracker.synthetic.shapes import Part, arc, ellipse, hanging, limb, plain, solid, spline
from tracker.synthetic.wardrobe import Cloth

_IRON, _BARK = (44, 58, 56), (104, 78, 56)
KINDS = ("column", "tree", "lamp", "planter", "bench")


def prop(kind: str, rng: np.random.Generator) -> list[Part]:
    """The parts of a piece of street furniture, in body heights about its ground point."""
    return {
        "column": _column,
        "tree": _tree,
        "lamp": _lamp,
        "planter": _planter,
        "bench": _bench,
    }[kind](rng)


def _box(left: float, bottom: float, right: float, top: float) -> list[list[float]]:
    return [[left, bottom], [right, bottom], [right, top], [left, top]]


def _column(rng: np.random.Generator) -> list[Part]:
    """An advertising column: wide enough to hide a whole figure."""
    trunk = np.array([0.0, 1.4])
    parts = [
        hanging(np.array(_box(-0.29, 0.0, 0.29, 0.12)), plain((70, 76, 78)), trunk, 0.3),
        hanging(np.array(_box(-0.26, 0.1, 0.26, 1.42)), plain((222, 214, 196)), trunk, 0.27),
    ]
    colours = [(206, 62, 52), (40, 110, 150), (240, 188, 60), (60, 132, 96), (110, 70, 140)]
    order = rng.permutation(len(colours))
    places = [(-0.24, 0.78, -0.02, 1.36), (0.02, 0.86, 0.25, 1.36), (-0.25, 0.2, -0.05, 0.72)]
    places.append((-0.01, 0.18, 0.24, 0.8))
    for index, (left, low, right, high) in enumerate(places):
        cloth = Cloth(
            str(rng.choice(["dots", "zigzag", "gradient", "block", "checks"])),
            colours[order[index]],
            (244, 238, 224),
            0.11,
        )
        parts.append(hanging(np.array(_box(left, low, right, high)), cloth, trunk, 0.27))
    roof = spline(np.array([[-0.33, 1.42], [0.33, 1.42], [0.30, 1.5], [0.05, 1.68], [-0.05, 1.68],
                            [-0.30, 1.5]]), 5)  # fmt: skip
    parts.append(hanging(roof, plain((52, 92, 82)), trunk, 0.33))
    parts.append(solid(ellipse(np.array([0.0, 1.70]), 0.04, 0.05, 0.0), (214, 178, 84), 0.05, 1.0))
    return parts


def _tree(rng: np.random.Generator) -> list[Part]:
    foot, fork = np.zeros(2), np.array([0.02, 1.5])
    parts = [limb(foot, fork, 0.10, 0.065, plain(_BARK), 1.0)]
    for tip in ([-0.35, 2.0], [0.34, 2.05], [0.03, 2.2]):
        parts.append(limb(fork, np.array(tip), 0.055, 0.03, plain(_BARK), 0.85))
    blobs = rng.uniform((-0.62, 1.72), (0.62, 2.75), (34, 2))
    blobs = blobs[np.argsort(blobs[:, 1])[::-1]]
    for x, y in blobs.tolist():
        shade = rng.uniform(0.72, 1.18) * (0.85 + 0.25 * (y - 1.7))
        red, green = (int(rng.integers(low, high)) for low, high in ((60, 108), (114, 142)))
        size = rng.uniform(0.13, 0.25)
        round_ = np.array(arc(size, size * 0.85, 0, 360))
        ripple = 1.0 + 0.1 * np.sin(np.linspace(0, 16 * np.pi, len(round_)))[:, None]
        leaf, top = np.array([[x, y]]) + ripple * round_, np.array([x, y + size])
        down = np.array([0.0, -1.0])
        parts.append(Part(leaf, plain((red, green, 58)), top, down, 0.4, shade))
    return parts


def _lamp(rng: np.random.Generator) -> list[Part]:
    lean = rng.uniform(-0.01, 0.01)
    top = np.array([lean, 2.2])
    return [
        limb(np.zeros(2), np.array([0.0, 0.32]), 0.07, 0.05, plain(_IRON), 1.0),
        limb(np.array([0.0, 0.3]), top, 0.034, 0.026, plain(_IRON), 1.0),
        limb(np.array([-0.2, 2.1]), np.array([0.2, 2.1]), 0.02, 0.02, plain(_IRON), 0.9),
        solid(ellipse(np.array([lean - 0.22, 2.18]), 0.07, 0.09, 0.0), (250, 240, 206), 0.09, 1.0),
        solid(ellipse(np.array([lean + 0.22, 2.18]), 0.07, 0.09, 0.0), (250, 240, 206), 0.09, 1.0),
    ]


def _planter(rng: np.random.Generator) -> list[Part]:
    parts = []
    for x in np.linspace(-0.36, 0.36, 11):
        size = rng.uniform(0.08, 0.13)
        y = rng.uniform(0.3, 0.46)
        colour = (70 + int(rng.integers(0, 40)), 128 + int(rng.integers(-16, 20)), 62)
        parts.append(solid(ellipse(np.array([x, y]), size, size, 0.0), colour, 0.2, 0.95))
    for _ in range(9):
        spot = rng.uniform((-0.38, 0.32), (0.38, 0.54))
        flower = [(226, 84, 110), (250, 208, 86), (240, 236, 230)][rng.integers(3)]
        parts.append(solid(ellipse(spot, 0.022, 0.022, 0.0), flower, 0.05, 1.0))
    wood = Cloth("hoops", (150, 108, 70), (118, 82, 52), 0.08)
    box = np.array([[-0.42, 0.0], [0.42, 0.0], [0.45, 0.3], [-0.45, 0.3]])
    return [*parts, hanging(box, wood, np.array([0.0, 0.3]), 0.7)]


def _bench(rng: np.random.Generator) -> list[Part]:
    wood = plain((168 + int(rng.integers(-20, 10)), 112, 66))
    parts = []
    for x in (-0.4, 0.4):
        parts.append(hanging(np.array(_box(x - 0.02, 0.0, x + 0.02, 0.5)), plain(_IRON),
                             np.array([x, 0.5]), 0.1))  # fmt: skip
    for low in (0.24, 0.34, 0.43):
        slat = np.array(_box(-0.48, low, 0.48, low + 0.06))
        parts.append(Part(slat, wood, np.array([0.0, low + 0.06]), np.array([0.0, -1.0]), 0.9))
    return parts

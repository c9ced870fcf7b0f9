"""What a made figure wears: colours, patterns, hair, hats and bags, all told apart by eye.

No drawing here: a :class:`Look` is a description; :mod:`tracker.synthetic.figures` gives it a
body, :mod:`tracker.synthetic.sprites` paints it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackvae.arrays import FloatArray

Colour = tuple[int, int, int]  # RGB, 0 to 255

_CLOTHES: dict[str, Colour] = {
    "white": (238, 236, 228),
    "black": (38, 38, 44),
    "grey": (128, 132, 138),
    "red": (204, 46, 48),
    "wine": (120, 28, 52),
    "orange": (238, 126, 40),
    "mustard": (222, 172, 46),
    "yellow": (248, 220, 84),
    "lime": (150, 196, 70),
    "green": (44, 134, 78),
    "teal": (28, 140, 144),
    "sky": (110, 184, 228),
    "blue": (44, 92, 190),
    "navy": (34, 48, 96),
    "violet": (116, 74, 170),
    "pink": (240, 140, 176),
    "brown": (122, 80, 50),
    "sand": (212, 186, 142),
}
_TROUSERS = ("black", "grey", "navy", "blue", "brown", "sand", "white", "green", "wine", "teal")
_SKIN: tuple[Colour, ...] = (
    (250, 214, 188),
    (236, 188, 154),
    (208, 152, 112),
    (164, 108, 74),
    (112, 72, 50),
)
_HAIR: tuple[Colour, ...] = (
    (34, 28, 28),
    (74, 48, 32),
    (134, 84, 44),
    (214, 172, 96),
    (176, 74, 36),
    (196, 196, 200),
)
PATTERNS = ("plain", "hoops", "stripes", "checks", "dots", "gradient", "block", "zigzag")
_STYLES = ("short", "long", "bun", "ponytail", "bald", "afro")
_HATS = ("none", "none", "none", "cap", "beanie", "brim")
_BAGS = ("none", "none", "backpack", "shoulder", "tote", "case")
_TRIES = 40  # candidates for each figure; the one least like those before it is taken


@dataclass(frozen=True, slots=True)
class Cloth:
    """A pattern in two colours; ``scale`` is its period as a share of the body's height."""

    pattern: str
    first: Colour
    second: Colour
    scale: float = 0.06


@dataclass(frozen=True, slots=True)
class Look:
    """The appearance of one identity.

    Attributes:
        skin: colour of face, hands and bare limbs.
        hair: its colour.
        hair_style: one of short, long, bun, ponytail, bald, afro.
        beard: whether there is one.
        hat: none, cap, beanie or brim.
        hat_colour: its colour.
        top: cloth of the upper body.
        sleeves: ``long`` or ``short``.
        coat: whether the top reaches to the thighs.
        lower: ``trousers``, ``shorts`` or ``skirt``.
        bottom: cloth of the legs.
        shoes: their colour.
        bag: none, backpack, shoulder, tote or case.
        bag_colour: its colour.
        stature: body height against the tallest adult's, (0, 1].
        build: width of trunk and limbs against the average.
    """

    skin: Colour
    hair: Colour
    hair_style: str
    beard: bool
    hat: str
    hat_colour: Colour
    top: Cloth
    sleeves: str
    coat: bool
    lower: str
    bottom: Cloth
    shoes: Colour
    bag: str
    bag_colour: Colour
    stature: float
    build: float


def dress(count: int, rng: np.random.Generator) -> list[Look]:
    """Looks for ``count`` identities, each as unlike those before it as 40 tries allow."""
    looks: list[Look] = []
    known = np.zeros((0, _features(_draw(np.random.default_rng(0))).size))
    for _ in range(count):
        candidates = [_draw(rng) for _ in range(_TRIES)]
        features = np.stack([_features(look) for look in candidates])
        gaps = np.linalg.norm(features[:, None] - known[None], axis=2)  # (tries, looks)
        best = int(np.argmax(gaps.min(axis=1))) if len(known) else 0
        looks.append(candidates[best])
        known = np.vstack([known, features[best]])
    return looks


def _draw(rng: np.random.Generator) -> Look:
    """One look at random."""
    names = list(_CLOTHES)
    main, other, accent = rng.choice(len(names), 3, replace=False)
    top_colour, other_colour = _CLOTHES[names[main]], _CLOTHES[names[other]]
    if np.abs(_lightness(top_colour) - _lightness(other_colour)) < 60:  # a pattern must be seen
        other_colour = _CLOTHES["black" if _lightness(top_colour) > 120 else "white"]
    lower = str(rng.choice(["trousers", "trousers", "trousers", "shorts", "skirt"]))
    pattern = str(rng.choice(PATTERNS))
    bottom_name = str(rng.choice(_TROUSERS))
    bottom_pattern = "plain" if rng.random() < 0.75 else str(rng.choice(["stripes", "checks"]))
    if lower == "skirt":
        bottom_name, bottom_pattern = str(rng.choice(names)), str(rng.choice(["plain", "dots"]))
    bottom = _CLOTHES[bottom_name]
    tint = _CLOTHES["white" if _lightness(bottom) < 110 else "navy"]
    child = rng.random() < 0.12
    style = str(rng.choice(_STYLES))
    return Look(
        skin=_SKIN[rng.integers(len(_SKIN))],
        hair=_HAIR[rng.integers(len(_HAIR))],
        hair_style=style,
        beard=bool(style in ("short", "bald") and not child and rng.random() < 0.35),
        hat=str(rng.choice(_HATS)),
        hat_colour=_CLOTHES[names[accent]],
        top=Cloth(pattern, top_colour, other_colour, rng.uniform(0.045, 0.075)),
        sleeves=str(rng.choice(["long", "long", "short"])),
        coat=bool(lower == "trousers" and rng.random() < 0.3),
        lower=lower,
        bottom=Cloth(bottom_pattern, bottom, tint, rng.uniform(0.04, 0.06)),
        shoes=_CLOTHES[str(rng.choice(["white", "black", "red", "brown", "sky"]))],
        bag=str(rng.choice(_BAGS)),
        bag_colour=_CLOTHES[names[rng.integers(len(names))]],
        stature=float(rng.uniform(0.64, 0.74) if child else rng.uniform(0.86, 1.0)),
        build=float(rng.uniform(0.9, 1.22)),
    )


def _lightness(colour: Colour) -> float:
    """Luma of a colour, 0 to 255."""
    return float(np.dot(colour, (0.299, 0.587, 0.114)))


def _features(look: Look) -> FloatArray:
    """Numbers whose Euclidean distance follows how unlike two figures look from afar."""
    pattern = np.zeros(len(PATTERNS))
    pattern[PATTERNS.index(look.top.pattern)] = 60.0
    extras = [
        70.0 * (look.coat or look.lower == "skirt"),
        60.0 * (look.lower == "shorts"),
        50.0 * (look.hat != "none"),
        50.0 * (look.bag != "none"),
        40.0 * (look.sleeves == "short"),
        200.0 * look.stature,
    ]
    return np.concatenate(
        [
            np.array(look.top.first, dtype=np.float64),
            0.5 * np.array(look.top.second, dtype=np.float64),
            0.8 * np.array(look.bottom.first, dtype=np.float64),
            0.25 * np.array(look.hair, dtype=np.float64),
            pattern,
            np.array(extras),
        ]
    )

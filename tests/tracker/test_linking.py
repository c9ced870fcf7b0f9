"""Off-line linking: laws of the partition, a naive agglomeration, people who cross and return."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.linking import (
    NONE,
    LinkOptions,
    _agglomerate,
    _Ends,
    _motion_evidence,
    cut_at_overlaps,
    link_tracklets,
)
from trackvae.arrays import BoolArray, FloatArray, IntArray
from trackvae.errors import InputError, UsageError

HEIGHT = 100.0


@dataclass
class Scene:
    """Boxes, the tracklets that they belong to, and what they look like."""

    frames: IntArray
    boxes: FloatArray
    ids: IntArray
    embeddings: FloatArray

    def link(self, **options: Any) -> IntArray:
        return link_tracklets(*self.columns(), LinkOptions(**options))

    def columns(self) -> tuple[IntArray, FloatArray, IntArray, FloatArray]:
        return self.frames, self.boxes, self.ids, self.embeddings

    def rows(self, order: IntArray) -> Scene:
        return Scene(*(column[order] for column in self.columns()))


def standing_box(x: float, y: float, height: float = HEIGHT) -> list[float]:
    """A box about a centre, 0.4 as wide as high."""
    return [x - 0.2 * height, y - 0.5 * height, x + 0.2 * height, y + 0.5 * height]


def walk(
    number: int,
    frames: range,
    look: FloatArray,
    start: tuple[float, float],
    speed: tuple[float, float] = (0.0, 0.0),
) -> Scene:
    """One tracklet on a straight line; ``start`` is where it would be in frame 0."""
    rng = np.random.default_rng(abs(number))
    boxes = [standing_box(start[0] + speed[0] * t, start[1] + speed[1] * t) for t in frames]
    seen = look + 0.1 * rng.standard_normal((len(frames), len(look)))
    return Scene(np.array(frames), np.array(boxes), np.full(len(frames), number), seen)


def together(*tracklets: Scene) -> Scene:
    columns = zip(*(one.columns() for one in tracklets), strict=True)
    return Scene(*(np.concatenate(column) for column in columns))


def look(number: int) -> FloatArray:
    """What somebody looks like: eight directions, all at right angles."""
    return np.eye(8)[number]


def same(first: IntArray, second: IntArray) -> bool:
    """Whether two labellings say the same, up to the names."""
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    names = [{pair[side] for pair in pairs} for side in (0, 1)]
    none = all((a == NONE) == (b == NONE) for a, b in pairs)
    return none and len(pairs) == len(names[0]) == len(names[1])


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Tracklets with holes of a few people, close in time and place, in any order of rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, people = draw(st.integers(1, 14)), draw(st.integers(1, 4))
    spread, noise = draw(st.sampled_from([20, 200])), draw(st.sampled_from([0.05, 0.5, 2.0]))
    looks, parts = rng.standard_normal((people, 6)), []
    for number in range(count):
        length = int(rng.integers(1, 25))
        frames = rng.integers(0, spread) + np.sort(rng.choice(30, length, replace=False))
        centre = rng.uniform(0, 300, 2) + rng.normal(0, 3, 2) * (frames - frames[0])[:, None]
        boxes = [standing_box(x, y, rng.uniform(60, 90)) for x, y in centre]
        who = looks[rng.integers(people)] + noise * rng.standard_normal((length, 6))
        name = NONE if rng.random() < 0.1 else number
        parts.append(Scene(frames, np.array(boxes), np.full(length, name), who))
    whole = together(*parts)
    whole = whole.rows(rng.permutation(len(whole.frames)))
    if (whole.ids == NONE).all():
        whole.ids[:] = 0
        _, first = np.unique(whole.frames, return_index=True)
        whole = whole.rows(first)
    return whole


# --- laws of linking


@settings(max_examples=80)
@given(scenes(), st.sampled_from([0.0, 0.5, 0.995]), st.sampled_from([0.0, 0.05, 5.0]))
def test_the_partition_is_a_coarsening_that_never_joins_who_was_seen_together(
    scene: Scene, quantile: float, motion_weight: float
) -> None:
    found = scene.link(quantile=quantile, motion_weight=motion_weight)
    assert ((found == NONE) == (scene.ids == NONE)).all()
    used = found != NONE
    assert sorted(set(found[used].tolist())) == list(range(found.max() + 1))
    for number in set(scene.ids[used].tolist()):
        assert len(set(found[scene.ids == number].tolist())) == 1
    seen = list(zip(scene.frames[used].tolist(), found[used].tolist(), strict=True))
    assert len(seen) == len(set(seen))  # nobody is twice in a frame


@settings(max_examples=60)
@given(scenes(), st.integers(0, 2**32 - 1))
def test_neither_the_order_of_rows_nor_the_names_of_tracklets_matter(
    scene: Scene, seed: int
) -> None:
    rng, found = np.random.default_rng(seed), scene.link(quantile=0.5)
    order = rng.permutation(len(found))
    assert same(scene.rows(order).link(quantile=0.5), found[order])
    names = rng.choice([-(10**12), -7, -2, 0, 3, *range(10**6, 10**6 + 40)], 15, replace=False)
    renamed = np.where(scene.ids == NONE, NONE, names[scene.ids])
    again = Scene(scene.frames, scene.boxes, renamed, scene.embeddings)
    assert same(again.link(quantile=0.5), found)


@settings(max_examples=60)
@given(scenes(), st.integers(-5000, 5000), st.floats(0.5, 4), st.floats(-900, 900))
def test_when_where_how_large_and_in_which_direction_of_time_do_not_matter(
    scene: Scene, later: int, larger: float, aside: float
) -> None:
    found = scene.link(quantile=0.5)
    length = np.random.default_rng(0).uniform(0.1, 9, (len(found), 1))  # cosine knows none
    moved = Scene(
        scene.frames + later, scene.boxes * larger + aside, scene.ids, scene.embeddings * length
    )
    assert same(moved.link(quantile=0.5), found)
    backwards = Scene(-scene.frames, scene.boxes, scene.ids, scene.embeddings)
    assert same(backwards.link(quantile=0.5), found)


@settings(max_examples=40)
@given(scenes())
def test_what_no_tracklet_has_says_nothing(scene: Scene) -> None:
    found, none = scene.link(quantile=0.5), scene.ids == NONE
    broken = Scene(scene.frames, scene.boxes.copy(), scene.ids, scene.embeddings.copy())
    broken.boxes[none], broken.embeddings[none] = np.nan, np.nan
    assert np.array_equal(broken.link(quantile=0.5), found)
    assert np.array_equal(scene.rows(np.flatnonzero(~none)).link(quantile=0.5), found[~none])


@settings(max_examples=40)
@given(scenes(), st.integers(0, 2**32 - 1))
def test_boxes_without_looks_say_where_but_not_who(scene: Scene, seed: int) -> None:
    shown = np.random.default_rng(seed).random(len(scene.frames)) < 0.7
    options = LinkOptions(quantile=0.5)
    found = link_tracklets(*scene.columns(), options, looks=shown)
    assert np.array_equal(
        scene.link(quantile=0.5),
        link_tracklets(*scene.columns(), options, looks=np.ones(len(shown), dtype=bool)),
    )
    hidden = scene.embeddings.copy()
    hidden[~shown] = np.nan
    again = link_tracklets(scene.frames, scene.boxes, scene.ids, hidden, options, looks=shown)
    assert np.array_equal(again, found)
    used = found != NONE
    seen = list(zip(scene.frames[used].tolist(), found[used].tolist(), strict=True))
    assert len(seen) == len(set(seen))  # where a box is counts, whatever it shows


def test_likeness_is_that_of_the_boxes_with_looks() -> None:
    """Half of his crops show a post; without them he is who he was."""
    first, again = walk(1, range(20), look(0), (0, 0)), walk(2, range(90, 110), look(0), (0, 0))
    again.embeddings[::2] = look(5)
    scene = together(first, again, walk(3, range(110), look(1), (300, 0)))
    shown = np.ones(len(scene.frames), dtype=bool)
    shown[20:40:2] = False
    strict = LinkOptions(quantile=1.0)
    found = link_tracklets(*scene.columns(), strict, looks=shown)
    assert found[0] == found[20] != found[-1]
    with_post = link_tracklets(*scene.columns(), strict)
    assert np.array_equal(with_post, found)  # 0.5 is still more than two strangers' 0
    scene.embeddings[20:40:2] = -look(0)
    assert np.array_equal(link_tracklets(*scene.columns(), strict, looks=shown), found)
    opposite = link_tracklets(*scene.columns(), strict)
    assert opposite[0] != opposite[20]


# --- agglomeration


def naive(
    crops: list[FloatArray], apart: BoolArray, motion: FloatArray, threshold: float
) -> list[set[int]]:
    """All pairs of clusters, crop by crop, again and again."""
    clusters = [{k} for k in range(len(crops))]
    while True:
        best, pair = threshold, None
        for a, one in enumerate(clusters):
            for b, other in enumerate(clusters[:a]):
                if any(apart[i, j] for i in one for j in other):
                    continue
                cosines = [
                    float(x @ y) for i in one for j in other for x in crops[i] for y in crops[j]
                ]
                score = sum(cosines) / len(cosines) + max(motion[i, j] for i in one for j in other)
                if score > best:
                    best, pair = score, (a, b)
        if pair is None:
            return clusters
        clusters[pair[1]] |= clusters.pop(pair[0])


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 11),
    st.sampled_from([0.0, 0.2, 0.6]),
    st.sampled_from([0.0, 0.4]),
    st.sampled_from([-1.1, 0.0, 0.3, 0.6]),
)
def test_agglomeration_equals_a_naive_one(
    seed: int, count: int, share: float, weight: float, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    crops = [rng.standard_normal((rng.integers(1, 4), 3)) for _ in range(count)]
    crops = [c / np.linalg.norm(c, axis=1, keepdims=True) for c in crops]
    apart = rng.random((count, count)) < share
    apart = apart | apart.T | np.eye(count, dtype=bool)
    motion = weight * rng.random((count, count)) * (rng.random((count, count)) < 0.4)
    motion = np.maximum(motion, motion.T)
    sums, sizes = np.stack([c.sum(0) for c in crops]), np.array([float(len(c)) for c in crops])
    given = [a.copy() for a in (sums, sizes, apart, motion)]
    labels = _agglomerate(sums, sizes, apart, motion, threshold)
    expected = naive(crops, apart, motion, threshold)
    assert {frozenset(np.flatnonzero(labels == k).tolist()) for k in set(labels.tolist())} == {
        frozenset(cluster) for cluster in expected
    }
    for before, after in zip(given, (sums, sizes, apart, motion), strict=True):
        assert np.array_equal(before, after)  # what was given is left alone


def test_equal_scores_are_joined_all_the_same() -> None:
    """Nine tracklets that look exactly alike, in three columns that are apart: three of three."""
    columns = np.repeat(np.arange(3), 3)
    apart = (columns[:, None] == columns) & ~np.eye(9, dtype=bool)
    labels = _agglomerate(np.ones((9, 1)), np.ones(9), apart, np.zeros((9, 9)), 0.5)
    for k in range(3):
        assert sorted(columns[labels == k].tolist()) == [0, 1, 2]


# --- motion's evidence


def evidence(*tracklets: Scene, **options: Any) -> tuple[float, bool]:
    """Of the first two."""
    scene = together(*tracklets)
    ends = _Ends.of(scene.frames, scene.boxes, scene.ids)
    nats, impossible = _motion_evidence(ends, LinkOptions(**options))
    assert np.array_equal(nats, nats.T)
    assert np.array_equal(impossible, impossible.T)
    return float(nats[0, 1]), bool(impossible[0, 1])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_motion_s_evidence_by_hand(order: tuple[int, int]) -> None:
    """Someone goes on at 3 pixels a frame after five frames; 10 pixels off, 1.1 times as high."""
    numbers = dict(zip(("first", "second"), order, strict=True))
    first = walk(numbers["first"], range(20), look(0), (0.0, 0.0), (3.0, 1.0))
    second = walk(numbers["second"], range(24, 44), look(0), (10.0, 0.0), (3.0, 1.0))
    centre = (second.boxes[:, :2] + second.boxes[:, 2:]) / 2
    second.boxes = np.array([standing_box(x, y, 1.1 * HEIGHT) for x, y in centre])
    first.boxes[:10] *= 2  # only the last ten boxes and the first ten matter
    second.boxes[10:] *= 2
    spread, miss = 0.05 + 0.015 * 5, 10 / 105
    nats = math.log(20 / (2 * math.pi * spread**2))
    nats -= miss**2 / (2 * spread**2) + math.log(1.1) ** 2 / (2 * 0.15**2)
    found, impossible = evidence(first, second)
    assert found == pytest.approx(nats, abs=1e-9)
    assert not impossible
    assert evidence(first, second, max_gap=4) == (0.0, False)  # too long ago to say anything
    assert evidence(first, second, speed=1e-3) == (pytest.approx(nats), False)  # within a height


def test_motion_s_evidence_has_ends() -> None:
    first = walk(0, range(20), look(0), (0.0, 0.0))
    assert evidence(first, walk(1, range(20, 40), look(0), (0.0, 0.0))) == (6.0, False)
    beside = walk(1, range(22, 40), look(0), (90.0, 0.0))  # 0.9 heights off: 7 deviations
    assert evidence(first, beside) == (0.0, True)
    much_later = walk(1, range(219, 240), look(0), (3000.0, 0.0))  # 30 heights in 200 frames
    assert evidence(first, much_later) == (0.0, False)
    assert evidence(first, walk(1, range(219, 240), look(0), (3200.0, 0.0))) == (0.0, True)
    assert evidence(first, walk(1, range(5, 40), look(0), (0.0, 0.0))) == (0.0, False)  # together


# --- scenarios: two others are there all the time, and say how alike two people are

OTHERS = (
    walk(90, range(400), look(6), (-600.0, 900.0)),
    walk(91, range(400), look(7), (-600.0, 500.0)),
)


def objects(scene: Scene) -> dict[int, int]:
    found = scene.link()
    return dict(zip(scene.ids.tolist(), found.tolist(), strict=True))


def test_a_broken_straight_way_is_joined_again() -> None:
    parts = [range(30), range(38, 60), range(61, 90), range(110, 140)]
    way = [walk(n, part, look(0), (0.0, 0.0), (4.0, 1.0)) for n, part in enumerate(parts)]
    found = objects(together(*way, *OTHERS))
    assert len({found[n] for n in range(4)}) == 1
    assert len(set(found.values())) == 3


def test_a_way_is_joined_though_nobody_else_is_seen() -> None:
    way = [walk(n, range(25 * n, 25 * n + 20), look(0), (0.0, 0.0), (4.0, 1.0)) for n in (0, 1)]
    assert len(set(objects(together(*way)).values())) == 1


def test_people_in_the_same_clothes_cross_and_go_on_as_themselves() -> None:
    """One to the right, one to the left; where they cover each other their tracklets are cut.

    A tracker that takes each for the other there is put right.
    """
    right = walk(1, range(100), look(0), (0.0, 0.0), (4.0, 0.0))
    left = walk(2, range(100), look(0), (402.0, 3.0), (-4.0, 0.0))
    for swapped in (False, True):
        both = together(right, left, *OTHERS)
        truth = both.ids.copy()
        if swapped:
            later = (both.frames >= 50) & (both.ids < 90)
            both.ids[later] = 3 - both.ids[later]
        both.ids = cut_at_overlaps(both.frames, both.boxes, both.ids)
        assert len(set(both.ids.tolist())) == 7  # two before, two after, two others, NONE
        found = both.link()
        sure = found != NONE
        assert 0 < (~sure).sum() < 20
        assert same(found[sure], truth[sure])


@pytest.mark.parametrize("hidden", [2, 12, 40, 120])
def test_nobody_is_joined_to_one_seen_beside_however_alike(hidden: int) -> None:
    """Four in the same clothes stand in a row, all are lost, and four come back."""
    before = [walk(n, range(30), look(0), (150.0 * n, 0.0)) for n in range(4)]
    after = range(30 + hidden, 70 + hidden)
    again = [walk(n + 4, after, look(0), (150.0 * n, 0.0)) for n in range(4)]
    found = objects(together(*before, *again, *OTHERS))
    assert len({found[n] for n in range(4)}) == len({found[n + 4] for n in range(4)}) == 4
    if hidden <= 12:  # motion says who is who
        assert [found[n] for n in range(4)] == [found[n + 4] for n in range(4)]


def test_someone_gone_for_200_frames_is_known_by_appearance_alone() -> None:
    gone = walk(1, range(40), look(0), (0.0, 0.0), (4.0, 0.0))
    back = walk(2, range(240, 280), look(0), (800.0, 200.0), (-3.0, 0.0))
    stranger = walk(3, range(290, 330), look(1), (0.0, 0.0), (4.0, 0.0))  # where the first began
    found = objects(together(gone, back, stranger, *OTHERS))
    assert found[1] == found[2]
    assert len(set(found.values())) == 4


def test_a_double_of_two_boxes_does_not_say_how_alike_two_people_are() -> None:
    """Somebody's mirror image far off: two boxes are no person to be told from."""
    gone = walk(1, range(40), look(0), (0.0, 0.0), (4.0, 0.0))
    back = walk(2, range(240, 280), look(0), (800.0, 200.0), (-3.0, 0.0))
    double = walk(3, range(20, 22), look(0), (9000.0, 0.0))
    double.embeddings[:] = look(0)  # more like him than he is himself later
    found = objects(together(gone, back, double, *OTHERS))
    assert found[1] == found[2] != found[3]


def test_nobody_leaps_across_the_scene() -> None:
    here = walk(1, range(40), look(0), (0.0, 0.0))
    there = walk(2, range(42, 80), look(0), (800.0, 0.0))
    found = objects(together(here, there, *OTHERS))
    assert found[1] != found[2]


def test_strangers_who_come_one_by_one_stay_strangers() -> None:
    """Nobody is seen beside another: then the most alike pair of a few is not good enough."""
    rng = np.random.default_rng(3)
    ones = [
        walk(n, range(300 * n, 300 * n + 40), rng.standard_normal(32), (0.0, 0.0)) for n in range(9)
    ]
    assert len(set(objects(together(*ones)).values())) == 9


# --- cutting


def naive_cut(
    frames: IntArray, boxes: FloatArray, ids: IntArray, overlap: float
) -> list[tuple[int, int]]:
    """For each box its tracklet and how often that was cut before; (NONE, 0) where it overlaps."""

    def shared(a: FloatArray, b: FloatArray) -> float:
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        inter = max(width, 0.0) * max(height, 0.0)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
        return float(inter / union) if union > 0 else 0.0

    count = range(len(frames))
    covered = [
        any(
            i != j and frames[i] == frames[j] and shared(boxes[i], boxes[j]) > overlap
            for j in count
        )
        for i in count
    ]
    out = [(NONE, 0)] * len(frames)
    for number in set(ids.tolist()) - {NONE}:
        piece, before = 0, False
        for i in sorted((i for i in count if ids[i] == number), key=lambda i: int(frames[i])):
            piece += int(before and not covered[i])
            before = covered[i]
            out[i] = (NONE, 0) if covered[i] else (number, piece)
    return out


@settings(max_examples=50)
@given(scenes(), st.sampled_from([0.05, 0.35, 0.8, 1.0]))
def test_cutting_equals_a_naive_loop(scene: Scene, overlap: float) -> None:
    pieces = cut_at_overlaps(scene.frames, scene.boxes, scene.ids, LinkOptions(overlap=overlap))
    expected = naive_cut(scene.frames, scene.boxes, scene.ids, overlap)
    names = {name: n for n, name in enumerate(sorted(set(expected) - {(NONE, 0)}))}
    assert same(pieces, np.array([names.get(name, NONE) for name in expected]))
    assert sorted(set(pieces.tolist()) - {NONE}) == list(range(len(names)))
    order = np.random.default_rng(0).permutation(len(pieces))
    again = cut_at_overlaps(
        scene.frames[order], scene.boxes[order], scene.ids[order], LinkOptions(overlap=overlap)
    )
    assert np.array_equal(again, pieces[order])


# --- edges


def test_one_tracklet_is_one_object() -> None:
    for length in (1, 2, 30):
        one = walk(7, range(length), look(0), (0.0, 0.0))
        assert one.link().tolist() == [0] * length
        assert cut_at_overlaps(*one.columns()[:3]).tolist() == [0] * length


def test_boxes_without_height_and_embeddings_of_nothing() -> None:
    scene = together(
        walk(-5, range(9), look(0), (0.0, 0.0)), walk(10**9, range(9), look(1), (0, 0))
    )
    scene.boxes[:, 3] = scene.boxes[:, 1]
    scene.embeddings[:] = 0
    found = scene.link()
    assert len(set(found.tolist())) == 2
    assert same(cut_at_overlaps(*scene.columns()[:3]), found)  # no area is no overlap


def test_nothing_to_link() -> None:
    scene = walk(NONE, range(5), look(0), (0.0, 0.0))
    empty = scene.rows(np.zeros(0, np.int64))
    for nothing in (scene, empty):
        with pytest.raises(InputError, match="no tracklets to link"):
            nothing.link()
    assert len(cut_at_overlaps(*empty.columns()[:3])) == 0
    assert cut_at_overlaps(*scene.columns()[:3]).tolist() == [NONE] * 5


def test_two_that_always_cover_each_other_leave_nothing() -> None:
    both = together(walk(1, range(9), look(0), (0, 0)), walk(2, range(9), look(1), (2.0, 0)))
    assert set(cut_at_overlaps(*both.columns()[:3]).tolist()) == {NONE}


@pytest.mark.parametrize("column", ["boxes", "embeddings"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(column: str, value: float) -> None:
    """They would be taken for likeness to nobody, and nothing would be joined at all."""
    scene = together(walk(1, range(9), look(0), (0, 0)), walk(4, range(20, 29), look(0), (0, 0)))
    getattr(scene, column)[12, 1] = value
    with pytest.raises(InputError, match=rf"^the {column} hold NaN or .*\(tracklet 4, frame 23\)$"):
        scene.link()


def test_two_boxes_of_a_tracklet_in_a_frame_are_named() -> None:
    scene = walk(4, range(9), look(0), (0.0, 0.0))
    scene.frames[5] = 4
    with pytest.raises(InputError, match=r"^tracklet 4 has two boxes in frame 4$"):
        scene.link()


def test_arrays_that_do_not_fit() -> None:
    frames, boxes, ids, embeddings = walk(4, range(9), look(0), (0.0, 0.0)).columns()
    with pytest.raises(InputError, match="9 frames, 9 boxes, 8 tracklets and 9 embeddings"):
        link_tracklets(frames, boxes, ids[1:], embeddings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("overlap", 0.0),
        ("overlap", 1.5),
        ("quantile", -0.1),
        ("quantile", math.nan),
        ("motion_weight", -1.0),
        ("max_gap", 0),
        ("drift", (0.0, 0.1)),
        ("drift", (0.1, math.nan)),
        ("growth", math.nan),
        ("area", -1.0),
        ("speed", 0.0),
    ],
)
def test_options_that_mean_nothing_are_named(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        LinkOptions(**{name: value})
    assert "\n" not in str(caught.value)

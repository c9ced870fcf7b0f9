"""Re-linking finished tracks: a broken one is mended, nobody is joined with whom they stood by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.detections import Detections, Frame, Tracks
from tracker.io.mot import BoxTable
from tracker.relinking import Witness, relink, renamed, replayed
from trackvae.errors import InputError

HEIGHT = 100.0


def walk(name, frames, who, start, speed=0.0, label=1, seed=0):
    """A track of one person ``(frames, names, boxes, classes, looks)``, walking to the right."""
    rng = np.random.default_rng(seed + name)
    x = start + speed * np.asarray(frames)
    boxes = np.stack([x, 0 * x, x + 0.4 * HEIGHT, 0 * x + HEIGHT], axis=1)
    looks = np.eye(8)[who] + 0.1 * rng.standard_normal((len(x), 8))
    return np.asarray(frames), np.full(len(x), name), boxes, np.full(len(x), label), looks


def tables(*walks):
    """Tracks, and the detections that they were made of."""
    frames, names, boxes, labels, looks = (
        np.concatenate(columns) for columns in zip(*walks, strict=True)
    )
    tracks = BoxTable.of(frames, names, boxes)
    return tracks, BoxTable.of(frames, 0 * frames - 1, boxes, classes=labels, embeddings=looks)


def test_a_broken_track_is_mended_and_keeps_its_first_name():
    tracks, seen = tables(
        walk(4, range(1, 41), 0, 0, 2.0),
        walk(7, range(60, 100), 0, 0, 2.0),
        walk(5, range(1, 100), 1, 600),
    )
    assert relink(tracks, seen) == {4: 4, 5: 5, 7: 4}


def test_who_returns_after_a_long_time_is_known_by_looks_alone():
    tracks, seen = tables(
        walk(1, range(1, 41), 0, 0),
        walk(2, range(1, 400), 1, 300),
        walk(3, range(300, 340), 0, 900),
        walk(4, range(300, 340), 2, 1200),
    )
    assert relink(tracks, seen) == {1: 1, 2: 2, 3: 1, 4: 4}


def test_tracks_of_two_classes_are_two_objects_unless_it_is_said_otherwise():
    tracks, seen = tables(
        walk(1, range(1, 41), 0, 0, label=1),
        walk(2, range(45, 90), 0, 0, label=2),
        walk(3, range(1, 90), 1, 600, label=1),
        walk(4, range(1, 90), 2, 900, label=2),
    )
    assert relink(tracks, seen) == {1: 1, 2: 2, 3: 3, 4: 4}
    assert relink(tracks, seen, per_class=False) == {1: 1, 2: 1, 3: 3, 4: 4}


def test_a_track_between_two_detections_still_says_where_it_was():
    """Carried by motion alone while its other half is seen: they are two, however alike."""
    tracks, seen = tables(
        walk(1, range(1, 60), 0, 0), walk(2, range(50, 99), 0, 500), walk(3, range(1, 99), 1, 900)
    )
    unseen = (seen.frames >= 45) & (seen.frames < 60) & (tracks.ids == 1)
    assert relink(tracks, seen.select(~unseen)) == {1: 1, 2: 2, 3: 3}


def test_the_looks_of_a_covered_box_say_nothing():
    """Somebody in front is what the covered one's crops show; joined, they would be one."""
    behind = walk(2, range(45, 90), 0, 10)
    front = list(walk(9, range(45, 90), 3, 0))
    front[2] = front[2] + [0, 5, 0, 5]  # nearer: its lower edge is lower
    tracks, seen = tables(walk(1, range(1, 41), 0, 2000), behind, tuple(front))
    assert relink(tracks, seen)[2] == 2


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_names_are_joined_only_where_nobody_is_then_twice_in_a_frame(seed, count):
    rng = np.random.default_rng(seed)
    walks = []
    for name in range(1, count + 1):
        first, length = rng.integers(1, 60), rng.integers(1, 30)
        who, place = int(rng.integers(3)), float(rng.uniform(0, 200))
        walks.append(walk(name, range(first, first + length), who, place, seed=seed % 1000))
    tracks, seen = tables(*walks)
    names = relink(tracks, seen)
    assert set(names) == set(range(1, count + 1))
    assert set(names.values()) <= set(names)
    assert all(names[new] == new for new in names.values())
    pairs = np.stack([tracks.frames, renamed(tracks.ids, names)], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    first = {n: int(tracks.frames[tracks.ids == n].min()) for n in names}
    assert all(first[new] <= first[old] for old, new in names.items())


def test_nothing_to_link_is_no_error():
    tracks, seen = tables(walk(3, range(1, 20), 0, 0))
    bare = BoxTable.of(seen.frames, seen.ids, seen.boxes)
    assert relink(BoxTable.empty(), BoxTable.empty()) == {}
    assert relink(tracks, seen) == {3: 3}
    both, _ = tables(walk(1, range(1, 20), 0, 0), walk(2, range(30, 50), 0, 0))
    assert relink(both, bare) == {1: 1, 2: 2}
    elsewhere = BoxTable.of(
        seen.frames, seen.ids, seen.boxes + 500, embeddings=np.ones((len(seen), 2))
    )
    assert relink(both, elsewhere) == {1: 1, 2: 2}


class Given:
    """Three frames' detections, which somebody else described or did not."""

    needs_image = False

    def __init__(self, embeddings=None):
        self.names, self.embeddings, self.resets = {}, embeddings, 0

    def __call__(self, frame):
        count = 0 if frame.index == 2 else 2
        boxes = np.array([[0.0, 0.0, 5.0, 9.0], [6.0, 0.0, 9.0, 9.0]])[:count] + frame.index
        looks = None if self.embeddings is None else self.embeddings[:count]
        return Detections.of(boxes, embeddings=looks)

    def reset(self):
        self.resets += 1


def frames(image):
    return [Frame(number, number / 10, image) for number in (1, 2, 3)]


def test_a_witness_describes_what_nobody_has_and_remembers_it():
    image = np.zeros((20, 20, 3), np.uint8)
    witness = Witness(Given(), lambda image, boxes: boxes[:, :3] * 2, keep_tracks=True)
    for frame in frames(image):
        seen = witness(frame)
        ids = np.arange(len(seen)) + 1
        witness.write(frame, Tracks(ids, seen.boxes, seen.scores, seen.classes, ids - 1))
    table = witness.table
    assert table.frames.tolist() == [1, 1, 3, 3]
    np.testing.assert_array_equal(table.embeddings, 2 * table.boxes[:, :3])
    assert all(frame.image is None for frame, _ in witness.followed)
    again = list(replayed(witness.followed, {2: 1}, frames(image)))
    assert [frame.index for frame, _ in again] == [1, 2, 3]
    assert again[0][0].image is image
    assert [tracks.ids.tolist() for _, tracks in again] == [[1, 1], [], [1, 1]]
    witness.reset()
    assert len(witness.table) == len(witness.followed) == 0


def test_a_witness_leaves_given_embeddings_alone():
    looks = np.array([[1.0, 2.0], [3.0, 4.0]])
    witness = Witness(Given(looks), None, keep_tracks=False)
    assert [len(witness(frame)) for frame in frames(None)] == [2, 0, 2]
    np.testing.assert_array_equal(witness.table.embeddings, np.tile(looks, (2, 1)))


def test_without_an_image_nothing_can_be_described():
    witness = Witness(Given(), lambda image, boxes: boxes, keep_tracks=False)
    with pytest.raises(InputError, match="frame 1 has no image"):
        witness(frames(None)[0])

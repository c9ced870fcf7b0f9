"""The presets with calibrated looks: who crosses, who comes back, who only looks like somebody."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracker import Detections, Tracker, evaluate
from tracker.calibration import Calibration, Logistic
from tracker.io.mot import BoxTable, read_boxes
from tracker.io.npz import read_npz
from tracker.io.sources import open_frames
from tracker.pipeline import DetectedSource, follow, rehearse
from tracker.presets import preset
from tracker.reidentification import posterior
from trackvae.errors import InputError, UsageError

# The same below a cosine distance of 0.5, with odds of 1 to 20,000 at 1 and 20,000 to 1 at 0.
SURE = Calibration(Logistic(-20.0, 10.0), Logistic(0.0, 1.0), 0.7, "cosine", 100, 100)
BLIND = Calibration(Logistic(0.0, 0.0), Logistic(0.0, 1.0), 0.7, "cosine", 100, 100)
RED, BLUE, GREEN = np.eye(3, dtype=np.float32)


def make(name="trackvae", calibration=SURE, **settings):
    return Tracker(name, calibration=calibration, **settings)


def box(x, y=100.0, w=40.0, h=80.0):
    return [x, y, x + w, y + h]


def seen(*people):
    """Detections of (x, look)."""
    return Detections.of([box(x) for x, _ in people], embeddings=np.array([k for _, k in people]))


def walk(tracker, *moments):
    """The ids of the last of some frames."""
    for moment in moments:
        tracks = tracker.update(moment)
    return tracks.ids.tolist()


# --- looks and motion as one


def meeting(t):
    """Two people walk towards each other, meet, and go back: motion says that they pass."""
    way = min(t, 20 - t) * 6.0
    return 100 + way, 234 - way


@pytest.mark.parametrize(("calibration", "kept"), [(SURE, True), (BLIND, False)])
def test_two_people_who_turn_round_where_they_meet(calibration, kept):
    tracker = make(calibration=calibration)
    for t in range(21):
        a, b = meeting(t)
        people = [(a, RED), (b, BLUE)] if t < 8 or t > 12 else [(min(a, b) + 5, RED)]
        tracks = tracker.update(seen(*people))
    order = tracks.ids[np.argsort(tracks.boxes[:, 0])]
    assert (order.tolist() == [1, 2]) == kept


def test_two_people_cross_and_keep_their_identities():
    tracker = make()
    for t in range(30):
        tracks = tracker.update(seen((100 + 5 * t, RED), (245 - 5 * t, BLUE)))
    assert tracks.ids[np.argsort(tracks.boxes[:, 0])].tolist() == [2, 1]


def test_looks_that_say_nothing_leave_it_to_motion():
    """Law: with a flat calibration, trackvae does what it does without any looks."""
    rng = np.random.default_rng(0)
    blind, plain = make(calibration=BLIND), make(calibration=BLIND)
    for t in range(60):
        xs = [100 + 4 * t, 340 - 4 * t, 500 + 10 * np.sin(t / 5)]
        there = [x + rng.normal() for x in xs if rng.random() < 0.8]
        looks = rng.normal(size=(len(there), 3)).astype(np.float32)
        a = blind.update(Detections.of([box(x) for x in there] or [], embeddings=looks))
        b = plain.update(Detections.of([box(x) for x in there] or []))
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.boxes, b.boxes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["trackvae", "fmvae-sort"])
@pytest.mark.parametrize("calibration", [SURE, BLIND])
def test_frames_with_and_without_looks_and_with_covered_newcomers(name, calibration):
    """Ids stay unique, and every track that is seen points to one detection of its own."""
    rng = np.random.default_rng(5)
    tracker = make(name, calibration)
    for t in range(120):
        n = int(rng.integers(0, 6))
        corner = rng.uniform(0, 200, (n, 2))
        looks = rng.normal(size=(n, 3)).astype(np.float32)
        boxes = np.hstack([corner, corner + rng.uniform(20, 120, (n, 2))])
        given_looks = name == "fmvae-sort" or t % 3
        tracks = tracker.update(Detections.of(boxes, embeddings=looks if given_looks else None))
        matched = tracks.detection_index[tracks.detection_index >= 0]
        assert len(set(tracks.ids.tolist())) == len(tracks)
        assert len(set(matched.tolist())) == len(matched)
        assert np.isfinite(tracks.boxes).all()


def test_a_low_score_keeps_a_track_but_starts_none():
    """Of the scores' calibration: 0.9 is linked nine times of ten, 0.1 once."""
    scores = Logistic(5.49, -2.75)
    tracker = make(calibration=Calibration(SURE.distance, scores, 0.7, "cosine", 1, 1))

    def frame(*given):
        return Detections.of([box(300 * k) for k in range(len(given))], list(given))

    assert walk(tracker, *[frame(0.9, 0.1)] * 4) == [1]
    assert walk(tracker, *[frame(0.1, 0.1)] * 10) == [1]


# --- coming back


@pytest.mark.parametrize(
    ("settings", "look", "where", "identity"),
    [
        ({}, RED, 320.0, 1),
        ({}, BLUE, 320.0, 2),
        ({"reid_probability": None}, RED, 320.0, 2),
        ({"reid_age": 100}, RED, 320.0, 2),
        ({"reid_most": 0}, RED, 320.0, 2),
        ({}, RED, 9e4, 2),
        ({"reid_speed": 1e6}, RED, 9e4, 1),
    ],
    ids=["the same", "another", "off", "too late", "no room", "too far", "but fast"],
)
def test_who_comes_back_after_a_while(settings, look, where, identity):
    tracker = make(**settings)
    walk(tracker, *[seen((100, RED))] * 5, *[Detections.empty()] * 200)
    assert walk(tracker, *[seen((where, look))] * 4) == [identity]


def test_two_come_back_at_once_each_to_their_own():
    tracker = make()
    walk(tracker, *[seen((100, RED), (300, BLUE))] * 5, *[Detections.empty()] * 60)
    tracks = [tracker.update(seen((110, BLUE), (310, RED))) for _ in range(4)][-1]
    assert tracks.ids[np.argsort(tracks.boxes[:, 0])].tolist() == [2, 1]


def test_nobody_takes_the_identity_of_who_is_there():
    tracker = make()
    walk(tracker, *[seen((100, RED))] * 5)
    assert walk(tracker, *[seen((100, RED), (400, RED))] * 5) == [1, 2]


def test_nobody_takes_the_identity_of_who_was_seen_beside_them():
    """A newcomer was seen beside somebody who then leaves: they are two, however alike."""
    tracker = make(min_hits=6)
    walk(tracker, *[seen((100, RED))] * 8)
    walk(tracker, *[seen((100, RED), (400, RED))] * 3)
    assert walk(tracker, *[seen((400, RED))] * 5) == [2]


def test_look_alikes_make_each_other_doubtful():
    tracker = make()
    walk(tracker, *[seen((100, RED), (300, RED))] * 5, *[Detections.empty()] * 60)
    assert walk(tracker, *[seen((200, RED))] * 4) == [3]


def test_who_came_back_is_known_by_the_looks_of_both_times():
    both = np.array([0.75, 0.66, 0.0], np.float32)
    tracker = make()
    walk(tracker, *[seen((100, RED))] * 5, *[Detections.empty()] * 60)
    assert walk(tracker, *[seen((100, both))] * 4) == [1]
    walk(tracker, *[Detections.empty()] * 60)
    green_and_both = np.array([0.55, 0.66, 0.5], np.float32)
    assert walk(tracker, *[seen((100, green_and_both))] * 4) == [1]


def test_classes_are_never_mixed():
    tracker = make()
    one = Detections.of([box(100)], classes=[0], embeddings=[RED])
    other = Detections.of([box(100)], classes=[1], embeddings=[RED])
    walk(tracker, *[one] * 5, *[Detections.empty()] * 60)
    assert walk(tracker, *[other] * 4) == [2]


def test_the_lost_are_bounded():
    tracker = make(reid_most=4, max_age=2)
    rng = np.random.default_rng(1)
    looks = np.eye(60, dtype=np.float32)
    for k in range(60):
        moment = Detections.of([box(rng.uniform(0, 2000))], embeddings=looks[[k]])
        walk(tracker, *[moment] * 4)
        assert len(tracker) <= 4 + 2 + 1
    walk(tracker, *[Detections.empty()] * 1000)
    assert len(tracker) == 0


def test_where_somebody_was_lost_moves_with_the_camera():
    """A quarter turn about the origin and a shift: the centre (120, 140) comes to (-130, 125)."""
    tracker = make()
    walk(tracker, *[seen((100, RED))] * 4)
    quarter = np.array([[0.0, -1.0, 10.0], [1.0, 0.0, 5.0]])
    tracker._returning.move(tracker._store, quarter)
    np.testing.assert_allclose(tracker._store.observed, [[-150, 85, -110, 165]])


def test_the_looks_of_a_covered_box_are_not_remembered():
    tracker = make(min_hits=1)
    walk(tracker, *[seen((100, RED))] * 3)
    front = [110.0, 110.0, 150.0, 200.0]  # lower, and over three quarters of the first
    for _ in range(10):
        tracker.update(Detections.of([box(100), front], embeddings=[BLUE, GREEN]))
    row = tracker._store.id.tolist().index(1)
    entries = tracker._memory._entries[tracker._store.slot[row]]
    np.testing.assert_allclose(entries, np.broadcast_to(RED, entries.shape))


@given(
    hnp.arrays(np.float64, (4, 3), elements=st.floats(-100, 100)),
    hnp.arrays(np.bool_, (4, 3)),
)
def test_the_probabilities_of_the_lost_leave_room_for_a_newcomer(log_ratio, possible):
    p = posterior(log_ratio, possible)
    assert ((p >= 0) & (p <= 1)).all()
    assert (p[~possible] == 0).all()
    assert (p.sum(axis=0) <= 1 + 1e-12).all()


def test_the_posterior_by_hand():
    """r = 9 alone: 9 / (1 + 9). Two of r = 9: 9 / (2 + 18). Of no evidence: 1 / (n + n)."""
    nine = np.log(9.0)
    p = posterior(np.array([[nine, nine, 0.0], [nine, 0.0, 0.0]]), np.array([[1, 1, 1], [0, 1, 1]]))
    np.testing.assert_allclose(p, [[0.9, 9 / 12, 0.25], [0, 1 / 12, 0.25]])


# --- where the calibration comes from


def crowd(t, people=4):
    """People side by side who rock a little, each in a colour."""
    rng = np.random.default_rng(t)
    looks = np.eye(8, dtype=np.float32)[:people] + 0.05 * rng.normal(size=(people, 8))
    boxes = [box(100 * k + 3 * np.sin(t / 4)) for k in range(people)]
    return Detections.of(boxes, embeddings=looks.astype(np.float32))


@pytest.mark.parametrize("name", ["trackvae", "fmvae-sort"])
def test_a_tracker_calibrates_itself_on_its_first_frames(name):
    tracker = Tracker(name, calibration_frames=40)
    known = [tracker.update(crowd(t)).ids.size and tracker.calibration for t in range(45)]
    assert not any(known[:39])
    assert known[44].same > 30
    assert tracker.update(crowd(45)).ids.tolist() == [1, 2, 3, 4]
    tracker.reset()
    assert tracker.calibration is None


def test_with_too_little_to_see_it_goes_on_by_motion():
    tracker = Tracker("trackvae", calibration_frames=10)
    for t in range(60):
        tracks = tracker.update(crowd(t, people=1))
    assert tracker.calibration is None
    assert tracks.ids.tolist() == [1]


def test_trackvae_works_without_looks_and_fmvae_sort_says_that_it_cannot():
    tracker = Tracker("trackvae", calibration_frames=20)
    for t in range(40):
        tracks = tracker.update([box(100 + 3 * t), box(400)])
    assert tracks.ids.tolist() == [1, 2]
    assert tracker.calibration.distance.slope == 0
    with pytest.raises(UsageError, match="fmvae-sort compares appearances"):
        Tracker("fmvae-sort").update([box(10)])


class Counting:
    """A detector with a state: frame n shows what it said the n-th time it was asked."""

    needs_image = False

    def __init__(self):
        self.names, self.asked, self.count = {}, [], 0

    def __call__(self, frame):
        """One frame shows nothing, which is an answer too."""
        self.asked.append(frame.index)
        self.count += 1
        return Detections.empty() if frame.index == 3 else crowd(self.count)

    def reset(self):
        self.count = 0


@pytest.fixture
def blank(tmp_path):
    """A sequence of 60 frames without images."""
    (tmp_path / "made" / "det").mkdir(parents=True)
    (tmp_path / "made" / "det" / "det.txt").write_text("60,-1,0,0,10,10,1,-1,-1,-1\n")
    return open_frames(tmp_path / "made")


def test_a_rehearsed_source_is_looked_at_once_and_tracked_the_same(blank):
    source = DetectedSource(blank, Counting())
    config = preset("trackvae")
    rehearsed, collected = rehearse(source, config, None, frames=50)
    calibration = collected.fit()
    assert collected.frames == 50
    boxes = []
    for shown in (rehearsed, source, rehearsed):
        tracker = Tracker(config, calibration=calibration)
        boxes.append(follow(shown, tracker, need_images=False).boxes)
    assert boxes[0] == boxes[1] == boxes[2] > 0
    assert source.detector.asked == 3 * [*range(1, 61)]


class Plain(Counting):
    """The same without looks."""

    def __call__(self, frame):
        return Detections.of([box(frame.index)])


def test_a_rehearsal_without_images_ends_where_tracking_will_say_why(blank):
    source = DetectedSource(blank, Plain())
    _, collected = rehearse(source, preset("trackvae"), lambda image, boxes: None, frames=50)
    assert collected.frames == 0
    with pytest.raises(InputError, match="too little to calibrate on"):
        collected.fit()


# --- real boxes


@pytest.mark.real_data
@pytest.mark.parametrize("detector", ["FRCNN", "SDP"])
def test_trackvae_keeps_identities_better_than_deepsort_by_the_same_features(real_data, detector):
    name = f"MOT17-09-{detector}"
    data = real_data / "data" / "mot17"
    table = read_npz(data / "deepsort_features" / f"{name}.npz")
    truth = read_boxes(data / "gt" / "MOT17-09" / "gt" / "gt.txt", unique_ids=True)
    scores = {}
    for preset_name in ("sort", "deepsort", "trackvae"):
        tracker, rows = Tracker(preset_name), []
        for frame in range(1, 526):
            tracks = tracker.update(table.detections(frame))
            rows.append((np.full(len(tracks), frame), tracks.ids, tracks.boxes))
        result = BoxTable.of(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        scores[preset_name] = evaluate({name: truth}, {name: result}).sequences[name]
    for other in ("sort", "deepsort"):
        assert scores["trackvae"].IDF1 > scores[other].IDF1
        assert scores["trackvae"].AssA > scores[other].AssA
        assert scores["trackvae"].IDs <= scores[other].IDs

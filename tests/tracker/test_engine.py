"""The engine: the original trackers as oracles, laws of the life cycle, hand-made scenarios."""

import cv2
import numpy as np
import pytest
import supervision
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker.oracles import agreement, follow
from tracker import PRESETS, Detections, Tracker
from tracker.io.mot import read_boxes
from tracker.io.npz import read_npz
from tracker.io.seqinfo import read_seqinfo
from trackvae.errors import InputError, UsageError

EVERY = sorted(PRESETS)
CAMERA_OFF = {"camera_motion": "none"}


def make(name, **settings):
    """A preset that needs no image."""
    return Tracker(name, **(CAMERA_OFF | settings))


def box(x, y=100.0, w=40.0, h=80.0):
    return [x, y, x + w, y + h]


def seen(*boxes, embeddings=None, scores=None, classes=None):
    if embeddings is None:
        embeddings = np.eye(8, dtype=np.float32)[: len(boxes)]
    return Detections.of(list(boxes), scores, classes, embeddings)


# --- oracles


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["TUD-Campus", "TUD-Stadtmitte", "PETS09-S2L1", "MOT16-09"])
def test_sort_equals_the_original(real_data, name):
    folder = real_data / "data" / "mot" / name
    length = read_seqinfo(folder / "seqinfo.ini").length
    got = follow(Tracker("sort"), read_boxes(folder / "det" / "det.txt"), length)
    reference = read_boxes(real_data / "reference" / f"sort_{name}.txt")
    assert agreement(reference, got) >= 0.995


@pytest.mark.real_data
@pytest.mark.parametrize("detector", ["FRCNN", "SDP"])
def test_deepsort_equals_the_original(real_data, detector):
    name = f"MOT17-09-{detector}"
    table = read_npz(real_data / "data" / "mot17" / "deepsort_features" / f"{name}.npz")
    got = follow(Tracker("deepsort"), table, 525)
    reference = read_boxes(real_data / "reference" / f"deepsort_{name}.txt")
    assert agreement(reference, got) >= 0.995


# --- laws


@st.composite
def scenes(draw):
    """Frames of random detections with embeddings, some of them empty."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    frames = []
    for _ in range(draw(st.integers(1, 25))):
        n = int(rng.integers(0, 8))
        corner = rng.uniform(0, 300, (n, 2))
        boxes = np.hstack([corner, corner + rng.uniform(0, 120, (n, 2))])
        frames.append(
            Detections.of(
                boxes,
                rng.uniform(0, 1, n),
                rng.integers(0, 2, n),
                rng.normal(size=(n, 8)).astype(np.float32),
            )
        )
    return frames


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25, deadline=None)
@given(frames=scenes())
def test_ids_are_dense_unique_and_point_to_their_detection(name, frames):
    tracker, known = make(name), set()
    for detections in frames:
        tracks = tracker.update(detections)
        ids = tracks.ids.tolist()
        assert len(set(ids)) == len(ids)
        fresh = sorted(set(ids) - known)
        assert fresh == list(range(len(known) + 1, len(known) + 1 + len(fresh)))
        known |= set(ids)
        matched = tracks.detection_index >= 0
        index = tracks.detection_index[matched]
        assert len(set(index.tolist())) == len(index)
        np.testing.assert_array_equal(tracks.classes[matched], detections.classes[index])
        np.testing.assert_array_equal(tracks.scores[matched], detections.scores[index])
        assert np.isfinite(tracks.boxes).all()
        assert (tracks.boxes[:, 2:] > tracks.boxes[:, :2]).all()


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=15, deadline=None)
@given(frames=scenes())
def test_a_tracker_is_deterministic_and_reset_forgets_everything(name, frames):
    tracker = make(name)
    first = [tracker.update(d) for d in frames]
    tracker.reset()
    for detections, before in zip(frames, first, strict=True):
        again = tracker.update(detections)
        np.testing.assert_array_equal(again.ids, before.ids)
        np.testing.assert_array_equal(again.boxes, before.boxes)


@pytest.mark.parametrize("name", EVERY)
def test_time_stamps_at_the_frame_rate_change_nothing(name):
    rng = np.random.default_rng(0)
    plain, timed = make(name), make(name, frame_rate=25)
    for t in range(30):
        frame = seen(*(box(60 * k + 3 * t + rng.normal()) for k in range(5) if rng.random() < 0.8))
        a, b = plain.update(frame), timed.update(frame, timestamp=1e4 + t / 25)
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-4)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("empty", [[], None, np.zeros((0, 4)), Detections.empty()])
def test_empty_frames_are_ordinary_frames(name, empty):
    tracker = make(name)
    assert len(tracker.update(empty)) == 0
    for t in range(6):
        tracker.update(seen(box(100 + t), scores=[0.9]))
    assert len(tracker.update(empty)) in (0, 1)  # deepsort reports a track one frame longer


@pytest.mark.parametrize("name", EVERY)
def test_memory_of_dead_tracks_is_given_back(name):
    tracker = make(name)
    rng = np.random.default_rng(0)
    for _ in range(300):
        boxes = [box(x, y) for x, y in rng.uniform(0, 5000, (20, 2))]
        tracker.update(seen(*boxes, embeddings=rng.normal(size=(20, 8)), scores=np.full(20, 0.9)))
    assert len(tracker) <= 20 * (tracker.config.max_age + 2)
    if tracker._memory is not None:
        used = len(tracker._memory._count) - len(tracker._memory._free)
        assert used == len(tracker)


# --- scenarios


@pytest.mark.parametrize(
    ("name", "first"), [("sort", 1), ("deepsort", 3), ("bytetrack", 1), ("ocsort", 1)]
)
def test_the_frame_in_which_a_track_that_is_there_from_the_start_is_reported(name, first):
    tracker = make(name)
    reported = [t for t in range(1, 8) if len(tracker.update(seen(box(10 + 2 * t), scores=[0.9])))]
    assert reported == list(range(first, 8))


@pytest.mark.parametrize(
    ("name", "age"), [("sort", 4), ("deepsort", 3), ("bytetrack", 2), ("ocsort", 4)]
)
def test_a_later_track_is_reported_after_min_hits(name, age):
    tracker = make(name)
    for _ in range(5):
        tracker.update([])
    counts = [len(tracker.update(seen(box(10 + 2 * t), scores=[0.9]))) for t in range(6)]
    assert counts.index(1) + 1 == age


@pytest.mark.parametrize(
    ("name", "survives"),
    # DeepSORT's cascade ends at max_age, so that the last frame of a life matches nothing.
    [("sort", 1), ("deepsort", 29), ("bytetrack", 30), ("ocsort", 30)],
)
def test_how_long_a_track_survives_unseen(name, survives):
    for gap, kept in ((survives, True), (survives + 1, False)):
        tracker = make(name)
        for _ in range(6):
            before = tracker.update(seen(box(100), scores=[0.9]))
        for _ in range(gap):
            tracker.update([])
        after = [tracker.update(seen(box(100), scores=[0.9])) for _ in range(6)][-1]
        assert (after.ids.tolist() == before.ids.tolist()) is kept


def test_max_age_counts_time_not_updates():
    """A track unseen for two seconds dies after two frames of one a second."""
    tracker = Tracker("sort", max_age=30, min_hits=0, frame_rate=30)
    tracker.update([box(100)], timestamp=0.0)
    assert tracker.update([], timestamp=0.9).ids.tolist() == []
    assert len(tracker) == 1
    tracker.update([], timestamp=2.0)
    assert len(tracker) == 0


def test_velocity_follows_the_time_stamps():
    """Half the frames, twice the time: the prediction lies where the object is."""
    tracker = Tracker("sort", min_hits=0, max_age=10, frame_rate=10)
    for t in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        tracker.update([box(100 + 200 * t)], timestamp=t)
    tracks = tracker.update([box(100 + 200 * 0.9)], timestamp=0.9)
    assert tracks.ids.tolist() == [1]


def test_deepsort_recognises_by_appearance_where_motion_cannot():
    """Two objects vanish and come back with their places exchanged."""
    red, blue = np.eye(2, dtype=np.float32)
    tracker = Tracker("deepsort")
    for _ in range(5):
        tracker.update(seen(box(100), box(130), embeddings=[red, blue]))
    for _ in range(3):
        tracker.update([])
    tracks = tracker.update(seen(box(100), box(130), embeddings=[blue, red]))
    by_place = dict(zip(tracks.detection_index.tolist(), tracks.ids.tolist(), strict=True))
    assert by_place == {0: 2, 1: 1}


def test_deepsort_prefers_the_track_seen_last():
    """The matching cascade: of two tracks with equal looks the fresher one takes the detection."""
    look = np.ones((1, 4), np.float32)
    tracker = Tracker("deepsort")
    for _ in range(4):
        tracker.update(seen(box(100), box(110), embeddings=np.repeat(look, 2, 0)))
    for _ in range(3):
        tracks = tracker.update(seen(box(100), embeddings=look))
    fresh = tracks.ids[tracks.detection_index == 0]
    tracks = tracker.update(seen(box(105), embeddings=look))
    assert tracks.ids[tracks.detection_index == 0] == fresh


def test_bytetrack_keeps_a_track_on_a_weak_detection_but_starts_none():
    tracker = Tracker("bytetrack")
    for _ in range(3):
        tracker.update(seen(box(100), scores=[0.9]))
    tracks = tracker.update(seen(box(101), box(500), scores=[0.3, 0.3]))
    assert tracks.ids.tolist() == [1]
    assert tracks.detection_index.tolist() == [0]
    assert len(tracker) == 1


def test_ocsort_refilters_along_the_virtual_trajectory():
    """It slowed down from 5 to 2 px a frame unseen: re-filtered, the velocity has come nearer."""
    velocity = {}
    for centric in (True, False):
        # a tracker that sees the virtual boxes for real is what the re-update imitates
        tracker, real = make("ocsort"), make("sort", max_age=30)
        for t in range(6):
            tracker.update(seen(box(100 + 5 * t), scores=[0.9]))
            real.update([box(100 + 5 * t)])
        for t in range(1, 7):
            tracker.update([])
            real.update([box(125 + 2 * t)])
        real.update([box(125 + 2 * 7)])
        if not centric:
            tracker._store.misses[:] = 0  # as if it had not been lost
        tracker.update(seen(box(125 + 2 * 7), scores=[0.9]))
        velocity[centric] = tracker._store.mean[0, 4]
    assert velocity[True] == pytest.approx(real._store.mean[0, 4], abs=1e-9)
    assert abs(velocity[True] - 2) < abs(velocity[False] - 2)


def test_ocsort_recovers_a_stopped_object_by_its_last_box():
    """It stops while it is hidden: the prediction has run away, its last box has not."""
    tracker = make("ocsort")
    for t in range(8):
        tracker.update(seen(box(100 + 15 * t), scores=[0.9]))
    for _ in range(6):
        tracker.update([])
    tracks = [tracker.update(seen(box(205 + 3), scores=[0.9])) for _ in range(4)][-1]
    assert tracks.ids.tolist() == [1]


def test_botsort_follows_through_a_camera_jump():
    """The scene jumps 35 px at once; only the image says so."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 255, (500, 800)).astype(np.uint8), (0, 0), 3)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)

    def view(shift):
        return np.repeat(scene[:400, 60 + shift : 660 + shift, None], 3, axis=2)

    ids = {}
    for method in ("flow", "none"):
        tracker = Tracker("botsort", camera_motion=method)
        for _ in range(4):
            tracker.update(seen(box(300), scores=[0.9]), view(0))
        ids[method] = tracker.update(seen(box(265), scores=[0.9]), view(35)).ids.tolist()
    assert ids == {"flow": [1], "none": []}


def test_objects_of_different_classes_are_never_one_track():
    for per_class, tracks in ((True, 2), (False, 1)):
        tracker = Tracker("sort", min_hits=0, max_age=5, per_class=per_class)
        for label in (0, 1):
            tracker.update(seen(box(100), classes=[label]))
        assert len(tracker) == tracks


@pytest.mark.parametrize("name", EVERY)
def test_another_class_never_costs_an_object_its_match(name):
    """Two classes in boxes that overlap and change places: each keeps to its own."""
    tracker = make(name, min_hits=1)
    counts = []
    for t in range(8):
        a, b = (100.0, 110.0) if t % 2 else (110.0, 100.0)
        looks = np.eye(8, dtype=np.float32)[:2]
        tracks = tracker.update(
            seen(box(a), box(b), classes=[0, 1], scores=[0.9, 0.9], embeddings=looks)
        )
        counts.append(len(tracks))
    assert len(tracker) == 2
    assert tracks.ids.tolist() == [1, 2]
    assert counts[-1] == 2


@pytest.mark.parametrize("name", EVERY)
def test_a_shrinking_object_that_vanishes_is_never_reported_inside_out(name):
    tracker = make(name, min_hits=1, coast=30)
    for t in range(6):
        size = 120.0 - 20 * t
        tracker.update(seen(box(100, 100, size / 2, size), scores=[0.9]))
    for _ in range(20):
        boxes = tracker.update([]).boxes
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_botsort_copes_with_frames_without_embeddings():
    red, blue = np.eye(2, dtype=np.float32)
    tracker = make("botsort")
    for t in range(8):
        boxes, scores = [box(100), box(300)], [0.9, 0.9]
        if t % 3 == 0:
            tracks = tracker.update(Detections.of(boxes, scores))
        else:
            tracks = tracker.update(Detections.of(boxes, scores, embeddings=[red, blue]))
    assert tracks.ids.tolist() == [1, 2]
    slots = tracker._store.slot.tolist()
    assert len(set(slots)) == 2
    assert min(slots) >= 0


def test_the_looks_of_a_weak_detection_are_not_remembered():
    red, blue = np.eye(2, dtype=np.float32)
    tracker = make("botsort")
    for _ in range(3):
        tracker.update(seen(box(100), scores=[0.9], embeddings=[red]))
    for _ in range(10):
        tracker.update(seen(box(100), scores=[0.3], embeddings=[blue]))
    np.testing.assert_allclose(tracker._memory._entries[tracker._store.slot[0], 0], red)


def test_the_cascade_bears_time_stamps_that_jitter():
    """A track at the last age of the cascade is matched, whatever the last digit says."""
    look = np.ones((1, 4), np.float32)
    for jitter in (-1e-9, 0.0, 1e-9):
        tracker = Tracker("deepsort", max_age=5, frame_rate=25)
        for t in range(4):
            tracker.update(seen(box(100), embeddings=look), timestamp=t / 25)
        for t in range(4, 8):
            tracker.update([], timestamp=t / 25)
        tracks = tracker.update(seen(box(100), embeddings=look), timestamp=8 / 25 + jitter)
        assert tracks.ids.tolist() == [1]
        assert tracks.detection_index.tolist() == [0]


def test_the_warm_up_of_sort_is_its_min_hits():
    tracker = Tracker("sort", min_hits=5)
    assert [len(tracker.update([box(100)])) for _ in range(8)] == [1] * 8


def test_a_box_without_area_is_never_followed():
    tracker = Tracker("sort", min_hits=0)
    assert len(tracker.update([[10, 10, 10, 50], box(100)])) == 1


def test_an_embedder_is_asked_once_a_frame():
    calls = []

    def embedder(image, boxes):
        calls.append((image.shape, len(boxes)))
        return np.eye(4)[: len(boxes)]

    tracker = Tracker("deepsort", embedder=embedder)
    image = np.zeros((200, 300, 3), np.uint8)
    for _ in range(4):
        tracks = tracker.update([box(10), box(100)], image)
    assert calls == [((200, 300, 3), 2)] * 4
    assert tracks.ids.tolist() == [1, 2]


# --- other people's forms


def test_supervision_detections_come_back_with_ids_and_all_their_data():
    tracker = Tracker("sort", min_hits=0)
    detections = supervision.Detections(
        xyxy=np.array([box(10), box(200), box(400)]),
        confidence=np.array([0.9, 0.8, 0.7]),
        class_id=np.array([2, 0, 1]),
        mask=np.zeros((3, 4, 4), dtype=bool),
        data={"name": np.array(["a", "b", "c"])},
    )
    out = tracker.update(detections)
    assert isinstance(out, supervision.Detections)
    assert out.tracker_id.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(out.xyxy, detections.xyxy)
    assert out.data["name"].tolist() == ["a", "b", "c"]
    assert out.class_id.tolist() == [2, 0, 1]
    assert len(tracker.update(supervision.Detections.empty())) == 0


def test_lists_with_scores_and_classes():
    tracks = Tracker("sort").update([[*box(10), 0.5, 3]])
    assert tracks.scores.tolist() == [0.5]
    assert tracks.classes.tolist() == [3]


# --- bad input: one line each, and the tracker stays as it was


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ([[0, 0, np.nan, 1]], "box 0 is not finite"),
        ([[0, 0, 1, 1], [0, 0, np.inf, 1]], "box 1 is not finite"),
        ([[10, 0, 5, 1]], "box 0 has a negative width or height"),
        ([[1, 2, 3]], r"shape \(1, 3\), expected \(N, 4 to 6\)"),
        ("boxes", "detections are a str"),
        ([[0, 0, 1, 1, np.nan]], "score 0 is not finite"),
    ],
)
def test_unusable_detections_are_refused_and_change_nothing(detections, message):
    tracker = Tracker("sort")
    tracker.update([box(10)])
    with pytest.raises(InputError, match=message):
        tracker.update(detections)
    assert tracker.update([box(10)]).ids.tolist() == [1]


def test_time_runs_forward():
    tracker = Tracker("sort")
    tracker.update([], timestamp=2.0)
    with pytest.raises(InputError, match=r"timestamp 2\.0 s is not after the last, 2\.0 s"):
        tracker.update([], timestamp=2.0)


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: Tracker("deepsrot"), "no tracker 'deepsrot' .did you mean 'deepsort'"),
        (lambda: Tracker("sort", max_gae=3), "sort has no setting 'max_gae' .did you mean 'max_ag"),
        (lambda: Tracker("sort", max_age="old"), "max_age is 'old', expected a number"),
        (lambda: Tracker("sort", frame_rate=0), "frame_rate is 0"),
        (lambda: Tracker("sort", frame_rate="x"), "frame_rate is 'x'"),
        (lambda: Tracker("deepsort", gallery_size=0), "gallery_size is 0, expected 1 to"),
        (lambda: Tracker("ocsort", direction_span=0), "direction_span is 0, expected 1 to"),
        (lambda: Tracker("sort", max_age=-1), "max_age is -1, expected 0 to"),
        (lambda: Tracker("botsort", gallery_momentum=2), "gallery_momentum is 2, expected 0 to"),
        (lambda: Tracker("sort", report="observation"), "needs observation_centric=yes"),
        (lambda: Tracker("ocsort", camera_motion="flow"), "ocsort remembers boxes, which camera"),
    ],
)
def test_what_does_not_exist_is_a_usage_error(make_it, message):
    with pytest.raises(UsageError, match=message):
        make_it()


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((3, 4)), r"gave shape \(3, 4\) for 2 boxes, expected \(2, D\)"),
        (np.ones(4), r"gave shape \(4,\) for 2 boxes"),
        (np.full((2, 4), np.nan), "gave NaN or infinity"),
    ],
)
def test_an_embedder_that_errs_is_named_and_changes_nothing(vectors, message):
    answers = [vectors]
    tracker = Tracker("deepsort", embedder=lambda image, boxes: answers[0])
    image = np.zeros((200, 300, 3), np.uint8)
    with pytest.raises(InputError, match=message):
        tracker.update([box(10), box(100)], image, timestamp=1.0)
    answers[0] = np.eye(4)[:2]
    for t in range(3):
        tracks = tracker.update([box(10), box(100)], image, timestamp=1.0 + t / 30)
    assert tracks.ids.tolist() == [1, 2]


@pytest.mark.parametrize("stamp", [np.nan, np.inf, -np.inf])
def test_a_time_stamp_is_a_number(stamp):
    tracker = Tracker("sort")
    with pytest.raises(InputError, match="expected seconds"):
        tracker.update([], timestamp=stamp)
    tracker.update([], timestamp=0.0)


def test_a_frame_is_an_image():
    with pytest.raises(InputError, match="frame is str, expected an image"):
        Tracker("sort").update([], "frame.jpg")


def test_deepsort_says_that_it_needs_appearance():
    with pytest.raises(UsageError, match="give detections with embeddings, or an embedder"):
        Tracker("deepsort").update([box(10)])


def test_botsort_says_that_it_needs_the_image():
    with pytest.raises(InputError, match="needs the frame's image"):
        Tracker("botsort").update([box(10)])

"""Adapters: the same embeddings on either side, whoever calls whom, in whatever order."""

from types import SimpleNamespace

import numpy as np
import pytest
import supervision

from reid.adapters import ForTrackers, from_extractor, with_embeddings
from reid.descriptors import ColourStripes
from tracker import Tracker
from trackvae.errors import InputError, UsageError

BOXES = np.array([[10.0, 5.0, 40.0, 90.0], [60.0, 20.0, 80.0, 75.0], [0.0, 0.0, 120.0, 100.0]])
IMAGE = np.random.default_rng(0).integers(0, 256, (100, 120, 3)).astype(np.uint8)


@pytest.fixture
def detections():
    return supervision.Detections(
        xyxy=BOXES, confidence=np.array([0.9, 0.8, 0.7]), class_id=np.zeros(3, int)
    )


def test_both_orders_of_roboflows_interface_give_what_the_embedder_gives(detections):
    embedder = ColourStripes()
    adapter = ForTrackers(embedder)
    expected = embedder(IMAGE, BOXES)
    np.testing.assert_array_equal(adapter.extract_features(detections, IMAGE), expected)
    np.testing.assert_array_equal(adapter.extract_features(IMAGE, detections), expected)
    named = adapter.extract_features(frame=IMAGE, detections=detections)
    np.testing.assert_array_equal(named, expected)


def test_all_that_is_asked_of_detections_is_their_boxes():
    boxes = SimpleNamespace(xyxy=BOXES)
    found = ForTrackers(ColourStripes()).extract_features(boxes, IMAGE)
    np.testing.assert_array_equal(found, ColourStripes()(IMAGE, BOXES))


def test_no_detections_are_no_rows_of_the_same_length():
    found = ForTrackers(ColourStripes()).extract_features(supervision.Detections.empty(), IMAGE)
    assert found.shape == (0, ColourStripes().dim)


def test_there_and_back_is_the_embedder_itself():
    embedder = ColourStripes()
    back = from_extractor(ForTrackers(embedder))
    np.testing.assert_array_equal(back(IMAGE, BOXES), embedder(IMAGE, BOXES))
    assert len(back(IMAGE, BOXES[:0])) == 0


def test_carried_embeddings_stay_beside_their_boxes_and_the_given_stay_as_they_were(detections):
    embedder = ColourStripes()
    carried = with_embeddings(detections, IMAGE, embedder)
    assert "embeddings" not in detections.data
    one = carried[carried.confidence < 0.75]
    np.testing.assert_array_equal(one.data["embeddings"], embedder(IMAGE, BOXES[2:]))


def test_our_tracker_takes_carried_embeddings_and_somebodys_model_alike(detections):
    """Two people change places between two frames: only looks can tell them apart."""
    red, blue = [45, 0, 60, 198], [60, 0, 75, 198]

    def frame(first, second):
        image = np.zeros((200, 120, 3), np.uint8)
        for box, colour in ((first, (0, 0, 255)), (second, (255, 0, 0))):
            image[box[1] : box[3], box[0] : box[2]] = colour
        return image, np.array([red, blue], float)

    embedder = ColourStripes()
    carried = Tracker("deepsort", min_hits=1)
    called = Tracker("deepsort", min_hits=1, embedder=from_extractor(ForTrackers(embedder)))
    for first, second in [(red, blue)] * 3 + [(blue, red)]:
        image, boxes = frame(first, second)
        given = supervision.Detections(xyxy=boxes, confidence=np.ones(2), class_id=np.zeros(2, int))
        by_carried = carried.update(with_embeddings(given, image, embedder), image)
        by_called = called.update(given, image)
        assert by_carried.tracker_id.tolist() == by_called.tracker_id.tolist()
        np.testing.assert_array_equal(by_carried.xyxy, by_called.xyxy)
    assert dict(zip(by_called.tracker_id, by_called.xyxy[:, 0], strict=True)) == {1: 60, 2: 45}


@pytest.mark.parametrize("given", [BOXES, None, "boxes"])
def test_what_has_no_boxes_is_refused_by_name(given):
    with pytest.raises(InputError, match=f"a {type(given).__name__} without xyxy"):
        ForTrackers(ColourStripes()).extract_features(given, IMAGE)


def test_a_model_that_extracts_nothing_is_refused_at_once():
    with pytest.raises(UsageError, match="function has no extract_features; a callable"):
        from_extractor(lambda image, boxes: boxes)

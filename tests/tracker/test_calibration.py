"""Match probabilities: known densities are recovered, distances are those of the tracker."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.appearance import AppearanceMemory, covered
from tracker.boxes import iou
from tracker.calibration import (
    GAPS,
    Calibrator,
    Logistic,
    calibrate,
    distances,
    fit_logistic,
    fit_match,
    fit_score,
)
from tracker.detections import Detections
from trackvae.errors import InputError, UsageError


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def crowd(frames=60, people=4, noise=0.2, dim=8, seed=0, spread=200.0):
    """People who stand side by side: frames, boxes, scores, tracklets, embeddings."""
    rng = np.random.default_rng(seed)
    looks = unit(rng.normal(size=(people, dim)))
    frame = np.repeat(np.arange(1, frames + 1), people)
    who = np.tile(np.arange(people), frames)
    left = spread * who
    boxes = np.stack([left, 0.0 * left, left + 40, 80 + 0.0 * left], axis=1)
    embeddings = unit(looks[who] + noise / np.sqrt(dim) * rng.normal(size=(len(who), dim)))
    return frame, boxes, np.ones(len(who)), who, embeddings


# --- the map


def test_two_gaussians_give_their_likelihood_ratio():
    """Of N(0.2, 0.1²) and N(0.6, 0.1²) the log ratio is linear: slope -0.4 / 0.01, 0 at 0.4."""
    rng = np.random.default_rng(0)
    found = fit_logistic(
        rng.normal(0.2, 0.1, 20_000), rng.normal(0.6, 0.1, 5_000), rising=False, share=0.5
    )
    assert found.threshold(0.5) == pytest.approx(0.4, abs=0.01)
    assert found.slope == pytest.approx(-40, rel=0.1)


def test_mixed_up_tracklets_do_not_move_the_threshold():
    rng = np.random.default_rng(1)
    same, different = rng.normal(0.2, 0.1, 4000), rng.normal(0.6, 0.1, 4000)
    mixed = np.concatenate([same, rng.normal(0.6, 0.1, 150)])
    plain = fit_logistic(mixed, different, rising=False, share=0.5)
    found = fit_match(mixed, different)
    assert found.threshold(0.9) == pytest.approx(0.4 - math.log(9) / 40, abs=0.02)
    assert abs(found.slope + 40) < 0.5 * abs(plain.slope + 40)


@given(
    st.lists(st.floats(0, 2, width=32), min_size=1, max_size=40),
    st.lists(st.floats(0, 2, width=32), min_size=1, max_size=40),
)
def test_nearer_is_never_less_likely_and_the_threshold_inverts(same, different):
    found = fit_match(np.array(same), np.array(different))
    grid = np.linspace(0, 2, 50)
    p = found.probability(grid)
    assert np.isfinite(p).all()
    assert (np.diff(p) <= 1e-12).all()
    if abs(found.slope) > 1e-6:
        for wanted in (0.1, 0.5, 0.9):
            where = np.array([found.threshold(wanted)])
            assert found.probability(where)[0] == pytest.approx(wanted, abs=1e-6)


def test_doubt_orders_what_the_probability_no_longer_tells_apart():
    near = np.array([0.0, 0.01, 0.02], np.float32)
    found = Logistic(-100.0, 80.0)
    assert (found.probability(near) == 1).all()
    assert (np.diff(found.doubt(near.astype(np.float64))) > 0).all()
    middle = np.linspace(0.7, 0.9, 9)
    np.testing.assert_allclose(found.doubt(middle), 1 - found.probability(middle), atol=1e-12)


def test_distances_that_say_the_contrary_say_nothing():
    found = fit_match(np.array([0.9, 0.8, 0.85]), np.array([0.1, 0.2, 0.15]))
    assert found == Logistic(0.0, 0.0)
    assert found.threshold(0.7) == -math.inf
    assert found.threshold(0.3) == math.inf


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.5, math.nan])
def test_a_threshold_needs_a_probability(probability):
    with pytest.raises(UsageError, match="expected between 0 and 1"):
        Logistic(-1.0, 0.0).threshold(probability)


# --- the pairs


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_are_those_of_the_trackers_memory(metric):
    """Oracle: a gallery filled as the tracker fills it, one loop for every pair."""
    rng = np.random.default_rng(2)
    frames, boxes, _, tracklets, embeddings = crowd(frames=45, people=3, spread=30.0)
    budget = 7
    kept = rng.random(len(frames)) < 0.9
    tracklets = np.where(kept, tracklets, -1)
    same, different = [], []
    clear = np.concatenate([covered(boxes[frames == f]) <= 0.4 for f in range(1, 46)])
    for frame in range(1, 46):
        here = np.flatnonzero((frames == frame) & clear & (tracklets >= 0))
        for row in here:
            for gap in GAPS:
                own = (tracklets == tracklets[row]) & clear & (frames <= frame - gap)
                if own.sum() < 3:
                    continue
                memory = AppearanceMemory(metric, budget)
                entries = embeddings[own]
                slot = memory.open(entries[:1])
                for entry in entries[1:]:
                    memory.add(slot, entry[None])
                wanted = np.ones((1, len(here)), dtype=bool)
                d = memory.distances(slot, embeddings[here], wanted)[0]
                same.append(d[here == row])
                different.append(d[iou(boxes[row : row + 1], boxes[here])[0] < 0.3])
    got_same, got_different = distances(frames, boxes, tracklets, embeddings, metric, budget)
    np.testing.assert_allclose(np.sort(got_same), np.sort(np.concatenate(same)), atol=1e-5)
    np.testing.assert_allclose(
        np.sort(got_different), np.sort(np.concatenate(different)), atol=1e-5
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_calibration_tells_made_people_apart(metric):
    found = calibrate(*crowd(people=6, dim=32), metric=metric)
    frames, boxes, _, who, looks = crowd(people=6, dim=32, seed=0)
    same, different = distances(frames, boxes, who, looks, metric, 100)
    assert np.quantile(same, 0.99) < found.threshold(0.5) < np.quantile(different, 0.01)
    assert found.same == len(same)
    assert found.different == len(different)


def test_people_who_look_alike_are_told_apart_by_nobody():
    frames, boxes, scores, who, _ = crowd()
    found = calibrate(frames, boxes, scores, who, np.ones((len(who), 4), np.float32) / 2)
    assert found.probability(np.array([0.0]))[0] == pytest.approx(0.5, abs=0.05)


def test_boxes_on_top_of_each_other_are_no_two_objects():
    with pytest.raises(InputError, match="pairs of one object and 0 of two"):
        calibrate(*crowd(spread=5.0))


def test_too_short_a_video_is_told():
    with pytest.raises(InputError, match="0 pairs of one object and 0 of two, expected 30 of each"):
        calibrate(*crowd(frames=7))
    with pytest.raises(InputError, match="not one detection"):
        Calibrator().fit()


# --- scores


def test_scores_are_calibrated_by_what_motion_links():
    """A detection of score s is linked with probability 1 / (1 + exp(-(s - 20) / 5))."""
    rng = np.random.default_rng(3)
    scores = rng.uniform(0, 60, 20_000)
    linked = rng.random(len(scores)) < 1 / (1 + np.exp(-(scores - 20) / 5))
    found, share = fit_score(scores, linked)
    assert found.threshold(0.7) == pytest.approx(20 + 5 * math.log(7 / 3), abs=0.5)
    assert share == pytest.approx(linked.mean(), abs=1e-3)


def test_something_is_always_followed():
    """However little motion links, detections with more than the average are of high score."""
    frames, boxes, scores, who, looks = crowd()
    rng = np.random.default_rng(4)
    scores = rng.uniform(0, 1, len(scores))
    few = np.where(rng.random(len(who)) < 0.5 * scores, who, -1)
    found = calibrate(frames, boxes, scores, few, None)
    assert found.linked < 0.4
    assert 0.2 < np.mean(scores >= found.least_score(0.9)) < 0.8
    same_scores = calibrate(frames, boxes, np.ones(len(scores)), who, looks)
    assert same_scores.least_score(0.9) == -math.inf


# --- frame by frame


def test_the_calibrator_collects_what_motion_links():
    frames, boxes, scores, who, looks = crowd(frames=40)
    calibrator = Calibrator()
    for frame in range(1, 41):
        here = frames == frame
        calibrator.add(Detections.of(boxes[here], scores[here]), 3 * looks[here])
    again = calibrate(frames, boxes, scores, who, looks)
    found = calibrator.fit()
    assert found.distance.slope == pytest.approx(again.distance.slope, rel=0.1)
    assert found.threshold(0.5) == pytest.approx(again.threshold(0.5), abs=0.02)


def test_the_calibrator_is_bounded():
    frames, boxes, scores, _, looks = crowd(frames=50)
    calibrator = Calibrator(most=60)
    for frame in range(1, 51):
        here = frames == frame
        calibrator.add(Detections.of(boxes[here], scores[here]), looks[here])
    assert sum(len(seen) for _, seen, _, _ in calibrator._seen) <= 60
    assert calibrator.frames == 50


def test_frames_without_looks_among_others_are_passed_over():
    frames, boxes, scores, _, looks = crowd(frames=60)
    calibrator = Calibrator()
    for frame in range(1, 61):
        here = frames == frame
        seen = Detections.of(boxes[here], scores[here])
        calibrator.add(seen, None if frame % 3 == 0 else looks[here])
    assert calibrator.fit().distance.slope < 0


def test_by_motion_alone_the_scores_are_calibrated_still():
    frames, boxes, scores, *_ = crowd()
    calibrator = Calibrator()
    for frame in range(1, 61):
        calibrator.add(Detections.of(boxes[frames == frame], scores[frames == frame]), None)
    found = calibrator.fit()
    assert found.distance == Logistic(0.0, 0.0)
    assert found.linked > 0.9
    assert str(found) == "looks say nothing here"


# --- covered


def test_what_stands_nearer_covers_what_stands_behind():
    """The second box covers a quarter of the first and stands lower; the third covers nothing."""
    boxes = np.array([[0, 0, 10, 20], [5, 10, 15, 30], [100, 0, 110, 20.0]])
    np.testing.assert_allclose(covered(boxes), [0.25, 0, 0])
    np.testing.assert_allclose(covered(boxes[:1]), [0])
    assert covered(boxes[:0]).shape == (0,)

"""Suppression against the definition, and against OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.boxes import iou
from tracker.detectors import nms as module
from tracker.detectors.nms import nms


def scene(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crowded random boxes with some equal scores and two classes."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], axis=1)
    return boxes, rng.integers(0, 20, count) / 20, rng.integers(0, 2, count)


def naive(boxes, scores, max_iou, classes):  # type: ignore[no-untyped-def]
    """Greedy suppression as it is defined, one box at a time."""
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        overlap = iou(boxes[[best]], boxes)[0]
        left = [i for i in left if overlap[i] <= max_iou or classes[i] != classes[best]]
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([0.0, 0.3, 0.45, 0.7, 1.0]))
def test_equals_the_greedy_definition(seed: int, count: int, max_iou: float) -> None:
    boxes, scores, classes = scene(seed, count)
    assert nms(boxes, scores, max_iou, classes).tolist() == naive(boxes, scores, max_iou, classes)
    same = np.zeros(count)
    assert nms(boxes, scores, max_iou).tolist() == naive(boxes, scores, max_iou, same)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores, classes = scene(3, 200)
    whole = nms(boxes, scores, 0.4, classes)
    monkeypatch.setattr(module, "_BLOCK", block)
    np.testing.assert_array_equal(nms(boxes, scores, 0.4, classes), whole)


@pytest.mark.parametrize("seed", range(5))
def test_equals_opencv(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, _, _ = scene(seed, 150)
    scores = rng.permutation(150) / 150 + 0.01  # distinct: OpenCV's order of ties is its own
    tlwh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    theirs = cv2.dnn.NMSBoxes(tlwh.tolist(), scores.tolist(), 0.0, 0.45)
    np.testing.assert_array_equal(nms(boxes, scores, 0.45), np.ravel(theirs))


def test_a_long_chain_of_suppressions_is_exact() -> None:
    # Each box overlaps only its neighbours, so every second one stays: the slowest case.
    left = np.arange(300) * 5.0
    boxes = np.column_stack([left, np.zeros(300), left + 10, np.full(300, 10.0)])
    kept = nms(boxes, np.linspace(1, 0.5, 300), 0.3)
    np.testing.assert_array_equal(kept, np.arange(0, 300, 2))

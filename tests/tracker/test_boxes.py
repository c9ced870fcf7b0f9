"""Boxes: conversions are inverse to each other, overlap equals a naive loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tracker import boxes, motion
from tracker.boxes import areas, clip, iou, tlwh_from_xyxy, xyxy_from_tlwh

positions = st.floats(-1e4, 1e4, allow_nan=False)
sizes = st.floats(0.5, 1e3)


@st.composite
def some_boxes(draw, max_size=12):
    n = draw(st.integers(0, max_size))
    tlwh = np.hstack(
        [
            draw(arrays(np.float64, (n, 2), elements=positions)),
            draw(arrays(np.float64, (n, 2), elements=sizes)),
        ]
    )
    return xyxy_from_tlwh(tlwh)


def naive_iou(a, b):
    out = np.zeros((len(a), len(b)))
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            w = min(p[2], q[2]) - max(p[0], q[0])
            h = min(p[3], q[3]) - max(p[1], q[1])
            inter = max(w, 0) * max(h, 0)
            union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - inter
            out[i, j] = inter / union
    return out


@given(some_boxes())
def test_tlwh_and_xyxy_are_inverse(xyxy):
    np.testing.assert_allclose(xyxy_from_tlwh(tlwh_from_xyxy(xyxy)), xyxy, atol=1e-9)


@given(some_boxes())
@pytest.mark.parametrize("model", motion.MOTION_MODELS.values(), ids=lambda m: m.name)
def test_measurements_and_boxes_are_inverse(model, xyxy):
    np.testing.assert_allclose(model.boxes(model.measure(xyxy)), xyxy, atol=1e-6)


@given(some_boxes(), some_boxes())
def test_iou_equals_a_naive_loop_in_both_forms(a, b):
    expected = naive_iou(a, b)
    np.testing.assert_allclose(iou(a, b), expected, atol=1e-9)
    np.testing.assert_allclose(boxes._iou_sparse(a, b), expected, atol=1e-9)


@given(some_boxes())
def test_iou_is_symmetric_one_with_itself_and_bounded(a):
    overlap = iou(a, a)
    np.testing.assert_allclose(overlap, overlap.T)
    np.testing.assert_allclose(np.diag(overlap), 1.0)
    assert ((overlap >= 0) & (overlap <= 1 + 1e-12)).all()


def test_iou_of_boxes_without_area_is_zero():
    point = np.array([[5.0, 5, 5, 5]])
    assert iou(point, point)[0, 0] == 0
    assert boxes._iou_sparse(point, point)[0, 0] == 0


def test_touching_boxes_do_not_overlap():
    assert iou(np.array([[0.0, 0, 1, 1]]), np.array([[1.0, 0, 2, 1]]))[0, 0] == 0


def test_clip_and_areas():
    cut = clip(np.array([[-5.0, -5, 5, 5], [90, 90, 200, 95]]), 100, 100)
    np.testing.assert_array_equal(cut, [[0, 0, 5, 5], [90, 90, 100, 95]])
    np.testing.assert_array_equal(areas(cut), [25, 50])

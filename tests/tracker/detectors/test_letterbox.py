"""Fitting an image into the network's input and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.detectors.letterbox import Letterbox

sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
inputs = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda s: (32 * s[0], 32 * s[1]))


@settings(max_examples=200, deadline=None)
@given(sizes, inputs, st.booleans(), st.integers(0, 10**6))
def test_there_and_back_is_identity_and_inside(
    size: tuple[int, int], target: tuple[int, int], centred: bool, seed: int
) -> None:
    box = Letterbox.fit(size, target, centred=centred)
    boxes = np.random.default_rng(seed).uniform(-50, 4050, (8, 4))
    np.testing.assert_allclose(box.unboxes(box.boxes(boxes)), boxes, rtol=0, atol=1e-7)
    # The image's own border lands exactly on the resized image's.
    border = box.boxes(np.array([[0.0, 0.0, *size]]))[0]
    right, bottom = box.left + box.inner_width, box.top + box.inner_height
    np.testing.assert_allclose(border, [box.left, box.top, right, bottom], atol=1e-9)
    assert box.left >= 0
    assert box.top >= 0
    assert right <= target[0]
    assert bottom <= target[1]


@pytest.mark.parametrize(
    ("centred", "expected"),
    [
        # 640 x 480 into 416: 0.65, so 416 x 312; YOLOX pads below, YOLOv5 52 on both sides.
        (False, (416, 312, 0, 0)),
        (True, (416, 312, 0, 52)),
    ],
)
def test_hand_computed_fit(centred: bool, expected: tuple[int, ...]) -> None:
    box = Letterbox.fit((640, 480), (416, 416), centred=centred)
    assert (box.inner_width, box.inner_height, box.left, box.top) == expected


def test_odd_padding_and_rounding_follow_the_families() -> None:
    # 1000 x 333 into 64: ratio 0.064, height 21.3; an odd pixel of padding goes below.
    assert Letterbox.fit((1000, 333), (64, 64), centred=True).inner_height == 21
    box = Letterbox.fit((1000, 333), (64, 64), centred=True)
    assert (box.top, 64 - box.top - box.inner_height) == (21, 22)
    # 1000 x 340: 21.76 is rounded by YOLOv5, cut by YOLOX.
    assert Letterbox.fit((1000, 340), (64, 64), centred=True).inner_height == 22
    assert Letterbox.fit((1000, 340), (64, 64), centred=False).inner_height == 21


@pytest.mark.parametrize("centred", [False, True])
def test_pixels_land_where_the_boxes_say(centred: bool) -> None:
    image = np.zeros((90, 180, 3), dtype=np.uint8)
    image[30:60, 90:150] = 255
    box = Letterbox.fit((180, 90), (64, 96), centred=centred)  # ratio 16/45
    fitted = box.image(image)
    assert fitted.shape == (96, 64, 3)
    inner = fitted[box.top : box.top + box.inner_height, box.left : box.left + box.inner_width]
    fitted_only = fitted.astype(int)
    fitted_only[box.top : box.top + box.inner_height, box.left : box.left + box.inner_width] = 114
    assert (fitted_only == 114).all()
    rows, columns = np.nonzero(inner[..., 0] > 127)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = box.boxes(np.array([[90.0, 30, 150, 60]]))[0] - [box.left, box.top] * 2
    np.testing.assert_allclose(seen, expected, atol=0.7)  # whole pixels against a fraction

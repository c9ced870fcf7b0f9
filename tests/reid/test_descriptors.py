"""Descriptors made by hand: unit length, invariances, and naive loops as oracles."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.crops import cut
from reid.descriptors import ColourStripes, Concatenated, Gradients, RawPixels
from trackvae.errors import UsageError

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (120, 160, 3)).astype(np.uint8)


@given(st.integers(0, 2**31), st.integers(0, 6))
def test_vectors_have_unit_length_wherever_the_box_lies(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-50, 150, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(1, 100, (count, 2))])
    vectors = ColourStripes()(IMAGE, boxes)
    assert vectors.shape == (count, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_box_is_described_alone_as_among_others():
    boxes = np.array([[10.0, 10, 50, 100], [60, 5, 90, 80], [0, 0, 160, 120]])
    together = ColourStripes()(IMAGE, boxes)
    for box, vector in zip(boxes, together, strict=True):
        np.testing.assert_array_equal(ColourStripes()(IMAGE, box[None])[0], vector)


def test_size_and_place_do_not_matter_for_flat_colours():
    image = np.zeros((200, 200, 3), np.uint8)
    image[:100, :, 2] = 200
    image[100:, :, 0] = 200
    a, b = ColourStripes()(image, np.array([[10.0, 50, 30, 150], [100, 20, 180, 180]]))
    assert a @ b == pytest.approx(1, abs=1e-6)


def test_equals_a_naive_loop():
    stripes = ColourStripes(stripes=2, bins=2, rows=4, columns=3)
    box = np.array([[20.0, 30, 80, 110]])
    weight = np.exp(-0.5 * (((np.arange(3) + 0.5) / 3 - 0.5) / 0.2) ** 2)
    expected = np.zeros((2, 2, 2, 2))
    for row in range(4):
        for column in range(3):
            pixel = IMAGE[int(30 + 80 * (row + 0.5) / 4), int(20 + 60 * (column + 0.5) / 3)]
            expected[(row // 2, *(int(p) // 128 for p in pixel))] += weight[column]
    expected = np.sqrt(expected / expected.sum()).ravel()
    np.testing.assert_allclose(stripes(IMAGE, box)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("space", "code"), [("hsv", cv2.COLOR_BGR2HSV_FULL), ("lab", cv2.COLOR_BGR2LAB)]
)
def test_another_colour_space_equals_describing_the_converted_image(space, code):
    box = np.array([[20.0, 30, 80, 110], [0, 0, 50, 60]])
    converted = np.asarray(cv2.cvtColor(IMAGE, code))
    expected = ColourStripes(bins=(8, 4, 2))(converted, box)
    np.testing.assert_array_equal(ColourStripes(bins=(8, 4, 2), space=space)(IMAGE, box), expected)


def test_bins_of_each_channel_are_told_apart():
    """Two greens that differ by 20 share a cell of 4 bins, and do not share one of 16."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20, 1], image[:, 20:, 1] = 5, 25
    halves = np.array([[0.0, 0, 20, 40], [20, 0, 40, 40]])
    a, b = ColourStripes(bins=(1, 4, 1))(image, halves)
    assert a @ b == pytest.approx(1, abs=1e-6)
    a, b = ColourStripes(bins=(1, 16, 1))(image, halves)
    assert a @ b == 0


@pytest.mark.parametrize("wrong", [{"bins": 0}, {"bins": 257}, {"space": "rgb"}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        ColourStripes(**wrong)


def test_raw_pixels_are_the_crop():
    boxes = np.array([[20.0, 30, 36, 62], [50, 40, 66, 72]])
    vectors = RawPixels((32, 16))(IMAGE, boxes)
    for (x, y), vector in zip(boxes[:, :2].astype(int), vectors, strict=True):
        crop = IMAGE[y : y + 32, x : x + 16]
        np.testing.assert_allclose(vector.reshape(32, 16, 3), crop / 255, atol=1e-6)


class TestGradients:
    BOXES = np.array([[20.0, 30, 80, 110], [0, 0, 64, 64]])

    def test_have_unit_length(self):
        np.testing.assert_allclose(
            np.linalg.norm(Gradients()(IMAGE, self.BOXES), axis=1), 1, atol=1e-5
        )

    def test_do_not_see_a_change_of_brightness_or_contrast(self):
        dim = (IMAGE // 4 * 2).astype(np.uint8)
        brighter = (IMAGE // 4 * 3 + 60).astype(np.uint8)
        box = np.array([[30.0, 20, 94, 84]])
        a, b = (Gradients()(image, box)[0] for image in (dim, brighter))
        np.testing.assert_allclose(a, b, atol=1e-3)

    def test_equal_a_naive_loop(self):
        box = np.array([[30.0, 20, 46, 36]])
        grey = cut(IMAGE, box, (16, 16))[0].mean(axis=0)
        dy, dx = np.gradient(grey)
        cells = np.zeros((2, 2, 9))
        for row in range(16):
            for column in range(16):
                angle = np.degrees(np.arctan2(dy[row, column], dx[row, column])) % 180
                place = angle / 20 - 0.5
                lower = int(np.floor(place))
                length = np.hypot(dx[row, column], dy[row, column])
                cell = cells[row // 8, column // 8]
                cell[lower % 9] += length * (lower + 1 - place)
                cell[(lower + 1) % 9] += length * (place - lower)
        block = cells.ravel() / np.linalg.norm(cells)
        block = np.minimum(block, 0.2)
        expected = block / np.linalg.norm(block)
        found = Gradients((16, 16))(IMAGE, box)[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_of_nothing_to_see_are_zero(self):
        flat = np.full((80, 80, 3), 7, np.uint8)
        assert not Gradients()(flat, np.array([[0.0, 0, 64, 64]])).any()

    def test_need_whole_cells(self):
        with pytest.raises(UsageError, match="multiples of 8"):
            Gradients((60, 64))


def test_concatenated_vectors_stand_in_order():
    parts = [ColourStripes(), RawPixels((8, 4)), Gradients((16, 16))]
    both = Concatenated(parts)
    boxes = np.array([[20.0, 30, 80, 110], [0, 0, 64, 64]])
    vectors = both(IMAGE, boxes)
    assert both.dim == vectors.shape[1] == sum(part.dim for part in parts)
    splits = np.split(vectors, np.cumsum([part.dim for part in parts])[:-1], axis=1)
    for part, found in zip(parts, splits, strict=True):
        np.testing.assert_array_equal(found, part(IMAGE, boxes))


@pytest.mark.parametrize("descriptor", [ColourStripes(), RawPixels(), Gradients()])
def test_no_boxes_give_no_vectors(descriptor):
    assert descriptor(IMAGE, np.zeros((0, 4))).shape == (0, descriptor.dim)

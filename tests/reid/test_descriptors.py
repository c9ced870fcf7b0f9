"""Colour stripes: unit length, invariances, and a naive loop as oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.descriptors import ColourStripes

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

"""The pendulum's picture tells its angle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackvae.errors import UsageError
from training.data.pendulum import BLOB, RADIUS, SIDE, pendulum, pendulum_images, render_pendulum


def circular_error(a, b):
    return np.abs(np.angle(np.exp(1j * (a - b))))


def centroid_angle(images):
    pixels = np.arange(SIDE) - (SIDE - 1) / 2
    weight = images.astype(np.float64)
    return np.arctan2((weight * pixels).sum((1, 2)), -(weight * pixels[:, None]).sum((1, 2)))


def test_the_angle_is_recovered_from_the_centroid():
    images, angles = pendulum_images(2000, seed=1)
    # The picture's edge cuts the blob at 2 deviations, which moves the centroid a little.
    assert circular_error(centroid_angle(images), angles).max() < 0.02


@given(st.floats(0, 2 * np.pi))
def test_the_picture_is_a_gaussian_around_the_bob(angle):
    # log I + |p|^2 / 2 s^2 = c.p / s^2 - |c|^2 / 2 s^2: least squares in p give c exactly.
    image = render_pendulum(np.array([angle]))[0].astype(np.float64)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    seen = image > 1e-6
    left = (np.log(image[seen]) * 2 * BLOB**2 + x[seen] ** 2 + y[seen] ** 2) / 2
    design = np.stack([x[seen], y[seen], np.ones(seen.sum())], axis=1)
    (cx, cy, rest), *_ = np.linalg.lstsq(design, left, rcond=None)
    assert np.hypot(cx, cy) == pytest.approx(RADIUS, abs=1e-5)
    assert circular_error(np.arctan2(cx, -cy), angle) < 1e-5
    assert rest == pytest.approx(-(RADIUS**2) / 2, abs=1e-4)


def test_angles_are_uniform_and_upright_is_up():
    _, angles = pendulum_images(15_000, seed=0)
    assert angles.min() >= 0
    assert angles.max() < 2 * np.pi
    for k in (1, 2, 3):  # the characteristic function of a uniform angle vanishes
        assert abs(np.exp(1j * k * angles).mean()) < 6 / np.sqrt(15_000)
    up, right = render_pendulum(np.array([0.0, np.pi / 2]))
    assert up[:8].sum() > 0.99 * up.sum()
    assert right[:, 8:].sum() > 0.99 * right.sum()


def test_the_data_set_is_the_thesis_s_size_with_its_angles():
    data = pendulum()
    assert (data.train.shape, data.test.shape) == ((12_000, 1, 16, 16), (3_000, 1, 16, 16))
    assert data.values().min() >= 0
    assert data.values().max() <= 1
    drawn = render_pendulum(data.labels["test"])
    np.testing.assert_array_equal(data.test[:, 0], drawn)
    np.testing.assert_array_equal(pendulum().train, data.train)
    assert (pendulum(seed=1).train != data.train).any()


@pytest.mark.parametrize("settings", [{"images": 1}, {"images": 10, "test": 1.0}, {"test": -1.0}])
def test_too_few_to_train(settings):
    with pytest.raises(UsageError, match="too few to train"):
        pendulum(**settings)

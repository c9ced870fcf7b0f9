"""The batched filters against filterpy, against each other, and under a moving camera."""

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter as Reference

from tracker.kalman import AxisKalman, FullKalman
from tracker.motion import MOTION_MODELS, XYAH, XYSR, XYWH

MODELS = [pytest.param(m, id=m.name) for m in MOTION_MODELS.values()]


def deviations(noise, scale, p):
    size = np.ones(4) if scale is None else p[list(scale)]
    size = np.resize(size, len(noise.relative))
    return np.array(noise.relative) * size + np.array(noise.absolute)


class OneTrack:
    """One track filtered by filterpy with full matrices, as the papers' own code does."""

    def __init__(self, model, z):
        self.model, self.kf = model, Reference(dim_x=8, dim_z=4)
        self.kf.H = np.eye(4, 8)
        self.kf.x = np.concatenate([z, np.zeros(4)])[:, None]
        self.kf.P = np.diag(deviations(model.initial, model.scale, z) ** 2)

    def predict(self, dt=1.0):
        kf = self.kf
        for column in self.model.positive:
            if kf.x[column, 0] + dt * kf.x[4 + column, 0] <= 0:
                kf.x[4 + column] = 0
        kf.F = np.eye(8) + dt * np.eye(8, k=4)
        kf.Q = dt * np.diag(deviations(self.model.process, self.model.scale, kf.x[:4, 0]) ** 2)
        kf.predict()

    def update(self, z):
        scale = self.kf.x[:4, 0]
        self.kf.R = np.diag(deviations(self.model.measurement, self.model.scale, scale) ** 2)
        self.kf.update(z[:, None])


def walk(rng, tracks, steps):
    """Boxes ``(steps, tracks, 4)`` of objects that wander, some of them shrinking."""
    centre = rng.uniform(0, 1000, (tracks, 2)) + np.cumsum(rng.normal(0, 3, (steps, tracks, 2)), 0)
    height = rng.uniform(60, 200, tracks) * np.exp(np.cumsum(rng.normal(0, 0.004, (steps, 1)), 0))
    half = np.stack([0.2 * height, 0.5 * height], axis=-1)
    return np.concatenate([centre - half, centre + half], axis=-1)


def full_covariance(covariance):
    """``(N, 3, 4)`` of the axis filter as matrices ``(N, 8, 8)``."""
    if covariance.shape[1:] == (8, 8):
        return covariance
    pp, pv, vv = (np.apply_along_axis(np.diag, 1, covariance[:, k]) for k in range(3))
    return np.concatenate([np.concatenate([pp, pv], 2), np.concatenate([pv, vv], 2)], 1)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", [AxisKalman, FullKalman])
def test_batched_filter_equals_filterpy_over_1000_steps(kind, model):
    rng = np.random.default_rng(3)
    boxes = walk(rng, tracks=5, steps=1000)
    kalman = kind(model)
    mean, covariance = kalman.initiate(model.measure(boxes[0]))
    references = [OneTrack(model, z) for z in model.measure(boxes[0])]
    for step in range(1, 1000):
        kalman.predict(mean, covariance)
        rows = np.flatnonzero(rng.random(5) < 0.7)  # tracks are missed at random
        z = model.measure(boxes[step, rows])
        kalman.update(mean, covariance, rows, z)
        for row, reference in enumerate(references):
            reference.predict()
            if row in rows:
                reference.update(z[list(rows).index(row)])
    expected = np.stack([r.kf.x[:, 0] for r in references])
    np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-9)
    expected = np.stack([r.kf.P for r in references])
    np.testing.assert_allclose(full_covariance(covariance), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", [AxisKalman, FullKalman])
def test_gating_distance_equals_the_squared_mahalanobis_distance(kind, model):
    rng = np.random.default_rng(0)
    boxes = walk(rng, tracks=4, steps=3)
    kalman = kind(model)
    mean, covariance = kalman.initiate(model.measure(boxes[0]))
    kalman.predict(mean, covariance)
    z = model.measure(boxes[2])
    got = kalman.gating_distance(mean, covariance, z)
    sigma = full_covariance(covariance)
    for n in range(4):
        r = deviations(model.measurement, model.scale, mean[n, :4]) ** 2
        s = sigma[n, :4, :4] + np.diag(r)
        for m in range(4):
            y = z[m] - mean[n, :4]
            assert got[n, m] == pytest.approx(y @ np.linalg.solve(s, y), rel=1e-9)


@pytest.mark.parametrize("kind", [AxisKalman, FullKalman])
def test_two_half_steps_move_the_mean_as_one_step(kind):
    rng = np.random.default_rng(1)
    kalman = kind(XYAH)
    mean, covariance = kalman.initiate(rng.uniform(1, 50, (3, 4)))
    mean[:, 4:] = rng.normal(size=(3, 4))
    once, twice = mean.copy(), mean.copy()
    kalman.predict(once, covariance.copy(), 1.0)
    other = covariance.copy()
    kalman.predict(twice, other, 0.5)
    kalman.predict(twice, other, 0.5)
    np.testing.assert_allclose(twice, once)


def test_a_step_may_differ_from_track_to_track():
    rng = np.random.default_rng(2)
    z = rng.uniform(20, 50, (3, 4))
    for kind in (AxisKalman, FullKalman):
        kalman = kind(XYWH)
        mean, covariance = kalman.initiate(z)
        mean[:, 4:] = rng.normal(size=(3, 4))
        steps = np.array([[1.0], [0.25], [4.0]])
        together, cov_together = mean.copy(), covariance.copy()
        kalman.predict(together, cov_together, steps)
        for row in range(3):
            alone, cov_alone = mean[row : row + 1].copy(), covariance[row : row + 1].copy()
            kalman.predict(alone, cov_alone, float(steps[row, 0]))
            np.testing.assert_allclose(together[row], alone[0])
            np.testing.assert_allclose(cov_together[row], cov_alone[0])


def test_an_area_never_shrinks_to_nothing():
    kalman = AxisKalman(XYSR)
    mean, covariance = kalman.initiate(np.array([[0.0, 0, 100, 0.5]]))
    mean[0, 6] = -150.0
    kalman.predict(mean, covariance)
    assert mean[0, 2] == 100
    assert mean[0, 6] == 0


def test_camera_motion_moves_the_box_as_the_pixels_move():
    angle, zoom = 0.05, 1.1
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.hstack([turn, [[12.0], [-7.0]]])
    kalman = FullKalman(XYWH)
    mean, covariance = kalman.initiate(np.array([[300.0, 200, 40, 100]]))
    kalman.predict(mean, covariance)
    before = covariance.copy()
    centre = mean[0, :2].copy()
    kalman.warp(mean, covariance, affine)
    np.testing.assert_allclose(mean[0, :2], turn @ centre + affine[:, 2])
    # a linear map of a Gaussian: the block of each pair is turned from both sides
    np.testing.assert_allclose(covariance[0, :2, :2], turn @ before[0, :2, :2] @ turn.T)
    np.testing.assert_allclose(covariance[0], covariance[0].T)


@pytest.mark.parametrize("model", MODELS)
def test_camera_zoom_and_shift_scale_every_model_s_box_alike(model):
    box = np.array([[100.0, 50, 140, 170]])
    affine = np.array([[1.2, 0.0, 5.0], [0.0, 1.2, -8.0]])
    kalman = FullKalman(model)
    mean, covariance = kalman.initiate(model.measure(box))
    kalman.warp(mean, covariance, affine)
    expected = 1.2 * box + [[5.0, -8.0, 5.0, -8.0]]
    np.testing.assert_allclose(model.boxes(mean[:, :4]), expected)


def test_the_axis_filter_refuses_camera_motion():
    kalman = AxisKalman(XYAH)
    mean, covariance = kalman.initiate(np.ones((1, 4)))
    with pytest.raises(NotImplementedError, match="FullKalman"):
        kalman.warp(mean, covariance, np.eye(2, 3))


@pytest.mark.parametrize("tracks", [5, 60], ids=["all pairs", "near pairs"])
def test_a_limited_gate_is_exact_within_the_limit(tracks):
    rng = np.random.default_rng(2)
    model = MOTION_MODELS["xyah"]
    corner = rng.uniform(0, 800, (2, tracks, 2))
    z = model.measure(
        np.concatenate([corner, corner + rng.uniform(30, 90, corner.shape)], axis=2)[0]
    )
    seen = z + rng.normal(0, 3, z.shape) * [1, 1, 0.01, 1]
    kalman = AxisKalman(model)
    mean, covariance = kalman.initiate(z)
    limited = kalman.gating_distance(mean, covariance, seen, 9.0)
    expected = np.array(
        [
            FullKalman(model).gating_distance(*FullKalman(model).initiate(z[i, None]), seen)[0]
            for i in range(tracks)
        ]
    )
    near = expected <= 9.0
    assert near.any()
    np.testing.assert_allclose(limited[near], expected[near], rtol=1e-9)
    assert (limited[~near] > 9.0).all()

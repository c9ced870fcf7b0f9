"""Kalman filters batched over all tracks, in place.

Both filters hold the same Gaussian over ``x = (p, v)``, four coordinates and their velocities, and
both compute, for the transition ``F = [[1, dt], [0, 1]]`` and the measurement ``H = [1, 0]``,

    predict   p(x_t | z_1:t-1) = N(F mu, F Sigma F' + Q)
    update    p(x_t | z_1:t)   = N(mu + K y, (1 - K H) Sigma),   K = Sigma H' S^-1

with innovation ``y = z - H mu`` and its covariance ``S = H Sigma H' + R``. They differ in how the
covariance is stored. Q, R and the initial covariance are diagonal in every motion model, so the
four coordinates never become correlated: :class:`AxisKalman` stores three numbers for each of them
and no matrix at all (exact, and 300 tracks take 0.1 ms a frame). A rotating camera does correlate
them: :class:`FullKalman` keeps the 8 x 8 matrix, for presets that compensate camera motion.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np

from tracker.motion import MotionModel, Noise
from trackvae.arrays import FloatArray, IntArray

Step: TypeAlias = "float | FloatArray"
CHI2_95 = 9.487729036781154  # 0.95 quantile of chi-square with 4 degrees of freedom
# From this many pairs on the gate looks at one coordinate first: 30 x 30 35 us against 54 for all,
# 300 x 300 0.2 ms against 2.8 (results/benchmark-kernels.json).
_SPARSE_FROM_PAIRS = 500


class KalmanFilter(Protocol):
    """What the engine asks of a filter. Arrays are changed in place."""

    covariance_shape: tuple[int, ...]

    def __init__(self, model: MotionModel) -> None: ...

    def initiate(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean ``(N, 8)`` and covariance ``(N, *covariance_shape)`` of new tracks at ``z``."""

    def predict(self, mean: FloatArray, covariance: FloatArray, dt: Step = 1.0) -> None:
        """Move all tracks ``dt`` frames on (one number, or ``(N, 1)``)."""

    def update(
        self, mean: FloatArray, covariance: FloatArray, rows: IntArray, z: FloatArray
    ) -> None:
        """Correct the tracks of ``rows`` ``(K,)`` by their measurements ``(K, 4)``."""

    def gating_distance(
        self, mean: FloatArray, covariance: FloatArray, z: FloatArray, limit: float = np.inf
    ) -> FloatArray:
        """Squared Mahalanobis distance of every measurement to every track, ``(N, M)``.

        Distances beyond ``limit`` may come back as any number beyond it.
        """

    def warp(self, mean: FloatArray, covariance: FloatArray, affine: FloatArray) -> None:
        """Move all tracks with the camera: ``affine`` ``(2, 3)``, old pixels to new ones."""


class _NoiseScale:
    """Variances from a motion model's noise and the objects' sizes."""

    def __init__(self, noise: Noise, scale: tuple[int, int, int, int] | None) -> None:
        self._relative = np.array(noise.relative)
        self._absolute = np.array(noise.absolute)
        self._constant = np.square(self._absolute)
        self._columns = None if scale is None else np.array(scale * (len(noise.relative) // 4))

    def variances(self, p: FloatArray) -> FloatArray:
        """Variances ``(N, 8 or 4)``, or one row for all where sizes do not matter."""
        if self._columns is None:
            return self._constant
        deviation = p.take(self._columns, axis=1)
        deviation *= self._relative
        deviation += self._absolute
        deviation *= deviation
        return deviation


class AxisKalman:
    """The filter for uncorrelated coordinates.

    The covariance is ``(N, 3, 4)``: variance of the position, covariance of position and velocity,
    variance of the velocity, for each coordinate.
    """

    covariance_shape: tuple[int, ...] = (3, 4)

    def __init__(self, model: MotionModel) -> None:
        self._initial = _NoiseScale(model.initial, model.scale)
        self._process = _NoiseScale(model.process, model.scale)
        self._measurement = _NoiseScale(model.measurement, model.scale)
        self._positive = model.positive

    def initiate(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean ``(N, 8)`` and covariance ``(N, 3, 4)`` of new tracks at measurements ``z``."""
        mean = np.zeros((len(z), 8))
        mean[:, :4] = z
        variance = np.broadcast_to(self._initial.variances(z), (len(z), 8))
        covariance = np.zeros((len(z), 3, 4))
        covariance[:, 0] = variance[:, :4]
        covariance[:, 2] = variance[:, 4:]
        return mean, covariance

    def predict(self, mean: FloatArray, covariance: FloatArray, dt: Step = 1.0) -> None:
        """Move all tracks ``dt`` frames on, in place."""
        self._keep_positive(mean, dt)
        pp, pv, vv = covariance[:, 0], covariance[:, 1], covariance[:, 2]
        q = self._process.variances(mean)
        if isinstance(dt, float) and dt == 1.0:
            mean[:, :4] += mean[:, 4:]
            pp += pv  # (F Sigma F')_pp = pp + 2 dt pv + dt^2 vv, in two steps
            pv += vv
            pp += pv
        else:
            mean[:, :4] += dt * mean[:, 4:]
            pp += dt * pv
            pv += dt * vv
            pp += dt * pv
            q = dt * q  # noise of a random walk grows with the time
        pp += q[..., :4]
        vv += q[..., 4:]

    def _keep_positive(self, mean: FloatArray, dt: Step) -> None:
        for column in self._positive:
            velocity = mean[:, 4 + column : 5 + column]
            velocity[mean[:, column : column + 1] + dt * velocity <= 0] = 0.0

    def update(
        self, mean: FloatArray, covariance: FloatArray, rows: IntArray, z: FloatArray
    ) -> None:
        """Correct the tracks of ``rows`` ``(K,)`` by their measurements ``(K, 4)``, in place."""
        mu = mean[rows]  # (K, 8)
        sigma = covariance[rows]  # (K, 3, 4)
        r = self._measurement.variances(mu)
        y = z - mu[:, :4]
        gain = sigma[:, :2] / (sigma[:, 0] + r)[:, None]  # K for position and velocity, (K, 2, 4)
        mu.reshape(-1, 2, 4)[...] += gain * y[:, None]
        sigma[:, 2] -= gain[:, 1] * sigma[:, 1]
        # Position: K r equals (1 - K) pp, without the cancellation.
        np.multiply(gain, r[..., None, :], out=sigma[:, :2])
        mean[rows] = mu
        covariance[rows] = sigma

    def gating_distance(
        self, mean: FloatArray, covariance: FloatArray, z: FloatArray, limit: float = np.inf
    ) -> FloatArray:
        """Squared Mahalanobis distance of every measurement to every track, ``(N, M)``.

        Distances beyond ``limit`` may come back as any number beyond it.
        """
        s = covariance[:, 0] + self._measurement.variances(mean)  # diagonal of S, (N, 4)
        if len(mean) * len(z) < _SPARSE_FROM_PAIRS:
            y = z[None, :, :] - mean[:, None, :4]  # (N, M, 4)
            y *= y
            y /= s[:, None]
            return y.sum(axis=2)
        x = z[None, :, 0] - mean[:, None, 0]  # the first coordinate refuses most pairs
        x *= x
        x /= s[:, 0, None]
        pairs = np.flatnonzero(x <= limit)
        i, j = np.divmod(pairs, len(z))
        y = z[j] - mean[i, :4]
        y *= y
        y /= s[i]
        x.ravel()[pairs] = y.sum(axis=1)
        return x

    def warp(self, mean: FloatArray, covariance: FloatArray, affine: FloatArray) -> None:
        """Not possible here: a rotation correlates the coordinates."""
        raise NotImplementedError("camera motion needs FullKalman")


class FullKalman:
    """The filter with a full covariance ``(N, 8, 8)``, which camera motion may rotate."""

    covariance_shape: tuple[int, ...] = (8, 8)

    def __init__(self, model: MotionModel) -> None:
        self._axis = AxisKalman(model)
        self._turned = model.turned
        self._process = _NoiseScale(model.process, model.scale)
        self._measurement = _NoiseScale(model.measurement, model.scale)

    def initiate(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean ``(N, 8)`` and covariance ``(N, 8, 8)`` of new tracks at measurements ``z``."""
        mean, diagonal = self._axis.initiate(z)
        covariance = np.zeros((len(z), 8, 8))
        index = np.arange(8)
        covariance[:, index, index] = diagonal[:, (0, 2)].reshape(-1, 8)
        return mean, covariance

    def predict(self, mean: FloatArray, covariance: FloatArray, dt: Step = 1.0) -> None:
        """Move all tracks ``dt`` frames on, in place."""
        self._axis._keep_positive(mean, dt)
        q = self._process.variances(mean)
        mean[:, :4] += dt * mean[:, 4:]
        step = np.asarray(dt).reshape(-1, 1, 1)
        covariance[:, :4] += step * covariance[:, 4:]  # F Sigma
        covariance[:, :, :4] += step * covariance[:, :, 4:]  # (F Sigma) F'
        index = np.arange(8)
        covariance[:, index, index] += dt * q

    def _innovation(self, mu: FloatArray, sigma: FloatArray) -> FloatArray:
        """S = H Sigma H' + R, ``(K, 4, 4)``."""
        s = sigma[:, :4, :4].copy()
        index = np.arange(4)
        s[:, index, index] += self._measurement.variances(mu)
        return s

    def update(
        self, mean: FloatArray, covariance: FloatArray, rows: IntArray, z: FloatArray
    ) -> None:
        """Correct the tracks of ``rows`` ``(K,)`` by their measurements ``(K, 4)``, in place."""
        mu, sigma = mean[rows], covariance[rows]
        s = self._innovation(mu, sigma)
        gain = np.linalg.solve(s, sigma[:, :4]).transpose(0, 2, 1)  # K = Sigma H' S^-1, (K, 8, 4)
        y = z - mu[:, :4]
        mean[rows] = mu + (gain @ y[:, :, None])[:, :, 0]
        sigma = sigma - gain @ sigma[:, :4]
        covariance[rows] = 0.5 * (sigma + sigma.transpose(0, 2, 1))

    def gating_distance(
        self,
        mean: FloatArray,
        covariance: FloatArray,
        z: FloatArray,
        limit: float = np.inf,  # noqa: ARG002
    ) -> FloatArray:
        """Squared Mahalanobis distance of every measurement to every track, ``(N, M)``."""
        s = self._innovation(mean, covariance)
        y = z[None, :, :] - mean[:, None, :4]  # (N, M, 4)
        weighted = np.linalg.solve(s, y.transpose(0, 2, 1))  # S^-1 y, (N, 4, M)
        return np.einsum("nmi,nim->nm", y, weighted)

    def warp(self, mean: FloatArray, covariance: FloatArray, affine: FloatArray) -> None:
        """Move all tracks with the camera, in place (BoT-SORT, section 3.2).

        The linear part turns positions, sizes and velocities; the translation moves positions.

        Args:
            mean: ``(N, 8)``.
            covariance: ``(N, 8, 8)``.
            affine: ``(2, 3)``, pixels of the last frame to pixels of this one.
        """
        turn = np.kron(np.eye(2), self._turned(affine[:, :2]))  # (8, 8): positions, velocities
        mean[:] = mean @ turn.T
        mean[:, :2] += affine[:, 2]
        covariance[:] = turn @ covariance @ turn.T

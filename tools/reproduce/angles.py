"""An angle read off a latent representation: the thesis's regression, and one without a leak.

Both are fitted on one part and judged on another. Absolute errors are on the circle.
"""

from __future__ import annotations

import math

import numpy as np

from trackvae.arrays import FloatArray


def kasa_circle(points: FloatArray) -> tuple[FloatArray, float]:
    """Centre and radius of the circle through (N, 2) points, by Kasa's linear least squares."""
    design = np.c_[2 * points, np.ones(len(points))]
    solution = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)[0]
    centre = solution[:2]
    return centre, math.sqrt(max(float(solution[2] + centre @ centre), 0.0))


def circular_prediction(
    train_z: FloatArray, train_angle: FloatArray, test_z: FloatArray
) -> FloatArray:
    """Angles (N,) by OLS of (cos, sin) of the angle on (cos phi, sin phi, 1).

    phi is the direction from the circle's centre; both are of the training part alone.
    """
    centre, _ = kasa_circle(train_z)

    def design(z: FloatArray) -> FloatArray:
        phi = np.arctan2(z[:, 1] - centre[1], z[:, 0] - centre[0])
        return np.c_[np.cos(phi), np.sin(phi), np.ones(len(z))]

    targets = np.c_[np.cos(train_angle), np.sin(train_angle)]
    weights = np.linalg.lstsq(design(train_z), targets, rcond=None)[0]
    cosine, sine = (design(test_z) @ weights).T
    return np.arctan2(sine, cosine)


def polar_prediction(
    train_z: FloatArray,
    train_angle: FloatArray,
    test_z: FloatArray,
    *,
    one_radius: bool = False,
) -> FloatArray:
    """Angles (N,) by the thesis's protocol: OLS of the angle on the encoded angle arcsin(z_2 / r).

    As literally as it can be taken: the arcsine covers half a turn, so the sign of z_1 continues it
    to a whole one; z is taken from the circle's centre, which need not be 0. The encoded angle is
    turned (and mirrored) so that its cut falls where the label's does, and slope and intercept are
    then fitted, all on the training part.

    Args:
        train_z: (N, 2).
        train_angle: (N,), radians.
        test_z: (M, 2).
        one_radius: r is one number, of the circle; otherwise each point's own (a transformation to
            polar coordinates).
    """
    centre, radius = kasa_circle(train_z)

    def encoded(z: FloatArray) -> FloatArray:
        z = z - centre
        r = radius if one_radius else np.linalg.norm(z, axis=1)
        half = np.arcsin(np.clip(z[:, 1] / np.maximum(r, 1e-12), -1, 1))
        return np.where(z[:, 0] >= 0, half, np.pi - half)

    phi = encoded(train_z)
    means = {sign: np.exp(1j * (train_angle - sign * phi)).mean() for sign in (1, -1)}
    sign = max(means, key=lambda s: abs(means[s]))
    turn = float(np.angle(means[sign]))
    # on the label's own turn: a point just beyond the cut is one turn off, and no outlier
    aligned = train_angle + wrapped(sign * phi + turn - train_angle)
    slope, intercept = np.polyfit(aligned, train_angle, 1)
    return intercept + slope * ((sign * encoded(test_z) + turn) % (2 * np.pi))


def wrapped(angle: FloatArray) -> FloatArray:
    """Into [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def absolute_error(predicted: FloatArray, angle: FloatArray) -> float:
    """Mean absolute difference on the circle, radians: 0 to pi, and pi / 2 by chance."""
    return float(np.abs(wrapped(predicted - angle)).mean())

"""A pendulum with a motor, seen as 16x16 images (thesis, sections 4.4 and 4.4.4).

The data of Karl et al. (2017) are not to be had; their equation with our constants, and the blob of
:mod:`training.data.pendulum` for a picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray
from training.data.pendulum import render_pendulum
from training.data.sequences import SequenceSet
from training.data.systems import recorded_set

SEQUENCES, STEPS = 500, 15
DAMPING = 0.5  # 1/s
GRAVITY = 9.81  # 1/s^2, gravity over length
TORQUE = 15.0  # rad/s^2 at a control of 1
FASTEST_START = 6.0  # rad/s


class ActuatedPendulum:
    """``phi'' = -0.5 phi' + 9.81 sin(phi) + u``, with phi = 0 upright.

    A state is (phi, phi'): radians, which are not wrapped, and radians a second. One step is 0.1 s,
    in ten substeps of semi-implicit Euler (which does not add energy of its own, as the explicit
    one does). A control of 1 is a torque of 15, far more than gravity's.
    """

    name = "actuated pendulum"
    controls = 1
    control_scale = TORQUE
    state_names = ("angle", "velocity")

    def __init__(self, interval: float = 0.1, substeps: int = 10) -> None:
        """Choose the clock.

        Args:
            interval: seconds of one step.
            substeps: in which it is integrated.
        """
        self.interval = interval
        self.substeps = substeps

    def start(self, count: int, generator: np.random.Generator) -> FloatArray:
        """Angles uniform on the circle, velocities uniform within 6 rad/s: (count, 2)."""
        angle = generator.uniform(-np.pi, np.pi, count)
        velocity = generator.uniform(-FASTEST_START, FASTEST_START, count)
        return np.stack([angle, velocity], axis=1)

    def advance(self, states: FloatArray, controls: FloatArray) -> FloatArray:
        """One step: states (B, 2) under controls (B, 1)."""
        angle, velocity = states[:, 0], states[:, 1]
        torque = TORQUE * controls[:, 0]
        dt = self.interval / self.substeps
        for _ in range(self.substeps):
            velocity = velocity + dt * (-DAMPING * velocity + GRAVITY * np.sin(angle) + torque)
            angle = angle + dt * velocity
        return np.stack([angle, velocity], axis=1)

    def observe(self, states: FloatArray) -> npt.NDArray[np.float32]:
        """Images (..., 16, 16) in [0, 1] of states (..., 2); velocity does not show."""
        return render_pendulum(states[..., 0])

    def energy(self, states: FloatArray) -> FloatArray:
        """Kinetic and potential, in rad^2/s^2, of states (..., 2)."""
        return 0.5 * states[..., 1] ** 2 + GRAVITY * np.cos(states[..., 0])


def actuated_pendulum(
    train: int = SEQUENCES,
    *,
    test: int = SEQUENCES,
    validation: int = 100,
    steps: int = STEPS,
    seed: int = 0,
) -> SequenceSet:
    """The thesis's data set: 500 sequences of 15 images, as many again to test on.

    Args:
        train: sequences to train on.
        test: sequences to report on.
        validation: sequences to choose settings by.
        steps: T of each.
        seed: of all random numbers.
    """
    return recorded_set(
        ActuatedPendulum(), train=train, test=test, validation=validation, steps=steps, seed=seed
    )

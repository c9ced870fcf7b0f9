"""The reacher: an arm of two links in a plane (thesis, section 4.4; Tassa et al., 2018).

The arm, its motors and the camera are those of dm_control's ``reacher``. Where dm_control is
installed (``pip install trackvae[experiments]``) MuJoCo moves and draws it; elsewhere
:class:`TwoLink`, which solves the same equations of motion and draws the arm by its outline alone.
What was used stands in the data set's note.

A state is (shoulder, wrist, their velocities): radians, not wrapped, and radians a second. The
shoulder turns without limit, the wrist by 160 degrees either way.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError
from training.data.sequences import SequenceSet
from training.data.systems import System, recorded_set

Sight: TypeAlias = Literal["angles", "images"]
Simulation: TypeAlias = Literal["auto", "mujoco", "own"]

SEQUENCES, STEPS = 2000, 30
SIDE = 64  # pixels
SHOULDER_TO_WRIST, WRIST_TO_FINGER = 0.12, 0.12  # metres
_HAND = 0.10  # length of the hand's capsule, m
_RADIUS = 0.01  # of the links and of the finger, m
_DENSITY = 1000.0  # kg/m^3, MuJoCo's
_DAMPING = 0.01  # N m s, of either joint
TORQUE = 0.05  # N m at a control of 1
_WRIST_LIMIT = math.radians(160.0)
_SUBSTEP = 0.02  # s, dm_control's
_FASTEST_START = 4.0  # rad/s
_HALF_VIEW = 0.75 * math.tan(math.radians(22.5))  # m, camera 0.75 m above, 45 degrees across
_NAMES = ("shoulder", "wrist", "shoulder velocity", "wrist velocity")
_BACKGROUND, _ARM, _FINGER = (0.28, 0.2, 0.12), (0.3, 0.5, 0.7), (0.15, 0.25, 0.9)  # BGR
# pixels of MuJoCo's shadow map, 2,048 by itself: an image takes 10 ms instead of 17 in software,
# and its levels change by 0.03 of 255 on average
_SHADOW = 256
_CHUNK = 512  # images drawn at once: 512 * 64 * 64 distances fit the cache's neighbourhood


def finger_position(states: FloatArray) -> FloatArray:
    """Where the finger is, in metres from the shoulder: states (..., 4) to (..., 2)."""
    shoulder, both = states[..., 0], states[..., 0] + states[..., 1]
    x = SHOULDER_TO_WRIST * np.cos(shoulder) + WRIST_TO_FINGER * np.cos(both)
    y = SHOULDER_TO_WRIST * np.sin(shoulder) + WRIST_TO_FINGER * np.sin(both)
    return np.stack([x, y], axis=-1)


class TwoLink:
    """The reacher without MuJoCo: the same equation, step by step.

    ``M(psi) q'' + c(q, q') + 0.01 q' = 0.05 u`` in steps of 0.02 s with implicit damping, as MuJoCo
    takes them. The wrist's stop takes all speed at once, where MuJoCo's is a stiff spring.
    """

    name = "reacher (own simulation)"
    controls = 2
    control_scale = TORQUE
    state_names = _NAMES

    def __init__(
        self, sight: Sight = "angles", substeps: int = 2, substep: float = _SUBSTEP
    ) -> None:
        """Choose what is seen, and the clock.

        Args:
            sight: ``angles`` (2,) in radians, or ``images`` (3, 64, 64).
            substeps: in one step.
            substep: seconds of each.
        """
        self.sight = sight
        self.substeps = substeps
        self.interval = substep * substeps
        self._dt = substep
        arm, arm_inertia = _capsule(SHOULDER_TO_WRIST)
        hand, hand_inertia = _capsule(_HAND)
        finger = _DENSITY * 4 / 3 * math.pi * _RADIUS**3
        # about the wrist; the finger's ball turns with the hand
        self._wrist = hand_inertia + hand * (_HAND / 2) ** 2
        self._wrist += finger * (WRIST_TO_FINGER**2 + 0.4 * _RADIUS**2)
        outer = (hand + finger) * SHOULDER_TO_WRIST**2
        self._shoulder = arm_inertia + arm * (SHOULDER_TO_WRIST / 2) ** 2 + outer + self._wrist
        self._coupling = SHOULDER_TO_WRIST * (hand * _HAND / 2 + finger * WRIST_TO_FINGER)

    def start(self, count: int, generator: np.random.Generator) -> FloatArray:
        """Angles uniform within their limits, velocities within 4 rad/s: (count, 4)."""
        return _start(count, generator)

    def advance(self, states: FloatArray, controls: FloatArray) -> FloatArray:
        """One step: states (B, 4) under controls (B, 2), which are cut off at 1 as the motors."""
        q, v = states[:, :2], states[:, 2:]
        torque = TORQUE * np.clip(controls, -1, 1)
        for _ in range(self.substeps):
            v = self._faster(q, v, torque)
            q = q + self._dt * v
            stopped = np.abs(q[:, 1]) > _WRIST_LIMIT
            wrist = np.clip(q[:, 1], -_WRIST_LIMIT, _WRIST_LIMIT)
            q = np.stack([q[:, 0], wrist], axis=1)
            v = np.stack([v[:, 0], np.where(stopped, 0.0, v[:, 1])], axis=1)
        return np.concatenate([q, v], axis=1)

    def _faster(self, q: FloatArray, v: FloatArray, torque: FloatArray) -> FloatArray:
        """Velocities after a substep: ``(M + h D) v' = M v + h (torque - c)``."""
        cosine = self._coupling * np.cos(q[:, 1])
        bend = self._coupling * np.sin(q[:, 1])
        m11, m12 = self._shoulder + 2 * cosine, self._wrist + cosine
        m22 = np.full_like(m11, self._wrist)
        c1 = -bend * (2 * v[:, 0] * v[:, 1] + v[:, 1] ** 2)  # Coriolis and centrifugal
        c2 = bend * v[:, 0] ** 2
        right1 = m11 * v[:, 0] + m12 * v[:, 1] + self._dt * (torque[:, 0] - c1)
        right2 = m12 * v[:, 0] + m22 * v[:, 1] + self._dt * (torque[:, 1] - c2)
        m11, m22 = m11 + self._dt * _DAMPING, m22 + self._dt * _DAMPING
        determinant = m11 * m22 - m12**2
        v1 = (m22 * right1 - m12 * right2) / determinant
        v2 = (m11 * right2 - m12 * right1) / determinant
        return np.stack([v1, v2], axis=1)

    def observe(self, states: FloatArray) -> npt.NDArray[Any]:
        """Angles (..., 2) float32, or images (..., 3, 64, 64) uint8, of states (..., 4)."""
        return states[..., :2].astype(np.float32) if self.sight == "angles" else draw_arm(states)

    def energy(self, states: FloatArray) -> FloatArray:
        """Kinetic, in joules, of states (..., 4)."""
        cosine = self._coupling * np.cos(states[..., 1])
        m11, m12 = self._shoulder + 2 * cosine, self._wrist + cosine
        v1, v2 = states[..., 2], states[..., 3]
        return 0.5 * (m11 * v1**2 + self._wrist * v2**2) + m12 * v1 * v2


def _capsule(length: float) -> tuple[float, float]:
    """Mass in kg, and inertia in kg m^2 across its axis about its centre, of a link."""
    tube = _DENSITY * math.pi * _RADIUS**2 * length
    ball = _DENSITY * 4 / 3 * math.pi * _RADIUS**3
    inertia = tube * (length**2 / 12 + _RADIUS**2 / 4)
    inertia += ball * (0.4 * _RADIUS**2 + length**2 / 4 + 3 / 8 * length * _RADIUS)
    return tube + ball, inertia


def _start(count: int, generator: np.random.Generator) -> FloatArray:
    shoulder = generator.uniform(-np.pi, np.pi, count)
    wrist = generator.uniform(-_WRIST_LIMIT, _WRIST_LIMIT, count)
    velocities = generator.uniform(-_FASTEST_START, _FASTEST_START, (count, 2))
    return np.column_stack([shoulder, wrist, velocities])


def draw_arm(states: FloatArray) -> npt.NDArray[np.uint8]:
    """Images (..., 3, 64, 64), BGR, of states (..., 4), seen from above; x to the right, y up."""
    flat = states.reshape(-1, states.shape[-1])
    images = np.empty((len(flat), 3, SIDE, SIDE), np.uint8)
    for first in range(0, len(flat), _CHUNK):
        images[first : first + _CHUNK] = _draw(flat[first : first + _CHUNK])
    return images.reshape(*states.shape[:-1], 3, SIDE, SIDE)


def _draw(states: FloatArray) -> npt.NDArray[np.uint8]:
    shoulder, both = states[:, 0], states[:, 0] + states[:, 1]
    first = np.stack([np.cos(shoulder), np.sin(shoulder)], axis=1)
    second = np.stack([np.cos(both), np.sin(both)], axis=1)
    wrist = SHOULDER_TO_WRIST * first
    hand, finger = wrist + _HAND * second, wrist + WRIST_TO_FINGER * second
    links = np.maximum(_covered(np.zeros_like(wrist), wrist), _covered(wrist, hand))[:, None]
    tip = _covered(finger, finger)[:, None]
    colours = (np.array(c, np.float32).reshape(3, 1, 1) for c in (_BACKGROUND, _ARM, _FINGER))
    background, arm, end = colours
    picture = background + links * (arm - background)
    picture = picture + tip * (end - picture)
    return np.rint(255 * picture).astype(np.uint8)


def _covered(start: FloatArray, end: FloatArray) -> npt.NDArray[np.float32]:
    """How much of each pixel a capsule covers, (B, 64, 64), from its ends (B, 2) in metres."""
    pixel = 2 * _HALF_VIEW / SIDE
    places = ((np.arange(SIDE) + 0.5) * pixel - _HALF_VIEW).astype(np.float32)
    a, b = start.astype(np.float32)[..., None, None], end.astype(np.float32)[..., None, None]
    x, y = places[None, :] - a[:, 0], -places[:, None] - a[:, 1]
    along_x, along_y = b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]
    length2 = np.maximum(along_x**2 + along_y**2, np.float32(1e-12))
    share = np.clip((x * along_x + y * along_y) / length2, 0, 1)
    distance = np.hypot(x - share * along_x, y - share * along_y)
    return np.clip((_RADIUS - distance) / pixel + 0.5, 0, 1)  # an edge is one pixel wide


class MujocoReacher:
    """dm_control's reacher with its target taken away."""

    name = "reacher (dm_control)"
    controls = 2
    control_scale = TORQUE
    state_names = _NAMES

    def __init__(self, sight: Sight = "angles", substeps: int = 2) -> None:
        """Choose what is seen, and the clock.

        Args:
            sight: ``angles`` (2,) in radians, or ``images`` (3, 64, 64).
            substeps: of 0.02 s in one step.

        Raises:
            InputError: dm_control is absent, or does not run here.
        """
        self.sight = sight
        self.substeps = substeps
        self.interval = _SUBSTEP * substeps
        try:
            _load_triton()
            from dm_control.suite import reacher as suite

            self._physics: Any = suite.Physics.from_xml_string(*suite.get_model_and_assets())
            self._physics.named.model.geom_rgba["target", 3] = 0.0
            self._physics.model.vis.quality.shadowsize = _SHADOW
            if sight == "images":
                self._draw(np.zeros(4))
        except Exception as error:  # a missing package, another MuJoCo, no OpenGL: many kinds
            raise InputError(
                f"dm_control's reacher does not run here ({type(error).__name__}: {error}); "
                "pip install trackvae[experiments], set MUJOCO_GL=egl where there is no display, "
                "or take the simulation of our own"
            ) from error

    def start(self, count: int, generator: np.random.Generator) -> FloatArray:
        """As :meth:`TwoLink.start`."""
        return _start(count, generator)

    def advance(self, states: FloatArray, controls: FloatArray) -> FloatArray:
        """One step: states (B, 4) under controls (B, 2), which are cut off at 1 as the motors."""
        moved = np.empty_like(states)
        for row, (state, control) in enumerate(zip(states, controls, strict=True)):
            self._place(state)
            self._physics.set_control(np.clip(control, -1, 1))
            self._physics.step(self.substeps)
            moved[row] = [*self._physics.data.qpos, *self._physics.data.qvel]
        return moved

    def observe(self, states: FloatArray) -> npt.NDArray[Any]:
        """Angles (..., 2) float32, or images (..., 3, 64, 64) uint8, of states (..., 4)."""
        if self.sight == "angles":
            return states[..., :2].astype(np.float32)
        images = np.stack([self._draw(state) for state in states.reshape(-1, 4)])
        return images.reshape(*states.shape[:-1], 3, SIDE, SIDE)

    def _place(self, state: FloatArray) -> None:
        with self._physics.reset_context():
            self._physics.data.qpos[:] = state[:2]
            self._physics.data.qvel[:] = state[2:]

    def _draw(self, state: FloatArray) -> npt.NDArray[np.uint8]:
        self._place(state)
        rgb = self._physics.render(SIDE, SIDE, camera_id="fixed")
        return np.ascontiguousarray(rgb[:, :, ::-1].transpose(2, 0, 1))


def _load_triton() -> None:
    """Load Triton's library, where PyTorch brought it, before OpenGL's.

    Both hold an LLVM. Behind Mesa's (EGL and OSMesa without a GPU), Triton's, which the trainer's
    libraries import, ends the process with a segmentation fault; before it, both work.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("triton._C.libtriton")


def reacher_system(
    sight: Sight = "angles", simulation: Simulation = "auto", substeps: int = 2
) -> System:
    """The arm to record or to act in.

    Args:
        sight: ``angles`` or ``images``.
        simulation: ``mujoco`` (dm_control), ``own``, or ``auto``: the first where it runs.
        substeps: of 0.02 s in one step. dm_control's own tasks take one, in which 0.6 s of 30 steps
            the arm hardly turns.

    Raises:
        UsageError: no such sight or simulation.
        InputError: ``mujoco``, and dm_control is absent or does not run here.
    """
    if sight not in ("angles", "images"):
        raise UsageError(f"sight is {sight!r}, expected angles or images")
    if simulation not in ("auto", "mujoco", "own"):
        raise UsageError(f"simulation is {simulation!r}, expected auto, mujoco or own")
    if simulation == "own":
        return TwoLink(sight, substeps)
    try:
        return MujocoReacher(sight, substeps)
    except InputError:
        if simulation == "mujoco":
            raise
        return TwoLink(sight, substeps)


def reacher(
    train: int = SEQUENCES,
    *,
    test: int = 500,
    validation: int = 100,
    steps: int = STEPS,
    seed: int = 0,
    sight: Sight = "angles",
    simulation: Simulation = "auto",
) -> SequenceSet:
    """The thesis's data set: 2,000 sequences of 30 steps, and 500 to test on.

    Args:
        train: sequences to train on.
        test: sequences to report on.
        validation: sequences to choose settings by.
        steps: T of each.
        seed: of all random numbers.
        sight: ``angles`` or ``images``.
        simulation: as :func:`reacher_system` takes it.
    """
    system = reacher_system(sight, simulation)
    made = recorded_set(
        system, train=train, test=test, validation=validation, steps=steps, seed=seed
    )
    return replace(made, note=f"{system.name}, {sight}: {made.note}")

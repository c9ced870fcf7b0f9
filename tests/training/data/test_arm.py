"""The robot arm: both kinematics are inverse to each other, and the circle is met."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackvae.errors import InputError, UsageError
from training.data.arm import (
    CENTRE,
    DH,
    JOINTS,
    RADIUS,
    TEST,
    TRAIN,
    arm,
    circle_joints,
    forward_kinematics,
    inverse_kinematics,
    off_circle,
)


def by_hand(joints):
    """Denavit and Hartenberg's chain, link by link, as four elementary motions each."""

    def rotation(axis, angle):
        c, s = math.cos(angle), math.sin(angle)
        matrix = np.eye(4)
        i, j = ((1, 2), (2, 0), (0, 1))[axis]
        matrix[i, i] = matrix[j, j] = c
        matrix[i, j], matrix[j, i] = -s, s
        return matrix

    def shift(x, z):
        matrix = np.eye(4)
        matrix[0, 3], matrix[2, 3] = x, z
        return matrix

    pose = np.eye(4)
    for theta, (d, a, alpha) in zip(joints, DH, strict=True):
        pose = pose @ rotation(2, theta) @ shift(0, d) @ shift(a, 0) @ rotation(0, alpha)
    return pose


def test_forward_kinematics_is_the_chain_of_its_links():
    joints = np.random.default_rng(0).uniform(-3, 3, (4, 5, JOINTS))
    position, rotation = forward_kinematics(joints)
    expected = by_hand(joints[2, 3])
    assert np.allclose(position[2, 3], expected[:3, 3])
    assert np.allclose(rotation[2, 3], expected[:3, :3])
    assert np.allclose(np.linalg.det(rotation), 1)


def test_the_arm_at_rest_is_where_its_lengths_say():
    """All joints at 0: the upper arm lies along x, and the forearm hangs down from its end."""
    position, _ = forward_kinematics(np.zeros(JOINTS))
    assert np.allclose(position, [0.025 + 0.56 + 0.035, 0, 0.4 - 0.515 - 0.08])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=JOINTS, max_size=JOINTS))
def test_inverse_kinematics_reaches_every_pose_that_an_arm_was_in(shares):
    joints = np.array([2.0, 1.2, 1.0, 2.5, 1.5, 2.5]) * np.array(shares)
    position, rotation = forward_kinematics(joints)
    found = inverse_kinematics(position, rotation)
    again, turned = forward_kinematics(found)
    assert np.allclose(again, position, atol=1e-7)
    assert np.allclose(turned, rotation, atol=1e-7)


def test_elbow_up_and_an_unflipped_wrist_are_found_to_the_angle():
    joints = np.array([0.4, -0.9, -0.3, 0.7, 0.8, -1.1])
    assert np.allclose(inverse_kinematics(*forward_kinematics(joints)), joints)


def test_a_place_out_of_reach_is_named():
    with pytest.raises(
        InputError, match=r"does not reach \[3\.0, 0\.0, 0\.0\] m \(1 of 2 places\)"
    ):
        inverse_kinematics(np.array([[0.6, 0.0, 0.3], [3.0, 0.0, 0.0]]), np.stack([np.eye(3)] * 2))


def test_the_circle_is_met_without_a_jump_and_closes():
    angles = np.linspace(0, 2 * np.pi, 500)
    joints = circle_joints(angles)
    position, rotation = forward_kinematics(joints)
    assert off_circle(position).max() < 1e-12
    assert np.allclose(position[:, 0], CENTRE[0] + RADIUS * np.cos(angles))
    assert np.allclose(rotation, rotation[0])  # the tool is held as it is
    assert np.abs(np.diff(joints, axis=0)).max() < 0.05
    assert np.allclose(joints[0], joints[-1])
    assert (np.ptp(joints, axis=0) > 0.3).all()  # every joint takes part


def test_the_distance_from_the_circle_is_that_of_its_nearest_point():
    rng = np.random.default_rng(1)
    places = np.array(CENTRE) + rng.normal(0, 0.5, (20, 3))
    ring = np.linspace(0, 2 * np.pi, 20_000)
    circle = np.array(CENTRE) + RADIUS * np.stack(
        [np.cos(ring), np.sin(ring), np.zeros_like(ring)], axis=1
    )
    nearest = np.linalg.norm(places[:, None] - circle, axis=2).min(axis=1)
    assert np.allclose(off_circle(places), nearest, atol=1e-4)


def test_the_data_set_is_one_round_each_and_keeps_lengths():
    data = arm()
    assert data.train.shape == (TRAIN, JOINTS)
    assert data.test.shape == (TEST, JOINTS)
    raw = data.standardisation.undo(data.train.astype(np.float64))
    assert off_circle(forward_kinematics(raw)[0]).max() < 1e-6
    assert len(set(data.standardisation.scale.tolist())) == 1
    assert abs(float(data.train.mean())) < 1e-5
    assert np.isin(data.labels["test"], data.labels["train"]).mean() < 0.1
    with pytest.raises(UsageError, match="1 and 150 time steps"):
        arm(1)

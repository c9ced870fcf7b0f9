"""The pendulum with a motor: its equation, and one picture for data set and environment."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trackvae.errors import InputError, UsageError
from training.data.actuated import (
    DAMPING,
    GRAVITY,
    TORQUE,
    ActuatedPendulum,
    actuated_pendulum,
)
from training.data.sequences import Sequences, SequenceSet
from training.data.systems import Environment, record


def starts(count, seed=0):
    return ActuatedPendulum().start(count, np.random.default_rng(seed))


def exact(state, control, seconds):
    """An adaptive solver of eighth order, given the equation once more."""

    def change(_, s):
        return [s[1], -DAMPING * s[1] + GRAVITY * np.sin(s[0]) + TORQUE * control]

    return solve_ivp(change, (0, seconds), state, method="DOP853", rtol=1e-10, atol=1e-10).y[:, -1]


def test_one_step_solves_the_equation_of_motion():
    states, controls = starts(20), np.linspace(-1, 1, 20)
    ours = ActuatedPendulum().advance(states, controls[:, None])
    theirs = np.array([exact(s, u, 0.1) for s, u in zip(states, controls, strict=True)])
    np.testing.assert_allclose(ours, theirs, atol=0.03)


def test_the_error_of_a_step_falls_with_the_size_of_its_substeps():
    states = starts(20)
    theirs = np.array([exact(s, 0.0, 0.1) for s in states])
    no_control = np.zeros((20, 1))
    errors = [
        np.abs(ActuatedPendulum(substeps=n).advance(states, no_control) - theirs).max()
        for n in (10, 20, 40)
    ]
    # of first order: half the substep, half the error
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_without_control_energy_falls_until_the_bob_hangs_still():
    pendulum = ActuatedPendulum()
    states, energies = starts(50), []
    for _ in range(200):
        energies.append(pendulum.energy(states))
        states = pendulum.advance(states, np.zeros((50, 1)))
    # the substeps' own energy error is of the order of dt * omega * gravity = 0.01 * 6 * 9.81
    assert np.diff(energies, axis=0).max() < 0.6
    np.testing.assert_allclose(energies[-1], -GRAVITY, atol=0.05)
    np.testing.assert_allclose(np.cos(states[:, 0]), -1, atol=5e-3)


def test_environment_shows_what_the_data_set_holds():
    recorded = record(ActuatedPendulum(), 4, 6, seed=3)
    world = Environment(ActuatedPendulum(), 4)
    seen = [world.reset(recorded.states[:, 0])]
    seen += [world.step(recorded.controls[:, t]) for t in range(5)]
    np.testing.assert_array_equal(np.stack(seen, axis=1), recorded.observations)
    np.testing.assert_array_equal(world.states, recorded.states[:, -1])


def test_copies_of_an_environment_do_not_touch_each_other():
    three, one = Environment(ActuatedPendulum(), 3, seed=1), Environment(ActuatedPendulum(), 1)
    start = three.states
    three.step([[1.0], [0.0], [-1.0]])
    one.reset(start[1:2])
    one.step([[0.0]])
    np.testing.assert_array_equal(three.states[1:2], one.states)


def test_the_last_control_moves_nothing():
    recorded = record(ActuatedPendulum(), 5, 4, seed=0)
    again = ActuatedPendulum().advance(recorded.states[:, 2], recorded.controls[:, 2].astype(float))
    np.testing.assert_array_equal(again, recorded.states[:, 3])


def test_seeds():
    one, same, other = (actuated_pendulum(8, test=4, validation=3, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.train.observations, same.train.observations)
    np.testing.assert_array_equal(one.test.states, same.test.states)
    starts = [
        part.states[0, 0, 0] for s in (one, other) for part in (s.train, s.validation, s.test)
    ]
    assert len(set(starts)) == 6  # no part and no seed begins as another


def test_the_thesis_data_set():
    data = actuated_pendulum()
    assert data.train.observations.shape == (500, 15, 16, 16)
    assert data.train.controls.shape == (500, 15, 1)
    assert np.abs(data.train.controls).max() <= 1
    assert data.interval == 0.1
    assert data.control_scale == 15.0
    # the whole circle is seen, at both signs of velocity
    angles = np.mod(data.train.states[..., 0].ravel(), 2 * np.pi)
    assert np.histogram(angles, 12, (0, 2 * np.pi))[0].min() > 200
    assert np.abs(data.train.states[..., 1].mean()) < 1.0


@pytest.mark.parametrize("controls", [[[0.0]], [[0.0], [np.nan]], [0.0, 0.0]])
def test_controls_of_the_wrong_kind_are_refused(controls):
    with pytest.raises(UsageError, match=r"expected finite numbers \(2, 1\)"):
        Environment(ActuatedPendulum(), 2).step(controls)


def sequences(**changes):
    made = {
        "observations": np.zeros((3, 4, 2), np.float32),
        "controls": np.zeros((3, 4, 1), np.float32),
        "states": np.zeros((3, 4, 0)),
    }
    return Sequences(**{**made, **changes})


def test_padding_is_masked_and_may_hold_anything():
    observations = np.ones((3, 4, 2), np.float32)
    observations[1, 2:] = np.nan
    found = sequences(observations=observations, lengths=np.array([4, 2, 1]))
    assert found.mask().sum(axis=1).tolist() == [4, 2, 1]
    assert found.values().sum(axis=(1, 2)).tolist() == [8, 4, 2]
    assert found.take(slice(1, 3)).mask().sum() == 3


def test_nan_is_refused_with_its_place():
    observations = np.zeros((3, 4, 2), np.float32)
    observations[1, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"sequence 1 hold NaN or infinity at step 2 \(1 of 3"):
        sequences(observations=observations)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controls": np.zeros((3, 3, 1), np.float32)}, r"controls are \(3, 3, 1\)"),
        ({"lengths": np.array([4, 5, 1])}, "sequence 1 is 5 steps long, expected 1 to 4"),
        ({"lengths": np.array([4, 0, 1])}, "sequence 1 is 0 steps long"),
        ({"lengths": np.array([4, 4])}, "lengths for 3 sequences"),
        ({"observations": np.zeros((3, 4), np.float32)}, "expected uint8 or float32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        sequences(**changes)


def test_parts_must_be_alike():
    other = sequences(observations=np.zeros((3, 4, 5), np.float32))
    with pytest.raises(InputError, match="test has observations"):
        SequenceSet("made", sequences(), sequences(), other)

"""The reacher: its equation of motion, its picture, and MuJoCo beside our own."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trackvae.errors import InputError, UsageError
from training.data.reacher import (
    SIDE,
    TORQUE,
    MujocoReacher,
    TwoLink,
    draw_arm,
    finger_position,
    reacher,
    reacher_system,
)
from training.data.systems import Environment

LIMIT = np.radians(160)


def within(count, seed=0):
    """States whose wrist stays off its stop for a few steps."""
    states = TwoLink().start(count, np.random.default_rng(seed))
    states[:, 1] *= 0.6
    return states


def test_kinetic_energy_is_that_of_the_arms_small_parts():
    # both capsules and the finger's ball cut into little cubes, each with the speed of its place
    states = within(6)
    rates = []
    for state in states:
        total = 0.0
        for centre_line, first in (
            ((0.0, 0.12), True),
            ((0.0, 0.10), False),
            ((0.12, 0.12), False),
        ):
            total += cut_up(state, centre_line, first)
        rates.append(total)
    np.testing.assert_allclose(TwoLink().energy(states), rates, rtol=0.02)


def cut_up(state, centre_line, first_link, side=0.0008):
    ticks = np.arange(-0.0104, 0.0104 + centre_line[1], side) + side / 2
    across = np.arange(-0.0104, 0.0104, side) + side / 2
    x, y, z = np.meshgrid(ticks, across, across, indexing="ij")
    gap = x - np.clip(x, *centre_line)
    inside = gap**2 + y**2 + z**2 <= 0.01**2
    x, y = x[inside], y[inside]
    phi, psi, dphi, dpsi = state
    turn, spin = (phi, dphi) if first_link else (phi + psi, dphi + dpsi)
    vx = -spin * (x * np.sin(turn) + y * np.cos(turn))
    vy = spin * (x * np.cos(turn) - y * np.sin(turn))
    if not first_link:
        vx, vy = vx - 0.12 * dphi * np.sin(phi), vy + 0.12 * dphi * np.cos(phi)
    return 0.5 * 1000 * side**3 * (vx**2 + vy**2).sum()


def lagrange(state, control, seconds):
    """Euler and Lagrange's equations from the energy alone, by an adaptive solver."""
    arm, eye, small = TwoLink(), np.eye(2), 1e-5

    def energy(psi, v):
        return arm.energy(np.array([0.0, psi, *v]))

    def mass(psi):  # T = v M v / 2
        own = [2 * energy(psi, e) for e in eye]
        cross = energy(psi, [1.0, 1.0]) - 0.5 * (own[0] + own[1])
        return np.array([[own[0], cross], [cross, own[1]]])

    def change(_, s):
        v, slope = s[2:], (mass(s[1] + small) - mass(s[1] - small)) / (2 * small)
        force = TORQUE * control - 0.01 * v - s[3] * slope @ v
        force[1] += 0.5 * v @ slope @ v
        return [*v, *np.linalg.solve(mass(s[1]), force)]

    return solve_ivp(change, (0, seconds), state, rtol=1e-8, atol=1e-8).y[:, -1]


def test_steps_approach_the_equations_of_motion_with_their_size():
    states, controls = within(5), np.random.default_rng(1).uniform(-1, 1, (5, 2))
    exact = np.array([lagrange(s, u, 0.02) for s, u in zip(states, controls, strict=True)])
    errors = []
    for n in (10, 20, 40):
        found = TwoLink(substeps=n, substep=0.02 / n).advance(states, controls)
        errors.append(np.abs(found - exact).max())
    assert errors[0] < 0.25  # rad/s, of some 4
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)  # of first order
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)


def test_an_arm_without_torque_comes_to_rest():
    arm, states = TwoLink(), within(50)
    energies = [arm.energy(states)]
    for _ in range(100):
        states = arm.advance(states, np.zeros((50, 2)))
        energies.append(arm.energy(states))
    assert np.diff(energies, axis=0).max() <= 1e-9
    assert energies[-1].max() < 1e-3 * energies[0].mean()


def test_the_wrist_stops_at_its_limit_and_comes_back():
    arm = TwoLink()
    states = np.array([[0.0, LIMIT - 0.01, 0.0, 5.0]])
    for _ in range(5):
        states = arm.advance(states, np.array([[0.0, 1.0]]))
        assert abs(states[0, 1]) <= LIMIT
    assert states[0, 1] == pytest.approx(LIMIT)
    assert arm.advance(states, np.array([[0.0, -1.0]]))[0, 1] < LIMIT - 0.01


def test_the_finger_is_where_it_is_drawn():
    states = within(30)
    images = draw_arm(states).astype(int)
    redness = images[:, 2] - images[:, 1] > 120  # of the finger's colour alone
    pixel = 2 * 0.75 * np.tan(np.pi / 8) / SIDE
    for state, red in zip(states, redness, strict=True):
        rows, columns = np.nonzero(red)
        right, up = columns.mean() + 0.5 - SIDE / 2, SIDE / 2 - 0.5 - rows.mean()
        middle = pixel * np.array([right, up])
        assert np.linalg.norm(middle - finger_position(state)) < pixel


def test_a_turn_of_the_shoulder_is_a_turn_of_the_picture():
    states = within(5)
    quarter = states.copy()
    quarter[:, 0] += np.pi / 2
    turned = np.rot90(draw_arm(states), axes=(2, 3))
    assert np.abs(turned.astype(int) - draw_arm(quarter)).max() <= 2


def test_chunks_do_not_show():
    states = within(700)
    np.testing.assert_array_equal(draw_arm(states)[600:], draw_arm(states[600:]))


def test_environment_shows_what_the_data_set_holds():
    made = reacher(2, test=2, validation=0, steps=4, sight="images", simulation="own")
    world = Environment(TwoLink("images"), 2)
    world.reset(made.train.states[:, 0])
    for t in range(3):
        seen = world.step(made.train.controls[:, t])
    np.testing.assert_array_equal(seen, made.train.observations[:, 3])
    assert made.train.observations.shape == (2, 4, 3, 64, 64)
    assert "own simulation" in made.name


def test_unknown_words_are_refused():
    with pytest.raises(UsageError, match="sight is 'smell'"):
        reacher_system("smell")
    with pytest.raises(UsageError, match="simulation is 'bullet'"):
        reacher_system("angles", "bullet")


def test_our_own_stands_in_where_mujoco_does_not_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control.suite", None)  # as if it were not installed
    assert isinstance(reacher_system("angles"), TwoLink)
    with pytest.raises(InputError, match=r"does not run here .* pip install trackvae\[experiments"):
        reacher_system("angles", "mujoco")


def test_mujoco_moves_the_arm_as_our_own_does():
    pytest.importorskip("dm_control")
    states, controls = within(20), np.random.default_rng(2).uniform(-1, 1, (20, 2))
    ours, theirs = TwoLink(), MujocoReacher()
    for _ in range(3):
        expected = theirs.advance(states, controls)
        np.testing.assert_allclose(ours.advance(states, controls), expected, rtol=1e-5, atol=1e-6)
        states = expected


def drawn_by_mujoco():
    """MuJoCo's camera, where it has an OpenGL to draw with."""
    pytest.importorskip("dm_control")
    try:
        return MujocoReacher("images")
    except InputError as error:
        pytest.skip(str(error))


def test_mujoco_draws_the_arm_where_we_do():
    states = within(4)
    ours, theirs = draw_arm(states), drawn_by_mujoco().observe(states)
    red = (ours[:, 2] > 120), (theirs[:, 2].astype(int) - theirs[:, 0] > 30)
    overlap = (red[0] & red[1]).sum() / (red[0] | red[1]).sum()
    assert overlap > 0.5


def test_a_program_that_draws_by_mujoco_can_still_load_triton():
    drawn_by_mujoco()
    pytest.importorskip("triton")
    program = (
        "from training.data.reacher import reacher_system; "
        "system = reacher_system('images', 'mujoco'); "
        "import triton._C.libtriton, os; "
        "print('both', flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert done.stdout == b"both\n", done.stderr[-500:]

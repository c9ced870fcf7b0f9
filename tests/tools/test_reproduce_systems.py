"""Policies, the reacher and memories: what is judged, by hand."""

import importlib

import numpy as np
import pytest
import torch

from tools.reproduce.memories import shown
from tools.reproduce.policies import _figure_rows, disentangled, judged, rotating
from tools.reproduce.reacher import CONTRAST, SIDE, joints, smaller, viewed
from training.data.actuated import ActuatedPendulum, actuated_pendulum
from training.data.reacher import TwoLink, reacher
from training.data.systems import recorded_set
from training.dssm.ekvae import EKVAE, EKVAEConfig
from training.dssm.model import States
from training.dssm.rssm import RSSM, RSSMConfig


class Knows:
    """A model whose smoothed states are given functions of what it observes."""

    def __init__(self, function, static=(0, 1)):
        self.function, self.config = function, EKVAEConfig(static=static)
        self.latent = 3

    def smooth(self, x):
        z = self.function(x)
        return States(z, torch.zeros(*z.shape, z.shape[-1]))


def held(angles):
    """States (1, T, 2) at these angles in degrees."""
    angle = np.radians(np.asarray(angles, dtype=float))
    return np.stack([angle, np.zeros_like(angle)], axis=-1)[None]


def test_a_swing_up_counts_when_it_is_held_to_the_end():
    reached = [180] * 10 + [5] * 25  # upright from step 10 on: after 1 s
    assert judged(held(reached), None, 0.1) == {"successes": 1, "figure": pytest.approx(1.0)}
    wound = [180] * 10 + [365] * 25  # a turn further is upright, too
    assert judged(held(wound), None, 0.1)["successes"] == 1
    late = [180] * 20 + [0] * 15
    assert judged(held(late), None, 0.1) == {"successes": 0, "figure": None}
    lost = [0] * 34 + [40]
    assert judged(held(lost), None, 0.1)["successes"] == 0
    assert judged(held([3] * 30), None, 0.1) == {"successes": 1, "figure": 0.0}


def test_a_swing_up_that_half_the_starts_miss_has_no_median_time():
    good, late = [180] * 10 + [5] * 25, [180] * 20 + [0] * 15
    half = np.concatenate([held(good), held(late)])
    assert judged(half, None, 0.1) == {"successes": 1, "figure": None}
    most = np.concatenate([held(good), half])
    assert judged(most, None, 0.1) == {"successes": 2, "figure": pytest.approx(1.0)}
    assert _figure_rows("swing-up", [None, None]) == []
    (line,) = _figure_rows("swing-up", [1.5, None])
    assert line["ours"]["values"] == [1.5]
    assert line["note"].startswith("of 1 of 2 seeds")


def test_a_rotation_counts_by_the_mean_speed_of_its_last_two_seconds():
    velocity = np.full((3, 30), 5.0)
    velocity[1] = 5.4  # 8% too fast
    velocity[2, -10:] = 8.0  # 30% too fast on average
    states = np.stack([np.zeros_like(velocity), velocity], axis=-1)
    found = judged(states, 5.0, 0.1)
    assert found["successes"] == 2
    assert found["figure"] == pytest.approx(8.0)
    assert judged(-states, 5.0, 0.1)["successes"] == 0  # the wrong way round


def test_a_shown_rotation_obeys_the_pendulum():
    speed = 4.0
    batch = rotating(speed, 0.1, 10)
    pendulum = ActuatedPendulum()
    first = np.linspace(0, 2 * np.pi, len(batch), endpoint=False)
    states = np.stack([first, np.full_like(first, speed)], axis=1)
    moved = pendulum.advance(states, batch.controls[:, 0].double().numpy())
    np.testing.assert_allclose(moved[:, 1], speed, atol=0.05)
    images = pendulum.observe(moved)
    np.testing.assert_allclose(batch.observations[:, 1].numpy(), images, atol=0.05)


def test_disentanglement_looks_at_the_dimensions_that_are_meant():
    data = actuated_pendulum(60, test=40, validation=0, steps=6)
    known = {len(part): part.states for part in (data.train, data.test)}

    def told(x):
        angle, velocity = np.moveaxis(known[len(x)], -1, 0)
        z = np.stack([np.sin(angle), velocity, np.cos(angle)], axis=-1)
        return torch.from_numpy(z)

    right = disentangled(Knows(told, static=(0, 2)), data)
    assert right["angle"] == pytest.approx(1.0)
    assert right["velocity"] == pytest.approx(1.0)
    assert abs(right["leak"]) < 0.2
    wrong = disentangled(Knows(told, static=(0, 1)), data)
    assert wrong["angle"] < 0.8
    assert wrong["leak"] == pytest.approx(1.0)
    assert wrong["velocity"] < 0.2


@pytest.mark.parametrize(("circle", "expected"), [(False, 1.0), (True, 0.0)])
def test_joints_of_a_model_that_knows_them(circle, expected):
    data = reacher(80, test=60, validation=0, steps=5, simulation="own")
    known = {len(part): part.states for part in (data.train, data.test)}
    model = Knows(lambda x: torch.from_numpy(known[len(x)]))
    found = joints(model, data, circle=circle)
    assert found["ang. psi"] == found["vel. phi"] == pytest.approx(1.0)
    assert found["vel. psi"] == pytest.approx(1.0)
    # an angle that is not wrapped says little of its sine and cosine, linearly
    assert found["ang. phi"] == pytest.approx(expected, abs=0.4)


def test_a_velocity_in_another_unit_at_each_angle_is_found_by_the_scaled_regression():
    data = reacher(80, test=60, validation=0, steps=5, simulation="own")
    known = {}
    for part in (data.train, data.test):
        z = part.states.copy()
        z[..., 2:] /= 1 + z[..., 1:2] ** 2
        known[len(part)] = z
    found = joints(Knows(lambda x: torch.from_numpy(known[len(x)])), data, circle=False)
    for velocity in ("vel. phi", "vel. psi"):
        assert found[velocity] < 0.9
        assert found[f"{velocity}, scaled"] == pytest.approx(1.0)


def test_smaller_images_keep_their_mean():
    data = reacher(2, test=0, validation=0, steps=2, sight="images", simulation="own")
    found = smaller(data.train.observations)
    assert found.shape == (2, 2, 3, SIDE, SIDE)
    before = data.train.observations.astype(float).mean((3, 4))
    np.testing.assert_allclose(found.astype(float).mean((3, 4)), before, atol=1.0)


def test_a_reacher_is_viewed_as_its_models_images_were_made_and_moves_as_it_did(monkeypatch):
    own = TwoLink("images")
    module = importlib.import_module("training.data.reacher")  # its package has one so called
    monkeypatch.setattr(module, "reacher_system", lambda _: own)
    mean = np.random.default_rng(0).uniform(0, 1, (3, SIDE, SIDE)).astype(np.float32)
    world, states = viewed(mean), np.array([[0.3, 1.0, 0.5, -0.5], [2.0, -1.0, 0.0, 0.0]])
    expected = CONTRAST * (smaller(own.observe(states)) / 255 - mean)
    np.testing.assert_allclose(world.observe(states), expected, atol=1e-4)
    controls = np.array([[1.0, -0.5], [0.0, 0.2]])
    np.testing.assert_array_equal(world.advance(states, controls), own.advance(states, controls))
    assert (world.name, world.interval, world.controls) == (own.name, own.interval, 2)
    assert (world.control_scale, world.state_names) == (own.control_scale, own.state_names)


@pytest.mark.parametrize(("kind", "config"), [(EKVAE, EKVAEConfig), (RSSM, RSSMConfig)])
def test_both_predictions_are_of_fifteen_steps(kind, config):
    torch.manual_seed(0)
    data = recorded_set(ActuatedPendulum(), train=2, test=3, steps=19, seed=0)
    (found,) = shown(kind(config()).eval(), data, 1)
    assert found["observed"].shape == (19, 16, 16)
    assert found["smoothed"].shape == found["filtered"].shape == (15, 16, 16)

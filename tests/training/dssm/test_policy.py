"""Policies: returns by hand, gradients by differences, a system simple enough to know."""

import numpy as np
import pytest
import torch

from trackvae.errors import InputError, UsageError
from training.data.actuated import ActuatedPendulum
from training.data.systems import Environment
from training.dssm.batch import SequenceBatch
from training.dssm.ekvae import EKVAE, EKVAEConfig
from training.dssm.policy import (
    Policy,
    PolicyConfig,
    act,
    dynamic_dimensions,
    encoded_position,
    encoded_velocity,
    follow,
    learn_policy,
    position_reward,
    velocity_reward,
)

F, B = [[1.0, 0.1], [0.0, 0.9]], [[0.0], [0.5]]


def rolling(**changes):
    """A model whose state is (position, velocity) of a damped cart, pushed by the control."""
    torch.manual_seed(0)
    config = {"event": (4,), "latent": 2, "static": (0,), "hidden": (8,), "components": 1}
    model = EKVAE(EKVAEConfig(**{**config, **changes})).double()
    with torch.no_grad():
        model.transition.F.copy_(torch.tensor([F]))
        model.transition.B.copy_(torch.tensor([B]))
        model.transition.log_Q.fill_(-20.0)
    return model


def constant(model, value):
    """A policy that always does the same."""
    policy = Policy(torch.randn(9, 2).double(), 1, 2.0, (3,)).double()
    with torch.no_grad():
        policy.network[-1].weight.zero_()
        policy.network[-1].bias.fill_(float(np.arctanh(value / 2.0)))
    return policy


def test_return_by_hand():
    model = rolling()
    policy = constant(model, 1.0)
    start = torch.tensor([[1.0, 2.0]]).double()
    reward = position_reward(model, torch.tensor([3.0]).double())
    # (1, 2) -> (1.2, 2.3) -> (1.43, 2.57): the goal is at 3
    found = follow(model, policy, start, reward, 3)
    assert found.rewards.item() == pytest.approx(-((1.2 - 3) ** 2 + (1.43 - 3) ** 2) / 2)
    assert found.pressure.item() == pytest.approx(np.arctanh(0.5) ** 2)
    torch.testing.assert_close(found.ends, torch.tensor([[1.43, 2.57]]).double())
    reward = velocity_reward(model, torch.tensor([2.0]).double())
    found = follow(model, policy, start, reward, 3)
    assert found.rewards.item() == pytest.approx(-(0.3**2 + 0.57**2) / 2)


def test_the_gradient_of_the_return_is_that_of_finite_differences():
    torch.manual_seed(1)
    model = EKVAE(EKVAEConfig(event=(4,), hidden=(8,), components=3)).double()
    starts = torch.randn(4, 3).double()
    policy = Policy(starts, 1, 1.0, (4,)).double()
    reward = position_reward(model, torch.zeros(2).double())

    def value():
        g = torch.Generator().manual_seed(3)
        return follow(model, policy, starts, reward, 5, g).rewards.mean()

    (gradient,) = torch.autograd.grad(value(), [policy.network[0].weight])
    for place in [(0, 0), (2, 1), (3, 2)]:
        with torch.no_grad():
            weight = policy.network[0].weight
            weight[place] += 1e-6
            above = value()
            weight[place] -= 2e-6
            slope = (above - value()) / 2e-6
            weight[place] += 1e-6
        assert gradient[place].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-8)


def test_the_cut_shortens_a_gradient_and_keeps_its_direction():
    # one path of one step: (1, 2) -> (., 2.3), so that d reward / d velocity is -2 (2.3 - 9) = 13.4
    model, start = rolling(), torch.tensor([[1.0, 2.0]]).double()
    reward = velocity_reward(model, torch.tensor([9.0]).double())
    policy = constant(model, 1.0)
    (whole,) = gradients(policy, follow(model, policy, start, reward, 2).rewards)
    (short,) = gradients(policy, follow(model, policy, start, reward, 2, None, 0.5).rewards)
    torch.testing.assert_close(short, whole * 0.5 / (13.4 * policy.scale[1]))
    (kept,) = gradients(policy, follow(model, policy, start, reward, 2, None, 1e3).rewards)
    torch.testing.assert_close(kept, whole)


def gradients(policy, rewards):
    return torch.autograd.grad(rewards.mean(), [policy.network[-1].weight])


def test_a_policy_learned_in_the_model_brings_the_cart_to_its_goal():
    model = rolling()
    before = [p.clone() for p in model.parameters()]
    starts = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double()
    goal = torch.tensor([0.7]).double()
    config = PolicyConfig(limit=1.0, horizon=20, steps=60, batch=16, saturation=0.0)
    learned = learn_policy(model, starts, position_reward(model, goal), config)
    z = starts[:50]
    for _ in range(60):
        u = learned.policy(z)
        assert u.abs().max() <= 1.0
        z = z @ torch.tensor(F).double().T + u @ torch.tensor(B).double().T
    assert (z[:, 0] - 0.7).abs().max() < 0.1
    assert z[:, 1].abs().max() < 0.1
    assert learned.returns[-1] > learned.returns[0]
    assert learned.skipped == 0
    # the model was only used
    for parameter, was in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, was, rtol=0, atol=0)
        assert parameter.requires_grad
        assert parameter.grad is None


def test_gradients_that_are_not_finite_are_left_out():
    calls = []

    def reward(z):  # of the starts, then of two states a step; the first step's are no numbers
        calls.append(z)
        return z.sum(-1) * (torch.nan if len(calls) in (2, 3) else -1.0)

    config = PolicyConfig(horizon=3, steps=3, batch=2)
    learned = learn_policy(rolling(), torch.ones(3, 2).double(), reward, config)
    assert learned.skipped == 1
    assert all(p.isfinite().all() for p in learned.policy.parameters())


def test_a_policy_that_learned_nothing_is_told():
    def reward(z):
        return z.sum(-1) * (torch.nan if z.requires_grad else 1.0)

    with pytest.raises(InputError, match="none of 2 steps had a finite gradient"):
        learn_policy(
            rolling(), torch.ones(3, 2).double(), reward, PolicyConfig(horizon=3, steps=2, batch=2)
        )


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_a_reward_may_be_positive(offset):
    """It was divided by minus its mean where paths begin, and so learned the other way round."""
    model, config = rolling(), PolicyConfig(horizon=8, steps=40, batch=16, saturation=0.0)
    starts = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double()

    def reward(z):
        return offset - z[..., 0].square()

    learned = learn_policy(model, starts, reward, config).policy
    with torch.no_grad():
        worth = [
            follow(model, policy, starts, reward, 8).rewards.mean()
            for policy in (learned, constant(model, 0.0))
        ]
    assert worth[0] > worth[1] + 0.1


@pytest.mark.parametrize(
    ("starts", "reward", "message"),
    [
        (torch.ones(1, 2), lambda z: z.sum(-1), r"\(1, 2\), expected finite states"),
        (torch.ones(0, 2), lambda z: z.sum(-1), r"\(0, 2\), expected finite states"),
        (torch.full((3, 2), torch.nan), lambda z: z.sum(-1), "expected finite states"),
        (torch.ones(3, 2), lambda z: 0.0 * z.sum(-1), "rewards is 0.0, expected more than 0"),
        (torch.ones(3, 2), lambda z: torch.nan * z.sum(-1), "rewards is nan"),
    ],
)
def test_starts_that_teach_nothing_are_refused(starts, reward, message):
    with pytest.raises(UsageError, match=message):
        learn_policy(rolling(), starts.double(), reward)


def test_learning_a_policy_leaves_the_caller_s_random_numbers_alone():
    model, starts = rolling(), torch.randn(5, 2).double()
    state = torch.get_rng_state()
    learn_policy(model, starts, lambda z: -z[..., 0].square(), PolicyConfig(steps=1, batch=2))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_goal_velocity_does_not_look_at_padding():
    model = rolling()
    x, u = torch.randn(2, 4, 4).double(), torch.randn(2, 3, 1).double()
    padded = SequenceBatch(
        torch.cat([x, torch.full((2, 3, 4), 5.0).double()], 1),
        torch.cat([u, torch.zeros(2, 3, 1).double()], 1),
        torch.arange(7).expand(2, -1) < 4,
    )
    torch.testing.assert_close(
        encoded_velocity(model, padded), encoded_velocity(model, SequenceBatch(x, u))
    )


@pytest.mark.parametrize(("static", "dynamic"), [((0, 1), [2]), ((1, 2), [0]), ((2, 0), [1])])
def test_static_and_dynamic_dimensions_in_any_order(static, dynamic):
    torch.manual_seed(0)
    model = EKVAE(EKVAEConfig(event=(4,), hidden=(8,), static=static))
    assert dynamic_dimensions(model) == dynamic
    x = SequenceBatch(torch.randn(2, 5, 4), torch.zeros(2, 4, 1))
    goal = encoded_position(model, x.observations[0, 0])
    z = torch.zeros(3)
    z[list(static)] = goal
    z[dynamic] = 9.0  # where the goal does not look
    assert position_reward(model, goal)(z).item() == pytest.approx(0.0, abs=1e-6)
    velocity = encoded_velocity(model, x)
    assert velocity.item() == pytest.approx(model.smooth(x).mean[..., dynamic].mean().item())
    assert velocity_reward(model, velocity)(z).item() == pytest.approx(
        -((9.0 - velocity.item()) ** 2)
    )


def test_a_model_without_velocity_is_refused():
    model = EKVAE(EKVAEConfig(event=(4,), hidden=(8,), latent=2, static=(0, 1)))
    with pytest.raises(UsageError, match="it has no velocity"):
        dynamic_dimensions(model)


def test_acting_sees_observations_alone_and_as_they_came():
    torch.manual_seed(0)
    model = EKVAE(EKVAEConfig(hidden=(16,)))
    policy = Policy(torch.randn(20, 3), 1, 0.5)
    starts = np.array([[0.3, 1.0], [2.0, -1.0]])
    episode = act(model, policy, Environment(ActuatedPendulum(), 2), 6, starts=starts, window=4)
    assert episode.observations.shape == (2, 7, 16, 16)
    assert np.abs(episode.controls).max() <= 0.5
    # the system felt what the policy did ...
    state = starts
    for t in range(6):
        state = ActuatedPendulum().advance(state, episode.controls[:, t].astype(float))
        np.testing.assert_allclose(state, episode.states[:, t + 1])
    # ... and the policy acted on the filtered state of the window
    for t, first in ((2, 0), (5, 2)):
        x = SequenceBatch(
            torch.from_numpy(episode.observations[:, first : t + 1]),
            torch.from_numpy(episode.controls[:, first:t]),
        )
        z = model.filter(x).mean[:, -1].detach()
        np.testing.assert_allclose(episode.believed[:, t], z.numpy(), atol=1e-6)
        u = policy(z).detach().numpy()
        np.testing.assert_allclose(episode.controls[:, t], u, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"horizon": 1}, "expected a horizon"),
        ({"steps": 0}, "at least one step"),
        ({"carried": 1.0}, "expected a share"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        PolicyConfig(**wrong)
    with pytest.raises(UsageError, match="positive limit"):
        Policy(torch.randn(3, 2), 1, 0.0)

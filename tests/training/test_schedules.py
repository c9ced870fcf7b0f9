"""Schedules: hand-computed values of their equations, and the properties of section 3.2 and 3.3."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trackvae.errors import UsageError
from training.schedules import (
    GECO,
    REWO,
    AlternativeREWO,
    FixedBeta,
    MovingConstraint,
    SequenceREWO,
    WarmUp,
    geco_beta,
    heaviside_gate,
    rewo_beta,
)

betas = st.floats(1e-6, 1.0)
errors = st.floats(-5.0, 5.0)
rates = st.floats(1e-3, 5.0)


def test_eq_3_11_by_hand():
    # violated by 0.2: beta * exp(-nu * 0.2)
    assert rewo_beta(0.5, 0.2, nu=1.0, tau=3.0) == pytest.approx(0.5 * 0.8187307530779818)
    # met by 0.1: tanh(3 * -0.5) = -0.9051482536448664; exp(-0.905.. * -0.1)
    assert rewo_beta(0.5, -0.1, nu=1.0, tau=3.0) == pytest.approx(0.5 * 1.0947377)
    assert heaviside_gate(1.0, -0.1, 3.0) == 0.0  # the ELBO is a fixed point


def test_eq_3_4_and_3_13_by_hand():
    assert geco_beta(0.5, 0.2, nu=2.0) == pytest.approx(0.5 * math.exp(-0.4))
    schedule = AlternativeREWO(1.0, nu=2.0, tau=4.0, beta=0.2, alpha=0.0)
    # gamma = (1/0.2 - 1)/4 = 1; error = 0.5 - 1 = -0.5: gamma' = exp(-1); beta = 1/(1 + 4/e)
    assert schedule.step(0.5).beta == pytest.approx(1 / (1 + 4 / math.e))


def test_algorithm_3_by_hand():
    schedule = SequenceREWO(0.03, nu=300.0, tau_1=10.0, tau_2=0.01, alpha=0.0)  # kappa^2 = 9e-4
    # violated by 0.0391: exp(-300 * 0.01 * 0.0391) = exp(-0.1173); beta moves, the prior does not
    first = schedule.step(0.04)
    assert (first.beta, first.train_prior) == (pytest.approx(0.889318), False)
    # met by 4e-4: tanh(10 * -0.110682) = -0.802948; exp(300 * 0.802948 * 4e-4) = exp(0.0963537)
    second = schedule.step(5e-4)
    assert (second.beta, second.train_prior) == (pytest.approx(0.979269, abs=1e-5), True)
    # and violated again, by 1e-4: exp(-3e-4); the main phase stays
    third = schedule.step(1e-3)
    assert (third.beta, third.train_prior) == (pytest.approx(0.978975, abs=1e-5), True)


def test_algorithm_3_averages_with_alpha():
    schedule = SequenceREWO(0.1, nu=1.0, tau_1=1.0, tau_2=0.5, alpha=0.9)
    schedule.step(1.0)
    # 0.1 * 0.5 + 0.9 * 1.0 = 0.95: violated by 0.94 after 0.99
    assert schedule.step(0.5).beta == pytest.approx(math.exp(-0.5 * (0.99 + 0.94)))


@given(betas, errors, rates, st.floats(0.1, 10))
def test_beta_stays_in_the_half_open_unit_interval(beta, error, nu, tau):
    assert 0 < rewo_beta(beta, error, nu, tau) <= 1


def test_an_error_far_from_the_constraint_leaves_a_beta_that_can_rise_again():
    """Data in tens, not ones: beta was 0 from the first step on, for good."""
    schedule = SequenceREWO(3.0)
    assert 0 < schedule.step(9000.0).beta < 1e-9
    for _ in range(200):
        phase = schedule.step(1.0)
    assert phase.beta > 0.9


@given(betas, st.floats(1e-6, 5.0), rates)
def test_while_the_constraint_is_violated_rewo_is_geco(beta, error, nu):
    assert rewo_beta(beta, error, nu, tau=3.0) == pytest.approx(geco_beta(beta, error, nu))


@given(betas, errors, rates)
def test_beta_moves_towards_one_only_while_the_constraint_holds(beta, error, nu):
    after = rewo_beta(beta, error, nu, tau=3.0)
    assert after <= beta if error > 0 else after >= beta


@given(st.floats(0.05, 1.0), st.floats(0.05, 1.0), rates)
def test_a_constraint_that_holds_for_long_ends_at_the_elbo(beta, slack, nu):
    assume(nu * slack > 0.01)
    for _ in range(20_000):
        beta = rewo_beta(beta, -slack, nu, tau=3.0)
    assert beta == pytest.approx(1.0, abs=1e-2)


@given(betas, errors, rates)
def test_the_alternative_stays_below_one_and_moves_the_same_way(beta, error, nu):
    schedule = AlternativeREWO(10.0, nu=nu, tau=2.0, beta=beta, alpha=0.0)
    schedule.initial_phase = False
    after = schedule.step(100.0 + error).beta
    assert 0 < after <= 1
    assert after <= beta * (1 + 1e-9) if error >= 0 else after >= beta * (1 - 1e-9)


def test_rewo_waits_for_the_constraint_and_never_goes_back():
    schedule = REWO(1.0, nu=1.0, beta=0.01, alpha=0.0)
    for error in (5.0, 3.0, 1.5):
        phase = schedule.step(error)
        assert (phase.beta, phase.train_prior) == (0.01, False)
    phase = schedule.step(0.9)
    assert phase.train_prior
    assert phase.beta > 0.01
    assert schedule.step(4.0).train_prior  # violated again, but the initial phase is over


def test_the_moving_average_starts_at_the_first_batch():
    constraint = MovingConstraint(kappa=2.0, alpha=0.75, relative=False)
    assert constraint.update(8.0) == pytest.approx(8.0 - 4.0)
    assert constraint.update(4.0) == pytest.approx(0.25 * 4 + 0.75 * 8 - 4.0)


def test_the_relative_error_does_not_depend_on_the_unit():
    for scale in (1e-4, 1.0, 300.0):
        constraint = MovingConstraint(kappa=math.sqrt(scale), alpha=0.0, relative=True)
        assert constraint.update(1.5 * scale) == pytest.approx(0.5)
        assert constraint.update(50 * scale) == 2.0  # clipped


def test_warm_up_is_linear_and_ends_at_one():
    schedule = WarmUp(4)
    assert [schedule.step(0.0).beta for _ in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


SCHEDULES = [
    lambda: FixedBeta(0.5),
    lambda: WarmUp(7),
    lambda: GECO(1.0),
    lambda: REWO(1.0),
    lambda: AlternativeREWO(1.0),
]


@pytest.mark.parametrize("make", SCHEDULES)
@given(st.lists(st.floats(0.1, 3.0), min_size=1, max_size=30), st.integers(0, 29))
def test_a_resumed_schedule_goes_on_exactly(make, batches, at):
    whole, first, second = make(), make(), make()
    phases = [whole.step(error) for error in batches]
    cut = min(at, len(batches))
    resumed = [first.step(error) for error in batches[:cut]]
    second.load_state_dict(first.state_dict())
    resumed += [second.step(error) for error in batches[cut:]]
    assert resumed == phases


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: REWO(0.0), "kappa is 0.0"),
        (lambda: REWO(1.0, beta=2.0), "REWO never exceeds"),
        (lambda: GECO(1.0, alpha=1.0), "alpha is 1.0"),
        (lambda: WarmUp(0), "warm-up of 0 steps"),
        (lambda: FixedBeta(-1), "beta is -1"),
    ],
)
def test_settings_that_mean_nothing(make, message):
    with pytest.raises(UsageError, match=message):
        make()

"""The EKVAE: its rate against the exact likelihood, its states against the Kalman filter."""

from dataclasses import replace

import pytest
import torch

from trackvae.errors import InputError, UsageError
from training.data.actuated import actuated_pendulum
from training.dssm.batch import SequenceBatch
from training.dssm.ekvae import EKVAE, EKVAEConfig
from training.dssm.kalman import kalman_filter, linear_dynamics, linear_observation
from training.dssm.model import Inference
from training.schedules import SequenceREWO
from training.trainer import TrainConfig, Trainer

SMALL = EKVAEConfig(
    event=(5,), controls=2, latent=3, static=(0, 1), hidden=(8,), components=4, alpha_hidden=(6,)
)
LINEAR = replace(SMALL, components=1, prior="gaussian")


def make(config=SMALL, seed=0):
    torch.manual_seed(seed)
    model = EKVAE(config).double()
    with torch.no_grad():  # away from where it begins
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def batch(count=4, steps=6, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, steps, 5, generator=g, dtype=torch.double)
    return SequenceBatch(x, torch.randn(count, steps - 1, 2, generator=g, dtype=torch.double))


def noise(seed=2):
    return torch.Generator().manual_seed(seed)


def exact(model, x, a):
    """Log p(a_{1:T} | u) of a linear model, by a Kalman filter put together here."""
    H, moved = torch.eye(3, dtype=torch.double)[list(model.config.static)], model.transition
    return kalman_filter(
        a,
        x.controls,
        (model.prior.mean, torch.diag(model.prior.log_var.exp() + 1e-6)),
        linear_dynamics(moved.F[0], moved.B[0], torch.diag(moved.log_Q[0].exp() + 1e-6)),
        linear_observation(H, torch.diag(model.log_R.exp() + 1e-6)),
    ).log_likelihood.sum(1)


# --- the rate


@pytest.mark.parametrize("posterior", ["smoother", "filter"])
def test_the_rate_of_a_linear_model_bounds_the_exact_one_and_tightens_with_samples(posterior):
    model = make(replace(LINEAR, posterior=posterior))
    with torch.no_grad():  # noise of the size of the signal: weights without heavy tails
        model.log_R.fill_(1.0)
        model.transition.log_Q.fill_(0.5)
    one = batch(1, 5)
    x = SequenceBatch(one.observations.repeat(2000, 1, 1), one.controls.repeat(2000, 1, 1))
    slack = {}
    with torch.no_grad():
        for samples in (1, 10, 100):
            q = model.encoder(x.observations)
            a = q.sample(None, noise())  # the first that is drawn in infer
            least = q.log_prob(a).sum(1) - exact(model, x, a)
            slack[samples] = model.infer(x, noise(), samples).rate - least
    means = {samples: float(value.mean()) for samples, value in slack.items()}
    error = float(slack[1].std()) / 2000**0.5
    assert means[1] > 3 * error  # one sample: a bound that is not tight
    assert means[1] > means[10] > means[100]
    assert means[100] == pytest.approx(0, abs=0.05 + 6 * float(slack[100].std()) / 2000**0.5)


def test_every_draw_of_the_bound_of_one_step_is_exact_where_nothing_is_left_to_infer():
    """T = 1: with the posterior p(z_1|a_1) every weight is p(a_1), whatever z was drawn."""
    model, x = make(LINEAR), batch(6, 1)
    q = model.encoder(x.observations)
    a = q.sample(None, noise())
    expected = q.log_prob(a).sum(1) - exact(model, x, a)
    # not to rounding: p(z_1)'s variances have 1e-6 added in the filter alone
    torch.testing.assert_close(model.infer(x, noise()).rate, expected, atol=1e-4, rtol=0)


def test_the_rate_by_hand_from_its_distributions(monkeypatch):
    """Eq. 4.27 and 4.28 of the VHP's model, written down once more with torch's own densities."""
    model, x = make(), batch(2, 3)
    still(monkeypatch)  # samples are means
    found = model.infer(x, noise())
    q = model.encoder(x.observations)
    a, filtered = q.mean, model.filter(x)
    smooth, normal = model.smooth(x), torch.distributions.MultivariateNormal
    z = smooth.mean
    R = model.log_R.exp() + 1e-6
    rate = q.log_prob(a).sum(1)
    rate = rate - normal(z[:, 0, :2], torch.diag(R)).log_prob(a[:, 0])
    rate = rate - model.prior.log_prob(z[:, 0])
    rate = rate + normal(z[:, 0], scale_tril=smooth.factor[:, 0]).log_prob(z[:, 0])
    for t in (1, 2):
        step, _ = model.step(z[:, t - 1], x.controls[:, t - 1])
        seen = normal(step.mean[:, :2], torch.diag_embed(step.log_var.exp()[:, :2] + R))
        rate = rate - seen.log_prob(a[:, t])
        for sign, states in ((1, smooth), (-1, filtered)):
            own = normal(states.mean[:, t - 1], scale_tril=states.factor[:, t - 1])
            rate = rate + sign * own.log_prob(z[:, t - 1])
    torch.testing.assert_close(found.rate, rate)
    torch.testing.assert_close(found.output, model.decoder(a))


def still(monkeypatch):
    """Every standard normal number is 0."""
    real = torch.randn

    def zeros(*shape, generator=None, **more):
        return torch.zeros_like(real(*shape, **more))

    monkeypatch.setattr(torch, "randn", zeros)


# --- states


def test_states_of_a_linear_model_are_the_kalman_filter_s():
    model, x = make(LINEAR), batch()
    with torch.no_grad():
        a = model.encoder(x.observations).mean
        ours = model.filter_static(a, x).log_likelihood.sum(1)
        torch.testing.assert_close(ours, exact(model, x, a))


@pytest.mark.parametrize("static", [(0, 1), (1, 2), (2, 0), (2,), (1, 0, 2)])
def test_static_dimensions_are_the_auxiliary_variables(static):
    """Section 4.3.1: z^(d) = a^(d) in any permutation of H, but for the observation's noise."""
    model, x = make(replace(SMALL, static=static)), batch()
    with torch.no_grad():
        model.log_R.fill_(-12.0)
        smooth, a = model.smooth(x), model.encoder(x.observations).mean
        torch.testing.assert_close(model.emission(smooth.mean), a, atol=1e-3, rtol=0)
        torch.testing.assert_close(model.decode(smooth.mean), model.decoder(a), atol=1e-3, rtol=0)
        assert smooth.variance[..., list(static)].max() < 1e-4


def test_the_transition_s_mean_and_variance_are_what_a_step_predicts():
    model, x = make(), batch()
    z = torch.randn(4, 3, dtype=torch.double)
    path = model.predict(z, x.controls)
    local = model.transition.linear(z, x.controls[:, 0])
    torch.testing.assert_close(path[:, 1], local.mean(z, x.controls[:, 0]))
    torch.testing.assert_close(model.step(z, x.controls[:, 0])[0].log_var.exp(), local.Q)
    assert path.shape == (4, 6, 3)


def test_masked_equals_unpadded(monkeypatch):
    model, x = make(), batch(3, 6)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:] = False
    padded = SequenceBatch(x.observations, x.controls, mask)
    alone = SequenceBatch(x.observations[1:2, :4], x.controls[1:2, :3])
    still(monkeypatch)
    for name in ("filter", "smooth"):
        ours, theirs = getattr(model, name)(padded), getattr(model, name)(alone)
        torch.testing.assert_close(ours.mean[1:2, :4], theirs.mean)
        torch.testing.assert_close(ours.factor[1:2, :4], theirs.factor)
    ours, theirs, whole = (model.terms(part) for part in (padded, alone, x))
    for name in ("rate", "distortion", "log_likelihood"):
        torch.testing.assert_close(getattr(ours, name)[1:2], getattr(theirs, name))
        torch.testing.assert_close(getattr(ours, name)[[0, 2]], getattr(whole, name)[[0, 2]])
    # the error is a mean over all 16 observed steps
    squared = (model.decoder(model.encoder(x.observations).mean) - x.observations).square()
    torch.testing.assert_close(ours.error.mean(), squared.mean(-1)[mask].mean())


def test_the_filter_version_knows_no_future():
    model, x = make(replace(SMALL, posterior="filter")), batch()
    other = x.observations.clone()
    other[:, -1] += 3.0
    before, after = model.filter(x), model.filter(SequenceBatch(other, x.controls))
    torch.testing.assert_close(after.mean[:, :-1], before.mean[:, :-1], rtol=0, atol=0)
    assert (after.mean[:, -1] - before.mean[:, -1]).abs().min() > 1e-6
    smooth = [model.smooth(SequenceBatch(o, x.controls)).mean for o in (x.observations, other)]
    assert (smooth[0][:, 0] - smooth[1][:, 0]).abs().max() > 1e-9


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("prior", ["vhp", "normal", "gaussian"])
def test_short_sequences_and_gradients_of_all_parameters(steps, prior):
    model = make(replace(SMALL, prior=prior))
    model.terms(batch(steps=steps), noise()).lagrangian(0.5).mean().backward()
    for name, parameter in model.named_parameters():
        if steps == 2:
            assert parameter.grad is not None, name
        assert parameter.grad is None or bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"static": (0, 0)}, "different dimensions"),
        ({"static": (3,)}, "from 0 to 2"),
        ({"static": ()}, "one or more"),
        ({"posterior": "both"}, "smoother or filter"),
        ({"prior": "flat"}, "normal, gaussian or vhp"),
    ],
)
def test_what_cannot_be_built(changes, message):
    with pytest.raises(UsageError, match=message):
        EKVAE(replace(SMALL, **changes))


# --- training


def sequences(count=60, steps=8):
    return SequenceBatch.of(actuated_pendulum(count, test=1, validation=1, steps=steps).train)


def quick(model, schedule, steps, **more):
    return Trainer(model, schedule, TrainConfig(steps=steps, batch_size=20, seed=0, **more))


def pendulum_model():
    torch.manual_seed(0)
    return EKVAE(EKVAEConfig(hidden=(32,)))


def moved(model, before):
    return {n for n, p in model.named_parameters() if not torch.equal(p.detach(), before[n])}


def test_the_initial_phase_trains_encoder_and_decoder_alone():
    """Algorithm 3: theta and phi, and neither psi nor the prior; then all of them."""
    model, data = pendulum_model(), sequences()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    quick(model, SequenceREWO(1e-6), 3, later_rate=3.0).fit(data)
    first = {name for name in before if name.startswith(("encoder", "decoder"))}
    assert moved(model, before) == first
    quick(model, SequenceREWO(10.0), 3, later_rate=3.0).fit(data)
    assert moved(model, before) == set(before)
    assert bool(model.prior.started)  # the prior was told where z_1 lies


def test_what_joins_in_later_has_a_learning_rate_of_its_own():
    """The first step of Adam is the learning rate, whatever the gradient."""
    model, data = pendulum_model(), sequences()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    quick(model, SequenceREWO(10.0), 1, later_rate=3.0, learning_rate=1e-3).fit(data)
    for name, parameter in model.named_parameters():
        largest = float((parameter.detach() - before[name]).abs().max())
        factor = 1.0 if name.startswith(("encoder", "decoder")) else 3.0
        assert largest == pytest.approx(1e-3 * factor, rel=0.02), name


@pytest.mark.parametrize("later_rate", [1.0, 3.0])
def test_a_killed_run_resumed_equals_the_uninterrupted_one(tmp_path, later_rate):
    data, path = sequences(), tmp_path / "run.safetensors"
    whole = pendulum_model()
    # kappa^2 is met on the way: both phases
    quick(whole, SequenceREWO(0.175), 12, later_rate=later_rate).fit(data)

    class KilledError(Exception):
        pass

    def kill(report):
        if report.step == 8:
            raise KilledError

    config = {"later_rate": later_rate, "checkpoint_every": 5}
    with pytest.raises(KilledError):
        quick(pendulum_model(), SequenceREWO(0.175), 12, **config).fit(
            data, checkpoint=path, on_step=kill
        )
    again = pendulum_model()
    trainer = quick(again, SequenceREWO(0.175), 12, **config)
    trainer.resume(path)
    assert trainer.step == 5
    trainer.fit(data)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


class Failing(EKVAE):
    """NaN at some of the batches that it sees."""

    def __init__(self, at):
        super().__init__(EKVAEConfig(hidden=(32,)))
        self._at, self._seen = at, 0

    def infer(self, x, generator=None, samples=1):
        self._seen += 1
        found = super().infer(x, generator, samples)
        rate = found.rate * float("nan") if self._seen in self._at else found.rate
        return Inference(found.latents, found.output, rate)


def test_steps_that_are_not_finite_are_passed_over_and_counted():
    torch.manual_seed(0)
    model, reports, schedule = Failing((3, 4)), [], SequenceREWO(1e-3)
    trainer = quick(model, schedule, 6, skips=2)
    states = []

    def watch(report):
        reports.append(report)
        states.append([p.detach().clone() for p in model.parameters()])

    summary = trainer.fit(sequences(), on_step=watch)
    assert [report.skipped for report in reports] == [False, False, True, True, False, False]
    assert summary.skipped == 2
    for skipped in (2, 3):
        assert all(torch.equal(a, b) for a, b in zip(states[1], states[skipped], strict=True))
    assert reports[3].phase.beta == reports[1].phase.beta
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_too_many_steps_that_are_not_finite_end_the_run():
    torch.manual_seed(0)
    trainer = quick(Failing((2, 3, 4)), SequenceREWO(1e-3), 6, skips=2)
    with pytest.raises(InputError, match="step 4: the loss is nan, 2 steps before it were skipped"):
        trainer.fit(sequences())


def test_a_gradient_that_is_not_finite_is_never_trained_on():
    model = pendulum_model()
    with torch.no_grad():
        model.log_R.fill_(torch.finfo(torch.float32).min)  # sqrt'(0) somewhere: an infinite slope
        model.log_R.requires_grad_(True)
    model.log_R.register_hook(lambda gradient: gradient * float("nan"))
    trainer = quick(model, SequenceREWO(10.0), 3, skips=3)
    assert trainer.fit(sequences()).skipped == 3
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_lost_covariance_is_counted_and_gives_no_finite_loss():
    model, x = make(), batch()
    broken = torch.eye(3, dtype=torch.double).repeat(4, 6, 1, 1)
    broken[0, 0] = -broken[0, 0]
    assert model.factors(broken)[0, 0].isnan().all()
    assert int(model.lost) == 1
    with torch.no_grad():
        model.transition.log_Q.fill_(float("nan"))
    assert not bool(model.infer(x, noise()).rate.isfinite().any())
    assert int(model.lost) > 1


def test_the_run_that_ends_says_how_many_covariances_were_lost():
    model = pendulum_model()
    with torch.no_grad():
        model.transition.log_Q.fill_(float("nan"))
    with pytest.raises(InputError, match=r"loss is nan \(\d+ covariances so far were not positive"):
        quick(model, SequenceREWO(1e-3), 3).fit(sequences())


def test_nan_in_a_sequence_is_told():
    data = sequences()
    data.observations[7, 3, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"observations hold NaN .*\(sequence 7, step 3\)"):
        quick(pendulum_model(), SequenceREWO(), 3).fit(data)

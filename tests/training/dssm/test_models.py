"""Laws that hold for every recurrent model: rates, masks, filters that know no future."""

from dataclasses import replace

import pytest
import torch

from trackvae.distributions import Gaussian
from trackvae.errors import InputError, UsageError
from training.data.actuated import actuated_pendulum
from training.dssm.batch import SequenceBatch
from training.dssm.dks import DKS, DKSConfig
from training.dssm.dvbs import DVBS, DVBSConfig
from training.dssm.ekvae import EKVAE, EKVAEConfig
from training.dssm.kvae import KVAE, KVAEConfig
from training.dssm.recurrent import product, reversal
from training.dssm.rssm import RSSM, RSSMConfig
from training.dssm.transitions import LocallyLinear
from training.schedules import SequenceREWO
from training.trainer import TrainConfig, Trainer

SMALL = {"event": (4,), "controls": 2, "latent": 3, "hidden": (8,)}
READ = {**SMALL, "units": 6, "head": (5,)}
MODELS = {
    "dks": (DKS, DKSConfig(**READ, transition=(7,))),
    "dks residual": (DKS, DKSConfig(**READ, transition=(7,), residual=True)),
    "dks conditional": (DKS, DKSConfig(**READ, transition=(7,), conditional=True)),
    "dvbs": (DVBS, DVBSConfig(**READ, components=4, alpha_hidden=(5,))),
    "rssm": (RSSM, RSSMConfig(**READ, transition=(7,), memory=5)),
    "kvae": (KVAE, KVAEConfig(**SMALL, components=4, alpha_hidden=(5,), units=6)),
}
EKVAE_CONFIG = EKVAEConfig(**SMALL, static=(0, 1), components=4, alpha_hidden=(5,))
EVERY = ["ekvae", *MODELS]
SMOOTHERS = [name for name in MODELS if name != "kvae"]  # whose posterior is a choice


def make(name, seed=0, **changes):
    torch.manual_seed(seed)
    kind, config = (EKVAE, EKVAE_CONFIG) if name == "ekvae" else MODELS[name]
    model = kind(replace(config, **changes)).double()
    with torch.no_grad():  # away from where the networks begin, which is nearly nowhere
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(count=3, steps=6, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, steps, 4, generator=g, dtype=torch.double)
    return SequenceBatch(x, torch.randn(count, steps - 1, 2, generator=g, dtype=torch.double))


def noise(seed=2):
    return torch.Generator().manual_seed(seed)


def close(found, wanted, tolerance=1e-9):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


# --- rates


@pytest.mark.parametrize("name", SMOOTHERS)
def test_the_rate_is_the_expected_logarithm_of_posterior_over_prior(name):
    model = make(name, prior="normal")
    one = batch(1, 4)
    x = SequenceBatch(one.observations.expand(6000, -1, -1), one.controls.expand(6000, -1, -1))
    found = model.infer(x, noise())
    q, z = model.smooth(x, noise()), found.latents  # the same noise: q along the same paths
    log_var = q.factor.diagonal(dim1=-2, dim2=-1).log() * 2
    ratio = Gaussian(q.mean, log_var).log_prob(z).sum(1) - model.prior.log_prob(z[:, 0])
    memory = None
    for t in range(3):
        following, memory = model.step(z[:, t], x.controls[:, t], memory)
        ratio = ratio - following.log_prob(z[:, t + 1])
    error = (ratio - found.rate).std() / len(x) ** 0.5
    assert abs(ratio.mean() - found.rate.mean()) < 6 * error
    assert found.rate.mean() > 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prior", ["normal", "gaussian", "vhp"])
def test_gradients_are_finite_and_reach_every_parameter(name, prior):
    model = make(name, prior=prior)
    terms = model.terms(batch(), noise())
    terms.lagrangian(0.5).mean().backward()
    for which, parameter in model.named_parameters():
        assert parameter.grad is not None, which
        assert parameter.grad.isfinite().all(), which
    assert terms.elbo.isfinite().all()


def test_a_transformed_first_state_costs_what_its_noise_costs():
    model = make("dvbs", prior="transform")
    x = batch(5, 1)
    told = model.noise(model.reader(x)[:, 0])
    found = model.infer(x, noise())
    close(found.rate, told.kl_to_standard_normal().sum(-1))
    drawn = told.sample(None, noise())
    close(found.latents[:, 0], model.prior(drawn))
    # x_1 is decoded through f, so that Algorithm 3's first phase has to train it
    later = {id(p) for p in model.later_parameters()}
    assert not later & {id(p) for p in [*model.prior.parameters(), *model.noise.parameters()]}


def test_a_product_of_gaussians_is_the_product_of_their_densities():
    g = noise()
    a, b = (Gaussian(*torch.randn(2, 5, generator=g, dtype=torch.double)) for _ in range(2))
    z = torch.randn(9, 5, generator=g, dtype=torch.double)
    gap = a.log_prob(z) + b.log_prob(z) - product(a, b).log_prob(z)
    close(gap, gap[:1].expand(9))
    # ... and the constant is the density that the two means are given each other
    between = Gaussian(a.mean, (a.log_var.exp() + b.log_var.exp()).log())
    close(gap[0], between.log_prob(b.mean))


def test_the_product_posterior_is_exact_where_the_observation_is_linear():
    # x = z + noise: with q(z|x) = N(x, R) the bound is the marginal at every sample
    torch.manual_seed(0)
    transition, R = LocallyLinear(3, 2, 4).double(), torch.tensor([0.3, 1.0, 2.0]).double()
    z, u, x = torch.randn(7, 3).double(), torch.randn(7, 2).double(), torch.randn(7, 3).double()
    p, likelihood = transition(z, u), Gaussian(x, R.log().expand(7, 3))
    q = product(p, likelihood)
    following = q.sample(None, noise())
    bound = likelihood.log_prob(following) + p.log_prob(following) - q.log_prob(following)
    marginal = Gaussian(p.mean, (p.log_var.exp() + R).log())
    close(bound, marginal.log_prob(x))


# --- sequences of unequal length


@pytest.mark.parametrize("name", MODELS)
def test_masked_is_unpadded(name):
    model, x = make(name), batch(3, 6)
    lengths = [6, 4, 1]
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    padded = SequenceBatch(x.observations, x.controls, mask)
    for way in ("filter", "smooth"):
        found = getattr(model, way)(padded)
        for row, length in enumerate(lengths):
            alone = getattr(model, way)(x[row : row + 1].first(length))
            close(found.mean[row, :length], alone.mean[0])
            close(found.variance[row, :length], alone.variance[0])


@pytest.mark.parametrize("name", MODELS)
def test_what_stands_in_the_padding_changes_nothing(name):
    model, x = make(name), batch(3, 6)
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    observations, controls = x.observations.clone(), x.controls.clone()
    observations[~mask] = 7.0
    controls[~mask[:, 1:]] = -3.0
    one = model.terms(SequenceBatch(x.observations, x.controls, mask), noise())
    other = model.terms(SequenceBatch(observations, controls, mask), noise())
    for term in ("rate", "distortion", "error", "log_likelihood"):
        close(getattr(one, term), getattr(other, term))


@pytest.mark.parametrize("name", EVERY)
def test_what_a_masked_sequence_costs_is_what_it_costs_unpadded(name):
    """A mean over draws: a longer batch draws other noise."""
    model, one, draws = make(name), batch(1, 2), 2000
    seen = torch.zeros(draws, 9, 4, dtype=torch.double)
    controls = torch.zeros(draws, 8, 2, dtype=torch.double)
    seen[:, :2], controls[:, :1] = one.observations, one.controls
    padded = SequenceBatch(seen, controls, torch.arange(9).expand(draws, -1) < 2)
    short = SequenceBatch(seen[:, :2], controls[:, :1])
    rates = [model.infer(x, noise()).rate.detach() for x in (short, padded)]
    error = (rates[0].std() + rates[1].std()) / draws**0.5
    assert abs(rates[0].mean() - rates[1].mean()) < 4 * error + 1e-9


@pytest.mark.parametrize("name", EVERY)
def test_long_padding_leaves_states_and_gradients_finite(name):
    """200 steps behind the end: predicted on and on, nine untrained EKVAEs in ten gave NaN."""
    model = make(name).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # a transition that explodes
    x = SequenceBatch(torch.randn(4, 200, 4), torch.randn(4, 199, 2))
    padded = SequenceBatch(x.observations, x.controls, torch.arange(200).expand(4, -1) < 5)
    terms = model.terms(padded, noise())
    assert terms.rate.isfinite().all()
    terms.lagrangian(1.0).mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        torch.testing.assert_close(
            model.smooth(padded).mean[:, :5], model.smooth(x.first(5)).mean, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("posterior", ["smoother", "filter"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("unseen", [0, 1, slice(None)], ids=["first", "middle", "all"])
def test_a_gap_is_refused(name, posterior, unseen):
    x, mask = batch(2, 4), torch.ones(2, 4, dtype=torch.bool)
    mask[1, unseen] = False
    model = make(name) if name == "kvae" else make(name, posterior=posterior)
    gapped = SequenceBatch(x.observations, x.controls, mask)
    for way in (model.smooth, model.filter, model.terms):
        with pytest.raises(InputError, match="sequence 1, from 0, has a gap or no observation"):
            way(gapped)


def test_the_ekvae_takes_gaps_and_looks_at_nothing_there():
    model, x = make("ekvae"), batch(2, 5)
    mask = torch.tensor([[True] * 5, [False, True, False, True, False]])
    other = x.observations.clone()
    other[~mask] = 9.0
    one, two = (SequenceBatch(seen, x.controls, mask) for seen in (x.observations, other))
    close(model.smooth(one).mean, model.smooth(two).mean)
    close(model.infer(one, noise()).rate, model.infer(two, noise()).rate)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            SequenceBatch(torch.randn(2, 3, 5).double(), torch.randn(2, 2, 2).double()),
            r"\(5,\) with",
        ),
        (
            SequenceBatch(torch.randn(2, 3, 1, 4).double(), torch.randn(2, 2, 2).double()),
            r"\(1, 4\)",
        ),
        (SequenceBatch(torch.randn(2, 3, 4).double(), torch.randn(2, 2, 0).double()), "with 0 con"),
        (SequenceBatch(torch.randn(2, 3, 4), torch.randn(2, 2, 2)), "float32 .* model .*float64"),
    ],
)
def test_sequences_of_another_kind_are_refused(name, x, message):
    model = make(name)
    for way in (model.smooth, model.filter, model.terms):
        with pytest.raises(InputError, match=message):
            way(x)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_no_batch_and_what_is_not_finite(name):
    model, x = make(name), batch(2, 3)
    with pytest.raises(UsageError, match="takes a SequenceBatch, not a Tensor; "):
        model.smooth(x.observations)
    x.observations[1, 2, 0] = float("nan")
    for way in (model.smooth, model.filter):
        with pytest.raises(InputError, match=r"observations hold NaN .*sequence 1, step 2"):
            way(x)
    with pytest.raises(UsageError, match=r"z1 is \(2, 5\), expected \(sequences, 3\)"):
        model.predict(torch.zeros(2, 5), x.controls)


@pytest.mark.parametrize("name", EVERY)
def test_sizes_that_cannot_be(name):
    with pytest.raises(UsageError, match="latent is 0, controls 2"):
        make(name, latent=0)
    with pytest.raises(UsageError, match="latent is 3, controls -1"):
        make(name, controls=-1)
    with pytest.raises(UsageError, match="prior_samples is 0"):
        make(name, prior_samples=0)
    assert make(name, prior_samples=3).prior.samples == 3


def test_a_lost_covariance_of_the_kvae_is_counted():
    model, x = make("kvae"), batch(2, 3)
    with torch.no_grad():
        model.matrices.log_Q.fill_(float("nan"))
    assert not model.infer(x, noise()).rate.isfinite().any()
    assert int(model.lost) > 0


@pytest.mark.parametrize("name", EVERY)
def test_the_initial_phase_leaves_transition_and_prior_alone(name):
    """Algorithm 3: theta and phi first; psi, psi_0 and phi_0 once the constraint was met."""
    model, x = make(name).float(), batch(8, 4)
    x = SequenceBatch(x.observations.float(), x.controls.float())
    later = {id(p) for p in model.later_parameters()}
    assert later
    for schedule, moving in ((SequenceREWO(1e-6), False), (SequenceREWO(10.0), True)):
        before = [(p, p.detach().clone()) for p in model.parameters()]
        Trainer(model, schedule, TrainConfig(steps=2, batch_size=8)).fit(x)
        for parameter, value in before:
            moved = not torch.equal(parameter.detach(), value)
            if id(parameter) in later:
                assert moved == moving
            elif parameter.grad is not None and bool(parameter.grad.any()):
                assert moved


def test_reversal_leaves_the_padding_behind():
    x = batch(2, 4)
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    found = reversal(SequenceBatch(x.observations, x.controls, mask))
    assert found.tolist() == [[3, 2, 1, 0], [2, 1, 0, 3]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("steps", [1, 2])
def test_the_shortest_sequences(name, steps):
    model, x = make(name), batch(3, steps)
    terms = model.terms(x, noise())
    assert terms.elbo.isfinite().all()
    assert terms.latents.shape == (3, steps, 3)
    assert model.smooth(x).mean.shape == model.filter(x).mean.shape == (3, steps, 3)


# --- past and future


@pytest.mark.parametrize("name", MODELS)
def test_a_filter_knows_no_future(name):
    changes = {} if name == "kvae" else {"posterior": "filter"}
    x = batch(3, 6)
    observations, controls = x.observations.clone(), x.controls.clone()
    observations[:, 3:] += 1.0
    controls[:, 2:] -= 2.0  # u_3, the third, acts between the third and the fourth step
    other = SequenceBatch(observations, controls)
    models = [make(name, **changes)]
    models += [make(name)] if changes else []  # the smoother, asked to filter
    for model in models:
        for one, two in ((model.filter(x), model.filter(other)),):
            close(one.mean[:, :3], two.mean[:, :3])
            close(one.variance[:, :3], two.variance[:, :3])
            assert (one.mean[:, 3:] - two.mean[:, 3:]).abs().max() > 1e-4
    if changes:
        filtered = models[0].infer(x, noise()).latents[:, :3]
        close(filtered, models[0].infer(other, noise()).latents[:, :3])


@pytest.mark.parametrize("name", MODELS)
def test_a_smoother_does(name):
    model, x = make(name), batch(3, 6)
    observations = x.observations.clone()
    observations[:, 5] += 1.0
    other = model.smooth(SequenceBatch(observations, x.controls))
    assert (model.smooth(x).mean[:, 0] - other.mean[:, 0]).abs().max() > 1e-9


@pytest.mark.parametrize("name", MODELS)
def test_smoothed_is_filtered_at_the_end(name):
    model, x = make(name), batch(3, 5)
    close(model.smooth(x).mean[:, -1], model.filter(x).mean[:, -1])


@pytest.mark.parametrize("name", ["rssm", "kvae"])
def test_a_memory_goes_on_where_it_was_left(name):
    model, x = make(name), batch(3, 6)
    states = model.smooth(x)
    if name == "kvae":  # it sees the a's themselves; here as if they were what z says
        states = model.filter(x)
        memory = model.lstm(model.encoder(x.observations[:, 2]).mean, states.memory[:, 2])
    else:
        _, memory = model.step(states.mean[:, 2], x.controls[:, 2], states.memory[:, 2])
    close(memory, states.memory[:, 3])
    assert (states.memory[:, 0] == 0).all()
    # predictions from step 3 differ by what the memory holds
    with_memory = model.predict(states.mean[:, 3], x.controls[:, 3:], memory=states.memory[:, 3])
    without = model.predict(states.mean[:, 3], x.controls[:, 3:])
    assert (with_memory[:, 1] - without[:, 1]).abs().max() > 1e-6


# --- training


@pytest.mark.parametrize("name", MODELS)
def test_a_few_steps_of_training_improve_the_bound(name):
    data = SequenceBatch.of(actuated_pendulum(20, test=0, validation=0, steps=4).train)
    torch.manual_seed(0)
    kind, config = MODELS[name]
    model = kind(replace(config, event=(16, 16), controls=1, hidden=(32,)))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    g, bounds, errors = noise(), [], []
    for _ in range(70):
        terms = model.terms(data, g)
        optimiser.zero_grad()
        terms.lagrangian(1.0).mean().backward()
        optimiser.step()
        errors.append(terms.error.mean().item())
        model.likelihood.observe_error(errors[-1], 256)
        bounds.append(terms.elbo.mean().item())
    assert bounds[-1] > bounds[0] + 1000
    # more than sigma was learned: one picture for all would leave the pictures' own variance
    assert sum(errors[-5:]) / 5 < 0.95 * data.observations.var((0, 1)).mean()


@pytest.mark.parametrize("name", MODELS)
def test_sigma_stays_above_its_least(name):
    likelihood = make(name, least_sigma=0.3).likelihood
    for _ in range(200):
        likelihood.observe_error(1e-6, 4)
    assert likelihood.sigma.item() == pytest.approx(0.3)


@pytest.mark.parametrize("name", SMOOTHERS)
def test_an_unknown_posterior_is_refused(name):
    with pytest.raises(UsageError, match="posterior is 'oracle'"):
        replace(MODELS[name][1], posterior="oracle")


# --- where they begin


@pytest.mark.parametrize("name", MODELS)
def test_a_fixed_sigma_stays_and_the_other_follows_the_error(name):
    x = batch()
    fixed, free = make(name, sigma=0.25), make(name, least_sigma=0.125)
    for model in (fixed, free):
        for _ in range(60):
            error = float(model.terms(x, noise()).error.mean().detach())
            model.likelihood.observe_error(error, 4)  # as the trainer does
    assert float(fixed.likelihood.sigma) == pytest.approx(0.25)
    assert float(free.likelihood.sigma) == pytest.approx(error**0.5, rel=0.02)


def test_the_transition_of_dvbs_begins_with_its_process_noise():
    torch.manual_seed(0)
    model = DVBS(DVBSConfig(**READ, components=4, alpha_hidden=(5,), process_noise=0.02))
    following, _ = model.step(torch.zeros(2, 3), torch.zeros(2, 2))
    close(following.log_var.exp(), torch.full((2, 3), 0.02 + 1e-6), 1e-5)

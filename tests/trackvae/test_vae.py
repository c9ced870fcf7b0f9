"""Laws of the model: bounds against analytic values, densities against torch's."""

import math
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from torch import distributions as reference  # noqa: E402
from torch import nn  # noqa: E402

from trackvae.bounds import iw_elbo, log_weights, negative_log_likelihood, sir  # noqa: E402
from trackvae.distributions import (  # noqa: E402
    Gaussian,
    log_mean_exp,
    standard_normal_log_prob,
)
from trackvae.errors import UsageError  # noqa: E402
from trackvae.likelihoods import Bernoulli, GaussianLikelihood  # noqa: E402
from trackvae.networks import ACTIVATIONS, GaussianHead, mlp  # noqa: E402
from trackvae.priors import VHP, StandardNormal, VampPrior  # noqa: E402
from trackvae.vae import VAE  # noqa: E402

SIGMA = 0.5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Linear(nn.Module):
    """x = W z + b."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, z):
        return z @ self.weight.T + self.bias


class Fixed(nn.Module):
    """A conditional Gaussian whose mean is linear and whose covariance is constant."""

    def __init__(self, weight, bias, variance):
        super().__init__()
        self.map, self.variance = Linear(weight, bias), variance

    def forward(self, condition):
        mean = self.map(condition)
        return Gaussian(mean, self.variance.log().expand_as(mean))


def linear_gaussian(prior=None, slack=1.0):
    """A VAE whose p(x) is Gaussian; with orthogonal W the exact posterior is diagonal."""
    weight = torch.linalg.qr(torch.randn(5, 2)).Q * torch.tensor([2.0, 0.7])
    bias = torch.randn(5)
    precision = 1.0 + weight.square().sum(dim=0) / SIGMA**2
    gain = (weight / SIGMA**2 / precision).T
    encoder = Fixed(gain, -(gain @ bias), slack / precision)
    model = VAE(encoder, Linear(weight, bias), GaussianLikelihood(SIGMA), StandardNormal(2))
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(5)
    exact = reference.MultivariateNormal(bias, covariance)
    if prior is not None:
        model.prior = prior
    return model.double(), exact


def test_a_gaussian_equals_torch_s():
    mean, log_var = torch.randn(7, 3), torch.randn(7, 3)
    ours, theirs = Gaussian(mean, log_var), reference.Normal(mean, (0.5 * log_var).exp())
    value = torch.randn(7, 3)
    torch.testing.assert_close(ours.log_prob(value), theirs.log_prob(value).sum(-1))
    other = Gaussian(torch.randn(7, 3), torch.randn(7, 3))
    theirs_other = reference.Normal(other.mean, (0.5 * other.log_var).exp())
    torch.testing.assert_close(ours.kl_to(other), reference.kl_divergence(theirs, theirs_other))
    standard = reference.Normal(torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(
        ours.kl_to_standard_normal(), reference.kl_divergence(theirs, standard)
    )
    torch.testing.assert_close(standard_normal_log_prob(value), standard.log_prob(value).sum(-1))
    draws = ours.sample(200_000)
    error = (draws.mean(0) - mean) / (0.5 * log_var).exp() * math.sqrt(200_000)
    assert error.abs().max() < 6


def test_likelihoods_equal_torch_s():
    x, output = torch.rand(4, 3, 5), torch.randn(2, 4, 3, 5)
    expected = reference.Normal(output, 0.3).log_prob(x).sum((-1, -2))
    torch.testing.assert_close(GaussianLikelihood(0.3, event_dims=2).log_prob(x, output), expected)
    binary = (x > 0.5).double()
    expected = reference.Bernoulli(logits=output).log_prob(binary).sum((-1, -2))
    likelihood = Bernoulli(event_dims=2)
    torch.testing.assert_close(likelihood.log_prob(binary, output), expected)
    torch.testing.assert_close(likelihood.distortion(binary, output), -expected)
    torch.testing.assert_close(
        Bernoulli(event_dims=2, reduction="mean").error(binary, output), -expected / 15
    )


def test_the_reductions_of_the_squared_error_are_what_they_say():
    x, output = torch.rand(4, 6), torch.rand(4, 6)
    squared = (x - output).square()
    torch.testing.assert_close(GaussianLikelihood(0.1).error(x, output), squared.mean(-1))
    torch.testing.assert_close(
        GaussianLikelihood(0.1, reduction="sum").error(x, output), squared.sum(-1)
    )
    torch.testing.assert_close(
        GaussianLikelihood(0.1).distortion(x, output), squared.sum(-1) / 0.02
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_squared_constraint_of_a_bernoulli_is_that_of_its_mean(reduction):
    """And it alone changes: the likelihood and the distortion stay."""
    x, output = (torch.rand(4, 2, 3) > 0.5).double(), torch.randn(4, 2, 3)
    plain = Bernoulli(2, reduction)
    squared = Bernoulli(2, reduction, "squared")
    for n in range(4):
        errors = [
            (float(x[n, i, j]) - 1 / (1 + math.exp(-float(output[n, i, j])))) ** 2
            for i in range(2)
            for j in range(3)
        ]
        expected = sum(errors) / (6 if reduction == "mean" else 1)
        assert float(squared.error(x, output)[n]) == pytest.approx(expected)
    torch.testing.assert_close(squared.log_prob(x, output), plain.log_prob(x, output))
    torch.testing.assert_close(squared.distortion(x, output), plain.distortion(x, output))


def test_the_optimal_sigma_is_the_root_mean_squared_error():
    likelihood = GaussianLikelihood("optimal")
    x = torch.zeros(50, 20)
    for _ in range(600):
        likelihood.observe(x, 0.2 * torch.ones(50, 20))
    assert likelihood.sigma.item() == pytest.approx(0.2, rel=1e-6)
    best = likelihood.log_prob(x, 0.2 * torch.ones(50, 20)).mean()
    for sigma in (0.15, 0.25):
        assert GaussianLikelihood(sigma).log_prob(x, 0.2 * torch.ones(50, 20)).mean() < best


@pytest.mark.parametrize("make", [lambda: Bernoulli(), lambda: GaussianLikelihood(0.7)])
def test_the_lagrangian_at_beta_one_has_the_elbo_s_gradient(make):
    """Section 3.2.2: for Bernoulli and for a Gaussian with given sigma, lambda = 1 is the ELBO."""
    encoder = GaussianHead(mlp(6, [8], 4, "tanh"))
    model = VAE(encoder, mlp(2, [8], 6, "tanh"), make(), StandardNormal(2)).double()
    x = (torch.rand(9, 6) > 0.5).double()
    gradients = []
    for loss in (lambda t: t.lagrangian(1.0), lambda t: -t.elbo):
        model.zero_grad()
        terms = model.terms(x, torch.Generator().manual_seed(1))
        loss(terms).mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("make", "constant"), [(Bernoulli, 0.0), (GaussianLikelihood, 6.0)])
def test_minus_the_lagrangian_at_beta_one_is_the_elbo(make, constant):
    """Section 3.2.2: to 1e-6; for a Gaussian up to log sqrt(2 pi sigma^2) of each dimension."""
    likelihood = make() if make is Bernoulli else make(0.3)
    encoder = GaussianHead(mlp(6, [8], 4, "tanh"))
    model = VAE(encoder, mlp(2, [8], 6, "tanh"), likelihood, StandardNormal(2)).double()
    x = (torch.rand(9, 6) > 0.5).double()
    terms = model.terms(x, torch.Generator().manual_seed(1))
    normaliser = constant * 0.5 * math.log(2 * math.pi * 0.3**2)
    torch.testing.assert_close(-terms.lagrangian(1.0), terms.elbo + normaliser, atol=1e-6, rtol=0)


def test_with_the_exact_posterior_every_weight_is_the_density():
    model, exact = linear_gaussian()
    x = exact.sample((6,))
    weights, _ = log_weights(model, x, 5)
    torch.testing.assert_close(weights, exact.log_prob(x).expand(5, 6))
    terms = model.terms(x)
    torch.testing.assert_close(terms.elbo, exact.log_prob(x))


def test_the_likelihood_of_a_linear_gaussian_model_is_the_analytic_one():
    model, exact = linear_gaussian(slack=1.7)  # the encoder is too wide: a proper proposal
    x = exact.sample((8,))
    found = negative_log_likelihood(model, x, samples=20_000)
    torch.testing.assert_close(found, -exact.log_prob(x), atol=0.02, rtol=0)


def test_chunks_change_nothing_but_the_memory():
    model, exact = linear_gaussian(slack=2.0)
    x = exact.sample((4,))
    values = [
        negative_log_likelihood(
            model, x, 60, chunk=chunk, generator=torch.Generator().manual_seed(3)
        )
        for chunk in (1_000_000, 4 * 60)
    ]
    torch.testing.assert_close(*values)
    assert negative_log_likelihood(model, x, 61, chunk=28).shape == (4,)


def test_the_bound_does_not_fall_with_samples_and_starts_at_the_elbo():
    model, exact = linear_gaussian(slack=4.0)
    x = exact.sample((64,))
    means = []
    for k in (1, 2, 8, 64):
        draws = torch.stack([iw_elbo(model, x, k) for _ in range(200)])
        means.append(draws.mean().item())
    assert means == sorted(means)
    assert means[-1] <= exact.log_prob(x).mean().item() + 1e-3
    elbos = torch.stack([model.terms(x).elbo for _ in range(200)])
    error = elbos.mean(1).std() / math.sqrt(200)
    assert abs(elbos.mean().item() - means[0]) < 8 * error


def a_vhp(samples, slack):
    """A VHP with linear p(z|zeta), so that its density is known: N(b, A A' + s^2)."""
    weight = torch.linalg.qr(torch.randn(3, 2)).Q * torch.tensor([1.5, 0.8])
    bias, variance = torch.randn(3), torch.full((3,), 0.3)
    precision = 1.0 + weight.square().sum(0) / 0.3
    gain = (weight / 0.3 / precision).T
    posterior = Fixed(gain, -(gain @ bias), slack / precision)
    prior = VHP(posterior, Fixed(weight, bias, variance), dim=2, samples=samples)
    exact = reference.MultivariateNormal(bias, weight @ weight.T + 0.3 * torch.eye(3))
    return prior.double(), exact


def test_the_vhp_bound_is_below_the_density_and_tightens():
    z = a_vhp(1, 1.0)[1].sample((40,))
    torch.manual_seed(0)
    gaps = []
    for samples in (1, 4, 16, 64):
        torch.manual_seed(1)
        prior, exact = a_vhp(samples, slack=3.0)
        z = exact.sample((40,))
        bound = torch.stack([prior.log_prob(z) for _ in range(400)]).mean()
        gaps.append((exact.log_prob(z).mean() - bound).item())
    assert all(gap > -1e-3 for gap in gaps)
    assert gaps == sorted(gaps, reverse=True)
    torch.manual_seed(1)
    prior, exact = a_vhp(1, slack=1.0)  # the exact proposal: the bound is the density
    z = exact.sample((10,))
    torch.testing.assert_close(prior.log_prob(z), exact.log_prob(z))


def two_layers(samples):
    """An IWAE of two stochastic layers: a VHP of one sample inside; and x."""
    prior = VHP(
        GaussianHead(mlp(2, [6], 6, "tanh")), GaussianHead(mlp(3, [6], 4, "tanh")), 3, samples
    )
    encoder = GaussianHead(mlp(5, [8], 4, "tanh"))
    model = VAE(encoder, mlp(2, [8], 5, "tanh"), Bernoulli(), prior).double()
    return model, (torch.rand(4, 5) > 0.5).double()


def naive_bound(model, x, samples, generator):
    """log 1/K sum_k p(x|z1) p(z1|z2) p(z2) / q(z1|x) q(z2|z1), one sample and image at a time."""
    noises = torch.randn(samples, len(x), 2, generator=generator)
    deeper = torch.randn(1, samples, len(x), 3, generator=generator)[0]
    normal = lambda g: reference.Normal(g.mean, (0.5 * g.log_var).exp())  # noqa: E731
    bounds = []
    for b in range(len(x)):
        weights = []
        for k in range(samples):
            q1 = normal(model.encoder(x[b]))
            z1 = q1.mean + q1.stddev * noises[k, b]
            q2 = normal(model.prior.posterior(z1))
            z2 = q2.mean + q2.stddev * deeper[k, b]
            p1 = normal(model.prior.conditional(z2))
            likelihood = reference.Bernoulli(logits=model.decoder(z1)).log_prob(x[b])
            weight = likelihood.sum() + p1.log_prob(z1).sum() - q1.log_prob(z1).sum()
            weight = weight + reference.Normal(0.0, 1.0).log_prob(z2).sum()
            weights.append(weight - q2.log_prob(z2).sum())
        bounds.append(torch.logsumexp(torch.stack(weights), 0) - math.log(samples))
    return torch.stack(bounds)


@pytest.mark.parametrize("samples", [1, 7])
def test_the_iwae_of_two_layers_is_the_naive_loop(samples):
    """L = 2 of Table 3.2, value and gradient."""
    model, x = two_layers(samples=1)
    found = -model.terms(x, torch.Generator().manual_seed(5), samples).lagrangian(1.0)
    expected = naive_bound(model, x, samples, torch.Generator().manual_seed(5))
    torch.testing.assert_close(found, expected)
    parameters = list(model.parameters())
    gradients = (torch.autograd.grad(bound.sum(), parameters) for bound in (found, expected))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_iwae_of_one_sample_is_the_elbo():
    """L = 1, with the noise of the ELBO."""
    model, x = two_layers(samples=4)
    model.prior = StandardNormal(2).double()
    one = model.terms(x, torch.Generator().manual_seed(5), samples=1)
    plain = model.terms(x, torch.Generator().manual_seed(5))
    torch.testing.assert_close(-one.lagrangian(1.0), plain.elbo)
    torch.testing.assert_close(-plain.lagrangian(1.0), plain.elbo)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_bound_of_all_samples_is_at_least_the_mean_of_its_parts_bounds(layers):
    """Why it rises with K (Burda et al., 2016, Theorem 1), on the same draws: no chance in it."""
    model, x = two_layers(samples=1)
    if layers == 1:
        model.prior = StandardNormal(2).double()
    weights = model.terms(x, torch.Generator().manual_seed(2), samples=64).elbo  # (K, B)
    bounds = [
        torch.stack([log_mean_exp(part, dim=0) for part in weights.split(k)]).mean(0)
        for k in (1, 2, 8, 64)
    ]
    for fewer, more in pairwise(bounds):
        assert (fewer < more).all()


def test_the_iwae_of_two_layers_reaches_the_density():
    """With K = 1 inside, the VHP's looseness vanishes as the samples outside grow."""
    model, _ = linear_gaussian(slack=2.0)
    weight, bias = model.decoder.weight.detach(), model.decoder.bias.detach()
    within = torch.tensor([[0.8, 0.2], [-0.3, 0.6]])
    posterior = Fixed(torch.zeros(2, 2), torch.zeros(2), torch.full((2,), 1.2))
    variance = torch.full((2,), 0.5)
    model.prior = VHP(posterior, Fixed(within, torch.tensor([0.3, 0.0]), variance), 2, samples=1)
    covariance = weight @ (within @ within.T + 0.5 * torch.eye(2)) @ weight.T
    mean = bias + weight @ torch.tensor([0.3, 0.0])
    exact = reference.MultivariateNormal(mean, covariance + SIGMA**2 * torch.eye(5))
    x = exact.sample((8,))
    with torch.no_grad():
        few = torch.stack([iw_elbo(model, x, 1) for _ in range(500)]).mean()
        many = iw_elbo(model, x, 40_000)
    assert few < exact.log_prob(x).mean() - 0.1
    torch.testing.assert_close(many, exact.log_prob(x), atol=0.05, rtol=0)


def test_samples_of_the_vhp_have_its_moments():
    prior, exact = a_vhp(4, 1.0)
    z = prior.sample(200_000)
    torch.testing.assert_close(z.mean(0), exact.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(z.T), exact.covariance_matrix, atol=0.06, rtol=0)


def test_the_vamp_prior_is_the_mixture_of_its_posteriors():
    encoder = GaussianHead(mlp(4, [6], 4, "tanh")).double()
    pseudo = torch.randn(5, 4)
    prior = VampPrior(encoder, pseudo)
    z = torch.randn(7, 2)
    q = encoder(pseudo)
    mixture = reference.MixtureSameFamily(
        reference.Categorical(logits=torch.zeros(5)),
        reference.Independent(reference.Normal(q.mean, (0.5 * q.log_var).exp()), 1),
    )
    torch.testing.assert_close(prior.log_prob(z), mixture.log_prob(z))
    assert [name for name, _ in prior.named_parameters()] == ["pseudo_inputs"]
    assert prior.sample(11).shape == (11, 2)


def test_sir_corrects_a_proposal_that_is_too_wide():
    """Resampled, the posterior has the exact variances."""
    model, exact = linear_gaussian(slack=4.0)
    x = exact.sample((3,))
    z = sir(model, x, samples=4000, count=4000)
    target = model.encode(x).log_var.exp() / 4.0
    torch.testing.assert_close(z.var(dim=0), target, rtol=0.15, atol=0)


def test_log_mean_exp_bears_large_numbers():
    values = torch.tensor([[1000.0, 1000.0], [1000.0, -1000.0]])
    expected = torch.tensor([1000.0, 1000.0 - math.log(2)])
    torch.testing.assert_close(log_mean_exp(values, dim=0), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks_have_zero_biases_and_bounded_variances(activation):
    head = GaussianHead(mlp(3, [5, 5], 4, activation)).double()
    assert all((p == 0).all() for name, p in head.named_parameters() if "bias" in name)
    wild = head(1e6 * torch.randn(2, 3))
    assert torch.isfinite(wild.log_var.exp()).all()


@pytest.mark.parametrize("beyond", [-30.0, 20.0])
def test_a_variance_beyond_its_limits_finds_back(beyond):
    raw = torch.full((1, 2), beyond, dtype=torch.float64, requires_grad=True)
    log_var = GaussianHead(torch.nn.Identity()).double()(raw).log_var
    assert -14 <= log_var.item() <= 8
    log_var.sum().backward()
    assert raw.grad[0, 1] > 0
    middle = GaussianHead(torch.nn.Identity())(torch.tensor([[0.0, -3.0]])).log_var
    assert middle.item() == pytest.approx(-3.0, abs=1e-3)


def test_a_learned_sigma_finds_the_root_mean_squared_error():
    likelihood = GaussianLikelihood("learned")
    x, output = torch.zeros(40, 20), 0.2 * torch.randn(40, 20)
    optimiser = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        likelihood.distortion(x, output).mean().backward()
        optimiser.step()
    assert likelihood.sigma.item() == pytest.approx(output.square().mean().sqrt().item(), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp(1, [], 1, "swoosh"), "activation is 'swoosh'"),
        (lambda: GaussianLikelihood(0.0), "sigma is 0.0"),
        (lambda: GaussianLikelihood("small"), "sigma is 'small'"),
        (lambda: VHP(None, None, 2, samples=0), "0 importance samples"),
        (lambda: Bernoulli(error="absolute"), "error is 'absolute', expected one of cross-entropy"),
    ],
)
def test_settings_that_mean_nothing(make, message):
    with pytest.raises(UsageError, match=message):
        make()


# --- another observation is decoded than the one that was encoded


@pytest.mark.parametrize("samples", [None, 1, 5])
@pytest.mark.parametrize("likelihood", [GaussianLikelihood(SIGMA), Bernoulli()])
def test_terms_of_itself_as_target_are_those_without(likelihood, samples):
    model, _ = linear_gaussian()
    model.likelihood, x = likelihood.double(), torch.rand(9, 5)
    seeds = (torch.Generator().manual_seed(2) for _ in range(2))
    without, itself = (model.terms(x, next(seeds), samples, target) for target in (None, x.clone()))
    for name in ("rate", "distortion", "log_likelihood", "error", "latents"):
        assert torch.equal(getattr(without, name), getattr(itself, name)), name


@pytest.mark.parametrize("samples", [None, 4])
def test_a_target_is_what_is_decoded_and_nothing_else(samples):
    model, _ = linear_gaussian()
    x, y = torch.randn(9, 5), torch.randn(9, 5)
    seeds = (torch.Generator().manual_seed(2) for _ in range(2))
    own, other = (model.terms(x, next(seeds), samples, target) for target in (None, y))
    assert torch.equal(own.rate, other.rate)  # q is that of x
    assert torch.equal(own.latents, other.latents)
    decoded = model.decode(other.latents)
    torch.testing.assert_close(other.error, (y - decoded).square().mean(-1))
    torch.testing.assert_close(other.distortion, (y - decoded).square().sum(-1) / (2 * SIGMA**2))
    density = reference.Normal(decoded, SIGMA).log_prob(y).sum(-1)
    torch.testing.assert_close(other.log_likelihood, density)
    assert (own.error != other.error).all()


def test_the_bound_on_a_target_falls_short_by_the_divergence_of_the_posteriors():
    """log p(y) = E_q(z|x)[log p(y|z) + log p(z) - log q(z|x)] + KL(q(z|x) || p(z|y))."""
    model, exact = linear_gaussian()
    x, y = torch.randn(2, 40, 5)
    with torch.no_grad():
        elbo = model.terms(x, torch.Generator().manual_seed(0), 20_000, y).elbo
        divergence = model.encode(x).kl_to(model.encode(y)).sum(-1)
        error = (elbo.mean(0) + divergence - exact.log_prob(y)) / (elbo.std(0) / 20_000**0.5)
        itself = model.terms(x, None, None, x).elbo
    assert error.abs().max() < 6
    torch.testing.assert_close(itself, exact.log_prob(x))

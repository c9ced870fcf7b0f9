"""Laws of the likelihood by importance sampling: exact values, two bounds of a VHP, memory."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch import distributions as reference  # noqa: E402
from torch import nn  # noqa: E402

from trackvae.bounds import negative_log_likelihood  # noqa: E402
from trackvae.distributions import Gaussian  # noqa: E402
from trackvae.errors import UsageError  # noqa: E402
from trackvae.likelihoods import GaussianLikelihood  # noqa: E402
from trackvae.priors import VHP, StandardNormal, VampPrior  # noqa: E402
from trackvae.vae import VAE  # noqa: E402

SIGMA, SPREAD = 0.5, 0.6  # of x given z, of z given zeta


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Scaled(nn.Module):
    """A Gaussian about ``factor * condition``; counts how many conditions it is given at once."""

    def __init__(self, factor, variance):
        super().__init__()
        self.factor, self.variance, self.most = factor, variance, 0

    def forward(self, condition):
        self.most = max(self.most, condition.numel() // condition.shape[-1])
        mean = self.factor * condition
        return Gaussian(mean, torch.full_like(mean, math.log(self.variance)))


class Decoder(Scaled):
    """Only the mean."""

    def forward(self, condition):
        return super().forward(condition).mean


def scalar_model(*, hierarchical, slack=1.0):
    """zeta ~ N(0, 1), z ~ N(0.8 zeta, SPREAD^2), x ~ N(z, SIGMA^2), each in three dimensions.

    With ``slack=1`` both proposals are the exact posteriors; a larger one widens them.
    """
    marginal = 0.64 + SPREAD**2 if hierarchical else 1.0  # variance of z
    gain = marginal / (marginal + SIGMA**2)
    prior = StandardNormal(3)
    if hierarchical:
        inner = 0.8 / marginal
        prior = VHP(Scaled(inner, slack * (1 - 0.8 * inner)), Scaled(0.8, SPREAD**2), 3, 4)
    encoder = Scaled(gain, slack * gain * SIGMA**2)
    model = VAE(encoder, Decoder(1.0, 1.0), GaussianLikelihood(SIGMA), prior).double()
    return model, reference.Normal(0.0, math.sqrt(marginal + SIGMA**2))


@pytest.mark.parametrize("inner", [1, 16])
def test_both_bounds_of_a_vhp_reach_the_analytic_likelihood(inner):
    model, exact = scalar_model(hierarchical=True, slack=1.5)
    x = exact.sample((6, 3))
    found = negative_log_likelihood(model, x, 6_000, inner=inner)
    torch.testing.assert_close(found, -exact.log_prob(x).sum(dim=-1), atol=0.05, rtol=0)


@pytest.mark.parametrize("inner", [1, 8])
def test_with_exact_posteriors_one_sample_is_enough(inner):
    model, exact = scalar_model(hierarchical=True)
    x = exact.sample((7, 3))
    found = negative_log_likelihood(model, x, 1, inner=inner)
    torch.testing.assert_close(found, -exact.log_prob(x).sum(dim=-1))


def test_few_samples_lie_above_and_more_inner_ones_tighten():
    model, exact = scalar_model(hierarchical=True, slack=4.0)
    x = exact.sample((1, 3)).expand(2_000, 3)  # one observation: the mean over draws of the bound
    truth = float(-exact.log_prob(x[0]).sum())
    loose, tight = (float(negative_log_likelihood(model, x, 2, inner=k).mean()) for k in (1, 32))
    assert loose > tight + 0.1 > truth + 0.1


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
def test_no_network_is_given_more_than_the_chunk(chunk):
    """Fewer than the images, between, and more than all samples of all."""
    model, exact = scalar_model(hierarchical=True, slack=1.5)
    x = exact.sample((9, 3))
    found = negative_log_likelihood(model, x, 150, inner=4, chunk=max(chunk, 4))
    assert max(model.decoder.most * 4, model.prior.conditional.most) <= max(chunk, 4)
    torch.testing.assert_close(found, -exact.log_prob(x).sum(dim=-1), atol=0.5, rtol=0)
    plain, _ = scalar_model(hierarchical=False, slack=1.5)
    negative_log_likelihood(plain, x, 20, chunk=chunk)
    assert plain.decoder.most <= chunk


def test_blocks_of_images_keep_their_order():
    model, exact = scalar_model(hierarchical=False)  # the exact posterior: no noise
    x = exact.sample((11, 3))
    found = negative_log_likelihood(model, x, 3, chunk=4)
    torch.testing.assert_close(found, -exact.log_prob(x).sum(dim=-1))


def test_the_mixture_of_a_vamp_prior_keeps_its_digits_in_single_precision():
    """Narrow components (sigma 0.05), far from each other and from the origin."""
    means, at = 3.0 * torch.randn(50, 32) + 5.0, torch.arange(20)
    prior = VampPrior(Scaled(1.0, 0.05**2), means)
    z = means[at] + 0.05 * torch.randn(20, 32)
    exact = prior.log_prob(z)
    single = VampPrior(Scaled(1.0, 0.05**2), means.float()).log_prob(z.float())
    torch.testing.assert_close(single.double(), exact, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples=0"),
        ({"chunk": 0}, "chunk=0"),
        ({"inner": 0}, "inner=0"),
        ({"inner": 2}, "StandardNormal"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    model, exact = scalar_model(hierarchical=False)
    with pytest.raises(UsageError, match=message):
        negative_log_likelihood(model, exact.sample((2, 3)), **settings)

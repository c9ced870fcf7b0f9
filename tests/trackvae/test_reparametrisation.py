"""Other coordinates say the same of observations, and make the mean metric a multiple of 1."""

import pytest

torch = pytest.importorskip("torch")

from trackvae.config import ModelConfig, build  # noqa: E402
from trackvae.errors import UsageError  # noqa: E402
from trackvae.geometry import metric_tensor  # noqa: E402
from trackvae.likelihoods import GaussianLikelihood  # noqa: E402
from trackvae.priors import StandardNormal  # noqa: E402
from trackvae.reparametrisation import change_coordinates, flat_coordinates  # noqa: E402
from trackvae.vae import VAE  # noqa: E402

NETWORKS = {
    "mlp": {"hidden": (12,)},
    "gated-mlp": {"hidden": (12,)},
    "gated-conv": {},
    "crop-conv": {},
}


@pytest.fixture(params=NETWORKS)
def model(request):
    torch.manual_seed(0)
    shape = (1, 8, 8) if request.param != "crop-conv" else (1, 16, 16)
    config = ModelConfig(
        shape, latent=5, network=request.param, prior="normal", activation="elu",
        **NETWORKS[request.param],
    )  # fmt: skip
    return build(config).double(), torch.rand(6, *shape, dtype=torch.float64)


def test_the_model_says_the_same_in_other_coordinates(model):
    model, x = model
    A = torch.randn(5, 5, dtype=torch.float64) + 3 * torch.eye(5)
    z = torch.randn(7, 5, dtype=torch.float64)
    before, q = model.decode(z), model.encode(x)
    change_coordinates(model, A, q.log_var)
    torch.testing.assert_close(model.decode(z @ torch.linalg.inv(A).T), before)
    torch.testing.assert_close(model.encode(x).mean @ A.T, q.mean)


def test_variances_start_at_the_mean_diagonal_of_the_new_covariance(model):
    model, x = model
    A = torch.randn(5, 5, dtype=torch.float64) + 3 * torch.eye(5)
    log_var = model.encode(x).log_var
    inverse = torch.linalg.inv(A)
    covariance = inverse @ torch.diag_embed(log_var.exp()) @ inverse.T  # (6, 5, 5)
    change_coordinates(model, A, log_var)
    expected = covariance.diagonal(dim1=1, dim2=2).mean(0).log()
    # the soft limit of the variances takes a little off the large ones
    torch.testing.assert_close(model.encode(x).log_var, expected.expand(6, 5), atol=0.05, rtol=0)


def test_flat_coordinates_make_the_mean_metric_a_multiple_of_the_identity(model):
    model, x = model
    z = torch.randn(9, 5, dtype=torch.float64)
    G = metric_tensor(model.decode, z).detach()
    A = flat_coordinates(G)
    c2 = G.mean(0).trace() / 5
    change_coordinates(model, A, model.encode(x).log_var.detach())
    new = metric_tensor(model.decode, z @ torch.linalg.inv(A).T).detach().mean(0)
    torch.testing.assert_close(new, c2 * torch.eye(5, dtype=torch.float64), atol=1e-9, rtol=1e-6)


def test_a_direction_that_the_decoder_ignores_stays_finite():
    A = flat_coordinates(torch.diag(torch.tensor([4.0, 2.0, 0.0])).expand(3, 3, 3))
    assert A.isfinite().all()
    torch.testing.assert_close(A[:2, :2], torch.diag(torch.tensor([0.5, 1.0]).double().sqrt()))


def test_a_model_without_such_layers_is_refused():
    identity = torch.nn.Identity()
    model = VAE(identity, identity, GaussianLikelihood(1.0), StandardNormal(2))
    with pytest.raises(UsageError, match="no linear layer"):
        change_coordinates(model, torch.eye(2), torch.zeros(3, 2))

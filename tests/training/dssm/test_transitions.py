"""The locally-linear transition: a naive loop over its base matrices, and its limits."""

import pytest
import torch

from trackvae.errors import UsageError
from training.dssm.transitions import LocallyLinear


def make(components=5):
    torch.manual_seed(0)
    return LocallyLinear(3, 2, components, (7,)).double()


def test_matrices_are_mixtures_of_the_base_matrices():
    transition = make()
    z, u = torch.randn(4, 3, dtype=torch.double), torch.randn(4, 2, dtype=torch.double)
    local, alpha = transition.linear(z, u), transition.alpha(z, u)
    torch.testing.assert_close(alpha.sum(-1), torch.ones(4, dtype=torch.double))
    for row in range(4):
        F, B, Q = torch.zeros(3, 3).double(), torch.zeros(3, 2).double(), torch.zeros(3).double()
        for m in range(5):
            F += alpha[row, m] * transition.F[m]
            B += alpha[row, m] * transition.B[m]
            Q += alpha[row, m] * (transition.log_Q[m].exp() + 1e-6)
        torch.testing.assert_close(local.F[row], F)
        torch.testing.assert_close(local.B[row], B)
        torch.testing.assert_close(local.Q[row], Q)
        mean = F @ z[row] + B @ u[row]
        torch.testing.assert_close(transition(z, u).mean[row], mean)
        torch.testing.assert_close(transition(z, u).log_var[row], Q.log())


def test_any_batch_shape():
    transition = make()
    z, u = torch.randn(2, 4, 3, dtype=torch.double), torch.randn(2, 4, 2, dtype=torch.double)
    flat = transition(z.flatten(0, 1), u.flatten(0, 1))
    torch.testing.assert_close(transition(z, u).mean.flatten(0, 1), flat.mean)


def test_one_component_is_linear():
    transition = make(1)
    u = torch.zeros(1, 2, dtype=torch.double)
    a, b = torch.randn(2, 1, 3, dtype=torch.double)
    together = transition(a + b, u).mean
    torch.testing.assert_close(together, transition(a, u).mean + transition(b, u).mean)


def test_process_noise_never_vanishes():
    transition = make()
    with torch.no_grad():
        transition.log_Q.fill_(-100.0)
    local = transition.linear(torch.zeros(1, 3).double(), torch.zeros(1, 2).double())
    assert float(local.Q.detach().min()) == pytest.approx(1e-6)


def test_no_component_is_refused():
    with pytest.raises(UsageError, match="0 base matrices"):
        LocallyLinear(2, 1, 0)

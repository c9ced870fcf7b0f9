"""Kalman filter and smoother: filterpy, the dense Gaussian, and laws."""

import math

import numpy as np
import pytest
import torch
from filterpy.kalman import KalmanFilter

from trackvae.errors import InputError
from training.dssm.kalman import (
    factor,
    kalman_filter,
    kalman_smoother,
    linear_dynamics,
    linear_observation,
    log_normal,
    taylor_dynamics,
    taylor_observation,
)

LATENT, SEEN, DRIVEN = 4, 2, 2


class System:
    """A random linear Gaussian system, with sequences that it did not make."""

    def __init__(self, steps=7, count=3, seed=0, seen=SEEN, dtype=torch.float64):
        draw = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

        def spread(dims):
            root = normal(dims, dims)
            return root @ root.mT + 0.1 * torch.eye(dims, dtype=dtype)

        self.F = torch.eye(LATENT, dtype=dtype) + 0.2 * normal(LATENT, LATENT)
        self.B, self.H = normal(LATENT, DRIVEN), normal(seen, LATENT)
        self.Q, self.R = spread(LATENT), spread(seen)
        self.m0, self.P0 = normal(LATENT), spread(LATENT)
        self.a, self.u = normal(count, steps, seen), normal(count, steps - 1, DRIVEN)

    def filter(self, weights=None, a=None, u=None):
        return kalman_filter(
            self.a if a is None else a,
            self.u if u is None else u,
            (self.m0, self.P0),
            linear_dynamics(self.F, self.B, self.Q),
            linear_observation(self.H, self.R),
            weights,
        )

    def dense(self, u):
        """Mean and covariance of all states, and of all observations given them, as one Gaussian.

        For one sequence's controls (T - 1, D_u): z (T D_z,), its covariance, the stacked H.
        """
        steps = len(u) + 1
        means = [self.m0]
        for control in u:
            means.append(self.F @ means[-1] + self.B @ control)
        P = torch.zeros(steps, LATENT, steps, LATENT, dtype=torch.float64)
        P[0, :, 0] = self.P0
        for t in range(1, steps):
            P[t, :, :t] = torch.einsum("ij,jtk->itk", self.F, P[t - 1, :, :t])
            P[:t, :, t] = torch.einsum("itk->tki", P[t, :, :t])
            P[t, :, t] = self.F @ P[t - 1, :, t - 1] @ self.F.T + self.Q
        H = torch.block_diag(*[self.H] * steps)
        R = torch.block_diag(*[self.R] * steps)
        size = steps * LATENT
        return torch.cat(means), P.reshape(size, size), H, R


def close(ours, theirs, atol=1e-8):
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_filter_and_smoother_equal_filterpy(seen):
    system = System(seen=seen)
    ours = system.filter()
    smooth = kalman_smoother(ours)
    for row in range(3):
        peer = KalmanFilter(dim_x=LATENT, dim_z=seen, dim_u=DRIVEN)
        peer.F, peer.B, peer.H = system.F.numpy(), system.B.numpy(), system.H.numpy()
        peer.Q, peer.R = system.Q.numpy(), system.R.numpy()
        peer.x, peer.P = system.m0.numpy().copy(), system.P0.numpy().copy()
        means, covariances, likelihoods = [], [], []
        for t in range(7):
            if t:
                peer.predict(system.u[row, t - 1].numpy())
            peer.update(system.a[row, t].numpy())
            means.append(peer.x.copy())
            covariances.append(peer.P.copy())
            likelihoods.append(peer.log_likelihood)
        np.testing.assert_allclose(ours.mean[row], means, atol=1e-8)
        np.testing.assert_allclose(ours.covariance[row], covariances, atol=1e-8)
        np.testing.assert_allclose(ours.log_likelihood[row], likelihoods, atol=1e-8)
        # filterpy's smoother knows no controls: it only needs the covariances' recursion
        _, P, K, _ = peer.rts_smoother(np.array(means), np.array(covariances))
        np.testing.assert_allclose(smooth.covariance[row], P, atol=1e-8)
        np.testing.assert_allclose(smooth.gain[row], K[:-1], atol=1e-8)


def test_smoother_without_controls_equals_filterpy():
    system = System()
    system.B = torch.zeros_like(system.B)
    ours = system.filter()
    peer = KalmanFilter(dim_x=LATENT, dim_z=SEEN)
    peer.F, peer.Q = system.F.numpy(), system.Q.numpy()
    x, _, _, _ = peer.rts_smoother(ours.mean[1].numpy(), ours.covariance[1].numpy())
    np.testing.assert_allclose(kalman_smoother(ours).mean[1], x, atol=1e-8)


def test_posterior_and_likelihood_equal_the_dense_gaussian():
    system = System(steps=5)
    ours = system.filter()
    smooth = kalman_smoother(ours)
    for row in range(3):
        mean, P, H, R = system.dense(system.u[row])
        S = H @ P @ H.T + R
        expected = torch.distributions.MultivariateNormal(H @ mean, S)
        close(ours.log_likelihood[row].sum(), expected.log_prob(system.a[row].flatten()))
        K = P @ H.T @ torch.linalg.inv(S)
        posterior = mean + K @ (system.a[row].flatten() - H @ mean)
        covariance = (P - K @ H @ P).reshape(5, LATENT, 5, LATENT)
        close(smooth.mean[row], posterior.reshape(5, LATENT))
        for t in range(5):
            close(smooth.covariance[row, t], covariance[t, :, t])
        for t in range(4):  # the pairwise distributions
            close(smooth.cross_covariance[row, t], covariance[t, :, t + 1])


def test_the_extended_filter_of_a_linear_model_is_the_filter():
    system = System()
    ours = system.filter()
    extended = kalman_filter(
        system.a,
        system.u,
        (system.m0, system.P0),
        taylor_dynamics(lambda z, u: system.F @ z + system.B @ u, system.Q),
        taylor_observation(lambda z: system.H @ z, system.R),
    )
    for name in ("mean", "covariance", "F", "log_likelihood"):
        close(getattr(extended, name), getattr(ours, name).expand_as(getattr(extended, name)))


def test_the_extended_filter_linearises_at_its_means():
    """One step by hand: f(z) = z^2, h(z) = z^3 at a prior mean of 2."""
    one = torch.ones(1, 1, dtype=torch.float64)
    found = kalman_filter(
        torch.tensor([[[9.0], [20.0]]], dtype=torch.float64),
        torch.zeros(1, 1, 0, dtype=torch.float64),
        (torch.tensor([2.0], dtype=torch.float64), 0.5 * one),
        taylor_dynamics(lambda z, _: z**2, 0.3 * one),
        taylor_observation(lambda z: z**3, 0.1 * one),
    )
    gain = 0.5 * 12 / (144 * 0.5 + 0.1)  # h' = 3 z^2 = 12
    m = 2 + gain * (9 - 8)
    P = 0.5 - gain * 12 * 0.5
    assert found.mean[0, 0, 0] == pytest.approx(m)
    assert found.covariance[0, 0, 0, 0] == pytest.approx(P)
    assert found.predicted_mean[0, 1, 0] == pytest.approx(m**2)
    assert found.F[0, 0, 0, 0] == pytest.approx(2 * m)
    assert found.predicted_covariance[0, 1, 0, 0] == pytest.approx(4 * m**2 * P + 0.3)


def test_smoothed_equals_filtered_at_the_end():
    filtered = System().filter()
    smooth = kalman_smoother(filtered)
    close(smooth.mean[:, -1], filtered.mean[:, -1], atol=0)
    close(smooth.covariance[:, -1], filtered.covariance[:, -1], atol=0)
    # and nowhere is it less certain
    difference = filtered.covariance - smooth.covariance
    assert torch.linalg.eigvalsh(difference).min() > -1e-9


@pytest.mark.parametrize("steps", [1, 2])
def test_short_sequences(steps):
    system = System(steps=steps)
    filtered = system.filter()
    smooth = kalman_smoother(filtered)
    for row in range(3):
        mean, P, H, R = system.dense(system.u[row])
        K = P @ H.T @ torch.linalg.inv(H @ P @ H.T + R)
        posterior = mean + K @ (system.a[row].flatten() - H @ mean)
        close(smooth.mean[row].flatten(), posterior)
    assert smooth.cross_covariance.shape == (3, steps - 1, LATENT, LATENT)


def test_masked_equals_unpadded():
    system = System(steps=6)
    weights = torch.ones(3, 6, dtype=torch.float64)
    weights[1, 4:] = 0
    padded = system.filter(weights, a=torch.where(weights.bool()[..., None], system.a, 1e3))
    alone = system.filter(a=system.a[1:2, :4], u=system.u[1:2, :3])
    whole = system.filter()
    close(padded.log_likelihood[1, :4], alone.log_likelihood[0])
    assert padded.log_likelihood[1, 4:].abs().max() == 0
    close(kalman_smoother(padded).mean[1, :4], kalman_smoother(alone).mean[0])
    close(kalman_smoother(padded).covariance[1, :4], kalman_smoother(alone).covariance[0])
    close(kalman_smoother(padded).mean[[0, 2]], kalman_smoother(whole).mean[[0, 2]])


def test_a_gap_equals_an_observation_without_information():
    system = System(steps=5)
    weights = torch.ones(3, 5, dtype=torch.float64)
    weights[:, 2] = 0
    vague = kalman_filter(
        system.a,
        system.u,
        (system.m0, system.P0),
        linear_dynamics(system.F, system.B, system.Q),
        lambda m, t: linear_observation(system.H, system.R * (1e12 if t == 2 else 1.0))(m, t),
    )
    close(kalman_smoother(system.filter(weights)).mean, kalman_smoother(vague).mean, atol=1e-6)


def test_gradients_through_the_smoother_are_those_of_finite_differences():
    system = System(steps=3, count=2)

    def loss(F, B, H, log_Q, m0, a):
        filtered = kalman_filter(
            a,
            system.u,
            (m0, system.P0),
            linear_dynamics(F, B, torch.diag(log_Q.exp())),
            linear_observation(H, system.R),
        )
        smooth = kalman_smoother(filtered)
        L, _ = factor(smooth.covariance)
        return filtered.log_likelihood.sum() + log_normal(smooth.mean - 0.3, L).sum()

    inputs = (system.F, system.B, system.H, torch.zeros(LATENT), system.m0, system.a)
    inputs = tuple(value.double().requires_grad_() for value in inputs)
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-5)


def test_float32_is_float64_but_for_rounding():
    double, single = System(steps=15).filter(), System(steps=15, dtype=torch.float32).filter()
    smooth = [kalman_smoother(found) for found in (double, single)]
    assert single.mean.dtype == torch.float32
    torch.testing.assert_close(smooth[1].mean.double(), smooth[0].mean, atol=2e-4, rtol=1e-4)
    assert factor(smooth[1].covariance)[1] == 0


def test_log_density():
    L = torch.tensor([[2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    x = torch.tensor([0.3, -1.2], dtype=torch.float64)
    ours = log_normal(x, L)
    # by hand: y = L^-1 x, log N = -|y|^2 / 2 - log(2 pi) - log det L
    y0 = 0.15
    y1 = (-1.2 - y0) / 0.5
    assert ours == pytest.approx(-0.5 * (y0**2 + y1**2) - math.log(2 * math.pi) - math.log(1.0))


def test_a_lost_covariance_is_counted_and_becomes_nan():
    covariance = torch.eye(2).repeat(3, 1, 1)
    covariance[1] = torch.tensor([[1.0, 2.0], [2.0, 1.0]])  # eigenvalues 3 and -1
    L, lost = factor(covariance)
    assert int(lost) == 1
    assert L[1].isnan().all()
    assert torch.equal(L[[0, 2]], torch.eye(2).repeat(2, 1, 1))


@pytest.mark.parametrize("length", [5, 7])
def test_controls_of_the_wrong_length(length):
    system = System(steps=7)
    with pytest.raises(InputError, match=r"expected \(3, 6, \.\.\.\)"):
        system.filter(u=torch.zeros(3, length, DRIVEN, dtype=torch.float64))

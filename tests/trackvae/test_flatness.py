"""Each estimator of the flatness penalty beside its exact value; the laws of the penalty itself."""

from __future__ import annotations

import math
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from trackvae import flatness, geometry  # noqa: E402
from trackvae.flatness import ESTIMATORS, Sketch  # noqa: E402

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
ALL = pytest.mark.parametrize("estimator", list(ESTIMATORS.values()), ids=list(ESTIMATORS))
DRAWS = 20_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(dtype: torch.dtype = torch.float64, d_z: int = 3, d_x: int = 6) -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Linear(d_z, 12), nn.Tanh(), nn.Linear(12, 12), nn.ELU(), nn.Linear(12, d_x)]
    return nn.Sequential(*layers).to(dtype)


def linear(A: Tensor):
    return lambda z: z @ A.mT


A = torch.randn(5, 3, generator=seeded(7), dtype=torch.float64)
G = A.mT @ A
C2 = torch.tensor(1.3, dtype=torch.float64)


def exact_penalty(metric: Tensor, c2: Tensor) -> Tensor:
    """||G - c^2 1||_F^2 as it is written down."""
    return (metric - c2 * torch.eye(metric.shape[-1], dtype=metric.dtype)).square().sum((-2, -1))


def per_row(sketch: Sketch, c2: Tensor) -> Tensor:
    """The absolute penalty of each row for itself, (N,)."""
    return sketch.weight * (sketch.images - c2 * sketch.probes).square().sum((0, 2))


def assert_mean(draws: Tensor, expected: Tensor) -> None:
    """The mean of (N, ...) draws is the expected value, within six standard errors."""
    error = draws.std(0) / math.sqrt(len(draws))
    deviation = (draws.mean(0) - expected).abs()
    assert (deviation <= 6 * error + 1e-9).all(), f"{deviation} against {error}"


class TestMixup:
    def test_rows_lie_on_lines_between_shuffled_pairs(self):
        z = torch.randn(50, 4, generator=seeded(), dtype=torch.float64)
        mixed = flatness.mixup(z, 0.2, seeded(5))
        generator = seeded(5)  # the same draws, Eq. 5.14 as a loop
        order = torch.randperm(50, generator=generator)
        uniform = torch.rand(50, 1, generator=generator, dtype=torch.float64)
        for i, j in enumerate(order.tolist()):
            rho = -0.2 + 1.4 * uniform[i]
            torch.testing.assert_close(mixed[i], (1 - rho) * z[i] + rho * z[j])

    @pytest.mark.parametrize("rho_0", [0.0, 0.3])
    def test_reaches_rho_0_beyond_the_data_and_no_further(self, rho_0):
        z = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        pairs = torch.cat([flatness.mixup(z, rho_0, seeded(s)) for s in range(500)])
        assert -rho_0 <= pairs.min() <= -rho_0 + 0.02
        assert 1 + rho_0 - 0.02 <= pairs.max() <= 1 + rho_0

    def test_carries_the_gradient_to_the_encoder(self):
        z = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
        flatness.mixup(z, 0.2).sum().backward()
        assert z.grad is not None
        assert z.grad.sum().item() == pytest.approx(12)  # each mixed row weighs 1 in all

    def test_empty_batch_and_negative_reach(self):
        assert flatness.mixup(torch.empty(0, 3), 0.2).shape == (0, 3)
        with pytest.raises(ValueError, match=r"rho_0 is -0\.1, expected 0 or more"):
            flatness.mixup(torch.zeros(2, 3), -0.1)


class TestSomeRows:
    def test_of_all_rows_are_the_rows(self):
        z = torch.randn(6, 3, generator=seeded())
        for count in (None, 6, 9):
            assert flatness.some_rows(z, count, seeded()) is z

    def test_are_different_rows_of_the_batch(self):
        z = torch.arange(40.0).reshape(20, 2)
        chosen = flatness.some_rows(z, 8, seeded())
        assert len(set(chosen[:, 0].tolist())) == 8
        assert set(chosen[:, 0].tolist()) <= set(z[:, 0].tolist())

    def test_penalty_on_them_is_unbiased_for_that_on_all(self):
        decoder, z = mlp(), torch.randn(10, 3, generator=seeded(2), dtype=torch.float64)

        def penalty(rows: Tensor) -> Tensor:
            return flatness.relative_penalty(flatness.exact(decoder, rows), C2)

        generator = seeded(3)
        with torch.no_grad():
            draws = [penalty(flatness.some_rows(z, 3, generator)) for _ in range(300)]
            assert_mean(torch.stack(draws), penalty(z))

    def test_gradient_on_them_is_unbiased_for_that_on_all(self):
        decoder, z = mlp(), torch.randn(6, 3, generator=seeded(2), dtype=torch.float64)

        def slope(rows: Tensor, probes: torch.Generator) -> Tensor:
            sketch = flatness.random_projection(decoder, rows, probes)
            return gradient(flatness.relative_penalty(sketch, C2), decoder)

        generator = seeded(3)
        rows = [flatness.some_rows(z, 2, generator) for _ in range(600)]
        draws = torch.stack([slope(some, generator) for some in rows])
        exact = flatness.relative_penalty(flatness.exact(decoder, z), C2)
        assert_mean(draws, gradient(exact, decoder))

    def test_needs_a_row(self):
        with pytest.raises(ValueError, match="count is 0, expected 1 or more"):
            flatness.some_rows(torch.zeros(2, 3), 0)


class TestEstimators:
    @DTYPES
    @pytest.mark.parametrize("name", ["exact", "finite-difference", "random-projection"])
    def test_a_flat_decoder_costs_nothing(self, name, dtype):
        Q = torch.linalg.qr(torch.randn(7, 4, generator=seeded(), dtype=dtype))[0]
        z = torch.randn(8, 4, generator=seeded(1), dtype=dtype)
        sketch = ESTIMATORS[name](linear(2 * Q), z, seeded())
        c2 = flatness.scaling_factor(sketch)
        assert c2.dtype == sketch.images.dtype == dtype
        tolerance = 1e-2 if dtype == torch.float32 else 1e-10  # differences round
        assert c2.item() == pytest.approx(4, rel=tolerance)
        assert flatness.relative_penalty(sketch, c2).item() == pytest.approx(0, abs=tolerance**2)
        assert flatness.absolute_penalty(sketch, c2).item() == pytest.approx(0, abs=tolerance)

    def test_exact_is_the_formula(self):
        decoder, z = mlp(), torch.randn(5, 3, dtype=torch.float64)
        metric = geometry.metric_tensor(decoder, z)
        sketch = flatness.exact(decoder, z)
        c2 = flatness.scaling_factor(sketch)
        assert c2.item() == pytest.approx(geometry.scaling_factor(metric).item())
        torch.testing.assert_close(
            flatness.absolute_penalty(sketch, c2), exact_penalty(metric, c2).mean()
        )
        torch.testing.assert_close(
            flatness.relative_penalty(sketch, c2), geometry.relative_flatness(metric).mean()
        )

    @pytest.mark.parametrize("probes", [1, 4])
    @pytest.mark.parametrize("decoder", [linear(A), mlp()], ids=["linear", "mlp"])
    def test_random_projection_is_unbiased(self, decoder, probes):
        point = torch.tensor([[0.3, -0.5, 0.8]], dtype=torch.float64)
        metric = geometry.metric_tensor(decoder, point)[0]
        with torch.no_grad():
            sketch = flatness.random_projection(
                decoder, point.expand(DRAWS, -1), seeded(), probes=probes
            )
        assert_mean(per_row(sketch, C2), exact_penalty(metric, C2))
        assert_mean(sketch.mean_diagonal(), metric.trace() / 3)

    def test_more_probes_vary_less(self):
        z = torch.zeros(DRAWS, 3, dtype=torch.float64)
        one, four = (
            per_row(flatness.random_projection(linear(A), z, seeded(), probes=p), C2).var()
            for p in (1, 4)
        )
        assert (one / four).item() == pytest.approx(4, rel=0.1)

    def test_finite_difference_is_exact_for_a_linear_decoder(self):
        z = torch.randn(4, 3, dtype=torch.float64)
        sketch = flatness.finite_difference(linear(A), z)
        expected = flatness.exact(linear(A), z).images
        torch.testing.assert_close(sketch.images, expected, rtol=1e-9, atol=1e-9)

    def test_finite_difference_errs_in_proportion_to_its_step(self):
        decoder, z = mlp(), torch.randn(40, 3, generator=seeded(), dtype=torch.float64)
        expected = exact_penalty(geometry.metric_tensor(decoder, z), C2).mean()

        def error(step: float) -> float:
            sketch = flatness.finite_difference(decoder, z, step=step)
            return (flatness.absolute_penalty(sketch, C2) - expected).item()

        assert error(1e-3) == pytest.approx(error(2e-3) / 2, rel=0.05)

    def test_as_printed_is_too_high_by_twice_the_squared_diagonal(self):
        z = torch.zeros(DRAWS, 3, dtype=torch.float64)
        draws = per_row(flatness.as_printed(linear(A), z, seeded()), C2)
        unbiased = exact_penalty(G, C2)
        assert_mean(draws, unbiased + 2 * G.diagonal().square().sum())
        with pytest.raises(AssertionError):
            assert_mean(draws, unbiased)
        assert_mean(flatness.as_printed(linear(A), z, seeded()).mean_diagonal(), G.trace() / 3)

    def test_as_printed_vanishes_as_its_expectation_is_taken(self):
        z = torch.zeros(2_000, 3, dtype=torch.float64)
        for samples in (10, 40):
            sketch = flatness.as_printed(linear(A), z, seeded(), samples=samples)
            assert_mean(sketch.mean_diagonal(), G.trace() / 3 / samples)

    @ALL
    def test_draws_come_from_the_generator(self, estimator):
        decoder, z = mlp(), torch.randn(5, 3, dtype=torch.float64)
        first, again = (estimator(decoder, z, seeded(3)).images for _ in range(2))
        torch.testing.assert_close(first, again, rtol=0, atol=0)

    @ALL
    def test_images_and_numbers_alike_can_be_decoded(self, estimator):
        flat = mlp(d_x=12)
        image = nn.Sequential(flat, nn.Unflatten(1, (3, 2, 2)))
        z = torch.randn(5, 3, dtype=torch.float64)
        torch.testing.assert_close(
            estimator(image, z, seeded()).images, estimator(flat, z, seeded()).images
        )
        assert estimator(lambda rows: rows.sum(1), z, seeded()).images.isfinite().all()

    @ALL
    def test_an_empty_batch_costs_nothing(self, estimator):
        decoder = mlp()
        z = torch.empty(0, 3, dtype=torch.float64, requires_grad=True)
        sketch = estimator(decoder, z, seeded())
        assert sketch.images.shape[1:] == (0, 3)
        for penalty in (flatness.absolute_penalty, flatness.relative_penalty):
            value = penalty(sketch, flatness.scaling_factor(sketch))
            assert value.item() == 0
            value.backward(retain_graph=True)

    def test_needs_a_probe(self):
        with pytest.raises(ValueError, match="probes is 0, expected 1 or more"):
            flatness.random_projection(mlp(), torch.zeros(2, 3).double(), probes=0)


def gradient(value: Tensor, decoder: nn.Module) -> Tensor:
    parameters = list(decoder.parameters())
    grads = torch.autograd.grad(value, parameters, allow_unused=True)
    pairs = zip(grads, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def naive_penalty(decoder: nn.Module, z: Tensor, c2: Tensor) -> Tensor:
    """The relative penalty through autograd's own reverse-mode Jacobian, row by row."""
    total = torch.zeros((), dtype=z.dtype)
    for row in z:
        J = torch.autograd.functional.jacobian(
            lambda r: decoder(r[None])[0], row, create_graph=True
        )
        total = total + exact_penalty(J.mT @ J / c2, torch.ones((), dtype=z.dtype))
    return total / z.numel()


class TestGradients:
    def test_of_the_exact_penalty_are_autograds(self):
        decoder, z = mlp(), torch.randn(4, 3, dtype=torch.float64)
        value = flatness.relative_penalty(flatness.exact(decoder, z), C2)
        naive = naive_penalty(decoder, z, C2)
        torch.testing.assert_close(value, naive)
        torch.testing.assert_close(gradient(value, decoder), gradient(naive, decoder))

    def test_of_a_whole_basis_of_probes_are_the_exact_ones(self):
        """What random_projection differentiates, without its randomness."""
        decoder, z = mlp(), torch.randn(4, 3, dtype=torch.float64)
        basis = torch.eye(3, dtype=torch.float64)[:, None].repeat(1, 4, 1)
        sketch = Sketch(basis, geometry.metric_product(decoder, z, basis), 1.0)
        value = flatness.relative_penalty(sketch, C2)
        expected = gradient(naive_penalty(decoder, z, C2), decoder)
        torch.testing.assert_close(gradient(value, decoder), expected)

    def test_of_random_projection_are_unbiased(self):
        decoder, z = mlp(), torch.randn(2, 3, generator=seeded(2), dtype=torch.float64)
        many = z.repeat(20, 1)

        def draw(seed: int) -> Tensor:
            sketch = flatness.random_projection(decoder, many, seeded(seed))
            return gradient(flatness.relative_penalty(sketch, C2), decoder)

        draws = torch.stack([draw(seed) for seed in range(150)])
        assert_mean(draws, gradient(naive_penalty(decoder, z, C2), decoder))

    def test_of_finite_differences_approach_the_exact_ones(self):
        decoder, z = mlp(), torch.randn(4, 3, dtype=torch.float64)
        sketch = flatness.finite_difference(decoder, z, step=1e-6)
        value = flatness.relative_penalty(sketch, C2)
        expected = gradient(naive_penalty(decoder, z, C2), decoder)
        torch.testing.assert_close(gradient(value, decoder), expected, rtol=1e-3, atol=1e-6)

    @ALL
    def test_reach_the_latents_but_not_the_scale(self, estimator):
        decoder = mlp()
        z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        sketch = estimator(decoder, z, seeded())
        c2 = flatness.scaling_factor(sketch)
        assert not c2.requires_grad
        flatness.relative_penalty(sketch, c2).backward()
        assert z.grad is not None
        assert z.grad.abs().sum() > 0

    @pytest.mark.parametrize("name", ["exact", "random-projection"])
    def test_descending_them_makes_a_decoder_flat(self, name):
        """A 12-dimensional decoder of condition number over 100 ends below 2."""
        A = torch.randn(30, 12, generator=seeded(), dtype=torch.float64)
        A = (A * torch.linspace(0.3, 3, 12, dtype=torch.float64)).requires_grad_()
        before = geometry.condition_number((A.mT @ A)[None]).item()
        optimiser, generator = torch.optim.Adam([A], 0.02), seeded()
        average = flatness.MovingScale()
        for _ in range(300):
            z = torch.zeros(16, 12, dtype=torch.float64)
            sketch = ESTIMATORS[name](linear(A), z, generator)
            optimiser.zero_grad()
            flatness.relative_penalty(sketch, average.step(sketch)).backward()
            optimiser.step()
        assert before > 100
        assert geometry.condition_number((A.mT @ A)[None]).item() < 2


class TestScale:
    def test_absolute_penalty_shrinks_with_the_decoder_and_the_relative_does_not(self):
        z = torch.randn(4, 3, dtype=torch.float64)
        absolute, relative = [], []
        for scale in (1.0, 0.1):
            sketch = flatness.random_projection(linear(scale * A), z, seeded())
            c2 = flatness.scaling_factor(sketch)
            absolute.append(flatness.absolute_penalty(sketch, c2).item())
            relative.append(flatness.relative_penalty(sketch, c2).item())
        assert absolute[1] == pytest.approx(absolute[0] * 0.1**4)
        assert relative[1] == pytest.approx(relative[0])

    def test_a_detached_scale_leaves_a_pull_on_the_decoders_own(self):
        size = torch.ones((), dtype=torch.float64, requires_grad=True)
        sketch = flatness.exact(linear(size * A), torch.randn(4, 3, dtype=torch.float64))
        value = flatness.relative_penalty(sketch, flatness.scaling_factor(sketch))
        value.backward()
        assert size.grad.item() == pytest.approx(4 * value.item())

    @ALL
    def test_a_scale_that_is_not_detached_leaves_none(self, estimator):
        size = torch.ones((), dtype=torch.float64, requires_grad=True)
        sketch = estimator(linear(size * A), torch.randn(4, 3, dtype=torch.float64), seeded())
        flatness.relative_penalty(sketch, sketch.mean_diagonal().mean()).backward()
        assert size.grad.item() == pytest.approx(0, abs=1e-9)

    def test_a_decoder_that_ignores_z_is_not_flat(self):
        sketch = flatness.exact(linear(torch.zeros(5, 3)), torch.zeros(2, 3))
        assert flatness.relative_penalty(sketch, flatness.scaling_factor(sketch)).item() == 1

    def test_from_its_own_probes_it_biases_the_penalty(self):
        """One row: too low by Var(v^T G v) / D_z; the variance is 2 sum_{i != j} G_ij^2."""
        sketch = flatness.random_projection(linear(A), torch.zeros(DRAWS, 3).double(), seeded())
        own = sketch.mean_diagonal()  # each row a batch of its own
        draws = (sketch.images - own[:, None] * sketch.probes).square().sum((0, 2))
        unbiased = exact_penalty(G, G.trace() / 3)
        variance = 2 * (G.square().sum() - G.diagonal().square().sum())
        assert_mean(draws, unbiased - variance / 3)
        with pytest.raises(AssertionError):
            assert_mean(draws, unbiased)

    @pytest.mark.parametrize("probes", [1, 3])
    def test_from_independent_probes_is_unbiased_and_has_no_graph(self, probes):
        decoder, z = mlp(), torch.randn(4, 3, dtype=torch.float64)
        estimate = partial(flatness.independent_scale, decoder, z, probes=probes)
        draws = torch.stack([estimate(seeded(seed)) for seed in range(300)])
        assert not draws.requires_grad
        assert_mean(draws, geometry.scaling_factor(geometry.metric_tensor(decoder, z)).detach())

    def test_moving_average_lags_by_one_step(self):
        def sketch(c2: float) -> Sketch:
            return flatness.exact(linear(math.sqrt(c2) * torch.eye(2)), torch.zeros(3, 2))

        average = flatness.MovingScale(momentum=0.75)
        used = [average.step(sketch(c2)).item() for c2 in (4.0, 8.0, 1.0, 1.0)]
        assert used == pytest.approx([4.0, 4.0, 5.0, 4.0])  # 4; 3/4*4 + 8/4; 3/4*5 + 1/4

    def test_moving_average_ignores_a_batch_without_a_scale(self):
        average = flatness.MovingScale(momentum=0.5)
        empty = flatness.exact(linear(A), torch.empty(0, 3, dtype=torch.float64))
        assert average.step(empty).isnan()
        one = flatness.exact(linear(A), torch.zeros(1, 3, dtype=torch.float64))
        for sketch in (one, empty, one):
            assert average.step(sketch).item() == pytest.approx(G.trace().item() / 3)

    @DTYPES
    def test_moving_average_resumes_exactly(self, dtype):
        def run(average: flatness.MovingScale, seeds: range) -> list[Tensor]:
            z = torch.randn(4, 3, generator=seeded(1), dtype=dtype)
            sketches = (flatness.random_projection(mlp(dtype), z, seeded(s)) for s in seeds)
            return [average.step(sketch) for sketch in sketches]

        whole = run(flatness.MovingScale(), range(8))
        first = flatness.MovingScale()
        run(first, range(4))
        second = flatness.MovingScale()
        second.load_state_dict(first.state_dict())
        resumed = run(second, range(4, 8))
        assert all(torch.equal(a, b) for a, b in zip(whole[4:], resumed, strict=True))
        assert flatness.MovingScale().state_dict() == {"value": None}

    def test_moving_average_needs_a_momentum_below_one(self):
        with pytest.raises(ValueError, match="momentum is 1, expected 0 to below 1"):
            flatness.MovingScale(momentum=1)

"""Laws of the metric tensor, of lengths and of geodesics, on maps whose geometry is known."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from trackvae import geometry  # noqa: E402

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
METHODS = pytest.mark.parametrize("by", ["distance", "metric"])


def polar(z: Tensor) -> Tensor:
    """(r, angle) -> the plane: G = diag(1, r^2), MF = r, geodesics are the plane's lines."""
    r, angle = z.unbind(-1)
    return torch.stack([r * angle.cos(), r * angle.sin()], dim=-1)


def sphere(z: Tensor) -> Tensor:
    """(polar angle, azimuth) -> the unit sphere: G = diag(1, sin^2), MF = sin."""
    a, b = z.unbind(-1)
    return torch.stack([a.sin() * b.cos(), a.sin() * b.sin(), a.cos()], dim=-1)


def linear(A: Tensor):
    return lambda z: z @ A.mT


def scaled_isometry(dim: int, c: float, dtype: torch.dtype = torch.float64):
    """A flat decoder: c times orthonormal columns into 3 more dimensions, G = c^2 1."""
    Q = torch.linalg.qr(torch.randn(dim + 3, dim, dtype=dtype))[0]
    return linear(c * Q)


def mlp(dtype: torch.dtype = torch.float64, d_z: int = 3, d_x: int = 7) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Linear(d_z, 16), nn.Tanh(), nn.Linear(16, 16), nn.Softplus(), nn.Linear(16, d_x)]
    return nn.Sequential(*layers).to(dtype)


def deconvolution(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Linear(5, 4 * 4),
        nn.Unflatten(1, (4, 2, 2)),
        nn.ELU(),
        nn.ConvTranspose2d(4, 4, 4, 2, 1),
        nn.ELU(inplace=True),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.Sigmoid(),
    ).to(dtype)


def reverse_jacobian(decoder, z: Tensor) -> Tensor:
    """The oracle: autograd's own Jacobian, row by row, in reverse mode."""
    rows = [
        torch.autograd.functional.jacobian(lambda r: decoder(r[None])[0].flatten(), row)
        for row in z
    ]
    return torch.stack(rows)


def test_importing_the_package_leaves_torch_alone():
    code = "import sys, trackvae; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestMetricTensor:
    @given(
        n=st.integers(0, 5),
        d_z=st.integers(1, 4),
        d_x=st.integers(1, 6),
        seed=st.integers(0, 10_000),
    )
    @settings(max_examples=25)
    def test_of_a_linear_decoder_is_a_transposed_a(self, n, d_z, d_x, seed):
        generator = torch.Generator().manual_seed(seed)
        A = torch.randn(d_x, d_z, generator=generator, dtype=torch.float64)
        z = torch.randn(n, d_z, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(geometry.jacobian(linear(A), z), A.expand(n, d_x, d_z))
        torch.testing.assert_close(
            geometry.metric_tensor(linear(A), z), (A.mT @ A).expand(n, d_z, d_z)
        )

    @DTYPES
    @pytest.mark.parametrize(("make", "d_z"), [(mlp, 3), (deconvolution, 5)])
    def test_equals_the_product_of_autograds_jacobian(self, make, d_z, dtype):
        decoder, z = make(dtype), torch.randn(6, d_z, dtype=dtype)
        J = reverse_jacobian(decoder, z)
        G = geometry.metric_tensor(decoder, z)
        assert G.dtype == dtype
        torch.testing.assert_close(geometry.jacobian(decoder, z), J)
        torch.testing.assert_close(G, J.mT @ J)

    @pytest.mark.parametrize("tangents", [1, 5, 12, 10_000])
    def test_chunking_changes_nothing(self, tangents):
        decoder, z = deconvolution(), torch.randn(7, 5, dtype=torch.float64)
        whole = geometry.jacobian(decoder, z, tangents=7 * 5)
        torch.testing.assert_close(geometry.jacobian(decoder, z, tangents=tangents), whole)
        G = geometry.metric_tensor(decoder, z, tangents=tangents)
        torch.testing.assert_close(G, whole.mT @ whole)

    def test_rows_go_through_the_decoder_in_chunks(self):
        seen = []

        def decoder(z: Tensor) -> Tensor:
            seen.append(len(z))
            return z

        geometry.metric_tensor(decoder, torch.zeros(7, 2), tangents=6)
        assert seen == [3, 3, 1]

    @pytest.mark.parametrize("shape", [(), (7,), (7, 7), (2, 7)])
    def test_takes_an_observation_precision_as_its_factor(self, shape):
        decoder, z = mlp(), torch.randn(4, 3, dtype=torch.float64)
        factor = torch.randn(shape, dtype=torch.float64)
        W = factor if factor.ndim == 2 else factor.expand(7).diag()
        J = reverse_jacobian(decoder, z)
        G = geometry.metric_tensor(geometry.whiten(decoder, factor), z)
        torch.testing.assert_close(G, J.mT @ (W.mT @ W) @ J)

    @pytest.mark.parametrize("probes", [1, 4])
    def test_product_with_vectors_needs_no_jacobian(self, probes):
        decoder, z = deconvolution(), torch.randn(6, 5, dtype=torch.float64)
        v = torch.randn(probes, 6, 5, dtype=torch.float64)
        J = reverse_jacobian(decoder, z)
        expected = torch.einsum("nxi,nxj,pnj->pni", J, J, v)
        torch.testing.assert_close(geometry.metric_product(decoder, z, v), expected)

    def test_push_forward_is_j_times_v(self):
        decoder, z = mlp(), torch.randn(6, 3, dtype=torch.float64)
        v = torch.randn(6, 3, dtype=torch.float64)
        expected = (reverse_jacobian(decoder, z) @ v[..., None])[..., 0]
        torch.testing.assert_close(geometry.push_forward(decoder, z, v), expected)

    def test_empty_batch(self):
        decoder, z = deconvolution(), torch.empty(0, 5, dtype=torch.float64)
        assert geometry.jacobian(decoder, z).shape == (0, 12 * 4, 5)
        G = geometry.metric_tensor(decoder, z)
        assert G.shape == (0, 5, 5)
        for measure in (
            geometry.magnification_factor,
            geometry.normalised_magnification_factor,
            geometry.condition_number,
            geometry.relative_flatness,
        ):
            assert measure(G).shape == (0,)

    def test_a_measurement_without_gradient_keeps_no_graph(self):
        decoder, z = mlp(), torch.randn(2, 3, dtype=torch.float64)
        assert geometry.metric_tensor(decoder, z).requires_grad
        with torch.no_grad():
            assert not geometry.metric_tensor(decoder, z).requires_grad

    @pytest.mark.parametrize(
        "z", [torch.zeros(3), torch.zeros(2, 0), torch.zeros(2, 3, dtype=torch.int64)]
    )
    def test_says_what_latents_it_expects(self, z):
        with pytest.raises(ValueError, match=r"expected floats of shape \(N, D_z\)"):
            geometry.metric_tensor(lambda rows: rows, z)

    def test_says_when_the_decoder_makes_other_rows(self):
        with pytest.raises(ValueError, match=r"made \(1, 3\) of \(2, 3\)"):
            geometry.metric_tensor(lambda rows: rows.sum(0, keepdim=True), torch.zeros(2, 3))


class TestMeasuresOfTheMetric:
    def test_magnification_of_polar_coordinates_is_the_radius(self):
        z = torch.tensor([[0.5, 0.1], [1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
        G = geometry.metric_tensor(polar, z)
        torch.testing.assert_close(geometry.magnification_factor(G), z[:, 0])
        torch.testing.assert_close(
            geometry.normalised_magnification_factor(G), z[:, 0] / z[:, 0].mean()
        )

    def test_magnification_of_the_sphere_is_the_sine(self):
        z = torch.tensor([[0.3, 0.0], [1.2, 2.0], [2.5, -1.0]], dtype=torch.float64)
        G = geometry.metric_tensor(sphere, z)
        torch.testing.assert_close(geometry.magnification_factor(G), z[:, 0].sin())

    def test_magnification_in_128_dimensions_needs_logarithms(self):
        G = geometry.metric_tensor(
            scaled_isometry(128, 3.0, torch.float32), torch.randn(4, 128, dtype=torch.float32)
        )
        assert geometry.magnification_factor(G).isinf().all()  # 3^128 leaves float32
        expected = torch.full((4,), 128 * math.log(3.0))
        torch.testing.assert_close(geometry.log_magnification_factor(G), expected)
        normalised = geometry.normalised_magnification_factor(G)
        torch.testing.assert_close(normalised, torch.ones(4), atol=1e-3, rtol=0)

    def test_condition_number_is_of_g_and_not_of_j(self):
        A = torch.diag(torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64))
        G = geometry.metric_tensor(linear(A), torch.zeros(1, 3, dtype=torch.float64))
        assert geometry.condition_number(G).item() == pytest.approx(16.0)

    @given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
    @settings(max_examples=25)
    def test_measures_of_shape_know_neither_rotation_nor_scale(self, seed, scale):
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
        Q = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
        G = draw.mT @ draw
        other = scale**2 * Q.mT @ G @ Q
        for measure in (
            geometry.condition_number,
            geometry.relative_flatness,
            geometry.normalised_magnification_factor,
        ):
            torch.testing.assert_close(measure(other), measure(G), rtol=1e-6, atol=1e-9)
        singular = torch.linalg.svdvals(G)
        torch.testing.assert_close(
            geometry.condition_number(G), singular[:, 0] / singular[:, -1], rtol=1e-6, atol=0
        )

    def test_a_flat_decoder_measures_flat(self):
        G = geometry.metric_tensor(scaled_isometry(6, 2.5), torch.randn(9, 6, dtype=torch.float64))
        ones = torch.ones(9, dtype=torch.float64)
        assert geometry.scaling_factor(G).item() == pytest.approx(2.5**2)
        torch.testing.assert_close(geometry.condition_number(G), ones)
        torch.testing.assert_close(geometry.relative_flatness(G), 0 * ones)
        torch.testing.assert_close(geometry.normalised_magnification_factor(G), ones)

    def test_relative_flatness_by_hand(self):
        G = torch.tensor([[[3.0, 1.0], [1.0, 1.0]]])  # c^2 = 2: G/c^2 - 1 = [[.5, .5], [.5, -.5]]
        assert geometry.relative_flatness(G).item() == pytest.approx(4 * 0.25 / 2)
        given_c2 = geometry.relative_flatness(G, torch.tensor(1.0))  # [[2, 1], [1, 0]]
        assert given_c2.item() == pytest.approx(6 / 2)

    def test_a_singular_metric_says_so(self):
        G = torch.stack([torch.diag(torch.tensor([1.0, 0.0])), torch.zeros(2, 2)])
        assert geometry.condition_number(G).isposinf().all()
        assert geometry.log_magnification_factor(G).isneginf().all()
        assert geometry.magnification_factor(G).eq(0).all()

    def test_nan_stays_nan(self):
        G = torch.full((1, 2, 2), math.nan)
        assert geometry.log_magnification_factor(G).isnan().all()


def arc(radius: float, angle: float, t: Tensor) -> Tensor:
    return torch.stack([torch.full_like(t, radius), angle * t], dim=-1)


class TestLength:
    @METHODS
    def test_of_an_arc_is_radius_times_angle(self, by):
        curve = arc(2.0, 1.5, torch.linspace(0, 1, 201, dtype=torch.float64))
        length = geometry.riemannian_length(polar, curve, by=by)
        assert length.item() == pytest.approx(3.0, rel=1e-5)
        assert geometry.latent_length(curve).item() == pytest.approx(1.5)

    @METHODS
    def test_converges_with_the_square_of_the_number_of_points(self, by):
        def error(points: int) -> float:
            t = torch.linspace(0, 1, points, dtype=torch.float64)
            curve = torch.stack([1 + t, 2 * t], dim=-1)  # a spiral: r = 1 + angle / 2
            primitive = [x / 2 * math.hypot(x, 0.5) + math.asinh(2 * x) / 8 for x in (2.0, 1.0)]
            exact = 2 * (primitive[0] - primitive[1])
            return abs(geometry.riemannian_length(polar, curve, by=by).item() - exact)

        assert error(101) == pytest.approx(error(51) / 4, rel=0.05)

    @METHODS
    @given(power=st.floats(0.6, 2.5), seed=st.integers(0, 100))
    @settings(max_examples=15)
    def test_does_not_depend_on_the_parametrisation(self, by, power, seed):
        a, b, c = torch.randn(
            3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        t = torch.linspace(0, 1, 801, dtype=torch.float64)[:, None]

        def curve(time: Tensor) -> Tensor:
            return a + b * time + c * (3 * time).sin()

        decoder = mlp()
        steady = geometry.riemannian_length(decoder, curve(t), by=by)
        warped = geometry.riemannian_length(decoder, curve(t**power), by=by)
        torch.testing.assert_close(warped, steady, rtol=1e-3, atol=0)
        backwards = geometry.riemannian_length(decoder, curve(t).flip(0), by=by)
        torch.testing.assert_close(backwards, steady)

    def test_metric_method_is_the_quadratic_form_of_equation_5_5(self):
        decoder, curve = mlp(), torch.randn(6, 3, dtype=torch.float64)
        middle, dz = (curve[1:] + curve[:-1]) / 2, curve.diff(dim=0)
        G = geometry.metric_tensor(decoder, middle)
        expected = torch.einsum("ti,tij,tj->t", dz, G, dz).sqrt()
        torch.testing.assert_close(geometry.segment_lengths(decoder, curve, by="metric"), expected)

    @METHODS
    def test_is_the_scaled_latent_length_in_a_flat_space(self, by):
        curves = torch.randn(2, 4, 30, 6, dtype=torch.float64)
        lengths = geometry.riemannian_length(scaled_isometry(6, 2.5), curves, by=by)
        assert lengths.shape == (2, 4)
        torch.testing.assert_close(lengths, 2.5 * geometry.latent_length(curves))

    @METHODS
    def test_long_curves_go_through_in_chunks(self, by, monkeypatch):
        decoder, curves = mlp(), torch.randn(3, 11, 3, dtype=torch.float64)
        whole = geometry.segment_lengths(decoder, curves, by=by)
        monkeypatch.setattr(geometry, "_ROWS", 4)
        torch.testing.assert_close(geometry.segment_lengths(decoder, curves, by=by), whole)

    @METHODS
    def test_of_no_curves_and_of_one_point(self, by):
        none = geometry.riemannian_length(mlp(), torch.empty(0, 5, 3, dtype=torch.float64), by=by)
        assert none.shape == (0,)
        point = geometry.riemannian_length(mlp(), torch.zeros(1, 3, dtype=torch.float64), by=by)
        assert point.item() == 0

    @METHODS
    def test_velocity_is_constant_on_an_arc_and_means_the_length(self, by):
        curve = arc(2.0, 1.5, torch.linspace(0, 1, 101, dtype=torch.float64))
        phi = geometry.velocity(polar, curve, by=by)
        torch.testing.assert_close(phi, phi.mean().expand(100))
        uneven = torch.randn(20, 3, dtype=torch.float64)
        torch.testing.assert_close(
            geometry.velocity(mlp(), uneven, by=by).mean(),
            geometry.riemannian_length(mlp(), uneven, by=by),
        )


class TestLengthRatios:
    def test_are_one_in_a_flat_space(self):
        lines = geometry.straight_line(
            torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64), 9
        )
        ratios = geometry.length_ratios(scaled_isometry(4, 0.3), lines)
        torch.testing.assert_close(ratios.latent, torch.ones(5, dtype=torch.float64))
        torch.testing.assert_close(ratios.observation, torch.ones(5, dtype=torch.float64))

    @METHODS
    def test_of_a_chord_seen_in_polar_coordinates(self, by):
        """Straight in (r, angle) is the arc of length a; the geodesic is the chord 2 sin(a / 2)."""
        a, t = 2.0, torch.linspace(0, 1, 400, dtype=torch.float64)
        start, end = torch.eye(2, dtype=torch.float64)[0], polar(arc(1.0, a, t[-1]))
        chord = torch.lerp(start, end, t[:, None])
        geodesic = torch.stack([chord.norm(dim=-1), torch.atan2(chord[:, 1], chord[:, 0])], dim=-1)
        ratios = geometry.length_ratios(polar, geodesic[None], by=by)
        assert ratios.observation.item() == pytest.approx(a / (2 * math.sin(a / 2)), rel=1e-4)
        assert ratios.latent.item() == pytest.approx(
            a / geometry.latent_length(geodesic).item(), rel=1e-9
        )
        assert ratios.latent.item() < 1 < ratios.observation.item()

    def test_padding_a_path_by_its_last_point_changes_little(self):
        path = torch.randn(1, 6, 3, dtype=torch.float64)
        padded = torch.cat([path, path[:, -1:].expand(-1, 4, -1)], dim=1)
        plain = geometry.length_ratios(mlp(), path, pieces=64)
        longer = geometry.length_ratios(mlp(), padded, pieces=64)
        torch.testing.assert_close(longer.latent, plain.latent)
        torch.testing.assert_close(longer.observation, plain.observation, rtol=1e-4, atol=0)

    def test_of_equal_points_are_nan_and_of_none_empty(self):
        ratios = geometry.length_ratios(mlp(), torch.ones(1, 4, 3, dtype=torch.float64))
        assert ratios.latent.isnan().all()
        assert ratios.observation.isnan().all()
        none = geometry.length_ratios(mlp(), torch.ones(0, 4, 3, dtype=torch.float64))
        assert none.latent.shape == none.observation.shape == (0,)


class TestEquidistanceLines:
    directions = geometry.circle_directions(16)

    def straight_rays(self, centre: Tensor, reach: float, points: int) -> Tensor:
        return geometry.straight_line(centre, centre + reach * self.directions, points)

    def test_are_circles_in_a_flat_space_and_end_with_their_rays(self):
        centre = torch.tensor([0.3, -0.2], dtype=torch.float64)
        rays = self.straight_rays(centre, 2.0, 50)
        distances = torch.tensor([0.0, 1.0, 4.0, 6.0])  # the rays reach 2 * 2.5 = 5
        lines = geometry.equidistance_lines(scaled_isometry(2, 2.5), rays, distances)
        assert lines.shape == (4, 16, 2)
        radius = (lines - centre).norm(dim=-1)
        expected = (distances[:3, None] / 2.5).double().expand(3, 16)
        torch.testing.assert_close(radius[:3], expected)
        assert lines[3].isnan().all()

    def test_lie_at_their_distance_along_straight_rays(self):
        decoder, centre = mlp(d_z=2), torch.zeros(2, dtype=torch.float64)
        rays = self.straight_rays(centre, 3.0, 800)
        with torch.no_grad():
            line = geometry.equidistance_lines(decoder, rays, torch.tensor([0.2]))[0]
            out = geometry.straight_line(centre.expand(16, -1), line, 800)
            lengths = geometry.riemannian_length(decoder, out)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 0.2), rtol=1e-4, atol=0)

    def test_geodesics_of_polar_coordinates_are_the_planes_lines(self):
        centre = torch.tensor([2.0, 0.4], dtype=torch.float64)
        rays = geometry.geodesic_rays(polar, centre, self.directions, length=1.2, steps=60)
        seen = polar(rays) - polar(centre)  # (16, 61, 2)
        along = torch.linspace(0, 1.2, 61, dtype=torch.float64)
        torch.testing.assert_close(seen, seen[:, -1:] * along[:, None] / 1.2, rtol=0, atol=1e-5)
        line = geometry.equidistance_lines(polar, rays, torch.tensor([1.0]))[0]
        away = (polar(line) - polar(centre)).norm(dim=-1)
        torch.testing.assert_close(away, torch.ones_like(away), rtol=1e-4, atol=0)

    def test_geodesics_of_the_sphere_are_great_circles_at_unit_speed(self):
        centre = torch.tensor([1.3, 0.2], dtype=torch.float64)
        rays = geometry.geodesic_rays(sphere, centre, self.directions, length=1.0, steps=50)
        angle = (sphere(rays) * sphere(centre)).sum(-1).clamp(-1, 1).acos()  # (16, 51)
        expected = torch.linspace(0, 1, 51, dtype=torch.float64).expand(16, -1)
        torch.testing.assert_close(angle, expected, rtol=0, atol=1e-6)

    def test_a_geodesic_is_no_longer_than_the_straight_line(self):
        decoder, centre = mlp(d_z=2), torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            rays = geometry.geodesic_rays(decoder, centre, self.directions, length=0.3, steps=40)
            ratios = geometry.length_ratios(decoder, rays)
            lengths = geometry.riemannian_length(decoder, rays)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 0.3), rtol=1e-4, atol=0)
        assert (ratios.observation >= 1 - 1e-6).all()
        assert ratios.observation.max() > 1.001  # it bends: the test means something

    def test_a_direction_without_change_has_no_ray(self):
        rays = geometry.geodesic_rays(
            lambda z: z[:, :1], torch.zeros(2), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), length=1.0
        )
        torch.testing.assert_close(rays[0, -1], torch.tensor([1.0, 0.0]))
        line = geometry.equidistance_lines(lambda z: z[:, :1], rays, torch.tensor([0.5]))[0]
        torch.testing.assert_close(line[0], torch.tensor([0.5, 0.0]))
        assert line[1].isnan().all()

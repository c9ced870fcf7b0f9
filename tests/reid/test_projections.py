"""PCA and whitening: numpy's SVD as oracle, whitened covariance, invariances, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import special_ortho_group

from reid.descriptors import ColourStripes
from reid.projections import (
    Projected,
    Projection,
    fit_pca,
    fit_whitening,
    within_covariance,
)
from trackvae.errors import InputError, UsageError


def people(seed=0, count=40, crops=12, dim=10):
    """Features of tracklets: a centre each, and noise that is larger in some directions."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, crops, dim)) * np.linspace(0.1, 2, dim)
    features = rng.standard_normal((count, 1, dim)) + noise
    return features.reshape(-1, dim).astype(np.float32), np.repeat(np.arange(count), crops)


class TestPca:
    @pytest.mark.parametrize("shape", [(200, 12), (15, 60)], ids=["tall", "wide"])
    def test_equals_numpys_svd(self, shape):
        features = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        pca = fit_pca(features, 5)
        centred = features - features.mean(axis=0)
        _, _, rows = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
        cosines = np.abs((pca.matrix * rows[:5].T).sum(axis=0))
        np.testing.assert_allclose(cosines, 1, atol=1e-5)
        np.testing.assert_allclose(np.abs(pca.apply(features)), np.abs(centred @ rows[:5].T), 1e-3)

    def test_of_many_columns_equals_the_decomposition_in_full(self):
        """1,200 columns and samples: only the leading directions are computed."""
        rng = np.random.default_rng(1)
        low = rng.standard_normal((1200, 6)) * np.arange(9, 3, -1)
        features = low @ rng.standard_normal((6, 1200)) + rng.standard_normal((1200, 1200))
        pca = fit_pca(features.astype(np.float32), 6)
        product = np.cov(features.T)
        captured = np.trace(pca.matrix.T @ product @ pca.matrix)
        assert captured == pytest.approx(np.linalg.eigvalsh(product)[-6:].sum(), rel=1e-4)

    def test_columns_that_never_vary_count_for_nothing(self):
        features, _ = people()
        padded = np.insert(features, [3, 7], 5.0, axis=1)
        a, b = fit_pca(features, 4).apply(features), fit_pca(padded, 4).apply(padded)
        np.testing.assert_allclose(np.abs(a), np.abs(b), atol=1e-4)

    def test_keeps_no_more_directions_than_there_are(self):
        features = np.random.default_rng(0).standard_normal((4, 30))
        assert fit_pca(features, 128).matrix.shape == (30, 3)
        line = np.linspace(0, 1, 20)[:, None] * np.arange(1, 6)
        assert fit_pca(line, 128).matrix.shape == (5, 1)


class TestWhitening:
    def test_makes_the_covariance_within_tracklets_the_identity(self):
        features, tracklets = people()
        whitened = fit_whitening(features, tracklets, ridge=0).apply(features)
        np.testing.assert_allclose(within_covariance(whitened, tracklets), np.eye(10), atol=1e-4)

    def test_with_a_ridge_no_direction_varies_more_than_without(self):
        features, tracklets = people()
        whitened = fit_whitening(features, tracklets, ridge=0.3).apply(features)
        values = np.linalg.eigvalsh(within_covariance(whitened, tracklets))
        assert 0 < values[0] < values[-1] < 1

    def test_is_blind_to_rotation(self):
        features, tracklets = people()
        turned = features @ special_ortho_group.rvs(10, random_state=0)
        a = fit_whitening(features, tracklets).apply(features)
        b = fit_whitening(turned, tracklets).apply(turned)
        np.testing.assert_allclose(pdist(a), pdist(b), rtol=1e-3)

    def test_without_ridge_is_blind_to_scale_of_each_feature(self):
        features, tracklets = people()
        scaled = features * np.linspace(0.5, 3, 10)
        a = fit_whitening(features, tracklets, ridge=0).apply(features)
        b = fit_whitening(scaled, tracklets, ridge=0).apply(scaled)
        np.testing.assert_allclose(pdist(a), pdist(b), rtol=1e-3)

    def test_finds_neighbours_that_noise_had_hidden(self):
        """One direction tells people apart; another is ten times as loud and tells nothing."""
        rng = np.random.default_rng(0)
        who = np.repeat(np.arange(30), 10)
        quiet = who + 0.05 * rng.standard_normal(300)
        features = np.stack([quiet, 100 * rng.standard_normal(300)], axis=1)

        def share_of_right_neighbours(vectors):
            distances = np.square(vectors[:, None] - vectors).sum(axis=2)
            np.fill_diagonal(distances, np.inf)
            return (who[distances.argmin(axis=1)] == who).mean()

        projection = fit_whitening(features, who, ridge=0)
        assert share_of_right_neighbours(features) < 0.5
        assert share_of_right_neighbours(projection.apply(features)) > 0.95

    def test_one_tracklet_is_enough(self):
        features, _ = people(count=1)
        whitened = fit_whitening(features, np.zeros(12, int)).apply(features)
        assert np.isfinite(whitened).all()

    def test_short_tracklets_do_not_enter_the_covariance(self):
        features, tracklets = people(count=3)
        wild = np.random.default_rng(1).standard_normal((4, 10)) * 1000
        with_short = np.concatenate([features, wild])
        names = np.concatenate([tracklets, np.full(4, 99)])
        np.testing.assert_allclose(
            within_covariance(with_short, names), within_covariance(features, tracklets)
        )

    def test_pooled_covariance_equals_a_naive_loop(self):
        features, tracklets = people(count=5, crops=6, dim=3)
        total = np.zeros((3, 3))
        for tracklet in range(5):
            own = features[tracklets == tracklet].astype(np.float64)
            for row in own - own.mean(axis=0):
                total += np.outer(row, row)
        np.testing.assert_allclose(within_covariance(features, tracklets), total / (30 - 5))


class TestRefuses:
    def test_tracklets_that_are_too_short(self):
        features, _ = people(count=5, crops=4)
        with pytest.raises(InputError, match="the longest 4, none of 5 or more"):
            fit_whitening(features, np.repeat(np.arange(5), 4))

    def test_tracklets_within_which_nothing_varies(self):
        features = np.repeat(np.random.default_rng(0).standard_normal((4, 6)), 8, axis=0)
        with pytest.raises(InputError, match="nothing varies within any tracklet"):
            fit_whitening(features, np.repeat(np.arange(4), 8))

    @pytest.mark.parametrize("fit", [fit_pca, lambda f: fit_whitening(f, np.zeros(len(f)))])
    @pytest.mark.parametrize(
        ("features", "says"),
        [
            (np.ones((9, 4)), "the same"),
            (np.ones((1, 4)), "at least 2"),
            (np.ones(4), "shape"),
            (np.array([[1.0, np.nan], [0, 1]]), "NaN"),
        ],
        ids=["constant", "one", "flat", "nan"],
    )
    def test_features_that_teach_nothing(self, fit, features, says):
        with pytest.raises(InputError, match=says):
            fit(features)

    def test_a_singular_covariance_without_ridge(self):
        features = np.random.default_rng(0).standard_normal((6, 20))
        with pytest.raises(InputError, match="ridge"):
            fit_whitening(features, np.repeat([0, 1], [5, 1]), ridge=0)

    def test_settings_that_mean_nothing(self):
        features, tracklets = people()
        with pytest.raises(UsageError, match="dim is 0"):
            fit_pca(features, 0)
        with pytest.raises(UsageError, match="ridge is -1"):
            fit_whitening(features, tracklets, ridge=-1)


class TestProjection:
    def test_comes_back_from_its_file(self, tmp_path):
        features, tracklets = people()
        projection = fit_whitening(features, tracklets)
        projection.save(tmp_path / "p.npz")
        found = Projection.load(tmp_path / "p.npz")
        np.testing.assert_array_equal(found.apply(features), projection.apply(features))
        assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]

    @pytest.mark.parametrize(
        ("arrays", "says"),
        [
            ({"mean": np.zeros(3)}, "found mean"),
            ({"mean": np.zeros(3), "matrix": np.zeros((4, 2))}, r"\(4, 2\)"),
            ({"mean": np.zeros(3), "matrix": np.full((3, 2), np.nan)}, "finite"),
            ({"mean": np.zeros(3), "matrix": np.full((3, 2), "a")}, "not numbers"),
        ],
        ids=["missing", "shapes", "nan", "text"],
    )
    def test_refuses_a_file_of_something_else(self, tmp_path, arrays, says):
        np.savez(tmp_path / "p.npz", **arrays)
        with pytest.raises(InputError, match=says):
            Projection.load(tmp_path / "p.npz")

    def test_refuses_features_of_another_length(self):
        features, _ = people()
        with pytest.raises(InputError, match=r"expects \(N, 10\)"):
            fit_pca(features).apply(np.zeros((2, 9)))

    def test_behind_a_descriptor_is_a_descriptor(self):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (90, 160, 3)).astype(np.uint8)
        corners = rng.uniform(0, 60, (30, 2))
        boxes = np.hstack([corners, corners + 30])
        stripes = ColourStripes()
        projection = fit_pca(stripes(image, boxes), 8)
        projected = Projected(stripes, projection)
        assert projected.dim == 8
        expected = projection.apply(stripes(image, boxes[:3]))
        np.testing.assert_allclose(projected(image, boxes[:3]), expected, atol=1e-6)
        with pytest.raises(InputError, match="gives 4096 numbers"):
            Projected(ColourStripes(bins=8), projection)

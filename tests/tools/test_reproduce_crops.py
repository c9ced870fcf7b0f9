"""``flatness-high-d``: what is measured of G, which runs are made, and a tiny run of all."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from tools.reproduce import flat_crops  # noqa: E402
from tools.reproduce.experiment import Context  # noqa: E402
from tools.reproduce.flat_crops import Plan, metric_figures  # noqa: E402


def context(folder, **changes):
    settings = {
        "quick": True,
        "seeds": (0, 1),
        "work": folder / "work",
        "figures": folder / "figures",
        "data": folder / "nothing",
        "say": lambda line: None,
    }
    return Context(**{**settings, **changes})


class TestMetric:
    def test_of_a_linear_decoder_is_its_singular_values_squared(self):
        """Scales 3, 2, 1: eigenvalues 9, 4, 1; c^2 = 14 / 3; condition number 9."""
        scales = torch.tensor([1.0, 3.0, 2.0])
        found = metric_figures(lambda z: torch.cat([z * scales, 0 * z], 1), torch.randn(20, 3))
        c2 = 14 / 3
        assert found["condition"] == pytest.approx(9, rel=1e-5)
        assert found["condition_90"] == pytest.approx(9, rel=1e-5)
        assert found["scale"] == pytest.approx(c2)
        for line in found["spectrum"]:  # every point has the same G, so do the quartiles
            assert line == pytest.approx([9 / c2, 4 / c2, 1 / c2], rel=1e-5)
        expected = sum((value / c2 - 1) ** 2 for value in (9, 4, 1)) / 3
        assert found["flatness"] == pytest.approx(expected, rel=1e-5)

    def test_is_a_median_over_points(self):
        """The decoder z -> (z1, z2^2 / 2) has G = diag(1, z2^2): condition number max / min."""
        z = torch.tensor([[0.0, 2.0], [0.0, 3.0], [0.0, 10.0]], dtype=torch.float64)
        found = metric_figures(lambda r: torch.stack([r[:, 0], r[:, 1] ** 2 / 2], 1), z)
        assert found["condition"] == pytest.approx(9)

    def test_of_a_decoder_that_ignores_a_dimension_can_be_written(self):
        found = metric_figures(lambda z: z * torch.tensor([1.0, 0.0]), torch.randn(4, 2))
        assert found["condition"] == 1e15
        json.dumps(found, allow_nan=False)


def test_every_dimension_is_trained_with_and_without_and_the_most_with_every_seed(tmp_path):
    plan = Plan({16: 0.02, 128: 0.01}, {16: 5, 128: 5})
    jobs = flat_crops._jobs(context(tmp_path, quick=False), plan)
    for dims in (16, 128):
        assert {(dims, "none", 0), (dims, "random-projection", 0)} <= set(jobs)
    assert {(128, "none", 1), (128, "random-projection", 1)} <= set(jobs)
    assert len(set(jobs)) == len(jobs)


def test_a_run_measures_both_models_and_is_not_repeated(tmp_path, monkeypatch):
    """The made street stands in for the sequences, and the results say so."""
    sizes = {"batch": 8, "rows": 2, "points": 6, "repeats": 1, "side": 16}
    plan = Plan({4: 0.05}, {4: 3}, compared=4, **sizes)
    monkeypatch.setattr(flat_crops, "QUICK", plan)
    said = []
    outcome = flat_crops.run(context(tmp_path, seeds=(0,), say=said.append))
    assert outcome.config["data"] == "made stand-in (made-street)"
    conditions = {
        found["method"]: found["ours"]["median"]
        for found in outcome.rows
        if found["metric"] == "condition number, held-out samples"
    }
    assert {"VHP-VAE, 4-d", "VHP-FMVAE, 4-d"} <= set(conditions)
    assert all(value >= 1 for value in conditions.values())
    costs = [found for found in outcome.rows if found["metric"].startswith("cost")]
    assert all(found["ours"]["median"] > 0 for found in costs)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "cost.png",
        "reconstructions.png",
        "spectra.png",
        "straight-lines.png",
    ]
    json.dumps([outcome.rows, outcome.config, outcome.more], allow_nan=False)
    trained = [line for line in said if line.endswith("...")]
    said.clear()
    again = flat_crops.run(context(tmp_path, seeds=(0,), say=said.append))
    assert trained
    assert not [line for line in said if line.endswith("...")]
    assert again.rows == outcome.rows

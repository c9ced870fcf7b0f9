"""Tables 5.1 and 5.2 and the graphs of figures 3.6 to 3.11: laws of their protocol."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tools.reproduce.experiment import Context
from tools.reproduce.flatness import (
    PERCENTILES,
    Protocol,
    label_frames,
    measure_part,
    metric_rows,
    pairs,
    ratio_rows,
    ring_ends,
    train_part,
    uniform_nodes,
)
from tools.reproduce.interpolation import graph_curves, prior_graph
from tools.reproduce.latent_figures import common_top
from tools.reproduce.movement_figures import find_jumps
from trackvae.config import ModelConfig
from trackvae.distributions import Gaussian
from trackvae.likelihoods import GaussianLikelihood
from training.data import DataSet, Standardisation

SMALL = Protocol(nodes=400, neighbours=(12, 32), pairs=20, samples=50, frames=20)


class Projection:
    """A model whose encoder is ``z = E x`` and whose decoder is ``x = bend(D z)``."""

    def __init__(self, decode):
        self.decode = self.decoder = decode
        self.likelihood = GaussianLikelihood()

    def encode(self, x):
        return Gaussian(x[:, :2] / 3.0, torch.zeros(len(x), 2))


def flat(z):
    """``c = 3``: the metric is 9 everywhere."""
    return torch.cat([3.0 * z, torch.zeros(len(z), 3)], dim=1)


def bent(z):
    """Twice as long along one axis, and folded in a further dimension."""
    return torch.cat([3.0 * z * torch.tensor([1.0, 2.0]), (6 * z[:, :1]).sin(), 3.0 * z], dim=1)


def plane(count=400, seed=0):
    """Points of a plane in five dimensions, in two classes."""
    x = np.zeros((count, 5), dtype=np.float32)
    x[:, :2] = 3.0 * np.random.default_rng(seed).random((count, 2))
    kinds = (x[:, 0] > 1.5).astype(np.int64)
    half = count // 2
    return DataSet(
        name="plane",
        train=x[:half],
        validation=x[:0],
        test=x[half:],
        labels={"train": kinds[:half], "test": kinds[half:], "validation": kinds[:0]},
        label_names=("left", "right"),
        standardisation=Standardisation(np.zeros(5), np.ones(5)),
    )


def context(folder):
    return Context(True, (0,), folder / "work", folder / "figures", folder / "none", lambda _: None)


def measure(folder, decode, name):
    settings = {"train": {"seed": 0}}
    return measure_part(context(folder), name, {}, settings, Projection(decode), plane(), SMALL)


def test_a_flat_model_is_measured_as_flat(tmp_path):
    """Condition number and MF 1, both ratios at the graph's floor, straight movements."""
    found = measure(tmp_path, flat, "flat")
    for place in ("at data", "between"):
        assert found[place]["condition"] == pytest.approx([1.0] * len(PERCENTILES), abs=1e-4)
        assert found[place]["magnification"] == pytest.approx([1.0] * len(PERCENTILES), abs=1e-4)
    for k in ("12", "32"):
        ratios = found["ratios"][k]
        assert ratios["latent"] == pytest.approx(ratios["floor"], abs=1e-4)
        assert ratios["observation"] == pytest.approx(ratios["floor"], abs=1e-4)
    assert np.mean(found["ratios"]["32"]["floor"]) > np.mean(found["ratios"]["12"]["floor"])
    assert found["smoothness"]["mean"] == pytest.approx([0.0] * 5, abs=1e-5)
    assert found["test_error"] == pytest.approx(0.0, abs=1e-10)


def test_a_bent_model_is_measured_as_bent(tmp_path):
    """G = diag(18 + 36 cos², 45): known at each point, here by its extremes."""
    found = measure(tmp_path, bent, "bent")
    least, most = found["at data"]["condition"][0], found["at data"]["condition"][-1]
    assert 1.0 <= least < most <= 45 / 18 + 1e-3
    assert found["at data"]["magnification"][0] < 1 < found["at data"]["magnification"][-1]
    assert max(found["smoothness"]["mean"]) > 1e-3
    ratios = found["ratios"]["32"]
    assert (np.array(ratios["latent"]) <= np.array(ratios["floor"]) + 1e-6).all()
    assert np.mean(ratios["observation"]) >= np.mean(ratios["floor"]) - 1e-3


def test_what_was_measured_is_not_measured_again(tmp_path):
    first = measure(tmp_path, flat, "model")
    assert measure(tmp_path, bent, "model") == first  # same part, same settings: from disk


def test_training_is_taken_up_from_disk(tmp_path):
    """A second call trains nothing: the same weights, the same report."""
    data = plane()
    model = ModelConfig(observation=(5,), hidden=(8,), prior_hidden=(8,), activation="silu")
    settings = {
        "model": model.to_dict(),
        "schedule": {"kind": "rewo", "kappa": 9.0, "relative": True},
        "train": {"steps": 12, "batch_size": 16, "seed": 3},
        "flatness": {"eta": 1.0},
        "data": "plane",
    }
    said = []
    here = Context(True, (0,), tmp_path, tmp_path, tmp_path, said.append)
    first, ended = train_part(here, "model", settings, data)
    again, same = train_part(here, "model", settings, data)
    assert said == ["model ..."]
    assert same == ended
    assert np.isfinite([ended["error"], ended["rate"], ended["beta"]]).all()
    weights = again.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in first.state_dict().items())
    other, _ = train_part(here, "model", {**settings, "flatness": None}, data)
    assert len(said) == 2
    changed = other.state_dict()
    assert any(not torch.equal(value, changed[name]) for name, value in weights.items())


def test_rows_give_the_thesis_figure_beside_the_thesis_graph_only():
    ratios = {"latent": [0.9, 1.0], "observation": [1.1, 1.3], "floor": [0.96, 0.98]}
    measured = [{"ratios": {"12": ratios, "32": ratios}}]
    rows = ratio_rows("M", measured, SMALL, {"latent": "0.93", "observation": "1.02"})
    thesis = {row["metric"]: row["thesis"] for row in rows}
    assert thesis["length ratio, latent (12 neighbours)"] == "0.93"
    assert thesis["length ratio, observation (12 neighbours)"] == "1.02"
    assert thesis["length ratio, latent (32 neighbours)"] is None
    ours = {row["metric"]: row for row in rows}["length ratio, observation (12 neighbours)"]
    assert ours["ours"]["median"] == pytest.approx(1.2)
    assert ours["std_of_pairs"] == pytest.approx(0.1)


def test_rows_of_the_metric_by_hand():
    """Quartiles 0.8 and 1.2 of the MF: a ratio of 1.5; the median condition number is 2."""
    place = {"condition": [1, 1.5, 2, 3, 9], "magnification": [0.5, 0.8, 1.0, 1.2, 2.0]}
    rows = metric_rows("M", [{"at data": place, "between": place}])
    assert [row["ours"]["median"] for row in rows] == pytest.approx([2, 1.5, 2, 1.5])
    assert rows[0]["quartiles"] == [1.5, 3]


def test_nodes_fill_the_box_of_the_data_and_little_more():
    z = torch.rand(100, 2) * torch.tensor([2.0, 10.0])
    nodes = uniform_nodes(z, 5_000, 0)
    extent, wanted = nodes.amax(0) - nodes.amin(0), z.amax(0) - z.amin(0)
    assert torch.allclose(extent, 1.1 * wanted, rtol=0.01)
    assert (nodes.amin(0) < z.amin(0)).all()


def test_pairs_are_of_different_points():
    z = torch.arange(6.0)[:, None]
    start, end = pairs(z, 200, 0)
    assert (start != end).all()
    assert set(start.ravel().tolist()) == set(range(6))


def test_typical_frames_are_of_their_label_and_lines_go_round():
    data = plane()
    rows = label_frames(data, (0, 1))
    assert data.labels["test"][rows].tolist() == [0, 1]
    for label, chosen in enumerate(rows):
        of_it = data.test[data.labels["test"] == label]
        distance = np.linalg.norm(of_it - np.median(of_it, axis=0), axis=1)
        middle = np.median(of_it, axis=0)
        assert np.linalg.norm(data.test[chosen] - middle) == pytest.approx(distance.min())
    start, end = ring_ends(Projection(flat), data, (0, 1))
    assert torch.equal(start, end.flip(0))


def test_colours_are_equal_multiples_of_the_mean_at_the_data():
    """A model twice as large everywhere gets a scale twice as long."""
    grid = np.array([[1.0, 4.0], [2.0, 8.0]])
    assert common_top(grid, mean=3.0, reference_mean=2.0) == pytest.approx(12.0)


def test_jumps_are_steps_that_stand_out():
    steps = np.array([1.0, 1.1, 0.9, 6.0, 1.0, 1.0])
    frames = np.concatenate([[0.0], np.cumsum(steps)])[:, None] * np.ones((1, 4))
    assert find_jumps(frames) == [3]
    assert find_jumps(np.arange(9.0)[:, None]) == []


def clusters(gap):
    def sample(count, generator):
        z = torch.rand(count, 2, generator=generator)
        z[count // 2 :, 0] += gap
        return z

    return SimpleNamespace(prior=SimpleNamespace(sample=sample))


@pytest.mark.parametrize(("gap", "in_parts"), [(0.5, False), (9.0, True)])
def test_paths_between_clusters_of_the_prior(gap, in_parts):
    """Far clusters are bridged, which is said, and the path jumps once."""
    graph, bridged = prior_graph(clusters(gap), 300, 8, 0)
    assert bridged == in_parts
    start, end = torch.tensor([[0.2, 0.5]]), torch.tensor([[gap + 0.8, 0.5]])
    (curve,) = graph_curves(graph, start, end, 40)
    assert torch.allclose(curve[0], start[0], atol=1e-6)
    assert torch.allclose(curve[-1], end[0], atol=1e-5)
    middle = (curve[:, 0] > 1.0) & (curve[:, 0] < gap)
    assert bool(middle.any()) == in_parts

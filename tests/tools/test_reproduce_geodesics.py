"""Figures 5.1 to 5.12 and the continuous ratios: laws of their protocol, on tiny models."""

import numpy as np
import pytest
import torch

from tools.benchmark.geodesics import Contender, measured, ours
from tools.reproduce.command import EXPERIMENTS
from tools.reproduce.experiment import Context
from tools.reproduce.geodesic_arm import end_effector
from tools.reproduce.geodesic_digits import accuracy, distances_between
from tools.reproduce.geodesic_models import Recipe, iwae_settings, resampled, spread_rows
from tools.reproduce.geodesic_pendulum import pairs_of_angles
from tools.reproduce.geodesic_ratios import measure
from tools.reproduce.geodesic_study import (
    NAMES,
    ON_DATA,
    QUICK,
    SHORTEST,
    Protocol,
    common_rows,
    determination,
    drawn_pair,
    figures_of,
    shorter,
    ways,
)
from tools.reproduce.geodesic_variance import VARIANCE, variance_part, variance_rows
from trackvae.config import ModelConfig, build
from trackvae.geometry import straight_line
from training.data import pendulum
from training.data.arm import arm, forward_kinematics
from training.geodesics import Path, neighbour_graph, riemannian, solve

torch.set_num_threads(1)
TINY = Protocol(6, 150, 8, 16, 15)


def a_model(observation=(4,), **more):
    torch.manual_seed(0)
    settings = {"hidden": (12,), "activation": "tanh", "prior": "normal", "sigma": 0.2}
    return build(ModelConfig(observation, **{**settings, **more})).eval().requires_grad_(False)


def normal(count, seed=0):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def studied():
    model = a_model()
    start, end = normal(6, 1), normal(6, 2)
    return model, start, end, ways(model, normal(150), start, end, TINY)


def test_the_shortest_way_is_never_longer_than_the_others(studied):
    _, start, end, found = studied
    shortest, on_data = found[SHORTEST], found[ON_DATA]
    assert (shortest.length <= shortest.straight * (1 + 1e-3)).all()
    assert (shortest.length <= on_data.length * (1 + 1e-2)).all()
    for geodesics in found.values():
        assert torch.equal(geodesics.curves[:, 0], start)
        assert torch.equal(geodesics.curves[:, -1], end)
    assert (on_data.speed_variation < 0.1).all()


def test_of_two_searches_each_pair_keeps_the_shorter(studied):
    model, start, end, found = studied
    longer = solve(model.decode, start, end, Path(TINY.points), initial=bent)
    kept = shorter(longer, found[SHORTEST])
    assert torch.equal(kept.length, torch.minimum(longer.length, found[SHORTEST].length))
    assert (kept.length < longer.length).all()
    assert kept.outcome == found[SHORTEST].outcome


def bent(start, end, points):
    from training.geodesics.solve import Beginning

    t = torch.linspace(0, 1, points)[:, None]
    lines = straight_line(start, end, points) + 2 * t * (1 - t)
    return Beginning(lines[None], ("",) * len(start))


def varied(straight, length, mean_length):
    """What the metric with the variance measured, of pairs with these lengths."""
    return {
        "straight": straight,
        "length": length,
        "mean_length": mean_length,
        "variation": [0.01, 0.03],
        "converged": 0.5,
        "centres": 12,
        "sigma": {"on the data": 0.1, "far from them": 3.0},
    }


def test_ratios_are_taken_within_one_metric():
    """Two pairs: by the mean 4/2 and 6/3; with the variance 9/3 and 5/5."""
    both = varied([9.0, 5.0], [3.0, 5.0], [2.0, 3.0])
    rows = variance_rows([{"straight": [4.0, 6.0], VARIANCE: both}], [1], (0.827, 0.538), "m")
    found = {(r["method"], r["metric"]): r["ours"]["median"] for r in rows}
    ratio = "length of the straight line / of the geodesic"
    assert found[NAMES[VARIANCE], "length of the drawn pair (m)"] == 3
    assert found["straight line", "length of the drawn pair with the variance (m)"] == 5
    assert found[NAMES[VARIANCE], "length of the drawn pair with the variance (m)"] == 5
    assert found[NAMES[VARIANCE], f"{ratio}, mean over pairs"] == 2
    assert found[NAMES[VARIANCE], f"{ratio}, both with the variance, mean over pairs"] == 2
    assert found[NAMES[VARIANCE], f"{ratio}, both with the variance, median over pairs"] == 2


def test_with_the_variance_the_ways_keep_to_a_ring(tmp_path):
    """A decoder that is linear: its own shortest ways are chords."""
    angle = torch.linspace(0, 2 * np.pi, 301)[:-1]
    z = torch.stack([angle.cos(), angle.sin()], dim=1)

    class Plane:
        def decode(self, z):
            return torch.cat([z, z], dim=1)

    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    x = (Plane().decode(z) + 0.02 * noise).numpy()
    context = Context(True, (0,), tmp_path, tmp_path, tmp_path, say=lambda _: None)
    ends = z[[0, 40]], z[[110, 120]]
    found = variance_part(
        context,
        {"seed": 0},
        Plane(),
        (z, x),
        ends,
        lambda decoder: neighbour_graph(z, 6, riemannian(decoder)),
        lambda curves: {"inside": curves.curves.norm(dim=-1).amin(1).tolist()},
    )[VARIANCE]
    assert min(found["inside"]) > 0.8
    arcs = np.sqrt(2) * np.radians([110 * 1.2, 80 * 1.2])
    assert np.allclose(found["mean_length"], arcs, rtol=0.15)
    assert (np.array(found["straight"]) > 1.2 * np.array(found["length"])).all()
    assert found["sigma"]["far from them"] > 10 * found["sigma"]["on the data"]


def test_rows_hold_both_lengths_beside_the_thesis(studied):
    figures = figures_of(studied[3]) | {"network": {"plain": 1.5, "smoothed": 1.7}}
    figures[VARIANCE] = varied(*[figures["straight"]] * 3)
    rows = common_rows([figures, figures], (0.827, 0.538), "pixels")
    pair = drawn_pair(figures)
    ratio = np.array(figures["straight"]) / np.array(figures[SHORTEST]["length"])
    assert ratio[pair] == ratio.max()
    lengths = [r for r in rows if r["metric"] == "length of the drawn pair (pixels)"]
    assert [r["thesis"] for r in lengths] == [0.827, *[0.538] * 5]
    assert lengths[0]["ours"]["values"] == [figures["straight"][pair]] * 2
    assert [r["ours"]["median"] for r in lengths[3:5]] == [1.5, 1.7]


def test_the_determination_is_that_of_the_fitted_line():
    rng = np.random.default_rng(0)
    x = rng.random(50)
    y = 3 * x + rng.normal(0, 0.2, 50)
    fitted = np.polyval(np.polyfit(x, y, 1), x)
    residual = ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    assert determination(x, y) == pytest.approx(1 - residual)


def test_turns_are_in_the_thesiss_range():
    start, turn = pairs_of_angles(1_000, 0)
    assert turn.min() > 0
    assert turn.max() <= np.pi
    assert start.max() < 2 * np.pi
    assert turn.mean() == pytest.approx(np.pi / 2, rel=0.05)


def test_a_vote_by_hand():
    apart = np.array([[0.1, 0.2, 0.3, 0.9], [0.9, 0.5, 0.4, 0.1]])
    labels = np.array([1, 0, 0, 2])
    assert accuracy(apart, labels, np.array([1, 2]), 1) == 1.0
    assert accuracy(apart, labels, np.array([0, 0]), 3) == 1.0  # of the second: 2, 0, 0
    assert accuracy(apart, labels, np.array([1, 2]), 3) == 0.0
    assert accuracy(apart, labels, np.array([0, 1]), 4) == 0.5


def test_distances_on_a_graph_are_those_of_its_paths():
    model = a_model()
    graph = neighbour_graph(normal(100), 6, riemannian(model.decode))
    start, end = normal(3, 1), normal(4, 2)
    found = distances_between(graph, start, end)
    whole = graph.with_points(torch.cat([start, end]))
    (path,) = whole.shortest_paths([101], [105])
    assert found.shape == (3, 4)
    assert found[1, 2] == pytest.approx(path.cost)


def test_encodings_are_resampled_by_their_weights():
    """A decoder that knows z exactly: what is drawn is the z that explains x."""
    model = a_model(hidden=(), sigma=0.02)
    z = normal(20)
    x = model.decode(z)
    drawn = resampled(model, x.numpy(), 0)
    assert drawn.shape == (20, 2)
    of_mean = (model.decode(model.encode(x).mean) - x).square().sum(1)
    of_drawn = (model.decode(drawn) - x).square().sum(1)
    assert of_drawn.mean() < of_mean.mean()
    assert torch.equal(drawn, resampled(model, x.numpy(), 0))


def test_rows_are_spread_without_repeats():
    rows = spread_rows(50, 20, 3)
    assert len(set(rows.tolist())) == 20
    assert (np.diff(rows) > 0).all()
    assert spread_rows(5, 20, 3).tolist() == [0, 1, 2, 3, 4]


def test_the_arm_is_decoded_in_its_own_unit():
    data = arm(200, 10)

    class Known:
        def decode(self, z):
            return torch.from_numpy(data.train)[z[:, 0].long()]

    z = torch.arange(5.0)[:, None]
    raw = data.standardisation.undo(data.train[:5].astype(np.float64))
    assert np.allclose(end_effector(Known(), data, z), forward_kinematics(raw)[0], atol=1e-6)


def test_settings_are_an_iwaes():
    data = pendulum(50)
    recipe = Recipe((8, 4), 5, 0.1, 100, 10)
    full, quick = (iwae_settings(recipe, data, 3, quick=q) for q in (False, True))
    assert full["model"]["prior"] == "normal"
    assert full["model"]["hidden"] == [8, 4]
    assert (full["train"]["samples"], full["train"]["seed"]) == (5, 3)
    assert (full["train"]["steps"], quick["train"]["steps"]) == (100, 10)


def test_ratios_of_a_flat_decoder_are_one_but_for_the_graphs_floor():
    from types import SimpleNamespace

    Q = torch.linalg.qr(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)))[0]
    z = torch.rand(400, 2, generator=torch.Generator().manual_seed(1))

    class Flat(torch.nn.Module):
        def encode(self, x):
            return SimpleNamespace(mean=x)

        def decode(self, z):
            return 3 * z @ Q.mT

    data = SimpleNamespace(values=lambda part: z.numpy())
    found = measure(Flat(), data, Protocol(20, 300, 12, 32, 20), 0)
    for space in ("latent", "observation"):
        assert np.allclose(found["continuous"][space], 1, atol=2e-3)
        assert np.mean(found["graph"][space]) == pytest.approx(np.mean(found["floor"]), abs=0.01)
        assert np.mean(found["graph"][space]) < 0.985
    assert found["converged"] == 1.0


def test_the_experiments_are_registered_and_quick_is_small():
    names = ("figures-5.1-5.3", "figures-5.4-5.6", "figures-5.7-5.9", "figures-5.10-5.12")
    assert set(names) | {"geodesic-ratios"} <= set(EXPERIMENTS)
    assert QUICK.pairs * QUICK.points <= 400


def test_the_benchmark_judges_curves_by_the_shortest():
    model = a_model()
    start, end = normal(4, 1), normal(4, 2)
    crooked = Contender("crooked", lambda: bent(start, end, 40).candidates[0], 2)
    batched = ours(model.decode, start, end, 2)[0]
    rows = measured(model.decode, (start, end), [batched, crooked])
    assert [row["method"] for row in rows] == [batched.name, "crooked"]
    assert rows[0]["excess"] == pytest.approx(0, abs=1e-6)
    assert rows[1]["excess"] > 0.02
    assert rows[1]["worst"] >= rows[1]["excess"]
    assert len(rows[1]["seconds"]["values"]) == 2

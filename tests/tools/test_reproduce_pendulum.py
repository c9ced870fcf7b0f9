"""Table 3.1: the angle's error on rings made by hand, and the experiment with a tiny budget."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from tools.reproduce import angles, pendulum
from tools.reproduce.experiment import Context
from training import monitors

RNG = np.random.default_rng(0)
TRAIN, TEST = RNG.uniform(0, 2 * np.pi, 800), RNG.uniform(0, 2 * np.pi, 200)
PREDICTIONS = [
    angles.circular_prediction,
    angles.polar_prediction,
    lambda *places: angles.polar_prediction(*places, one_radius=True),
]


def error(predict, ring):
    return angles.absolute_error(predict(ring(TRAIN), TRAIN, ring(TEST)), TEST)


def ring(scale=1.0, shift=0.0, turn=0.0, sense=1):
    def points(angle):
        phi = sense * angle + turn
        return scale * np.c_[np.cos(phi), np.sin(phi)] + [shift, -2 * shift]

    return points


@pytest.mark.parametrize("predict", PREDICTIONS)
@pytest.mark.parametrize("sense", [1, -1])
@pytest.mark.parametrize(
    ("scale", "shift", "turn"), [(1, 0, 0), (1e-2, 0.3, 2), (30, 5, 4.5), (1, -7, 6)]
)
def test_a_perfect_ring_has_no_error_wherever_it_lies(predict, scale, shift, turn, sense):
    assert error(predict, ring(scale, shift, turn, sense)) < 1e-5


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_a_folded_ring_has_a_large_one(predict):
    assert error(predict, lambda angle: np.c_[np.sin(angle), np.sin(2 * angle)]) > 0.3
    assert error(predict, lambda angle: ring()(2 * angle)) > 1.0


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_a_ring_that_runs_unevenly_has_the_error_of_its_unevenness(predict):
    # The mean of |0.2 sin| is 0.127; the circular regression cannot bend it straight either.
    found = error(predict, lambda angle: ring()(angle + 0.2 * np.sin(3 * angle)))
    assert found == pytest.approx(0.4 / np.pi, abs=0.02)


def test_the_circle_through_points_of_an_arc():
    centre, radius = angles.kasa_circle(ring(3.0, 2.0)(np.linspace(0, 2, 50)))
    np.testing.assert_allclose(centre, [2, -4])
    assert radius == pytest.approx(3)


@pytest.fixture
def tiny(monkeypatch):
    budget = pendulum.Budget(images=100, steps=12, hidden=(8,), prior_hidden=(4,))
    monkeypatch.setattr(pendulum, "FULL", budget)
    monkeypatch.setattr(pendulum, "SMALL", budget)
    monkeypatch.setattr(pendulum, "_ATTEMPTS", 2)


def context(tmp_path, said, *, quick):
    folder = tmp_path / ("quick" if quick else "full")
    return Context(quick, (0,), folder, folder / "figures", tmp_path, said.append)


def test_the_quick_experiment_has_three_methods_and_goes_on_from_what_is_done(tmp_path, tiny):
    said = []
    outcome = pendulum.run(context(tmp_path, said, quick=True))
    assert len(said) == 3
    assert [r["method"] for r in outcome.rows[::4]] == [
        "VHP + REWO",
        "VHP + GECO",
        "VHP* + WU (20 epochs)",
    ]
    assert all(len(r["ours"]["values"]) == 1 for r in outcome.rows)
    assert json.dumps([outcome.rows, outcome.config, outcome.more], allow_nan=False)
    again = pendulum.run(context(tmp_path, said, quick=True))
    assert said[3:] == [line.replace(" ...", ": done before") for line in said[:3]]
    assert again.rows == outcome.rows


def test_the_whole_experiment_draws_its_four_figures(tmp_path, tiny):
    place = context(tmp_path, [], quick=False)
    outcome = pendulum.run(place)
    assert len(outcome.rows) == 4 * len(pendulum.METHODS)
    for figure in ("3.2", "3.3", "3.4", "3.5"):
        head = (place.figures / f"figure-{figure}.png").read_bytes()[:8]
        assert head == b"\x89PNG\r\n\x1a\n"


def test_a_run_that_stops_to_be_judged_equals_one_that_does_not(tmp_path, tiny, monkeypatch):
    """So that the row without restarts may take the run of a first attempt that was kept."""
    look, results = monitors.diagnose, []
    monkeypatch.setattr(
        monitors, "diagnose", lambda *at: replace(look(*at), folded=False, collapsed=False)
    )
    for attempts in (1, 2):
        folder = tmp_path / str(attempts)
        folder.mkdir()
        wanted = pendulum.settings("rewo", 3, pendulum.SMALL) | {"attempts": attempts}
        results.append(pendulum.train(wanted, folder))
    assert results[1]["restarts"] == 0
    assert results[0] == results[1]

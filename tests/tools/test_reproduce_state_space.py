"""Chapter 4's experiments: the regressions, the predictions, a small run that learns a pendulum."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tools.reproduce import annealing, state_space, state_space_figures
from tools.reproduce.experiment import Context
from tools.reproduce.state_space_measure import (
    angle_and_velocity,
    generated_error,
    measure,
    prediction_errors,
    turning_velocity,
    velocity_coherence,
)
from tools.reproduce.state_space_measure import r_squared as r2
from tools.reproduce.state_space_training import Run, load_model, make_model, make_trainer
from training.data.actuated import actuated_pendulum
from training.dssm.batch import SequenceBatch

draw = np.random.default_rng(0)


def test_r_squared_of_one_regressor_is_the_squared_correlation():
    z = draw.normal(size=(40, 1))
    y = 2 * z[:, 0] + draw.normal(size=40)
    assert r2(z, y, z, y) == pytest.approx(np.corrcoef(z[:, 0], y)[0, 1] ** 2)


def test_r_squared_is_judged_on_the_other_part():
    # the line through (0, 1) and (1, 3) says 5 and 7 at 2 and 3; 5 and 9 were true: 1 - 4 / 8
    z, y = np.array([[0.0], [1.0]]), np.array([1.0, 3.0])
    assert r2(z, y, z + 2, np.array([5.0, 9.0])) == pytest.approx(0.5)


def test_a_barrel_explains_angle_and_velocity_and_a_circle_the_angle_alone():
    states = np.stack([draw.uniform(-7, 7, (20, 6)), draw.normal(size=(20, 6))], axis=-1)
    angle, velocity = states[..., 0], states[..., 1]
    barrel = np.stack([2 * np.cos(angle) + 1, np.sin(angle) - 3, 0.1 * velocity], axis=-1)
    whole = angle_and_velocity(barrel, states, barrel, states)
    assert whole == {"angle": pytest.approx(1), "velocity": pytest.approx(1)}
    circle = angle_and_velocity(barrel[..., :2], states, barrel[..., :2], states)
    assert circle["angle"] == pytest.approx(1)
    assert circle["velocity"] < 0.1


def test_a_twisted_barrel_hides_the_velocity_from_one_plane_for_all_angles():
    states = np.stack([draw.uniform(-7, 7, (40, 9)), draw.normal(size=(40, 9))], axis=-1)
    angle, velocity = states[..., 0], states[..., 1]
    radius = 3 + np.cos(angle) * velocity
    z = np.stack([np.cos(angle), np.sin(angle), np.sin(angle) * velocity], axis=-1)
    twisted = np.stack([radius * z[..., 0], radius * z[..., 1], z[..., 2]], axis=-1)
    halves = (twisted[:20], states[:20], twisted[20:], states[20:])
    assert angle_and_velocity(*halves)["velocity"] < 0.6
    assert turning_velocity(*halves) > 0.95
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    assert turning_velocity(circle[:20], states[:20], circle[20:], states[20:]) < 0.1


def test_coherence_tells_a_barrel_from_a_band_that_turns_or_changes_sides():
    states = np.stack([draw.uniform(-7, 7, (60, 15)), draw.normal(size=(60, 15))], axis=-1)
    angle, velocity = states[..., 0], states[..., 1]

    def band(up, out):
        """The circle, widened by the velocity up or outwards."""
        radius = 3 + out * velocity
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), up * velocity], axis=-1)

    assert velocity_coherence(band(0.5, 0.0), states) == pytest.approx(1, abs=1e-6)
    assert velocity_coherence(band(np.cos(angle), np.sin(angle)), states) < 0.55
    sides = band(np.sign(np.sin(angle)), 0.0)
    assert velocity_coherence(sides, states) < 0.1
    # two harmonics of an angle find 8 / pi^2 of a change of sides
    assert turning_velocity(sides[:30], states[:30], sides[30:], states[30:]) > 0.7
    assert velocity_coherence(sides[:1, :2], states[:1, :2]) == 0.0  # too few to say


def test_two_joints_are_judged_by_themselves_and_together():
    states = draw.normal(size=(20, 6, 4))
    z = np.concatenate([np.sin(states[..., :2]), np.cos(states[..., :1]), states[..., 2:3]], -1)
    found = angle_and_velocity(z, states, z, states)
    assert found["angle_1"] == pytest.approx(1)
    assert found["velocity_1"] == pytest.approx(1)
    assert found["angle_2"] < 0.8
    assert found["velocity"] == pytest.approx((1 + found["velocity_2"]) / 2)


def test_prediction_errors_by_hand():
    model = make_model("ekvae", {"hidden": (16,)}, 0).eval()
    held = SequenceBatch.of(actuated_pendulum(3, test=1, validation=1, steps=7).train)
    found = prediction_errors(model, held, given=4, sampled=False)
    with torch.no_grad():
        z = model.smooth(held.first(4)).mean[:, 0]
        for row in range(3):
            state, squared = z[row], []
            for t in range(7):
                image = model.decode(state)
                squared.append(float((image - held.observations[row, t]).square().mean()))
                if t < 6:
                    state = model.step(state[None], held.controls[row, t][None])[0].mean[0]
            assert found[row] == pytest.approx(np.mean(squared), rel=1e-5)
    late = prediction_errors(model, held, given=4, sampled=False, start="filtered")
    assert late.shape == (3,)
    assert not np.allclose(late, found)


def test_the_error_of_what_is_generated_is_to_the_nearest_that_was_seen(monkeypatch):
    model = make_model("ekvae", {"hidden": (16,)}, 0).eval()
    seen = actuated_pendulum(4, test=1, validation=1, steps=3).train
    images = torch.from_numpy(seen.values()).flatten(0, 1)
    off = images[[2, 7, 11]] + torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    monkeypatch.setattr(model, "decode", lambda z: off[: len(z)])
    # the nearest is the image itself: all others are further away than a shift of grey
    assert generated_error(model, seen, count=3) == pytest.approx(0.2**2, rel=1e-4)


def test_a_small_run_identifies_the_pendulum():
    """A CI-size run: 500 steps, 20 s on an idle core, with a fixed seed."""
    data = actuated_pendulum(test=100)
    torch.set_num_threads(1)
    model = make_model("ekvae", {}, 3)
    run = Run("ekvae", steps=500, learning_rate=(1e-3, 3e-4))
    summary = make_trainer(model, run, 3).fit(SequenceBatch.of(data.train))
    found = measure(model.eval(), data.train, data.test)
    assert (summary.skipped, summary.stopped) == (0, None)
    assert summary.beta == 1.0
    assert found["angle"] > 0.97, found
    assert found["velocity"] > 0.95, found
    assert found["mse_of_mean_median"] < 5e-3, found
    assert found["reconstruction"] < 4e-4, found


def context(tmp_path, said):
    work, figures = tmp_path / "work", tmp_path / "figures"
    return Context(True, (0,), work, figures, tmp_path / "none", say=said.append)


def test_a_quick_table_is_computed_once_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(state_space, "QUICK_STEPS", 12)
    monkeypatch.setattr(state_space, "QUICK", ("vhp-ekvae", "dks-annealing"))
    said: list[str] = []
    outcome = state_space.run(context(tmp_path, said))
    trained = [line for line in said if "turning" not in line]
    assert trained == ["vhp-ekvae-seed-0 ...", "dks-annealing-seed-0 ..."]
    lines = list(said)
    monkeypatch.setattr(state_space_figures, "draw", lambda *_: None)
    again = state_space.run(context(tmp_path, said))
    # nothing was trained a second time
    assert said[len(lines) :] == [line.replace(" ...", ": done before") for line in lines]
    assert again.rows == outcome.rows
    by_name = {(line["method"], line["metric"]): line for line in outcome.rows}
    line = by_name["VHP-EKVAE (CO)", "R^2 velocity"]
    assert line["thesis"] == 0.998
    assert math.isfinite(line["ours"]["median"])
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"figure-4.5.png", "figure-4.6.png", "figure-4.14.png", "figure-4.2.png"} <= drawn
    # what was kept is the model that was measured
    one = outcome.more["runs"]["vhp-ekvae"][0]
    run = state_space.budgeted(state_space.METHODS["vhp-ekvae"].run, context(tmp_path, said))
    model = load_model(tmp_path / "work" / one["folder"], run)
    data = state_space.pendulum_sequences(context(tmp_path, said))
    assert measure(model, data.train, data.test)["mse"] == pytest.approx(one["mse"], rel=1e-4)


def test_elbos_are_compared_under_one_sigma():
    # 15 images of 16 x 16: 3,840 pixels, each log N(0 | 0, 0.1) = 0.2323; 2 nats a step of rate,
    # 0.05 of squared error a pixel
    one = {"mse": 0.0, "rate": 2.0, "reconstruction": 0.05}
    found = state_space.compared(one, (15, 16, 16))["elbo_compared"]
    log_density = -0.5 * math.log(2 * math.pi * 0.1) - 0.5 * 0.05 / 0.1
    assert found == pytest.approx(3840 * log_density - 30)
    assert state_space.compared({"failed": "step 3"}, (15, 16, 16)) == {}


def test_the_best_run_is_told_by_the_validation_part():
    keys = [
        "elbo_compared",
        "angle",
        "velocity",
        "turning_velocity",
        "coherence",
        "mse",
        "mse_of_mean",
    ]
    runs = [
        {**dict.fromkeys((*keys, "mse_median", "generated_error"), value), "validation_mse": error}
        for value, error in ((0.9, 0.3), (0.5, 0.1), (0.7, 0.2))
    ]
    line = state_space.summary(state_space.METHODS["dks"], [*runs, {"failed": "step 3"}])
    assert (line["seeds"], line["velocity"], line["best"]["velocity"]) == (3, 0.7, 0.5)


def test_a_run_that_breaks_off_stays_in_the_table():
    lines = state_space.table_rows(
        state_space.METHODS["dks"], [{"failed": "step 3: the loss is nan", "folder": "x"}]
    )
    assert [line["metric"] for line in lines] == ["runs that broke off"]
    assert "1 of 1 runs broke off: step 3: the loss is nan" in lines[0]["note"]


@pytest.mark.parametrize(
    ("steps", "note"),
    [
        ([118, None, 127], "constraint first met at steps 118, never, 127"),
        ([118], "constraint first met at step 118"),
        ([None, None], "constraint never met"),
    ],
)
def test_when_the_constraint_was_met_is_told_in_words(steps, note):
    measures = ("angle", "velocity", "turning_velocity", "coherence", "rate", "seconds", "skipped")
    errors = ("elbo_compared", "mse", "mse_median", "mse_of_mean", "mse_of_mean_median")
    keys = (*measures, *errors, "generated_error")
    found = [{**dict.fromkeys(keys, 0.0), "met_at": step} for step in steps]
    lines = state_space.table_rows(state_space.METHODS["dks"], found)
    assert lines[0]["note"] == note
    annealed = state_space.table_rows(state_space.METHODS["dks-annealing"], found)
    assert annealed[0]["note"] == ""


def test_the_thesis_s_rows_and_the_same_budget_for_all(tmp_path):
    context_ = replace(context(tmp_path, []), quick=False)
    runs = [state_space.budgeted(m.run, context_) for m in state_space.METHODS.values()]
    assert {(run.steps, run.batch_size, run.learning_rate) for run in runs} == {
        (state_space.STEPS, 50, (1e-3, 1e-4))
    }
    assert sum(m.thesis is not None for m in state_space.METHODS.values()) == 9


def test_schedules_of_figure_4_4_have_the_same_steps(tmp_path):
    made = annealing.schedules(Run("ekvae"), replace(context(tmp_path, []), quick=False))
    assert list(made) == ["CO", "annealing 5%", "annealing 25%", "annealing 50%", "annealing 100%"]
    assert {run.steps for run in made.values()} == {annealing.STEPS}
    assert [run.annealing for run in made.values()] == [0, 50, 250, 500, 1000]
    assert annealing.learned([{"velocity": 0.95}, {"velocity": 0.2}, {"failed": "x"}]) == 1

"""Table 3.2: methods under one budget, runs that survive a kill, figures beside the right ones."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tools.reproduce import likelihood, likelihood_training  # noqa: E402
from tools.reproduce.experiment import Context  # noqa: E402
from tools.reproduce.likelihood_training import Plan, spread, train  # noqa: E402
from trackvae.config import ModelConfig, build  # noqa: E402
from trackvae.errors import InputError  # noqa: E402
from trackvae.storage import load  # noqa: E402
from training.data import glyphs  # noqa: E402


def context(folder, **changes):
    settings = {
        "quick": False,
        "seeds": (0,),
        "work": folder / "work",
        "figures": folder / "figures",
        "data": folder / "data",
        "say": lambda line: None,
    }
    return Context(**{**settings, **changes})


@pytest.fixture(scope="module")
def data():
    return replace(glyphs(240), labels={})


def small(prior="vhp", **changes):
    model = {
        "observation": [1, 28, 28],
        "latent": 2,
        "hidden": [8],
        "likelihood": "bernoulli",
        "constraint": "squared",
        "prior": prior,
        "prior_hidden": [8],
        "prior_samples": 2,
        "pseudo_inputs": 5,
    }
    return Plan(model, "rewo", steps=40, batch_size=16, kappa=0.3, **changes)


def test_every_method_has_the_same_time_and_the_same_encoder_and_decoder(tmp_path, data):
    images = likelihood.DATA["static-mnist"]
    shapes = []
    for key, method in likelihood._ALL.items():
        plan = likelihood._plan(context(tmp_path), key, data, images, seed=0)
        assert plan.steps * method.cost / 1_000 == pytest.approx(
            method.share * images.seconds, abs=method.cost
        )
        model = build(ModelConfig.from_dict(plan.model))
        networks = torch.nn.ModuleList([model.encoder, model.decoder])
        shapes.append([tuple(parameter.shape) for parameter in networks.parameters()])
    assert all(shape == shapes[0] for shape in shapes)


def test_rewo_and_geco_differ_in_the_objective_alone(tmp_path, data):
    rewo, geco = (
        asdict(likelihood._plan(context(tmp_path), key, data, likelihood._STAND_IN, 0))
        for key in ("vhp-rewo", "vhp-geco")
    )
    assert {name for name in rewo if rewo[name] != geco[name]} == {"objective"}


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, data, monkeypatch):
    plan, weights = small(), []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "killed":
            note = likelihood_training._Watch.note

            def dies(self, report, note=note):
                if report.step == 31:
                    raise KeyboardInterrupt
                note(self, report)

            with monkeypatch.context() as patch:
                patch.setattr(likelihood_training._Watch, "note", dies)
                with pytest.raises(KeyboardInterrupt):
                    train(plan, data, folder)
        weights.append((train(plan, data, folder), load(folder / "model.safetensors")[0]))
    (whole, model), (resumed, other) = weights
    for entry in ("course", "validation", "best_step"):
        assert whole[entry] == resumed[entry]
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_weights_kept_are_the_best_of_the_second_half(tmp_path, data):
    found = train(small(), data, tmp_path)
    steps = [step for step, _ in found["validation"]]
    assert steps == list(range(2, 41, 2))
    late = {bound: step for step, bound in found["validation"] if step > 20}
    assert found["best_step"] == late[min(late)]


def test_a_damaged_history_is_told_by_its_path(tmp_path, data):
    plan = small()
    train(plan, data, tmp_path)
    (tmp_path / "history.json").write_text("{")
    with pytest.raises(InputError, match=r"history\.json: damaged"):
        train(plan, data, tmp_path)


def test_pseudo_inputs_start_nearly_black():
    model = build(ModelConfig.from_dict(small("vamp").model))
    likelihood_training._start_nearly_black(model)
    pseudo = model.prior.pseudo_inputs.detach()
    assert float(pseudo.mean()) == pytest.approx(0.05, abs=6 * 0.01 / pseudo.numel() ** 0.5)
    assert float(pseudo.std()) == pytest.approx(0.01, rel=0.1)


def test_images_are_taken_from_all_over_a_part(data):
    numbered = np.arange(48, dtype=np.float32).reshape(-1, 1)
    made = replace(data, train=numbered, validation=numbered, test=numbered)
    assert spread(made, "test", 5).flatten().tolist() == [0, 12, 24, 35, 47]
    assert len(spread(made, "test", 1_000)) == 48


def test_the_likelihood_is_the_mean_over_the_images_with_its_error(tmp_path, data):
    train(small("normal"), data, tmp_path)
    test = likelihood.Test(samples=30, images=20)
    found = likelihood.evaluate(tmp_path / "model.safetensors", data, test, seed=0)
    model = load(tmp_path / "model.safetensors")[0].requires_grad_(False)
    x = spread(data, "test", 20)
    q = model.encode(x)
    z = q.sample(30, torch.Generator().manual_seed(1_000))
    normal = torch.distributions.Normal
    weights = (
        torch.distributions.Bernoulli(logits=model.decoder(z)).log_prob(x).sum(dim=(-3, -2, -1))
        + normal(0.0, 1.0).log_prob(z).sum(-1)
        - normal(q.mean, (0.5 * q.log_var).exp()).log_prob(z).sum(-1)
    )
    values = math.log(30) - weights.logsumexp(dim=0)
    assert found["bound"] == pytest.approx(float(values.mean()), rel=1e-5)
    assert found["standard_error"] == pytest.approx(float(values.std()) / 20**0.5, rel=1e-4)
    assert "tighter" not in found


def test_a_quick_run_without_data_says_so_and_is_done_once(tmp_path, monkeypatch):
    monkeypatch.setattr(likelihood, "_QUICK_SECONDS", 0.01)  # the least number of steps
    monkeypatch.setattr(likelihood_training, "_CHECKS", 2)
    said = []
    quick = context(tmp_path, quick=True, say=said.append)
    outcome = likelihood.run(quick)
    parts = len(said)
    rows = json.loads(json.dumps(outcome.rows, allow_nan=False))
    assert [r["method"] for r in rows if "inner" not in r["metric"]] == [
        method.label for method in likelihood.METHODS.values()
    ]
    assert all(r["thesis"] is None for r in rows)  # of MNIST, not of drawn glyphs
    assert "stand-in" in rows[0]["note"]
    again = likelihood.run(quick)
    assert len(said) == parts
    assert again.rows == outcome.rows
    names = {path.name for path in quick.figures.iterdir()}
    assert names == {"figure-3.12.png", "figure-3.13.png", "samples.png"}


def test_the_thesis_s_figures_stand_beside_their_method():
    tested = {"bound": 90.0, "standard_error": 0.5, "images": 10}
    found = {
        "plan": {"steps": 10},
        "trained": {"cpu_seconds": 60.0, "best_step": 10},
        "tested": tested,
    }
    for name, expected in (("static-mnist", 84.46), ("omniglot", 101.57), ("dynamic-mnist", 81.36)):
        (made,) = likelihood._rows(likelihood.DATA[name], "iwae-1", [found])
        assert (made["method"], made["thesis"]) == ("IWAE (L=1)", expected)

"""Saving and loading: the same model comes back, and nothing else is taken for one."""

import json

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

from safetensors import SafetensorError  # noqa: E402

from trackvae.config import ModelConfig, build  # noqa: E402
from trackvae.errors import InputError, UsageError  # noqa: E402
from trackvae.storage import load, save  # noqa: E402

SMALL = {"hidden": (7, 5), "prior_hidden": (4,), "prior_samples": 3, "pseudo_inputs": 6}
CONFIGS = [
    ModelConfig((4, 4), prior="vhp", prior_latent=3, **SMALL),
    ModelConfig((6,), prior="normal", likelihood="bernoulli", activation="elu", **SMALL),
    ModelConfig((3, 2, 2), prior="vamp", sigma="learned", **SMALL),
    ModelConfig((5,), sigma="optimal", reduction="sum", **SMALL),
    ModelConfig((5,), network="gated-mlp", **SMALL),
    ModelConfig((1, 9, 6), network="gated-conv", likelihood="bernoulli", **SMALL),
    ModelConfig((32, 16), network="faces-conv", prior="vamp", **SMALL),
    ModelConfig((3, 32, 32), network="vgg16", activation="silu", **SMALL),
    ModelConfig((3, 32, 16), network="crop-conv", activation="elu", **SMALL),
    ModelConfig((4,), likelihood="bernoulli", constraint="squared", **SMALL),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.network}-{c.prior}-{c.likelihood}")
def test_what_was_saved_comes_back(config, tmp_path):
    torch.manual_seed(0)
    model = build(config)
    path = tmp_path / "model.safetensors"
    save(path, model, config)
    again, same = load(path)
    assert same == config
    x = torch.rand(9, *config.observation).round()
    seeds = (torch.Generator().manual_seed(2) for _ in range(2))
    with torch.no_grad():
        before, after = (m.terms(x, g) for m, g in zip((model, again), seeds, strict=True))
    assert torch.equal(before.distortion, after.distortion)
    assert torch.equal(before.rate, after.rate)
    assert torch.equal(before.error, after.error)
    assert before.elbo.shape == (9,)
    assert model.sample(4).shape == (4, *config.observation)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.network}-{c.prior}-{c.likelihood}")
def test_a_configuration_survives_json(config):
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_file_from_before_there_were_other_networks_is_one_of_an_mlp(tmp_path):
    path, older = tmp_path / "model.safetensors", CONFIGS[0].to_dict()
    del older["network"], older["constraint"]
    model = build(CONFIGS[0])
    safetensors.save_file(model.state_dict(), path, metadata={"trackvae": json.dumps(older)})
    again, config = load(path)
    assert config == CONFIGS[0]
    x = torch.rand(3, 4, 4)
    assert torch.equal(again.encode(x).mean, model.encode(x).mean)


def test_a_model_of_another_architecture_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, build(CONFIGS[0]), ModelConfig((4, 4), latent=3, **SMALL))
    with pytest.raises(InputError, match="do not belong together: decoder"):
        load(path)


def test_files_that_are_no_model(tmp_path):
    missing, text, foreign = (tmp_path / n for n in ("none", "text", "foreign.safetensors"))
    text.write_text("not a model, only words")
    safetensors.save_file({"a": torch.zeros(2)}, foreign)
    whole = tmp_path / "whole.safetensors"
    save(whole, build(CONFIGS[1]), CONFIGS[1])
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-40])
    for path, message in (
        (missing, "no such file"),
        (text, "not a readable safetensors file"),
        (cut, "not a readable safetensors file"),
        (foreign, "carry no trackvae configuration"),
    ):
        with pytest.raises(InputError, match=message):
            load(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"observation": [4], "depth": 3}, "unknown entries: depth"),
        ({"latent": 2}, "has no observation"),
        ({"observation": [4], "prior": "flat"}, "prior is 'flat', expected one of"),
        ({"observation": [4], "network": "deep"}, "network is 'deep', expected one of mlp"),
        ({"observation": [3, 50, 64], "network": "vgg16"}, "cannot be used: .* multiples of 32"),
        ({"observation": [0]}, "expected whole numbers from 1"),
        ({"observation": [4], "latent": 0}, "latent is 0"),
        ({"observation": 4}, "cannot be used"),
    ],
)
def test_configurations_that_mean_nothing(values, message):
    with pytest.raises(InputError, match=message):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": 10**9}, "its configuration cannot be used"),  # no memory holds it
        ({"activation": "swoosh"}, "activation is 'swoosh'"),
        ([1, 2], "its configuration cannot be used"),
        ("{", "its configuration cannot be used"),
    ],
)
def test_a_damaged_configuration_is_one_line_with_the_file(tmp_path, changes, message):
    path, config = tmp_path / "model.safetensors", CONFIGS[1]
    about = config.to_dict() | changes if isinstance(changes, dict) else changes
    text = about if isinstance(about, str) else json.dumps(about)
    safetensors.save_file(build(config).state_dict(), path, metadata={"trackvae": text})
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    path, model = tmp_path / "model.safetensors", build(CONFIGS[1])
    with torch.no_grad():
        next(model.decoder.parameters()).view(-1)[0] = value
    save(path, model, CONFIGS[1])
    with pytest.raises(InputError, match=r"decoder.* holds NaN or infinity"):
        load(path)


def test_a_full_disk_is_one_line_and_leaves_the_old_model(tmp_path, monkeypatch):
    path, model = tmp_path / "model.safetensors", build(CONFIGS[1])
    save(path, model, CONFIGS[1])
    before = path.read_bytes()

    def to_full_disk(tensors, path, metadata=None):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors, "save_file", to_full_disk)
    with pytest.raises(InputError, match=r"cannot be written .*No space left"):
        save(path, model, CONFIGS[1])
    assert [child.name for child in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_model_can_be_read_by_whom_other_files_can(tmp_path):
    path, other = tmp_path / "model.safetensors", tmp_path / "other"
    save(path, build(CONFIGS[1]), CONFIGS[1])
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        save(tmp_path / "file" / "model.safetensors", build(CONFIGS[1]), CONFIGS[1])


def test_an_unknown_activation_is_a_usage_error():
    with pytest.raises(UsageError, match="activation is 'swoosh'"):
        build(ModelConfig((4,), activation="swoosh"))

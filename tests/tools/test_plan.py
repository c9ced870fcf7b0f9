"""``trackvae plan`` and :func:`plan_movement`: what is written, and what bad input is told."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from tools.cli import main
from tools.plan import read_observation, write_movement
from trackvae.config import ModelConfig, build
from trackvae.errors import InputError, UsageError
from trackvae.geometry import riemannian_length
from trackvae.storage import load, save
from training.data.dataset import Standardisation
from training.geodesics.plan import METHODS, PlanOptions, plan_movement

torch.set_num_threads(1)


def a_model(path, **more):
    """Weights of a model that has learned nothing, which is enough to find a way through."""
    torch.manual_seed(0)
    settings = {
        "observation": (3,),
        "hidden": (16,),
        "activation": "tanh",
        "prior": "normal",
        "sigma": 0.5,
    }
    config = ModelConfig(**{**settings, **more})
    save(path, build(config), config)
    return path


@pytest.fixture
def ends(tmp_path):
    (tmp_path / "start.csv").write_text("0.5, -1, 2\n")
    np.save(tmp_path / "goal.npy", np.array([[-1.5, 0.5, -1.0]]))
    return ["--start", str(tmp_path / "start.csv"), "--goal", str(tmp_path / "goal.npy")]


def said(capsys, *arguments):
    capsys.readouterr()
    code = main(["plan", *(str(argument) for argument in arguments)])
    return code, capsys.readouterr()


@pytest.mark.parametrize("method", [method for method in METHODS if method != "variance"])
def test_a_movement_joins_both_ends_at_constant_speed(tmp_path, method):
    model = load(a_model(tmp_path / "m.safetensors"))[0].requires_grad_(False)
    x = torch.tensor([[0.5, -1.0, 2.0], [-1.5, 0.5, -1.0]])
    options = PlanOptions(method, nodes=200)
    found = plan_movement(model, x[0], x[1], 30, options=options)
    assert found.latents.shape == (30, 2)
    assert found.observations.shape == (30, 3)
    z = model.encode(x).mean
    assert torch.allclose(found.latents[[0, -1]], z)
    assert torch.allclose(found.observations, model.decode(found.latents))
    assert found.velocity.std() / found.velocity.mean() < 0.05
    length = riemannian_length(model.decode, found.latents)
    assert float(length) == pytest.approx(float(found.geodesic.length[0]), rel=0.02)
    assert float(found.velocity.mean()) == pytest.approx(float(length), rel=0.01)


def test_on_data_the_movement_keeps_to_their_encodings(tmp_path):
    """Data on a half circle: the way along it, not across."""
    model = load(a_model(tmp_path / "m.safetensors"))[0].requires_grad_(False)
    angle = torch.linspace(0, 3, 300)
    data = torch.stack([2 * angle.cos(), 2 * angle.sin(), 0 * angle], dim=1)
    z = model.encode(data).mean
    found = plan_movement(model, data[0], data[-1], 60, data, PlanOptions("data", neighbours=4))
    assert torch.cdist(found.latents, z).amin(1).max() < 0.02
    apart = torch.linalg.vector_norm(z.diff(dim=0), dim=1).max()
    assert torch.cdist(z[[50, 150, 250]], found.latents).amin(1).max() < 3 * apart + 0.05


class Plane:
    """Two of twelve numbers are the encoding, which is decoded to them."""

    likelihood = SimpleNamespace(sigma=torch.tensor(0.05))

    def encode(self, x):
        return SimpleNamespace(mean=x[:, :2])

    def decode(self, z):
        return torch.nn.functional.pad(z, (0, 10))


def test_with_the_variance_the_movement_goes_around_and_evenly():
    """Two thirds of a circle, noise in what is not decoded: around it, not along the chord."""
    angle = torch.linspace(0, 4, 900)
    noise = 0.03 * torch.randn(900, 10, generator=torch.Generator().manual_seed(0))
    data = torch.cat([torch.stack([angle.cos(), angle.sin()], dim=1), noise], dim=1)
    around, across = (
        plan_movement(Plane(), data[0], data[-1], 60, data, PlanOptions(method, neighbours=6))
        for method in ("variance", "shortest")
    )
    assert across.latents.norm(dim=1).min() < 0.5
    assert around.latents.norm(dim=1).min() > 0.9
    assert torch.allclose(around.latents[[0, -1]], data[[0, -1], :2])
    assert around.velocity.std() / around.velocity.mean() < 0.02
    assert float(around.velocity.mean()) == pytest.approx(4, rel=0.08)
    assert around.geodesic.straight[0] > 1.05 * around.geodesic.length[0]
    with pytest.raises(UsageError, match="variance needs the data"):
        plan_movement(Plane(), data[0], data[-1], 60, options=PlanOptions("variance"))


def test_an_npz_and_a_csv_hold_the_same_trajectory(tmp_path, ends, capsys):
    weights = a_model(tmp_path / "model.safetensors")
    for name in ("way.npz", "way.csv"):
        code, out = said(
            capsys, tmp_path, *ends, "--steps", 7, "--nodes", 100, "--out", tmp_path / name
        )
        assert code == 0
        assert "7 steps" in out.out
    assert weights.is_file()
    with np.load(tmp_path / "way.npz") as file:
        arrays = dict(file)
    table = np.loadtxt(tmp_path / "way.csv", delimiter=",", skiprows=1)
    head = (tmp_path / "way.csv").read_text().splitlines()[0]
    assert head == "t,velocity,z1,z2,x1,x2,x3"
    assert np.allclose(table[:, 0], arrays["t"])
    assert np.allclose(table[:-1, 1], arrays["velocity"], rtol=1e-6)
    assert np.allclose(table[:, 2:4], arrays["z"], atol=1e-6)
    assert np.allclose(table[:, 4:], arrays["x"], atol=1e-6)
    assert str(arrays["outcome"]) == "on the graph"
    assert str(arrays["method"]) == "data"
    assert str(arrays["units"]) == "x as the model takes it"
    picture = cv2.imread(str(tmp_path / "way.png"))
    assert picture is not None
    assert picture.std() > 5


def test_images_in_and_out(tmp_path, capsys):
    a_model(tmp_path / "model.safetensors", observation=(1, 8, 8))
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), rng.integers(0, 256, (8, 8), dtype=np.uint8))
    code, _ = said(
        capsys, tmp_path, "--start", tmp_path / "a.png", "--goal", tmp_path / "b.png",
        "--steps", 5, "--nodes", 80, "--out", tmp_path / "p.npz",
    )  # fmt: skip
    assert code == 0
    with np.load(tmp_path / "p.npz") as file:
        assert file["x"].shape == (5, 1, 8, 8)


def test_vectors_are_in_the_datas_own_units(tmp_path, capsys):
    a_model(tmp_path / "model.safetensors")
    rng = np.random.default_rng(0)
    raw = rng.normal([100, -50, 3], [10, 1, 0.1], (200, 3))
    np.savez(tmp_path / "data.npz", x=raw)
    np.savetxt(tmp_path / "a.csv", raw[:1], delimiter=",")
    np.save(tmp_path / "b.npy", raw[1])
    out = tmp_path / "way.npz"
    code, _ = said(
        capsys, tmp_path, "--start", tmp_path / "a.csv", "--goal", tmp_path / "b.npy",
        "--data", tmp_path / "data.npz", "--out", out, "--steps", 4,
    )  # fmt: skip
    assert code == 0
    with np.load(out) as file:
        assert np.abs(file["x"].mean(0) - [100, -50, 3]).max() < 30
        assert file["x"].mean(0)[0] > 50
        assert str(file["units"]).startswith("x in its own units")
        seen = (file["x"] - raw.mean(0)) / raw.std(0)  # of the part trained on: nearly these
        way = np.linalg.norm(np.diff(seen, axis=0), axis=1).sum()
        assert float(file["length"]) == pytest.approx(way, rel=0.2)


def test_one_observation_at_both_ends_stays_where_it_is(tmp_path, ends, capsys):
    a_model(tmp_path / "model.safetensors")
    out = tmp_path / "way.npz"
    code, said_ = said(
        capsys, tmp_path, "--start", ends[1], "--goal", ends[1], "--out", out, "--nodes", 50
    )
    assert code == 0
    assert "one point" in said_.out
    with np.load(out) as file:
        assert float(file["length"]) == 0
        assert np.ptp(file["z"], axis=0).max() == 0
        assert str(file["outcome"]) == "same point"


def test_ends_off_the_manifold_are_told(tmp_path):
    model = load(a_model(tmp_path / "m.safetensors"))[0].requires_grad_(False)
    data = 0.1 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    far = torch.tensor([30.0, -20.0, 25.0])
    found = plan_movement(model, data[0], far, 5, data)
    assert any(note.startswith("the goal is off the manifold") for note in found.notes)
    assert any("the goal is not what the model decodes" in note for note in found.notes)
    assert not any("start" in note for note in found.notes)
    assert not any("standardised" in note for note in found.notes)
    alone = plan_movement(model, data[0], far, 5, options=PlanOptions(nodes=50))
    assert any("without --data its numbers are taken as standardised" in n for n in alone.notes)


def test_a_graph_too_coarse_for_the_way_is_told():
    """Data on a line: all of it, two clumps joined by few edges, nothing between the ends."""
    clump = torch.linspace(0, 1, 40)
    cases = {
        "": torch.linspace(0, 4, 160),
        "coarse here: one of the way's edges is": torch.cat([clump, 4 + clump]),
        "coarse here: no node lies between": torch.tensor([0.0, 4.0]),
    }
    for expected, places in cases.items():
        data = torch.nn.functional.pad(places[:, None], (0, 11))
        found = plan_movement(Plane(), data[0], data[-1], 5, data, PlanOptions(neighbours=41))
        assert found.ended == "on the graph"
        assert ([expected in note for note in found.notes] or [not expected]) == [True]


def test_islands_of_data_that_are_not_joined_are_named(tmp_path):
    model = load(a_model(tmp_path / "m.safetensors"))[0].requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    one = 0.01 * torch.randn(60, 3, generator=generator)
    data = torch.cat([one, one[:40] + torch.tensor([3.0, -3.0, 3.0])])
    with pytest.raises(InputError, match=r"no movement from start to goal: .* part 1 .*60 nodes"):
        plan_movement(model, data[0], data[-1], 5, data, PlanOptions(neighbours=8))


def test_an_end_too_far_to_measure_is_named_with_its_file(tmp_path, ends, capsys):
    a_model(tmp_path / "model.safetensors", activation="relu")
    (tmp_path / "far.csv").write_text("1e30, -1e30, 1e30\n")
    out = tmp_path / "way.npz"
    code, found = said(
        capsys, tmp_path, *ends[:2], "--goal", tmp_path / "far.csv", "--nodes", 50, "--out", out
    )
    assert code == 1
    assert "far.csv: no movement from start to goal: the goal is joined to no node: it is" in (
        found.err
    )
    assert "from the nearest" in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not out.exists()


def test_a_decoder_that_is_not_finite_is_refused(tmp_path, ends, capsys):
    weights = a_model(tmp_path / "model.safetensors")
    model, config = load(weights)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.fill_(3e38)
    save(weights, model, config)
    code, found = said(capsys, tmp_path, *ends, "--nodes", 50, "--out", tmp_path / "way.csv")
    assert code == 1
    assert "the start: the decoder is not finite at its encoding" in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("way*"))

    class Broken(Plane):
        def decode(self, z):
            return torch.where(z[:, :1] > 1, torch.nan, super().decode(z))

    data = torch.nn.functional.pad(torch.linspace(0, 2, 80)[:, None], (0, 11))
    with pytest.raises(InputError, match="not finite at 40 of 80 nodes"):
        plan_movement(Broken(), data[0], data[20], 5, data)


def test_no_input_is_written_over(tmp_path, ends, capsys, monkeypatch):
    """Whatever name it goes by; told before the model is so much as opened."""
    weights = tmp_path / "model.npz"
    weights.write_bytes(b"no model")
    images = tmp_path / "images"
    images.mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(images / name), np.zeros((8, 8), dtype=np.uint8))
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 3)))
    (tmp_path / "link.csv").symlink_to(tmp_path / "start.csv")
    monkeypatch.chdir(tmp_path)
    picture = ["--start", images / "a.png", "--goal", "images/b.png"]
    cases = [
        ([*ends, "--out", "start.csv"], "--out start.csv: would overwrite --start"),
        ([*ends, "--out", "link.csv"], "would overwrite --start"),
        ([ends[2], ends[1], "--start", "x.npy", "--out", "./start.csv"], "overwrite --goal"),
        ([*picture, "--out", "images/a.npz"], "its picture images/a.png would overwrite --start"),
        ([*picture, "--out", "images/b.csv"], "its picture images/b.png would overwrite --goal"),
        ([*ends, "--data", "data.npz", "--out", tmp_path / "data.npz"], "overwrite --data"),
        ([*ends, "--data", "images", "--out", "images/a.csv"], "overwrite --data (images)"),
        ([*ends, "--out", "model.npz"], "would overwrite the weights"),
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for arguments, message in cases:
        found, out = said(capsys, weights, *arguments)
        assert (found, message in out.err) == (2, True), out.err
        assert len(out.err.strip().splitlines()) == 1
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_picture_that_cannot_be_drawn_leaves_no_trajectory(tmp_path, ends, capsys, monkeypatch):
    a_model(tmp_path / "model.safetensors")
    (tmp_path / "way.png").mkdir()
    arguments = [tmp_path, *ends, "--nodes", 50, "--steps", 4, "--out", tmp_path / "way.npz"]
    code, found = said(capsys, *arguments)
    assert (code, "way.png: cannot be written, it is a folder" in found.err) == (1, True)
    (tmp_path / "way.png").rmdir()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tools.plan.draw_movement", full)
    code, found = said(capsys, *arguments)
    assert (code, found.err.strip().splitlines()[1:]) == (1, [])
    assert "way.png: cannot be written (No space left on device)" in found.err
    assert not [path for path in tmp_path.iterdir() if "way" in path.name]


def test_what_cannot_be_meant_is_refused(tmp_path, ends, capsys):
    a_model(tmp_path / "model.safetensors")
    broken = tmp_path / "broken.csv"
    broken.write_text("1, two, 3\n")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(200, 3)))
    cases = [
        ([*ends, "--out", "way.txt"], 2, ".npz or .csv"),
        ([*ends, "--steps", 1], 2, "a movement of 1 step"),
        ([*ends, "--nodes", 1], 2, "1 nodes"),
        ([*ends, "--method", "variance"], 2, "--method variance needs --data"),
        (["--start", broken, *ends[2:]], 1, "broken.csv: not an observation"),
        (["--start", tmp_path / "none.npy", *ends[2:]], 1, "none.npy: no such file"),
        (["--start", tmp_path, *ends[2:]], 1, "is a folder, expected an image or"),
        ([*ends, "--data", "pendulum"], 1, "its examples have shape"),
        (
            [*ends, "--data", tmp_path / "data.npz", "--method", "variance", "--nodes", 10],
            1,
            "fitted to 10 of the 180 examples of --data (--nodes 10): 10 encodings, expected",
        ),
    ]
    for arguments, code, message in cases:
        found, out = said(capsys, tmp_path, *arguments)
        assert (found, message in out.err) == (code, True), out.err
        assert len(out.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("plan*"))


def test_an_observation_of_another_size_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(4))
    np.save(tmp_path / "y.npy", np.array([1.0, np.nan, 2.0]))
    np.savez(tmp_path / "z.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(InputError, match=r"x.npy: float64 \(4,\), expected numbers of shape \(3,"):
        read_observation(tmp_path / "x.npy", (3,))
    with pytest.raises(InputError, match=r"y.npy: holds NaN"):
        read_observation(tmp_path / "y.npy", (3,))
    with pytest.raises(InputError, match=r"z.npz: 2 arrays"):
        read_observation(tmp_path / "z.npz", (3,))
    scale = Standardisation(np.array([1.0, 2, 3]), np.array([2.0, 2, 2]))
    np.save(tmp_path / "w.npy", np.array([3.0, 2, 1]))
    assert read_observation(tmp_path / "w.npy", (3,), scale).tolist() == [1, 0, -1]
    with pytest.raises(UsageError, match="method is 'fast'"):
        PlanOptions("fast")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    model = load(a_model(tmp_path / "m.safetensors"))[0].requires_grad_(False)
    x = torch.eye(3)
    found = plan_movement(model, x[0], x[1], 5, options=PlanOptions(nodes=50))
    (tmp_path / "way.csv").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        write_movement(tmp_path / "way.csv", found)
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name]

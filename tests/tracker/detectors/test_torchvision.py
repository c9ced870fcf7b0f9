"""The torchvision detector: without torch one clear line, with torch real loading."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from tracker.detections import Frame
from tracker.detectors import open_detector
from trackvae.errors import InputError, UsageError

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"
IMAGE = np.random.default_rng(0).integers(0, 255, (120, 200, 3)).astype(np.uint8)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'trackvae\[torch\]'") as caught:
        open_detector(f"torchvision:{NAME}")
    assert caught.value.exit_code == 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a made two-class detector that calls every proposal class 1 with score 0.73."""
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.get_model(NAME, weights=None, weights_backbone=None, num_classes=2)
    state = model.state_dict()
    for key in ("weight", "bias"):
        state[f"roi_heads.box_predictor.cls_score.{key}"].zero_()
        state[f"roi_heads.box_predictor.bbox_pred.{key}"].zero_()
    state["roi_heads.box_predictor.cls_score.bias"][1] = 1.0  # 1 / (1 + exp(-1)) = 0.731
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save({"model": state}, path)
    return path


def test_weights_from_a_file_give_checked_detections(weights: Path) -> None:
    detector = open_detector(
        f"torchvision:{NAME}", weights=str(weights), num_classes="2", device="cpu", nms_iou="0.3"
    )
    found = detector(Frame(1, 0.0, IMAGE))
    assert len(found) > 0
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-1)), atol=1e-5)
    assert (found.classes == 1).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [200, 120, 200, 120]).all()
    again = detector(Frame(1, 0.0, IMAGE))
    np.testing.assert_array_equal(found.boxes, again.boxes)
    none = open_detector(
        f"torchvision:{NAME}", weights=str(weights), num_classes=2, min_score=0.8, device="cpu"
    )
    assert len(none(Frame(1, 0.0, IMAGE))) == 0


def test_safetensors_give_the_same(weights: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    path = tmp_path / "made.safetensors"
    save_file(torch.load(weights, weights_only=True)["model"], path)
    boxes = [
        open_detector(f"torchvision:{NAME}", weights=str(p), num_classes=2, device="cpu")(
            Frame(1, 0.0, IMAGE)
        ).boxes
        for p in (weights, path)
    ]
    np.testing.assert_array_equal(*boxes)


def test_unfit_weights_are_one_clear_line(weights: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    text, other = tmp_path / "text.pth", tmp_path / "other.pth"
    text.write_text("no weights")
    torch.save([1, 2], other)
    for path, says in [
        (tmp_path / "none.pth", "no such file"),
        (text, "not readable as weights"),
        (other, "holds list, expected tensors by name"),
        (weights, "these are not weights of"),  # two classes against COCO's 91
    ]:
        with pytest.raises(InputError, match=says) as caught:
            open_detector(f"torchvision:{NAME}", weights=str(path), device="cpu")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="not readable as weights"):
        open_detector(f"torchvision:{NAME}", weights=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_an_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("torch").hub
    pytest.importorskip("torchvision")

    def unreachable(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(InputError, match=r"cannot be fetched .* set weights=PATH"):
        open_detector(f"torchvision:{NAME}")


def test_unknown_names_sizes_and_classes(weights: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'fasterrcnn_resnet50_fpn'"):
        open_detector("torchvision:fasterrcnn_resnet50")
    with pytest.raises(UsageError, match="num_classes belongs to weights in a file"):
        open_detector(f"torchvision:{NAME}", num_classes=2)
    with pytest.raises(UsageError, match="no class names: give numbers"):
        open_detector(f"torchvision:{NAME}", weights=str(weights), num_classes=2, classes="person")

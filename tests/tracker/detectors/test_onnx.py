"""ONNX detectors: every family's output, made models, and the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tracker.detectors.made_models import encode, rectangle_finder, save_constant
from tracker.boxes import iou
from tracker.detections import Frame
from tracker.detectors import open_detector
from tracker.detectors.decode import decode, tell_family
from tracker.io.mot import read_boxes
from trackvae.errors import InputError, UsageError

FAMILIES = ["yolox", "yolox-decoded", "yolov5", "yolov8", "end2end"]
IMAGE = np.full((100, 200, 3), 90, dtype=np.uint8)  # 200 x 100: into 64 x 64 at 0.32
# In pixels of the image; the last reaches out of it, and the fourth repeats the first.
BOXES = np.array([[20.0, 10, 60, 90], [100, 20, 140, 80], [105, 22, 141, 80], [180, 50, 220, 120]])
SCORES = np.array([0.9, 0.8, 0.6, 0.5])
CLASSES = np.array([0, 1, 1, 2])


def to_input(boxes: np.ndarray, family: str) -> np.ndarray:
    """Written out by hand: 0.32, and for all but YOLOX (64 - 32) / 2 = 16 rows of padding above."""
    shift = 0 if family.startswith("yolox") else 16
    return boxes * 0.32 + np.array([0, shift, 0, shift])


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_come_back_in_the_image(family: str, tmp_path: Path) -> None:
    output = encode(family, to_input(BOXES, family), SCORES, CLASSES, size=64, classes=3)
    path = save_constant(tmp_path / "m.onnx", output, size=64)
    detector = open_detector(f"onnx:{path}")
    assert detector.family == family
    found = detector(Frame(1, 0.0, IMAGE))
    # The third is suppressed by the second (IoU 0.83), unless the model says that it did so itself.
    keep = [0, 1, 2, 3] if family == "end2end" else [0, 1, 3]
    expected = np.minimum(BOXES, [200, 100, 200, 100])[keep]
    np.testing.assert_allclose(found.boxes, expected, atol=2e-4)
    np.testing.assert_allclose(found.scores, SCORES[keep], atol=1e-6)
    np.testing.assert_array_equal(found.classes, CLASSES[keep])
    assert found.boxes.dtype == np.float64


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FAMILIES), st.integers(0, 10**6), st.integers(0, 12), st.integers(1, 9))
def test_decode_inverts_each_familys_encoding(
    family: str, seed: int, count: int, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 60, (count, 2))], axis=1)
    scores, labels = rng.uniform(0.3, 1, count), rng.integers(0, classes, count)
    output = encode(family, boxes, scores, labels, size=128, classes=classes)
    found = decode(output, family, (128, 128), 0.29, classes)
    order, theirs = np.argsort(found.scores), np.argsort(scores)
    np.testing.assert_allclose(found.boxes[order], boxes[theirs], atol=1e-3)
    np.testing.assert_allclose(found.scores[order], scores[theirs], atol=1e-5)
    np.testing.assert_array_equal(found.classes[order], labels[theirs])


@pytest.mark.parametrize(
    ("shape", "family"),
    [
        ((1, 8400, 85), "yolox"),
        ((1, 8500, 6), "yolox"),  # one class, four strides
        ((1, 25200, 85), "yolov5"),
        ((1, 25200, 6), "yolov5"),
        ((1, 25500, 85), "yolov5"),
        ((1, 84, 8400), "yolov8"),
        ((1, 5, 8400), "yolov8"),
        ((1, 300, 6), "end2end"),
        ((1, 0, 6), "end2end"),
    ],
)
def test_the_shape_tells_the_family(shape: tuple[int, ...], family: str) -> None:
    assert tell_family(np.zeros(shape, dtype=np.float32), (640, 640)) == family


@pytest.mark.parametrize("shape", [(1, 1000), (1, 3, 80, 80, 85), (2, 8400, 85), (1, 8401, 85)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="no known family"):
        tell_family(np.zeros(shape, dtype=np.float32), (640, 640))


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (333, 97), (64, 64)])
def test_a_model_that_looks_sees_the_letterboxed_rgb_picture(
    size: tuple[int, int], tmp_path: Path
) -> None:
    # The graph itself finds the bright rectangle of the *red* channel in [0, 1] and reports it.
    path = rectangle_finder(tmp_path / "m.onnx", size=64)
    width, height = size
    image = np.zeros((height, width, 3), dtype=np.uint8)
    box = [width // 4, height // 4, width // 4 + width // 3, height // 4 + height // 3]
    image[box[1] : box[3], box[0] : box[2], 2] = 255
    found = open_detector(f"onnx:{path}", family="end2end")(Frame(1, 0.0, image))
    pixel = max(size) / 64  # one pixel of the input, in pixels of the image
    np.testing.assert_allclose(found.boxes, [box], atol=pixel)


def test_names_come_from_the_model(tmp_path: Path) -> None:
    output = encode("yolov8", to_input(BOXES, "yolov8"), SCORES, CLASSES, size=64, classes=3)
    names = {"names": "{0: 'cell', 1: 'bead', 2: 'tip'}"}
    path = save_constant(tmp_path / "m.onnx", output, size=64, metadata=names)
    detector = open_detector(f"onnx:{path}", classes="bead,tip", min_score="0.55")
    assert detector.names == {0: "cell", 1: "bead", 2: "tip"}
    assert detector(Frame(1, 0.0, IMAGE)).classes.tolist() == [1]
    with pytest.raises(UsageError, match="has no class 'person'"):
        open_detector(f"onnx:{path}", classes="person")


def test_mask_columns_after_the_named_classes_are_passed_over(tmp_path: Path) -> None:
    output = encode("yolov8", to_input(BOXES, "yolov8"), SCORES, CLASSES, size=64, classes=3)
    masks = np.full((1, 32, output.shape[2]), 7, dtype=np.float32)
    path = save_constant(
        tmp_path / "m.onnx",
        np.concatenate([output, masks], axis=1),
        size=64,
        metadata={"names": "['a', 'b', 'c']"},
    )
    np.testing.assert_allclose(
        open_detector(f"onnx:{path}")(Frame(1, 0.0, IMAGE)).scores, [0.9, 0.8, 0.5]
    )


def test_classes_suppress_each_other_only_when_asked(tmp_path: Path) -> None:
    boxes = np.array([[20.0, 10, 60, 90], [21, 10, 60, 90]])
    output = encode("yolov8", to_input(boxes, "v8"), SCORES[:2], CLASSES[:2], size=64, classes=3)
    path = save_constant(tmp_path / "m.onnx", output, size=64)
    assert len(open_detector(f"onnx:{path}")(Frame(1, 0.0, IMAGE))) == 2
    assert len(open_detector(f"onnx:{path}", agnostic="yes")(Frame(1, 0.0, IMAGE))) == 1


def test_open_sizes_take_the_setting_and_half_floats_run(tmp_path: Path) -> None:
    output = encode("yolov5", to_input(BOXES, "yolov5"), SCORES, CLASSES, size=64, classes=3)
    path = save_constant(tmp_path / "m.onnx", output, size=None, half=True)
    detector = open_detector(f"onnx:{path}", size=64)
    assert (detector.size, detector.family) == ((64, 64), "yolov5")
    np.testing.assert_allclose(detector(Frame(1, 0.0, IMAGE)).boxes[0], BOXES[0], atol=0.2)
    with pytest.raises(UsageError, match="multiple of 32"):
        open_detector(f"onnx:{path}", size=65)
    fixed = save_constant(tmp_path / "f.onnx", output, size=64)
    with pytest.raises(UsageError, match="fixed at 64x64"):
        open_detector(f"onnx:{fixed}", size=128)


def test_broken_outputs_give_no_boxes(tmp_path: Path) -> None:
    output = encode("yolox", to_input(BOXES, "yolox"), SCORES, CLASSES, size=64, classes=3)
    output[0, :3] = np.nan
    output[0, 3:, 2:4] = np.inf
    path = save_constant(tmp_path / "m.onnx", output, size=64)
    found = open_detector(f"onnx:{path}", family="yolox")(Frame(1, 0.0, IMAGE))
    assert np.isfinite(found.boxes).all()


def test_bad_models_are_one_clear_line(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    classifier = save_constant(tmp_path / "c.onnx", np.zeros((1, 1000), np.float32), size=64)
    for path, says in [
        (tmp_path / "none.onnx", "no such file"),
        (text, "not a usable ONNX model"),
        (classifier, r"output has shape \(1, 1000\), which no known family has"),
    ]:
        with pytest.raises(InputError, match=says) as caught:
            open_detector(f"onnx:{path}")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read as yolov8"):
        open_detector(f"onnx:{classifier}", family="yolov8")


def test_a_frame_without_image_is_refused(tmp_path: Path) -> None:
    output = encode("yolox", BOXES[:0], SCORES[:0], CLASSES[:0], size=64, classes=3)
    detector = open_detector(f"onnx:{save_constant(tmp_path / 'm.onnx', output, size=64)}")
    assert detector(Frame(1, 0.0, IMAGE)).boxes.shape == (0, 4)
    with pytest.raises(InputError, match="frame 7 has no image"):
        detector(Frame(7, 0.0))
    with pytest.raises(InputError, match=r"shape \(5, 5\)"):
        detector(Frame(7, 0.0, np.zeros((5, 5), np.uint8)))


@pytest.mark.real_data
def test_yolox_nano_finds_the_people_of_a_street(real_data: Path) -> None:
    import cv2

    folder = real_data / "data" / "mot" / "TUD-Stadtmitte"
    detector = open_detector(
        f"onnx:{real_data / 'models' / 'yolox_nano.onnx'}", classes="person", threads=1
    )
    truth = read_boxes(folder / "gt" / "gt.txt")
    hits = found = wanted = 0
    for index in range(5, 180, 9):
        image = cv2.imread(str(folder / "img1" / f"{index:06d}.jpg"))
        boxes = detector(Frame(index, 0.0, image)).boxes
        overlap = iou(truth.boxes[truth.rows(index)], boxes)
        # Every pair of mutually best boxes is a match: a lower bound of the optimal one.
        best = overlap == overlap.max(axis=0, keepdims=True)
        best &= overlap == overlap.max(axis=1, keepdims=True)
        hits += int((best & (overlap >= 0.5)).sum())
        found, wanted = found + overlap.shape[1], wanted + overlap.shape[0]
    # All 179 frames: recall 0.835, precision 0.930.
    assert hits / wanted > 0.78
    assert hits / found > 0.88

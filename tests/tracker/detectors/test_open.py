"""Detectors by name, their settings, and files of detections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tracker.detections import Frame
from tracker.detectors import SETTINGS, Detector, open_detector
from tracker.detectors.settings import (
    FileSettings,
    MotionSettings,
    OnnxSettings,
    class_numbers,
    parse_settings,
)
from trackvae.errors import InputError, UsageError

LINES = "1,-1,10,20,30,40,0.9,-1,-1,-1\n1,-1,-5,0,10,10,0.2,-1,-1,-1\n3,-1,1,1,0,5,0.9,-1,-1,-1\n"


@pytest.fixture
def det_txt(tmp_path: Path) -> Path:
    path = tmp_path / "det.txt"
    path.write_text(LINES)
    return path


def test_a_file_gives_each_frame_its_own_boxes(det_txt: Path) -> None:
    detector = open_detector(f"file:{det_txt}")
    assert isinstance(detector, Detector)
    assert not detector.needs_image
    first = detector(Frame(1, 0.0))
    # Not clipped (the second reaches out of the image), in the file's order.
    np.testing.assert_array_equal(first.boxes, [[10, 20, 40, 60], [-5, 0, 5, 10]])
    np.testing.assert_array_equal(first.scores, [0.9, 0.2])
    assert len(detector(Frame(2, 0.1))) == 0
    assert len(detector(Frame(3, 0.1))) == 0  # a box without area is nothing to follow


def test_a_file_setting_arrives_as_text(det_txt: Path) -> None:
    detector = open_detector(f"file:{det_txt}", min_score="0.5")
    np.testing.assert_array_equal(detector(Frame(1, 0.0)).scores, [0.9])


def test_embeddings_ride_along_and_classes_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    feature = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(
        path,
        frame=[2, 1, 2, 2],
        tlwh=np.tile([1.0, 2, 3, 4], (4, 1)),
        score=[0.1, 0.2, 0.3, 0.4],
        feature=feature,
        **{"class": [1, 1, 7, 1]},
    )
    found = open_detector(f"file:{path}", classes="1")(Frame(2, 0.0))
    np.testing.assert_array_equal(found.embeddings, feature[[0, 3]])
    np.testing.assert_array_equal(found.boxes, np.tile([1, 2, 4, 6], (2, 1)))
    empty = open_detector(f"file:{path}")(Frame(9, 0.0)).embeddings
    assert empty is not None
    assert empty.shape == (0, 3)


def test_a_file_with_bad_values_is_refused(tmp_path: Path, det_txt: Path) -> None:
    path = tmp_path / "nan.npz"
    np.savez(path, frame=[1, 4], tlwh=np.ones((2, 4)), score=[0.5, np.nan])
    with pytest.raises(InputError, match=r"nan\.npz: .*score is nan"):
        open_detector(f"file:{path}")
    with pytest.raises(InputError, match="has no classes to choose from"):
        open_detector(f"file:{det_txt}", classes="1")
    with pytest.raises(UsageError, match="no class names: give numbers"):
        open_detector(f"file:{det_txt}", classes="person")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("onx:a.onnx", r"no detector 'onx' \(did you mean 'onnx'\?\); there are file:PATH, onnx:"),
        ("yolo", "no detector 'yolo'"),
        ("", "no detector ''"),
        ("file", "not of the form file:PATH"),
        ("onnx:", "not of the form onnx:PATH"),
        ("motion:", "not of the form motion"),
        ("motion:fast", "not of the form motion"),
    ],
)
def test_unknown_detectors_are_named(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_detector(spec)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"min_scroe": 1}, r"no setting 'min_scroe' \(did you mean 'min_score'\?\); it has min_s"),
        ({"min_score": "high"}, "min_score is 'high', expected a number"),
        ({"min_score": "2"}, r"min_score is 2\.0, expected 0 to 1"),
        ({"min_score": "nan"}, "min_score is 'nan'"),
        ({"threads": "1.5"}, "threads is '1.5', expected a whole number"),
        ({"threads": 1.5}, "threads is 1.5, expected a whole number"),
        ({"agnostic": "maybe"}, "agnostic is 'maybe', expected yes or no"),
        ({"family": "yolov9"}, "family is 'yolov9', expected one of auto"),
        ({"size": -32}, "size is -32, expected 0 or more"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        open_detector("onnx:missing.onnx", **values)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_unknown_setting_lists_every_setting_with_its_default() -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings(MotionSettings, {"x": 1}, "motion")
    for name in MotionSettings.__dataclass_fields__:
        assert f"{name}={getattr(MotionSettings(), name)}" in str(caught.value)


def test_text_and_values_parse_alike() -> None:
    as_text = {"min_score": "0.5", "classes": "person, car,", "agnostic": "Yes", "size": "320"}
    as_values = {"min_score": 0.5, "classes": ["person", "car"], "agnostic": True, "size": 320}
    parsed = parse_settings(OnnxSettings, as_text, "onnx")
    assert parsed == parse_settings(OnnxSettings, as_values, "onnx")
    assert parsed == OnnxSettings(0.5, classes=("person", "car"), agnostic=True, size=320)
    assert parse_settings(FileSettings, {"classes": 3}, "file").classes == ("3",)


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_default_survives_the_way_through_text(kind: str) -> None:
    default = SETTINGS[kind]()
    text = {
        name: ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in ((n, getattr(default, n)) for n in default.__dataclass_fields__)
    }
    assert parse_settings(SETTINGS[kind], text, kind) == default


def test_class_names_and_numbers_mean_the_same() -> None:
    names = {0: "person", 2: "Car"}
    assert class_numbers(("PERSON", "2"), names, "x") == {0, 2}
    assert class_numbers((), names, "x") is None
    with pytest.raises(UsageError, match=r"no class 'persn' \(did you mean 'person'\?\)"):
        class_numbers(("persn",), names, "x")
    with pytest.raises(UsageError, match="no class '1'"):
        class_numbers(("1",), names, "x")


def test_opening_a_file_imports_nothing_heavy(det_txt: Path) -> None:
    code = (
        "import sys; from tracker.detectors import open_detector; "
        f"open_detector({f'file:{det_txt}'!r}); "
        "print(sorted({'cv2', 'torch', 'onnxruntime', 'av'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

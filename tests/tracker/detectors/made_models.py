"""Tiny ONNX models with known answers, for the tests of the ONNX detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

STRIDES = (8, 16, 32)


def encode(
    family: str,
    boxes: np.ndarray,
    scores: np.ndarray,
    classes_of: np.ndarray,
    *,
    size: int,
    classes: int,
) -> np.ndarray:
    """The output of a family that means these boxes (xyxy in input pixels); all else scores 0."""
    count = len(boxes)
    centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    if family == "end2end":
        return np.column_stack([boxes, scores, classes_of])[None].astype(np.float32)
    cells = [(x, y, s) for s in STRIDES for y in range(size // s) for x in range(size // s)]
    rows = len(cells) * (3 if family == "yolov5" else 1)
    head = 4 if family == "yolov8" else 5
    out = np.zeros((rows, head + classes))
    if family != "yolox":
        # What an empty picture leaves: centres spread over the input, so that it looks decoded.
        out[:, :2] = np.linspace(0, size, rows)[:, None]
    for i in range(count):
        row = 3 * i
        out[row, :4] = [*centre[i], *extent[i]]
        if family == "yolox":
            x, y, stride = cells[row]
            out[row, :2] = centre[i] / stride - [x, y]
            out[row, 2:4] = np.log(extent[i] / stride)
        if head == 5:
            out[row, 4] = np.sqrt(scores[i])  # objectness times class score
        out[row, head + classes_of[i]] = scores[i] / (out[row, 4] if head == 5 else 1)
    out = out.T if family == "yolov8" else out
    return out[None].astype(np.float32)


def save_constant(
    path: Path,
    output: np.ndarray,
    *,
    size: int | None,
    metadata: dict[str, str] | None = None,
    half: bool = False,
) -> Path:
    """A model that says the same of every image; ``size`` None leaves the input's size open."""
    kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    value = onnx.numpy_helper.from_array(output.astype(np.float16 if half else np.float32), "c")
    node = onnx.helper.make_node("Identity", ["c"], ["output"])
    return _save(path, [node], [value], size, kind, output.shape, metadata)


def rectangle_finder(path: Path, *, size: int) -> Path:
    """A model that reports the bright rectangle of its first channel as an end2end box."""
    make = onnx.helper.make_node
    nodes = [
        make("Gather", ["images", "zero"], ["channel"], axis=1),  # (1, H, W)
        make("Greater", ["channel", "bright"], ["mask"]),
        make("Cast", ["mask"], ["lit"], to=onnx.TensorProto.FLOAT),
    ]
    for axis, name in ((1, "x"), (2, "y")):
        nodes += [
            make("ReduceMax", ["lit"], [f"{name}s"], axes=[axis], keepdims=0),  # (1, W) or (1, H)
            make("ArgMax", [f"{name}s"], [f"{name}1"], axis=1, keepdims=1),
            make("ArgMax", [f"{name}s"], [f"{name}l"], axis=1, keepdims=1, select_last_index=1),
            make("Add", [f"{name}l", "one"], [f"{name}2"]),
        ]
    nodes += [
        make("Concat", ["x1", "y1", "x2", "y2"], ["corners"], axis=1),
        make("Cast", ["corners"], ["box"], to=onnx.TensorProto.FLOAT),
        make("Concat", ["box", "tail"], ["row"], axis=1),
        make("Unsqueeze", ["row", "axis"], ["output"]),
    ]
    constant = onnx.numpy_helper.from_array
    values = [
        constant(np.array(0, dtype=np.int64), "zero"),
        constant(np.array(0.5, dtype=np.float32), "bright"),
        constant(np.array([[1]], dtype=np.int64), "one"),
        constant(np.array([[0.9, 0.0]], dtype=np.float32), "tail"),
        constant(np.array([1], dtype=np.int64), "axis"),
    ]
    return _save(path, nodes, values, size, onnx.TensorProto.FLOAT, (1, 1, 6), None)


def _save(path, nodes, values, size, kind, shape, metadata):  # type: ignore[no-untyped-def]
    info = onnx.helper.make_tensor_value_info
    image = info("images", kind, [1, 3, size or "height", size or "width"])
    graph = onnx.helper.make_graph(
        nodes, "made", [image], [info("output", kind, list(shape))], values
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path

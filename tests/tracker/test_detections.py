"""Detections: what comes in is checked once, and what cannot be used is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.detections import LARGEST, Detections
from trackvae.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")  # the one line is all that the user sees
BOX = [[10.0, 20.0, 30.0, 60.0]]


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, 4)), np.zeros((0, 4), np.float32)])
def test_nothing_is_an_ordinary_frame(empty: Any) -> None:
    seen = Detections.of(empty, [], [], np.zeros((0, 8)))
    assert seen.boxes.shape == Detections.from_tlwh(empty).boxes.shape == (0, 4)
    assert [seen.scores.dtype.name, seen.classes.dtype.name] == ["float64", "int64"]
    assert seen.embeddings is not None
    assert seen.embeddings.shape == (0, 8)


@given(st.lists(st.tuples(*[st.integers(-(2**40), 2**40)] * 2, *[st.integers(0, 2**40)] * 2)))
def test_both_forms_of_a_box_are_the_same_box(rows: list[tuple[int, ...]]) -> None:
    corners = [(x, y, x + w, y + h) for x, y, w, h in rows]
    seen = Detections.from_tlwh(rows)
    np.testing.assert_array_equal(seen.boxes, Detections.of(corners).boxes)
    assert seen.scores.tolist() == [1.0] * len(rows)
    assert seen.classes.tolist() == [-1] * len(rows)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64, np.float32, bool, list])
def test_whole_classes_of_any_type_are_taken(kind: Any) -> None:
    classes = [0.0, 1.0] if kind is list else np.array([0, 1], dtype=kind)
    seen = Detections.of(BOX * 2, classes=classes)
    assert (seen.classes.dtype.name, seen.classes.tolist()) == ("int64", [0, 1])


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"boxes": [[0, 0, 1]]}, r"boxes have shape \(1, 3\), expected \(N, 4\) xyxy"),
        ({"boxes": [0, 0, 1, 1]}, r"boxes have shape \(4,\)"),
        ({"boxes": [[0, 0], [1]]}, "boxes are not numbers"),
        ({"boxes": [["a", 0, 1, 1]]}, "boxes are not numbers: .*'a'"),
        ({"boxes": [[0, 0, 10**400, 1]]}, "boxes are not numbers"),
        ({"boxes": [[0, 0, np.nan, 1]]}, "box 0 is not finite"),
        ({"boxes": [*BOX, [0, 0, 1e200, 1]]}, "box 1 is far too large: .*1e[+]200"),
        ({"boxes": [*BOX, [-LARGEST, 0, 1, 1]]}, "box 1 is far too large"),
        ({"boxes": [[5, 0, 4, 1]]}, "box 0 has a negative width or height"),
        ({"boxes": BOX, "scores": ["a"]}, "scores are not numbers: .*'a'"),
        ({"boxes": BOX, "scores": [0.5, 0.5]}, r"scores has shape \(2,\), expected \(1,\)"),
        ({"boxes": BOX, "scores": [np.inf]}, "score 0 is not finite"),
        ({"boxes": BOX, "classes": [np.nan]}, "classes hold nan, expected whole numbers"),
        ({"boxes": BOX, "classes": [1.7]}, "classes hold 1.7, expected whole numbers"),
        ({"boxes": BOX, "classes": [2**64]}, r"classes hold 1.84467e\+19"),
        ({"boxes": BOX, "classes": ["car"]}, "classes are not numbers: .*'car'"),
        ({"boxes": BOX, "classes": [[1]]}, r"classes has shape \(1, 1\)"),
        ({"boxes": BOX, "embeddings": [["a"]]}, "embeddings are not numbers: .*'a'"),
        ({"boxes": BOX, "embeddings": [1.0, 2.0]}, r"embeddings have shape \(2,\)"),
        ({"boxes": BOX, "embeddings": np.array([[1e39]])}, "embedding 0 is not finite"),
    ],
)
def test_what_cannot_be_used_is_named(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Detections.of(**columns)


@pytest.mark.parametrize("tlwh", [[[0, 0, 1]], ["box"], [[1.5e308, 0, 1.5e308, 1]], [[0, 0, -1, 1]],
                                  [[-np.inf, 0, np.inf, 1]], [[0, 0, 1e200, 1]]])  # fmt: skip
def test_boxes_by_size_are_checked_too(tlwh: Any) -> None:
    with pytest.raises(InputError, match="box"):
        Detections.from_tlwh(tlwh)

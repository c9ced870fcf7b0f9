"""Off-line refinement: laws of interpolation and smoothing, a naive loop as oracle."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.io.mot import BoxTable
from tracker.refine import interpolate_gaps, smooth
from trackvae.arrays import FloatArray
from trackvae.errors import InputError, UsageError


@st.composite
def tables(draw: st.DrawFn) -> BoxTable:
    """Tracks with holes, in any order of rows."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    pairs = {
        (frame, identity)
        for identity in range(1, draw(st.integers(0, 5)) + 1)
        for frame in np.flatnonzero(rng.random(40) < draw(st.sampled_from([0.1, 0.5, 0.9]))) + 1
    }
    rows = rng.permutation(np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2))
    corner, size = rng.uniform(-50, 900, (len(rows), 2)), rng.uniform(5, 200, (len(rows), 2))
    return BoxTable.of(
        rows[:, 0],
        rows[:, 1],
        np.hstack([corner, corner + size]),
        scores=rng.random(len(rows)),
        classes=rng.integers(1, 4, len(rows)),
        visibility=rng.random(len(rows)),
        embeddings=rng.standard_normal((len(rows), 3)) if seed % 2 else None,
    )


def _by_key(table: BoxTable) -> dict[tuple[int, int], int]:
    keys = zip(table.frames.tolist(), table.ids.tolist(), strict=True)
    return {key: row for row, key in enumerate(keys)}


def _naive(table: BoxTable, max_gap: int) -> dict[tuple[int, int], tuple[FloatArray, float]]:
    """Interpolation, one box at a time."""
    out = {k: (table.boxes[r], float(table.scores[r])) for k, r in _by_key(table).items()}
    for identity in set(table.ids.tolist()):
        rows = sorted(np.flatnonzero(table.ids == identity), key=lambda r: table.frames[r])
        for a, b in pairwise(rows):
            first, last = int(table.frames[a]), int(table.frames[b])
            if last - first - 1 > max_gap:
                continue
            for frame in range(first + 1, last):
                w = (frame - first) / (last - first)
                box = (1 - w) * table.boxes[a] + w * table.boxes[b]
                out[frame, identity] = (box, min(table.scores[a], table.scores[b]))
    return out


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 12))
def test_interpolation_equals_a_naive_loop_and_keeps_what_was_there(
    table: BoxTable, max_gap: int
) -> None:
    filled = interpolate_gaps(table, max_gap)
    expected = _naive(table, max_gap)
    keys = list(zip(filled.frames.tolist(), filled.ids.tolist(), strict=True))
    assert keys == sorted(expected)  # sorted by (frame, id), each once, exactly the right ones
    for row, key in enumerate(keys):
        np.testing.assert_allclose(filled.boxes[row], expected[key][0], atol=1e-9)
        assert filled.scores[row] == expected[key][1]
    assert (filled.boxes[:, 2:] > filled.boxes[:, :2]).all()
    assert (filled.embeddings is None) == (table.embeddings is None)
    old = _by_key(table)
    new = _by_key(filled)
    for key, row in old.items():
        assert np.array_equal(filled.boxes[new[key]], table.boxes[row])
        assert filled.classes[new[key]] == table.classes[row]
        assert filled.visibility[new[key]] == table.visibility[row]


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(0, 12))
def test_interpolation_fills_short_gaps_leaves_long_ones_and_is_idempotent(
    table: BoxTable, max_gap: int
) -> None:
    filled = interpolate_gaps(table, max_gap)
    for identity in set(table.ids.tolist()):
        before = np.diff(np.sort(table.frames[table.ids == identity])) - 1
        after = np.diff(np.sort(filled.frames[filled.ids == identity])) - 1
        assert sorted(after[after > 0]) == sorted(before[before > max_gap])
    again = interpolate_gaps(filled, max_gap)
    for name in ("frames", "ids", "boxes", "scores", "classes", "visibility"):
        assert np.array_equal(getattr(again, name), getattr(filled, name)), name


def _line(frames: list[int], identity: int = 1) -> BoxTable:
    """A box that moves and grows linearly with time."""
    t = np.array(frames, dtype=np.float64)[:, None]
    boxes = np.array([[100.0, 50.0, 140.0, 150.0]]) + t * np.array([[3.0, -1.0, 3.5, 0.25]])
    return BoxTable.of(np.array(frames), np.full(len(frames), identity), boxes)


def test_linear_motion_is_interpolated_exactly() -> None:
    whole = _line(list(range(1, 60)))
    holes = _line([1, 2, 5, 6, 7, 20, 21, 40, 58, 59])
    filled = interpolate_gaps(holes, 18)
    assert np.array_equal(filled.frames, whole.frames)
    np.testing.assert_allclose(filled.boxes, whole.boxes, atol=1e-9)


def test_linear_motion_stays_where_it_is_under_smoothing() -> None:
    # Centre and speed are learned from the data alone; only the vague prior of zero speed pulls.
    line = _line([*range(1, 20), *range(28, 50)])
    np.testing.assert_allclose(smooth(line).boxes, line.boxes, atol=0.6)


@pytest.mark.parametrize("gap", [0, 12], ids=["every frame", "with a gap"])
def test_smoothing_a_noisy_line_halves_the_error(gap: int) -> None:
    rng = np.random.default_rng(3)
    frames = [f for f in range(1, 121) if not 50 < f <= 50 + gap]
    true = _line(frames)
    noisy = BoxTable.of(true.frames, true.ids, true.boxes + rng.normal(0, 4, true.boxes.shape))
    before = np.sqrt(np.mean((noisy.boxes - true.boxes) ** 2))
    after = np.sqrt(np.mean((smooth(noisy).boxes - true.boxes) ** 2))
    assert after < 0.5 * before


@settings(max_examples=25, deadline=None)
@given(tables())
def test_smoothing_keeps_everything_but_the_boxes_and_those_valid(table: BoxTable) -> None:
    out = smooth(table)
    for name in ("frames", "ids", "scores", "classes", "visibility"):
        assert np.array_equal(getattr(out, name), getattr(table, name)), name
    size = table.boxes[:, 2:] - table.boxes[:, :2]
    smoothed = out.boxes[:, 2:] - out.boxes[:, :2]
    assert np.isfinite(out.boxes).all()
    assert (smoothed > 0).all()
    for identity in set(table.ids.tolist()):
        rows = table.ids == identity
        if rows.sum() < 3:
            assert np.array_equal(out.boxes[rows], table.boxes[rows])
        assert (smoothed[rows] <= size[rows].max(axis=0) + 1e-9).all()
        assert (smoothed[rows] >= size[rows].min(axis=0) - 1e-9).all()


def test_smoothing_equals_a_joint_least_squares_estimate() -> None:
    """The smoother's mean is the mode of the whole path's posterior, solved here densely."""
    rng = np.random.default_rng(5)
    frames = np.array([1, 2, 3, 6, 7, 11, 12])
    true = _line(frames.tolist())
    boxes = true.boxes + rng.normal(0, 3, true.boxes.shape)
    r, p, speed = 0.05, 0.01, 0.5
    out = smooth(BoxTable.of(frames, true.ids, boxes), measurement_noise=r, process_noise=p)
    measured = np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])
    unit = np.median(measured[:, 3])
    n = len(frames)
    rows, right = [], []
    for k in range(n):  # measurements
        row = np.zeros((1, 2 * n))
        row[0, 2 * k] = 1 / (r * unit)
        rows.append(row)
        right.append(measured[k][None] / (r * unit))
    row = np.zeros((1, 2 * n))
    row[0, 1] = 1 / (speed * unit)
    rows.append(row)
    right.append(np.zeros((1, 4)))
    for k, tau in enumerate(np.diff(frames).tolist()):  # motion, whitened by its covariance
        q = (p * unit) ** 2 * np.array([[tau**3 / 3, tau**2 / 2], [tau**2 / 2, tau]])
        white = np.linalg.inv(np.linalg.cholesky(q))
        block = np.zeros((2, 2 * n))
        block[:, 2 * k : 2 * k + 2] = -white @ np.array([[1.0, tau], [0.0, 1.0]])
        block[:, 2 * k + 2 : 2 * k + 4] = white
        rows.append(block)
        right.append(np.zeros((2, 4)))
    state = np.linalg.lstsq(np.vstack(rows), np.vstack(right), rcond=None)[0][::2]
    np.testing.assert_allclose((out.boxes[:, :2] + out.boxes[:, 2:]) / 2, state[:, :2], atol=1e-6)


def test_rows_without_identity_pass() -> None:
    frames = np.array([1, 1, 5, 5])
    boxes = np.arange(16.0).reshape(4, 4) + np.array([0.0, 0.0, 20.0, 20.0])
    table = BoxTable.of(frames, np.full(4, -1), boxes)
    assert np.array_equal(interpolate_gaps(table).boxes, boxes)
    assert np.array_equal(smooth(table).boxes, boxes)


def test_bad_input_is_named() -> None:
    twice = BoxTable.of(np.array([4, 4]), np.array([7, 7]), np.ones((2, 4)))
    with pytest.raises(InputError, match="id 7 stands twice in frame 4"):
        interpolate_gaps(twice)
    with pytest.raises(InputError, match="id 7 stands twice in frame 4"):
        smooth(twice)
    with pytest.raises(UsageError, match="max_gap is -1"):
        interpolate_gaps(BoxTable.empty(), -1)
    with pytest.raises(UsageError, match="process_noise is 0"):
        smooth(BoxTable.empty(), process_noise=0.0)


@pytest.mark.real_data
def test_smoothing_brings_real_results_closer_to_the_truth(real_data: Path) -> None:
    from tracker.boxes import iou
    from tracker.io.mot import read_boxes

    truth = read_boxes(real_data / "data" / "mot" / "TUD-Campus" / "gt" / "gt.txt")
    results = read_boxes(real_data / "reference" / "sort_TUD-Campus.txt")
    refined = smooth(results)
    before, after = [], []
    for frame in range(1, results.last_frame + 1):
        rows, gt = results.rows(frame), truth.rows(frame)
        overlap = iou(results.boxes[rows], truth.boxes[gt])
        best = overlap.argmax(axis=1)
        close = overlap.max(axis=1) > 0.5
        before += overlap.max(axis=1)[close].tolist()
        new = iou(refined.boxes[rows], truth.boxes[gt])
        after += new[np.arange(len(best)), best][close].tolist()
    assert np.mean(after) > np.mean(before) + 0.005

"""Streams of boxes: deterministic, as dense and as wrong as asked for, at any size."""

from __future__ import annotations

import numpy as np
import pytest

from tracker.detections import Detections
from tracker.synthetic import box_stream
from trackvae.arrays import FloatArray
from trackvae.errors import UsageError


def test_a_stream_is_deterministic_and_its_objects_are_born_and_die() -> None:
    def stream(seed: int) -> list[tuple[Detections, FloatArray, list[int]]]:
        frames = box_stream(12, 500, seed, embedding_dim=8, lifetime=90)
        return [(f.detections, f.boxes, f.ids.tolist()) for f in frames]

    one, two, other = stream(1), stream(1), stream(2)
    for (d1, b1, i1), (d2, b2, i2) in zip(one, two, strict=True):
        assert i1 == i2
        for a, b in ((b1, b2), (d1.boxes, d2.boxes), (d1.embeddings, d2.embeddings)):
            assert np.array_equal(a, b)
    assert not np.array_equal(one[0][1], other[0][1])
    assert all(len(set(ids)) == 12 for _, _, ids in one)
    spans: dict[int, list[int]] = {}
    for frame, (_, _, ids) in enumerate(one):
        for identity in ids:
            spans.setdefault(identity, []).append(frame)
    assert len(spans) > 40  # 12 places, 500 frames, about 90 a life
    assert all(np.array_equal(s, np.arange(s[0], s[-1] + 1)) for s in spans.values())
    jumps = [
        np.abs(one[k + 1][1] - one[k][1])[np.array(one[k + 1][2]) == np.array(one[k][2])].max()
        for k in range(499)
    ]
    assert max(jumps) < 12  # nobody jumps while it lives


@pytest.mark.parametrize("objects", [10, 100, 1000])
def test_a_stream_errs_as_it_was_told_to_at_any_size_and_as_dense(objects: int) -> None:
    frames, miss, alarms, jitter = 20_000 // objects, 0.1, 0.05, 0.03
    seen, false_alarms, noise, area = 0, 0, [], []
    clean = box_stream(objects, frames, 3, miss_rate=0, false_alarms=0, jitter=0, score_noise=0)
    for frame in clean:
        assert np.array_equal(np.sort(frame.detections.boxes, axis=0), np.sort(frame.boxes, axis=0))
    stream = box_stream(
        objects, frames, 3, miss_rate=miss, false_alarms=0.0, jitter=jitter, lifetime=100
    )
    for frame in stream:
        Detections.of(frame.detections.boxes, frame.detections.scores)  # finite, right way round
        seen += len(frame.detections)
        low, high = frame.boxes.min(axis=0), frame.boxes.max(axis=0)
        area.append((high[2] - low[0]) * (high[3] - low[1]) / objects)
        sizes = frame.boxes[:, 3] - frame.boxes[:, 1]
        noise.append(np.sort(frame.detections.boxes[:, 3])[-1] - sizes.max())
    total = objects * frames
    assert abs(seen / total - (1 - miss)) < 6 * np.sqrt(miss * (1 - miss) / total)
    assert 0.3 < np.mean(area) / (1920 * 1080 / 10) < 1.3
    for frame in box_stream(objects, frames, 3, miss_rate=1.0, false_alarms=alarms):
        false_alarms += len(frame.detections)
    assert abs(false_alarms / total - alarms) < 6 * np.sqrt(alarms / total)


def test_a_stream_s_features_tell_identities_apart() -> None:
    frames = list(box_stream(20, 5, 1, embedding_dim=64, miss_rate=0, false_alarms=0, jitter=0))

    def by_id(index: int) -> FloatArray:
        """Features in the order of the true boxes, found by their equal boxes."""
        frame = frames[index]
        assert frame.detections.embeddings is not None
        gaps = np.abs(frame.boxes[:, None] - frame.detections.boxes[None]).sum(axis=2)
        return frame.detections.embeddings[gaps.argmin(axis=1)]

    cosine = by_id(0) @ by_id(4).T
    np.testing.assert_allclose(np.linalg.norm(by_id(0), axis=1), 1.0, atol=1e-5)
    assert np.array_equal(cosine.argmax(axis=1), np.arange(20))
    assert 0.7 < np.diag(cosine).mean() < 0.95


@pytest.mark.parametrize(("objects", "dim"), [(0, 0), (0, 4), (1, 4)])
def test_empty_and_tiny_streams_go_through(objects: int, dim: int) -> None:
    frames = list(box_stream(objects, 70, 0, embedding_dim=dim))
    assert len(frames) == 70
    assert all(f.boxes.shape == (objects, 4) for f in frames)
    assert all(f.detections.boxes.shape[1:] == (4,) for f in frames)


def test_a_stream_refuses_what_it_cannot_make() -> None:
    with pytest.raises(UsageError, match="lifetime 5"):
        box_stream(10, 10, lifetime=5)
    with pytest.raises(UsageError, match="objects -1"):
        box_stream(-1, 10)

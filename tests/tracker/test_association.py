"""Assignment against brute force; appearance distances against a naive loop; the store's laws."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.appearance import AppearanceMemory
from tracker.association import assign
from tracker.store import TrackStore
from trackvae.errors import InputError


def brute_force(cost, candidates, other):
    """Smallest total over all partial matchings, counting ``other`` for every row left alone."""
    n, m = cost.shape
    best = np.inf
    for choice in itertools.product(range(-1, m), repeat=n):
        used = [c for c in choice if c >= 0]
        if len(set(used)) < len(used):
            continue
        if any(c >= 0 and not candidates[r, c] for r, c in enumerate(choice)):
            continue
        best = min(best, sum(other if c < 0 else cost[r, c] for r, c in enumerate(choice)))
    return best


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.floats(0.1, 1.0))
def test_assignment_is_optimal(seed, n, m, limit):
    cost = np.random.default_rng(seed).random((n, m))
    candidates = cost < limit
    rows, columns = assign(cost, candidates, limit)
    assert candidates[rows, columns].all()
    assert len(set(columns.tolist())) == len(columns)
    assert (np.diff(rows) > 0).all()
    total = cost[rows, columns].sum() + limit * (n - len(rows))
    assert total == pytest.approx(brute_force(cost, candidates, limit))


def test_assignment_of_nothing():
    rows, columns = assign(np.ones((3, 2)), np.zeros((3, 2), dtype=bool), 1.0)
    assert len(rows) == len(columns) == 0


def nearest(galleries, queries, metric):
    out = np.full((len(galleries), len(queries)), np.inf)
    for i, gallery in enumerate(galleries):
        for j, query in enumerate(queries):
            for entry in gallery:
                if metric == "cosine":
                    d = 1 - entry @ query / np.linalg.norm(entry) / np.linalg.norm(query)
                else:
                    d = ((entry - query) ** 2).sum()
                out[i, j] = min(out[i, j], d)
    return out


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("length", [1, 3, 30], ids=["one", "shallow", "deeper than the budget"])
@pytest.mark.parametrize("share", [0.1, 1.0], ids=["few wanted", "all wanted"])
def test_distances_equal_a_naive_loop(metric, length, share):
    rng = np.random.default_rng(5)
    budget, dim, tracks = 12, 8, 9
    memory = AppearanceMemory(metric, budget)
    galleries = [[] for _ in range(tracks)]
    slots = None
    for step in range(length):
        rows = np.arange(tracks) if step == 0 else np.flatnonzero(rng.random(tracks) < 0.8)
        new = rng.normal(size=(len(rows), dim)).astype(np.float32)
        ready = memory.prepare(new)
        if slots is None:
            slots = memory.open(ready)
        else:
            memory.add(slots[rows], ready)
        for row, vector in zip(rows, new, strict=True):
            galleries[row] = (galleries[row] + [vector])[-budget:]
    queries = rng.normal(size=(15, dim)).astype(np.float32)
    wanted = rng.random((tracks, 15)) < share
    got = memory.distances(slots, memory.prepare(queries), wanted)
    expected = nearest(galleries, queries, metric)
    np.testing.assert_allclose(got[wanted], expected[wanted], rtol=1e-4, atol=1e-5)


def test_a_slot_that_is_used_again_remembers_nothing():
    memory = AppearanceMemory("cosine", 10)
    first, second = np.eye(4, dtype=np.float32)[:2]
    slots = memory.open(first[None])
    memory.close(slots, np.zeros(0, np.int64))
    again = memory.open(second[None])
    assert again == slots
    wanted = np.ones((1, 1), dtype=bool)
    assert memory.distances(again, first[None], wanted)[0, 0] == pytest.approx(1.0)


def test_memory_of_a_crowd_that_has_left_is_given_back_and_the_others_keep_their_looks():
    rng = np.random.default_rng(0)
    memory = AppearanceMemory("cosine", 20)
    looks = memory.prepare(rng.normal(size=(1000, 4)).astype(np.float32))
    slots = memory.open(looks)
    for _ in range(12):
        memory.add(slots[:3], looks[:3])
    kept = np.array([1, 500, 999])
    living = np.append(slots[kept], -1)  # one of them was never seen with an embedding
    moved = memory.close(np.delete(slots, kept), living)
    assert len(memory._count) < 100
    assert moved[3] == -1
    distance = memory.distances(moved, looks[kept], np.ones((4, 3), dtype=bool))
    np.testing.assert_allclose(np.diag(distance[:3]), 0, atol=1e-6)
    assert np.isinf(distance[3]).all()
    assert len(set(memory.open(looks[:50]).tolist()) & set(moved.tolist())) == 0


def test_a_moving_average_is_one_unit_vector():
    memory = AppearanceMemory("cosine", 10, momentum=0.9)
    a, b = np.eye(2, dtype=np.float32)
    slots = memory.open(a[None])
    memory.add(slots, b[None])
    mixed = np.array([0.9, 0.1]) / np.hypot(0.9, 0.1)
    got = memory.distances(slots, b[None], np.ones((1, 1), dtype=bool))[0, 0]
    assert got == pytest.approx(1 - mixed[1], abs=1e-6)


def test_embeddings_of_another_length_are_refused():
    memory = AppearanceMemory("cosine", 10)
    memory.open(memory.prepare(np.ones((1, 4), np.float32)))
    with pytest.raises(InputError, match="5 dimensions, the frames before 4"):
        memory.prepare(np.ones((1, 5), np.float32))


@given(st.lists(st.one_of(st.integers(0, 9), st.floats(0, 1)), max_size=30))
def test_the_store_equals_a_list(steps):
    """Whole numbers add so many rows, fractions remove that share of them."""
    rng = np.random.default_rng(0)
    store = TrackStore({"id": ((), np.int64), "mean": ((2,), np.float64)}, capacity=2)
    expected, counter = [], 0
    for step in steps:
        if isinstance(step, int):
            new = list(range(counter, counter + step))
            counter += step
            store.add(step, id=new, mean=np.array(new, dtype=float).reshape(-1, 1) * [1, 10])
            expected += new
        else:
            keep = rng.random(len(expected)) > step
            store.keep(keep)
            expected = [e for e, k in zip(expected, keep, strict=True) if k]
        assert store.id.tolist() == expected
        np.testing.assert_array_equal(store.mean[:, 1], 10.0 * np.array(expected))


def test_the_store_gives_memory_back():
    store = TrackStore({"mean": ((8,), np.float64)})
    store.add(5000)
    store.keep(np.arange(5000) < 3)
    store.keep(np.ones(3, dtype=bool))
    assert store.mean.base.shape[0] < 1000

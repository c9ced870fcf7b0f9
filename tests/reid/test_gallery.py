"""The gallery: exact answers, approximate ones that agree, bounds, removal, files."""

import os
import signal
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.gallery import KINDS, NOBODY, Gallery
from tests.processes import start_python
from trackvae.errors import InputError, UsageError

pytest.importorskip("faiss")


def vectors(count, dim=16, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_the_nearest_entries(kind, metric):
    gallery = Gallery(16, kind=kind, metric=metric)
    entries, queries = vectors(300), vectors(7, seed=1)
    gallery.add(entries[:200], np.arange(200))
    gallery.search(queries)  # an index that exists already takes the rest in
    gallery.add(entries[200:], np.arange(200, 300))
    difference = queries[:, None] - entries
    expected = np.linalg.norm(difference, axis=-1)
    if metric == "cosine":
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (queries, entries)]
        expected = 1 - unit[0] @ unit[1].T
    found = gallery.search(queries, 5)
    assert (found.ids == np.argsort(expected, axis=1)[:, :5]).all()
    np.testing.assert_allclose(found.distances, np.sort(expected, axis=1)[:, :5], atol=1e-5)


def test_a_trained_ivf_pq_finds_most_of_what_exact_search_finds():
    entries, queries = vectors(6000), vectors(50, seed=1)
    answers = []
    for kind in ("exact", "ivf-pq"):
        gallery = Gallery(16, kind=kind)
        gallery.add(entries, np.arange(6000))
        answers.append(gallery.search(queries, 1).ids[:, 0])
    assert (answers[0] == answers[1]).mean() >= 0.8


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=40),
    st.sampled_from([None, 1, 3]),
    st.sampled_from(["exact", "hnsw"]),
)
def test_a_gallery_is_a_list_of_entries(steps, most, kind):
    """Whatever is added and removed, search sees what a plain list would hold."""
    gallery, plain = Gallery(3, kind=kind, most_per_id=most), []
    for number, (adding, identity) in enumerate(steps):
        if adding:
            vector = vectors(1, 3, seed=number)
            gallery.add(vector, np.array([identity]))
            plain.append((identity, vector[0]))
            if most is not None:
                own = [entry for entry in plain if entry[0] == identity]
                dropped = {id(entry) for entry in own[:-most]}
                plain = [entry for entry in plain if id(entry) not in dropped]
        else:
            expected = sum(entry[0] == identity for entry in plain)
            assert gallery.remove(np.array([identity])) == expected
            plain = [entry for entry in plain if entry[0] != identity]
        gallery.search(np.zeros((1, 3)), 1)
    assert gallery.ids.tolist() == [entry[0] for entry in plain]
    found = gallery.search(np.zeros((1, 3), np.float32), len(plain) + 2)
    by_distance = sorted(plain, key=lambda entry: np.linalg.norm(entry[1]))
    assert found.ids[0].tolist() == [entry[0] for entry in by_distance] + [NOBODY] * 2
    assert np.isinf(found.distances[0, -2:]).all()


def test_the_newest_of_an_identity_stay_in_one_large_addition():
    gallery = Gallery(1, most_per_id=2)
    gallery.add(np.arange(6.0)[:, None], np.array([1, 2, 1, 1, 2, 3]))
    assert gallery.embeddings[:, 0].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_gallery_answers_the_same_and_goes_on(kind, tmp_path):
    gallery = Gallery(16, kind=kind, metric="cosine", most_per_id=50)
    gallery.add(vectors(5500), np.arange(5500) % 200)
    gallery.remove(np.arange(5))
    path = tmp_path / "gallery.npz"
    gallery.save(path)
    again = Gallery.load(path)
    queries = vectors(9, seed=3)
    for one, other in zip(gallery.search(queries, 4), again.search(queries, 4), strict=True):
        np.testing.assert_array_equal(one, other)
    again.add(queries, np.full(9, 1000))
    assert (again.search(queries, 1).ids == 1000).all()


def test_kill_during_save_leaves_a_whole_gallery(tmp_path):
    """A process that adds and saves without end is killed at any time: the file is always whole."""
    path = tmp_path / "gallery.npz"
    program = (
        "import sys, numpy as np\n"
        "from reid.gallery import Gallery\n"
        "gallery = Gallery(64)\n"
        "for step in range(100000):\n"
        "    gallery.add(np.full((200, 64), step, 'float32'), np.full(200, step))\n"
        "    gallery.save(sys.argv[1])\n"
        "    print(step, flush=True)\n"
    )
    process = start_python("-c", program, str(path))
    for _ in range(5):
        step = int(process.stdout.readline())
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    gallery = Gallery.load(path)
    assert len(gallery) % 200 == 0
    assert len(gallery) >= 200 * (step + 1)  # nothing that was said to be saved is lost


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda g: g.add(np.zeros((2, 5)), np.arange(2)), InputError, r"\(2, 5\), expected \(N, 4"),
        (lambda g: g.add(np.zeros((2, 4)), np.arange(3)), InputError, r"\(3,\) for 2"),
        (lambda g: g.add(np.zeros((1, 4)), np.array([-1])), InputError, "from 0 on"),
        (lambda g: g.add(np.full((1, 4), np.nan), np.zeros(1)), InputError, "NaN"),
        (lambda g: g.search(np.zeros((1, 3))), InputError, "another encoder"),
        (lambda g: g.search(np.zeros((1, 4)), 0), UsageError, "k is 0"),
        (lambda g: Gallery(0), UsageError, "dim is 0"),
        (lambda g: Gallery(4, kind="tree"), UsageError, "kind is 'tree'"),
        (lambda g: Gallery(4, metric="l1"), UsageError, "metric is 'l1'"),
    ],
)
def test_what_cannot_be(act, error, message):
    with pytest.raises(error, match=message):
        act(Gallery(4))


@pytest.mark.parametrize("damage", ["cut", "other", "text", "missing", "index"])
def test_files_that_are_no_gallery(damage, tmp_path):
    path = tmp_path / "gallery.npz"
    gallery = Gallery(4, kind="hnsw")
    gallery.add(vectors(20, 4), np.arange(20))
    gallery.save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "other":
        np.savez(path, images=np.zeros(3))
    elif damage == "text":
        path.write_text("no gallery")
    elif damage == "missing":
        path.unlink()
    else:
        arrays = dict(np.load(path))
        arrays["index"] = arrays["index"][:60]
        np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"gallery\.npz: (not a|no such)") as caught:
        Gallery.load(path)
    if damage in ("other", "text"):
        assert str(caught.value).endswith("; trackvae gallery build writes one")


def test_an_empty_gallery_answers_nobody(tmp_path):
    path = tmp_path / "gallery.npz"
    Gallery(4, kind="hnsw").save(path)
    found = Gallery.load(path).search(np.zeros((2, 4)), 3)
    assert (found.ids == NOBODY).all()
    assert np.isinf(found.distances).all()

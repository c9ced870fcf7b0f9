"""The made embeddings are as they are said to be, and recall is counted by hand."""

import numpy as np
import pytest

from reid.gallery import KINDS
from tools.benchmark.gallery import ALIKE, LOOKS, make_case, measure, recall, rows_of


def test_recall_by_hand():
    exact = np.array([[1, 2, 3], [4, 5, 6]])
    found = np.array([[1, 3, 9], [5, 4, 6]])
    assert recall(found, exact, 1) == 0.5
    assert recall(found, exact, 2) == 0.75  # 1 of 1, 2; then 5, 4 in any order
    assert recall(found, exact, 3) == pytest.approx(5 / 6)
    assert recall(exact, exact, 3) == 1.0


def test_what_is_missing_counts_for_nobody():
    exact = np.array([[1, 2, -1]])  # a gallery of two
    assert recall(np.array([[2, 1, -1]]), exact, 3) == 1.0
    assert recall(np.array([[2, -1, -1]]), exact, 3) == 0.5


def test_two_looks_of_one_are_as_alike_as_is_said():
    case = make_case(4000, 64, 50, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(case.vectors, axis=1), 1, atol=1e-5)
    cosine = case.vectors @ case.vectors.T
    same = (case.ids[:, None] == case.ids) & ~np.eye(len(case.ids), dtype=bool)
    assert abs(cosine[same].mean() - ALIKE) < 0.03
    assert cosine[~same].mean() < 0.1
    assert len(np.unique(case.ids)) <= 4000 // LOOKS


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_gallery_is_searched_without_loss(kind):
    """Up to 5,000 entries IVF-PQ is exact, and HNSW as good as that."""
    case = make_case(1000, 16, 30, np.random.default_rng(1))
    row, places = measure(kind, case, None if kind == "exact" else _exact(case))
    assert row["recall@1"] == row["recall@10"] == 100.0
    np.testing.assert_array_equal(places, _exact(case))


def _exact(case):
    """The ten nearest by all distances."""
    distance = np.linalg.norm(case.vectors[None] - case.queries[:, None], axis=2)
    return np.argsort(distance, axis=1)[:, :10]


def test_a_row_for_each_kind_beside_exact_search():
    rows = list(rows_of(500, 8, 10))
    assert [row["method"] for row in rows] == list(KINDS)
    assert rows[0]["ratio"] == 1.0

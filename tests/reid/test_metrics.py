"""Retrieval scores: by hand, against a naive loop, and the laws of the two protocols."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.metrics import JUNK, market1501, score_retrieval, within_video
from trackvae.errors import InputError, UsageError


def everything(count):
    return lambda rows: np.ones((len(rows), count), bool)


def test_one_list_by_hand():
    """Entries at distances 1, 2, 3, 4, of which the 2nd and the 4th are right."""
    gallery = np.array([[1.0], [2.0], [3.0], [4.0]])
    scores = score_retrieval(
        np.zeros((1, 1)), gallery, np.array([7]), np.array([1, 7, 2, 7]), everything(4)
    )
    assert (scores.rank1, scores.rank5, scores.queries) == (0.0, 100.0, 1)
    assert scores.mAP == pytest.approx(100 * (1 / 2 + 2 / 4) / 2)
    assert scores.mINP == pytest.approx(100 * 2 / 4)


def naive(queries, gallery, query_ids, gallery_ids, mask):
    """The definitions as loops."""
    ranks, precisions, inps = [], [], []
    for query, identity, allowed in zip(queries, query_ids, mask, strict=True):
        entries = [
            (float(((query - entry) ** 2).sum()), other == identity)
            for entry, other, may in zip(gallery, gallery_ids, allowed, strict=True)
            if may
        ]
        hits = [hit for _, hit in sorted(entries)]
        if not any(hits):
            continue
        places = [place for place, hit in enumerate(hits, 1) if hit]
        ranks.append(places[0])
        precisions.append(np.mean([n / place for n, place in enumerate(places, 1)]))
        inps.append(len(places) / places[-1])
    return np.mean(np.array(ranks) == 1), np.mean(precisions), np.mean(inps), len(ranks)


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_scores_equal_a_naive_loop(seed, people):
    draw = np.random.default_rng(seed)
    queries = draw.integers(0, 4, (9, 2)).astype(float)  # few values: many ties
    gallery = draw.integers(0, 4, (13, 2)).astype(float)
    query_ids, gallery_ids = draw.integers(0, people, 9), draw.integers(0, people, 13)
    query_ids[0] = gallery_ids[0]
    mask = draw.random((9, 13)) < 0.8
    mask[0, 0] = True
    rank1, precision, inp, count = naive(queries, gallery, query_ids, gallery_ids, mask)
    scores = score_retrieval(queries, gallery, query_ids, gallery_ids, lambda rows: mask[rows])
    assert scores.queries == count
    assert scores.rank1 == pytest.approx(100 * rank1)
    assert scores.mAP == pytest.approx(100 * precision)
    assert scores.mINP == pytest.approx(100 * inp)


def test_a_descriptor_that_says_the_same_of_everything_earns_nothing_by_order():
    ids = np.array([3, 3, 5, 5, 5])
    scores = score_retrieval(np.ones((5, 2)), np.ones((5, 2)), ids, ids, everything(5))
    assert scores.rank1 == 0


def test_blocks_of_queries_change_nothing(monkeypatch):
    draw = np.random.default_rng(0)
    vectors, ids = draw.normal(size=(40, 3)), draw.integers(0, 6, 40)
    comparable = within_video(np.arange(40), gap=4)
    whole = score_retrieval(vectors, vectors, ids, ids, comparable)
    monkeypatch.setattr("reid.metrics._AT_ONCE", 100)
    assert score_retrieval(vectors, vectors, ids, ids, comparable) == whole


def test_the_cosine_ignores_length():
    draw = np.random.default_rng(1)
    vectors, ids = draw.normal(size=(30, 4)), draw.integers(0, 5, 30)
    longer = vectors * draw.uniform(0.5, 9, (30, 1))
    comparable = within_video(np.arange(30), gap=1)
    scores = [
        score_retrieval(v, v, ids, ids, comparable, metric="cosine") for v in (vectors, longer)
    ]
    assert scores[0] == scores[1]


def test_market1501_leaves_out_the_own_camera_and_junk_but_keeps_distractors():
    comparable = market1501(
        np.array([7]), np.array([1]), np.array([7, 7, 8, JUNK, 0]), np.array([1, 2, 1, 2, 1])
    )
    assert comparable(np.array([0])).tolist() == [[False, True, True, False, True]]


def test_within_video_keeps_frames_at_least_the_gap_away():
    comparable = within_video(np.array([1, 60, 61, 121]), gap=60)
    assert comparable(np.array([0, 2])).tolist() == [
        [False, False, True, True],
        [True, False, False, True],
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"gallery": np.zeros((3, 5))}, InputError, r"\(2, 4\) and gallery \(3, 5\)"),
        ({"queries": np.full((2, 4), np.nan)}, InputError, "NaN or infinity"),
        ({"gallery_ids": np.array([8, 8, 8])}, InputError, "no query has an entry"),
        ({"metric": "manhattan"}, UsageError, "metric is 'manhattan'"),
        ({"queries": np.zeros((0, 4)), "query_ids": np.zeros(0, int)}, InputError, "no query"),
    ],
)
def test_what_cannot_be_scored(change, error, message):
    given = {
        "queries": np.zeros((2, 4)),
        "gallery": np.zeros((3, 4)),
        "query_ids": np.array([1, 1]),
        "gallery_ids": np.array([1, 2, 3]),
        "comparable": everything(3),
    }
    with pytest.raises(error, match=message):
        score_retrieval(**{**given, **change})

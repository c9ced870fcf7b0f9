"""Partners: always of the same group, never the example itself, and the same for the same rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackvae.errors import UsageError
from training.data import DataSet, DynamicBinarisation, Partners

groups_of = st.lists(st.integers(-3, 3) | st.sampled_from([-(10**15), 10**15]), max_size=40)


@given(groups_of, st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_a_partner_is_another_of_the_group_or_oneself_alone(groups, epoch, seed):
    groups = np.array(groups, dtype=np.int64)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(groups), 60) if len(groups) else np.zeros(0, np.int64)
    drawn = Partners.of(groups, seed).draw(rows, epoch)
    np.testing.assert_array_equal(groups[drawn], groups[rows])
    alone = (groups[rows][:, None] == groups[None]).sum(axis=1) == 1
    np.testing.assert_array_equal(drawn == rows, alone)


@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_what_is_drawn_depends_on_seed_epoch_and_rows_alone(seed, epoch):
    groups = np.repeat([5, -2], 50)
    rows = np.random.default_rng(seed).permutation(100)[:32]
    partners = Partners.of(groups, seed)
    first = partners.draw(rows, epoch)
    partners.draw(rows, epoch + 7)  # what happened before leaves no trace
    np.testing.assert_array_equal(partners.draw(rows, epoch), first)
    np.testing.assert_array_equal(Partners.of(groups, seed).draw(rows, epoch), first)
    renamed = Partners.of(np.where(groups == 5, 10**12, -9), seed)
    np.testing.assert_array_equal(np.sort(groups[renamed.draw(rows, epoch)]), np.sort(groups[rows]))
    assert (partners.draw(rows, epoch + 1) != first).any()
    assert (partners.draw(rows[::-1].copy(), epoch)[::-1] != first).any()
    assert (Partners.of(groups, seed + 1).draw(rows, epoch) != first).any()


def test_all_others_are_equally_likely():
    """Each of six in a group of unlike neighbours: the other five 1/5 each, within 6 deviations."""
    groups = np.array([3, 1, 3, 3, 2, 3, 1, 3, 3])
    members, epochs = np.flatnonzero(groups == 3), 4000
    partners = Partners.of(groups, seed=1)
    drawn = np.stack([partners.draw(members, epoch) for epoch in range(epochs)])
    counts = (drawn[:, :, None] == members).sum(axis=0)  # (one, other)
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(6, dtype=bool)] / epochs
    assert np.abs(others - 0.2).max() < 6 * np.sqrt(0.2 * 0.8 / epochs)
    together = ((drawn[:, 0] == members[1]) & (drawn[:, 1] == members[0])).mean()  # independent
    assert abs(together - 0.04) < 6 * np.sqrt(0.04 * 0.96 / epochs)


@pytest.mark.parametrize(
    "groups", [np.zeros(4), np.zeros((2, 2), np.int64), np.zeros(4, bool), np.array(["a", "b"])]
)
def test_groups_that_are_none(groups):
    with pytest.raises(UsageError, match=r"^groups are .*, expected integers \(N,\)$"):
        Partners.of(groups)


def a_set(train, **settings):
    return DataSet("s", train, train[:0], train[:0], {}, **settings)


def test_the_target_is_the_partner_s_observation():
    train = np.arange(12, dtype=np.float32)[:, None]
    partners = Partners.of(np.arange(12) % 3, seed=2)
    data, rows = a_set(train, partners=partners), np.array([0, 7, 11, 7])
    for epoch in (0, 1):
        np.testing.assert_array_equal(data.batch(rows, epoch=epoch), train[rows])
        target = data.target(rows, epoch=epoch)
        np.testing.assert_array_equal(target, train[partners.draw(rows, epoch)])
        assert target.dtype == np.float32
    assert a_set(train).target(rows) is None


def test_pixels_of_a_partner_are_intensities_or_drawn():
    levels = np.array([0, 255, 102, 0, 255, 102], dtype=np.uint8)
    train = np.broadcast_to(levels[:, None, None, None], (6, 1, 30, 30)).copy()
    rows, partners = np.arange(6), Partners.of(np.array([0, 1, 2, 0, 1, 2]))
    grey = a_set(train, partners=partners).target(rows)
    np.testing.assert_array_equal(grey, train.astype(np.float32) / np.float32(255))
    binary = a_set(train, partners=partners, binarisation=DynamicBinarisation(seed=4))
    drawn = binary.target(rows, epoch=1)
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(axis=(1, 2, 3)), levels / 255, atol=0.1)
    np.testing.assert_array_equal(binary.target(rows, epoch=1), drawn)
    assert (drawn[2] != binary.batch(rows, epoch=1)[2]).any()  # noise of its own


def test_partners_of_another_number_of_examples():
    with pytest.raises(ValueError, match="3 partners, 4 examples"):
        a_set(np.zeros((4, 1), np.float32), partners=Partners.of(np.zeros(3, np.int64)))

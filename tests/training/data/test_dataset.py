"""A data set's parts: nothing lost, nothing twice, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackvae.errors import InputError, UsageError
from training.data.binarise import DynamicBinarisation
from training.data.dataset import PARTS, DataSet, Standardisation, split


@given(st.integers(2, 60), st.floats(0, 0.49), st.floats(0, 0.49), st.integers(0, 5), st.booleans())
def test_a_split_keeps_every_example_once_beside_its_label(n, test, validation, seed, labelled):
    examples = np.arange(n, dtype=np.float32)[:, None]
    labels = 10 * np.arange(n) if labelled else None
    made = split("s", examples, test=test, validation=validation, seed=seed, labels=labels)
    assert sorted(np.concatenate([made.part(p)[:, 0] for p in PARTS])) == list(range(n))
    assert len(made.train) >= 2
    assert len(made.test) == min(round(test * n), n - 2)
    for part in PARTS if labelled else ():
        np.testing.assert_array_equal(made.labels[part], 10 * made.part(part)[:, 0])
    again = split("s", examples, test=test, validation=validation, seed=seed)
    np.testing.assert_array_equal(again.train, made.train)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_examples(n):
    with pytest.raises(InputError, match=rf"^crops: {n} example\(s\) to train on, expected at"):
        split("crops", np.zeros((n, 3), dtype=np.float32))


@pytest.mark.parametrize("fractions", [(1.0, 0.0), (0.5, 0.5), (-0.1, 0.0), (float("nan"), 0.0)])
def test_fractions_that_leave_nothing(fractions):
    with pytest.raises(UsageError, match="expected fractions"):
        split("s", np.zeros((9, 1), np.float32), test=fractions[0], validation=fractions[1])


def test_bytes_become_intensities_and_stay_bytes_in_memory():
    pixels = np.array([0, 51, 255, 255], dtype=np.uint8).reshape(4, 1, 1, 1)
    made = split("s", pixels, test=0.0)
    assert made.train.dtype == np.uint8
    values = made.values()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(np.sort(values.ravel()), np.float32([0, 0.2, 1, 1]))
    rows = np.array([2, 0])
    np.testing.assert_array_equal(made.batch(rows, epoch=3), values[rows])


def test_a_dynamic_batch_depends_on_its_rows_and_epoch_alone():
    pixels = np.full((6, 1, 8, 8), 128, dtype=np.uint8)
    empty = pixels[:0]
    made = DataSet("s", pixels, empty, empty, {}, binarisation=DynamicBinarisation(seed=4))
    rows = np.array([5, 1, 3])
    first = made.batch(rows, epoch=1)
    made.batch(rows, epoch=9)  # what happened before leaves no trace
    np.testing.assert_array_equal(made.batch(rows, epoch=1), first)
    assert set(np.unique(first)) == {0.0, 1.0}
    assert (made.batch(rows, epoch=2) != first).any()
    assert (made.batch(np.array([0, 2, 4]), epoch=1) != first).any()  # another process's rows


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 99))
def test_standardised_values_have_mean_0_and_deviation_1_and_go_back(n, d, seed):
    rng = np.random.default_rng(seed)
    raw = rng.normal(3.0, 20.0, size=(n, d))
    raw[:, 0] = 0.1  # constant, and its mean is not exactly 0.1
    scale = Standardisation.of(raw)
    values = scale.apply(raw)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(values[:, 1:].std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(scale.undo(values), raw, atol=1e-3)
    assert np.abs(values[:, 0]).max() < 1e-9

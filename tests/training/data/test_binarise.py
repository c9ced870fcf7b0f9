"""Binarisation: the mean of the draws is the intensity, and the ends are exact."""

import numpy as np
import pytest

from trackvae.errors import UsageError
from training.data.binarise import DynamicBinarisation, bernoulli, check_binarisation, threshold
from training.data.dataset import PARTS
from training.data.glyphs import glyphs
from training.data.images import binarised


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_the_mean_of_the_draws_is_the_intensity(kind):
    levels = np.arange(256, dtype=np.uint8)
    pixels = levels if kind is np.uint8 else levels.astype(np.float32) / np.float32(255)
    draws = 4000
    drawn = bernoulli(np.broadcast_to(pixels, (draws, 256)).copy(), np.random.default_rng(0))
    assert set(np.unique(drawn)) == {0, 255}
    p = levels / 255
    standard_error = np.sqrt(p * (1 - p) / draws)
    assert (np.abs(drawn.mean(axis=0) / 255 - p) <= 6 * standard_error).all()  # exact at 0 and 1


def test_dynamic_draws_are_independent_from_epoch_to_epoch():
    pixels, rows = np.full((50, 800), 102, dtype=np.uint8), np.arange(50)  # p = 0.4
    draws = [DynamicBinarisation(1).draw(pixels, rows, epoch) // 255 for epoch in (0, 1)]
    both = (draws[0] & draws[1]).mean()
    assert abs(both - 0.16) <= 6 * np.sqrt(0.16 * 0.84 / pixels.size)
    np.testing.assert_array_equal(DynamicBinarisation(1).draw(pixels, rows, 1) // 255, draws[1])
    assert (DynamicBinarisation(2).draw(pixels, rows, 1) // 255 != draws[1]).any()


def test_the_threshold_is_one_half():
    assert threshold(np.array([0, 127, 128, 255], dtype=np.uint8)).tolist() == [0, 0, 255, 255]
    assert threshold(np.array([0.0, 0.5, 0.51], dtype=np.float32)).tolist() == [0, 0, 255]


def test_what_is_drawn_when():
    grey = glyphs(60, binarise="none")
    by_kind = {kind: binarised(grey, kind, seed=3) for kind in ("threshold", "static", "dynamic")}
    for data in by_kind.values():
        for part in ("validation", "test"):  # every model is measured on the same pixels
            assert set(np.unique(data.part(part))) <= {0, 255}
    for part in PARTS:
        np.testing.assert_array_equal(
            binarised(grey, "static", seed=3).part(part), by_kind["static"].part(part)
        )
    np.testing.assert_array_equal(by_kind["dynamic"].train, grey.train)
    rows = np.arange(5)
    assert set(np.unique(by_kind["dynamic"].batch(rows))) == {0.0, 1.0}
    first = by_kind["static"].batch(rows, epoch=0)
    np.testing.assert_array_equal(by_kind["static"].batch(rows, epoch=1), first)
    assert binarised(grey, "none") is grey


def test_a_kind_that_does_not_exist():
    with pytest.raises(UsageError, match="binarisation is 'grey', expected one of none, thr"):
        check_binarisation("grey")

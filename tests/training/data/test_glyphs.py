"""Drawn digits: greys as MNIST's, the same for the same seed, and tellable apart."""

import numpy as np

from training.data.dataset import PARTS
from training.data.glyphs import glyphs, render_glyphs


def test_digits_fill_the_frame_as_mnist_s_do():
    images = render_glyphs(np.arange(300) % 10, np.random.default_rng(0)) / 255
    assert images.shape == (300, 28, 28)
    assert 0.07 < images.mean() < 0.20  # MNIST: 0.13
    rim = np.ones((28, 28), dtype=bool)
    rim[2:-2, 2:-2] = False
    assert images[:, rim].mean() < 0.01
    assert (images.reshape(300, -1).max(axis=1) == 1).all()


def test_an_image_does_not_depend_on_how_many_are_drawn_of_another_digit():
    few, many = (
        render_glyphs(np.array(digits), np.random.default_rng(2))
        for digits in ([3, 1, 3], [3, 8, 3])
    )
    np.testing.assert_array_equal(few[[0, 2]], many[[0, 2]])
    assert (few[1] != many[1]).any()


def test_a_seed_gives_the_same_set_and_the_labels_fit():
    first, again, other = glyphs(400, seed=1), glyphs(400, seed=1), glyphs(400, seed=2)
    for part in PARTS:
        np.testing.assert_array_equal(first.part(part), again.part(part))
    assert (first.train != other.train).any()
    # The nearest class mean, in grey, tells most digits: labels and pictures belong together.
    data = glyphs(1000, binarise="none", seed=3)
    train, test = data.values().reshape(-1, 784), data.values("test").reshape(-1, 784)
    means = np.stack([train[data.labels["train"] == d].mean(axis=0) for d in range(10)])
    distance = ((test[:, None] - means) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == data.labels["test"]).mean() > 0.8

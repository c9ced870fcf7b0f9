"""The supervised descriptor's training: its softmax by a loop, what it learns, what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trackvae.errors import InputError, UsageError
from trackvae.residual import ResidualConfig
from training.cosine_softmax import CosineConfig, CosineSoftmax, train_descriptor

NETWORK = ResidualConfig(size=(32, 16), widths=(8, 8, 8), dim=8, dropout=0.1)
QUICK = CosineConfig(steps=40, batch_size=24, learning_rate=3e-3)


def crops_of(colours, each, seed=0):
    """Noisy crops with a jacket of one colour, and whose they are."""
    rng = np.random.default_rng(seed)
    crops = rng.integers(90, 160, (len(colours) * each, 3, 32, 16))
    ids = np.repeat(np.arange(len(colours)), each)
    crops[:, :, 6:20, 4:12] = np.array(colours)[ids][:, :, None, None]
    crops[:, :, 6:20] += rng.integers(-15, 16, (len(ids), 1, 14, 16))
    return crops.clip(0, 255).astype(np.uint8), ids


COLOURS = [(220, 40, 40), (40, 220, 40), (40, 40, 220), (200, 200, 40)]


def test_logits_are_scaled_cosines():
    torch.manual_seed(0)
    softmax = CosineSoftmax(4, 3)
    features = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    found = softmax(features)
    for row, r in enumerate(features):
        for column, w in enumerate(softmax.directions):
            cosine = float(r @ w) / math.sqrt(float(w @ w))
            assert float(found[row, column]) == pytest.approx(float(softmax.scale) * cosine)


def test_the_length_of_a_direction_does_not_count():
    softmax = CosineSoftmax(3, 6)
    features = torch.nn.functional.normalize(torch.randn(4, 6), dim=1)
    before = softmax(features)
    with torch.no_grad():
        softmax.directions *= torch.tensor([[0.1], [1.0], [30.0]])
    torch.testing.assert_close(softmax(features), before)


def test_features_of_one_identity_come_together():
    crops, ids = crops_of(COLOURS, 12)
    trained = train_descriptor(crops, ids + 7, QUICK, NETWORK)  # any numbers
    assert trained.identities == 4
    assert trained.accuracy > 0.9
    assert trained.loss < 0.5 * math.log(4)
    unseen, whose = crops_of(COLOURS, 5, seed=1)
    with torch.no_grad():
        features = trained.network(torch.from_numpy(unseen).float() / 255)
    cosine = (features @ features.T).numpy()
    same = whose[:, None] == whose
    assert cosine[same].min() > cosine[~same].max()


def test_the_seed_says_all_and_nobody_elses_numbers_are_taken():
    crops, ids = crops_of(COLOURS[:2], 4)
    short = CosineConfig(steps=3, batch_size=4, seed=3)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    losses: list[list[float]] = [[], []]
    for some in losses:
        train_descriptor(crops, ids, short, NETWORK, lambda _, loss, to=some: to.append(loss))
    torch.testing.assert_close(torch.rand(3), expected)
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


def test_identities_with_few_crops_count_as_much_as_the_others():
    """200 crops of one colour, 4 of the other: both are learned."""
    first, _ = crops_of(COLOURS[:1], 200)
    second, _ = crops_of(COLOURS[1:2], 4)
    ids = np.repeat([0, 1], [200, 4])
    trained = train_descriptor(np.concatenate([first, second]), ids, QUICK, NETWORK)
    assert trained.accuracy > 0.9
    unseen, whose = crops_of(COLOURS[:2], 6, seed=1)
    with torch.no_grad():
        features = trained.network(torch.from_numpy(unseen).float() / 255).numpy()
    same = whose[:, None] == whose
    assert (features @ features.T)[same].min() > (features @ features.T)[~same].max()


def test_the_learning_rate_falls_to_a_hundredth():
    config = CosineConfig(steps=100, learning_rate=1.0)
    rates = [config.rate_at(step) for step in range(101)]
    assert rates[0] == 1
    assert rates[100] == pytest.approx(0.01)
    assert rates == sorted(rates, reverse=True)


def test_refuses_what_cannot_be_learned_from():
    crops, ids = crops_of(COLOURS[:2], 4)
    with pytest.raises(InputError, match="1 identities"):
        train_descriptor(crops, 0 * ids, QUICK, NETWORK)
    with pytest.raises(InputError, match=r"expected uint8 \(N, 3, 128, 64\)"):
        train_descriptor(crops, ids, QUICK)
    with pytest.raises(InputError, match=r"8 crops, identities of shape \(7,\)"):
        train_descriptor(crops, ids[1:], QUICK, NETWORK)
    with pytest.raises(UsageError, match="steps is 0"):
        CosineConfig(steps=0)

"""Batches of sequences: what fits together, padding, and what is told of what does not."""

import numpy as np
import pytest
import torch

from trackvae.errors import InputError
from training.data.actuated import actuated_pendulum
from training.data.sequences import Sequences
from training.dssm.batch import SequenceBatch


def test_the_last_control_of_a_data_set_is_left_out():
    data = actuated_pendulum(4, test=1, validation=1, steps=6).train
    made = SequenceBatch.of(data)
    assert made.event == (16, 16)
    np.testing.assert_array_equal(made.controls, data.controls[:, :-1])
    np.testing.assert_array_equal(made.observations, data.observations)
    assert made.mask is None
    assert torch.equal(made.weights, torch.ones(4, 6))


def test_lengths_of_a_data_set_become_a_mask():
    draw = np.random.default_rng(0)
    data = Sequences(
        draw.normal(size=(2, 4, 3)).astype(np.float32),
        draw.normal(size=(2, 4, 1)).astype(np.float32),
        np.zeros((2, 4, 0)),
        np.array([4, 2]),
    )
    made = SequenceBatch.of(data)
    assert made.weights.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert float(made.observations[1, 2:].abs().max()) == 0


def test_unequal_lengths_are_padded():
    x = [torch.arange(2 * n, dtype=torch.float32).reshape(n, 2) + 1 for n in (3, 1)]
    made = SequenceBatch.padded(x, [torch.ones(2, 1), torch.ones(0, 1)])
    assert made.mask.tolist() == [[True, True, True], [True, False, False]]
    assert made.observations[1].tolist() == [[1, 2], [0, 0], [0, 0]]
    assert made.controls[1].abs().max() == 0
    first = made[torch.tensor([1])].first(1)
    assert (first.steps, tuple(first.controls.shape)) == (1, (1, 0, 1))


@pytest.mark.parametrize(
    ("x", "u", "message"),
    [
        ((2, 5, 3), (2, 5, 1), r"controls are \(2, 5, 1\), expected \(2, 4\)"),
        ((2, 5, 3), (3, 4, 1), r"expected \(2, 4\)"),
        ((2, 0, 3), (2, 0, 1), "steps from 1"),
        ((2, 5), (2, 4, 1), "expected"),
    ],
)
def test_what_does_not_fit(x, u, message):
    with pytest.raises(InputError, match=message):
        SequenceBatch(torch.zeros(x), torch.zeros(u))


@pytest.mark.parametrize(
    ("x", "u", "mask", "message"),
    [
        (
            np.zeros((2, 3, 4)),
            torch.zeros(2, 2, 1),
            None,
            "observations are ndarray, expected a ten",
        ),
        (torch.zeros(2, 3, 4), None, None, "controls are NoneType"),
        (torch.zeros(2, 3, 4).long(), torch.zeros(2, 2, 1), None, "observations are torch.int64"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 2, 1), torch.ones(2, 3), "mask is torch.float32"),
    ],
)
def test_other_kinds_of_numbers(x, u, mask, message):
    with pytest.raises(InputError, match=message):
        SequenceBatch(x, u, mask)


def test_sequences_of_different_shapes_are_named():
    with pytest.raises(InputError, match=r"sequence 1, from 0: observations \(2, 5\)"):
        SequenceBatch.padded(
            [torch.zeros(3, 4), torch.zeros(2, 5)], [torch.zeros(2, 1), torch.zeros(1, 1)]
        )


def test_what_goes_on_and_what_is_padding():
    mask = torch.tensor([[True, False, True, False], [False, False, False, False]])
    x = SequenceBatch(torch.zeros(2, 4, 1), torch.zeros(2, 3, 0), mask)
    assert x.going_on.tolist() == [[True, True, True, False], [False] * 4]


def test_a_mask_of_the_wrong_length():
    with pytest.raises(InputError, match=r"mask is \(2, 4\), expected \(2, 5\)"):
        SequenceBatch(torch.zeros(2, 5, 1), torch.zeros(2, 4, 1), torch.ones(2, 4).bool())


def test_sequences_of_the_wrong_length_are_named():
    with pytest.raises(InputError, match="sequence 1, from 0: 2 observations and 2 controls"):
        SequenceBatch.padded([torch.zeros(2, 1)] * 2, [torch.zeros(1, 1), torch.zeros(2, 1)])


@pytest.mark.parametrize(("name", "at"), [("observations", (1, 2, 0)), ("controls", (0, 1, 0))])
def test_what_is_not_finite_is_named(name, at):
    made = SequenceBatch(torch.zeros(2, 4, 1), torch.zeros(2, 3, 1))
    made.check()
    getattr(made, name)[at] = float("inf")
    with pytest.raises(InputError, match=rf"{name} hold NaN .*\(sequence {at[0]}, step {at[1]}\)"):
        made.check()

"""The supervised descriptor's network: unit features, residual blocks, its file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trackvae.errors import InputError, UsageError
from trackvae.residual import (
    ResidualConfig,
    ResidualNetwork,
    is_residual,
    load_residual,
    save_residual,
)
from trackvae.tensors import write_tensors

SMALL = ResidualConfig(size=(32, 16), widths=(4, 6, 8), dim=5)


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = ResidualNetwork(SMALL)
    made.train()(torch.rand(16, 3, 32, 16))  # statistics that are not those of a new network
    return made.eval()


def test_features_have_unit_length_and_do_not_depend_on_the_batch(network):
    crops = torch.rand(7, 3, 32, 16)
    with torch.no_grad():
        together = network(crops)
        alone = torch.cat([network(crop[None]) for crop in crops])
    assert together.shape == (7, 5)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(together, alone)


def test_a_block_of_zeros_lets_everything_pass(network):
    block = network.blocks[1]
    torch.nn.init.zeros_(block.inner[-1].weight)
    torch.nn.init.zeros_(block.inner[-1].bias)
    x = torch.rand(2, 4, 8, 4)
    torch.testing.assert_close(block(x), x)


def test_each_pair_of_blocks_but_the_first_halves_the_sides(network):
    x, sizes = torch.rand(1, 4, 8, 4), []
    for block in network.blocks:
        x = block(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(4, 8, 4)] * 2 + [(6, 4, 2)] * 2 + [(8, 2, 1)] * 2


def test_the_papers_widths_make_so_many_weights():
    """Counted layer by layer: 3 x 3 kernels, batch normalisations, biases."""

    def block(before, after):
        begins = before == after == 32
        shortcut = 0 if before == after else before * after
        normalised = (0 if begins else 2 * before) + 2 * after
        return 9 * before * after + 9 * after * after + after + normalised + shortcut

    stem = 9 * 3 * 32 + 9 * 32 * 32 + 4 * 32
    blocks = block(32, 32) + block(32, 32) + 2 * 32  # the second is normalised at first
    blocks += block(32, 64) + block(64, 64) + block(64, 128) + block(128, 128)
    dense = 128 * 8 * 4 * 128 + 2 * 128
    made = ResidualNetwork(ResidualConfig())
    assert sum(weight.numel() for weight in made.parameters()) == stem + blocks + dense


def test_comes_back_from_its_file(network, tmp_path):
    path = tmp_path / "descriptor.safetensors"
    save_residual(path, network, {"trained_on": ["a", "b"]})
    again, card = load_residual(path)
    crops = torch.rand(3, 3, 32, 16)
    torch.testing.assert_close(again(crops), network(crops), rtol=0, atol=0)
    assert again.config == SMALL
    assert card == {"trained_on": ["a", "b"]}
    assert is_residual(path)


def test_refuses_what_is_no_such_file(network, tmp_path):
    other = tmp_path / "other.safetensors"
    write_tensors(other, {"x": torch.zeros(2)}, {})
    assert not is_residual(other)
    assert not is_residual(tmp_path / "missing")
    with pytest.raises(InputError, match=r"other\.safetensors: these weights are not of a superv"):
        load_residual(other)
    with pytest.raises(InputError, match="no such file"):
        load_residual(tmp_path / "missing")
    broken = tmp_path / "broken.safetensors"
    torch.nn.init.constant_(network.dense[1].weight, np.nan)
    save_residual(broken, network)
    with pytest.raises(InputError, match="NaN or infinity"):
        load_residual(broken)


def test_refuses_weights_of_another_network(network, tmp_path):
    path = tmp_path / "mixed.safetensors"
    save_residual(path, network)
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        note = file.metadata()
    weights = ResidualNetwork(ResidualConfig(size=(32, 16), widths=(4, 6, 9), dim=5)).state_dict()
    write_tensors(path, weights, note)
    with pytest.raises(InputError, match="do not belong together"):
        load_residual(path)


@pytest.mark.parametrize(
    "changes", [{"size": (100, 64)}, {"widths": (4, 0, 8)}, {"dim": 0}, {"dropout": 1.0}]
)
def test_refuses_settings_that_mean_nothing(changes):
    with pytest.raises(UsageError):
        ResidualConfig(**changes)

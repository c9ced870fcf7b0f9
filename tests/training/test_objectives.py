"""The regulariser as the trainer calls it: its rows, and whose c^2 it takes."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from trackvae import flatness  # noqa: E402
from trackvae.errors import UsageError  # noqa: E402
from training.objectives import Flatness, FlatnessConfig  # noqa: E402


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def decoder() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 7)).double()


Z = torch.randn(8, 3, generator=seeded(4), dtype=torch.float64)


def value(config: FlatnessConfig, seed: int = 0) -> Tensor:
    return Flatness(config)(decoder(), Z, seeded(seed))


def test_some_rows_cost_on_average_what_all_of_them_do():
    """With the posterior's own samples, so that only the choice of rows is random."""
    made = decoder()
    sketch = flatness.exact(made, Z)
    c2 = flatness.scaling_factor(sketch)
    expected = flatness.absolute_penalty(sketch, torch.zeros_like(c2)).detach()
    config = FlatnessConfig(
        1.0, rows=3, estimator="exact", penalty="absolute", mixup=False, identity=False
    )
    with torch.no_grad():
        draws = torch.stack([Flatness(config)(made, Z, seeded(s)) for s in range(400)])
    error = draws.std() / math.sqrt(len(draws))
    assert (draws.mean() - expected).abs() <= 6 * error
    assert draws.std() > 0


def test_all_rows_by_number_are_all_rows():
    torch.testing.assert_close(value(FlatnessConfig(2.0, rows=8)), value(FlatnessConfig(2.0)))


@pytest.mark.parametrize("estimator", sorted(flatness.ESTIMATORS))
@pytest.mark.parametrize(("scale", "pull"), [("own", 0.0), ("moving", 4.0)])
def test_only_a_detached_scale_pulls_the_decoders_own(estimator, scale, pull):
    """d penalty / d log s: 0 where c^2 has its graph, 4 ||G||^2 / c^4 and less where it has not."""
    made, size = decoder(), torch.ones((), dtype=torch.float64, requires_grad=True)
    config = FlatnessConfig(1.0, scale=scale, estimator=estimator, mixup=False)
    penalty = Flatness(config)(lambda z: size * made(z), Z, seeded())
    penalty.backward()
    if pull == 0:
        assert size.grad.item() == pytest.approx(0, abs=1e-9)
    else:
        assert size.grad.item() > 0.1 * penalty.item()


def test_own_scale_leaves_the_value_of_a_first_step():
    torch.testing.assert_close(value(FlatnessConfig(1.0, scale="own")), value(FlatnessConfig(1.0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rows": 0}, "rows is 0"), ({"scale": "none"}, "scale is 'none'")],
)
def test_options_that_mean_nothing(settings, message):
    with pytest.raises(UsageError, match=message):
        FlatnessConfig(1.0, **settings)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lraee.quantize.channel_grids import best_percentile_grids, range_parameters, rounded


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _error(values: np.ndarray, low: float, high: float, bits: int) -> float:
    scale = (high - low) / (2**bits - 1)
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(values / scale) + zero, 0, 2**bits - 1)
    return float(np.mean(((codes - zero) * scale - values) ** 2))


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("percentiles", [(99.9, 99.99, 99.999), (97.0, 99.5, 100.0)])
def test_each_columns_range_is_numpys_percentile_with_the_smallest_error(
    bits: int, percentiles: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(0)
    columns = [rng.normal(5, 1, 3000), rng.standard_t(2, 3000), rng.exponential(1, 3000), rng.uniform(-9, -8, 3000)]
    values = np.stack(columns, axis=1).astype(np.float32)
    scale, zero_point = best_percentile_grids(torch.tensor(values), bits, percentiles)
    for column, own_scale, own_zero in zip(values.T, scale, zero_point, strict=True):
        column = column.astype(np.float64)
        ranges = [np.percentile(column, [100 - share, share]) for share in percentiles]
        low, high = min(ranges, key=lambda ends: _error(column, *ends, bits))
        assert own_scale.item() == pytest.approx((high - low) / (2**bits - 1), rel=1e-4)
        assert own_zero.item() == pytest.approx(-low / own_scale.item(), abs=0.51)


def test_min_max_is_the_percentile_100() -> None:
    x = _random(200, 5)
    scale, zero_point = best_percentile_grids(x, 4, [100.0])
    expected = range_parameters(x.amin(0), x.amax(0), 4)
    torch.testing.assert_close((scale, zero_point), expected)


@given(st.integers(2, 8), st.integers(0, 200), st.floats(-20, 20))
def test_values_in_range_are_rounded_by_half_a_step_at_most(bits: int, seed: int, shift: float) -> None:
    x = _random(50, 3, seed=seed) + shift
    scale, zero_point = range_parameters(x.amin(0), x.amax(0), bits)
    assert torch.equal(zero_point, zero_point.round())
    # The range itself is shifted by up to half a step, so that the zero point is whole.
    error = (rounded(x, scale, zero_point, bits) - x).abs()
    assert (error <= scale * 1.001 + 1e-5).all()
    inside = (x >= -zero_point * scale) & (x <= (2**bits - 1 - zero_point) * scale)
    assert (error <= scale * 0.501 + 1e-5)[inside].all()


@pytest.mark.parametrize("value", [0.0, 3.0, -250.0])
def test_a_column_of_one_value_keeps_it(value: float) -> None:
    x = torch.full((40, 1), value)
    scale, zero_point = best_percentile_grids(x, 4, [99.9, 100.0])
    assert zero_point.abs() <= 1e4
    torch.testing.assert_close(rounded(x, scale, zero_point, 4), x, rtol=1e-3, atol=0.0)

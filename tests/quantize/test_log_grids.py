import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lraee.quantize.log_grids import LogGrid


def _values(bits: int, largest: float, steps: int) -> np.ndarray:
    """The grid's values above zero, by the definition."""
    return largest * 2.0 ** (-np.arange(2**bits - 1) / steps)


def test_log2_by_hand() -> None:
    # 2 bits: 1, 1/2, 1/4 and zero; a number goes to the next power when it is below 2^-0.5 of one.
    grid = LogGrid(2, torch.tensor(1.0), 1)
    x = torch.tensor([3.0, 1.0, 0.71, 0.70, 0.5, 0.3, 0.25, 0.18, 0.17, 1e-9, 0.0])
    assert grid(x).tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0]
    assert grid.codes(x).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3]


def test_log_sqrt2_by_hand() -> None:
    grid = LogGrid(3, torch.tensor(0.5), 2)
    root = 0.5**0.5
    x = torch.tensor([0.9, 0.5, 0.5 * root, 0.25, 0.25 * root, 0.125, 0.125 * root, 0.0625, 0.045, 0.0])
    expected = [0.5, 0.5, 0.5 * root, 0.25, 0.25 * root, 0.125, 0.125 * root, 0.0625, 0.0, 0.0]
    torch.testing.assert_close(grid(x), torch.tensor(expected))


@given(st.integers(2, 6), st.sampled_from([1, 2]), st.floats(0.01, 1.0), st.integers(0, 99))
def test_numbers_go_to_the_nearest_value_in_the_logarithm(bits: int, steps: int, largest: float, seed: int) -> None:
    values = _values(bits, largest, steps)
    x = np.random.default_rng(seed).uniform(np.log2(values[-1]), 0.5, 50)
    distances = np.abs(x[:, None] - np.log2(values)[None])
    nearest = distances.argmin(axis=1)
    clear = np.abs(np.sort(distances, axis=1)[:, 1] - distances.min(axis=1)) > 1e-4
    found = LogGrid(bits, torch.tensor(largest), steps)(torch.tensor(2.0**x, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found[clear], values[nearest][clear], rtol=1e-5)


@given(st.integers(2, 6), st.sampled_from([1, 2]), st.floats(0.01, 1.0))
def test_the_values_are_fixed_points_and_as_many_as_the_bits_can_tell_apart(
    bits: int, steps: int, largest: float
) -> None:
    grid = LogGrid(bits, torch.tensor(largest), steps)
    values = torch.tensor([*_values(bits, largest, steps), 0.0], dtype=torch.float32)
    torch.testing.assert_close(grid(values), values, rtol=1e-5, atol=0.0)
    assert grid.codes(values).tolist() == list(range(2**bits))


@pytest.mark.parametrize("steps", [1, 2])
def test_codes_are_monotone_and_what_is_too_small_is_zero(steps: int) -> None:
    grid = LogGrid(4, torch.tensor(0.8), steps)
    x = torch.linspace(0.0, 1.0, 5000)
    assert (grid(x).diff() >= 0).all()
    smallest = _values(4, 0.8, steps)[-1]
    below, above = (torch.tensor(smallest * 2.0 ** (-0.5 / steps) * factor) for factor in (0.999, 1.001))
    assert grid(below) == 0.0
    assert grid(above).item() == pytest.approx(smallest)

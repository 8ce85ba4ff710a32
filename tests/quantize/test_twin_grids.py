import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn

from lraee.quantize.twin_grids import GeluGrid, SoftmaxGrid, lowest_value

BITS = st.integers(2, 8)


def _softmax_values(bits: int, split: float) -> np.ndarray:
    codes = np.arange(2 ** (bits - 1))
    return np.unique(np.float32(np.concatenate([codes * split, codes]) / codes[-1]))


def _gelu_values(bits: int, scale: float, lowest: float) -> np.ndarray:
    codes = np.arange(2 ** (bits - 1))
    return np.unique(np.float32(np.concatenate([codes * scale, (codes + 1) * lowest / len(codes)])))


def _check(grid: nn.Module, values: np.ndarray, x: np.ndarray) -> None:
    np.testing.assert_allclose(grid(torch.tensor(values)).numpy(), values, rtol=1e-6, atol=0)
    distances = np.abs(x[:, None] - values)
    rounded = grid(torch.tensor(x)).numpy()
    np.testing.assert_allclose(np.abs(rounded - x), distances.min(axis=1), rtol=0, atol=1e-6 * np.abs(values).max())
    assert np.abs(rounded[:, None] - values).min(axis=1).max() < 1e-6 * np.abs(values).max()


@given(BITS, st.integers(0, 19), st.integers(0, 99))
def test_softmax_values_stay_and_others_go_to_the_nearest(bits: int, power: int, seed: int) -> None:
    split = 2.0**-power
    uniform = np.random.default_rng(seed).uniform(size=200)
    x = np.float32(np.concatenate([uniform, uniform * 2 * split]).clip(0, 1))
    _check(SoftmaxGrid(bits, torch.tensor(split)), _softmax_values(bits, split), x)


@given(BITS, st.floats(1e-3, 3.0), st.integers(0, 99))
def test_gelu_values_stay_and_others_go_to_the_nearest(bits: int, scale: float, seed: int) -> None:
    lowest = lowest_value(nn.GELU())
    top = scale * (2 ** (bits - 1) - 1)
    x = np.float32(np.random.default_rng(seed).uniform(lowest, 1.5 * top, 300))
    _check(GeluGrid(bits, torch.tensor(scale), lowest), _gelu_values(bits, scale, lowest), x)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_values_fit_the_codes(bits: int) -> None:
    # Behind softmax the smallest splits leave both ranges whole but for the 0 that they share.
    assert len(_softmax_values(bits, 2.0**-19)) == 2**bits - 1
    assert len(_gelu_values(bits, 0.1, -0.17)) == 2**bits


def test_softmax_by_hand() -> None:
    # Thirds of 1/4, and thirds of 1: 0, 1/12, 1/6, 1/4, 1/3, 2/3, 1.
    x = torch.tensor([0.04, 0.05, 0.2, 0.25, 0.28, 0.3, 0.49, 0.51, 0.9])
    expected = torch.tensor([0, 1 / 12, 1 / 6, 1 / 4, 1 / 4, 1 / 3, 1 / 3, 2 / 3, 1])
    torch.testing.assert_close(SoftmaxGrid(3, torch.tensor(0.25))(x), expected)


def test_gelu_by_hand() -> None:
    x = torch.tensor([-0.17, -0.09, -0.05, -0.01, 0.2, 0.3, 0.8, 9.0])
    expected = torch.tensor([-0.16, -0.08, -0.04, 0.0, 0.0, 0.5, 1.0, 1.5])
    torch.testing.assert_close(GeluGrid(3, torch.tensor(0.5), -0.16)(x), expected)


def test_the_minimum_is_scipys_and_the_papers(tower: Any) -> None:
    for act, published in ((nn.GELU(), 0.16997124254703522), (tower.blocks[0].act, 0.1636)):
        found = minimize_scalar(lambda x, act=act: float(act(torch.tensor(x, dtype=torch.float64))), bracket=(-2, -0.5))
        assert lowest_value(act) == pytest.approx(found.fun, abs=1e-7)
        assert lowest_value(act) == pytest.approx(-published, abs=5e-5)


def test_an_activation_without_negative_values_has_a_grid_too() -> None:
    grid = GeluGrid(3, torch.tensor(0.5), lowest_value(nn.ReLU()))
    assert grid(torch.tensor([0.0, 0.4, 7.0])).tolist() == [0.0, 0.5, 1.5]


def test_grids_leave_their_input_alone() -> None:
    x = torch.rand(50)
    before = copy.deepcopy(x)
    SoftmaxGrid(3, torch.tensor(0.25))(x)
    GeluGrid(3, torch.tensor(0.25), -0.17)(x)
    assert torch.equal(x, before)

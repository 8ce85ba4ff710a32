import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lraee.quantize import scale_search
from lraee.quantize.activation_grids import StaticGrid
from lraee.quantize.scale_search import Factor, Search, drawn
from tests import examples

FRACTIONS = torch.linspace(0.05, 1.2, 24)


def _grid(scale: Tensor) -> StaticGrid:
    return StaticGrid(3, scale, torch.tensor(4.0))


def _factor(values: Tensor) -> Factor:
    whole = (values.abs().amax(dim=(0, 2, 3)) / 3.5)[:, None, None]
    return Factor(values, _grid, whole, FRACTIONS[:, None, None, None] * whole)


def _search(seed: int = 0, groups: int = 2) -> Search:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(2, groups, n, 6, generator=generator) for n in (7, 5))
    weight = torch.rand(2, groups, 7, 5, generator=generator)
    return Search(_factor(left), _factor(right), left @ right.mT, weight)


def _error(search: Search, left: Tensor, right: Tensor) -> np.ndarray:
    def rounded(factor: Factor, scale: Tensor) -> np.ndarray:
        step = scale.numpy()
        return np.clip(np.rint(factor.values.numpy() / step), -4, 3) * step

    product = np.einsum("bgri,bgci->bgrc", rounded(search.left, left), rounded(search.right, right))
    return ((product - search.target.numpy()) ** 2 * search.weight.numpy()).sum(axis=(0, 2, 3))


@given(st.integers(0, 1000))
@settings(max_examples=examples(10))
def test_what_is_found_is_better_than_the_start_and_the_left_is_the_best_for_the_right(seed: int) -> None:
    search = _search(seed)
    left, right = search.scales()
    found = _error(search, left, right)
    assert (found <= _error(search, search.left.scale, search.right.scale) * 1.0001).all()
    for candidate in search.left.candidates:
        assert (found <= _error(search, candidate, right) * 1.0001).all()


@given(st.integers(0, 1000))
@settings(max_examples=examples(10))
def test_groups_are_searched_each_by_itself(seed: int) -> None:
    search = _search(seed)
    left, right = search.scales()
    for g in range(2):
        one = Search(
            _factor(search.left.values[:, g : g + 1]), _factor(search.right.values[:, g : g + 1]),
            search.target[:, g : g + 1], search.weight[:, g : g + 1],
        ).scales()  # fmt: skip
        torch.testing.assert_close(torch.cat(one), torch.cat([left[g : g + 1], right[g : g + 1]]))


def test_a_factor_shared_by_all_groups_has_one_scale() -> None:
    search = _search()
    shared = search.left.values[:1, :1]
    wanted = shared @ search.right.values[:1].mT
    left, right = Search(_factor(shared), _factor(search.right.values[:1]), wanted, torch.ones_like(wanted)).scales()
    assert left.shape == (1, 1, 1)
    assert right.shape == (2, 1, 1)


def test_what_matters_decides() -> None:
    # One column is small and one large: a step cannot suit both.
    right = torch.tensor([[0.11, 0.23, 0.32], [3.0, -2.0, 1.0]])[None, None]
    left = torch.eye(3)[None, None]
    exact = Factor(
        left, lambda scale: StaticGrid(3, scale, torch.tensor(4.0)), torch.ones(1, 1, 1), torch.ones(1, 1, 1, 1)
    )
    wanted, steps = left @ right.mT, []
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        weight = torch.tensor(weights).expand_as(wanted)
        steps.append(float(Search(exact, _factor(right), wanted, weight).scales()[1]))
    assert steps[0] < 0.2
    assert steps[1] > 0.8


def test_a_small_product_is_searched_whole() -> None:
    search = _search()
    sampled = search.sampled(torch.Generator())
    assert torch.equal(sampled.target, search.target)
    assert torch.equal(sampled.weight, search.weight)
    assert torch.equal(sampled.left.values, search.left.values)
    assert torch.equal(sampled.right.values, search.right.values)


def test_errors_over_what_is_drawn_are_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    search = _search()
    monkeypatch.setattr(scale_search, "ROWS", 6)
    monkeypatch.setattr(scale_search, "COLUMNS", 3)
    generator, scales = torch.Generator().manual_seed(0), (search.left.scale, search.right.scale)
    draws = []
    for _ in range(600):
        sampled = search.sampled(generator)
        assert sampled.weight.shape == (2, 2, 3, 3)
        draws.append(_error(sampled, *scales))
    np.testing.assert_allclose(np.mean(draws, axis=0), _error(search, *scales), rtol=0.08)


def test_rows_and_columns_that_are_drawn_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_search, "ROWS", 4)
    monkeypatch.setattr(scale_search, "COLUMNS", 2)
    sampled = _search().sampled(torch.Generator().manual_seed(3))
    torch.testing.assert_close(sampled.left.values @ sampled.right.values.mT, sampled.target)


def test_what_has_no_weight_is_not_drawn() -> None:
    weights = torch.tensor([[0.0, 3.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    picks, factors = drawn(weights, 3, torch.Generator().manual_seed(0))
    assert set(picks[0].tolist()) <= {1, 3}
    assert factors[1].tolist() == pytest.approx([4 / 3] * 3)  # nothing matters: a uniform draw
    expected = {1: 4 / 9, 3: 4 / 3}
    assert factors[0].tolist() == pytest.approx([expected[i] for i in picks[0].tolist()])


def test_all_is_taken_once_where_it_is_not_more_than_asked_for() -> None:
    picks, factors = drawn(torch.rand(2, 3), 3, torch.Generator())
    assert picks.tolist() == [[0, 1, 2]] * 2
    assert factors.tolist() == [[1.0] * 3] * 2

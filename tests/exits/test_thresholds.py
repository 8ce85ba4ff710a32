from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lraee.exits.routing import route
from lraee.exits.thresholds import RULES, Surface, ThresholdGrid, surface

GRID = ThresholdGrid(low=0.25, high=0.75, points=3).values


@st.composite
def cases(draw):
    exits, n = draw(st.integers(1, 3)), draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    # Many readiness values lie exactly on grid values: the comparison there is strict.
    readiness = rng.choice([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.8, 1.0], size=(n, exits))
    right = rng.random((n, exits + 1)) < 0.6
    return readiness, right, np.sort(rng.uniform(1.0, 10.0, exits + 1))


def brute_force(readiness, right, costs, thresholds):
    place = route(readiness, thresholds)
    return right[np.arange(len(place)), place].mean(), costs[place].mean()


def test_the_grid_is_the_papers_with_everybody_and_nobody_added():
    values = ThresholdGrid().values
    assert len(values) == 27
    assert values[0] == -np.inf
    assert values[-1] == np.inf
    assert values[1:-1] == pytest.approx([0.20 + 0.03 * step for step in range(25)])


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1)])
def test_a_grid_that_does_not_ascend_inside_the_unit_interval_is_refused(low, high):
    with pytest.raises(ValidationError):
        ThresholdGrid(low=low, high=high)


def test_one_threshold_point_is_enough():
    assert ThresholdGrid(low=0.4, high=0.6, points=1).values.tolist() == [-np.inf, 0.4, np.inf]


@given(cases())
@settings(max_examples=60, deadline=None)
def test_the_surface_equals_routing_with_every_combination(case):
    readiness, right, costs = case
    whole = surface(readiness, right, costs, GRID)
    assert whole.accuracy.shape == whole.cost.shape == (len(GRID),) * readiness.shape[1]
    for steps in product(range(len(GRID)), repeat=readiness.shape[1]):
        accuracy, cost = brute_force(readiness, right, costs, [GRID[step] for step in steps])
        assert whole.accuracy[steps] == pytest.approx(accuracy, abs=1e-12)
        assert whole.cost[steps] == pytest.approx(cost, rel=1e-12)


def test_the_surface_worked_by_hand():
    # Two images, one exit. At 0.5: the first leaves (right there), the second stays (wrong at full depth).
    whole = surface(
        np.array([[0.6], [0.4]]), np.array([[True, False], [True, False]]), np.array([1.0, 3.0]),
        np.array([-np.inf, 0.5, np.inf]),
    )  # fmt: skip
    assert whole.accuracy.tolist() == [1.0, 0.5, 0.0]
    assert whole.cost.tolist() == [1.0, 2.0, 3.0]


def search(readiness, right, costs, max_cost, rule):
    """Best (accuracy, -cost) within the budget, by trying everything; None where nothing is within it."""
    exits = readiness.shape[1]
    tried = product(GRID, repeat=exits) if rule == "layer-adaptive" else [(value,) * exits for value in GRID]
    points = [brute_force(readiness, right, costs, thresholds) for thresholds in tried]
    return max(((round(a, 9), -round(c, 9)) for a, c in points if c <= max_cost + 1e-9), default=None)


@pytest.mark.parametrize("rule", ["layer-adaptive", "global"])
@given(case=cases(), share=st.floats(0.0, 1.2))
@settings(max_examples=60, deadline=None)
def test_a_rule_finds_the_most_accurate_and_of_equals_the_cheapest(rule, case, share):
    readiness, right, costs = case
    max_cost = costs[0] + share * (costs[-1] - costs[0])
    steps = RULES[rule](surface(readiness, right, costs, GRID), max_cost)
    expected = search(readiness, right, costs, max_cost, rule)
    assert expected is not None
    accuracy, cost = brute_force(readiness, right, costs, [GRID[step] for step in steps])
    assert (accuracy, -cost) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("rule", ["layer-adaptive", "global"])
@given(case=cases())
@settings(max_examples=20, deadline=None)
def test_a_budget_below_the_cheapest_exit_is_infeasible(rule, case):
    readiness, right, costs = case
    assert RULES[rule](surface(readiness, right, costs, GRID), costs[0] * 0.99) is None


@given(cases(), st.floats(0.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_one_threshold_for_all_is_never_better_than_one_each(case, share):
    readiness, right, costs = case
    whole = surface(readiness, right, costs, GRID)
    max_cost = costs[0] + share * (costs[-1] - costs[0])
    each, one = (RULES[rule](whole, max_cost) for rule in ("layer-adaptive", "global"))
    assert len(set(one)) == 1
    assert whole.accuracy[each] >= whole.accuracy[one] - 1e-9


def test_of_equally_accurate_combinations_the_cheapest_is_taken():
    # All images right everywhere: the best is to leave at the first exit.
    right = np.ones((5, 3), dtype=bool)
    whole = surface(np.full((5, 2), 0.5), right, np.array([1.0, 2.0, 3.0]), GRID)
    assert whole.cost[RULES["layer-adaptive"](whole, 3.0)] == 1.0
    assert whole.cost[RULES["global"](whole, 3.0)] == 1.0


def test_ties_are_recognised_through_the_rounding_of_sums():
    accuracy = np.array([0.7, 0.7 + 1e-13, 0.7])
    values = Surface(np.array([-np.inf, 0.5, np.inf]), accuracy, np.array([1.0, 2.0, 3.0]))
    assert RULES["layer-adaptive"](values, 3.0) == (0,)


def test_the_budget_itself_is_within_the_budget():
    values = Surface(np.array([-np.inf, np.inf]), np.array([0.1, 0.9]), np.array([1.0, 2.0]))
    assert RULES["layer-adaptive"](values, 2.0) == (1,)
    assert RULES["layer-adaptive"](values, 1.9999) == (0,)


def test_too_many_combinations_are_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match=r"27 thresholds at 6 exits are 387,420,489 combinations.*fewer"):
        surface(np.zeros((1, 6)), np.zeros((1, 7), dtype=bool), np.ones(7), ThresholdGrid().values)

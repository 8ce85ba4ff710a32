from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lraee.exits.routing import route
from lraee.exits.thresholds import ThresholdGrid, best_within, surface, tally
from tests import examples

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
@settings(max_examples=examples(20))
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


@given(cases(), st.integers(0, 10_000))
@settings(max_examples=examples(20))
def test_the_tally_along_a_path_equals_routing_at_each_of_its_steps(case, seed):
    readiness, right, _ = case
    exits = readiness.shape[1]
    steps = np.sort(np.random.default_rng(seed).choice(GRID, (9, exits)), axis=0)  # with repeated steps
    counts = tally(readiness, right, steps)
    assert counts.shape == (9, exits + 1)
    for thresholds, row in zip(steps, counts, strict=True):
        place = route(readiness, thresholds)
        expected = [(right[:, p] & (place == p)).sum() for p in range(exits + 1)]
        assert row.tolist() == expected


def test_the_tally_worked_by_hand():
    # At 0.5 the first image leaves at the first exit, the second at the second, the third stays; only marks count.
    readiness = np.array([[0.6, 0.9], [0.5, 0.6], [0.5, 0.5]])
    path = np.repeat([[-np.inf], [0.5], [np.inf]], 2, axis=1)
    everybody = np.ones((3, 3), dtype=bool)
    assert tally(readiness, everybody, path).tolist() == [[3, 0, 0], [1, 1, 1], [0, 0, 3]]
    marked = np.array([[False, True, True], [True, True, True], [True, True, False]])
    assert tally(readiness, marked, path).tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 2]]


def test_the_most_accurate_within_the_budget_is_taken_and_of_equals_the_cheapest():
    accuracy, cost = np.array([0.5, 0.9, 0.7, 0.7, 0.6]), np.array([1.0, 9.0, 4.0, 3.0, 2.0])
    assert best_within(accuracy, cost, 10.0) == 1
    assert best_within(accuracy, cost, 5.0) == 3
    assert best_within(accuracy, cost, 2.5) == 4
    assert best_within(accuracy, cost, 0.9) is None


def test_ties_are_recognised_through_the_rounding_of_sums():
    assert best_within(np.array([0.7, 0.7 + 1e-13, 0.7]), np.array([1.0, 2.0, 3.0]), 3.0) == 0


def test_the_budget_itself_is_within_the_budget():
    accuracy, cost = np.array([0.1, 0.9]), np.array([1.0, 2.0])
    assert best_within(accuracy, cost, 2.0) == 1
    assert best_within(accuracy, cost, 2.0 - 1e-12) == 1
    assert best_within(accuracy, cost, 1.9999) == 0


def test_too_many_combinations_are_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match=r"27 thresholds at 6 exits are 387,420,489 combinations.*fewer"):
        surface(np.zeros((1, 6)), np.zeros((1, 7), dtype=bool), np.ones(7), ThresholdGrid().values)

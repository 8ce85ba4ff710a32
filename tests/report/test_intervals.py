"""The report's own intervals, against statsmodels, textbook formulas and published examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from lraee.report.intervals import auroc, rank_correlation, standard_deviation, two_shares


def test_two_independent_shares_are_newcombes_interval() -> None:
    found = two_shares(0.7, 500, 0.65, 2000)
    assert found == pytest.approx(confint_proportions_2indep(350, 500, 1300, 2000, compare="diff", method="newcomb"))
    (low_1, high_1), (low_2, high_2) = (
        proportion_confint(*pair, method="wilson") for pair in ((350, 500), (1300, 2000))
    )
    by_hand = (0.05 - math.hypot(0.7 - low_1, high_2 - 0.65), 0.05 + math.hypot(high_1 - 0.7, 0.65 - low_2))
    assert found == pytest.approx(by_hand)


def test_two_shares_without_images_have_no_interval() -> None:
    assert all(map(math.isnan, two_shares(0.5, 0, 0.5, 100)))
    assert all(map(math.isnan, two_shares(math.nan, 10, 0.5, 100)))


def test_standard_deviation_is_the_chi_square_interval() -> None:
    # Quantiles of chi-square with 4 degrees of freedom from a printed table: 11.143 and 0.484.
    assert standard_deviation(1.0, 5) == pytest.approx((math.sqrt(4 / 11.143), math.sqrt(4 / 0.484)), abs=2e-3)
    assert all(map(math.isnan, standard_deviation(math.nan, 1)))


def test_auroc_is_the_published_example() -> None:
    # Hanley and McNeil (1982): area 0.893, 51 abnormal and 58 normal cases, standard error 0.032.
    low, high = auroc(0.893, 51, 58)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.0323, abs=5e-4)
    assert (high + low) / 2 == pytest.approx(0.893)


def test_auroc_agrees_with_simulated_scores() -> None:
    rng = np.random.default_rng(0)
    right, wrong = rng.normal(1, 1, (800, 120)), rng.normal(0, 1, (800, 80))
    areas = (right[:, :, None] > wrong[:, None, :]).mean(axis=(1, 2))
    low, high = auroc(float(areas.mean()), 120, 80)
    assert (high - low) / 2 / 1.96 == pytest.approx(areas.std(), rel=0.12)


def test_auroc_stays_within_its_range_and_needs_both_kinds() -> None:
    assert auroc(1.0, 50, 50) == (1.0, 1.0)
    assert auroc(0.99, 5, 5)[1] <= 1.0
    assert all(map(math.isnan, auroc(0.8, 100, 0)))


def test_rank_correlation_ranks_infinite_thresholds_and_refuses_constants() -> None:
    assert rank_correlation([1, 2, 3], [math.inf, 0.5, -math.inf]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3], [0.1, 0.3, 0.2]) == pytest.approx(0.5)
    assert math.isnan(rank_correlation([1, 2, 3], [0.5, 0.5, 0.5]))
    assert math.isnan(rank_correlation([1], [0.5]))

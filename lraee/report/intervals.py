"""Intervals that the report adds to what the tables bring: each a textbook formula with its assumptions named."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2, spearmanr
from statsmodels.stats.proportion import confint_proportions_2indep

Bounds = tuple[float, float]
_ALPHA = 0.05
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
NOTHING: Bounds = (math.nan, math.nan)


def two_shares(first: float, n_first: float, second: float, n_second: float) -> Bounds:
    """95 % interval of ``first - second``, two shares of independent images (Newcombe's hybrid score interval)."""
    if any(math.isnan(value) for value in (first, n_first, second, n_second)) or min(n_first, n_second) <= 0:
        return NOTHING
    low, high = confint_proportions_2indep(
        round(first * n_first), int(n_first), round(second * n_second), int(n_second),
        compare="diff", method="newcomb", alpha=_ALPHA,
    )  # fmt: skip
    return float(low), float(high)


def standard_deviation(sd: float, count: float) -> Bounds:
    """95 % interval of a standard deviation estimated from ``count`` normally distributed values (chi-square)."""
    if math.isnan(sd) or math.isnan(count) or count < 2:
        return NOTHING
    degrees = count - 1
    low, high = chi2.ppf([1 - _ALPHA / 2, _ALPHA / 2], degrees)
    return sd * math.sqrt(degrees / low), sd * math.sqrt(degrees / high)


def auroc(value: float, right: float, wrong: float) -> Bounds:
    """95 % interval of an area under the ROC curve (Hanley and McNeil 1982), cut to [0, 1].

    Args:
        right, wrong: number of images with and without the property that is to be told.
    """
    if math.isnan(value) or math.isnan(right) or min(right, wrong) < 1:
        return NOTHING
    both_right, both_wrong = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (right - 1) * (both_right - value**2) + (wrong - 1) * (both_wrong - value**2)
    half = _Z * math.sqrt(max(variance, 0.0) / (right * wrong))
    return max(0.0, value - half), min(1.0, value + half)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN for fewer than two values or where one side does not vary."""
    if len(first) < 2 or len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    # Infinite thresholds have a rank, too.
    finite = [np.nan_to_num(np.asarray(values, dtype=float), posinf=1e300, neginf=-1e300) for values in (first, second)]
    return float(spearmanr(*finite).statistic)

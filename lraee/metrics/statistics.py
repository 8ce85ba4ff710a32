"""Intervals and tests. Every comparison is paired: both sides answered the same images."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
DRAWS = 10_000


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(correct: int, n: int) -> Interval:
    """Share of right answers with the Wilson interval; ValueError where n is 0."""
    if n == 0:
        raise ValueError("an accuracy needs at least one image")
    low, high = proportion_confint(correct, n, alpha=1 - CONFIDENCE, method="wilson")
    return Interval(correct / n, float(low), float(high))


def bootstrap_means(values: NDArray[np.number], seed: int) -> NDArray[np.float64]:
    """Return the means of DRAWS resamples of per-image values (n,) that take few distinct values.

    Resampling images with replacement draws the counts of each value from a multinomial: the same distribution, at a
    cost that does not grow with n.
    """
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    means: NDArray[np.float64] = np.random.default_rng(seed).multinomial(n, counts / n, size=DRAWS) @ distinct / n
    return means


def paired_mean(values: NDArray[np.number], seed: int) -> Interval:
    """Mean of per-image values (e.g. routed right minus full-depth right) with a percentile bootstrap interval."""
    low, high = np.quantile(bootstrap_means(values, seed), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust a family of p-values by Holm's step-down method; NaN stays NaN and does not count."""
    adjusted = np.full(len(p_values), np.nan)
    known = ~np.isnan(p_values)
    if known.any():
        adjusted[known] = multipletests(p_values[known], method="holm")[1]
    return adjusted


def mcnemar_p(rescue: int, loss: int) -> float:
    """Two-sided p-value of McNemar's exact test on the discordant pairs; 1 where there are none."""
    return float(binomtest(rescue, rescue + loss).pvalue) if rescue + loss else 1.0


@dataclass(frozen=True)
class Quadrants:
    """Images by whether the first and the second of two answers is right.

    With the routed answer first and full depth second: `rescue` is right only when routed, `loss` only at full depth.
    """

    both_right: int
    rescue: int
    loss: int
    both_wrong: int


def quadrants(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Quadrants:
    """Count the four quadrants of two answers (n,) to the same images."""
    return Quadrants(
        both_right=int((first & second).sum()),
        rescue=int((first & ~second).sum()),
        loss=int((~first & second).sum()),
        both_wrong=int((~first & ~second).sum()),
    )


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int) -> tuple[Interval, float]:
    """Accuracy of the first minus the second, with its interval, and McNemar's exact p-value."""
    counts = quadrants(first, second)
    difference = paired_mean(first.astype(np.int64) - second.astype(np.int64), seed)
    return difference, mcnemar_p(counts.rescue, counts.loss)

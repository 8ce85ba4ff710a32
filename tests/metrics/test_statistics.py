import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from lraee.metrics.statistics import (
    DRAWS,
    Quadrants,
    bootstrap_means,
    compare,
    holm,
    mcnemar_p,
    paired_mean,
    quadrants,
    wilson,
)
from tests import examples

Z = 1.959963984540054
answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def split_pairs(pairs):
    return np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])


def test_wilson_equals_the_formula_worked_by_hand():
    # Wilson (1927) for 8 of 10: centre (0.8 + z^2/20) / (1 + z^2/10).
    share, n = 0.8, 10
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    assert wilson(8, 10) == pytest.approx((0.8, centre - half, centre + half), abs=1e-12)
    assert wilson(8, 10) == pytest.approx((0.8, 0.4901625, 0.9433178), abs=1e-6)


@given(st.integers(1, 50_000), st.floats(0.0, 1.0))
@settings(max_examples=examples(20))
def test_wilson_contains_the_share_inside_the_unit_interval(n, share):
    correct = round(share * n)
    value, low, high = wilson(correct, n)
    assert value == correct / n
    assert (low, high) == pytest.approx(proportion_confint(correct, n, alpha=0.05, method="wilson"), abs=1e-12)
    assert -1e-12 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1.0 + 1e-12


@pytest.mark.parametrize(("correct", "n"), [(0, 7), (7, 7), (0, 50_000), (50_000, 50_000)])
def test_wilson_bounds_never_leave_the_unit_interval(correct, n):
    _, low, high = wilson(correct, n)
    assert 0.0 <= low < high <= 1.0


def test_an_accuracy_of_no_images_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        wilson(0, 0)


def sample_differences(shares, n=400):
    return np.random.default_rng(5).choice([-1, 0, 1], size=n, p=shares)


@pytest.mark.parametrize("shares", [(0.10, 0.75, 0.15), (0.30, 0.40, 0.30), (0.02, 0.95, 0.03)])
def test_bootstrap_interval_agrees_with_scipy(shares):
    differences = sample_differences(shares)
    ours = paired_mean(differences, seed=1)
    theirs = bootstrap(
        (differences,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.value == pytest.approx(differences.mean())
    # Means lie on a lattice of 1/n, and both bounds are quantiles of 10,000 draws: one step, and their random error.
    tolerance = 1 / 400 + 0.05 * differences.std() / math.sqrt(400)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=tolerance)


@pytest.mark.parametrize("shares", [(0.10, 0.75, 0.15), (0.02, 0.95, 0.03)])
def test_bootstrap_bounds_are_the_quantiles_of_the_exact_resampling_distribution(shares):
    differences = sample_differences(shares)
    one = np.array([(differences == value).mean() for value in (-1, 0, 1)])
    exact = np.ones(1)
    for _ in differences:
        exact = np.convolve(exact, one)
    below = np.concatenate([[0.0], exact.cumsum()])
    _, low, high = paired_mean(differences, seed=1)
    for bound, share in ((low, 0.025), (high, 0.975)):
        step = round((bound + 1) * 400)
        # Of 10,000 draws, the share beyond a quantile has a standard error of 0.0016; the lattice holds the rest.
        assert below[step] - 0.006 <= share <= below[step + 1] + 0.006


def test_bootstrap_of_two_answers_agrees_with_scipys_paired_bootstrap():
    rng = np.random.default_rng(8)
    first, second = rng.random(500) < 0.7, rng.random(500) < 0.6
    ours, _ = compare(first, second, seed=0)
    theirs = bootstrap(
        (first.astype(float), second.astype(float)),
        lambda a, b, axis=-1: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True, method="percentile", n_resamples=10_000, vectorized=True, rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    half = (theirs.high - theirs.low) / 2
    assert ours.value == pytest.approx(first.mean() - second.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.08 * half)


def test_bootstrap_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(11)
    truth, repeats = 0.15 - 0.10, 300
    covered = 0
    for repeat in range(repeats):
        differences = rng.choice([-1, 0, 1], size=300, p=[0.10, 0.75, 0.15])
        _, low, high = paired_mean(differences, seed=repeat)
        covered += low <= truth <= high
    # Binomial(300, 0.95): 0.91 to 0.98 is more than three standard deviations wide on either side.
    assert 0.91 <= covered / repeats <= 0.985


def test_bootstrap_of_equal_differences_has_no_width():
    assert paired_mean(np.zeros(20, dtype=np.int64), 0) == (0.0, 0.0, 0.0)
    assert paired_mean(np.full(20, -2), 0) == pytest.approx((-2.0, -2.0, -2.0))


def test_bootstrap_depends_on_the_seed_and_on_nothing_else():
    differences = np.random.default_rng(0).integers(-2, 3, 997)
    assert paired_mean(differences, 4) == paired_mean(differences[::-1].copy(), 4)
    assert paired_mean(differences, 4)[1:] != paired_mean(differences, 5)[1:]


@pytest.mark.parametrize("values", [[0.0, 1.0], [-1.0, 0.0, 1.0], [0.125, 0.25, -0.5, 0.75]])
def test_bootstrap_means_are_distributed_as_those_of_plain_resampling(values):
    rng = np.random.default_rng(3)
    sample = rng.choice(values, size=250)
    ours = bootstrap_means(sample, seed=7)
    plain = sample[rng.integers(0, 250, size=(DRAWS, 250))].mean(axis=1)
    spread = sample.std() / math.sqrt(250)
    assert ours.shape == (DRAWS,)
    # The mean of 10,000 draws has a standard error of 1 %, their standard deviation one of 0.7 %, of the spread.
    assert ours.mean() == pytest.approx(sample.mean(), abs=0.05 * spread)
    assert ours.std() == pytest.approx(plain.std(), rel=0.05)
    assert ours.std() == pytest.approx(spread, rel=0.04)
    for share in (0.025, 0.25, 0.75, 0.975):
        assert np.quantile(ours, share) == pytest.approx(np.quantile(plain, share), abs=0.12 * spread)


def test_the_percentile_interval_is_that_of_the_bootstrap_means():
    sample = sample_differences((0.2, 0.5, 0.3))
    value, low, high = paired_mean(sample, seed=4)
    assert value == sample.mean()
    assert (low, high) == tuple(np.percentile(bootstrap_means(sample, seed=4), [2.5, 97.5]))


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 are 0.02, 0.03, 0.06, 0.04; none may fall below one before it.
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.04])) == pytest.approx([0.04])


def test_holm_passes_over_what_was_not_tested():
    nan = np.nan
    adjusted = holm(np.array([nan, 0.01, 0.04, nan, 0.03, 0.005, nan]))
    assert adjusted == pytest.approx([nan, 0.03, 0.06, nan, 0.06, 0.02, nan], nan_ok=True)
    assert np.isnan(holm(np.array([nan, nan]))).all()
    assert holm(np.array([])).shape == (0,)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
@settings(max_examples=examples(10))
def test_holm_is_the_step_down_rule_and_never_lowers_a_p_value(p_values):
    p = np.array(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    adjusted = holm(p)
    assert adjusted[order] == pytest.approx(stepped)
    assert (adjusted >= p).all()


def test_holm_agrees_with_statsmodels():
    p = np.random.default_rng(0).random(40) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=examples(27))
def test_mcnemar_agrees_with_statsmodels(rescue, loss):
    theirs = 1.0 if rescue + loss == 0 else mcnemar([[7, rescue], [loss, 9]], exact=True).pvalue
    assert mcnemar_p(rescue, loss) == pytest.approx(theirs, rel=1e-9, abs=1e-300)


def test_mcnemar_small_cases_agree_with_the_binomial_worked_by_hand():
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(3, 3) == pytest.approx(1.0)
    assert mcnemar_p(5, 0) == pytest.approx(2 / 2**5)
    assert mcnemar_p(1, 7) == pytest.approx(2 * (1 + 8) / 2**8)


def test_quadrants_worked_by_hand():
    routed = np.array([1, 1, 1, 0, 0, 0, 1], dtype=bool)
    full = np.array([1, 1, 0, 1, 0, 0, 0], dtype=bool)
    assert quadrants(routed, full) == Quadrants(both_right=2, rescue=2, loss=1, both_wrong=2)


@given(answers)
@settings(max_examples=examples(20))
def test_quadrants_sum_to_the_images_and_give_the_difference(pairs):
    first, second = split_pairs(pairs)
    q = quadrants(first, second)
    assert q.both_right + q.rescue + q.loss + q.both_wrong == len(pairs)
    assert q.both_right + q.rescue == first.sum()
    assert q.rescue - q.loss == first.sum() - second.sum()


def test_compare_is_positive_where_the_first_is_better():
    better, worse = np.array([True] * 9 + [False]), np.array([True] * 3 + [False] * 7)
    difference, p = compare(better, worse, seed=0)
    assert difference.value == pytest.approx(0.6)
    assert 0.0 < difference.low < difference.value < difference.high
    assert p == pytest.approx(2 / 2**6)


@given(answers, st.integers(0, 5))
@settings(max_examples=examples(13))
def test_swapping_the_sides_turns_the_difference_and_keeps_the_p_value(pairs, seed):
    first, second = split_pairs(pairs)
    (forward, p), (backward, q) = compare(first, second, seed), compare(second, first, seed)
    assert forward.value == pytest.approx(-backward.value)
    assert p == q

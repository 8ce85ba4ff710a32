import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from statsmodels.stats.proportion import proportion_confint

from lraee.exits.routing import route
from lraee.exits.rules import RULES, Demand, Selection
from lraee.exits.rules.fixed_sequence import SEQUENCE
from lraee.exits.rules.global_threshold import inr_factors, scaled
from lraee.exits.rules.risk_accuracy_gap import gap_bound
from lraee.exits.thresholds import ThresholdGrid
from tests import examples

GRID = ThresholdGrid(low=0.25, high=0.75, points=3).values
NAMES = ["global", "layer-adaptive", "risk-accuracy-gap", "risk-disagreement"]
RISKS = NAMES[2:]


def make_selection(readiness, right, agrees=None, costs=None, inr=None, grid=GRID):
    readiness, right = np.asarray(readiness, dtype=np.float64), np.asarray(right, dtype=bool)
    exits = readiness.shape[1]
    costs = np.arange(1.0, exits + 2.0) if costs is None else costs
    return Selection(
        readiness=readiness, right=right, agrees=np.ones_like(right[:, 1:]) if agrees is None else np.asarray(agrees),
        costs=costs, full=float(costs[-1]), grid=grid, inr=np.ones(exits) if inr is None else np.asarray(inr),
    )  # fmt: skip


def spend(budget=0.0, inr_exponent=0.0):
    return Demand(budget=budget, risk=None, delta=0.1, inr_exponent=inr_exponent)


def keep(risk, delta=0.1):
    return Demand(budget=0.0, risk=risk, delta=delta, inr_exponent=0.0)


@st.composite
def selections(draw, most=25):
    exits, n = draw(st.integers(1, 3)), draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    # Many readiness values lie exactly on grid values: the comparison there is strict.
    readiness = rng.choice([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.8, 1.0], size=(n, exits))
    right, agrees = rng.random((n, exits + 1)) < 0.6, rng.random((n, exits)) < 0.7
    return make_selection(readiness, right, agrees, np.sort(rng.uniform(1.0, 10.0, exits + 1)))


def operate(s, thresholds):
    """Accuracy and mean cost, by routing every image."""
    place = route(s.readiness, thresholds)
    return s.right[np.arange(len(place)), place].mean(), s.costs[place].mean()


def risks(name, s, thresholds):
    """The loss of every image, by routing it."""
    place = route(s.readiness, thresholds)
    images = np.arange(len(place))
    if name == "risk-disagreement":
        return ~np.column_stack([s.agrees, np.ones(len(place), dtype=bool)])[images, place] * 1
    return s.right[:, -1].astype(int) - s.right[images, place]


def test_the_registry_lists_every_rule_and_which_of_them_control_a_risk():
    assert list(RULES) == NAMES
    assert [name for name in RULES if RULES[name].controls_risk] == RISKS


def test_reading_the_configuration_does_not_load_what_only_choosing_needs():
    heavy = "{'mapie', 'sklearn', 'scipy.stats', 'torch'}"
    code = f"import sys; from lraee.exits.rules import RULES; list(RULES); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Rules that spend a budget.


def search(s, max_cost, name):
    """Best (accuracy, -cost) within the budget, by trying everything; None where nothing is within it."""
    exits = s.readiness.shape[1]
    tried = product(GRID, repeat=exits) if name == "layer-adaptive" else [(value,) * exits for value in GRID]
    points = [operate(s, thresholds) for thresholds in tried]
    return max(((round(a, 9), -round(c, 9)) for a, c in points if c <= max_cost + 1e-9), default=None)


@pytest.mark.parametrize("name", ["layer-adaptive", "global"])
@given(s=selections(), budget=st.integers(-20, 95).map(lambda percent: percent / 100))
@settings(max_examples=examples(20))
def test_a_rule_finds_the_most_accurate_and_of_equals_the_cheapest(name, s, budget):
    thresholds = RULES[name].choose(s, spend(budget))
    expected = search(s, (1.0 - budget) * s.full, name)
    if expected is None:
        assert thresholds is None
    else:
        accuracy, cost = operate(s, thresholds)
        assert (accuracy, -cost) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", ["layer-adaptive", "global"])
def test_budget_rules_worked_by_hand(name):
    # One image leaves rightly at the first exit from 0.5 down; the other is right at full depth only.
    s = make_selection([[0.6, 0.6], [0.3, 0.3]], [[True, True, True], [False, False, True]])
    assert operate(s, RULES[name].choose(s, spend(0.0))) == (1.0, 2.0)  # costs 1 and 3
    assert operate(s, RULES[name].choose(s, spend(0.5))) == (0.5, 1.0)  # at most 1.5: both must leave at once
    assert RULES[name].choose(s, spend(0.7)) is None  # at most 0.9


@given(s=selections(), budget=st.floats(0.0, 0.9))
@settings(max_examples=examples(13))
def test_one_threshold_for_all_is_the_diagonal_of_the_surface_and_never_better_than_one_each(s, budget):
    thresholds = RULES["global"].choose(s, spend(budget))
    each = RULES["layer-adaptive"].choose(s, spend(budget))
    exits = s.readiness.shape[1]
    diagonal = (np.arange(len(GRID)),) * exits
    accuracy, cost = s.surface.accuracy[diagonal], s.surface.cost[diagonal]
    allowed = cost <= (1.0 - budget) * s.full * (1.0 + 1e-9)
    assert (thresholds is None) == (not allowed.any())
    if thresholds is not None:
        assert len(set(thresholds)) == 1
        step = int(np.flatnonzero(thresholds[0] == GRID)[0])
        assert allowed[step]
        assert accuracy[step] == pytest.approx(accuracy[allowed].max(), abs=1e-12)
        ties = allowed & (accuracy >= accuracy[step] - 1e-9)
        assert cost[step] == pytest.approx(cost[ties].min(), rel=1e-9)
        assert operate(s, each)[0] >= accuracy[step] - 1e-9


def test_of_equally_accurate_thresholds_the_cheapest_are_taken():
    # All images right everywhere: the best is to leave at the first exit.
    s = make_selection(np.full((5, 2), 0.5), np.ones((5, 3)))
    assert operate(s, RULES["layer-adaptive"].choose(s, spend()))[1] == 1.0
    assert operate(s, RULES["global"].choose(s, spend()))[1] == 1.0


def test_the_clean_layer_gets_the_lower_threshold():
    # Mean INR 5; factors 5/8 and 5/2 at exponent 1, their roots at exponent 1/2.
    assert inr_factors(np.array([8.0, 2.0]), 1.0) == pytest.approx([0.625, 2.5])
    assert inr_factors(np.array([8.0, 2.0]), 0.5) == pytest.approx([0.625**0.5, 2.5**0.5])
    assert inr_factors(np.array([8.0, 2.0]), 0.0).tolist() == [1.0, 1.0]


def test_a_layer_without_noise_counts_as_the_cleanest_with_noise():
    assert inr_factors(np.array([2.0, np.inf, 6.0]), 1.0) == pytest.approx([14 / 6, 14 / 18, 14 / 18])
    assert inr_factors(np.array([np.inf, np.inf]), 2.0).tolist() == [1.0, 1.0]


def test_scaled_thresholds_stay_shares_and_everybody_and_nobody_stay():
    path = scaled(np.array([-np.inf, 0.2, 0.6, np.inf]), np.array([0.5, 2.0]))
    assert path.tolist() == [[-np.inf, -np.inf], [0.1, 0.4], [0.3, 1.0], [np.inf, np.inf]]


def test_the_global_rule_chooses_among_the_scaled_thresholds():
    # Only 0.25 / 2 at the clean exit and 0.25 * 2 at the noisy one route both images rightly.
    right = [[True, False, False], [False, True, False], [False, False, True]]
    s = make_selection([[0.2, 0.9], [0.1, 0.6], [0.1, 0.4]], right, inr=[4.0, 1.0], costs=np.array([1.0, 2.0, 3.0]))
    chosen = RULES["global"].choose(s, spend(inr_exponent=1.0))
    assert chosen == pytest.approx((0.25 * 2.5 / 4.0, 0.25 * 2.5))
    assert operate(s, (0.25 * 2.5 / 4.0, 0.25 * 2.5))[0] == pytest.approx(2 / 3)


@given(s=selections(), exponent=st.floats(-2.0, 2.0), seed=st.integers(0, 1000))
@settings(max_examples=examples(13))
def test_the_scaled_rule_finds_the_best_of_its_path(s, exponent, seed):
    inr = np.random.default_rng(seed).uniform(0.5, 20.0, s.readiness.shape[1])
    s = make_selection(s.readiness, s.right, s.agrees, s.costs, inr)
    chosen = RULES["global"].choose(s, spend(0.1, exponent))
    path = [np.where(np.isinf(t), t, np.clip(t * (inr.mean() / inr) ** exponent, 0, 1)) for t in GRID[1:-1]]
    points = [operate(s, thresholds) for thresholds in [[-np.inf] * len(inr), *path, [np.inf] * len(inr)]]
    allowed = [a for a, c in points if c <= 0.9 * s.full + 1e-9]
    assert (chosen is None) == (not allowed)
    if chosen is not None:
        assert operate(s, chosen)[0] == pytest.approx(max(allowed), abs=1e-12)


# Rules that keep a risk.

LEVEL, DELTA, DRAWS = 0.05, 0.1, 400
# No p-value or bound of a few images equals one of these, so that rounding decides no test.
ODD_SHARES = st.integers(10, 500).map(lambda k: (k + 0.37) / 1000)


def literal(name, s, level, delta):
    """Test one threshold after the other, each by routing; scipy's and statsmodels' own exact intervals and tests."""
    exits, taken = s.readiness.shape[1], np.inf
    for threshold in [*(step / 200 for step in range(199, -1, -1)), -np.inf]:
        loss = risks(name, s, [threshold] * exits)
        n = len(loss)
        if name == "risk-disagreement":
            passed = binomtest(int(loss.sum()), n, level, alternative="less").pvalue <= delta
        else:
            # Two-sided 1 - delta intervals leave delta / 2 on either side.
            upper = proportion_confint(int((loss > 0).sum()), n, delta, method="beta")[1]
            lower = proportion_confint(int((loss < 0).sum()), n, delta, method="beta")[0]
            passed = upper - lower <= level
        if not passed:
            break
        taken = threshold
    return (taken,) * exits


@pytest.mark.parametrize("name", RISKS)
@given(s=selections(most=60), level=ODD_SHARES, delta=ODD_SHARES)
@settings(max_examples=examples(10))
def test_a_risk_rule_is_the_literal_sequence_of_exact_tests(name, s, level, delta):
    assert RULES[name].choose(s, keep(level, delta)) == pytest.approx(literal(name, s, level, delta))


def test_a_disagreement_rule_worked_by_hand():
    # Of 20 images with readiness 0.503 one disagrees, of 20 with 0.303 ten. P(Bin(100, 0.05) <= 0, 1, 11) is 0.006,
    # 0.037 and 0.99: at delta 0.1 the first 20 may leave, at 0.03 nobody.
    readiness = np.repeat([0.503, 0.303, 0.103], [20, 20, 60])[:, None]
    agrees = np.ones((100, 1), dtype=bool)
    agrees[[0, *range(20, 30)]] = False
    s = make_selection(readiness, np.ones((100, 2)), agrees)
    assert RULES["risk-disagreement"].choose(s, keep(0.05)) == pytest.approx((0.305,))
    assert RULES["risk-disagreement"].choose(s, keep(0.05, delta=0.03)) == pytest.approx((0.505,))
    # 11 of 100 are far below 0.2: everybody may leave.
    assert RULES["risk-disagreement"].choose(s, keep(0.2)) == (-np.inf,)


def test_a_gap_rule_worked_by_hand():
    # 1000 images, of which the first 30 lose and the next 10 gain at readiness 0.5: [upper of 30, lower of 10].
    upper = binomtest(30, 1000).proportion_ci(0.9).high
    lower = binomtest(10, 1000).proportion_ci(0.9).low
    assert (upper, lower) == pytest.approx((0.0405, 0.0054), abs=1e-4)
    right = np.ones((1000, 2), dtype=bool)
    right[:30, 0], right[30:40, 1] = False, False
    s = make_selection(np.full((1000, 1), 0.5), right)
    assert RULES["risk-accuracy-gap"].choose(s, keep(upper - lower + 1e-9)) == (-np.inf,)
    assert RULES["risk-accuracy-gap"].choose(s, keep(upper - lower - 1e-9)) == pytest.approx((0.5,))


@given(n=st.integers(1, 300), seed=st.integers(0, 1000), delta=st.floats(0.01, 0.5))
@settings(max_examples=examples(20))
def test_the_gap_bound_is_the_difference_of_exact_limits(n, seed, delta):
    rng = np.random.default_rng(seed)
    lost = np.append(rng.integers(0, n + 1, 3), [0, n])
    gained = np.append(np.minimum(rng.integers(0, n + 1, 3), n - lost[:3]), [n, 0])
    uppers = [binomtest(int(k), n).proportion_ci(1 - delta).high for k in lost]
    lowers = [binomtest(int(k), n).proportion_ci(1 - delta).low for k in gained]
    assert gap_bound(lost, gained, n, delta) == pytest.approx(np.subtract(uppers, lowers), abs=1e-9)


@pytest.mark.parametrize("name", RISKS)
@given(s=selections(most=60), levels=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
@settings(max_examples=examples(13))
def test_whoever_accepts_more_risk_gets_no_higher_threshold(name, s, levels):
    strict, lax = (RULES[name].choose(s, keep(level)) for level in sorted(levels))
    assert lax[0] <= strict[0]


@pytest.mark.parametrize("name", RISKS)
def test_too_few_images_certify_nothing_and_nobody_leaves(name):
    s = make_selection(np.full((3, 2), 0.9), np.ones((3, 3)))
    assert RULES[name].choose(s, keep(0.05)) == (np.inf, np.inf)


def test_no_disagreement_at_all_can_be_certified_at_no_number_of_images():
    s = make_selection(np.full((5000, 1), 0.9), np.ones((5000, 2)))
    assert RULES["risk-disagreement"].choose(s, keep(0.0)) == (np.inf,)
    assert RULES["risk-disagreement"].choose(s, keep(0.001)) == (-np.inf,)  # 0.999^5000 = 0.7 %


@pytest.mark.parametrize("name", RISKS)
@pytest.mark.parametrize("risk", [None, -0.01])
def test_a_risk_rule_without_a_risk_is_refused(name, risk):
    s = make_selection(np.full((3, 1), 0.9), np.ones((3, 2)))
    with pytest.raises(ValueError, match="needs a risk level of at least 0, not"):
        RULES[name].choose(s, keep(risk))


def test_a_gain_early_on_does_not_hide_the_first_threshold_that_is_too_risky():
    # The sequence stops at the first failure, although further down the gap would be small again.
    readiness = np.repeat([0.803, 0.403], 500)[:, None]
    right = np.ones((1000, 2), dtype=bool)
    right[:100, 0] = False  # leaving at 0.8 loses 10 points
    right[500:700, 1] = False  # leaving at 0.4 gains 20
    s = make_selection(readiness, right)
    assert RULES["risk-accuracy-gap"].choose(s, keep(0.02)) == pytest.approx((0.805,))


def test_the_sequence_does_not_depend_on_the_data_and_reaches_from_nearly_nobody_to_everybody():
    assert SEQUENCE[0] == -np.inf
    assert SEQUENCE[1:].tolist() == pytest.approx([step / 200 for step in range(200)])


def test_mapie_certifies_the_same_disagreement_and_no_lower_a_gap():
    mapie = pytest.importorskip("mapie.risk_control")
    methods = pytest.importorskip("mapie.risk_control.methods")

    def certified(mean_loss, level, binary):
        p_values = methods.compute_hoeffding_bentkus_p_value(mean_loss, 3000, level, binary=binary)[:, 0]
        passed = mapie.control_fwer(p_values[::-1], DELTA, fwer_method="fixed_sequence")
        return SEQUENCE[::-1][passed[-1]] if len(passed) else np.inf

    for seed in range(5):
        s = draw(np.random.default_rng(seed), 3000)
        losses = {name: np.array([risks(name, s, [t]).mean() for t in SEQUENCE]) for name in RISKS}
        ours = {name: RULES[name].choose(s, keep(LEVEL))[0] for name in RISKS}
        assert ours["risk-disagreement"] == certified(losses["risk-disagreement"], LEVEL, binary=True)
        assert ours["risk-accuracy-gap"] < certified((losses["risk-accuracy-gap"] + 1) / 2, (LEVEL + 1) / 2, False)


def draw(rng, n):
    """Images of a population in which the risk of leaving rises as readiness falls.

    Full depth is right in 80 %. Leaving at readiness r is wrong there with probability (1 - r) / 2 for those who are
    right at full depth and right with probability (1 - r) / 4 for those who are not; an answer that changes between
    right and wrong disagrees.
    """
    readiness = rng.random((n, 1))
    full = rng.random(n) < 0.8
    flip = rng.random(n) < np.where(full, (1.0 - readiness[:, 0]) / 2, (1.0 - readiness[:, 0]) / 4)
    return make_selection(readiness, np.column_stack([full ^ flip, full]), ~flip[:, None])


def true_risk(name, threshold):
    """Integrate the population above: int_t^1 (1 - r) dr = (1 - t)^2 / 2, times the rates."""
    area = (1.0 - np.clip(threshold, 0.0, 1.0)) ** 2 / 2
    lost, gained = 0.8 * area / 2, 0.2 * area / 4
    return lost + gained if name == "risk-disagreement" else lost - gained


@pytest.mark.parametrize("name", RISKS)
def test_over_many_draws_the_true_risk_exceeds_the_level_no_more_often_than_delta(name):
    rng = np.random.default_rng(20)
    chosen = np.array([RULES[name].choose(draw(rng, 1000), keep(LEVEL, DELTA))[0] for _ in range(DRAWS)])
    exceeded = int((true_risk(name, chosen) > LEVEL).sum())
    # A rule that errs with probability delta exceeds the limit once in a thousand runs of this test.
    assert exceeded <= binom.ppf(0.999, DRAWS, DELTA)
    # And the guarantee is not bought by letting nobody leave.
    assert np.median(true_risk(name, chosen)) > 0.6 * LEVEL
    assert len(np.unique(chosen)) > 5


def test_the_simulated_population_has_the_risk_that_the_integral_says():
    s = draw(np.random.default_rng(1), 200_000)
    for name in RISKS:
        assert risks(name, s, [0.4]).mean() == pytest.approx(true_risk(name, 0.4), abs=0.002)


@pytest.mark.parametrize("name", RISKS)
def test_a_readiness_of_few_values_is_certified_as_well(name):
    # A patience of 4 exits: 0, 1/4, 2/4, 3/4. Only leaving without any agreement is too risky.
    rng = np.random.default_rng(0)
    readiness = rng.integers(0, 4, (2000, 1)) / 4
    bad = (readiness[:, 0] == 0.0) & (rng.random(2000) < 0.5)
    s = make_selection(readiness, np.column_stack([~bad, np.ones(2000)]), ~bad[:, None])
    thresholds = RULES[name].choose(s, keep(0.02))
    assert thresholds == (0.0,)
    assert (route(s.readiness, thresholds) == 0).tolist() == (readiness[:, 0] > 0.0).tolist()

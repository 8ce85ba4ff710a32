import json
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lraee.exits.policies import POLICIES
from lraee.exits.policies.class_thresholds import SPAN, class_gaps
from lraee.exits.policies.learned_gate import fit_gate
from lraee.exits.routing import route
from lraee.exits.score_table import ExitScores
from lraee.exits.thresholds import ThresholdGrid
from lraee.models.shape import TowerShape
from tests import examples

FEATURES = ("confidence", "margin", "sav")
NAMES = ["class-thresholds", "confidence", "entropy", "learned-gate", "learned-scalar", "margin", "patience"]
SHAPE = TowerShape(depth=12, tokens=50, width=768, hidden=3072, patch=3072, embedding=512, projected=True)


def make_scores(prediction, **signals):
    """Scores with the given predictions (n, E); signals that are not given are zero."""
    prediction = np.asarray(prediction, dtype=np.int32)
    n, exits = prediction.shape
    given = {name: np.asarray(values, dtype=np.float32) for name, values in signals.items()}
    names = ("confidence", "margin", "entropy", "certainty", "sav", "energy")
    zeros = np.zeros((n, exits), dtype=np.float32)
    return ExitScores(
        layers=tuple(range(12 - exits, 12)), samples=np.arange(n), labels=np.zeros(n, dtype=np.int32),
        prediction=prediction, final_prediction=np.zeros(n, dtype=np.int32),
        **{name: given.get(name, zeros) for name in names},
    )  # fmt: skip


def random_scores(seed=0, n=200, exits=2):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.05, 1.0, (n, exits))
    return make_scores(
        rng.integers(0, 5, (n, exits)), confidence=confidence, margin=confidence * rng.uniform(0, 1, (n, exits)),
        entropy=rng.uniform(0, 1, (n, exits)), certainty=rng.normal(0.5, 0.5, (n, exits)),
        sav=rng.lognormal(3, 1, (n, exits)), energy=rng.lognormal(5, 1, (n, exits)),
    )  # fmt: skip


def first(scores, n):
    """The first n images alone."""
    parts = {field.name: getattr(scores, field.name) for field in fields(scores)}
    return ExitScores(**{name: part if name == "layers" else part[:n] for name, part in parts.items()})


def noisy_outcomes(scores, seed=1):
    rng = np.random.default_rng(seed)
    return rng.random(scores.confidence.shape) < scores.confidence


def test_the_registry_lists_every_policy():
    assert list(POLICIES) == NAMES
    with pytest.raises(KeyError, match=r"no exit policy is called 'pabee'; there are class-thresholds, conf"):
        POLICIES["pabee"]


def test_only_the_learned_gate_reads_the_gate_features():
    assert [name for name in POLICIES if POLICIES[name].gated] == ["learned-gate"]


@pytest.mark.parametrize(
    ("features", "macs"),
    [
        (("confidence",), 1),
        (("confidence", "margin", "entropy"), 3),
        (("confidence", "margin", "sav"), 49 * 768 + 3),
        (("log-sav",), 49 * 768 + 1),
        (("confidence", "relative-sav"), 49 * 768 + 768 + 2),
        (("sav", "log-sav", "relative-sav"), 49 * 768 + 768 + 3),  # SAV itself is computed once
    ],
)
def test_the_gate_pays_for_its_products_and_for_sav_only_where_it_reads_it(features, macs):
    assert POLICIES["learned-gate"].macs(SHAPE, features) == macs


def test_the_learned_scalar_costs_one_product_with_the_heads_input_and_the_others_nothing():
    costs = {name: POLICIES[name].macs(SHAPE, FEATURES) for name in NAMES if name != "learned-gate"}
    assert {name: cost for name, cost in costs.items() if cost} == {"learned-scalar": 768}


def test_every_policy_but_patience_takes_the_configurations_grid():
    grid = ThresholdGrid(low=0.3, high=0.6, points=4)
    other = [name for name in NAMES if not np.array_equal(POLICIES[name].thresholds(grid, 3), grid.values)]
    assert other == ["patience"]


def test_confidence_and_margin_are_passed_on_as_they_are():
    scores = random_scores()
    assert np.array_equal(POLICIES["confidence"].readiness(scores, [{}, {}]), scores.confidence)
    assert np.array_equal(POLICIES["margin"].readiness(scores, [{}, {}]), scores.margin)


def test_the_surest_image_by_entropy_is_the_one_with_the_least():
    scores = random_scores()
    readiness = POLICIES["entropy"].readiness(scores, [{}, {}])
    assert np.array_equal(readiness.argsort(axis=0), (-scores.entropy).argsort(axis=0))
    assert readiness[scores.entropy == scores.entropy.min()] == pytest.approx(1 - scores.entropy.min())


def test_the_gate_is_scikit_learns_logistic_regression_on_standardised_signals():
    scores = random_scores(n=400)
    right = noisy_outcomes(scores)
    gates = POLICIES["learned-gate"].fit(scores, right, FEATURES)
    readiness = POLICIES["learned-gate"].readiness(scores, gates)
    for exit_ in range(2):
        signals = np.column_stack([getattr(scores, name)[:, exit_] for name in FEATURES]).astype(np.float64)
        signals = StandardScaler().fit_transform(signals)
        model = LogisticRegression().fit(signals, right[:, exit_])
        assert readiness[:, exit_] == pytest.approx(model.predict_proba(signals)[:, 1], abs=1e-9)
        assert gates[exit_]["features"] == list(FEATURES)


def test_the_gate_sees_only_the_named_signals_in_their_order():
    scores = random_scores()
    right = noisy_outcomes(scores)
    policy = POLICIES["learned-gate"]
    one = policy.fit(scores, right, ("sav", "confidence"))
    other = policy.fit(scores, right, ("confidence", "sav"))
    assert [len(gate["weights"]) for gate in one] == [2, 2]
    assert one[0]["weights"] == pytest.approx(other[0]["weights"][::-1], abs=1e-6)
    assert policy.readiness(scores, one) == pytest.approx(policy.readiness(scores, other), abs=1e-6)


def test_weights_point_the_way_the_outcomes_depend_on_the_signals():
    rng = np.random.default_rng(0)
    signals = rng.normal(0, 1, (300, 3)) * (0.1, 1.0, 50.0) + (0.5, 0.0, 200.0)
    gate = fit_gate(signals, (signals[:, 0] - 0.5) / 0.1 - (signals[:, 2] - 200) / 50 > 0)
    confidence, unrelated, sav = gate["weights"]
    assert confidence > 1.0
    assert sav < -1.0
    assert abs(unrelated) < 0.5


@pytest.mark.parametrize(("outcome", "expected"), [(True, 21 / 22), (False, 1 / 22)])
def test_equal_outcomes_make_a_constant_gate_that_is_almost_sure(outcome, expected):
    scores = random_scores(n=20)
    gates = POLICIES["learned-gate"].fit(scores, np.full((20, 2), outcome), FEATURES)
    assert POLICIES["learned-gate"].readiness(scores, gates) == pytest.approx(np.full((20, 2), expected))


def test_a_signal_without_any_spread_does_not_break_the_gate():
    scores = random_scores(n=60)
    scores.sav[:] = 7.0
    gates = POLICIES["learned-gate"].fit(scores, noisy_outcomes(scores), FEATURES)
    readiness = POLICIES["learned-gate"].readiness(scores, gates)
    assert np.isfinite(readiness).all()
    assert gates[0]["weights"][2] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1000))
@settings(max_examples=examples(10))
def test_readiness_is_a_share_and_survives_json_exactly(name, seed):
    scores, policy = random_scores(seed, n=40), POLICIES[name]
    fitted = policy.fit(scores, noisy_outcomes(scores, seed), FEATURES)
    readiness = policy.readiness(scores, fitted)
    assert readiness.shape == (40, 2)
    assert ((readiness >= 0.0) & (readiness <= 1.0)).all()
    assert np.array_equal(policy.readiness(scores, json.loads(json.dumps(fitted))), readiness)


@pytest.mark.parametrize("name", NAMES)
def test_readiness_of_an_image_does_not_depend_on_the_others(name):
    scores, policy = random_scores(n=30), POLICIES[name]
    fitted = policy.fit(scores, noisy_outcomes(scores), FEATURES)
    half = policy.readiness(first(scores, 15), fitted)
    assert half == pytest.approx(policy.readiness(scores, fitted)[:15], abs=1e-12)


def test_patience_worked_by_hand():
    scores = make_scores([[3, 3, 3, 3], [1, 2, 2, 2], [1, 1, 2, 2], [4, 5, 6, 7]])
    readiness = POLICIES["patience"].readiness(scores, [{}] * 4)
    assert (readiness * 4).tolist() == [[0, 1, 2, 3], [0, 0, 1, 2], [0, 1, 0, 1], [0, 0, 0, 0]]


def test_every_patience_is_one_threshold():
    thresholds = POLICIES["patience"].thresholds(ThresholdGrid(), 4)
    assert thresholds.tolist() == [-np.inf, 0.125, 0.375, 0.625, np.inf]
    assert POLICIES["patience"].thresholds(ThresholdGrid(), 1).tolist() == [-np.inf, np.inf]


def pabee(predictions, patience):
    """PABEE's inference loop for one image: the exit taken, the number of exits where none is."""
    counter, last = 0, None
    for exit_, prediction in enumerate(predictions):
        counter = counter + 1 if prediction == last else 0
        last = prediction
        if counter == patience:
            return exit_
    return len(predictions)


@given(seed=st.integers(0, 10_000), exits=st.integers(2, 7), classes=st.integers(1, 3))
@settings(max_examples=examples(20))
def test_patience_is_pabees_loop(seed, exits, classes):
    prediction = np.random.default_rng(seed).integers(0, classes, (20, exits))
    policy = POLICIES["patience"]
    readiness = policy.readiness(make_scores(prediction), [{}] * exits)
    thresholds = policy.thresholds(ThresholdGrid(), exits)
    assert len(thresholds) == exits + 1
    for patience, threshold in enumerate(thresholds[:-1]):  # -inf: no patience at all
        expected = [pabee(row, patience) for row in prediction]
        assert route(readiness, [threshold] * exits).tolist() == expected


def test_the_learned_scalar_is_the_estimate_confined_to_a_share():
    scores = make_scores(np.zeros((2, 2)), certainty=[[-0.3, 0.25], [0.75, 1.8]])
    assert POLICIES["learned-scalar"].readiness(scores, [{}, {}]).tolist() == [[0.0, 0.25], [0.75, 1.0]]


def test_class_gaps_worked_by_hand():
    # Mean margins: class 0: 0.2, class 2: 0.4, class 3: 0.6; class 1 is never predicted.
    prediction = np.array([0, 0, 2, 3, 3])
    margin = np.array([0.1, 0.3, 0.4, 0.5, 0.7])
    assert class_gaps(prediction, margin) == pytest.approx([0.0, 0.5, 0.5, 1.0])


@pytest.mark.parametrize("prediction", [[2, 2], [0, 1]])
def test_classes_without_any_difference_are_all_neutral(prediction):
    assert class_gaps(np.array(prediction), np.array([0.3, 0.3])) == [0.5] * (max(prediction) + 1)


def test_an_easy_class_leaves_at_a_lower_threshold_and_an_unknown_one_at_the_common_one():
    policy = POLICIES["class-thresholds"]
    fitted = policy.fit(make_scores([[0], [1]], margin=[[0.9], [0.1]]), np.ones((2, 1), dtype=bool), ())
    assert fitted == [{"gaps": [1.0, 0.0]}]
    tau = 0.6
    for prediction, threshold in ((0, tau - SPAN / 2), (1, tau + SPAN / 2), (2, tau), (99, tau)):
        scores = make_scores([[prediction]] * 2, confidence=[[threshold - 0.001], [threshold + 0.001]])
        assert route(policy.readiness(scores, fitted), [tau]).tolist() == [1, 0]


@given(seed=st.integers(0, 10_000), tau=st.floats(0.0, 0.99))
@settings(max_examples=examples(13))
def test_shifting_the_confidence_is_a_threshold_for_each_class(seed, tau):
    gate, scores, policy = random_scores(seed), random_scores(seed + 1), POLICIES["class-thresholds"]
    fitted = policy.fit(gate, noisy_outcomes(gate), ())
    leaves = policy.readiness(scores, fitted) > tau
    for exit_ in range(2):
        means = [gate.margin[gate.prediction[:, exit_] == c, exit_].mean(dtype=np.float64) for c in range(5)]
        g = (np.array(means) - min(means)) / (max(means) - min(means))
        distance = scores.confidence[:, exit_] - (tau + SPAN * (0.5 - g))[scores.prediction[:, exit_]]
        clear = np.abs(distance) > 1e-9
        assert np.array_equal(leaves[clear, exit_], distance[clear] > 0.0)

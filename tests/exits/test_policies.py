import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lraee.exits.policies import POLICIES
from lraee.exits.policies.learned_gate import fit_gate
from lraee.exits.score_table import ExitScores

FEATURES = ("confidence", "margin", "sav")
NAMES = ["confidence", "entropy", "learned-gate", "margin"]


def random_scores(seed=0, n=200, exits=2):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.05, 1.0, (n, exits)).astype(np.float32)
    return ExitScores(
        layers=tuple(range(9, 9 + exits)), samples=np.arange(n), labels=rng.integers(0, 5, n).astype(np.int32),
        prediction=rng.integers(0, 5, (n, exits)).astype(np.int32), confidence=confidence,
        margin=(confidence * rng.uniform(0, 1, (n, exits))).astype(np.float32),
        entropy=rng.uniform(0, 1, (n, exits)).astype(np.float32),
        sav=rng.lognormal(3, 1, (n, exits)).astype(np.float32),
        final_prediction=rng.integers(0, 5, n).astype(np.int32),
    )  # fmt: skip


def noisy_outcomes(scores, seed=1):
    rng = np.random.default_rng(seed)
    return rng.random(scores.confidence.shape) < scores.confidence


def test_the_registry_lists_every_policy():
    assert list(POLICIES) == NAMES
    with pytest.raises(KeyError, match=r"no exit policy is called 'pabee'; there are confidence, entropy"):
        POLICIES["pabee"]


def test_only_the_learned_gate_pays_for_a_gate():
    assert [name for name in POLICIES if POLICIES[name].gated] == ["learned-gate"]


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
@settings(max_examples=15, deadline=None)
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
    half = ExitScores(
        scores.layers, *(getattr(scores, field)[:15] for field in list(ExitScores.__annotations__)[1:])
    )  # fmt: skip
    assert policy.readiness(half, fitted) == pytest.approx(policy.readiness(scores, fitted)[:15], abs=1e-12)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lraee.exits.routing import answers, oracle_place, outcome, random_place, route
from lraee.exits.score_table import ExitScores
from tests import examples

INF = np.inf
unit = st.floats(0.0, 1.0)


def scores_of(prediction, final, labels, layers=(9, 11)):
    blank = np.zeros(np.shape(prediction), dtype=np.float32)
    return ExitScores(
        layers=layers, samples=np.arange(len(labels)), labels=np.array(labels), prediction=np.array(prediction),
        confidence=blank, margin=blank, entropy=blank, certainty=blank, sav=blank, energy=blank,
        final_prediction=np.array(final),
    )  # fmt: skip


def test_the_first_exit_above_its_threshold_is_taken():
    readiness = np.array([[0.9, 0.9], [0.1, 0.9], [0.9, 0.1], [0.1, 0.1]])
    assert route(readiness, [0.5, 0.5]).tolist() == [0, 1, 0, 2]
    assert route(readiness, [0.95, 0.5]).tolist() == [1, 1, 2, 2]
    assert route(readiness, [0.05, 0.5]).tolist() == [0, 0, 0, 0]


def test_a_readiness_equal_to_the_threshold_does_not_leave():
    assert route(np.array([[0.5], [np.nextafter(0.5, 1.0)]]), [0.5]).tolist() == [1, 0]


def test_minus_infinity_lets_all_leave_and_plus_infinity_none():
    readiness = np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 0.3]])
    assert route(readiness, [-INF, 0.5, 0.5]).tolist() == [0, 0]
    assert route(readiness, [INF, -INF, 0.5]).tolist() == [1, 1]
    assert route(readiness, [INF, INF, INF]).tolist() == [3, 3]


@given(arrays(np.float64, (20, 3), elements=unit), arrays(np.float64, 3, elements=unit), st.integers(0, 2), unit)
@settings(max_examples=examples(27))
def test_a_lower_threshold_never_makes_anyone_leave_later(readiness, thresholds, exit_, share):
    lower = thresholds.copy()
    lower[exit_] *= share
    assert (route(readiness, lower) <= route(readiness, thresholds)).all()


@given(arrays(np.float64, (20, 3), elements=unit), arrays(np.float64, 3, elements=unit))
@settings(max_examples=examples(13))
def test_routing_equals_walking_through_the_exits_one_by_one(readiness, thresholds):
    def walk(row):
        for place, (value, threshold) in enumerate(zip(row, thresholds, strict=True)):
            if value > threshold:
                return place
        return len(row)

    assert route(readiness, thresholds).tolist() == [walk(row) for row in readiness]


def test_everyone_is_answered_where_they_leave():
    scores = scores_of([[1, 2], [1, 2], [1, 2], [0, 3]], [3, 3, 3, 3], [1, 2, 3, 3])
    result = outcome(scores, np.array([0, 1, 2, 0]))
    assert result.answer.tolist() == [1, 2, 3, 0]
    assert result.correct.tolist() == [True, True, True, False]
    assert result.full_correct.tolist() == [False, False, True, True]
    assert result.shares.tolist() == [0.5, 0.25, 0.25]
    assert result.layers == (9, 11)


def test_shares_count_places_where_nobody_leaves():
    result = outcome(scores_of([[1, 1]] * 4, [1] * 4, [1] * 4), np.array([1, 1, 1, 1]))
    assert result.shares.tolist() == [0.0, 1.0, 0.0]


@given(arrays(np.int64, 30, elements=st.integers(0, 2)))
@settings(max_examples=examples(10))
def test_shares_sum_to_one(place):
    result = outcome(scores_of([[1, 1]] * 30, [1] * 30, [1] * 30), place)
    assert result.shares.sum() == pytest.approx(1.0)
    assert (result.shares * 30).round().astype(int).tolist() == [(place == p).sum() for p in range(3)]


def test_the_oracle_leaves_at_the_first_right_exit_else_goes_on_to_the_end():
    scores = scores_of([[1, 1], [1, 2], [2, 2], [2, 2]], [1, 1, 1, 2], [1, 2, 1, 1])
    assert oracle_place(scores).tolist() == [0, 1, 2, 2]
    assert outcome(scores, oracle_place(scores)).correct.tolist() == [True, True, True, False]


small = arrays(np.int32, (25, 3), elements=st.integers(0, 2))


@given(small, arrays(np.int64, 25, elements=st.integers(0, 2)))
@settings(max_examples=examples(20))
def test_no_routing_is_right_where_the_oracle_is_wrong(answered, place):
    scores = scores_of(answered[:, :2], answered[:, 2], [0] * 25)
    best = outcome(scores, oracle_place(scores))
    assert (best.correct | ~outcome(scores, place).correct).all()
    # And nobody could have left earlier and been right.
    for image, first in enumerate(best.place):
        assert (answers(scores)[image, :first] != 0).all()


@given(arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 3)), st.integers(0, 9))
@settings(max_examples=examples(13))
def test_random_places_have_the_same_shares(place, seed):
    dealt = random_place(place, seed)
    assert sorted(dealt) == sorted(place)
    assert dealt.tolist() == random_place(place, seed).tolist()


def test_random_places_are_no_choice():
    place = np.repeat([0, 1, 2], 1000)
    dealt = random_place(place, 1)
    for here in range(3):
        assert np.bincount(dealt[place == here], minlength=3) / 1000 == pytest.approx([1 / 3] * 3, abs=0.07)
    assert dealt.tolist() != random_place(place, 2).tolist()

import numpy as np
import pandas as pd
import pytest

from lraee.metrics.pruning import pathological_layers


def test_the_rule_by_hand() -> None:
    # Mean over the candidates 8, 9, 10, 11 is 10; layer 7, no candidate, does not count.
    inr = pd.Series({7: 1000.0, 8: 12.0, 9: 4.0, 10: 5.0, 11: 19.0})
    assert pathological_layers(inr, [8, 9, 10, 11], 0.5) == [9]
    assert pathological_layers(inr, [8, 9, 10, 11], 0.51) == [9, 10]
    assert pathological_layers(inr, [8, 9, 10, 11], 0.0) == []
    assert pathological_layers(inr, [8, 9, 10, 11], 1.3) == [8, 9, 10]


def test_the_mean_is_over_the_candidates_alone() -> None:
    inr = pd.Series({8: 4.0, 9: 5.0, 10: 6.0, 12: 500.0})
    assert pathological_layers(inr, [8, 9, 10], 0.9) == [8]
    assert pathological_layers(inr, [8, 9, 10, 12], 0.9) == [8, 9, 10]


def test_a_single_candidate_is_never_dropped() -> None:
    assert pathological_layers(pd.Series({8: 3.0}), [8], 0.5) == []


def test_layers_without_any_noise_are_all_kept() -> None:
    assert pathological_layers(pd.Series({8: np.inf, 9: np.inf}), [8, 9], 0.5) == []


def test_a_candidate_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="9"):
        pathological_layers(pd.Series({8: 3.0}), [8, 9], 0.5)


def test_layers_are_plain_integers() -> None:
    (layer,) = pathological_layers(pd.Series({8: 1.0, 9: 9.0}), [8, 9], 0.5)
    assert type(layer) is int

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lraee.metrics.compute import exit_costs, static_cost
from lraee.models.shape import TowerShape

# Worked by hand: stem 2*5*2 = 20. Block: QKV 3*2*6 = 36, QK' and AV 2*9*2 = 36, projection 3*2*2 = 12, MLP
# 2*3*2*4 = 48, together 132. Own head 2*3 = 6. An exit: 2*2 + 2*3 = 10 and 3*7 = 21 class products; a gate: SAV 2*2
# and 3 products.
TINY = TowerShape(depth=4, tokens=3, width=2, hidden=4, patch=5, embedding=3, projected=True)
FULL = 20 + 4 * 132 + 6 + 21


def test_costs_without_gates_worked_by_hand():
    costs = exit_costs(TINY, 7, [1, 3], gated=False)
    assert costs.full == FULL
    assert costs.leaving.tolist() == [20 + 132 + 31, 20 + 3 * 132 + 2 * 31, FULL + 2 * 31]


def test_costs_with_gates_worked_by_hand():
    costs = exit_costs(TINY, 7, [1, 3], gated=True)
    assert costs.full == FULL
    assert costs.leaving.tolist() == [20 + 132 + 38, 20 + 3 * 132 + 2 * 38, FULL + 2 * 38]


def test_saved_is_the_mean_over_the_places_against_the_model_as_it_is():
    costs = exit_costs(TINY, 7, [1, 3], gated=False)
    assert costs.saved(np.array([0.5, 0.25, 0.25])) == pytest.approx(1 - (0.5 * 183 + 0.25 * 478 + 0.25 * 637) / 575)
    assert costs.saved(np.array([0.0, 0.0, 1.0])) == pytest.approx(-62 / 575)


def test_a_static_exit_has_one_head_and_no_gate():
    assert static_cost(TINY, 7, 3) == 20 + 3 * 132 + 31
    assert static_cost(TINY, 7, 4) == 20 + 4 * 132 + 31


@given(st.sets(st.integers(1, 11), min_size=1, max_size=5), st.integers(1, 1000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_leaving_later_always_costs_more(layers, classes, gated):
    shape = TowerShape(depth=12, tokens=50, width=768, hidden=3072, patch=3072, embedding=512, projected=True)
    costs = exit_costs(shape, classes, sorted(layers), gated)
    assert (np.diff(costs.leaving) > 0).all()
    assert costs.leaving[-1] > costs.full > costs.leaving[0]


def test_vit_b_32_costs_what_the_literature_says():
    # 357.7 MMAC a block, 4.293 GMAC for twelve, 0.116 GMAC for the patches.
    shape = TowerShape(depth=12, tokens=50, width=768, hidden=3072, patch=3072, embedding=512, projected=True)
    costs = exit_costs(shape, 1000, [8], gated=False)
    assert costs.full == pytest.approx(4.293e9 + 0.116e9, rel=1e-3)
    assert costs.leaving[-1] - costs.full == pytest.approx(1.5e6, rel=0.02)

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lraee.evaluation.bench import spent
from lraee.metrics.compute import FLOAT_BITS, bit_operations, components, exit_costs, static_costs, whole_tower
from lraee.models.shape import TowerShape
from tests import examples

# Worked by hand: stem 2*5*2 = 20. Block: QKV 3*2*6 = 36, QK' and AV 2*9*2 = 36, projection 3*2*2 = 12, MLP
# 2*3*2*4 = 48, together 132. Own head 2*3 = 6. An exit: 2*2 + 2*3 = 10 and 3*7 = 21 class products; a gate: SAV 2*2
# and 3 products.
TINY = TowerShape(depth=4, tokens=3, width=2, hidden=4, patch=5, embedding=3, projected=True)
FULL = 20 + 4 * 132 + 6 + 21
UNGATED, GATED = components(TINY, 7, gate=0), components(TINY, 7, gate=2 * 2 + 3)
VIT_B_32 = TowerShape(depth=12, tokens=50, width=768, hidden=3072, patch=3072, embedding=512, projected=True)
FP32 = whole_tower(TINY, FLOAT_BITS)
# The blocks have 16, 32, 64 and 1,024 bit operations a MAC; what is around them has 1,024.
MIXED = replace(FP32, block_bops=(132 * 16, 132 * 32, 132 * 64, 132 * 1024))
BLOCKS = 132 * (16 + 32 + 64 + 1024)


def test_costs_without_gates_worked_by_hand():
    costs = exit_costs(UNGATED, [1, 3])
    assert costs.full == FULL
    assert costs.leaving.tolist() == [20 + 132 + 31, 20 + 3 * 132 + 2 * 31, FULL + 2 * 31]


def test_costs_with_gates_worked_by_hand():
    costs = exit_costs(GATED, [1, 3])
    assert costs.full == FULL
    assert costs.leaving.tolist() == [20 + 132 + 38, 20 + 3 * 132 + 2 * 38, FULL + 2 * 38]


def test_a_static_exit_has_one_head_and_no_gate():
    assert static_costs(GATED, 3).leaving.tolist() == [20 + 3 * 132 + 31]
    assert static_costs(GATED, 4).leaving.tolist() == [20 + 4 * 132 + 31]


def used(place, parts=UNGATED, coverage=MIXED, **options):
    bops = bit_operations(parts, coverage)
    return spent(np.array(place), exit_costs(parts, [1, 3], **options), exit_costs(bops, [1, 3], **options), 4, 0)


def test_what_four_images_spend_worked_by_hand():
    row = used([0, 0, 1, 2])
    macs = (2 * 183 + 478 + 637) / 4
    assert row["macs"] == pytest.approx(macs)
    assert row["saved"] == pytest.approx(1 - macs / 575)
    assert row["mean_layer"] == pytest.approx((1 + 1 + 3 + 4) / 4)
    assert row["saved_blocks"] == pytest.approx(1 - 9 / 16)
    # Bit operations: every image has the stem; one, one, three or four blocks; one, one, two or two exits; one the end.
    blocks = 132 * (16 + 16 + 112) + BLOCKS
    bops = (4 * 20 * 1024 + blocks + 6 * 31 * 1024 + 27 * 1024) / 4
    full = BLOCKS + 47 * 1024
    assert row["bops"] == pytest.approx(bops)
    assert row["bops_saved"] == pytest.approx(1 - bops / full)
    assert row["bops_saved_blocks"] == pytest.approx(1 - blocks / (4 * BLOCKS))


def test_nobody_leaving_saves_less_than_nothing():
    row = used([2, 2, 2], parts=GATED)
    assert [row["saved"], row["saved_low"], row["saved_high"]] == pytest.approx([-76 / 575] * 3)
    assert (row["saved_blocks"], row["bops_saved_blocks"], row["mean_layer"]) == (0.0, 0.0, 4.0)
    assert row["bops_saved"] == pytest.approx(-76 * 1024 / (BLOCKS + 47 * 1024))


def test_a_refitted_head_is_paid_for_by_those_who_reach_it():
    assert used([0, 2], refitted=True)["macs"] - used([0, 2])["macs"] == pytest.approx((10 - 6) / 2)


def test_the_interval_of_saved_is_the_bootstrap_of_the_images():
    place = np.random.default_rng(0).integers(0, 3, 400)
    row = used(place)
    costs = np.array([183, 478, 637])
    drawn = np.random.default_rng(1).choice(1 - costs[place] / 575, size=(4000, 400)).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (row["saved_low"], row["saved_high"]) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_a_network_without_exits_spends_the_same_on_every_image():
    macs, bops = static_costs(UNGATED, 3), static_costs(bit_operations(UNGATED, FP32), 3)
    row = spent(np.zeros(5, dtype=np.int64), macs, bops, 4, 0)
    assert row["uncounted"] == pytest.approx(row["saved_blocks"] - row["saved"])
    for name in ("saved", "saved_low", "saved_high", "bops_saved"):
        assert row[name] == pytest.approx(1 - 447 / 575)
    assert (row["macs"], row["bops"], row["mean_layer"]) == (447, 447 * 1024, 3.0)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
@settings(max_examples=examples(13))
def test_in_fp32_bit_operations_save_what_macs_save(place):
    row = used(place, coverage=FP32)
    assert row["bops_saved"] == pytest.approx(row["saved"])
    assert row["bops_saved_blocks"] == pytest.approx(row["saved_blocks"])
    assert row["bops"] == pytest.approx(1024 * row["macs"])


@given(st.sets(st.integers(1, 11), min_size=1, max_size=5), st.integers(1, 1000), st.integers(0, 50_000))
@settings(max_examples=examples(13))
def test_leaving_later_always_costs_more(layers, classes, gate):
    costs = exit_costs(components(VIT_B_32, classes, gate), sorted(layers))
    assert (np.diff(costs.leaving) > 0).all()
    assert costs.leaving[-1] > costs.full > costs.leaving[0]


def test_vit_b_32_costs_what_the_literature_says():
    # 357.7 MMAC a block, 4.293 GMAC for twelve, 0.116 GMAC for the patches.
    costs = exit_costs(components(VIT_B_32, 1000, 0), [8])
    assert costs.full == pytest.approx(4.293e9 + 0.116e9, rel=1e-3)
    assert costs.leaving[-1] - costs.full == pytest.approx(1.5e6, rel=0.02)

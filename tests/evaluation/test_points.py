"""Rows worked by hand, from tables written by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lraee.evaluation.bench import TestBench, accuracy, difference, measures
from lraee.evaluation.choices import Variation
from lraee.evaluation.fit import Static
from lraee.evaluation.points import (
    bound_rows,
    cost_rows,
    early_row,
    exit_rows,
    full_depth_row,
    routed_row,
    sensitivity_rows,
    static_row,
)
from lraee.metrics.statistics import mcnemar_p, wilson
from tests import examples
from tests.evaluation.tables import (
    BLOCK,
    CLASSES,
    FULL,
    HEAD,
    OWN,
    PRODUCTS,
    QUANTIZED,
    SHAPE,
    STEM,
    UNQUANTIZED,
    hand_bench,
    hand_fitted,
    hand_table,
)

INF = np.inf
SSA8, SSA10, CLS12 = ("ssa", "distilled", 8), ("ssa", "distilled", 10), ("cls", "hard", 12)
# Six images. At 8: images 0 and 1 leave; at 10: 2 and 3; 4 and 5 reach the end.
LABELS = [0, 1, 2, 3, 4, 0]
OWN_ANSWERS = [0, 0, 0, 3, 4, 1]
EXITS = {SSA8: [0, 1, 0, 0, 4, 0], SSA10: [1, 1, 2, 0, 4, 0], CLS12: [0, 1, 2, 3, 0, 0]}
SURE = {SSA8: [0.9, 0.8, 0.5, 0.4, 0.3, 0.2], SSA10: [0.1, 0.1, 0.9, 0.8, 0.2, 0.1]}
ROUTED = hand_fitted([8, 10], [0.6, 0.5])


@pytest.fixture
def bench():
    return hand_bench(LABELS, OWN_ANSWERS, EXITS, SURE, coverage=QUANTIZED)


def test_routed_answers_against_full_depth_worked_by_hand(bench):
    result = bench.routed(ROUTED)
    assert result.place.tolist() == [0, 0, 1, 1, 2, 2]
    assert result.answer.tolist() == [0, 1, 2, 0, 4, 1]
    row = routed_row(bench, ROUTED, "frontier")
    # Right: 0, 1, 2, 4. The model as it is: 0, 3, 4. Rescued: 1 and 2; lost: 3; other answers: 1, 2, 3.
    assert (row["n"], row["correct"], row["both_right"], row["rescue"], row["loss"], row["both_wrong"]) == (
        6, 4, 2, 2, 1, 1,
    )  # fmt: skip
    assert row["margin"] == pytest.approx(1 / 6)
    assert row["mcnemar_p"] == mcnemar_p(2, 1)
    assert (row["top1"], row["top1_low"], row["top1_high"]) == wilson(4, 6)
    assert (row["disagreement"], row["disagreement_low"], row["disagreement_high"]) == wilson(3, 6)
    assert row["mean_layer"] == pytest.approx((8 + 8 + 10 + 10 + 12 + 12) / 6)
    macs = (6 * STEM + 60 * BLOCK + 10 * (HEAD + PRODUCTS) + 2 * (OWN + PRODUCTS)) / 6
    assert row["macs"] == pytest.approx(macs)
    assert row["saved"] == pytest.approx(1 - macs / FULL)
    # A third of the images each leaves after 8, 10 and 12 blocks, of 576, 880 and 1,248 BOPs a MAC.
    blocks = (576 + 880 + 1248) / 3 * BLOCK
    assert row["bops"] == pytest.approx(1024 * (macs - 10 * BLOCK) + blocks)
    assert row["bops_saved"] == pytest.approx(1 - row["bops"] / (1024 * (FULL - 12 * BLOCK) + 1248 * BLOCK))
    assert row["bops_saved_blocks"] == pytest.approx(1 - blocks / (1248 * BLOCK))
    assert (row["study"], row["layers"], row["full_depth_head"]) == ("frontier", "8,10", "own")
    assert row["gate_features"] == ""  # confidence has no gate
    assert row["thresholds"] == "[0.6, 0.5]"


def test_on_a_refitted_head_the_end_is_answered_and_paid_by_that_head(bench):
    fitted = hand_fitted([8, 10], [0.6, 0.5], final=("cls", "hard"))
    row = routed_row(bench, fitted, "on-refit")
    assert row["full_depth_head"] == "cls hard"
    # Images 4 and 5 now get 0 and 0 at the end: 5 is right there, 4 no longer.
    assert bench.routed(fitted).answer.tolist() == [0, 1, 2, 0, 0, 0]
    assert bench.routed(fitted).full_correct.tolist() == [True, True, True, True, False, True]
    # Still against the model as it is: rescued 1, 2 and 5; lost 3 and 4.
    assert (row["rescue"], row["loss"], row["correct"]) == (3, 2, 4)
    plain = routed_row(bench, ROUTED, "frontier")
    assert row["macs"] - plain["macs"] == pytest.approx(2 / 6 * (HEAD - OWN))
    assert row["bops"] - plain["bops"] == pytest.approx(2 / 6 * (HEAD - OWN) * 1024)


def test_a_routed_row_of_a_risk_rule_has_no_budget(bench):
    fitted = hand_fitted([8], [INF], threshold_rule="risk-disagreement", risk=0.05)
    row = routed_row(bench, fitted, "risk")
    assert row["risk"] == 0.05
    assert np.isnan(row["budget"])
    assert row["thresholds"] == '["inf"]'
    assert row["disagreement"] == row["margin"] == 0.0


def test_a_static_exit_and_full_depth_worked_by_hand(bench):
    static = Static(layer=10, aggregation="ssa", supervision="distilled", select_top1=0.25)
    row = static_row(bench, static)
    assert (row["correct"], row["rescue"], row["loss"]) == (4, 3, 2)
    assert row["disagreement"] == pytest.approx(5 / 6)
    assert row["macs"] == STEM + 10 * BLOCK + HEAD + PRODUCTS
    assert row["bops"] == 1024 * (STEM + HEAD + PRODUCTS) + 880 * BLOCK
    assert row["bops_saved_blocks"] == pytest.approx(1 - 880 / 1248)
    assert (row["mean_layer"], row["saved_blocks"]) == pytest.approx((10.0, 1 / 6))
    full = full_depth_row(bench, 0.125)
    assert (full["correct"], full["select_top1"], full["macs"], full["mean_layer"]) == (3, 0.125, FULL, 12.0)


def test_bounds_worked_by_hand(bench):
    gated = hand_fitted([8, 10], [0.6, 0.5], policy="learned-scalar")  # its gate costs 16 MACs an exit
    gated = gated.model_copy(update={"thresholds": [0.4, 0.4]})  # certainty is 0.5 everywhere: all leave at 8
    oracle, random = bound_rows(bench, gated)
    assert (oracle["policy"], random["policy"]) == ("oracle", "random")
    # Right at 8: 0, 1, 4, 5; at 10: 2; else to the end: 3.
    assert oracle["correct"] == 6
    assert oracle["mean_layer"] == pytest.approx((4 * 8 + 10 + 12) / 6)
    macs = 6 * STEM + 54 * BLOCK + (4 + 2 + 2) * (HEAD + PRODUCTS) + OWN + PRODUCTS
    assert oracle["macs"] == pytest.approx(macs / 6)
    assert random["macs"] == pytest.approx(STEM + 8 * BLOCK + HEAD + PRODUCTS + 16)
    assert random["correct"] == 4


@given(st.integers(0, 10_000))
@settings(max_examples=examples(10))
def test_the_oracle_is_right_wherever_any_routing_is(seed):
    rng = np.random.default_rng(seed)
    answers = {key: rng.integers(0, 3, 40) for key in (SSA8, SSA10)}
    bench = hand_bench(rng.integers(0, 3, 40), rng.integers(0, 3, 40), answers, {k: rng.random(40) for k in answers})
    fitted = hand_fitted([8, 10], rng.random(2))
    oracle, random = bound_rows(bench, fitted)
    routed = routed_row(bench, fitted, "frontier")
    statics = [static_row(bench, Static(layer=k[2], aggregation="ssa", supervision="distilled", select_top1=0.0))
               for k in answers]  # fmt: skip
    assert all(oracle["correct"] >= row["correct"] for row in (routed, random, full_depth_row(bench, 0.0), *statics))
    assert random["macs"] == pytest.approx(routed["macs"])
    assert random["mean_layer"] == pytest.approx(routed["mean_layer"])


def test_exits_worked_by_hand(bench):
    rows = exit_rows(bench, ROUTED, bench.routed(ROUTED))
    assert [row["layer"] for row in rows] == [8, 10, 12]
    assert [row["n"] for row in rows] == [2, 2, 2]
    assert [row["accuracy_exit"] for row in rows] == [1.0, 0.5, 0.5]
    assert [row["accuracy_full"] for row in rows] == [0.5, 0.5, 0.5]
    # At 8 over all six images: right are 0, 1, 4, 5 (0.9, 0.8, 0.3, 0.2), wrong 2 and 3 (0.5, 0.4): 4 of 8 pairs.
    # At 10: right are 1, 2, 4, 5 (0.1, 0.9, 0.2, 0.1), wrong 0 and 3 (0.1, 0.8): 1/2 + 2 + 1 + 1/2 of 8 pairs.
    assert [row["auroc"] for row in rows] == pytest.approx([4 / 8, 4 / 8, np.nan], nan_ok=True)


def test_auroc_is_scikit_learns_over_all_test_images(fitted, tables):
    bench = TestBench(tables["test"], SHAPE, CLASSES, UNQUANTIZED, 0)
    own = fitted.arms[0].headline
    rows = exit_rows(bench, own, bench.routed(own))
    scores = tables["test"]["base"].at("ssa", "distilled", [8, 10, 11])
    readiness = bench.readiness(own)
    for place in range(3):
        right = scores.prediction[:, place] == scores.labels
        assert rows[place]["auroc"] == pytest.approx(roc_auc_score(right, readiness[:, place]))
        assert rows[place]["auroc"] > 0.6


def test_an_exit_that_is_always_right_has_no_auroc():
    bench = hand_bench([1, 2], [0, 0], {SSA8: [1, 2]})
    fitted = hand_fitted([8], [0.5])
    rows = exit_rows(bench, fitted, bench.routed(fitted))
    assert np.isnan(rows[0]["auroc"])
    assert (rows[1]["n"], rows[1]["share"]) == (0, 0.0)
    assert np.isnan(rows[1]["accuracy_exit"])


def test_early_leavers_worked_by_hand():
    bench = hand_bench(LABELS, [0, 1, 0, 0, 4, 1], EXITS, SURE)
    row = early_row(bench, bench.routed(ROUTED))
    assert (row["n"], row["n_early"], row["n_rest"]) == (6, 4, 2)
    assert row["share"] == pytest.approx(4 / 6)
    # At the exit 0, 1, 2 are right; the same images at full depth: 0 and 1.
    assert (row["accuracy_exit"], row["accuracy_exit_low"], row["accuracy_exit_high"]) == wilson(3, 4)
    assert (row["accuracy_full"], row["accuracy_full_low"], row["accuracy_full_high"]) == wilson(2, 4)
    assert row["difference"] == pytest.approx(1 / 4)
    assert (row["difference_low"], row["difference_high"]) == (0.0, 0.75)
    assert row["mcnemar_p"] == mcnemar_p(1, 0)
    assert (row["accuracy_rest"], row["accuracy_rest_low"], row["accuracy_rest_high"]) == wilson(1, 2)


@pytest.mark.parametrize(("threshold", "n_early"), [(INF, 0), (-INF, 6)])
def test_where_nobody_or_everybody_leaves_there_is_nothing_to_compare(bench, threshold, n_early):
    row = early_row(bench, bench.routed(hand_fitted([8], [threshold])))
    assert (row["n_early"], row["n_rest"]) == (n_early, 6 - n_early)
    missing = {name for name, value in row.items() if np.isnan(value)}
    ends = ("", "_low", "_high")
    early = {f"{name}{end}" for name in ("accuracy_exit", "accuracy_full", "difference") for end in ends}
    rest = {f"accuracy_rest{end}" for end in ends}
    assert missing == (rest if n_early else early | {"mcnemar_p"})


def test_costs_by_component_worked_by_hand(bench):
    rows = {row["component"]: row for row in cost_rows(bench, ROUTED, bench.routed(ROUTED))}
    heads = {"exit heads": HEAD, "class products at exits": PRODUCTS, "gates": 0}
    for name, each in heads.items():
        assert rows[name]["macs_full"] == 0
        assert rows[name]["macs_routed"] == pytest.approx(10 / 6 * each)  # 1 + 1 + 2 + 2 + 2 + 2 exits are met
        assert rows[name]["bops_routed"] == pytest.approx(1024 * 10 / 6 * each)
    assert (rows["patch embedding"]["macs_full"], rows["patch embedding"]["macs_routed"]) == (STEM, STEM)
    assert (rows["blocks"]["macs_full"], rows["blocks"]["macs_routed"]) == pytest.approx((12 * BLOCK, 10 * BLOCK))
    assert (rows["blocks"]["bops_full"], rows["blocks"]["bops_routed"]) == pytest.approx(
        (1248 * BLOCK, (576 + 880 + 1248) / 3 * BLOCK)
    )
    at_the_end = [row for name, row in rows.items() if name not in {"patch embedding", "blocks", *heads}]
    assert sum(row["macs_full"] for row in at_the_end) == OWN + PRODUCTS
    assert sum(row["macs_routed"] for row in at_the_end) == pytest.approx((OWN + PRODUCTS) / 3)
    assert [name for name, row in rows.items() if row["counted_by_paper"]] == ["blocks"]


@given(st.integers(0, 10_000), st.sampled_from(["confidence", "learned-scalar"]))
@settings(max_examples=examples(10))
def test_components_sum_to_the_routed_and_the_full_depth_point(seed, policy):
    rng = np.random.default_rng(seed)
    answers = {key: rng.integers(0, 3, 30) for key in (SSA8, SSA10)}
    labels, own, sure = rng.integers(0, 3, 30), rng.integers(0, 3, 30), {k: rng.random(30) for k in answers}
    bench = hand_bench(labels, own, answers, sure, coverage=QUANTIZED)
    fitted = hand_fitted([8, 10], rng.random(2), policy=policy)
    rows = cost_rows(bench, fitted, bench.routed(fitted))
    routed, full = routed_row(bench, fitted, "frontier"), full_depth_row(bench, 0.0)
    for kind in ("macs", "bops"):
        assert sum(row[f"{kind}_routed"] for row in rows) == pytest.approx(routed[kind])
        assert sum(row[f"{kind}_full"] for row in rows) == pytest.approx(full[kind])


# Sensitivity.


def varied(setting, fitted, is_base=False):
    return Variation(axis="temperature", setting=setting, configuration=fitted.configuration, x=1.0, is_base=is_base)


def by_configuration(*fitted):
    return {one.configuration: one for one in fitted}


@pytest.fixture
def two_points():
    """The base sends everybody out at 8, its variation at 10."""
    return hand_fitted([8], [-INF]), hand_fitted([10], [-INF])


def test_sensitivity_worked_by_hand(bench, two_points):
    base, other = two_points
    variations = [varied("1", base, is_base=True), varied("2", other)]
    # FP32: right everywhere at full depth; at 8 wrong on 0 and 1, at 10 on 5.
    exits = {SSA8: [1, 0, *LABELS[2:]], SSA10: [*LABELS[:5], 3]}
    control = hand_bench(LABELS, LABELS, exits)
    fitted = by_configuration(*two_points)
    first, second = sensitivity_rows(bench, control, variations, fitted, fitted)
    # The arm is right on 0, 3, 4 at full depth; at 8 on 0, 1, 4, 5; at 10 on 1, 2, 4, 5.
    assert (first["is_base"], first["value"], first["point_layers"], first["x"]) == (True, "1", "8", 1.0)
    assert (first["difference"], second["difference"]) == (0.0, pytest.approx(0.0))
    assert np.isnan(first["mcnemar_p"])
    assert second["mcnemar_p"] == mcnemar_p(1, 1)
    assert (first["margin"], second["margin"]) == pytest.approx((1 / 6, 1 / 6))
    # Margins of the control: -2/6 and -1/6.
    assert (first["attributable"], second["attributable"]) == pytest.approx((3 / 6, 2 / 6))
    assert (first["top1"], second["top1"]) == pytest.approx((4 / 6, 4 / 6))
    assert second["saved"] == pytest.approx(1 - (STEM + 10 * BLOCK + HEAD + PRODUCTS) / FULL)


def test_the_control_arm_explains_nothing_of_itself(bench, two_points):
    fitted = by_configuration(*two_points)
    variations = [varied("1", two_points[0], is_base=True), varied("2", two_points[1])]
    for row in sensitivity_rows(bench, bench, variations, fitted, fitted):
        assert all(np.isnan(row[f"attributable{end}"]) for end in ("", "_low", "_high"))


def test_a_variation_that_met_no_budget_in_either_arm_has_no_row(bench, two_points):
    base, other = two_points
    variations = [varied("1", base, is_base=True), varied("2", other)]
    both, one = by_configuration(base, other), by_configuration(base)
    for own, control in ((both, one), (one, both)):
        assert [r["value"] for r in sensitivity_rows(bench, bench, variations, own, control)] == ["1"]


def test_sensitivity_of_a_whole_run(evaluated, points):
    rows = evaluated["sensitivity"]
    for (precision, axis), curve in rows.groupby(["precision", "axis"], sort=False):
        assert curve.is_base.tolist() == [True] + [False] * (len(curve) - 1)
        assert curve.difference.to_numpy() == pytest.approx(curve.top1.to_numpy() - curve.top1.iloc[0])
        assert curve.attributable.notna().all() == (precision == "w4a4")
        if axis != "INR scaling of thresholds":  # whose base is one threshold for all exits
            headline = points[(points.precision == precision) & points.headline].iloc[0]
            assert curve.top1.iloc[0] == headline.top1
            assert curve.saved.iloc[0] == pytest.approx(headline.saved)
    margins = rows.pivot_table(index=["axis", "value"], columns="precision", values="margin", aggfunc="first")
    ours = rows[rows.precision == "w4a4"].set_index(["axis", "value"])["attributable"]
    assert ours.to_dict() == pytest.approx((margins["w4a4"] - margins["fp32"]).to_dict())
    found = {axis: part.value.tolist() for axis, part in rows[rows.precision == "w4a4"].groupby("axis")}
    assert found == {
        "INR scaling of thresholds": ["0", "-0.5", "1"], "kappa of the pruning rule": ["0.5", "0.25"],
        "temperature": ["1", "0.5"], "fit images": ["100", "50"],
        "SAV normalisation": ["sav", "log-sav", "relative-sav"],
    }  # fmt: skip
    layers = rows.set_index(["axis", "value"])["point_layers"].to_dict()
    assert layers[("kappa of the pruning rule", "0.25")] == "8,9,10,11"


# The bench itself.


def test_variants_that_answered_other_images_are_refused():
    base = hand_table([0, 1], [0, 1], {})
    same, other = (hand_table([0, 1], [0, 1], {}, variant="seed-1", samples=samples) for samples in ([0, 1], [1, 0]))
    TestBench({"base": base, "seed-1": same}, SHAPE, CLASSES, UNQUANTIZED, 0)
    with pytest.raises(ValueError, match="variants of the heads answered different test images"):
        TestBench({"base": base, "seed-1": other}, SHAPE, CLASSES, UNQUANTIZED, 0)


def test_a_variant_is_routed_by_its_own_heads_and_compared_with_the_one_full_depth():
    base = hand_table([0, 1, 2], [0, 0, 0], {SSA8: [1, 1, 1]})
    seeded = hand_table([0, 1, 2], [0, 0, 0], {SSA8: [0, 1, 2]}, variant="seed-1")
    bench = TestBench({"base": base, "seed-1": seeded}, SHAPE, CLASSES, UNQUANTIZED, 0)
    rows = [routed_row(bench, hand_fitted([8], [-INF], variant=name), "frontier") for name in ("base", "seed-1")]
    assert [row["correct"] for row in rows] == [1, 3]
    assert [row["margin"] for row in rows] == pytest.approx([0.0, 2 / 3])
    static = Static(layer=8, aggregation="ssa", supervision="distilled", select_top1=0.0, variant="seed-1")
    assert bench.static_answer(static).tolist() == [0, 1, 2]


def test_measures_of_no_change_are_zero(bench):
    row = measures(bench, bench.full_answer)
    assert (row["rescue"], row["loss"], row["margin"], row["margin_low"], row["disagreement"]) == (0, 0, 0, 0, 0)
    assert row["mcnemar_p"] == 1.0


def test_nothing_is_said_of_no_images():
    nobody = np.array([], dtype=bool)
    assert all(np.isnan(value) for value in accuracy("x", nobody).values())
    assert all(np.isnan(value) for value in difference(nobody, nobody, 0).values())

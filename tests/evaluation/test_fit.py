from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lraee.evaluation.choices import Configuration, grid_configurations
from lraee.evaluation.fit import Arm, Fitted, best_static, costs_of, fit_configurations, static_exits
from lraee.exits.policies import POLICIES
from lraee.exits.routing import outcome, route
from lraee.exits.rules import RULES
from lraee.exits.score_table import score_tables
from lraee.io import read_json, write_json
from lraee.metrics.compute import components, exit_costs
from tests.evaluation.tables import BLOCK, CLASSES, FULL, HEAD, OWN, PRODUCTS, SHAPE, STEM, permuted_labels

LAYERS = (8, 10, 11)
SPLITS = ("gate", "select", "fp32_gate", "fp32_select")


def arm_of(tables):
    return Arm(*(tables[split] for split in SPLITS))


@pytest.fixture(scope="module")
def arm(tables):
    return arm_of(tables)


@pytest.fixture(scope="module")
def ground(run):
    return run.ground


@pytest.fixture(scope="module")
def fitted(arm, exits, ground):
    risky = [
        configuration(threshold_rule=rule, risk=level, policy=policy)
        for rule in RULES if RULES[rule].controls_risk for level in (0.05, 0.3) for policy in ("confidence", "margin")
    ]  # fmt: skip
    refitted = [configuration(final=("cls", "hard"), budget=budget, policy="confidence") for budget in (0.0, 0.1)]
    varied = [configuration(variant=name, budget=0.1) for name in ("seed-1", "images-50", "temperature-0.5")]
    scaled = [configuration(threshold_rule="global", inr_exponent=x, policy="margin") for x in (-1.0, 0.0, 1.0)]
    return fit_configurations(
        arm, [*grid_configurations(exits.grids, LAYERS), *risky, *refitted, *varied, *scaled], ground
    )


def configuration(**changes):
    chosen = {
        "policy": "learned-gate", "aggregation": "ssa", "supervision": "distilled", "budget": 0.0,
        "threshold_rule": "layer-adaptive", "layers": LAYERS,
    }  # fmt: skip
    return Configuration(**(chosen | changes))


def on_select(one, tables, name="select"):
    """Route the select split again."""
    c = one.configuration
    scores = tables[name][c.variant].at(c.aggregation, c.supervision, c.layers, c.final)
    return outcome(scores, route(POLICIES[c.policy].readiness(scores, one.gates), one.thresholds))


def test_the_operating_point_on_select_equals_routing_select_again(fitted, tables):
    assert len(fitted) > 40
    for one in fitted:
        c, result = one.configuration, on_select(one, tables)
        parts = components(SHAPE, CLASSES, POLICIES[c.policy].macs(SHAPE, c.gate_features))
        costs = exit_costs(parts, c.layers, refitted=c.final == ("cls", "hard"))
        assert one.select_top1 == pytest.approx(result.correct.mean(), abs=1e-12)
        assert one.select_saved == pytest.approx(1 - result.shares @ costs.leaving / costs.full, abs=1e-9)


def test_every_budget_is_kept_on_select(fitted):
    kept = [one for one in fitted if one.configuration.risk is None]
    assert len(kept) > 30
    for one in kept:
        assert one.select_saved >= one.configuration.budget - 1e-9


def test_risk_rules_keep_the_share_of_disagreement_below_their_level(fitted, tables):
    risky = [one for one in fitted if one.configuration.threshold_rule == "risk-disagreement"]
    assert len(risky) == 4
    left = 0
    for one in risky:
        result = on_select(one, tables)
        own = tables["select"]["base"].final_prediction
        assert (result.answer != own).mean() <= one.configuration.risk
        left += (result.place < 3).sum()
    assert left > 0


def test_on_a_refitted_head_that_head_answers_at_full_depth(arm, ground, tables, frames):
    (one,) = fit_configurations(arm, [configuration(final=("cls", "hard"), budget=0.0)], ground)
    nobody = one.model_copy(update={"thresholds": [np.inf] * 3})
    frame = frames["select"]
    block = frame[(frame.variant == "base") & (frame.layer == 12) & (frame.aggregation == "cls")]
    block = block[block.supervision == "hard"]
    assert on_select(nobody, tables).answer.tolist() == block["prediction"].tolist()
    costs = costs_of(one.configuration, SHAPE, CLASSES)
    gate = 9 * 16 + 3
    assert costs.leaving[-1] == STEM + 12 * BLOCK + 3 * (HEAD + PRODUCTS + gate) + HEAD + PRODUCTS
    assert costs.full == FULL
    own = costs_of(configuration(), SHAPE, CLASSES)
    assert own.leaving[-1] - costs.leaving[-1] == OWN - HEAD


def most_that_can_be_saved():
    """Everybody leaves at the first exit, whose head and gate and the stem are paid for."""
    return 1 - (STEM + 8 * BLOCK + HEAD + PRODUCTS + 9 * 16 + 3) / FULL


def test_only_budgets_that_cannot_be_met_are_left_out(arm, ground):
    most = most_that_can_be_saved()
    wanted = [configuration(budget=budget) for budget in (0.0, most - 1e-6, most + 1e-6)]
    budgets = [one.configuration.budget for one in fit_configurations(arm, wanted, ground)]
    assert budgets == pytest.approx([0.0, most - 1e-6])


def test_at_the_largest_budget_everybody_leaves_at_the_first_exit(arm, ground, tables):
    (one,) = fit_configurations(arm, [configuration(budget=most_that_can_be_saved() - 1e-9)], ground)
    assert (on_select(one, tables).place == 0).all()


def test_a_larger_budget_never_gives_more_accuracy_on_select(fitted):
    groups = {}
    for one in fitted:
        c = one.configuration
        if c.risk is None and c.supervision != "label-free":  # chosen by labels
            groups.setdefault(c.model_copy(update={"budget": 0.0}), []).append((c.budget, one.select_top1))
    assert any(len(points) > 2 for points in groups.values())
    for points in groups.values():
        accuracies = [top1 for _, top1 in sorted(points)]
        assert accuracies == sorted(accuracies, reverse=True)


def test_what_shares_a_gate_comes_out_as_if_fitted_alone(arm, ground, fitted):
    for one in fitted[::9]:
        (alone,) = fit_configurations(arm, [one.configuration], ground)
        assert alone == one


def test_a_variant_reads_its_own_scores(fitted, arm, tables, ground, frames):
    for name in ("seed-1", "images-50", "temperature-0.5"):
        (one,) = (own for own in fitted if own.configuration.variant == name)
        only = {
            split: score_tables(frames[split][frames[split].variant == name].assign(variant="base"))
            for split in SPLITS
        }  # fmt: skip
        (alone,) = fit_configurations(arm_of(only), [configuration(budget=0.1)], ground)
        assert (alone.gates, alone.thresholds) == (one.gates, one.thresholds)


def test_the_gate_split_fits_gates_and_the_select_split_chooses_thresholds(arm, ground, tables, frames):
    wanted = [configuration(budget=0.1), configuration(budget=0.1, threshold_rule="global", policy="margin")]
    base = fit_configurations(arm, wanted, ground)
    moved = {split: score_tables(permuted_labels(frames[split])) for split in ("gate", "select")}
    other_gate = fit_configurations(arm_of(tables | {"gate": moved["gate"]}), wanted, ground)
    other_select = fit_configurations(arm_of(tables | {"select": moved["select"]}), wanted, ground)
    assert other_gate[0].gates != base[0].gates
    assert other_gate[1] == base[1]  # margin has nothing to fit on gate
    assert [one.gates for one in other_select] == [one.gates for one in base]
    assert [one.thresholds for one in other_select] != [one.thresholds for one in base]


def base_of(frame):
    return frame[frame.variant == "base"]


def test_gates_are_fitted_to_being_right_on_the_gate_split(arm, ground, frames):
    (one,) = fit_configurations(arm, [configuration(gate_features=("confidence",))], ground)
    frame = base_of(frames["gate"])
    block = frame[(frame.layer == 10) & (frame.aggregation == "ssa") & (frame.supervision == "distilled")]
    signal = StandardScaler().fit_transform(block[["confidence"]].to_numpy(np.float64))
    model = LogisticRegression().fit(signal, block["prediction"] == block["label"])
    assert one.gates[1]["weights"] == pytest.approx(model.coef_[0], abs=1e-6)
    assert one.gates[1]["bias"] == pytest.approx(model.intercept_[0], abs=1e-6)


def test_without_labels_a_gate_is_fitted_to_agreeing_with_fp32(arm, ground, frames):
    label_free = configuration(supervision="label-free", gate_features=("confidence",))
    (one,) = fit_configurations(arm, [label_free], ground)
    frame, fp32 = base_of(frames["gate"]), base_of(frames["fp32_gate"])
    block = frame[(frame.layer == 8) & (frame.aggregation == "ssa") & (frame.supervision == "label-free")]
    agreed = block["prediction"].to_numpy() == fp32[fp32.aggregation == "final"]["prediction"].to_numpy()
    signal = StandardScaler().fit_transform(block[["confidence"]].to_numpy(np.float64))
    model = LogisticRegression().fit(signal, agreed)
    assert one.gates[0]["weights"] == pytest.approx(model.coef_[0], abs=1e-6)


@pytest.fixture(scope="module")
def mislabelled(frames):
    """The same scores with labels that belong to other images."""
    return arm_of({split: score_tables(permuted_labels(frames[split])) for split in SPLITS})


def fit_all(arm, ground, supervision):
    wanted = [
        configuration(supervision=supervision, budget=budget, threshold_rule=rule, policy=policy)
        for budget in (0.0, 0.1) for rule in ("layer-adaptive", "global")
        for policy in ("learned-gate", "margin", "class-thresholds", "learned-scalar", "patience")
    ]  # fmt: skip
    wanted += [
        configuration(supervision=supervision, risk=0.2, threshold_rule=rule, policy="confidence")
        for rule in ("risk-disagreement", "risk-accuracy-gap")
    ]
    return fit_configurations(arm, wanted, ground)


def test_label_free_gates_and_thresholds_do_not_depend_on_labels(arm, mislabelled, ground):
    with_labels, without = fit_all(arm, ground, "label-free"), fit_all(mislabelled, ground, "label-free")
    assert len(with_labels) == len(without) == 22
    for one, other in zip(with_labels, without, strict=True):
        assert one.gates == other.gates
        assert one.thresholds == other.thresholds
        assert one.select_saved == other.select_saved
        assert one.select_top1 > other.select_top1


def test_supervised_gates_do_depend_on_labels(arm, mislabelled, ground):
    one, other = (fit_all(given, ground, "distilled") for given in (arm, mislabelled))
    assert one[0].gates != other[0].gates
    moved = [a.thresholds != b.thresholds for a, b in zip(one, other, strict=True)]
    assert sum(moved) > len(moved) / 2


def test_what_is_fitted_survives_its_file_with_infinite_thresholds(fitted, tmp_path):
    nobody_then_all = fitted[0].model_copy(update={"thresholds": [np.inf, 1 / 3, -np.inf]})
    for one in [*fitted, nobody_then_all]:
        write_json(tmp_path / "fitted.json", one.model_dump(mode="json"))
        assert Fitted.model_validate(read_json(tmp_path / "fitted.json")) == one


def test_static_exits_are_each_heads_own_accuracy_on_select(tables, frames):
    heads = [(8, "ssa", "hard"), (12, "ssa", "hard"), (3, "cls", "distilled")]
    statics = static_exits(tables["select"]["base"], heads)
    assert [(s.layer, s.aggregation, s.supervision, s.variant) for s in statics] == [(*head, "base") for head in heads]
    frame = base_of(frames["select"])
    for s in statics:
        block = frame[
            (frame.layer == s.layer) & (frame.aggregation == s.aggregation) & (frame.supervision == s.supervision)
        ]
        assert s.select_top1 == pytest.approx((block["prediction"] == block["label"]).mean())


def test_the_best_static_exit_of_a_layer_is_the_first_of_equals(tables):
    heads = [(11, "ssa", "hard"), (12, "ssa", "hard"), (12, "cls", "hard"), (12, "ssa", "distilled")]
    statics = static_exits(tables["select"]["base"], heads)
    scored = [s.model_copy(update={"select_top1": t}) for s, t in zip(statics, (0.9, 0.7, 0.8, 0.8), strict=True)]
    assert best_static(scored, [12]) == scored[2]
    assert best_static(scored, range(1, 13)) == scored[0]


def test_a_projection_costs_nothing_where_the_model_has_none():
    plain = replace(SHAPE, projected=False)
    with_head, without = (costs_of(configuration(), shape, CLASSES) for shape in (SHAPE, plain))
    assert with_head.full - without.full == SHAPE.width * SHAPE.embedding
    assert with_head.leaving[:-1].tolist() == without.leaving[:-1].tolist()


def test_inr_scaling_lowers_thresholds_where_the_noise_is_lower(arm, run):
    layers = (8, 9, 10)
    wanted = [
        configuration(layers=layers, policy="margin", threshold_rule="global", inr_exponent=x) for x in (0.0, 1.0)
    ]
    flat, scaled = fit_configurations(arm, wanted, replace(run.ground, inr=pd.Series({8: 60.0, 9: 40.0, 10: 50.0})))
    assert len(set(flat.thresholds)) == 1
    grid = run.exits.thresholds.values
    possible = [np.clip(tau * np.array([50 / 60, 50 / 40, 1.0]), 0, 1) for tau in grid[1:-1]]
    assert any(scaled.thresholds == pytest.approx(thresholds) for thresholds in possible)

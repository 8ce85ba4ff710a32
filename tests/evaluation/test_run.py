import inspect
import json

import numpy as np
import pandas as pd
import pytest

from lraee.evaluation.choices import AblationSettings
from lraee.evaluation.points import TestBench, attribution_row, mark_frontier
from lraee.evaluation.run import FittedArms, evaluate_both_arms, fit_both_arms
from lraee.exits.policies import POLICIES
from lraee.exits.routing import route
from lraee.exits.score_table import ScoreTable

CLASSES = 5
FIT_TABLES = ("gate", "select", "fp32_gate", "fp32_select")


def fit(tables, noise, exits, shape, kappa=0.5):
    given = {name: tables[name] for name in FIT_TABLES}
    return fit_both_arms(given, "w4a4", noise, kappa, exits, shape, CLASSES)


@pytest.fixture(scope="module")
def fitted(tables, noise, exits, shape):
    return fit(tables, noise, exits, shape)


@pytest.fixture(scope="module")
def evaluated(fitted, tables):
    return evaluate_both_arms(fitted, tables["test"], tables["fp32_test"], seed=0)


@pytest.fixture(scope="module")
def points(evaluated):
    return evaluated["points"]


def routed_by_hand(fitted_one, scores_table):
    c = fitted_one.configuration
    scores = scores_table.at(c.aggregation, c.supervision, c.layers)
    place = route(POLICIES[c.policy].readiness(scores, fitted_one.gates), fitted_one.thresholds)
    answers = np.column_stack([scores.prediction, scores.final_prediction])[np.arange(len(place)), place]
    return place, answers == scores.labels, scores.final_prediction == scores.labels


def test_pruning_drops_the_noisy_layer_from_both_arms(fitted):
    assert fitted.pathological == [9]
    assert [arm.precision for arm in fitted.arms] == ["w4a4", "fp32"]
    for arm in fitted.arms:
        assert arm.headline.configuration.layers == (8, 10, 11)
        assert {one.configuration.layers for one in arm.grid} == {(8, 10, 11)}
        assert {static.layer for static in arm.statics} == {8, 9, 10, 11, 12}


def test_a_smaller_kappa_keeps_every_layer(tables, noise, exits, shape):
    kept = fit(tables, noise, exits, shape, kappa=0.25)
    assert kept.pathological == []
    assert {arm.headline.configuration.layers for arm in kept.arms} == {(8, 9, 10, 11)}


def test_only_the_noise_on_all_tokens_prunes(tables, noise, exits, shape):
    quiet = noise.copy()
    quiet.loc[(quiet.tokens == "cls") & (quiet.layer == 8), "inr"] = 1e-9
    assert fit(tables, quiet, exits, shape).pathological == [9]


def test_a_headline_budget_that_cannot_be_met_is_refused_by_name(tables, noise, exits, shape):
    asked = exits.model_copy(update={"headline": exits.headline.model_copy(update={"budget": 0.333})})
    with pytest.raises(ValueError, match=r"exits\.headline\.budget is 0\.333.*layers \[8, 10, 11\] \(w4a4\)"):
        fit(tables, noise, asked, shape)


def test_both_arms_fit_the_same_configurations(fitted):
    ours, control = fitted.arms
    for name in ("grid", "ablations"):
        own = [one.configuration for one in getattr(ours, name)]
        assert own == [one.configuration for one in getattr(control, name)]
    assert ours.headline.thresholds != control.headline.thresholds or ours.headline.gates != control.headline.gates


def test_the_control_arm_is_fitted_on_fp32_scores_alone(tables, noise, exits, shape, fitted):
    swapped = tables | {"gate": tables["fp32_gate"], "select": tables["fp32_select"]}
    twice = fit(swapped, noise, exits, shape)
    assert twice.arms[1] == fitted.arms[1]
    assert twice.arms[0].model_dump(exclude={"precision"}) == twice.arms[1].model_dump(exclude={"precision"})


def test_fitting_has_no_way_in_for_the_test_split():
    parameters = inspect.signature(fit_both_arms).parameters
    assert list(parameters) == ["tables", "quantizer", "noise", "kappa", "exits", "shape", "classes"]


def test_fitting_reads_no_other_table_than_gate_and_select(tables, noise, exits, shape, fitted):
    read = set()

    class Watched(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    watched = Watched(tables)
    again = fit_both_arms(watched, "w4a4", noise, 0.5, exits, shape, CLASSES)
    assert read == set(FIT_TABLES)
    assert again == fitted


def test_control_scores_of_other_images_are_refused(tables, frames, noise, exits, shape):
    frame = frames["fp32_select"]
    turned = frame.assign(sample=frame["sample"].max() - frame["sample"])
    with pytest.raises(ValueError, match="different images"):
        fit(tables | {"fp32_select": ScoreTable(turned)}, noise, exits, shape)


def test_what_is_fitted_survives_json(fitted):
    assert FittedArms.model_validate(json.loads(json.dumps(fitted.model_dump(mode="json")))) == fitted


def test_every_routed_point_equals_routing_by_hand(fitted, points, tables):
    checked = 0
    for arm, name in zip(fitted.arms, ("test", "fp32_test"), strict=True):
        for one in [arm.headline, *arm.grid, *arm.ablations]:
            c = one.configuration
            rows = points[
                (points.precision == arm.precision) & (points.policy == c.policy)
                & (points.aggregation == c.aggregation) & (points.supervision == c.supervision)
                & (points.layers == ",".join(map(str, c.layers))) & (points.threshold_rule == c.threshold_rule)
                & (points.budget == c.budget)
            ]  # fmt: skip
            if POLICIES[c.policy].gated:
                rows = rows[rows.gate_features == "+".join(c.gate_features)]
            place, correct, full = routed_by_hand(one, tables[name])
            assert len(rows) == 1
            row = rows.iloc[0]
            assert row.correct == correct.sum()
            assert row.rescue == (correct & ~full).sum()
            assert row.loss == (~correct & full).sum()
            assert row.margin == pytest.approx(correct.mean() - full.mean())
            assert row.mean_layer == pytest.approx(np.append(c.layers, 12)[place].mean())
            assert row.saved_blocks == pytest.approx(1 - row.mean_layer / 12)
            checked += 1
    assert checked > 100


def test_quadrants_sum_to_the_images_and_intervals_hold_their_value(points):
    assert (points.n == 170).all()
    assert (points[["both_right", "rescue", "loss", "both_wrong"]].sum(axis=1) == points.n).all()
    assert (points.both_right + points.rescue == points.correct).all()
    assert (points.top1_low <= points.top1).all()
    assert (points.top1 <= points.top1_high).all()
    assert (points.margin_low <= points.margin).all()
    assert (points.margin <= points.margin_high).all()


def test_points_have_a_name_each_and_one_headline_an_arm(points):
    for _, arm in points.groupby("precision"):
        assert arm["point"].is_unique
        assert arm["headline"].sum() == 1
        assert arm[arm["headline"].astype(bool)]["study"].tolist() == ["frontier"]
        assert (arm["study"] == "full-depth").sum() == 1
        assert (arm["study"] == "static").sum() == 2 * 3 * 5


def test_a_configuration_of_the_grid_is_a_frontier_point_and_any_other_an_ablation(fitted, points):
    for arm in fitted.arms:
        routed = points[(points.precision == arm.precision) & points.policy.isin(list(POLICIES))]
        gridded = {one.configuration for one in [arm.headline, *arm.grid]}
        ablated = {one.configuration for one in arm.ablations} - gridded
        assert (routed.study == "frontier").sum() == len(gridded)
        assert (routed.study == "ablation").sum() == len(ablated) > 5
        assert set(routed[routed.study == "frontier"].layers) == {"8,10,11"}


def test_full_depth_saves_nothing_and_has_no_margin(points, tables):
    full = points[points.study == "full-depth"].set_index("precision")
    assert (full[["saved", "saved_blocks", "select_saved", "margin", "rescue", "loss"]] == 0).all().all()
    for precision, name in (("w4a4", "test"), ("fp32", "fp32_test")):
        assert full.loc[precision, "top1"] == (tables[name].final_prediction == tables[name].labels).mean()


def test_select_figures_of_full_depth_are_from_the_select_split(points, tables):
    full = points[(points.study == "full-depth") & (points.precision == "w4a4")].iloc[0]
    select = tables["select"]
    assert full.select_top1 == pytest.approx((select.final_prediction == select.labels).mean())


def test_a_static_exit_saves_the_blocks_behind_it_less_its_head(points, shape):
    static = points[(points.study == "static") & (points.layers == "8")].iloc[0]
    block = 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16 + 2 * 10 * 16 * 64
    stem, head, own = 9 * 12 * 16, 16 * 16 + 16 * 8 + 8 * 5, 16 * 8 + 8 * 5
    assert static.saved == pytest.approx(1 - (stem + 8 * block + head) / (stem + 12 * block + own))
    assert static.select_saved == static.saved


def test_a_static_exit_at_full_depth_costs_its_head_alone(points):
    refit = points[(points.study == "static") & (points.layers == "12")]
    assert ((refit.saved < 0) & (refit.saved > -0.01)).all()
    assert (refit.saved_blocks == 0).all()


def brute_force_frontier(points):
    eligible = points[points.study.isin(["full-depth", "static", "frontier"])]
    kept = set()
    for index, one in eligible.iterrows():
        beaten = any(
            other.select_top1 >= one.select_top1 and other.select_saved >= one.select_saved
            and (other.select_top1 > one.select_top1 or other.select_saved > one.select_saved)
            for _, other in eligible.iterrows()
        )  # fmt: skip
        if not beaten:
            kept.add(index)
    return kept


def test_the_frontier_equals_comparing_every_pair(points):
    for _, arm in points.groupby("precision"):
        marked = set(arm.index[arm["on_frontier"].astype(bool)])
        assert marked == brute_force_frontier(arm)
        assert 1 < len(marked) < len(arm)


def test_equal_points_are_both_on_the_frontier_and_ablations_never():
    points = pd.DataFrame(
        {
            "study": ["frontier", "static", "frontier", "ablation", "full-depth"],
            "select_top1": [0.7, 0.7, 0.69, 0.9, 0.8],
            "select_saved": [0.2, 0.2, 0.2, 0.9, 0.0],
        },
        index=[7, 3, 5, 1, 0],
    )
    assert mark_frontier(points).to_dict() == {7: True, 3: True, 5: False, 1: False, 0: True}


def test_test_results_do_not_move_the_frontier(fitted, tables, frames, points):
    worse = frames["test"].assign(label=lambda frame: (frame["label"] + 1) % CLASSES)
    again = evaluate_both_arms(fitted, ScoreTable(worse), tables["fp32_test"], seed=0)["points"]
    ours = again.precision == "w4a4"
    assert (again[ours].top1 != points[ours].top1).any()
    for column in ("on_frontier", "select_top1", "select_saved", "thresholds", "saved", "headline"):
        assert again[column].equals(points[column])


def test_exits_of_the_headline_hold_everybody_once(evaluated, fitted, tables):
    for arm, name in zip(fitted.arms, ("test", "fp32_test"), strict=True):
        rows = evaluated["exits"].query("precision == @arm.precision")
        place, correct, full = routed_by_hand(arm.headline, tables[name])
        assert rows.layer.tolist() == [8, 10, 11, 12]
        assert rows.share.sum() == pytest.approx(1.0)
        assert rows.n.sum() == 170
        for index, row in enumerate(rows.itertuples()):
            here = place == index
            assert row.n == here.sum()
            if row.n:
                assert row.accuracy_exit == pytest.approx(correct[here].mean())
                assert row.accuracy_full == pytest.approx(full[here].mean())
            else:
                assert np.isnan(row.accuracy_exit)


def test_the_exits_belong_to_the_headline_point(evaluated):
    points, exits = evaluated["points"], evaluated["exits"]
    for precision, rows in exits.groupby("precision"):
        headline = points[(points.precision == precision) & points.headline.astype(bool)].iloc[0]
        assert set(rows.point) == {headline.point}
        assert headline.mean_layer == pytest.approx((rows.layer * rows.share).sum())


def test_saved_counts_stem_blocks_heads_and_gates(evaluated):
    points, exits = evaluated["points"], evaluated["exits"]
    block = 4 * 10 * 16 * 16 + 2 * 10 * 10 * 16 + 2 * 10 * 16 * 64
    stem, own = 9 * 12 * 16, 16 * 8 + 8 * 5
    one_exit = 16 * 16 + 16 * 8 + 8 * 5 + 9 * 16 + 3
    full = stem + 12 * block + own
    leaving = [stem + layer * block + met * one_exit for met, layer in enumerate((8, 10, 11), start=1)]
    leaving.append(full + 3 * one_exit)
    for precision, rows in exits.groupby("precision"):
        headline = points[(points.precision == precision) & points.headline.astype(bool)].iloc[0]
        assert headline.saved == pytest.approx(1 - (rows.share.to_numpy() @ leaving) / full)


def test_every_ablation_axis_starts_with_the_base_at_no_difference(evaluated):
    for (_, _), rows in evaluated["ablations"].groupby(["precision", "axis"], sort=False):
        assert rows.is_base.tolist() == [True] + [False] * (len(rows) - 1)
        assert rows.difference.iloc[0] == 0.0
        assert rows.iloc[0][["difference_low", "difference_high", "mcnemar_p"]].isna().all()
        assert rows.iloc[1:][["difference_low", "difference_high", "mcnemar_p"]].notna().all().all()


def test_ablation_differences_are_the_settings_accuracy_less_the_bases(evaluated, points):
    for _, rows in evaluated["ablations"].groupby(["precision", "axis"], sort=False):
        assert rows.difference.to_numpy() == pytest.approx(rows.top1.to_numpy() - rows.top1.iloc[0])
    for row in evaluated["ablations"].itertuples():
        point = points[(points.precision == row.precision) & (points.point == row.point)].iloc[0]
        assert point.top1 == row.top1
        assert point.saved == row.saved


def test_an_ablation_worked_by_hand(fitted, evaluated, tables):
    arm = fitted.arms[0]
    cls = next(one for one in arm.ablations if one.configuration.aggregation == "cls")
    _, ours, _ = routed_by_hand(cls, tables["test"])
    _, base, _ = routed_by_hand(arm.headline, tables["test"])
    row = evaluated["ablations"].query("precision == 'w4a4' and axis == 'aggregation' and setting == 'cls'").iloc[0]
    assert row.difference == pytest.approx((ours.sum() - base.sum()) / 170)


def test_without_ablations_there_are_no_rows_but_the_same_columns(tables, noise, exits, shape, evaluated):
    plain = fit(tables, noise, exits.model_copy(update={"ablations": AblationSettings()}), shape)
    ablations = evaluate_both_arms(plain, tables["test"], tables["fp32_test"], seed=0)["ablations"]
    assert len(ablations) == 0
    assert set(ablations.columns) == set(evaluated["ablations"].columns)


def test_attribution_is_the_margin_less_the_controls_margin(evaluated, points):
    row = evaluated["attribution"].iloc[0]
    headline = points[points.headline.astype(bool)].set_index("precision")
    assert row.quantizer == "w4a4"
    assert row.n == 170
    assert row.margin == pytest.approx(headline.loc["w4a4", "margin"])
    assert row.fp32_margin == pytest.approx(headline.loc["fp32", "margin"])
    assert row.attributable == pytest.approx(row.margin - row.fp32_margin)
    assert row.attributable_low <= row.attributable <= row.attributable_high


def test_the_best_refit_is_chosen_on_select(evaluated, points):
    row = evaluated["attribution"].iloc[0]
    refits = points[(points.precision == "w4a4") & (points.study == "static") & (points.layers == "12")]
    best = refits.loc[refits.select_top1.idxmax()]
    headline = points[(points.precision == "w4a4") & points.headline.astype(bool)].iloc[0]
    assert row.best_full_depth_refit_label == f"{best.aggregation} {best.supervision}"
    assert row.best_full_depth_refit == best.top1
    assert row.routed_minus_refit == pytest.approx(headline.top1 - best.top1)


def test_attribution_worked_by_hand(shape, fitted):
    """Four images: the arm rescues two and loses none, the control rescues one and loses one."""
    labels = np.array([0, 1, 2, 3])

    def table(exit_answers, final_answers):
        rows = {"sample": range(4), "label": labels, "confidence": 0.9, "margin": 0.5, "entropy": 0.1, "sav": 1.0}
        blocks = [("ssa", "distilled", 8, exit_answers), ("ssa", "distilled", 12, labels), ("final", "own", 12, None)]
        return ScoreTable(
            pd.concat(
                pd.DataFrame(rows).assign(
                    aggregation=aggregation, supervision=supervision, layer=layer,
                    prediction=final_answers if answers is None else answers,
                )
                for aggregation, supervision, layer, answers in blocks
            )
        )  # fmt: skip

    def everybody_at_8(one):
        changes = {"layers": (8,), "policy": "confidence", "aggregation": "ssa", "supervision": "distilled"}
        configuration = one.configuration.model_copy(update=changes)
        return one.model_copy(update={"configuration": configuration, "thresholds": [-np.inf], "gates": [{}]})

    arm = TestBench(table([0, 1, 2, 0], [0, 0, 0, 0]), shape, 4, seed=0)
    control = TestBench(table([0, 1, 0, 0], [0, 0, 2, 0]), shape, 4, seed=0)
    headline = everybody_at_8(fitted.arms[0].headline)
    refit = fitted.arms[0].statics[0].model_copy(
        update={"layer": 12, "aggregation": "ssa", "supervision": "distilled"}
    )  # fmt: skip
    row = attribution_row(arm, control, headline, headline, refit)
    assert row["margin"] == pytest.approx(2 / 4)
    assert row["fp32_margin"] == pytest.approx(0.0)
    # Image by image: 0, 1 - 1, 1 + 1, 0.
    assert row["attributable"] == pytest.approx(2 / 4)
    assert row["best_full_depth_refit"] == 1.0
    assert row["routed_minus_refit"] == pytest.approx(-1 / 4)


def test_the_quantizer_row_compares_full_depth_with_fp32(evaluated, tables):
    rows = evaluated["quantizers"].set_index("quantizer")
    own, fp32 = tables["test"], tables["fp32_test"]
    right, right_fp32 = own.final_prediction == own.labels, fp32.final_prediction == fp32.labels
    row = rows.loc["w4a4"]
    assert row.churn_rescue == (right & ~right_fp32).sum()
    assert row.churn_loss == (~right & right_fp32).sum()
    assert row.difference == pytest.approx(right.mean() - right_fp32.mean())
    assert row.agreement == pytest.approx((own.final_prediction == fp32.final_prediction).mean())
    assert rows.loc["fp32", ["agreement", "difference", "mcnemar_p"]].tolist() == [1.0, 0.0, 1.0]


def test_precisions_that_answered_other_images_are_refused(fitted, frames, tables):
    shifted = ScoreTable(frames["fp32_test"].assign(sample=lambda frame: frame["sample"] + 1))
    with pytest.raises(ValueError, match="w4a4 and fp32 answered different images"):
        evaluate_both_arms(fitted, tables["test"], shifted, seed=0)


def test_the_seed_moves_only_the_bootstrap(fitted, tables, points):
    again = evaluate_both_arms(fitted, tables["test"], tables["fp32_test"], seed=1)["points"]
    moved = [column for column in points if not points[column].equals(again[column])]
    assert set(moved) == {"margin_low", "margin_high"}

import inspect
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from lraee.evaluation import fit as fit_module
from lraee.evaluation.choices import AblationSettings, SensitivitySettings
from lraee.evaluation.collect import corrected, quantizer_table
from lraee.evaluation.contrasts import control_rows, rival_rows
from lraee.evaluation.points import mark_frontier
from lraee.evaluation.run import FittedArms, Run, fit_both_arms
from lraee.exits.policies import POLICIES
from lraee.exits.routing import route
from lraee.exits.score_table import score_tables
from lraee.report.tables import SCHEMA
from tests.evaluation.tables import BLOCK, FULL, HEAD, OWN, PRODUCTS, QUANTIZED, STEM, permuted_labels, point_of

FIT_TABLES = ("gate", "select", "fp32_gate", "fp32_select")
TEST_TABLES = ("test", "fp32_test")
N = 170


def dumped(fitted):
    return json.dumps(fitted.model_dump(mode="json"), sort_keys=True)


def routed_by_hand(fitted_one, tables):
    c = fitted_one.configuration
    scores = tables[c.variant].at(c.aggregation, c.supervision, c.layers, c.final)
    place = route(POLICIES[c.policy].readiness(scores, fitted_one.gates), fitted_one.thresholds)
    answers = np.column_stack([scores.prediction, scores.final_prediction])[np.arange(len(place)), place]
    return place, answers == scores.labels, tables["base"].final_prediction == scores.labels


# Fitting.


def test_pruning_drops_the_noisy_layer_from_both_arms(fitted):
    assert [arm.precision for arm in fitted.arms] == ["w4a4", "fp32"]
    for arm in fitted.arms:
        assert arm.headline.configuration.layers == (8, 10, 11)
        for part in (arm.grid, arm.risk, arm.on_refit, arm.seeds):
            assert {one.configuration.layers for one in part} == {(8, 10, 11)}


def test_a_smaller_kappa_keeps_every_layer(run):
    assert run.kept(0.5) == (8, 10, 11)
    assert run.kept(0.25) == (8, 9, 10, 11)


def test_only_the_noise_on_all_tokens_prunes(run, noise):
    quiet = noise.copy()
    quiet.loc[(quiet.tokens == "cls") & (quiet.layer == 8), "inr"] = 1e-9
    assert Run(**(vars(run) | {"noise": quiet})).kept(0.5) == (8, 10, 11)


def test_static_exits_are_the_headlines_supervision_everywhere_and_others_at_candidates_and_depth(fitted):
    for arm in fitted.arms:
        found = [(s.layer, s.aggregation, s.supervision) for s in arm.statics]
        assert len(found) == len(set(found)) == 24 + 20
        assert {f for f in found if f[2] == "distilled"} == {
            (layer, a, "distilled") for layer in range(1, 13) for a in ("ssa", "cls")
        }
        assert {layer for layer, _, supervision in found if supervision == "hard"} == {8, 9, 10, 11, 12}


def test_a_headline_budget_that_cannot_be_met_is_refused_by_name(tables, small):
    exits = small.exits
    asked = exits.model_copy(update={"headline": exits.headline.model_copy(update={"budget": 0.333})})
    with pytest.raises(ValueError, match=r"exits\.headline\.budget is 0\.333.*layers \[8, 10, 11\] \(w4a4\)"):
        fit_both_arms(tables, "w4a4", Run(**(vars(small) | {"exits": asked})))


def test_both_arms_fit_the_same_configurations(fitted):
    ours, control = fitted.arms
    for name in ("grid", "risk", "ablations", "sensitivity", "sweep", "seeds"):
        own = [one.configuration for one in getattr(ours, name)]
        assert own == [one.configuration for one in getattr(control, name)]
    assert ours.headline.thresholds != control.headline.thresholds or ours.headline.gates != control.headline.gates


def test_the_control_arm_is_fitted_on_fp32_scores_alone(tables, small, small_fitted):
    swapped = tables | {"gate": tables["fp32_gate"], "select": tables["fp32_select"]}
    twice = fit_both_arms(swapped, "w4a4", small)
    assert twice.arms[1] == small_fitted.arms[1]
    assert twice.arms[0].model_dump(exclude={"precision"}) == twice.arms[1].model_dump(exclude={"precision"})


def test_routing_on_top_uses_the_refitted_head_that_is_best_on_select(fitted):
    for arm in fitted.arms:
        at_depth = [s for s in arm.statics if s.layer == 12]
        best = max(at_depth, key=lambda s: s.select_top1)
        assert {one.configuration.final for one in arm.on_refit} == {(best.aggregation, best.supervision)}
        assert {one.configuration.supervision for one in arm.on_refit} == {best.supervision}


def test_a_seeds_refit_is_the_best_of_its_own_heads_on_its_own_select_split(fitted, tables):
    for arm, name in zip(fitted.arms, ("select", "fp32_select"), strict=True):
        assert [refit.variant for refit in arm.refits] == ["base", "seed-1", "seed-2"]
        for refit in arm.refits:
            table = tables[name][refit.variant]
            shares = {
                a: (table.at(a, "distilled", [12]).prediction[:, 0] == table.labels).mean() for a in ("ssa", "cls")
            }
            assert (refit.layer, refit.supervision) == (12, "distilled")
            assert shares[refit.aggregation] == max(shares.values()) == pytest.approx(refit.select_top1)


def test_fitting_has_no_way_in_for_the_test_split():
    # No parameter of anything that fits is a test split, and all scores come through `scores` or an `Arm`.
    for function in (fit_both_arms, *vars(fit_module).values()):
        if inspect.isfunction(function):
            assert not any("test" in name for name in inspect.signature(function).parameters)
    assert list(inspect.signature(fit_both_arms).parameters) == ["scores", "quantizer", "run"]
    assert set(inspect.signature(fit_module.Arm).parameters) == set(FIT_TABLES)


def test_fitting_reads_the_gate_and_select_splits_alone(tables, small, small_fitted):
    read = set()

    class Watched(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    assert fit_both_arms(Watched(tables), "w4a4", small) == small_fitted
    assert read == set(FIT_TABLES)


def replaced_scores(frame):
    """Scores of other images in the place of an image's own; the labels stay."""
    given = ["prediction", "confidence", "margin", "entropy", "certainty", "sav", "energy"]
    moved = frame.copy()
    for name in given:
        moved[name] = frame.groupby(["variant", "aggregation", "supervision", "layer"], sort=False)[name].transform(
            lambda column: np.roll(column.to_numpy(), 5)
        )
    return moved


CHOSEN = ["select_top1", "select_saved", "thresholds", "on_frontier", "headline", "layers", "full_depth_head"]


@pytest.mark.parametrize("perturb", [permuted_labels, replaced_scores])
def test_perturbing_the_test_split_changes_no_fitted_artefact(
    perturb, frames, tables, small, small_fitted, small_evaluated, evaluate
):
    """From scores to tables, with the test labels permuted or the test scores replaced."""
    before = small_evaluated
    moved = tables | {name: score_tables(perturb(frames[name])) for name in TEST_TABLES}
    fitted = fit_both_arms(moved, "w4a4", small)
    as_fitted = dumped(fitted)
    after = evaluate(fitted, moved)
    assert as_fitted == dumped(fitted) == dumped(small_fitted)
    for name in CHOSEN:
        assert after["points"][name].equals(before["points"][name])
    for name in ("best_full_depth_refit_label", "best_point", "best_on_refit_point"):
        assert after["attribution"][name].equals(before["attribution"][name])
    for table in ("thresholds", "ablations", "sensitivity", "sweep"):
        texts = before[table].select_dtypes(exclude="number").columns
        assert after[table][texts].equals(before[table][texts])
    # The test results themselves did move.
    assert not after["points"]["top1"].equals(before["points"]["top1"])


def test_the_proof_would_notice_a_fitted_artefact_that_moves(frames, tables, small, small_fitted):
    moved = tables | {"select": score_tables(permuted_labels(frames["select"]))}
    assert dumped(fit_both_arms(moved, "w4a4", small)) != dumped(small_fitted)


def test_control_scores_of_other_images_are_refused(tables, frames, small):
    for split in ("gate", "select"):
        frame = frames[f"fp32_{split}"]
        turned = frame.assign(sample=frame["sample"].max() - frame["sample"])
        with pytest.raises(ValueError, match=f"w4a4 and fp32 answered different images of the {split} split"):
            fit_both_arms(tables | {f"fp32_{split}": score_tables(turned)}, "w4a4", small)


def test_what_is_fitted_survives_json(fitted):
    assert FittedArms.model_validate(json.loads(json.dumps(fitted.model_dump(mode="json")))) == fitted


def test_what_is_fitted_without_any_noise_survives_json(tables, small, noise):
    quiet = Run(**(vars(small) | {"noise": noise.assign(inr=np.inf)}))
    fitted = fit_both_arms(tables, "w4a4", quiet)
    assert fitted.arms[0].headline.configuration.layers == (8, 9, 10, 11)
    assert FittedArms.model_validate(json.loads(json.dumps(fitted.model_dump(mode="json")))) == fitted


# All tables.

ADDED_LATER = {
    "points": {"mcnemar_p_holm"},
    "quantizers": {"scheme", "description", "settings", "weight_bits", "activation_bits", "covered_parameters",
                   "covered_macs"},
}  # fmt: skip
"""What is put in when the quantizers' tables are put together."""


def test_every_table_has_the_columns_that_the_report_asks_for(evaluated):
    made = set(evaluated) - {"answers"}
    assert made == set(SCHEMA) - {
        "agreement",
        "allocation",
        "calibration_costs",
        "controls",
        "conversion",
        "disagreements",
        "latency",
        "noise",
        "remarks",
        "rivals",
        "searches",
    }
    for name in made:
        assert set(SCHEMA[name]) - ADDED_LATER.get(name, set()) <= set(evaluated[name].columns), name
        assert len(evaluated[name]) > 0


def test_columns_are_of_the_kind_that_the_report_asks_for(evaluated):
    for name, columns in SCHEMA.items():
        for column, kind in columns.items():
            if name in evaluated and column in evaluated[name]:
                values = evaluated[name][column]
                assert pd.api.types.is_bool_dtype(values) == (kind == "flag"), (name, column)
                assert pd.api.types.is_numeric_dtype(values) == (kind != "text"), (name, column)


def test_put_together_the_tables_have_all_that_the_report_asks_for(evaluated):
    header = {"settings": {"scheme": "uniform"}, "description": "W4", "coverage": asdict(QUANTIZED)}
    quantizers = quantizer_table(evaluated["quantizers"], {"w4a4": header})
    answers = evaluated["answers"].drop_duplicates(["quantizer", "sample"])
    together = {
        "quantizers": quantizers, "points": corrected(evaluated["points"]),
        "controls": control_rows(answers, quantizers, seed=0), "rivals": rival_rows(answers, quantizers, seed=0),
    }  # fmt: skip
    for name, frame in together.items():
        assert set(SCHEMA[name]) <= set(frame.columns), name
    headline = evaluated["points"].query("headline").set_index("precision")
    controls = together["controls"].set_index("other")
    assert list(controls.index) == ["fp32", "w4a4"]
    assert controls["top1"].tolist() == [headline.loc["w4a4", "top1"]] * 2
    assert controls.loc["w4a4", "difference"] == pytest.approx(headline.loc["w4a4", "margin"])
    full = evaluated["quantizers"].set_index("quantizer")["top1"]
    assert controls["other_top1"].to_dict() == full.to_dict()


# Points.


def test_every_routed_point_equals_routing_by_hand(fitted, points, tables):
    checked = 0
    for arm, name in zip(fitted.arms, TEST_TABLES, strict=True):
        for one in [arm.headline, *arm.grid, *arm.risk, *arm.on_refit, *arm.ablations]:
            row, c = point_of(points, one, arm.precision), one.configuration
            place, correct, full = routed_by_hand(one, tables[name])
            assert row.correct == correct.sum()
            assert row.rescue == (correct & ~full).sum()
            assert row.loss == (~correct & full).sum()
            assert row.margin == pytest.approx(correct.mean() - full.mean())
            assert row.mean_layer == pytest.approx(np.append(c.layers, 12)[place].mean())
            assert row.saved_blocks == pytest.approx(1 - row.mean_layer / 12)
            assert (row.select_top1, row.select_saved) == (one.select_top1, one.select_saved)
            checked += 1
    assert checked > 100


def test_quadrants_sum_to_the_images_and_intervals_hold_their_value(points):
    assert (points.n == N).all()
    assert (points[["both_right", "rescue", "loss", "both_wrong"]].sum(axis=1) == points.n).all()
    assert (points.both_right + points.rescue == points.correct).all()
    for name in ("top1", "margin", "saved", "disagreement"):
        assert (points[f"{name}_low"] <= points[name] + 1e-12).all()
        assert (points[name] <= points[f"{name}_high"] + 1e-12).all()


def test_points_have_a_name_each_and_one_headline_an_arm(points):
    for _, arm in points.groupby("precision"):
        assert arm["point"].is_unique
        assert arm["headline"].sum() == 1
        assert arm[arm["headline"]]["study"].tolist() == ["frontier"]
        assert (arm["study"] == "full-depth").sum() == 1
        assert (arm["study"] == "static").sum() == 24 + 20
        assert arm[arm["study"] == "bound"]["policy"].tolist() == ["oracle", "random"]


def test_every_configuration_is_one_point_of_the_first_study_that_has_it(fitted, points):
    for arm in fitted.arms:
        routed = points[(points.precision == arm.precision) & points.policy.isin(list(POLICIES))]
        seen = set()
        for study, part in (
            ("frontier", [arm.headline, *arm.grid]), ("risk", arm.risk), ("on-refit", arm.on_refit),
            ("ablation", arm.ablations),
        ):  # fmt: skip
            own = {one.configuration for one in part} - seen
            seen |= own
            assert (routed.study == study).sum() == len(own) > 5
        assert len(routed) == len(seen)
        assert set(routed[routed.study == "frontier"].layers) == {"8,10,11"}


def test_rows_of_risk_have_a_level_and_others_a_budget(points):
    risk = points[points.study == "risk"]
    assert sorted(risk.risk.unique()) == [0.05, 0.4]
    assert risk.budget.isna().all()
    other = points[points.study.isin(["frontier", "on-refit", "ablation"])]
    assert other.risk.isna().all()
    assert other.budget.notna().all()
    assert points[points.study.isin(["static", "full-depth", "bound"])][["risk", "budget"]].isna().all(axis=None)


def test_full_depth_saves_nothing_and_has_no_margin(points, tables):
    full = points[points.study == "full-depth"].set_index("precision")
    nothing = ["saved", "saved_blocks", "bops_saved", "select_saved", "margin", "rescue", "loss", "disagreement"]
    assert full[nothing].to_numpy(dtype=float) == pytest.approx(0.0, abs=1e-12)
    assert full["mcnemar_p"].tolist() == [1.0, 1.0]
    assert full.loc["w4a4", "macs"] == full.loc["fp32", "macs"] == FULL
    assert full.loc["fp32", "bops"] == 1024 * FULL
    for precision, name in (("w4a4", "test"), ("fp32", "fp32_test")):
        base = tables[name]["base"]
        assert full.loc[precision, "top1"] == (base.final_prediction == base.labels).mean()


def test_the_quantized_arm_counts_the_bits_of_each_block_and_the_control_32(points):
    full = points[points.study == "full-depth"].set_index("precision")
    assert full.loc["w4a4", "bops"] == 1024 * (STEM + OWN + PRODUCTS) + 1248 * BLOCK
    assert full.loc["fp32", "bops"] == 1024 * FULL
    static = points[points.study == "static"].drop_duplicates(["precision", "layers"])
    assert len(static) > 8
    for row in static.itertuples():
        layer = int(row.layers)
        share = layer * (layer + 1) / (12 * 13) if row.precision == "w4a4" else layer / 12
        assert row.bops_saved_blocks == pytest.approx(1 - share)


def test_select_figures_of_full_depth_are_from_the_select_split(points, tables):
    full = points[(points.study == "full-depth") & (points.precision == "w4a4")].iloc[0]
    select = tables["select"]["base"]
    assert full.select_top1 == pytest.approx((select.final_prediction == select.labels).mean())


def test_a_static_exit_saves_the_blocks_behind_it_less_its_head(points):
    for layer in (1, 8):
        static = points[(points.study == "static") & (points.layers == str(layer))].iloc[0]
        assert static.macs == STEM + layer * BLOCK + HEAD + PRODUCTS
        assert static.saved == pytest.approx(1 - static.macs / FULL)
        assert static.select_saved == pytest.approx(static.saved)
        assert static.mean_layer == pytest.approx(layer)


def test_a_static_exit_at_full_depth_costs_its_head_alone(points):
    refit = points[(points.study == "static") & (points.layers == "12")]
    assert refit.saved.to_numpy() == pytest.approx(-(HEAD - OWN) / FULL)
    assert refit.saved_blocks.to_numpy() == pytest.approx(0.0)


def test_static_rows_are_the_heads_own_answers(points, tables):
    for row in points[points.study == "static"].itertuples():
        table = tables["test" if row.precision == "w4a4" else "fp32_test"]["base"]
        answers = table.at(row.aggregation, row.supervision, [int(row.layers)]).prediction[:, 0]
        assert row.correct == (answers == table.labels).sum()
        assert row.disagreement == pytest.approx((answers != table.final_prediction).mean())


def test_no_policy_beats_the_oracle_at_the_same_exits_and_random_saves_what_the_headline_does(points):
    same = ["precision", "aggregation", "supervision", "layers", "full_depth_head"]
    checked = 0
    for _, oracle in points[points.policy == "oracle"].iterrows():
        rivals = points[(points[same] == oracle[same]).all(axis=1) & (points.policy != "random")]
        assert (rivals.top1 <= oracle.top1).all()
        checked += len(rivals)
    assert checked > 30
    for precision, arm in points.groupby("precision"):
        random, headline = arm[arm.policy == "random"].iloc[0], arm[arm.headline].iloc[0]
        for name in ("saved", "saved_blocks", "bops_saved", "bops_saved_blocks", "macs", "bops", "mean_layer"):
            assert random[name] == pytest.approx(headline[name]), precision
        assert random.top1 < headline.top1
        assert random.disagreement > 0


def brute_force_frontier(points):
    eligible = points[points.study.isin(["full-depth", "static", "frontier", "risk", "on-refit"])]
    kept = set()
    for index, one in eligible.iterrows():
        beaten = (eligible.select_top1 >= one.select_top1) & (eligible.select_saved >= one.select_saved)
        beaten &= (eligible.select_top1 > one.select_top1) | (eligible.select_saved > one.select_saved)
        if not beaten.any():
            kept.add(index)
    return kept


def test_the_frontier_equals_comparing_every_pair(points):
    for _, arm in points.groupby("precision"):
        marked = set(arm.index[arm["on_frontier"]])
        assert marked == brute_force_frontier(arm)
        assert 1 < len(marked) < len(arm)


def test_equal_points_are_both_on_the_frontier_and_ablations_and_bounds_never():
    points = pd.DataFrame(
        {
            "study": ["frontier", "static", "risk", "ablation", "full-depth", "bound", "on-refit"],
            "select_top1": [0.7, 0.7, 0.69, 0.9, 0.8, np.nan, 0.81],
            "select_saved": [0.2, 0.2, 0.2, 0.9, 0.0, np.nan, -0.01],
        },
        index=[7, 3, 5, 1, 0, 2, 9],
    )
    assert mark_frontier(points).to_dict() == {7: True, 3: True, 5: False, 1: False, 0: True, 2: False, 9: True}


# Exits, early leavers, costs and ablations of the headline.


def test_exits_of_the_headline_hold_everybody_once(evaluated, fitted, tables):
    for arm, name in zip(fitted.arms, TEST_TABLES, strict=True):
        rows = evaluated["exits"].query("precision == @arm.precision")
        place, correct, full = routed_by_hand(arm.headline, tables[name])
        assert rows.layer.tolist() == [8, 10, 11, 12]
        assert rows.share.sum() == pytest.approx(1.0)
        assert rows.n.sum() == N
        for index, row in enumerate(rows.itertuples()):
            here = place == index
            assert row.n == here.sum()
            if row.n:
                assert row.accuracy_exit == pytest.approx(correct[here].mean())
                assert row.accuracy_full == pytest.approx(full[here].mean())
            else:
                assert np.isnan(row.accuracy_exit)


def test_exits_and_early_leavers_belong_to_the_headline_point(evaluated):
    points = evaluated["points"]
    for precision in ("w4a4", "fp32"):
        headline = points[(points.precision == precision) & points.headline].iloc[0]
        exits, early = (evaluated[name][evaluated[name].precision == precision] for name in ("exits", "early"))
        assert set(exits.point) == set(early.point) == {headline.point}
        assert headline.mean_layer == pytest.approx((exits.layer * exits.share).sum())
        (row,) = early.to_dict("records")
        assert row["n_early"] == exits[exits.layer < 12].n.sum()
        assert row["n_rest"] == exits[exits.layer == 12].n.sum()
        # What the early ones gain is the whole margin: the rest answer as full depth does.
        assert row["difference"] * row["share"] == pytest.approx(headline.margin)


def test_saved_counts_stem_blocks_heads_and_gates(evaluated):
    points, exits = evaluated["points"], evaluated["exits"]
    one_exit = HEAD + PRODUCTS + 9 * 16 + 3
    leaving = [STEM + layer * BLOCK + met * one_exit for met, layer in enumerate((8, 10, 11), start=1)]
    leaving.append(FULL + 3 * one_exit)
    for precision, rows in exits.groupby("precision"):
        headline = points[(points.precision == precision) & points.headline].iloc[0]
        assert headline.macs == pytest.approx(rows.share.to_numpy() @ leaving)
        assert headline.saved == pytest.approx(1 - headline.macs / FULL)


def test_costs_by_component_sum_to_those_of_the_headline_and_of_full_depth(evaluated):
    points, costs = evaluated["points"], evaluated["costs"]
    ours = points[points.precision == "w4a4"]
    headline, full = ours[ours.headline].iloc[0], ours[ours.study == "full-depth"].iloc[0]
    for kind in ("macs", "bops"):
        assert costs[f"{kind}_routed"].sum() == pytest.approx(headline[kind])
        assert costs[f"{kind}_full"].sum() == pytest.approx(full[kind])
    blocks = costs[costs.counted_by_paper]
    assert blocks["component"].tolist() == ["blocks"]
    assert 1 - blocks["macs_routed"].item() / blocks["macs_full"].item() == pytest.approx(headline.saved_blocks)
    assert 1 - blocks["bops_routed"].item() / blocks["bops_full"].item() == pytest.approx(headline.bops_saved_blocks)


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
    assert row.difference == pytest.approx((ours.sum() - base.sum()) / N)


def test_without_ablations_curves_or_risk_there_are_no_rows(tables, small, evaluated, evaluate):
    changes = {
        "ablations": AblationSettings(), "sensitivity": SensitivitySettings(),
        "risk": small.exits.risk.model_copy(update={"rules": ()}),
    }  # fmt: skip
    plain = Run(**(vars(small) | {"exits": small.exits.model_copy(update=changes)}))
    made = evaluate(fit_both_arms(tables, "w4a4", plain), tables)
    assert len(made["ablations"]) == len(made["sensitivity"]) == 0
    for name in set(made) - {"answers"}:
        assert set(SCHEMA[name]) - ADDED_LATER.get(name, set()) <= set(made[name].columns), name
    assert set(made["ablations"].columns) == set(evaluated["ablations"].columns)
    assert not (made["points"].study == "risk").any()


def test_the_quantizer_row_compares_full_depth_with_fp32(evaluated, tables):
    rows = evaluated["quantizers"].set_index("quantizer")
    own, fp32 = tables["test"]["base"], tables["fp32_test"]["base"]
    right, right_fp32 = own.final_prediction == own.labels, fp32.final_prediction == fp32.labels
    row = rows.loc["w4a4"]
    assert row.churn_rescue == (right & ~right_fp32).sum()
    assert row.churn_loss == (~right & right_fp32).sum()
    assert row.difference == pytest.approx(right.mean() - right_fp32.mean())
    assert row.agreement == pytest.approx((own.final_prediction == fp32.final_prediction).mean())
    assert rows.loc["fp32", ["agreement", "difference", "mcnemar_p"]].tolist() == [1.0, 0.0, 1.0]


def test_precisions_that_answered_other_images_are_refused(small_fitted, frames, tables, evaluate):
    shifted = score_tables(frames["fp32_test"].assign(sample=lambda frame: frame["sample"] + 1))
    with pytest.raises(ValueError, match="w4a4 and fp32 answered different images of the test split"):
        evaluate(small_fitted, tables | {"fp32_test": shifted})


def test_the_seed_moves_only_the_bootstrap_and_what_is_dealt_at_random(small_fitted, small_evaluated, tables, evaluate):
    one, other = small_evaluated["points"], evaluate(small_fitted, tables, seed=1)["points"]
    chance = one.policy == "random"
    moved = {column for column in one if not one[~chance][column].equals(other[~chance][column])}
    assert moved == {f"{name}_{end}" for name in ("margin", "saved", "uncounted") for end in ("low", "high")}
    assert not one[chance].top1.equals(other[chance].top1)

"""What the sections compute from the tables, against values worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lraee.names import FP32
from lraee.report import figures
from lraee.report.content import frontier, marked, rounded
from lraee.report.datatables import DataTable
from lraee.report.limits import limits
from lraee.report.sections import controls, cost, gates, noise, remarks, runtime, statistics, trade_off
from lraee.report.tables import ReportTables

Factory = Callable[..., ReportTables]
NAME = "int8-per-tensor"


@pytest.fixture(scope="module")
def one(make: Factory) -> ReportTables:
    return make(margins=(0.03,))


def _roles(tables: ReportTables, quantizer: str, precision: str) -> dict[str, int]:
    frame = trade_off._baseline(tables, quantizer, precision)
    return {str(role): int(n) for role, n in frame["role"].value_counts().items()}


def test_baselines_are_complete_and_each_point_comes_once(one: ReportTables) -> None:
    frame = trade_off._baseline(one, NAME, NAME)
    assert frame["point"].is_unique
    found = _roles(one, NAME, NAME)
    assert found["policy at the headline's budget"] == 6  # the headline's own policy is the headline
    assert found["CLS-EE: exits on [CLS]"] == 1
    assert found["static exit"] == 4 * 2
    assert found["refitted head at full depth"] == 2
    assert found["risk-controlled"] == 6
    assert found["best on a refitted head"] == found["oracle (uses test labels)"] == 1
    assert found["random at the headline's rates"] == 1


def test_a_policy_without_the_headlines_rule_comes_with_its_own(one: ReportTables) -> None:
    rules = one.points["threshold_rule"].mask(one.points["policy"] == "patience", "global")
    tables = dataclasses.replace(one, points=one.points.assign(threshold_rule=rules))
    frame = trade_off._baseline(tables, NAME, NAME)
    row = frame[(frame["role"] == "policy at the headline's budget") & (frame["policy"] == "patience")]
    assert row["threshold_rule"].tolist() == ["global"]
    assert row["budget"].tolist() == [0.1]


def test_a_gate_with_fewer_inputs_is_no_other_policy(one: ReportTables) -> None:
    headline = one.headline(NAME, NAME)
    assert headline is not None
    ablated = headline.to_frame().T.assign(point="x", headline=False, gate_features="confidence", study="ablation")
    tables = dataclasses.replace(one, points=pd.concat([one.points, ablated], ignore_index=True))
    rows = tables.like(headline, free=("policy", "gate_features"))
    assert "x" not in rows["point"].tolist()
    assert len(rows) == 7


def test_main_results_have_the_headline_at_every_budget(one: ReportTables) -> None:
    frame = trade_off._main(one, NAME, NAME)
    assert frame["role"].tolist()[:2] == ["full depth, own head", "headline"]
    assert sorted(frame["budget"].dropna().unique()) == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert frame["role"].tolist()[-1] == "best on a refitted head"
    assert frame["point"].is_unique
    assert set(frame["supervision"]) == {"zero-shot", "distilled"}


def test_the_counterpart_of_a_point_on_a_refit_is_on_a_refit(one: ReportTables) -> None:
    best = one.best_on_refit(NAME)
    assert best is not None
    control = one.counterpart(best)
    assert control is not None
    assert (control["precision"], control["study"]) == (FP32, "on-refit")
    headline = one.headline(NAME, NAME)
    assert headline is not None
    other = one.counterpart(headline)
    assert other is not None
    assert bool(other["headline"])


def test_best_of_grid_is_looked_up_where_it_is_not_named(one: ReportTables) -> None:
    named = dataclasses.replace(one, attribution=one.attribution.assign(best_point="static-3"))
    best = named.best_of_grid(NAME)
    assert best is not None
    assert best["point"] == "static-3"
    unnamed = dataclasses.replace(one, attribution=one.attribution.assign(best_point=""))
    found = unnamed.best_of_grid(NAME)
    arm = one.arm(NAME, NAME)
    eligible = arm[(arm["study"] == "frontier") & (arm["budget"] >= 0.1)]
    assert found is not None
    assert found["select_top1"] == eligible["select_top1"].max()


def test_toggled_layers_are_with_minus_without(one: ReportTables) -> None:
    rows = noise.toggled(one)
    sweep = one.sweep[(one.sweep["precision"] == NAME) & (one.sweep["policy"] == "learned-gate")]

    def accuracy(layers: str, threshold: float) -> float:
        return float(sweep.loc[(sweep["layers"] == layers) & (sweep["threshold"] == threshold), "top1"].item())

    own = rows[rows["precision"] == NAME]
    assert set(own["layer"]) == {8, 9, 10, 11}
    assert dict(own.groupby("layer")["in_headline"].first()) == {8: True, 9: False, 10: True, 11: True}
    tau = 0.2
    at = own[own["threshold"] == tau].set_index("layer")["difference"]
    assert at[9] == pytest.approx(accuracy("8,9,10,11", tau) - accuracy("8,10,11", tau))
    assert at[8] == pytest.approx(accuracy("8,10,11", tau) - accuracy("10,11", tau))


def test_sets_that_differ_in_two_layers_are_no_toggle(one: ReportTables) -> None:
    sweep = one.sweep[one.sweep["is_base"] | (one.sweep["layers"] == "8,11")]
    changed = dataclasses.replace(one, sweep=sweep.replace({"layers": {"8,11": "9,11"}}))
    assert noise.toggled(changed).empty


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.01, 0.005, 0.02, 0.02), "held"),
        ((0.01, 0.005, 0.03, 0.02), "held in the estimate only"),
        ((0.03, 0.01, 0.04, 0.02), "broken in the estimate"),
        ((0.05, 0.03, 0.06, 0.02), "broken"),
        ((math.nan, 0.0, 0.1, 0.02), "not measured"),
    ],
)
def test_a_guarantee_is_judged_by_the_whole_interval(values: tuple[float, ...], expected: str) -> None:
    assert statistics.kept(*values) == expected


def test_the_accuracy_gap_is_the_margin_turned_round(one: ReportTables) -> None:
    rows = statistics.risk_rows(one.points)
    gap = rows[rows["controlled"] == "accuracy gap"]
    assert gap["realised"].tolist() == (-gap["margin"]).tolist()
    assert (gap["realised_low"] <= gap["realised"]).all()
    assert (gap["realised"] <= gap["realised_high"]).all()
    assert gap["realised_low"].tolist() == (-gap["margin_high"]).tolist()
    other = rows[rows["controlled"] == "disagreement"]
    assert other["realised"].tolist() == other["disagreement"].tolist()
    assert "In 3 of 6 rows on the accuracy gap early exit gained" in statistics.risk_sentence(one)


def test_a_gap_that_binds_has_no_remark(one: ReportTables) -> None:
    lossy = dataclasses.replace(one, points=one.points.assign(margin=-0.01))
    assert "net rescue" not in statistics.risk_sentence(lossy)


def test_spread_is_that_of_pandas(one: ReportTables) -> None:
    rows = statistics.spread_rows(one.seed_spread).set_index("measure")
    margins = one.seeds["margin"]
    assert rows.loc["margin", "sd"] == pytest.approx(margins.std())
    assert rows.loc["margin", "mean"] == pytest.approx(margins.mean())
    assert rows.loc["margin", "ratio"] == pytest.approx(margins.std() / 0.006)
    assert (rows["sd_low"] <= rows["sd"]).all()


def test_holm_counts_by_direction() -> None:
    points = pd.DataFrame({
        "quantizer": "q", "precision": "q", "n": 10, "study": ["full-depth", "static", "frontier", "frontier", "risk"],
        "margin": [0.0, -0.1, 0.1, 0.2, -0.3], "mcnemar_p": [1.0, 0.01, 0.01, 0.001, 0.5],
        "mcnemar_p_holm": [np.nan, 0.04, 0.06, 0.004, 1.0],
    })  # fmt: skip
    row = statistics.holm_rows(points).iloc[0]
    assert (row["points"], row["raw_up"], row["raw_down"], row["up"], row["down"]) == (4, 2, 1, 1, 1)


def test_optimism_needs_the_size_of_the_select_split(one: ReportTables) -> None:
    found = statistics.optimism(one, NAME, NAME)
    headline = one.headline(NAME, NAME)
    assert found is not None
    assert headline is not None
    assert found["optimism"] == pytest.approx(headline["select_top1"] - headline["top1"])
    assert found["optimism_low"] < found["optimism"] < found["optimism_high"]
    assert statistics.optimism(dataclasses.replace(one, provenance={}), NAME, NAME) is None


def test_bits_decide_what_is_a_fair_comparison() -> None:
    frame = pd.DataFrame({
        "quantizer": ["a"] * 4, "other": ["a", "b", "c", "fp32"], "weight_bits": 4, "activation_bits": 8,
        "other_weight_bits": [4, 4, 2, 32], "other_activation_bits": [8, 4, 16, 32],
    })  # fmt: skip
    found = controls.with_bits(frame)
    assert found["comparison"].tolist() == ["itself", "no more bits", "more bits", "more bits"]
    assert found["other_bits"].tolist() == ["W4A8", "W4A4", "W2A16", "W32A32"]


def test_mean_bits_have_a_decimal_only_where_they_are_no_whole_number(one: ReportTables) -> None:
    own = one.quantizers["quantizer"] == NAME
    mixed = one.quantizers.assign(weight_bits=np.where(own, 4.37, 32.0), activation_bits=np.where(own, 4.0, 32.0))
    changed = dataclasses.replace(one, quantizers=mixed)
    cells = [[cell.text for cell in row[3:5]] for row in controls.quantizers(changed).rows]
    assert sorted(cells) == [["32", "32"], ["4.4", "4"]]
    assert any("(here W4.4A4)" in sentence for sentence in limits(changed))


def test_cls_and_ssa_are_compared_at_every_layer(one: ReportTables) -> None:
    table = controls.cls_against_ssa(one)
    assert table.total == 2 * 12
    assert {row[2].text for row in table.rows} == {str(layer) for layer in range(1, 13)}


def test_factorial_crosses_head_supervision_and_routing(one: ReportTables) -> None:
    frame = controls._factorial(one, NAME, NAME)
    assert frame["point"].is_unique
    assert set(frame.loc[frame["routed"], "role"]) == {
        "SSA hard, routed", "SSA distilled, routed", "SSA label-free, routed", "CLS distilled, routed"
    }  # fmt: skip
    assert (frame.loc[~frame["routed"] & (frame["study"] == "static"), "layers"] == "12").all()
    assert frame["role"].str.endswith("last layer").sum() == 6


def test_ranks_describe_the_direction(one: ReportTables) -> None:
    frame = pd.DataFrame({
        "quantizer": "q", "precision": "q", "threshold_rule": ["a"] * 3 + ["b"] * 3, "budget": 0.1,
        "layer": [8, 9, 10] * 2, "threshold": [0.1, 0.2, 0.3, 0.5, 0.5, 0.5], "inr": [3.0, 2.0, 1.0] * 2,
    })  # fmt: skip
    rows = gates.rank_rows(frame).set_index("threshold_rule")["correlation"]
    assert rows["a"] == pytest.approx(-1)
    assert math.isnan(rows["b"])
    told = gates.rank_sentence(dataclasses.replace(one, thresholds=frame))
    assert "Of 1 choices" in told
    assert "lower thresholds in 1 and higher ones in 0" in told
    constant = frame[frame["threshold_rule"] == "b"]
    assert "nothing to correlate" in gates.rank_sentence(dataclasses.replace(one, thresholds=constant))


def test_selectivity_counts_the_right_answers_of_the_same_head(one: ReportTables) -> None:
    rows = gates.selectivity_rows(one)
    arm = one.arm(NAME, NAME)
    head = arm[(arm["study"] == "static") & (arm["layers"] == "10") & (arm["aggregation"] == "ssa")]
    right = head.loc[head["supervision"] == "distilled", "correct"].item()
    row = rows[(rows["precision"] == NAME) & (rows["layer"] == 10)].iloc[0]
    assert (row["right"], row["n"]) == (right, 2000)
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_cost_shares_are_of_full_depth(one: ReportTables) -> None:
    rows = cost.cost_rows(one.costs)
    assert rows["macs_full_share"].sum() == pytest.approx(1)
    assert rows["macs_routed_share"].sum() == pytest.approx(
        one.costs["macs_routed"].sum() / one.costs["macs_full"].sum()
    )
    assert "gates 0.0002 %, exit heads 0.05 %" in cost.overhead_sentence(one)


def test_classes_are_counted_by_direction(one: ReportTables) -> None:
    row = trade_off._class_row("q", one.classes)
    assert (row["classes"], row["up"], row["down"]) == (20, 8, 8)
    assert (row["up_holm"], row["down_holm"]) == (1, 0)
    assert row["rescued"].startswith("class 15 (+6.00)")
    assert row["lost"].startswith("class 4 (−5.00)")
    assert trade_off.classes(one).data.rows[0][7].text == "+6.00"


def test_the_frontier_leaves_a_high_oracle_and_early_static_exits_out(one: ReportTables) -> None:
    points = marked(one)
    assert points.loc[points["best_on_refit"], ["precision", "point"]].to_numpy().tolist() == [[NAME, "on-refit-0.1"]]
    early = (points["study"] == "static") & (points["layers"] == "1")
    points = points.assign(on_frontier=points["on_frontier"] | early)
    (_, right), (_, top) = figures.frontier_limits(points)
    assert right < 100 * points.loc[early, "saved"].min()
    assert top < 100 * points.loc[points["policy"] == "oracle", "top1"].min()
    tables = dataclasses.replace(one, points=points.drop(columns="best_on_refit"))
    caption = frontier(tables).caption
    assert "Pareto-optimal static exits at early layers" in caption
    assert "The axes end below the oracle" in caption


def test_rounding_keeps_six_significant_digits() -> None:
    frame = pd.DataFrame({"x": [0.123456789, 1234567.89, np.nan, np.inf], "n": [1, 2, 3, 4], "t": list("abcd")})
    found = rounded(frame)
    assert found["x"].tolist()[:2] == [0.123457, 1234570.0]
    assert math.isnan(found["x"][2])
    assert found["x"][3] == math.inf
    assert found[["n", "t"]].equals(frame[["n", "t"]])


def _texts(table: DataTable) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_remarks_are_counted_by_cause_and_split(one: ReportTables) -> None:
    assert _texts(remarks.causes(one)) == [
        ["left out", "truncated file", "fit", "1", "4,000", "0.03\u00a0%"],
        ["converted", "several frames, first one taken", "fit", "1", "4,000", "0.03\u00a0%"],
        ["converted", "palette, converted to RGB", "fit", "1", "4,000", "0.03\u00a0%"],
        ["converted", "several frames, first one taken", "test", "2", "2,000", "0.10\u00a0%"],
    ]
    assert remarks.sentence(one) == ("Of 8,256 images, 1 gave no picture and was left out, 3 were converted to RGB.")


def test_every_remark_is_listed_with_its_image(one: ReportTables) -> None:
    texts = _texts(remarks.files(one))
    assert texts[0] == ["left out", "truncated file", "cat/3.jpg", "fit", "3"]
    assert ["converted", "several frames, first one taken: 2 frames", "dog/1.gif", "test", "3"] in texts
    assert len(texts) == len(one.remarks)


def test_without_recorded_sizes_remarks_are_counted_all_the_same(one: ReportTables) -> None:
    bare = dataclasses.replace(one, provenance={})
    assert _texts(remarks.causes(bare))[0] == ["left out", "truncated file", "fit", "1", "–", "–"]
    assert remarks.sentence(bare).startswith("1 gave no picture")


def test_no_remark_is_a_sentence(one: ReportTables) -> None:
    clean = dataclasses.replace(one, remarks=one.remarks.iloc[:0])
    assert remarks.sentence(clean) == "Every image was read as it is: none was left out or converted."
    assert (remarks.causes(clean).total, remarks.files(clean).total) == (0, 0)


def test_time_is_told_against_the_fastest_int8_peer(one: ReportTables) -> None:
    told = runtime.time_sentence(one)
    assert told.count("1 thread, batches of") == 2
    assert (
        "batches of 1: full depth takes 5.00 ms an image (torch), 1.60 times the speed of the fastest INT8 peer" in told
    )
    assert "exits save 25.0\u00a0% of the MACs and 20.0\u00a0% [17.00, 22.00] of the time" in told
    slower = one.conversion.assign(time_saved=-0.2, time_saved_low=-0.22, time_saved_high=-0.17)
    told = runtime.time_sentence(dataclasses.replace(one, conversion=slower))
    assert "exits save 25.0\u00a0% of the MACs but take 20.0\u00a0% [17.00, 22.00] more time" in told
    alone = dataclasses.replace(one, latency=one.latency[one.latency["engine"] != ""])
    assert "peer" not in runtime.time_sentence(alone)
    assert runtime.time_sentence(dataclasses.replace(one, latency=one.latency[:0])) == ""

import numpy as np
import pandas as pd
import pytest

from lraee.evaluation.bench import TestBench
from lraee.evaluation.points import routed_row
from lraee.evaluation.sweep import sweep_rows, threshold_rows
from lraee.exits.thresholds import ThresholdGrid
from tests.evaluation.tables import (
    BLOCK,
    CLASSES,
    FULL,
    HEAD,
    PRODUCTS,
    QUANTIZED,
    SHAPE,
    STEM,
    UNQUANTIZED,
    hand_bench,
    hand_fitted,
)

SSA8, SSA10 = ("ssa", "distilled", 8), ("ssa", "distilled", 10)
GRID = ThresholdGrid(low=0.25, high=0.75, points=3)


def test_the_sweep_worked_by_hand():
    answers = {SSA8: [0, 1, 0], SSA10: [1, 1, 2]}
    bench = hand_bench([0, 1, 2], [1, 1, 1], answers, {SSA8: [0.9, 0.6, 0.3], SSA10: [0.6, 0.6, 0.6]})
    rows = sweep_rows(bench, hand_fitted([8, 10], [0.5, 0.5]), GRID)
    assert [row["threshold"] for row in rows] == [-np.inf, 0.25, 0.5, 0.75, np.inf]
    # Places: all at 8; all at 8; 8, 8, 10; 8, end, end; end.
    assert [row["top1"] for row in rows] == pytest.approx([2 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3])
    assert [row["saved_blocks"] for row in rows] == pytest.approx([4 / 12, 4 / 12, 10 / 36, 4 / 36, 0.0])
    at_8, at_10 = STEM + 8 * BLOCK + HEAD + PRODUCTS, STEM + 10 * BLOCK + 2 * (HEAD + PRODUCTS)
    assert rows[2]["saved"] == pytest.approx(1 - (2 * at_8 + at_10) / 3 / FULL)
    assert {(row["policy"], row["layers"], row["n"]) for row in rows} == {("confidence", "8,10", 3)}


def test_every_row_of_the_sweep_is_routing_with_that_threshold(evaluated, fitted, tables):
    grid = fitted.grid.values.tolist()
    for arm, name, used in zip(fitted.arms, ("test", "fp32_test"), (QUANTIZED, UNQUANTIZED), strict=True):
        bench = TestBench(tables[name], SHAPE, CLASSES, used, 0)
        rows = evaluated["sweep"][evaluated["sweep"].precision == arm.precision]
        for own in arm.sweep:
            c = own.configuration
            part = rows[(rows.policy == c.policy) & (rows.layers == ",".join(map(str, c.layers)))]
            assert len(part) == (len(grid) if c.policy != "patience" else 4)
            for row in part.iloc[[0, 2, -1]].itertuples():
                point = routed_row(bench, own.model_copy(update={"thresholds": [row.threshold] * len(c.layers)}), "x")
                for column in ("n", "top1", "top1_low", "top1_high", "saved", "saved_blocks"):
                    assert getattr(row, column) == pytest.approx(point[column])


def test_the_sweep_has_every_policy_at_the_headlines_layers_and_each_candidate_toggled(evaluated):
    for _, rows in evaluated["sweep"].groupby("precision"):
        base = rows[rows.is_base]
        assert set(base.policy) == {
            "learned-gate", "confidence", "entropy", "learned-scalar", "class-thresholds", "patience", "margin",
        }  # fmt: skip
        assert set(base.layers) == {"8,10,11"}
        toggled = rows[~rows.is_base]
        assert set(toggled.policy) == {"learned-gate"}
        assert set(toggled.layers) == {"10,11", "8,9,10,11", "8,11", "8,10"}


def test_a_higher_threshold_saves_less(evaluated):
    for _, rows in evaluated["sweep"].groupby(["precision", "policy", "layers"]):
        ordered = rows.sort_values("threshold")
        assert ordered.threshold.is_unique
        assert (np.diff(ordered.saved) <= 1e-12).all()
        assert (np.diff(ordered.saved_blocks) <= 1e-12).all()
        assert ordered.saved.iloc[-1] < 0 == ordered.saved_blocks.iloc[-1]


def test_where_nobody_leaves_the_sweep_is_full_depth(evaluated, points):
    full = points[points.study == "full-depth"].set_index("precision")["top1"]
    for precision, rows in evaluated["sweep"].groupby("precision"):
        assert (rows[np.isposinf(rows.threshold)].top1 == full[precision]).all()


def test_thresholds_stand_beside_the_noise_of_their_layer():
    one = hand_fitted([8, 10], [0.5, np.inf], budget=0.1)
    rows = threshold_rows([("p1", one)], pd.Series({8: 3.0, 9: 4.0, 10: 5.0}))
    assert rows == [
        {"point": "p1", "threshold_rule": "global", "budget": 0.1, "layer": 8, "threshold": 0.5, "inr": 3.0},
        {"point": "p1", "threshold_rule": "global", "budget": 0.1, "layer": 10, "threshold": np.inf, "inr": 5.0},
    ]


def test_thresholds_are_those_of_the_headlines_gate_at_every_rule_and_budget(evaluated, points, fitted):
    for arm in fitted.arms:
        rows = evaluated["thresholds"][evaluated["thresholds"].precision == arm.precision]
        found = {(rule, budget) for rule, budget in rows[["threshold_rule", "budget"]].itertuples(index=False)}
        assert found == {(rule, b) for rule in ("layer-adaptive", "global") for b in (0.0, 0.05, 0.3)}
        assert rows.groupby("point").layer.apply(list).tolist() == [[8, 10, 11]] * 6
        assert rows.groupby("layer").inr.first().to_dict() == {8: 100.0, 10: 100.0, 11: 100.0}
        own = points[points.precision == arm.precision].set_index("point")
        for name, part in rows.groupby("point"):
            assert (own.loc[name, "policy"], own.loc[name, "aggregation"]) == ("learned-gate", "ssa")
            assert (own.loc[name, "supervision"], own.loc[name, "study"]) == ("distilled", "frontier")
            assert own.loc[name, "budget"] == part.budget.iloc[0]
            assert own.loc[name, "threshold_rule"] == part.threshold_rule.iloc[0]
        headline = own[own.headline].index[0]
        assert rows[rows.point == headline].threshold.tolist() == arm.headline.thresholds

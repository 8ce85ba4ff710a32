"""The verdict says what the intervals say, in every direction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest

from lraee.names import FP32
from lraee.report.tables import ReportTables
from lraee.report.verdict import Outcome, judge, outcome

Factory = Callable[..., ReportTables]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.02, Outcome.ABOVE),
        (-0.02, -0.001, Outcome.BELOW),
        (-0.01, 0.02, Outcome.UNDECIDED),
        (0.0, 0.02, Outcome.UNDECIDED),
        (-0.02, 0.0, Outcome.UNDECIDED),
        (0.0, 0.0, Outcome.UNCHANGED),
        (math.nan, 0.1, Outcome.UNKNOWN),
    ],
)
def test_outcome_reads_the_interval(low: float, high: float, expected: Outcome) -> None:
    assert outcome(low, high) is expected


@pytest.mark.parametrize(
    ("margin", "control", "lead", "summary"),
    [
        (
            0.05,
            0.0,
            "quantization explains at least part of the gain",
            "Early exit (mean of 3 seeds) gains 5.00\u00a0points",
        ),
        (0.05, 0.05, "not shown that quantization is the reason", "in FP32 it gains 5.00\u00a0points"),
        (0.04, 0.09, "it does even more for FP32", "Early exit (mean of 3 seeds) gains 4.00\u00a0points"),
        (-0.05, 0.0, "less accurate than its own full depth", "Early exit (mean of 3 seeds) loses 5.00\u00a0points"),
        (0.001, 0.0, "Undecided", "Early exit (mean of 3 seeds) is undecided (+0.10\u00a0points, interval includes 0)"),
    ],
)
def test_wording_follows_the_data(make: Factory, margin: float, control: float, lead: str, summary: str) -> None:
    verdict = judge(make(margins=(margin, margin), control=control))
    assert lead in verdict.lead
    assert all(summary in part.summary for part in verdict.quantizers)


def test_one_seed_is_no_mean(make: Factory) -> None:
    assert "Early exit gains 5.00\u00a0points" in judge(make(margins=(0.05,), seeds=1)).quantizers[0].summary


def test_mixed_quantizers_are_told_apart(tables: ReportTables) -> None:
    verdict = judge(tables)
    assert verdict.lead.startswith("It depends on the quantizer")
    assert [part.exit for part in verdict.quantizers] == [Outcome.ABOVE, Outcome.UNDECIDED, Outcome.BELOW]
    assert "above zero under int8-per-tensor; below zero under smoothquant-w4a8" in verdict.support[0]


def test_no_gain_is_claimed_where_the_refit_is_better(make: Factory) -> None:
    part = judge(make(margins=(0.005,))).quantizers[0]
    assert part.refit is Outcome.BELOW
    assert "refitted at full depth, with no exit, does better" in part.summary


def test_accuracies_come_with_n_interval_and_named_test(tables: ReportTables) -> None:
    findings = dict(judge(tables).quantizers[0].findings)
    assert "(95\u00a0% interval [56.33, 60.64], n\u00a0=\u00a02,000)" in findings["Quantization"]
    assert "McNemar exact p" in findings["Early exit"]
    assert "n\u00a0=\u00a02,000" in findings["Refitted head"]


def test_missing_arms_are_said_to_be_missing(tables: ReportTables) -> None:
    lonely = dataclasses.replace(
        tables,
        points=tables.points[tables.points["precision"] != FP32],
        attribution=tables.attribution.iloc[:0],
        quantizers=tables.quantizers.iloc[:0],
    )
    part = judge(lonely).quantizers[0]
    assert (part.control, part.attributable, part.refit) == (Outcome.UNKNOWN,) * 3
    assert "in FP32 it was not measured" in part.summary


def test_more_compute_is_not_called_saved(tables: ReportTables) -> None:
    part = judge(dataclasses.replace(tables, points=tables.points.assign(saved=-0.02))).quantizers[0]
    assert "2.0\u00a0% more compute used" in part.summary
    assert "saved" not in part.summary


def _with_a_gaining_point(tables: ReportTables, budget: float) -> ReportTables:
    """Make one routed point that is no headline the best on `select` by far, with a clear gain on `test`."""
    points = tables.points.copy()
    routed = points[(points["study"] == "frontier") & (points["precision"] != FP32) & ~points["headline"]].index[0]
    change = {"select_top1": 0.99, "budget": budget, "margin": 0.03, "margin_low": 0.02, "margin_high": 0.04}
    points.loc[routed, list(change)] = list(change.values())
    unnamed = tables.attribution.assign(best_point="")
    return dataclasses.replace(tables, points=points, attribution=unnamed)


def test_a_gain_elsewhere_in_the_grid_is_not_hidden_by_a_losing_headline(make: Factory) -> None:
    verdict = judge(_with_a_gaining_point(make(margins=(-0.05,)), budget=0.2))
    assert verdict.quantizers[0].best is Outcome.ABOVE
    assert "another configuration of the grid gains" in verdict.lead
    assert "no rescue" not in verdict.lead


def test_the_best_of_the_grid_saves_at_least_as_much_as_the_headline(make: Factory) -> None:
    part = judge(_with_a_gaining_point(make(margins=(-0.05,)), budget=0.01)).quantizers[0]
    assert part.best is not Outcome.ABOVE

"""Every answer says what its interval says, in every direction, with the measured number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lraee.names import FP32
from lraee.report.questions import NOT_MEASURED, Question, questions
from lraee.report.tables import SCHEMA, ReportTables
from lraee.report.verdict import judge
from lraee.report.wording import NBSP, difference

Factory = Callable[..., ReportTables]
SIGNS = {"gain": (0.02, 0.01, 0.03), "loss": (-0.02, -0.03, -0.01), "undecided": (0.001, -0.01, 0.012)}


@pytest.fixture(scope="module")
def one(make: Factory) -> ReportTables:
    return make(margins=(0.03,))


def asked(tables: ReportTables, number: int) -> Question:
    return questions(tables)[number - 1]


def told(tables: ReportTables, number: int) -> str:
    """The answer to a question for the first quantizer."""
    return asked(tables, number).answers[0][1]


def changed(tables: ReportTables, table: str, where: Any = slice(None), **values: Any) -> ReportTables:
    """The tables with other values in some rows of one table."""
    frame = tables.frames()[table].copy()
    for name, value in values.items():
        frame.loc[where, name] = value
    return dataclasses.replace(tables, **{table: frame})  # type: ignore[arg-type]


def interval(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


@pytest.mark.parametrize(
    ("number", "table", "column", "gain", "loss", "undecided"),
    [
        (1, "attribution", "attributable", "more for the quantized model", "less for the quantized model", "not shown"),
        (2, "quantizers", "difference", "alone raises accuracy", "alone costs accuracy", "without a net change"),
        (5, "points", "margin", "a gain without labels", "a loss without labels", "undecided without labels"),
        (9, "early", "difference", "better at the exit", "better at full depth", "undecided"),
        (
            10,
            "attribution",
            "best_minus_refit",
            "best exits add accuracy",
            "with no exit is more accurate",
            "told apart",
        ),
    ],
)
@pytest.mark.parametrize("kind", list(SIGNS))
def test_an_answer_is_what_its_interval_says(
    one: ReportTables, number: int, table: str, column: str, gain: str, loss: str, undecided: str, kind: str
) -> None:
    values = SIGNS[kind]
    frame = one.frames()[table]
    where = frame["supervision"] == "label-free" if table == "points" else frame["quantizer"] != FP32
    found = asked(changed(one, table, where, **interval(column, values)), number)
    expected = {"gain": gain, "loss": loss, "undecided": undecided}
    assert expected[kind].lower() in found.short.lower()
    assert not any(text.lower() in found.short.lower() for other, text in expected.items() if other != kind)
    assert difference(*values) in found.answers[0][1]


def test_ten_questions_answer_every_quantizer(tables: ReportTables) -> None:
    found = questions(tables)
    assert [question.number for question in found] == list(range(1, 11))
    for question in found:
        assert [name for name, _ in question.answers] == tables.quantizer_names()
        assert all("95\u00a0% interval" in text for _, text in question.answers), question.title
        assert question.links


def test_quantizers_that_differ_are_told_apart(tables: ReportTables) -> None:
    short = asked(tables, 9).short
    assert short == (
        "Better at the exit: int8-per-tensor; better at full depth: smoothquant-w4a8; undecided: int8-per-channel."
    )


def test_churn_counts_both_ways(one: ReportTables) -> None:
    text = told(one, 2)
    assert "60 images become right and 80 wrong against FP32, of 2,000: 7.00\u00a0% change sides" in text
    headline = one.headline("int8-per-tensor", "int8-per-tensor")
    assert headline is not None
    assert f"rescues {headline['rescue']:,} and loses {headline['loss']:,}" in text


@pytest.mark.parametrize(
    ("values", "short", "counted"),
    [
        (SIGNS["loss"], "at least one other quantizer with no more bits is more accurate", "1 at full depth is more"),
        (SIGNS["gain"], "routing is more accurate than every other quantizer", "0 at full depth are more accurate"),
        (SIGNS["undecided"], "no other quantizer with no more bits is shown", "0 less, 1 undecided"),
    ],
)
def test_only_quantizers_with_no_more_bits_count(
    make: Factory, values: tuple[float, float, float], short: str, counted: str
) -> None:
    two = make(margins=(0.03, 0.01))
    others = two.controls["other"] == "int8-per-channel"
    found = asked(changed(two, "controls", others, **interval("difference", values)), 3)
    assert short in found.short.lower()
    assert counted in found.answers[0][1]
    dearer = changed(two, "controls", others, other_weight_bits=16)
    assert told(dearer, 3) == "No other quantizer of this experiment has as few bits."


@pytest.mark.parametrize(
    ("sign", "short"),
    [
        ("gain", "Routing is more accurate than the best static exit"),
        ("loss", "The best static exit is more accurate than routing"),
        ("undecided", "Neither is shown to be more accurate"),
    ],
)
def test_routing_against_one_static_exit_is_paired(one: ReportTables, sign: str, short: str) -> None:
    values = interval("routed_minus_static", SIGNS[sign])
    tables = changed(one, "attribution", best_static_label="layer 9, cls hard", **values)
    assert difference(*values.values()) in told(tables, 4)
    assert "(layer 9, cls hard)" in told(tables, 4)
    assert short in asked(tables, 4).short


def test_accounting_is_the_papers_count_minus_ours(one: ReportTables) -> None:
    tables = changed(one, "points", saved=0.10, saved_blocks=0.13, **interval("uncounted", (0.03, 0.028, 0.032)))
    assert difference(0.03, 0.028, 0.032) in told(tables, 6)
    assert "paper's count is higher" in asked(tables, 6).short
    lower = changed(tables, "points", **interval("uncounted", (-0.03, -0.032, -0.028)))
    assert "paper's count is lower" in asked(lower, 6).short
    assert "Compute is not time" in asked(tables, 6).remark


@pytest.mark.parametrize(
    ("chosen", "short"),
    [(0.80, "would have flattered"), (0.40, "happens to be harder"), (0.615, "no optimism is shown")],
)
def test_optimism_compares_select_with_test(one: ReportTables, chosen: float, short: str) -> None:
    tables = changed(one, "points", one.points["headline"], select_top1=chosen)
    assert short in asked(tables, 7).short
    assert "(n\u00a0=\u00a01,000)" in told(tables, 7)


def test_seed_spread_stands_beside_the_sampling_error(one: ReportTables) -> None:
    loud = changed(one, "seed_spread", sd=0.02, sampling_sd=0.005)
    assert "is larger than that over test images" in asked(loud, 8).short
    assert f"standard deviation of 2.00 points (95{NBSP}% interval [1.04, 12.57])" in told(loud, 8)
    quiet = changed(one, "seed_spread", sd=0.001, sampling_sd=0.005)
    assert "is no larger than that over test images" in asked(quiet, 8).short


def test_holm_counts_only_points_of_the_quantized_arm(one: ReportTables) -> None:
    tables = changed(one, "points", mcnemar_p=0.9, mcnemar_p_holm=1.0)
    own = (tables.points["precision"] != FP32) & (tables.points["study"] == "frontier")
    tables = changed(tables, "points", own, mcnemar_p=0.01, mcnemar_p_holm=0.02, margin=-0.01)
    tables = changed(tables, "points", tables.points["headline"], margin=0.01)
    count = int(own.sum())
    assert f"Holm's correction 1 of its {(one.points['precision'] != FP32).sum() - 1} routed" in told(tables, 8)
    assert f"and {count - 1} less" in told(tables, 8)


def test_one_seed_is_said_to_be_one(make: Factory) -> None:
    tables = make(margins=(0.03,), seeds=1)
    assert "Fewer than two seeds were run." in told(tables, 8)
    assert "Spread over seeds not measured" in asked(tables, 8).short


def test_what_was_not_run_is_not_answered(one: ReportTables) -> None:
    names = [name for name in SCHEMA if name != "points"]
    frames: dict[str, Any] = {name: pd.DataFrame(columns=list(SCHEMA[name])) for name in names}
    points = one.points[one.points["study"] == "full-depth"]
    empty = dataclasses.replace(one, **frames, points=points, provenance={})
    for question in questions(empty):
        text = question.answers[0][1]
        assert text == NOT_MEASURED or "Fewer than two seeds" in text
        assert "not measured" in question.short.lower() or "nothing with no more bits" in question.short.lower()


def test_numbers_that_are_missing_make_no_answer(one: ReportTables) -> None:
    tables = changed(one, "attribution", **dict.fromkeys(interval("attributable", SIGNS["gain"]), math.nan))
    tables = changed(tables, "attribution", **dict.fromkeys(interval("best_minus_refit", SIGNS["gain"]), np.nan))
    assert told(tables, 1) == NOT_MEASURED
    assert "best configuration" not in told(tables, 10)


def test_the_verdict_offers_routing_on_the_refit_only_where_it_beats_every_exit(make: Factory) -> None:
    verdict = judge(make(margins=(0.05, -0.05)))
    assert "Under int8-per-channel a head refitted at full depth" in verdict.lead
    assert len(verdict.refits) == 1
    assert (
        "Routing on top of that head saves 11.0\u00a0% of the compute and changes its accuracy by" in verdict.refits[0]
    )
    assert judge(make(margins=(0.05,))).refits == ()


def test_every_quantizer_is_named_once_where_all_are_beaten(make: Factory) -> None:
    lead = judge(make(margins=(-0.05, -0.04))).lead
    assert "Under every quantizer a head refitted at full depth" in lead


@pytest.mark.parametrize(
    ("kind", "reading"), [("gain", "a further gain"), ("loss", ": a loss"), ("undecided", "includes 0")]
)
def test_routing_on_the_refit_is_read_off_its_interval(make: Factory, kind: str, reading: str) -> None:
    tables = changed(make(margins=(-0.05,)), "attribution", **interval("on_refit_minus_refit", SIGNS[kind]))
    assert judge(tables).refits[0].endswith(f"{reading}.")
    missing = changed(tables, "attribution", **dict.fromkeys(interval("on_refit_minus_refit", SIGNS[kind]), np.nan))
    assert "was not measured, or saved less compute" in judge(missing).refits[0]

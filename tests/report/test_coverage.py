"""The map of the paper, its numbers, and when they may stand beside ours."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import pytest

from lraee.report.coverage import COMMENTS, ITEMS, coverage, ours
from lraee.report.paper import NUMBERS
from lraee.report.symbols import symbols
from lraee.report.tables import ReportTables

Factory = Callable[..., ReportTables]
NAME = "int8-per-tensor"
WORDS = """
    NSR INR SQNR SSA CLS SAV τ κ Margin Rescue Loss Quadrants Attributable Refit MACs BOPs Disagreement Holm AUROC
    Oracle Random Budget Headline McNemar ε δ FP32 WxAy Spearman Pareto Churn
"""


@pytest.fixture(scope="module")
def same(make: Factory) -> ReportTables:
    """Synthetic tables that claim to have the paper's setting and kind of quantizer."""
    tables = make(margins=(0.03, 0.01))
    schemes = tables.quantizers["scheme"].mask(tables.quantizers["quantizer"] == NAME, "dynamic-int8")
    return dataclasses.replace(
        tables,
        quantizers=tables.quantizers.assign(scheme=schemes),
        provenance={**tables.provenance, "paper_setting": True},
    )


def test_every_table_and_figure_of_the_paper_has_a_place() -> None:
    wanted = [*(f"Fig. {i}" for i in range(1, 5)), *(f"Table {i}" for i in range(1, 5))]
    wanted += ["Section 6.2", "Section 7.1", "Section 7.2", "Threshold tables"]
    assert [item.where for item in ITEMS] == wanted
    assert all(item.links for item in ITEMS)
    assert {number.where for number in NUMBERS} <= set(wanted)


def test_five_comments_are_answered() -> None:
    assert len(COMMENTS) == 5
    assert all(comment.links and comment.question.endswith("?") for comment in COMMENTS)


def test_the_papers_numbers_agree_with_each_other() -> None:
    value = {number.key: number.value for number in NUMBERS}
    quadrants = [value[f"quadrant:{name}"] for name in ("both_right", "rescue", "loss", "both_wrong")]
    assert sum(quadrants) == pytest.approx(1)
    assert value["quadrant:rescue"] - value["quadrant:loss"] == pytest.approx(0.0237)
    assert value["routed"] - value["full"] == pytest.approx(value["margin"])
    assert sum(value[f"share:{layer}"] for layer in (8, 10, 11, 12)) == pytest.approx(1, abs=2e-3)
    assert 1 - value["share:12"] == pytest.approx(0.675)  # beside the 75.7 % that section 7.2 states
    assert len({number.key for number in NUMBERS}) == len(NUMBERS)


@pytest.mark.parametrize("setting", [False, None])
def test_another_setting_keeps_the_papers_numbers_out(same: ReportTables, setting: bool | None) -> None:
    found = coverage(dataclasses.replace(same, provenance={**same.provenance, "paper_setting": setting}))
    assert found.numbers is None
    assert "not put beside" in found.note


def test_another_kind_of_quantizer_keeps_them_out_too(same: ReportTables) -> None:
    found = coverage(dataclasses.replace(same, quantizers=same.quantizers.assign(scheme="uniform")))
    assert found.numbers is None
    assert "no quantizer of its kind" in found.note


def test_our_numbers_are_those_of_the_tables(same: ReportTables) -> None:
    headline = same.headline(NAME, NAME)
    assert headline is not None
    assert ours(same, NAME, "routed") == headline["top1"] == ours(same, NAME, "routed:distilled")
    assert ours(same, NAME, "full") == pytest.approx(0.585)
    assert ours(same, NAME, "quadrant:rescue") == headline["rescue"] / 2000
    exits = same.exits[(same.exits["quantizer"] == NAME) & (same.exits["precision"] == NAME)]
    assert ours(same, NAME, "share:10") == exits.loc[exits["layer"] == 10, "share"].item() == 0.24
    arm = same.arm(NAME, NAME)
    last = arm[(arm["study"] == "static") & (arm["layers"] == "12") & (arm["aggregation"] == "ssa")]
    assert ours(same, NAME, "refit:ssa:hard") == last.loc[last["supervision"] == "hard", "top1"].item()
    assert math.isnan(ours(same, NAME, "policy:unheard-of"))


def test_every_number_of_the_paper_finds_ours(same: ReportTables) -> None:
    for number in NUMBERS:
        assert math.isfinite(ours(same, NAME, number.key)), number


def test_the_same_setting_puts_them_side_by_side(same: ReportTables) -> None:
    table = coverage(same).numbers
    assert table is not None
    assert [column.label for column in table.columns] == ["In the paper", "Quantity", "Paper", f"Here, {NAME}"]
    row = next(row for row in table.rows if row[1].text == "Full depth, top-1")
    assert [cell.text for cell in row[2:]] == ["58.72\u00a0%", "58.50\u00a0%"]


def test_every_word_of_the_tables_is_defined(same: ReportTables) -> None:
    text = " ".join(f"{name} {meaning}" for _, entries in symbols(same) for name, meaning in entries)
    for word in WORDS.split():
        assert re.search(rf"\b{word}\b" if word.isascii() else word, text), word
    assert "0.50 in this experiment" in text

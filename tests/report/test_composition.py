"""Quantizers and exits together."""

import dataclasses

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lraee.names import FP32
from lraee.report import compositions
from lraee.report.sections import composition
from lraee.report.style import LIGHT
from lraee.report.tables import ReportTables
from lraee.report.wording import bits
from tests.report.synthetic import synthetic

mpl.use("svg")


@pytest.fixture(scope="module")
def tables() -> ReportTables:
    return synthetic(names=("better", "plain", "coarse"))


def test_every_quantizer_stands_there_without_and_with_exits(tables: ReportTables) -> None:
    rows = composition.composed(tables)
    assert set(rows["quantizer"]) == {"better", "plain", "coarse"}
    for _, own in rows.groupby("quantizer"):
        assert list(own["exits"]) == ["none", "headline", "best on select"]
    full = rows[rows["exits"] == "none"].set_index("quantizer")["top1"]
    expected = tables.quantizers.set_index("quantizer")["top1"]
    assert full.to_dict() == {name: expected[name] for name in full.index}


def test_bit_operations_are_a_share_of_the_unquantized_models(tables: ReportTables) -> None:
    rows = composition.composed(tables)
    fp32 = tables.points[(tables.points["precision"] == FP32) & (tables.points["study"] == "full-depth")]
    assert rows["share"].tolist() == pytest.approx((rows["bops"] / fp32["bops"].iloc[0]).tolist())


def test_the_frontier_is_chosen_on_select_and_not_on_test() -> None:
    frame = pd.DataFrame(
        {
            "quantizer": list("abcd"), "share": [0.1, 0.2, 0.3, 0.3],
            "select_top1": [0.5, 0.4, 0.6, 0.7], "top1": [0.1, 0.9, 0.9, 0.2],
        }
    )  # fmt: skip
    assert compositions.with_frontier(frame)["optimal"].tolist() == [True, False, False, True]


def test_more_bits_come_first_and_within_them_the_better(tables: ReportTables) -> None:
    quantizers = tables.quantizers.copy()
    quantizers.loc[quantizers["quantizer"] == "coarse", ["weight_bits", "activation_bits"]] = 4
    block = composition.accuracy(dataclasses.replace(tables, quantizers=quantizers))
    names = [row[0].text for row in block.data.rows]
    assert names == ["better"] * 3 + ["plain"] * 3 + ["coarse"] * 3


@pytest.mark.parametrize(
    "build", [composition.accuracy, composition.bops, composition.allocation, composition.searches]
)
def test_figures_are_drawn_with_their_data(tables: ReportTables, build) -> None:  # type: ignore[no-untyped-def]
    block = build(tables)
    assert block.data.total > 0
    for panel in block.panels:
        figure = panel.draw(LIGHT)
        assert isinstance(figure, Figure)
        drawn = [line for axes in figure.axes for line in axes.lines]
        assert drawn


def test_rivals_are_named_by_what_both_have(tables: ReportTables) -> None:
    table = composition.rivals(tables)
    assert table.total == 12
    assert {row[4].text for row in table.rows} == {"full depth", "headline exits"}


@pytest.mark.parametrize(("value", "text"), [(4.0, "4"), (4.37, "4.4"), (32, "32"), (float("nan"), "–")])
def test_bits_are_whole_or_have_one_decimal(value: float, text: str) -> None:
    assert bits(value) == text

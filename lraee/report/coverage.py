"""Where this report has each table and figure of the paper, the paper's numbers beside ours, and a referee's questions.

The links name sections of ``templates/evidence.html.j2``; a test checks that each of them exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from lraee.report.datatables import Column, DataTable, build
from lraee.report.paper import NUMBERS, SETTING, SOURCE, PaperNumber
from lraee.report.tables import ReportTables
from lraee.report.wording import MISSING, percent, points, significant

Links = tuple[tuple[str, str], ...]
NAN = float("nan")
PAPER_SCHEME = "dynamic-int8"


@dataclass(frozen=True)
class Item:
    """A table, figure or section of the paper and where this report has it."""

    where: str
    shows: str
    links: Links


@dataclass(frozen=True)
class Coverage:
    """The map from the paper to this report; ``numbers`` has the paper's beside ours where the settings agree."""

    note: str
    items: tuple[Item, ...]
    numbers: DataTable | None


@dataclass(frozen=True)
class Comment:
    """A referee's question and the sentence that says where it is answered."""

    question: str
    answer: str
    links: Links


ITEMS = (
    Item("Fig. 1", "Noise by layer (NSR, INR)", (("noise-profile", "Noise profile"),)),
    Item("Fig. 2", "Accuracy against compute, and where images leave", (("frontier", "Frontier"), ("exits", "Exits"))),
    Item("Fig. 3", "Learned gate against heuristics", (("heuristics", "Heuristics"),)),
    Item(
        "Fig. 4",
        "The pathological layer: activations, error, and accuracy with and without it",
        (("pathological", "Activations and error"), ("toggles", "With and without each layer")),
    ),
    Item("Table 1", "Main results", (("results", "Main results"), ("key-figures", "Key figures"))),
    Item("Table 2", "Baselines", (("baselines", "Baselines"), ("strong", "Other quantizers"))),
    Item("Table 3", "Head, supervision and routing", (("factorial", "Head, supervision, routing"),)),
    Item("Table 4", "Quadrants of rescue and loss", (("quadrants", "Rescue and loss"),)),
    Item("Section 6.2", "[CLS] against SSA by layer", (("cls-ssa", "[CLS] against SSA"), ("static", "Static exits"))),
    Item("Section 7.1", "Rescue by class", (("classes", "Classes"),)),
    Item("Section 7.2", "Selectivity of the gate", (("selectivity", "Selectivity"), ("exits", "Exits"))),
    Item(
        "Threshold tables",
        "Thresholds by layer, rule and budget, and their scaling with the INR",
        (("thresholds", "Thresholds"), ("sensitivity-curves", "Sensitivity")),
    ),
)

COMMENTS = (
    Comment(
        "How large is the variance between runs, and how were thresholds chosen?",
        "The headline is refitted with every seed and the spread shown apart from the sampling error; thresholds are "
        "chosen on the select split alone, before the test split is opened:",
        (("seeds", "Seeds and sampling error"), ("splits", "Splits, and how thresholds were chosen")),
    ),
    Comment(
        "What exactly are the four quadrants?",
        "They are defined in words and as sets of images, against the full depth of the same model:",
        (("quadrants", "Rescue and loss"),),
    ),
    Comment(
        "What is each input of the gate worth, and how sensitive is the result to the INR scaling?",
        "Each input is left out in turn, and thresholds are scaled by the INR with several exponents:",
        (("ablations", "Ablations"), ("sensitivity-curves", "Sensitivity")),
    ),
    Comment(
        "Are all symbols defined?",
        "Every symbol and word of this report has an entry:",
        (("symbols", "Symbols and words"),),
    ),
    Comment(
        "Is the cost of the gates part of the FLOPs?",
        "Yes: heads, gates and the products at exits are subtracted from what is saved, itemised, and compared with "
        "the paper's count:",
        (("overhead", "Overhead of heads and gates"), ("accounting", "Ways of counting")),
    ),
)


def _cell(frame: pd.DataFrame, column: str, **where: object) -> float:
    """The value of the only row that has the given values; NaN where there is none."""
    rows = frame
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return NAN if rows.empty else float(rows.iloc[0][column])


def _headline(tables: ReportTables, quantizer: str, column: str) -> float:
    row = tables.headline(quantizer, quantizer)
    return NAN if row is None else float(row[column])


def _like(tables: ReportTables, quantizer: str, **changed: str) -> float:
    """Top-1 of the headline with one part replaced."""
    headline = tables.headline(quantizer, quantizer)
    return NAN if headline is None else _cell(tables.like(headline, **changed), "top1")


def _static(tables: ReportTables, quantizer: str, aggregation: str, supervision: str, layer: str) -> float:
    return _cell(
        tables.arm(quantizer, quantizer), "top1", study="static", aggregation=aggregation, supervision=supervision,
        layers=layer,
    )  # fmt: skip


def _supervision(tables: ReportTables, quantizer: str) -> str:
    row = tables.headline(quantizer, quantizer)
    return "" if row is None else str(row["supervision"])


def _policy(tables: ReportTables, quantizer: str, policy: str) -> float:
    """Top-1 of another policy at the headline's budget."""
    headline = tables.headline(quantizer, quantizer)
    rows = tables.points.iloc[:0] if headline is None else tables.like(headline, free=("policy", "gate_features"))
    return _cell(rows, "top1", policy=policy)


_MEASURES: dict[str, Callable[[ReportTables, str, list[str]], float]] = {
    "nsr": lambda t, q, a: _cell(t.noise, "nsr", quantizer=q, tokens="all", layer=int(a[0])),
    "mse": lambda t, q, a: _cell(t.noise, "mse", quantizer=q, tokens="all", layer=int(a[0])),
    "share": lambda t, q, a: _cell(t.exits, "share", quantizer=q, precision=q, layer=int(a[0])),
    "full": lambda t, q, _: _cell(t.arm(q, q), "top1", study="full-depth"),
    "routed": lambda t, q, a: _like(t, q, supervision=a[0]) if a else _headline(t, q, "top1"),
    "saved_blocks": lambda t, q, _: _headline(t, q, "saved_blocks"),
    "margin": lambda t, q, _: _headline(t, q, "margin"),
    "policy": lambda t, q, a: _policy(t, q, a[0]),
    "refit": lambda t, q, a: _static(t, q, a[0], a[1], str(t.provenance.get("depth", ""))),
    "quadrant": lambda t, q, a: _headline(t, q, a[0]) / _headline(t, q, "n"),
    "static": lambda t, q, a: _static(t, q, a[0], _supervision(t, q), a[1]),
    "early": lambda t, q, a: _cell(t.early, a[0], quantizer=q, precision=q),
}


def ours(tables: ReportTables, quantizer: str, key: str) -> float:
    """What this experiment measured of a number of the paper, for one quantizer; NaN where it did not."""
    name, *arguments = key.split(":")
    return _MEASURES[name](tables, quantizer, arguments)


def _text(number: PaperNumber, value: float) -> str:
    """A number in the unit of its kind."""
    if math.isnan(value):
        return MISSING
    formats: dict[str, Callable[[float], str]] = {"share": percent, "points": points, "value": significant}
    return formats[number.kind](value)


def _numbers(tables: ReportTables, quantizers: list[str]) -> DataTable:
    """The paper's numbers beside those of the quantizers of the paper's kind."""
    rows = [
        {
            "where": item.where, "quantity": item.quantity, "paper": _text(item, item.value),
            **{f"ours_{i}": _text(item, ours(tables, name, item.key)) for i, name in enumerate(quantizers)},
        }
        for item in NUMBERS
    ]  # fmt: skip
    columns = [
        Column("where", "In the paper"), Column("quantity", "Quantity"), Column("paper", "Paper"),
        *(Column(f"ours_{i}", f"Here, {name}") for i, name in enumerate(quantizers)),
    ]  # fmt: skip
    return build("data-paper", "The paper's numbers beside ours", pd.DataFrame(rows), columns)


def coverage(tables: ReportTables) -> Coverage:
    """The map of the paper, with its numbers where this experiment has the paper's setting and kind of quantizer."""
    source = f"The paper is {SOURCE}; its setting is {SETTING}."
    if not tables.provenance.get("paper_setting"):
        note = (
            f"{source} This experiment has another model or other data, so the paper's numbers are not put beside "
            "ours: a difference would say nothing about either."
        )
        return Coverage(note, ITEMS, None)
    same = tables.quantizers.loc[tables.quantizers["scheme"] == PAPER_SCHEME, "quantizer"]
    quantizers = [str(name) for name in same if name in tables.quantizer_names()]
    if not quantizers:
        note = f"{source} Model and data are the paper's, but no quantizer of its kind ({PAPER_SCHEME}) was run."
        return Coverage(note, ITEMS, None)
    note = (
        f"{source} Model and data are the paper's, so its numbers stand beside ours for the quantizers of its kind. "
        "Training images, prompts and the split that chooses differ, and the paper gives few intervals; ours stand in "
        "the linked sections."
    )
    return Coverage(note, ITEMS, _numbers(tables, quantizers))

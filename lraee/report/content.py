"""What the sections are made of, and the first of them: blocks with panels and data, key figures, the frontier.

The other sections have a module each in ``sections``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from lraee.names import FP32
from lraee.report import figures
from lraee.report.datatables import Column, DataTable, build
from lraee.report.interactive import Hover, frontier_hover
from lraee.report.style import Theme
from lraee.report.tables import ReportTables
from lraee.report.wording import percent, slugs

ARM = (Column("quantizer", "Quantizer"), Column("arm", "Arm"))
TOP1 = Column("top1", "Top-1", "percent", True)
N = Column("n", "n", "count")
SAVED = Column("saved", "Compute saved", "percent1")
MARGIN = Column("margin", "Margin, points", "points", True)
P = Column("mcnemar_p", "McNemar exact p", "p")
HOLM = Column("mcnemar_p_holm", "p, Holm", "p")


@dataclass(frozen=True)
class Panel:
    """One drawing: the name of its SVG file, its alternative text, and how to draw it in a theme.

    ``hover`` reads off the drawn figure where its points are, for a panel whose points say what they are.
    """

    name: str
    alt: str
    draw: Callable[[Theme], Figure]
    hover: Callable[[Figure], Hover] | None = None


@dataclass(frozen=True)
class Block:
    """A figure of one or more panels with its caption and the data that it shows."""

    id: str
    caption: str
    panels: tuple[Panel, ...]
    data: DataTable


def with_arm(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a readable column ``arm`` beside ``precision``."""
    return frame.assign(arm=["FP32 control" if name == FP32 else "quantized" for name in frame["precision"]])


def rounded(frame: pd.DataFrame, digits: int = 6) -> pd.DataFrame:
    """The frame with that many significant digits, so that a large one takes half the room in the document.

    The files beside the document have full precision.
    """
    numbers = frame.select_dtypes("float")
    return frame.assign(**{str(name): [float(f"{value:.{digits}g}") for value in numbers[name]] for name in numbers})


def arms(tables: ReportTables) -> list[tuple[str, str]]:
    """Every quantizer with each precision that was run for it, the quantized arm first."""
    return [(quantizer, precision) for quantizer in tables.quantizer_names() for precision in tables.arms(quantizer)]


def panels(tables: ReportTables, kind: str, alt: str, draw: Callable[[str, Theme], Figure]) -> tuple[Panel, ...]:
    """One panel a quantizer; ``alt`` is completed by the quantizer's name."""
    names = tables.quantizer_names()
    anchors = slugs(names)

    def panel(name: str) -> Panel:
        return Panel(f"{kind}-{anchors[name]}", f"{alt} for {name}.", lambda theme: draw(name, theme))

    return tuple(panel(name) for name in names)


def marked(tables: ReportTables) -> pd.DataFrame:
    """The operating points with the flag ``best_on_refit``, true for the best routing on top of a refitted head."""
    points = tables.points
    best = {name: tables.best_on_refit(name) for name in tables.quantizer_names()}
    named = {(name, name, row["point"]) for name, row in best.items() if row is not None}
    keys = zip(points["quantizer"], points["precision"], points["point"], strict=True)
    return points.assign(best_on_refit=[key in named for key in keys])


def _beyond(rows: pd.DataFrame, limits: tuple[figures.Limits, figures.Limits]) -> str:
    """A sentence on points that the axes of the frontier leave out, and on the oracle, which may be far above."""
    shown = (100 * rows["saved"]).between(*limits[0]) & (100 * rows["top1"]).between(*limits[1])
    oracle = rows["policy"] == "oracle"
    hidden, above = ~shown & ~oracle, rows[oracle & (100 * rows["top1"] > limits[1][1])]
    count, optimal = int(hidden.sum()), int((hidden & rows["on_frontier"]).sum())
    exits = f" ({optimal} of them Pareto-optimal static exits at early layers)" if optimal else ""
    told = f" {count} {'point lies' if count == 1 else 'points lie'} outside the axes{exits}." if count else ""
    if above.empty:
        return told
    return f"{told} The axes end below the oracle (up to {percent(float(above['top1'].max()), 1)}): arrows at the edge."


def frontier(tables: ReportTables) -> Block:
    """Accuracy against compute saved."""
    points = marked(tables)
    limits = figures.frontier_limits(points)
    rows = points[points["study"].isin(figures.TRADE_OFF)]
    order = rows.sort_values(["headline", "on_frontier", "quantizer", "precision", "saved"],
                             ascending=[False, False, True, True, True], kind="stable")  # fmt: skip
    columns = [
        *ARM, Column("study", "Study"), Column("policy", "Policy"), Column("aggregation", "Head on"),
        Column("supervision", "Supervision"), Column("full_depth_head", "Head at full depth"),
        Column("layers", "Exits"), Column("threshold_rule", "Rule"), Column("budget", "Budget", "percent1"),
        Column("risk", "Allowed risk", "percent1"), Column("saved", "Compute saved", "percent1", True),
        Column("saved_blocks", "Blocks saved", "percent1"), TOP1, N, MARGIN, P, HOLM,
        Column("on_frontier", "On frontier", "flag"), Column("headline", "Headline", "flag"),
    ]  # fmt: skip
    alt = "Top-1 accuracy against share of compute saved, quantized arm and FP32 control,"
    drawn = panels(tables, "frontier", alt, lambda name, theme: figures.frontier(points, name, limits, theme))
    return Block(
        "fig-frontier",
        "Connected points are Pareto-optimal on the select split and are shown with their accuracy on the test split, "
        "so the line need not fall evenly; bars are 95 % Wilson intervals. Faint points are all other operating "
        "points: other policies, risk-controlled thresholds, static exits, routing on refitted heads. Random deals the "
        "headline's exit shares blindly; the oracle uses test labels. Compute counts stem, blocks, heads and gates."
        f"{_beyond(rows, limits)}",
        tuple(replace(panel, hover=partial(frontier_hover, rows, name))
              for panel, name in zip(drawn, tables.quantizer_names(), strict=True)),
        build("data-frontier", "All operating points of the frontier", rounded(with_arm(order)), columns),
    )  # fmt: skip


def key_figures(tables: ReportTables) -> DataTable:
    """The compact table below the verdict: one row a quantizer."""
    own = tables.points[tables.points["headline"] & (tables.points["quantizer"] == tables.points["precision"])]
    rows = own[["quantizer", "n", "top1", "top1_low", "top1_high", "saved"]]
    full = tables.quantizers.filter(regex="^(quantizer|top1.*|difference.*)$").rename(
        columns=lambda name: name.replace("top1", "full")
    )
    attribution = tables.attribution.drop(columns=["n", "saved"])
    frame = rows.merge(full, on="quantizer", how="left").merge(attribution, on="quantizer", how="left")
    columns = [
        Column("quantizer", "Quantizer"), N, Column("full", "Full depth", "percent", True),
        Column("difference", "Minus FP32, points", "points", True),
        Column("top1", "With early exit", "percent", True), SAVED, MARGIN,
        Column("fp32_margin", "FP32 margin, points", "points", True),
        Column("attributable", "Attributable, points", "points", True),
        Column("best_full_depth_refit", "Refitted head, no exit", "percent", True),
        Column("best_minus_refit", "Best exits minus refit, points", "points", True),
        Column("on_refit_saved", "Saved by routing on the refit", "percent1"),
        Column("on_refit_minus_refit", "It minus refit, points", "points", True),
    ]  # fmt: skip
    return build("data-key-figures", "Headline configuration, one row a quantizer", frame, columns)

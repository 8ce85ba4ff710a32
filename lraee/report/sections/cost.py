"""What is counted as compute: MACs and bit operations, with and without what the exits themselves cost."""

from __future__ import annotations

import pandas as pd

from lraee.report import bars
from lraee.report.content import ARM, Block, N, Panel, with_arm
from lraee.report.datatables import Column, DataTable, build
from lraee.report.tables import ReportTables
from lraee.report.wording import MISSING, number


def accounting(tables: ReportTables) -> DataTable:
    """The headline's saved compute under every way of counting."""
    rows = tables.points[tables.points["headline"]]
    rows = rows.assign(
        gmacs=rows["macs"] / 1e9,
        gbops=rows["bops"] / 1e9,
    )
    columns = [
        *ARM, N, Column("saved", "MACs saved, everything counted", "percent1", True),
        Column("saved_blocks", "The paper's count (blocks alone)", "percent1"),
        Column("uncounted", "Paper's count minus ours, points", "points", True),
        Column("bops_saved", "BOPs saved, everything counted", "percent1"),
        Column("bops_saved_blocks", "BOPs saved, blocks alone", "percent1"),
        Column("mean_layer", "Mean exit layer", "number"), Column("gmacs", "GMACs an image", "ratio"),
        Column("gbops", "GBOPs an image", "ratio"),
    ]  # fmt: skip
    keep = [column.source for column in columns if column.source != "arm"]
    bounds = [f"{name}_{side}" for name in ("saved", "uncounted") for side in ("low", "high")]
    shown = with_arm(rows[[*keep, *bounds, "precision", "point"]])
    return build("data-accounting", "Compute saved by the headline, four ways of counting", shown, columns)


def cost_rows(costs: pd.DataFrame) -> pd.DataFrame:
    """The components with their shares of what full depth costs."""
    totals = costs.groupby("quantizer", sort=False)[["macs_full", "bops_full"]].transform("sum")
    added = {
        f"{kind}_{side}_share": costs[f"{kind}_{side}"] / totals[f"{kind}_full"]
        for kind in ("macs", "bops")
        for side in ("full", "routed")
    }
    return costs.assign(**added)


def costs(tables: ReportTables) -> Block:
    """Where the compute goes, with and without exits."""
    rows = cost_rows(tables.costs)
    columns = [
        Column("quantizer", "Quantizer"), Column("component", "Component"),
        Column("counted_by_paper", "Counted by the paper", "flag"),
        Column("macs_full", "MACs an image, full depth", "ratio"), Column("macs_routed", "MACs, routed", "ratio"),
        Column("macs_full_share", "Share, full depth", "percent"),
        Column("macs_routed_share", "Routed, share of full depth", "percent"),
        Column("bops_full", "BOPs an image, full depth", "ratio"), Column("bops_routed", "BOPs, routed", "ratio"),
        Column("bops_routed_share", "Routed, share of full depth", "percent"),
    ]  # fmt: skip
    alt = "Share of full-depth MACs and bit operations by component, at full depth and routed, for every quantizer."
    n = tables.points.loc[tables.points["headline"], "n"]
    counted = (
        f" Mean over {int(n.max()):,} test images; counted from shapes and exit shares, not timed." if len(n) else ""
    )
    return Block(
        "fig-costs",
        "Mean compute of an image by component as a share of full depth, for the headline: full depth above, routed "
        "below. Bit operations are MACs times weight bits times activation bits; what is not quantized counts 32 × 32, "
        f"so that FP32 heads weigh more there.{counted}",
        (Panel("costs", alt, lambda theme: bars.costs(rows, theme)),),
        build("data-costs", "Compute of the headline by component", rows, columns),
    )


def overhead_sentence(tables: ReportTables) -> str:
    """What gates, heads and the products at exits cost, as shares of full-depth MACs."""
    if tables.costs.empty:
        return "The cost of gates and heads was not itemised."
    rows = cost_rows(tables.costs)
    told = []
    for component in ("gates", "exit heads", "class products at exits"):
        shares = 100 * rows.loc[rows["component"] == component, "macs_routed_share"].astype(float)
        if len(shares):
            low, high = _percent(float(shares.min())), _percent(float(shares.max()))
            told.append(f"{component} {low if low == high else f'{low} to {high}'} %")
    return (
        f"Overhead of the headline as a share of full-depth MACs, over the quantizers: {', '.join(told) or MISSING}. "
        "It is subtracted from every saved share in this report, except in the columns that are marked as the paper's "
        "count."
    )


def _percent(value: float) -> str:
    """A share in percent that may be far below one, with two digits that matter."""
    return number(value, 2) if value >= 0.1 or value == 0 else f"{value:.1g}" if value >= 1e-4 else "< 0.0001"

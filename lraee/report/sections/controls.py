"""Is it quantization? The FP32 control, churn, better quantizers, static exits, refitted heads, and no labels."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd

from lraee.report import comparisons
from lraee.report.content import ARM, HOLM, MARGIN, SAVED, TOP1, Block, N, P, Panel, arms, panels, with_arm
from lraee.report.datatables import Column, DataTable, build
from lraee.report.sections.trade_off import roles
from lraee.report.tables import ReportTables
from lraee.report.wording import bit_pair

_QUANTIZER = Column("quantizer", "Quantizer")


def attribution(tables: ReportTables) -> Block:
    """What disappears with the quantization."""
    columns = [
        _QUANTIZER, N, Column("margin", "Quantized, points", "points", True), Column("saved", "Saved", "percent1"),
        Column("fp32_margin", "FP32 control, points", "points", True), Column("fp32_saved", "Saved", "percent1"),
        Column("attributable", "Attributable, points", "points", True), Column("seeds", "Seeds", "count"),
    ]  # fmt: skip
    alt = "Rescue margin under each quantizer, in the FP32 control, and their difference, with 95 % intervals."
    return Block(
        "fig-attribution",
        "Rescue margin of the headline procedure with and without quantization, and the difference, which is the part "
        "that quantization explains: means over the seeds. Bars are 95 % intervals that hold seeds and test images "
        "(with one seed the paired bootstrap over test images); one that crosses 0 decides nothing.",
        (Panel("attribution", alt, lambda theme: comparisons.attribution(tables.attribution, theme)),),
        build("data-attribution", "Attribution", tables.attribution, columns),
    )


def quantizers(tables: ReportTables) -> DataTable:
    """What each quantizer covers and costs at full depth, and which answers it changes."""
    columns = [
        _QUANTIZER, Column("scheme", "Scheme"), Column("description", "Description"),
        Column("weight_bits", "Weight bits", "bits"), Column("activation_bits", "Activation bits", "bits"),
        Column("covered_parameters", "Parameters covered", "percent1"),
        Column("covered_macs", "MACs covered", "percent1"), TOP1, N,
        Column("difference", "Minus FP32, points", "points", True), P,
        Column("agreement", "Same answer as FP32", "percent"), Column("churn_rescue", "Newly right", "count"),
        Column("churn_loss", "Newly wrong", "count"), Column("settings", "Settings"),
    ]  # fmt: skip
    return build("data-quantizers", "Quantizers at full depth, no exit", tables.quantizers, columns)


def with_bits(controls: pd.DataFrame) -> pd.DataFrame:
    """The controls with ``bits`` and ``other_bits`` as W/A, and how the other's bits compare.

    ``comparison``: "itself", "no more bits" (neither weights nor activations have more) or "more bits".
    """
    bits = {
        side: list(map(bit_pair, controls[f"{side}weight_bits"], controls[f"{side}activation_bits"]))
        for side in ("", "other_")
    }  # fmt: skip
    fewer = (controls["other_weight_bits"] <= controls["weight_bits"]) & (
        controls["other_activation_bits"] <= controls["activation_bits"]
    )
    comparison = pd.Series("more bits", index=controls.index).mask(fewer, "no more bits")
    comparison = comparison.mask(controls["other"] == controls["quantizer"], "itself")
    return controls.assign(bits=bits[""], other_bits=bits["other_"], comparison=comparison)


def strong(tables: ReportTables) -> Block:
    """The routed headline of each quantizer against every other model at full depth."""
    order = {"itself": 0, "no more bits": 1, "more bits": 2}
    rows = with_bits(tables.controls)
    rows = rows.assign(rank=rows["comparison"].map(order)).sort_values(
        ["quantizer", "rank", "other_top1"], ascending=[True, True, False], kind="stable"
    )
    columns = [
        Column("quantizer", "Routed, under"), Column("bits", "Bits"), Column("top1", "Routed top-1", "percent"),
        Column("other", "Full depth, under"), Column("other_bits", "Bits"), Column("comparison", "The other has"),
        Column("other_top1", "Full-depth top-1", "percent"), N,
        Column("difference", "Routed minus other, points", "points", True), P, HOLM,
    ]  # fmt: skip
    return Block(
        "fig-strong",
        "Routed headline minus the full depth of another model on the same images, with 95 % paired bootstrap "
        "intervals and the bits of both (weights, activations). Below 0: that quantizer with no exit is more accurate. "
        "Strong colour: the other has no more bits than the routed model, which is the fair comparison.",
        panels(tables, "strong", "Routed headline minus full depth of every other model, with 95 % intervals,",
               lambda name, theme: comparisons.strong(rows[rows["quantizer"] == name], name, theme)),
        build("data-strong", "Routed against other quantizers at full depth", rows.drop(columns="rank"), columns),
    )  # fmt: skip


def static(tables: ReportTables) -> Block:
    """One fixed exit for all images."""
    points = tables.points
    rows = points[points["study"] == "static"]
    limits = comparisons.static_limits(rows)
    columns = [
        *ARM, Column("layers", "Blocks executed"), Column("aggregation", "Head on"),
        Column("supervision", "Supervision"), TOP1, N, SAVED, MARGIN, P, HOLM,
    ]  # fmt: skip
    keep = ["point", "precision", "select_top1", "saved_blocks", "bops_saved", "rescue", "loss"]
    sources = [column.source for column in columns if column.source != "arm"]
    bounds = [f"{column.source}_{side}" for column in columns if column.interval for side in ("low", "high")]
    return Block(
        "fig-static",
        "Accuracy when every image leaves at the same layer, by what the head reads (ssa: mean of the patches, cls: "
        "class token) and how it was trained, with 95 % Wilson intervals; heads of one layer are drawn side by side. "
        "The last layer is a fresh head refitted at full depth; the dotted line is full depth with the model's own.",
        panels(tables, "static", "Accuracy of a fixed exit by layer, for each head and supervision, in both arms,",
               lambda name, theme: comparisons.static(points, name, tables.arms(name), limits, theme)),
        build("data-static", "Static exits", with_arm(rows[list(dict.fromkeys([*sources, *bounds, *keep]))]), columns),
    )  # fmt: skip


def cls_against_ssa(tables: ReportTables) -> DataTable:
    """The paper's section 6.2: the same head on [CLS] and on the patches, at every layer."""
    points = tables.points
    headline = points[points["headline"]][["quantizer", "precision", "supervision"]]
    rows = points[points["study"] == "static"].merge(headline, on=["quantizer", "precision", "supervision"])
    keys = ["quantizer", "precision", "supervision", "layers", "n"]
    sides = {
        side: rows.loc[rows["aggregation"] == side, [*keys, "top1", "top1_low", "top1_high"]].rename(
            columns={"top1": side, "top1_low": f"{side}_low", "top1_high": f"{side}_high"}
        )
        for side in ("ssa", "cls")
    }
    frame = sides["ssa"].merge(sides["cls"], on=keys)
    frame = frame.assign(layer=frame["layers"].astype(float), difference=frame["ssa"] - frame["cls"])
    columns = [
        *ARM, Column("layer", "Blocks executed", "layer"), Column("supervision", "Supervision"),
        Column("ssa", "Head on patches (SSA)", "percent", True), Column("cls", "Head on [CLS]", "percent", True),
        Column("difference", "SSA minus CLS, points", "points"), N,
    ]  # fmt: skip
    return build("data-cls-ssa", "SSA against [CLS] at every layer", with_arm(frame), columns)


def _factorial(tables: ReportTables, quantizer: str, precision: str) -> pd.DataFrame:
    """Head on x supervision x routed or not, of one arm; the budget and the rule are the headline's."""
    arm, headline = tables.arm(quantizer, precision), tables.headline(quantizer, precision)
    depth = str(tables.provenance.get("depth", ""))
    static = arm[(arm["study"] == "static") & (arm["layers"] == depth)]
    cells: list[tuple[str, pd.DataFrame | pd.Series[Any] | None]] = [
        ("own head, full depth", arm[arm["study"] == "full-depth"])
    ]
    heads = product(("ssa", "cls"), ("hard", "distilled", "label-free"))
    for aggregation, supervision in heads:
        head = f"{aggregation.upper()} {supervision}"
        refit = static[(static["aggregation"] == aggregation) & (static["supervision"] == supervision)]
        routed = None
        if headline is not None:
            routed = tables.like(headline, aggregation=aggregation, supervision=supervision)
        cells += [(f"{head}, last layer", refit), (f"{head}, routed", routed)]
    rows = roles(cells)
    return rows.assign(routed=rows["role"].str.endswith("routed")) if len(rows) else rows


def factorial(tables: ReportTables) -> Block:
    """The paper's Table 3: is it the head, its supervision, or the routing?"""
    found = [_factorial(tables, quantizer, precision) for quantizer, precision in arms(tables)]
    frame = with_arm(pd.concat([rows for rows in found if len(rows)], ignore_index=True))
    columns = [
        *ARM, Column("role", "Head, supervision, routing"), Column("routed", "Routed", "flag"), TOP1, N, MARGIN,
        Column("saved", "Compute saved", "percent1"), P, HOLM,
    ]  # fmt: skip
    keep = [column.source for column in columns]
    bounds = [f"{name}_{side}" for name in ("top1", "margin", "saved") for side in ("low", "high")]
    shown = frame[[*keep, *bounds, "precision", "point", "aggregation", "supervision"]]
    return Block(
        "fig-factorial",
        "Accuracy minus the arm's own full depth, with 95 % paired bootstrap intervals: a fresh head on the last layer "
        "(no image leaves early), and the same kind of head with routing at the headline's budget. What the last layer "
        "alone already gains is the head's work, not the exit's.",
        panels(tables, "factorial", "Margin over full depth by head, supervision and routing, in both arms,",
               lambda name, theme: comparisons.factorial(frame[frame["quantizer"] == name], name, theme)),
        build("data-factorial", "Head, supervision and routing", shown, columns),
    )  # fmt: skip


def refit(tables: ReportTables) -> Block:
    """Head adaptation: a head refitted at full depth, against exits and below routing."""
    rows = tables.attribution
    columns = [
        _QUANTIZER, N, Column("best_full_depth_refit_label", "Refitted head"),
        Column("best_full_depth_refit", "Its top-1, no exit", "percent", True),
        Column("routed_minus_refit", "Headline minus refit, points", "points", True),
        Column("best_minus_refit", "Best exits minus refit, points", "points", True),
        Column("on_refit_top1", "Routing on top of the refit", "percent", True),
        Column("on_refit_saved", "Its compute saved", "percent1"),
        Column("on_refit_minus_refit", "It minus refit, points", "points", True),
        Column("on_refit_minus_full", "It minus own full depth, points", "points", True),
    ]  # fmt: skip
    alt = "Headline, best exits of the grid and routing on top of a refitted head, each minus that head, by quantizer."
    return Block(
        "fig-refit",
        "Differences to the head that is best on the select split among those refitted at full depth: the headline, "
        "the best configuration with exits of the whole grid (chosen on select, at the headline's budget or above), "
        "and routing whose full-depth answer comes from that head. Bars are 95 % paired bootstrap intervals; below 0 "
        "the refitted head, with no exit, is more accurate.",
        (Panel("refit", alt, lambda theme: comparisons.refit(rows, theme)),),
        build("data-refit", "A head refitted at full depth", rows, columns),
    )


def label_free(tables: ReportTables) -> DataTable:
    """The headline without labels, beside the headline, in both arms."""
    parts = []
    for quantizer, precision in arms(tables):
        headline = tables.headline(quantizer, precision)
        if headline is None:
            continue
        without = tables.like(headline, free=("policy", "gate_features", "aggregation"), supervision="label-free")
        parts.append(roles([("headline", headline), ("without labels", without)]))
    frame = pd.concat(parts, ignore_index=True) if parts else tables.points.iloc[:0].assign(role="")
    columns = [
        *ARM, Column("role", "Configuration"), Column("policy", "Policy"), Column("aggregation", "Head on"),
        Column("supervision", "Supervision"), TOP1, N, MARGIN, Column("saved", "Compute saved", "percent1", True), P,
        HOLM,
    ]  # fmt: skip
    return build("data-label-free", "Heads, gates and thresholds without labels", with_arm(frame), columns)

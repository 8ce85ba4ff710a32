"""Quantizers and exits together: every quantizer with and without exits, on accuracy and on bit operations."""

from __future__ import annotations

import pandas as pd

from lraee.names import FP32
from lraee.report import compositions
from lraee.report.content import HOLM, MARGIN, TOP1, Block, N, P, Panel
from lraee.report.datatables import Column, DataTable, build
from lraee.report.tables import ReportTables

_QUANTIZER = Column("quantizer", "Quantizer")
_TOP1 = Column("top1", "Top-1", "percent")
_BITS = (Column("weight_bits", "Weight bits", "bits"), Column("activation_bits", "Activation bits", "bits"))


def composed(tables: ReportTables) -> pd.DataFrame:
    """Every quantizer at full depth, with the headline's exits, and as the select split picks from the grid.

    Columns beside those of ``points``: ``exits`` (what kind), ``share`` (BOPs, of the unquantized model's), bits.
    """
    points = tables.points
    full = points[(points["precision"] == FP32) & (points["study"] == "full-depth")]
    whole = float(full["bops"].iloc[0]) if len(full) else float("nan")
    rows = []
    for name in tables.quantizer_names():
        arm = tables.arm(name, name)
        kinds = {"none": arm[arm["study"] == "full-depth"], "headline": arm[arm["headline"]]}
        best = tables.best_of_grid(name)
        if best is not None:
            kinds["best on select"] = arm[arm["point"] == best["point"]]
        rows += [part.assign(exits=kind) for kind, part in kinds.items()]
    frame = pd.concat(rows, ignore_index=True) if rows else points.iloc[:0].assign(exits="")
    bits = tables.quantizers[["quantizer", "scheme", "weight_bits", "activation_bits"]]
    return frame.merge(bits, on="quantizer", how="left").assign(share=frame["bops"] / whole)


def _by_bits(frame: pd.DataFrame) -> pd.DataFrame:
    """Most bits first; within the same bits the most accurate at full depth first."""
    full = frame[frame["exits"] == "none"].set_index("quantizer")["top1"]
    frame = frame.assign(own_full=frame["quantizer"].map(full))
    order = ["weight_bits", "activation_bits", "own_full"]
    return frame.sort_values(order, ascending=False, kind="stable").drop(columns="own_full")


def accuracy(tables: ReportTables) -> Block:
    """Does early exit still help after a better quantizer?"""
    rows = _by_bits(composed(tables))
    fp32 = tables.quantizers.loc[tables.quantizers["quantizer"] == FP32, "top1"]
    reference = float(fp32.iloc[0]) if len(fp32) else float("nan")
    columns = [
        _QUANTIZER, Column("scheme", "Scheme"), *_BITS, Column("exits", "Exits"), TOP1, N, MARGIN,
        Column("saved", "Compute saved", "percent1"), Column("share", "BOPs of FP32", "percent1"), P, HOLM,
    ]  # fmt: skip
    alt = "Top-1 of every quantizer at full depth and with exits, by bits, with 95 % intervals; FP32 as a line."
    keep = [*dict.fromkeys(column.source for column in columns), "top1_low", "top1_high", "margin_low", "margin_high",
            "policy", "aggregation", "supervision", "layers", "threshold_rule", "bops"]  # fmt: skip
    return Block(
        "fig-composition",
        "Top-1 of each quantizer at full depth, with the headline's exits, and with the exits that the select split "
        "picks from the grid, grouped by bits (weights, activations); 95 % Wilson intervals. The line is FP32 at full "
        "depth. Margins in the table are against the quantizer's own full depth, on the same images.",
        (Panel("composition", alt, lambda theme: compositions.accuracy(rows, reference, theme)),),
        build("data-composition", "Quantizers with and without exits", rows[keep], columns),
    )


def bops(tables: ReportTables) -> Block:
    """One frontier of accuracy against bit operations for everything."""
    rows = compositions.with_frontier(composed(tables))
    columns = [
        _QUANTIZER, *_BITS, Column("exits", "Exits"), Column("share", "BOPs of FP32", "percent1"),
        Column("bops", "BOPs an image", "ratio"), TOP1, N, Column("on_select", "On select", "percent"),
        Column("optimal", "On frontier", "flag"),
    ]  # fmt: skip
    shown = rows.assign(on_select=rows["select_top1"])
    keep = [*dict.fromkeys(column.source for column in columns), "top1_low", "top1_high"]
    alt = (
        "Top-1 against bit operations of every quantizer, at full depth and with exits; the Pareto-optimal are linked."
    )
    return Block(
        "fig-bops",
        "Top-1 (95 % Wilson intervals) against bit operations an image, in percent of the unquantized model's, "
        "everything counted: MACs times the bits of both factors, 32 x 32 for what is not quantized, heads and gates "
        "among it. Linked points are Pareto-optimal on the select split and are shown with their accuracy on the test "
        "split, numbered by quantizer. A quantizer that leaves attention's products alone pays for them in full.",
        (Panel("bops", alt, lambda theme: compositions.bops(rows, theme)),),
        build("data-bops", "Accuracy against bit operations", shown[keep].sort_values("share"), columns),
    )


def rivals(tables: ReportTables) -> DataTable:
    """Quantizers of equal bits against each other."""
    kinds = {False: "full depth", True: "headline exits"}
    rows = tables.rivals.assign(both=[kinds[bool(exits)] for exits in tables.rivals["exits"]])
    columns = [
        _QUANTIZER, Column("other", "Against"), *_BITS, Column("both", "Both with"), _TOP1,
        Column("other_top1", "The other", "percent"), N,
        Column("difference", "Minus the other, points", "points", True), P, HOLM,
    ]  # fmt: skip
    return build("data-rivals", "Quantizers of equal bits against each other", rows.drop(columns="exits"), columns)


def allocation(tables: ReportTables) -> Block:
    """The bits that mixed precision gave to each block."""
    chosen = tables.allocation[tables.allocation["candidate"] == tables.allocation["bits"]]
    columns = [
        _QUANTIZER, Column("layer", "Block", "layer"), Column("bits", "Bits", "count"),
        Column("utilisation", "Images that execute it", "percent1"), Column("candidate", "Candidate bits", "count"),
        Column("drift", "Drift at the candidate", "ratio"),
    ]  # fmt: skip
    alt = "Bits of every block, and the share of images that execute it, for each mixed-precision quantizer."
    return Block(
        "fig-allocation",
        "Bits of each block (steps, left axis) and the share of images that execute it under the exits that the "
        "allocation was told of (dashed, right axis). Drift: relative squared error of the final embedding when only "
        "this block is quantized. Entries that name each other are rounds of one alternation.",
        (Panel("allocation", alt, lambda theme: compositions.allocation(chosen, theme)),),
        build("data-allocation", "Bits by block", tables.allocation, columns),
    )


def searches(tables: ReportTables) -> Block:
    """How scale searches went."""
    columns = [
        _QUANTIZER, Column("evaluation", "Evaluations", "count"), Column("fitness", "Best fitness so far", "ratio"),
    ]  # fmt: skip
    alt = "Best calibration fitness so far against the number of evaluations, for each search."
    return Block(
        "fig-searches",
        "Best fitness so far, relative to that of the quantizer it starts from, against the number of evaluations; "
        "lower is better. Fitness is computed on unlabeled images of the quant split alone: whether it helps accuracy "
        "is told by the comparison with its start.",
        (Panel("searches", alt, lambda theme: compositions.searches(tables.searches, theme)),),
        build("data-searches", "Scale searches", tables.searches, columns),
    )


def calibration_costs(tables: ReportTables) -> DataTable:
    """What calibrating takes on a network of a usual size."""
    columns = [
        _QUANTIZER, Column("model", "On"), Column("images", "Images", "count"),
        Column("cpu_seconds", "CPU, s", "ratio"), Column("wall_seconds", "Wall clock, s", "ratio"),
        Column("peak_mib", "Peak memory, MiB", "count"), Column("peak_before_mib", "Peak before, MiB", "count"),
        Column("state_mib", "State, MiB", "ratio"),
    ]  # fmt: skip
    return build("data-calibration-costs", "Cost of calibration", tables.calibration_costs, columns)

"""What stands in each section: its figure panels with captions and alternative texts, and its tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from lraee.names import FP32
from lraee.report import comparisons, figures
from lraee.report.datatables import Column, DataTable, build
from lraee.report.style import Theme
from lraee.report.tables import ReportTables
from lraee.report.wording import number, slugs, wilson_bounds

_ARM = (Column("quantizer", "Quantizer"), Column("arm", "Arm"))
_TOP1 = Column("top1", "Top-1", "percent", True)
_N = Column("n", "n", "count")
_SAVED = Column("saved", "Compute saved", "percent1")
_MARGIN = Column("margin", "Margin, points", "points", True)
_SETTLED = [
    "quantizer", "precision", "n", "share", "accuracy_exit", "accuracy_exit_low", "accuracy_exit_high",
    "accuracy_full", "accuracy_full_low", "accuracy_full_high",
]  # fmt: skip
_P = Column("mcnemar_p", "McNemar exact p", "p")


@dataclass(frozen=True)
class Panel:
    """One drawing: the name of its SVG file, its alternative text, and how to draw it in a theme."""

    name: str
    alt: str
    draw: Callable[[Theme], Figure]


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


def _panels(tables: ReportTables, kind: str, alt: str, draw: Callable[[str, Theme], Figure]) -> tuple[Panel, ...]:
    """One panel a quantizer; ``alt`` is completed by the quantizer's name."""
    names = tables.quantizer_names()
    anchors = slugs(names)

    def panel(name: str) -> Panel:
        return Panel(f"{kind}-{anchors[name]}", f"{alt} for {name}.", lambda theme: draw(name, theme))

    return tuple(panel(name) for name in names)


def frontier(tables: ReportTables) -> Block:
    """Accuracy against compute saved."""
    points = tables.points
    limits = figures.frontier_limits(points)
    rows = points[points["study"].isin(figures.TRADE_OFF)]
    shown = (100 * rows["saved"]).between(*limits[0]) & (100 * rows["top1"]).between(*limits[1])
    hidden = int((~shown).sum())
    outside = f" {hidden} faint {'point lies' if hidden == 1 else 'points lie'} outside the axes." if hidden else ""
    order = rows.sort_values(["headline", "on_frontier", "quantizer", "precision", "saved"],
                             ascending=[False, False, True, True, True], kind="stable")  # fmt: skip
    columns = [
        *_ARM, Column("policy", "Policy"), Column("aggregation", "Head on"), Column("supervision", "Supervision"),
        Column("layers", "Exits"), Column("budget", "Budget", "percent1"), _SAVED,
        Column("saved_blocks", "Blocks saved", "percent1"), _TOP1, _N, _MARGIN, _P,
        Column("on_frontier", "On frontier", "flag"), Column("headline", "Headline", "flag"),
    ]  # fmt: skip
    return Block(
        "fig-frontier",
        "Connected points are Pareto-optimal on the select split and are shown with their accuracy on the test split, "
        "so the line need not fall evenly; bars are 95 % Wilson intervals. Faint points are all other operating points "
        f"and static exits. Compute counts stem, blocks, heads and gates.{outside}",
        _panels(tables, "frontier", "Top-1 accuracy against share of compute saved, quantized arm and FP32 control,",
                lambda name, theme: figures.frontier(points, name, limits, theme)),
        build("data-frontier", "All operating points of the frontier", with_arm(order), columns),
    )  # fmt: skip


def noise(tables: ReportTables) -> Block:
    """Noise-to-signal and information-to-noise by layer."""
    table = tables.noise
    limits, kappa = figures.noise_limits(table), float(tables.provenance.get("kappa", float("nan")))
    columns = [
        Column("quantizer", "Quantizer"), Column("tokens", "Tokens"), Column("layer", "Blocks", "layer"),
        Column("nsr", "NSR, %", "percent", True), Column("inr", "INR", "ratio"),
        Column("sqnr_db", "SQNR, dB", "number"), Column("cosine", "Cosine", "ratio"), _N,
        Column("candidate", "Candidate", "flag"), Column("pathological", "Dropped", "flag"),
    ]  # fmt: skip
    return Block(
        "fig-noise",
        "Top: NSR, the size of the quantization error relative to the block's own update, with 95 % intervals. Bottom: "
        "INR, the signal's energy over the error's variance. Grey bands are candidate exits; the dashed line is the "
        f"rule's bound (κ = {number(kappa)} times the candidates' mean INR over all tokens); one below it is dropped.",
        _panels(tables, "noise", "Quantization noise by layer, as NSR in percent and INR on a logarithmic axis,",
                lambda name, theme: figures.noise(table[table["quantizer"] == name], name, kappa, limits, theme)),
        build("data-noise", "Noise by layer", table, columns),
    )  # fmt: skip


def exit_rows(exits: pd.DataFrame) -> pd.DataFrame:
    """The exits table with 95 % Wilson intervals of both accuracies."""
    added = {}
    for name in ("accuracy_exit", "accuracy_full"):
        pairs = [wilson_bounds(float(share), float(n)) for share, n in zip(exits[name], exits["n"], strict=True)]
        added[f"{name}_low"], added[f"{name}_high"] = [low for low, _ in pairs], [high for _, high in pairs]
    return exits.assign(**added)


def exits(tables: ReportTables) -> Block:
    """Where images leave, and whether they had better stayed."""
    rows = exit_rows(tables.exits)
    columns = [
        *_ARM, Column("layer", "Blocks executed", "layer"), _N, Column("share", "Share", "percent1"),
        Column("accuracy_exit", "Accuracy at exit", "percent", True),
        Column("accuracy_full", "Same images at full depth", "percent", True),
    ]  # fmt: skip
    return Block(
        "fig-exits",
        "Top: share of test images that leave at each exit of the headline configuration (count above the bar); the "
        "last bar went to the end. Bottom: accuracy of these images at the exit, and of the same images had they been "
        "forced to full depth, with 95 % Wilson intervals. Leaving early helps where the dot is above the diamond.",
        _panels(tables, "exits", "Exit histogram, and accuracy at the exit against the same images at full depth,",
                lambda name, theme: figures.exits(rows[rows["quantizer"] == name], tables.arms(name), theme)),
        build("data-exits", "Exits of the headline configurations", with_arm(rows), columns),
    )  # fmt: skip


def _early(tables: ReportTables, quantizer: str, precision: str) -> dict[str, object]:
    """All images of one arm that leave before the end: their number, and both accuracies with 95 % intervals."""
    exits = tables.exits
    rows = exits[(exits["quantizer"] == quantizer) & (exits["precision"] == precision) & (exits["n"] > 0)]
    early = rows[rows["layer"] < tables.provenance.get("depth", exits["layer"].max())]
    n = int(early["n"].sum())
    result: dict[str, object] = {"quantizer": quantizer, "precision": precision, "n": n, "share": early["share"].sum()}
    for name in ("accuracy_exit", "accuracy_full"):
        share = float((early[name] * early["n"]).sum() / n) if n else float("nan")
        result[name] = share
        result[f"{name}_low"], result[f"{name}_high"] = wilson_bounds(share, n)
    return result


def settled(tables: ReportTables) -> DataTable:
    """Accuracy of everything that left early, at the exit and forced to full depth, one row an arm."""
    arms = [(quantizer, precision) for quantizer in tables.quantizer_names() for precision in tables.arms(quantizer)]
    frame = pd.DataFrame([_early(tables, *arm) for arm in arms], columns=_SETTLED)
    margins = tables.points.loc[tables.points["headline"], [*_SETTLED[:2], "margin", "margin_low", "margin_high"]]
    columns = [
        *_ARM, Column("n", "Images leaving early", "count"), Column("share", "Share", "percent1"),
        Column("accuracy_exit", "Right at the exit", "percent", True),
        Column("accuracy_full", "Same images at full depth", "percent", True),
        Column("margin", "Margin over all images, points", "points", True),
    ]  # fmt: skip
    merged = frame.merge(margins, on=_SETTLED[:2], how="left")
    return build("data-settled", "All early exits together", with_arm(merged), columns)


def quadrants(tables: ReportTables) -> Block:
    """Rescue and loss of the headline configurations."""
    rows = tables.points[tables.points["headline"]]
    columns = [
        *_ARM, _N, Column("both_right", "Both right", "count"), Column("rescue", "Rescue", "count"),
        Column("loss", "Loss", "count"), Column("both_wrong", "Both wrong", "count"), _MARGIN, _P, _TOP1, _SAVED,
    ]  # fmt: skip
    alt = "Rescue and loss in percent of images with the net margin and its interval, for every quantizer and arm."
    return Block(
        "fig-quadrants",
        "Rescue: wrong at full depth, right with early exit. Loss: right at full depth, wrong with early exit. The "
        "diamond is their difference with its 95 % paired bootstrap interval. Each arm is compared with its own full "
        "depth on the same images.",
        (Panel("quadrants", alt, lambda theme: comparisons.quadrants(rows, theme)),),
        build("data-quadrants", "Quadrants of the headline configurations", with_arm(rows), columns),
    )


def attribution(tables: ReportTables) -> Block:
    """What disappears with the quantization."""
    columns = [
        Column("quantizer", "Quantizer"), _N, Column("margin", "Quantized, points", "points", True),
        Column("fp32_margin", "FP32 control, points", "points", True),
        Column("attributable", "Attributable, points", "points", True),
        Column("best_full_depth_refit", "Best refit at full depth", "percent", True),
        Column("best_full_depth_refit_label", "Which head"),
        Column("routed_minus_refit", "Routed minus refit, points", "points", True),
    ]  # fmt: skip
    alt = "Rescue margin under each quantizer, in the FP32 control, and their difference, with 95 % intervals."
    return Block(
        "fig-attribution",
        "Rescue margin of the headline procedure with and without quantization, and the difference, which is the part "
        "that quantization explains. Bars are 95 % paired bootstrap intervals; one that crosses 0 decides nothing.",
        (Panel("attribution", alt, lambda theme: comparisons.attribution(tables.attribution, theme)),),
        build("data-attribution", "Attribution", refit_rows(tables.attribution), columns),
    )


def refit_rows(attribution: pd.DataFrame) -> pd.DataFrame:
    """The attribution table with the 95 % Wilson interval of the refitted head's accuracy."""
    name = "best_full_depth_refit"
    pairs = [
        wilson_bounds(float(share), float(n)) for share, n in zip(attribution[name], attribution["n"], strict=True)
    ]
    return attribution.assign(**{f"{name}_low": [low for low, _ in pairs], f"{name}_high": [high for _, high in pairs]})


def static(tables: ReportTables) -> Block:
    """One fixed exit for all images."""
    points = tables.points
    rows = points[points["study"] == "static"]
    limits = comparisons.static_limits(rows)
    columns = [
        *_ARM, Column("layers", "Blocks executed"), Column("aggregation", "Head on"),
        Column("supervision", "Supervision"), _TOP1, _N, _SAVED, _MARGIN, _P,
    ]  # fmt: skip
    return Block(
        "fig-static",
        "Accuracy when every image leaves at the same layer, by what the head reads (ssa: mean of the patches, cls: "
        "class token) and how it was trained, with 95 % Wilson intervals; heads of one layer are drawn side by side. "
        "The last layer is a fresh head refitted at full depth; the dotted line is full depth with the model's own.",
        _panels(tables, "static", "Accuracy of a fixed exit by layer, for each head and supervision, in both arms,",
                lambda name, theme: comparisons.static(points, name, tables.arms(name), limits, theme)),
        build("data-static", "Static exits", with_arm(rows), columns),
    )  # fmt: skip


def ablations(tables: ReportTables) -> Block:
    """One setting changed at a time."""
    columns = [
        *_ARM, Column("axis", "Axis"), Column("setting", "Setting"), Column("is_base", "Base", "flag"), _TOP1, _N,
        _SAVED, Column("difference", "Minus base, points", "points", True), _P,
    ]  # fmt: skip
    return Block(
        "fig-ablations",
        "Accuracy with one setting changed, minus that of the base configuration on the same images; bars are 95 % "
        "paired bootstrap intervals. Settings can differ in compute as well: see the column Compute saved.",
        _panels(tables, "ablations", "Difference in accuracy to the base configuration for each changed setting,",
                lambda name, theme: comparisons.ablations(tables.ablations, name, theme)),
        build("data-ablations", "Ablations", with_arm(tables.ablations), columns),
    )  # fmt: skip


def key_figures(tables: ReportTables) -> DataTable:
    """The compact table below the verdict: one row a quantizer."""
    own = tables.points[tables.points["headline"] & (tables.points["quantizer"] == tables.points["precision"])]
    rows = own[["quantizer", "n", "top1", "top1_low", "top1_high", "saved", "margin", "margin_low", "margin_high"]]
    full = tables.quantizers.filter(regex="^(quantizer|top1.*|difference.*)$").rename(
        columns=lambda name: name.replace("top1", "full")
    )
    attribution = refit_rows(tables.attribution).drop(columns=["n", "margin", "margin_low", "margin_high"])
    frame = rows.merge(full, on="quantizer", how="left").merge(attribution, on="quantizer", how="left")
    columns = [
        Column("quantizer", "Quantizer"), _N, Column("full", "Full depth", "percent", True),
        Column("difference", "Minus FP32, points", "points", True),
        Column("top1", "With early exit", "percent", True), _SAVED, _MARGIN,
        Column("fp32_margin", "FP32 margin, points", "points", True),
        Column("attributable", "Attributable, points", "points", True),
        Column("best_full_depth_refit", "Refitted head", "percent", True),
    ]  # fmt: skip
    return build("data-key-figures", "Headline configuration, one row a quantizer", frame, columns)


def quantizers(tables: ReportTables) -> DataTable:
    """What each quantizer covers and costs at full depth."""
    columns = [
        Column("quantizer", "Quantizer"), Column("scheme", "Scheme"), Column("description", "Description"),
        Column("weight_bits", "Weight bits", "count"), Column("activation_bits", "Activation bits", "count"),
        Column("covered_parameters", "Parameters covered", "percent1"),
        Column("covered_macs", "MACs covered", "percent1"), _TOP1, _N,
        Column("difference", "Minus FP32, points", "points", True), _P,
        Column("agreement", "Same answer as FP32", "percent"), Column("churn_rescue", "Newly right", "count"),
        Column("churn_loss", "Newly wrong", "count"), Column("settings", "Settings"),
    ]  # fmt: skip
    return build("data-quantizers", "Quantizers at full depth, no exit", tables.quantizers, columns)


def skipped(tables: ReportTables) -> DataTable:
    """Images that could not be read."""
    columns = [Column("sample", "Sample"), Column("split", "Split"), Column("reason", "Reason")]
    return build("data-skipped", "Skipped images", tables.skipped, columns)

"""Guarantees, seeds, splits, and the correction for many comparisons."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lraee.report import bars, comparisons
from lraee.report.content import ARM, TOP1, Block, N, Panel, arms, panels, with_arm
from lraee.report.datatables import Column, DataTable, build
from lraee.report.intervals import standard_deviation, two_shares
from lraee.report.tables import ReportTables

_SPLIT_USE = {
    "quant": "ranges of static quantizers", "fit": "exit heads, refitted heads and the noise profile",
    "gate": "learned gates and other fitted policies",
    "select": "thresholds, best configurations, the Pareto line and the choice of the refitted head",
    "test": "opened once, for every number shown",
}  # fmt: skip
_MEASURES = {
    "top1": "top-1, %", "margin": "margin, points", "fp32_margin": "FP32 margin, points",
    "attributable": "attributable, points", "refit": "refitted head, %",
    "routed_minus_refit": "headline minus refit, points",
}  # fmt: skip
HELD, UNDECIDED, BROKEN = "held", "held in the estimate only", "broken in the estimate"
SURELY_BROKEN = "broken"


def kept(value: float, low: float, high: float, allowed: float) -> str:
    """What the test split says about a guarantee: the whole interval within, only the estimate, or neither."""
    if value != value or low != low or high != high:
        return "not measured"
    if high <= allowed:
        return HELD
    if low > allowed:
        return SURELY_BROKEN
    return UNDECIDED if value <= allowed else BROKEN


def risk_rows(points: pd.DataFrame) -> pd.DataFrame:
    """The risk-controlled points with what was allowed and what came out on the test split.

    ``realised`` is the disagreement with full depth, or for the accuracy gap the full-depth accuracy minus the routed.
    """
    rows = points[points["study"] == "risk"].copy()
    gap = rows["threshold_rule"] == "risk-accuracy-gap"
    rows["controlled"] = ["accuracy gap" if flag else "disagreement" for flag in gap]
    rows["realised"] = (-rows["margin"]).where(gap, rows["disagreement"])
    rows["realised_low"] = (-rows["margin_high"]).where(gap, rows["disagreement_low"])
    rows["realised_high"] = (-rows["margin_low"]).where(gap, rows["disagreement_high"])
    verdicts = [
        kept(*values) for values in rows[["realised", "realised_low", "realised_high", "risk"]].itertuples(index=False)
    ]
    return rows.assign(kept=verdicts)


def risk(tables: ReportTables) -> Block:
    """Allowed level against what was realised on the test split."""
    rows = risk_rows(tables.points)
    columns = [
        *ARM, Column("controlled", "Controlled risk"), Column("risk", "Allowed", "percent1"),
        Column("realised", "On test, %", "points", True), Column("kept", "Guarantee on test"), N, TOP1,
        Column("saved", "Compute saved", "percent1", True), Column("policy", "Policy"),
    ]  # fmt: skip
    keep = [column.source for column in columns if column.source != "arm"]
    bounds = [f"{name}_{side}" for name in ("realised", "top1", "saved") for side in ("low", "high")]
    shown = with_arm(rows[[*keep, *bounds, "precision", "point", "disagreement", "margin"]])
    delta = tables.provenance.get("delta")
    given = "" if delta is None else f" with probability at least {1 - float(delta):g} (δ = {float(delta):g})"
    return Block(
        "fig-risk",
        f"Thresholds that were chosen on the select split so that{given} over the choice of its images the risk stays "
        "at or below the allowed level, against the risk on the test split with its 95 % interval; a guarantee is kept "
        "below the dashed line. Left: share of images whose answer differs from full depth. Right: accuracy lost "
        "against full depth; negative where early exit gains.",
        panels(tables, "risk", "Allowed against realised risk of risk-controlled thresholds, both arms,",
               lambda name, theme: bars.risk(rows[rows["quantizer"] == name], name, theme)),
        build("data-risk", "Risk-controlled thresholds", shown, columns),
    )  # fmt: skip


def risk_sentence(tables: ReportTables) -> str:
    """How many guarantees held on the test split, and whether the accuracy gap ever bound."""
    rows = risk_rows(tables.points)
    if rows.empty:
        return "No risk-controlled thresholds were run, or none met its level."
    counts = rows["kept"].value_counts()
    told = ", ".join(f"{int(n)} {name}" for name, n in counts.items())
    gap = rows[rows["controlled"] == "accuracy gap"]
    gains = int((gap["realised"] < 0).sum())
    remark = (
        f" In {gains} of {len(gap)} rows on the accuracy gap early exit gained accuracy on the test split: a net "
        "rescue makes the gap negative, so that this risk does not bind and only the disagreement limits anything."
        if gains
        else ""
    )
    return (
        f"Of {len(rows)} risk-controlled points: {told} (held: the whole interval is within the level; held in the "
        "estimate only: the interval reaches beyond). Each guarantee is for one configuration at a time, not for all "
        f"of them together.{remark}"
    )


def seeds(tables: ReportTables) -> Block:
    """Every seed beside the sampling error of the first."""
    columns = [
        Column("quantizer", "Quantizer"), Column("seed", "Seed", "layer"), N, TOP1,
        Column("saved", "Compute saved", "percent1"), Column("margin", "Margin, points", "points", True),
        Column("fp32_margin", "FP32 margin, points", "points", True),
        Column("attributable", "Attributable, points", "points", True),
        Column("refit", "Refitted head", "percent", True),
        Column("routed_minus_refit", "Headline minus refit, points", "points", True),
    ]  # fmt: skip
    alt = "Differences of the headline for every seed as dots beside the bootstrap interval of the first, by quantizer."
    return Block(
        "fig-seeds",
        "Dots: the headline refitted with each seed (heads, gates, and which development images fall into which "
        "split; the test images stay the same); the filled one is the first. Line: 95 % bootstrap interval of the "
        "first seed over test images. Two different errors: dots show what fitting anew changes, the line what other "
        "test images would.",
        (Panel("seeds", alt, lambda theme: comparisons.seeds(tables.seeds, theme)),),
        build("data-seeds", "The headline with every seed", tables.seeds, columns),
    )


def spread_rows(seed_spread: pd.DataFrame) -> pd.DataFrame:
    """The spread over seeds with its chi-square interval, and its ratio to the sampling error."""
    bounds = [standard_deviation(float(sd), float(n)) for sd, n in zip(seed_spread["sd"], seed_spread["seeds"],
                                                                       strict=True)]  # fmt: skip
    labels = [_MEASURES.get(str(name), str(name)) for name in seed_spread["measure"]]
    return seed_spread.assign(
        label=labels, sd_low=[low for low, _ in bounds], sd_high=[high for _, high in bounds],
        ratio=(seed_spread["sd"] / seed_spread["sampling_sd"]).astype(float),
    )  # fmt: skip


def spread(tables: ReportTables) -> DataTable:
    """Standard deviation over seeds beside that over test images, by measure."""
    columns = [
        Column("quantizer", "Quantizer"), Column("label", "Measure"), Column("seeds", "Seeds", "count"),
        Column("mean", "Mean, interval of seeds and test images", "hundredths", True),
        Column("sd", "SD over seeds", "hundredths", True),
        Column("minimum", "Least", "hundredths"), Column("maximum", "Most", "hundredths"),
        Column("sampling_sd", "SD over test images", "hundredths"), Column("ratio", "Ratio", "number"),
    ]  # fmt: skip
    return build("data-seed-spread", "Spread over seeds and over test images", spread_rows(tables.seed_spread), columns)


def splits(tables: ReportTables) -> DataTable:
    """What every split was used for, and how many images it has."""
    frame = pd.DataFrame(
        [{"split": name, "n": n, "use": _SPLIT_USE.get(str(name), "")} for name, n in tables.images_by_split.items()],
        columns=["split", "n", "use"],
    )
    columns = [Column("split", "Split"), Column("n", "Images", "count"), Column("use", "Its one use")]
    return build("data-splits", "Splits", frame, columns)


def optimism(tables: ReportTables, quantizer: str, precision: str) -> dict[str, Any] | None:
    """Headline accuracy on select minus on test, two independent sets of images, with Newcombe's interval."""
    headline = tables.headline(quantizer, precision)
    sizes = tables.images_by_split
    if headline is None or "select" not in sizes:
        return None
    chosen, shown, n = float(headline["select_top1"]), float(headline["top1"]), float(sizes["select"])
    low, high = two_shares(chosen, n, shown, float(headline["n"]))
    return {
        "quantizer": quantizer, "precision": precision, "select_top1": chosen, "n_select": n, "top1": shown,
        "n": float(headline["n"]), "optimism": chosen - shown, "optimism_low": low, "optimism_high": high,
    }  # fmt: skip


def leakage(tables: ReportTables) -> DataTable:
    """How much better the headline looks where its thresholds were chosen."""
    found = [optimism(tables, *arm) for arm in arms(tables)]
    names = ["quantizer", "precision", "select_top1", "n_select", "top1", "n", "optimism", "optimism_low",
             "optimism_high"]  # fmt: skip
    frame = pd.DataFrame([row for row in found if row is not None], columns=names)
    columns = [
        *ARM, Column("select_top1", "Top-1 on select", "percent"), Column("n_select", "n of select", "count"),
        Column("top1", "Top-1 on test", "percent"), N,
        Column("optimism", "Select minus test, points", "points", True),
    ]  # fmt: skip
    return build("data-leakage", "Optimism of the headline on the split that chose it", with_arm(frame), columns)


def holm_rows(points: pd.DataFrame) -> pd.DataFrame:
    """Routed and static points by arm: how many differ from full depth before and after Holm's correction."""
    tested = points[points["mcnemar_p_holm"].notna() & (points["study"] != "full-depth")]
    rows = []
    for (quantizer, precision), part in tested.groupby(["quantizer", "precision"], sort=False):
        raw, holm = part["mcnemar_p"] < 0.05, part["mcnemar_p_holm"] < 0.05
        up, down = part["margin"] > 0, part["margin"] < 0
        rows.append({
            "quantizer": quantizer, "precision": precision, "points": len(part), "n": part["n"].max(),
            "raw_up": int((raw & up).sum()), "raw_down": int((raw & down).sum()), "up": int((holm & up).sum()),
            "down": int((holm & down).sum()),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=["quantizer", "precision", "points", "n", "raw_up", "raw_down", "up", "down"])


def holm(tables: ReportTables) -> DataTable:
    """How many points differ from full depth, with the correction for all of them."""
    columns = [
        *ARM, Column("points", "Points", "count"), N, Column("raw_up", "Better, p < 0.05", "count"),
        Column("up", "after Holm", "count"), Column("raw_down", "Worse, p < 0.05", "count"),
        Column("down", "after Holm", "count"),
    ]  # fmt: skip
    return build("data-holm", "Points that differ from full depth", with_arm(holm_rows(tables.points)), columns)

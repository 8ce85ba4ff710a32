"""Gates: what each feature is worth, how well they tell right from wrong, and the thresholds that were chosen."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lraee.names import FP32
from lraee.report import comparisons
from lraee.report.content import ARM, TOP1, Block, N, P, Panel, panels, with_arm
from lraee.report.datatables import Column, DataTable, build
from lraee.report.intervals import auroc, rank_correlation
from lraee.report.tables import ReportTables


def ablations(tables: ReportTables) -> Block:
    """One setting changed at a time."""
    columns = [
        *ARM, Column("axis", "Axis"), Column("setting", "Setting"), Column("is_base", "Base", "flag"), TOP1, N,
        Column("saved", "Compute saved", "percent1"), Column("difference", "Minus base, points", "points", True), P,
    ]  # fmt: skip
    return Block(
        "fig-ablations",
        "Accuracy with one setting changed, minus that of the base configuration on the same images; bars are 95 % "
        "paired bootstrap intervals. Settings can differ in compute as well: see the column Compute saved.",
        panels(tables, "ablations", "Difference in accuracy to the base configuration for each changed setting,",
               lambda name, theme: comparisons.ablations(tables.ablations, name, theme)),
        build("data-ablations", "Ablations", with_arm(tables.ablations), columns),
    )  # fmt: skip


def _right_at(tables: ReportTables, row: pd.Series[Any]) -> float:
    """How many of all test images the headline's head at this exit gets right; NaN where that was not measured."""
    headline = tables.headline(str(row["quantizer"]), str(row["precision"]))
    if headline is None:
        return float("nan")
    arm = tables.arm(str(row["quantizer"]), str(row["precision"]))
    same = (arm["study"] == "static") & (arm["layers"] == str(int(row["layer"])))
    for name in ("aggregation", "supervision"):
        same &= arm[name] == headline[name]
    return float(arm.loc[same, "correct"].iloc[0]) if same.any() else float("nan")


def selectivity_rows(tables: ReportTables) -> pd.DataFrame:
    """AUROC of the headline's readiness at every exit, with Hanley and McNeil's interval, n and the right images."""
    rows = tables.exits[tables.exits["auroc"].notna()]
    records = []
    for _, row in rows.iterrows():
        headline = tables.headline(str(row["quantizer"]), str(row["precision"]))
        n, right = float("nan") if headline is None else float(headline["n"]), _right_at(tables, row)
        low, high = auroc(float(row["auroc"]), right, n - right)
        records.append({
            **row[["quantizer", "precision", "layer", "auroc"]].to_dict(), "auroc_low": low, "auroc_high": high,
            "n": n, "right": right,
        })  # fmt: skip
    names = ["quantizer", "precision", "layer", "auroc", "auroc_low", "auroc_high", "n", "right"]
    return pd.DataFrame(records, columns=names)


def selectivity(tables: ReportTables) -> Block:
    """The paper's section 7.2: does the gate know which exits are right?"""
    rows = selectivity_rows(tables)
    columns = [
        *ARM, Column("layer", "Exit after block", "layer"), Column("auroc", "AUROC", "ratio"),
        Column("auroc_low", "95 % from", "ratio"), Column("auroc_high", "to", "ratio"), N,
        Column("right", "Right at this exit", "count"),
    ]  # fmt: skip
    alt = "AUROC of the headline's gate at every exit with 95 % intervals, for each quantizer and its FP32 control."
    return Block(
        "fig-selectivity",
        "How well the headline's readiness tells images that an exit gets right from those it gets wrong, over all "
        "test images: area under the ROC curve (0.5 is a coin, 1 is perfect), with 95 % intervals after Hanley and "
        "McNeil. It says nothing about whether full depth would have been right, too.",
        (Panel("selectivity", alt, lambda theme: comparisons.selectivity(rows, theme)),),
        build("data-selectivity", "Selectivity of the gate by exit", with_arm(rows), columns),
    )


def thresholds(tables: ReportTables) -> DataTable:
    """The headline's thresholds under every rule and budget, with the INR of each layer."""
    columns = [
        *ARM, Column("threshold_rule", "Rule"), Column("budget", "Budget", "percent1"),
        Column("layer", "Exit after block", "layer"), Column("threshold", "Threshold", "number"),
        Column("inr", "INR of the layer", "ratio"),
    ]  # fmt: skip
    return build("data-thresholds", "Thresholds of the headline's gate", with_arm(tables.thresholds), columns)


def rank_rows(thresholds_of: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of threshold and INR over the exits of every rule and budget; NaN where a side is constant."""
    keys = ["quantizer", "precision", "threshold_rule", "budget"]
    rows = [
        {**dict(zip(keys, key, strict=True)), "exits": len(part),
         "correlation": rank_correlation(part["inr"].tolist(), part["threshold"].tolist())}
        for key, part in thresholds_of.groupby(keys, sort=False, dropna=False)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*keys, "exits", "correlation"])


def ranks(tables: ReportTables) -> DataTable:
    """Does a layer with a higher INR get a lower threshold? A description, without a test."""
    columns = [
        *ARM, Column("threshold_rule", "Rule"), Column("budget", "Budget", "percent1"),
        Column("exits", "Exits", "count"), Column("correlation", "Spearman, INR and threshold", "number"),
    ]  # fmt: skip
    return build("data-ranks", "INR against threshold, by rule and budget", with_arm(rank_rows(tables.thresholds)),
                 columns)  # fmt: skip


def rank_sentence(tables: ReportTables) -> str:
    """How often a higher INR went with a lower threshold in the quantized arms; describes, claims nothing."""
    rows = rank_rows(tables.thresholds)
    found = rows.loc[rows["precision"] != FP32, "correlation"].dropna()
    if found.empty:
        return "No rule gave the exits different thresholds, so there is nothing to correlate with the INR."
    lower, higher = int((found < 0).sum()), int((found > 0).sum())
    return (
        f"Of {len(found)} choices of thresholds in the quantized arms that differ between exits, layers with a higher "
        f"INR got lower thresholds in {lower} and higher ones in {higher} (sign of Spearman's rank correlation over "
        "the exits). With so few exits a choice this is a description, not a test."
    )

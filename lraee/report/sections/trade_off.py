"""Accuracy against compute: main results, baselines, heuristics, exits, quadrants and classes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lraee.names import FP32
from lraee.report import bars, comparisons, figures, layers
from lraee.report.content import ARM, HOLM, MARGIN, SAVED, TOP1, Block, N, P, Panel, arms, panels, rounded, with_arm
from lraee.report.datatables import Column, DataTable, build
from lraee.report.tables import ReportTables
from lraee.report.wording import names, percent, points

_RESULT_COLUMNS = [
    ARM[0], Column("role", "Configuration"), Column("policy", "Policy"), Column("aggregation", "Head on"),
    Column("supervision", "Supervision"), TOP1, N, MARGIN, Column("saved", "Compute saved", "percent1", True),
    Column("saved_blocks", "Blocks alone (paper)", "percent1"), Column("bops_saved", "BOPs saved", "percent1"),
    Column("disagreement", "Differs from full depth", "percent", True), P, HOLM,
]  # fmt: skip


def roles(pairs: list[tuple[str, pd.DataFrame | pd.Series[Any] | None]]) -> pd.DataFrame:
    """Operating points one below the other with what each is; one that comes twice stays where it came first."""
    frames = [
        (item.to_frame().T if isinstance(item, pd.Series) else item).assign(role=role)
        for role, item in pairs
        if item is not None and len(item)
    ]
    rows = pd.concat(frames, ignore_index=True).infer_objects() if frames else pd.DataFrame(columns=["point"])
    return rows.drop_duplicates("point")


def _all_arms(tables: ReportTables, rows_of: Any, control: bool) -> pd.DataFrame:
    """What ``rows_of(tables, quantizer, precision)`` gives for every quantized arm, or for every control."""
    found = [rows_of(tables, *arm) for arm in arms(tables) if (arm[1] == FP32) is control]
    found = [rows for rows in found if len(rows)]
    return with_arm(pd.concat(found, ignore_index=True) if found else tables.points.iloc[:0].assign(role=""))


def _main(tables: ReportTables, quantizer: str, precision: str) -> pd.DataFrame:
    """Full depth, the headline at every budget, the best of the grid and the best on a refitted head, of one arm."""
    arm, headline = tables.arm(quantizer, precision), tables.headline(quantizer, precision)
    best, on_refit = tables.best_of_grid(quantizer), tables.best_on_refit(quantizer)
    if precision != quantizer:
        best = None if best is None else tables.counterpart(best)
        on_refit = None if on_refit is None else tables.counterpart(on_refit)
    budgets = arm.iloc[:0] if headline is None else tables.like(headline, free=("budget",)).sort_values("budget")
    return roles([
        ("full depth, own head", arm[arm["study"] == "full-depth"]),
        ("headline", headline),
        *((f"headline at budget {percent(row['budget'], 0)}", row) for _, row in budgets.iterrows()),
        ("best of the grid on select", best),
        ("best on a refitted head", on_refit),
    ])  # fmt: skip


def main_results(tables: ReportTables, control: bool = False) -> DataTable:
    """The paper's Table 1: what early exit does at every budget, in the quantized arms or in their controls."""
    frame = rounded(_all_arms(tables, _main, control))
    if control:
        return build("data-main-results-fp32", "Main results of the FP32 controls", frame, _RESULT_COLUMNS)
    return build("data-main-results", "Main results of the quantized models", frame, _RESULT_COLUMNS)


def _candidates(tables: ReportTables, headline: pd.Series[Any]) -> set[str]:
    """The layers that were candidates for an exit, as texts; the headline's own where that is not recorded."""
    given = tables.provenance.get("candidates")
    return {str(layer) for layer in given} if isinstance(given, list) else set(str(headline["layers"]).split(","))


def _at_budget(tables: ReportTables, headline: pd.Series[Any], **changed: str) -> pd.DataFrame:
    """Every policy at the headline's budget, under the headline's threshold rule or, without such a row, its own."""
    rows = tables.like(headline, free=("policy", "gate_features", "threshold_rule"), **changed)
    same = rows["threshold_rule"] == headline["threshold_rule"]
    return rows[same | ~rows["policy"].isin(rows.loc[same, "policy"])]


def _baseline(tables: ReportTables, quantizer: str, precision: str) -> pd.DataFrame:
    """Every way of leaving early that competes with the headline at its budget, of one arm."""
    arm, headline = tables.arm(quantizer, precision), tables.headline(quantizer, precision)
    if headline is None:
        return arm.iloc[:0]
    depth = str(tables.provenance.get("depth", ""))
    static = arm[(arm["study"] == "static") & (arm["supervision"] == headline["supervision"])]
    on_cls = _at_budget(tables, headline, aggregation="cls")
    bound = arm[arm["study"] == "bound"]
    on_refit = tables.best_on_refit(quantizer) if precision == quantizer else None
    return roles([
        ("full depth, own head", arm[arm["study"] == "full-depth"]),
        ("headline", headline),
        ("policy at the headline's budget", _at_budget(tables, headline)),
        ("CLS-EE: exits on [CLS]", on_cls[on_cls["policy"].isin([headline["policy"], "confidence"])]),
        ("static exit", static[static["layers"].isin(_candidates(tables, headline))]),
        ("refitted head at full depth", static[static["layers"] == depth]),
        ("risk-controlled", arm[arm["study"] == "risk"]),
        ("best on a refitted head", on_refit),
        ("random at the headline's rates", bound[bound["policy"] == "random"]),
        ("oracle (uses test labels)", bound[bound["policy"] == "oracle"]),
    ])  # fmt: skip


def baselines(tables: ReportTables, control: bool = False) -> DataTable:
    """The paper's Table 2: other ways of leaving early, and the two bounds."""
    frame = rounded(_all_arms(tables, _baseline, control))
    columns = [
        ARM[0], Column("role", "Configuration"), Column("policy", "Policy"), Column("aggregation", "Head on"),
        Column("supervision", "Supervision"), Column("layers", "Exits"), Column("threshold_rule", "Rule"),
        Column("risk", "Allowed risk", "percent1"), TOP1, N, MARGIN, Column("saved", "Compute saved", "percent1", True),
        Column("disagreement", "Differs from full depth", "percent"), P, HOLM,
    ]  # fmt: skip
    if control:
        return build("data-baselines-fp32", "Baselines of the FP32 controls", frame, columns)
    return build("data-baselines", "Baselines of the quantized models at the headline's budget", frame, columns)


def heuristics(tables: ReportTables) -> Block:
    """The paper's Fig. 3: the learned gate against heuristics over the whole sweep of thresholds."""
    rows = tables.sweep[tables.sweep["is_base"].astype(bool)]
    full = tables.points[tables.points["study"] == "full-depth"]

    def draw(name: str, theme: Any) -> Any:
        own, headline = full[full["quantizer"] == name], tables.headline(name, name)
        reference = dict(zip(own["precision"], own["top1"], strict=True))
        policy = "" if headline is None else str(headline["policy"])
        return layers.heuristics(rows[rows["quantizer"] == name], reference, policy, name, theme)

    columns = [
        *ARM, Column("policy", "Policy"), Column("layers", "Exits"), Column("threshold", "Threshold τ", "number"),
        TOP1, N, SAVED, Column("saved_blocks", "Blocks alone (paper)", "percent1"),
    ]  # fmt: skip
    return Block(
        "fig-heuristics",
        "Every policy at the headline's exits and heads, over one threshold τ for all exits; nothing is chosen here. "
        "The headline's policy is thick, with 95 % Wilson intervals as a band; those of the others are as wide and "
        "stand in the data. Dotted: full depth without exits. Axes differ between panels.",
        panels(tables, "heuristics", "Accuracy against compute saved for each policy over all thresholds, both arms,",
               draw),
        build("data-heuristics", "Every policy over all thresholds", rounded(with_arm(rows)), columns),
    )  # fmt: skip


def exits(tables: ReportTables) -> Block:
    """Where images leave, and whether they had better stayed."""
    rows = tables.exits
    columns = [
        *ARM, Column("layer", "Blocks executed", "layer"), N, Column("share", "Share", "percent1"),
        Column("accuracy_exit", "Accuracy at exit", "percent", True),
        Column("accuracy_full", "Same images at full depth", "percent", True),
    ]  # fmt: skip
    return Block(
        "fig-exits",
        "Top: share of test images that leave at each exit of the headline configuration (count above the bar); the "
        "last bar went to the end. Bottom: accuracy of these images at the exit, and of the same images had they been "
        "forced to full depth, with 95 % Wilson intervals. Leaving early helps where the dot is above the diamond.",
        panels(tables, "exits", "Exit histogram, and accuracy at the exit against the same images at full depth,",
               lambda name, theme: figures.exits(rows[rows["quantizer"] == name], tables.arms(name), theme)),
        build("data-exits", "Exits of the headline configurations", with_arm(rows), columns),
    )  # fmt: skip


def settled(tables: ReportTables) -> DataTable:
    """Accuracy of everything that left early, at the exit and forced to full depth, one row an arm."""
    columns = [
        *ARM, N, Column("n_early", "Left early", "count"), Column("share", "Share", "percent1"),
        Column("accuracy_exit", "Right at the exit", "percent", True),
        Column("accuracy_full", "Same images at full depth", "percent", True),
        Column("difference", "Exit minus full depth, points", "points", True), P,
        Column("n_rest", "The rest", "count"), Column("accuracy_rest", "The rest, at full depth", "percent", True),
    ]  # fmt: skip
    return build("data-settled", "All early exits together", with_arm(tables.early), columns)


def quadrants(tables: ReportTables) -> Block:
    """Rescue and loss of the headline configurations."""
    rows = tables.points[tables.points["headline"]]
    columns = [
        *ARM, N, Column("both_right", "Both right", "count"), Column("rescue", "Rescue", "count"),
        Column("loss", "Loss", "count"), Column("both_wrong", "Both wrong", "count"), MARGIN, P, HOLM, TOP1, SAVED,
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


def classes(tables: ReportTables) -> Block:
    """The paper's section 7.1: rescue class by class."""
    strength = tables.classes["margin"].astype(float).abs()
    rows = tables.classes.assign(strength=strength).sort_values("strength", ascending=False, kind="stable")
    rows = rows.drop(columns="strength")
    columns = [
        Column("quantizer", "Quantizer"), Column("name", "Class"), N, Column("full_top1", "Full depth", "percent1"),
        Column("top1", "With early exit", "percent1"), Column("rescue", "Rescue", "count"),
        Column("loss", "Loss", "count"), Column("margin", "Margin, points", "points"),
        Column("fp32_margin", "FP32 margin, points", "points"), P, HOLM,
    ]  # fmt: skip
    return Block(
        "fig-classes",
        "Margin of the headline (rescue minus loss, in points of the class's images) for every class, from the "
        "strongest loss to the strongest rescue, and of the same class in the FP32 control. Large marks are classes "
        "whose McNemar test stays below 0.05 after Holm's correction over the classes. With few images a class, most "
        "of the spread is chance, so single classes have no intervals but the corrected test.",
        panels(tables, "classes", "Rescue margin of every class, sorted, quantized and FP32 control,",
               lambda name, theme: bars.classes(rows[rows["quantizer"] == name], name, theme)),
        build("data-classes", "Classes, strongest change first", rows, columns),
    )  # fmt: skip


def _class_row(quantizer: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Classes of one quantizer in numbers, with the three strongest in either direction."""
    order = rows.sort_values("margin", kind="stable")

    def strongest(part: pd.DataFrame) -> str:
        return names([f"{name} ({points(float(margin))})" for name, margin in zip(part["name"], part["margin"],
                                                                                 strict=True)])  # fmt: skip

    significant = rows["mcnemar_p_holm"] < 0.05
    return {
        "quantizer": quantizer, "classes": len(rows), "n": rows["n"].median(), "up": int((rows["margin"] > 0).sum()),
        "down": int((rows["margin"] < 0).sum()), "up_holm": int((significant & (rows["margin"] > 0)).sum()),
        "down_holm": int((significant & (rows["margin"] < 0)).sum()),
        "rescued": strongest(order[order["margin"] > 0].tail(3).iloc[::-1]),
        "lost": strongest(order[order["margin"] < 0].head(3)),
    }  # fmt: skip


def class_summary(tables: ReportTables) -> DataTable:
    """How many classes gain and lose, and which most."""
    found = [_class_row(str(name), rows) for name, rows in tables.classes.groupby("quantizer", sort=False)]
    columns = [
        Column("quantizer", "Quantizer"), Column("classes", "Classes", "count"),
        Column("n", "Images a class (median)", "count"), Column("up", "Gain", "count"),
        Column("up_holm", "of these p < 0.05 (Holm)", "count"), Column("down", "Lose", "count"),
        Column("down_holm", "of these p < 0.05 (Holm)", "count"), Column("rescued", "Strongest rescues, points"),
        Column("lost", "Strongest losses, points"),
    ]  # fmt: skip
    frame = pd.DataFrame(found, columns=[column.source for column in columns])
    return build("data-class-summary", "Classes in numbers", frame, columns)

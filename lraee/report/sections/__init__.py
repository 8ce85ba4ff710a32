"""The sections of the report by topic, one module each; this file lists what the template shows under which name."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from lraee.report import content
from lraee.report.content import Block
from lraee.report.datatables import DataTable
from lraee.report.sections import (
    composition,
    controls,
    cost,
    gates,
    noise,
    remarks,
    runtime,
    sensitivity,
    statistics,
    trade_off,
)
from lraee.report.tables import ReportTables


def blocks(tables: ReportTables) -> dict[str, tuple[Callable[[ReportTables], Block], pd.DataFrame]]:
    """Every figure with the rows that it needs; without any, the section says that it was not run."""
    points = tables.points
    study = {name: points[points["study"] == name] for name in ("static", "risk")}
    return {
        "noise": (noise.noise, tables.noise),
        "activations": (noise.activations, tables.noise),
        "toggles": (noise.toggles, noise.toggled(tables)),
        "frontier": (content.frontier, points),
        "heuristics": (trade_off.heuristics, tables.sweep),
        "exits": (trade_off.exits, tables.exits),
        "quadrants": (trade_off.quadrants, points),
        "classes": (trade_off.classes, tables.classes),
        "attribution": (controls.attribution, tables.attribution),
        "strong": (controls.strong, tables.controls),
        "composition": (composition.accuracy, points),
        "bops": (composition.bops, points),
        "allocation": (composition.allocation, tables.allocation),
        "searches": (composition.searches, tables.searches),
        "static": (controls.static, study["static"]),
        "factorial": (controls.factorial, points),
        "refit": (controls.refit, tables.attribution),
        "ablations": (gates.ablations, tables.ablations),
        "selectivity": (gates.selectivity, tables.exits[tables.exits["auroc"].notna()]),
        "risk": (statistics.risk, study["risk"]),
        "seeds": (statistics.seeds, tables.seeds),
        "costs": (cost.costs, tables.costs),
        "latency": (runtime.latency, tables.latency),
        "conversion": (runtime.conversion, tables.conversion),
        "sensitivity": (sensitivity.sensitivity, tables.sensitivity),
    }


def data(tables: ReportTables) -> dict[str, DataTable]:
    """Every table that stands on its own, without a figure; it may be without rows."""
    return {
        "key_figures": content.key_figures(tables),
        "main_results": trade_off.main_results(tables),
        "main_results_fp32": trade_off.main_results(tables, control=True),
        "baselines": trade_off.baselines(tables),
        "baselines_fp32": trade_off.baselines(tables, control=True),
        "settled": trade_off.settled(tables),
        "class_summary": trade_off.class_summary(tables),
        "quantizers": controls.quantizers(tables),
        "rivals": composition.rivals(tables),
        "calibration_costs": composition.calibration_costs(tables),
        "cls_ssa": controls.cls_against_ssa(tables),
        "label_free": controls.label_free(tables),
        "thresholds": gates.thresholds(tables),
        "ranks": gates.ranks(tables),
        "spread": statistics.spread(tables),
        "splits": statistics.splits(tables),
        "leakage": statistics.leakage(tables),
        "holm": statistics.holm(tables),
        "accounting": cost.accounting(tables),
        "agreement": runtime.agreement(tables),
        "disagreements": runtime.disagreements(tables),
        "remark_causes": remarks.causes(tables),
        "remarks": remarks.files(tables),
    }


def sentences(tables: ReportTables) -> dict[str, str]:
    """Sentences worded from the data, by the section that they stand in."""
    return {
        "ranks": gates.rank_sentence(tables),
        "risk": statistics.risk_sentence(tables),
        "overhead": cost.overhead_sentence(tables),
        "remarks": remarks.sentence(tables),
        "time": runtime.time_sentence(tables),
    }

"""How far the result depends on settings that were fixed beforehand."""

from __future__ import annotations

from lraee.report import layers
from lraee.report.content import ARM, MARGIN, TOP1, Block, N, P, panels, with_arm
from lraee.report.datatables import Column, build
from lraee.report.tables import ReportTables


def sensitivity(tables: ReportTables) -> Block:
    """One curve an axis, in both arms."""
    rows = tables.sensitivity
    columns = [
        *ARM, Column("axis", "Axis"), Column("value", "Value"), Column("is_base", "Base", "flag"),
        Column("point_layers", "Exits"), TOP1, N, Column("saved", "Compute saved", "percent1"), MARGIN,
        Column("difference", "Minus base, points", "points", True), P,
        Column("attributable", "Attributable, points", "points", True),
    ]  # fmt: skip
    return Block(
        "fig-sensitivity",
        "Margin of the headline over full depth when one setting is varied and everything after it is fitted anew, "
        "with 95 % paired bootstrap intervals; a ring marks the value of the headline. The paired difference to the "
        "base and what quantization explains at every value are in the data. Axes differ between panels.",
        panels(tables, "sensitivity", "Margin of early exit over each varied setting with 95 % intervals, both arms,",
               lambda name, theme: layers.sensitivity(rows[rows["quantizer"] == name], name, theme)),
        build("data-sensitivity", "Sensitivity", with_arm(rows), columns),
    )  # fmt: skip

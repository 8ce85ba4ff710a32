"""Figures of estimates with intervals, most of them one below the other: from the quadrants to the static exits.

As in ``figures``: pure functions from a tidy frame to a Matplotlib figure, called inside ``style.render_svg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lraee.names import FP32
from lraee.report.figures import Limits, errors, short
from lraee.report.style import PANEL_WIDTH, Theme
from lraee.report.wording import arm_label, number

ROW = 0.27  # inches a row of a dot-and-interval figure takes


@dataclass(frozen=True)
class Dot:
    """An estimate with its interval, all shares; ``offset`` moves it off the centre of its row, in rows."""

    value: float
    low: float
    high: float
    colour: str
    marker: str
    offset: float = 0.0
    size: float = 6.0


@dataclass(frozen=True)
class DotRow:
    """A labelled row of dots; a row without dots is a heading."""

    label: str
    dots: tuple[Dot, ...] = ()


def _signed_axis(axes: Axes, label: str) -> None:
    """A horizontal axis in signed points with a line at 0."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{number(value, 3, True).rstrip('0').rstrip('.')}"))


def dot_rows(axes: Axes, rows: Sequence[DotRow], theme: Theme, reference: float = 0.0) -> None:
    """Draw rows from top to bottom: bold headings, and dots with their intervals, times 100, around a reference."""
    ticks = [index for index, row in enumerate(rows) if row.dots]
    axes.axvline(100 * reference, color=theme.ink, linewidth=1, zorder=1.5)
    axes.grid(axis="y", visible=False)
    for index, row in enumerate(rows):
        if not row.dots:
            axes.text(
                0.01, index + 0.1, short(row.label, 44), fontweight="bold", va="center",
                transform=axes.get_yaxis_transform(),
                bbox={"facecolor": theme.surface, "edgecolor": "none", "pad": 1.0},  # keeps the reference's line off it
            )  # fmt: skip
        for dot in row.dots:
            y = index + dot.offset
            axes.plot([100 * dot.low, 100 * dot.high], [y, y], color=dot.colour, linewidth=1.8, zorder=2)
            axes.plot([100 * dot.value], [y], dot.marker, color=dot.colour, markersize=dot.size, zorder=3)
    axes.set_yticks(ticks, [short(rows[index].label, 30) for index in ticks])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _dot_figure(rows: Sequence[DotRow], label: str, theme: Theme, title: str = "") -> tuple[Figure, Axes]:
    """A figure of dot rows, as tall as they need."""
    figure = Figure(figsize=(PANEL_WIDTH, 1.3 + ROW * len(rows)), layout="constrained")
    axes = figure.subplots()
    dot_rows(axes, rows, theme)
    _signed_axis(axes, label)
    if title:
        axes.set_title(short(title))
    return figure, axes


def _arm_handles(theme: Theme) -> list[Line2D]:
    """Legend entries of the two arms."""
    return [
        Line2D([], [], linestyle="none", color=theme.quantized, marker="o", label="quantized"),
        Line2D([], [], linestyle="none", color=theme.control, marker="s", label="FP32 control"),
    ]


def _dot(row: Any, name: str, colour: str, marker: str, offset: float = 0.0) -> Dot:
    """The dot of column ``name`` of a row of a frame."""
    return Dot(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]), colour, marker, offset)


def quadrants(headline: pd.DataFrame, theme: Theme) -> Figure:
    """Rescue (right) against loss (left) as bars in percent of images, and their net, for every headline point."""
    layout: list[DotRow] = []
    bars: list[tuple[int, pd.Series[Any]]] = []
    for quantizer, group in headline.groupby("quantizer", sort=False):
        layout.append(DotRow(str(quantizer)))
        for _, row in group.iterrows():
            bars.append((len(layout), row))
            control = row["precision"] == FP32
            layout.append(DotRow("FP32 control" if control else "quantized", (_dot(row, "margin", theme.ink, "d"),)))
    figure, axes = _dot_figure(layout, "images whose answer changed (% of all), net in points", theme)
    for index, row in bars:
        colour = theme.arm(row["precision"] == FP32)
        axes.barh(index, 100 * row["rescue"] / row["n"], height=0.62, color=colour, linewidth=0)
        axes.barh(index, -100 * row["loss"] / row["n"], height=0.62, color=colour, alpha=0.4, linewidth=0)
    handles = [
        Line2D([], [], color=theme.muted, linewidth=7, alpha=0.4, label="loss"),
        Line2D([], [], color=theme.muted, linewidth=7, label="rescue"),
        Line2D([], [], color=theme.ink, marker="d", label="margin, 95 %"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def attribution(table: pd.DataFrame, theme: Theme) -> Figure:
    """Rescue margin under the quantizer, in FP32, and their difference, with intervals, in points."""
    layout: list[DotRow] = []
    for _, row in table.iterrows():
        layout += [
            DotRow(str(row["quantizer"])),
            DotRow("quantized", (_dot(row, "margin", theme.quantized, "o"),)),
            DotRow("FP32 control", (_dot(row, "fp32_margin", theme.control, "s"),)),
            DotRow("difference", (_dot(row, "attributable", theme.ink, "D"),)),
        ]
    return _dot_figure(layout, "rescue margin (percentage points)", theme)[0]


def ablations(table: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """Change of accuracy against the base configuration, by axis and setting, of one quantizer and its control."""
    rows = table[table["quantizer"] == quantizer]
    layout: list[DotRow] = []
    for axis, group in rows.groupby("axis", sort=False):
        layout.append(DotRow(str(axis)))
        for setting, pair in group.groupby("setting", sort=False):
            base = bool(pair["is_base"].any())
            dots = tuple(_ablation_dot(row, theme) for _, row in pair.iterrows())
            layout.append(DotRow(f"base: {setting}" if base else str(setting), dots))
    figure, _ = _dot_figure(layout, "top-1 minus base (percentage points)", theme, quantizer)
    figure.legend(handles=_arm_handles(theme), loc="outside lower center", ncols=2)
    return figure


def _ablation_dot(row: Any, theme: Theme) -> Dot:
    """The dot of one setting and arm; the base is by definition at 0, with no interval."""
    control = row["precision"] == FP32
    colour, marker, offset = theme.arm(control), "s" if control else "o", 0.17 if control else -0.17
    return (
        Dot(0.0, 0.0, 0.0, colour, marker, offset)
        if row["is_base"]
        else _dot(row, "difference", colour, marker, offset)
    )


def _arm_dot(row: Any, name: str, theme: Theme) -> Dot:
    """The dot of column ``name`` in the colour, mark and place of its arm."""
    control = row["precision"] == FP32
    return _dot(row, name, theme.arm(control), "s" if control else "o", 0.17 if control else -0.17)


def factorial(rows: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """Margin over full depth of every head, supervision and routing, both arms; full depth itself is the line at 0."""
    layout: list[DotRow] = []
    kinds = rows[rows["aggregation"].isin(["ssa", "cls"])]
    for head, group in kinds.groupby("aggregation", sort=False):
        layout.append(DotRow({"ssa": "head on the patches (SSA)", "cls": "head on [CLS]"}[str(head)]))
        for role, pair in group.groupby("role", sort=False):
            label = str(role).split(" ", 1)[1]
            layout.append(DotRow(label, tuple(_arm_dot(row, "margin", theme) for _, row in pair.iterrows())))
    figure, _ = _dot_figure(layout, "top-1 minus own full depth (points)", theme, quantizer)
    figure.legend(handles=_arm_handles(theme), loc="outside lower center", ncols=2)
    return figure


def strong(rows: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """The routed headline of a quantizer minus the full depth of every other model; colour tells the other's bits."""
    headings = {"itself": "its own full depth", "no more bits": "others with no more bits",
                "more bits": "models with more bits"}  # fmt: skip
    layout: list[DotRow] = []
    for kind, heading in headings.items():
        part = rows[rows["comparison"] == kind]
        layout += [DotRow(heading)] if len(part) else []
        colour = theme.muted if kind == "more bits" else theme.quantized
        layout += [
            DotRow(f"{short(str(row['other']), 20)} ({row['other_bits']})", (_dot(row, "difference", colour, "o"),))
            for _, row in part.iterrows()
        ]
    bits = f" ({rows['bits'].iloc[0]})" if len(rows) else ""
    return _dot_figure(layout, "routed minus other at full depth (points)", theme, f"{short(quantizer, 26)}{bits}")[0]


def refit(table: pd.DataFrame, theme: Theme) -> Figure:
    """The headline, the best exits and routing on top of the refit, each minus the refitted head, by quantizer."""
    parts = (("routed_minus_refit", "headline", "o"), ("best_minus_refit", "best exits of the grid", "D"),
             ("on_refit_minus_refit", "routing on the refit", "s"))  # fmt: skip
    layout: list[DotRow] = []
    for _, row in table.iterrows():
        layout.append(DotRow(str(row["quantizer"])))
        colours = (theme.quantized, theme.ink, theme.series[0])
        layout += [
            DotRow(label, (_dot(row, name, colour, marker),))
            for (name, label, marker), colour in zip(parts, colours, strict=True)
            if pd.notna(row[name])
        ]
    return _dot_figure(layout, "minus the refitted head at full depth (points)", theme)[0]


def seeds(table: pd.DataFrame, theme: Theme) -> Figure:
    """Every seed as a dot, the first with its bootstrap interval, by quantizer and measure."""
    parts = (("margin", "margin", theme.quantized), ("fp32_margin", "FP32 margin", theme.control),
             ("attributable", "attributable", theme.ink),
             ("routed_minus_refit", "headline minus refit", theme.series[0]))  # fmt: skip
    layout: list[DotRow] = []
    for quantizer, group in table.groupby("quantizer", sort=False):
        layout.append(DotRow(str(quantizer)))
        first, others = group.iloc[0], group.iloc[1:]
        for name, label, colour in parts:
            more = tuple(Dot(value, value, value, colour, "o", 0.2, 3.4) for value in others[name].astype(float))
            layout.append(DotRow(label, (_dot(first, name, colour, "o", -0.12), *more)))
    return _dot_figure(layout, "percentage points", theme)[0]


def selectivity(rows: pd.DataFrame, theme: Theme) -> Figure:
    """AUROC of the gate at every exit, both arms, by quantizer; the line at 50 % is a coin."""
    layout: list[DotRow] = []
    for quantizer, group in rows.groupby("quantizer", sort=False):
        layout.append(DotRow(str(quantizer)))
        for layer, pair in group.groupby("layer"):
            dots = tuple(_arm_dot(row, "auroc", theme) for _, row in pair.iterrows())
            layout.append(DotRow(f"exit after {layer}", dots))
    figure = Figure(figsize=(PANEL_WIDTH, 1.3 + ROW * len(layout)), layout="constrained")
    axes = figure.subplots()
    dot_rows(axes, layout, theme, reference=0.5)
    axes.set_xlabel("AUROC (%; a coin has 50)")
    figure.legend(handles=_arm_handles(theme), loc="outside lower center", ncols=2)
    return figure


def static_limits(static: pd.DataFrame) -> Limits:
    """Limits in percent that show the accuracy of every static exit of all panels."""
    if static.empty:
        return 0.0, 100.0
    low, high = 100 * float(static["top1_low"].min()), 100 * float(static["top1_high"].max())
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _static_axes(axes: Axes, rows: pd.DataFrame, full: pd.DataFrame, theme: Theme) -> None:
    """All static heads of one arm by layer, side by side within a layer, and the full-depth reference."""
    kinds = list(rows[["supervision", "aggregation"]].drop_duplicates().itertuples(index=False, name=None))
    supervisions = list(dict.fromkeys(kind[0] for kind in kinds))
    for place, (supervision, aggregation) in enumerate(kinds):
        part = rows[(rows["supervision"] == supervision) & (rows["aggregation"] == aggregation)].sort_values("depth")
        colour = theme.series[supervisions.index(supervision) % len(theme.series)]
        shift = 0.5 * ((place + 0.5) / len(kinds) - 0.5)
        axes.errorbar(
            part["depth"] + shift, 100 * part["top1"], yerr=errors(part, "top1"), color=colour, elinewidth=1,
            fmt="o-" if aggregation == "ssa" else "^--", markersize=5, linewidth=1,
            label=f"{supervision}, {aggregation}",
        )  # fmt: skip
    for value in 100 * full["top1"]:
        axes.axhline(value, color=theme.ink, linestyle=":", linewidth=1.3, label="full depth, own head")


def static(points: pd.DataFrame, quantizer: str, arms: list[str], limits: Limits, theme: Theme) -> Figure:
    """Accuracy of one fixed exit by layer, aggregation and supervision, one row of axes an arm."""
    figure = Figure(figsize=(PANEL_WIDTH, 1.5 + 2.2 * len(arms)), layout="constrained")
    grid = figure.subplots(len(arms), 1, squeeze=False, sharex=True, sharey=True)
    own = points[points["quantizer"] == quantizer]
    for axes, precision in zip(grid[:, 0], arms, strict=True):
        part = own[own["precision"] == precision]
        rows = part[part["study"] == "static"]
        _static_axes(axes, rows.assign(depth=rows["layers"].astype(int)), part[part["study"] == "full-depth"], theme)
        axes.set(ylabel="top-1 accuracy (%)", ylim=limits)
        axes.set_title(short(arm_label(precision)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[-1, 0].set_xlabel("blocks executed (last = head refitted at full depth)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure

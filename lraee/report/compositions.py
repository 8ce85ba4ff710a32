"""Figures of quantizers and exits together.

As in ``figures``: pure functions from a tidy frame to a Matplotlib figure, called inside ``style.render_svg``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lraee.report.comparisons import ROW, Dot, DotRow, dot_rows
from lraee.report.figures import errors, short
from lraee.report.style import PANEL_WIDTH, Theme
from lraee.report.wording import bit_pair, significant

_KINDS = {"none": ("full depth", "o"), "headline": ("headline exits", "D"), "best on select": ("best exits", "s")}


def _colours(theme: Theme) -> dict[str, str]:
    return {"none": theme.quantized, "headline": theme.ink, "best on select": theme.series[0]}


def _handles(theme: Theme) -> list[Line2D]:
    """Legend entries of full depth and of both kinds of exits."""
    return [
        Line2D([], [], linestyle="none", color=_colours(theme)[kind], marker=marker, label=label)
        for kind, (label, marker) in _KINDS.items()
    ]


def accuracy(rows: pd.DataFrame, reference: float, theme: Theme) -> Figure:
    """Top-1 with intervals, a row a quantizer, under headings of the bits; a line where FP32 is."""
    layout: list[DotRow] = []
    for (weights, activations), group in rows.groupby(["weight_bits", "activation_bits"], sort=False):
        layout.append(DotRow(bit_pair(float(weights), float(activations))))  # type: ignore[arg-type]
        for quantizer, part in group.groupby("quantizer", sort=False):
            layout.append(DotRow(str(quantizer), tuple(_dots(part, theme))))
    figure = Figure(figsize=(PANEL_WIDTH, 1.3 + ROW * len(layout)), layout="constrained")
    axes = figure.subplots()
    dot_rows(axes, layout, theme, reference)
    axes.set_xlabel("top-1 accuracy (%)")
    figure.legend(handles=_handles(theme), loc="outside lower center", ncols=3)
    return figure


def _dots(part: pd.DataFrame, theme: Theme) -> list[Dot]:
    offsets = {"none": -0.22, "headline": 0.0, "best on select": 0.22}
    dots = []
    for _, row in part.iterrows():
        kind = str(row["exits"])
        top1, low, high = (float(row[name]) for name in ("top1", "top1_low", "top1_high"))
        dots.append(Dot(top1, low, high, _colours(theme)[kind], _KINDS[kind][1], offsets[kind], 4.5))
    return dots


def with_frontier(rows: pd.DataFrame) -> pd.DataFrame:
    """Mark as ``optimal`` what no point with as few BOPs or fewer beats on the select split."""
    ordered = rows.sort_values(["share", "select_top1"], ascending=[True, False], kind="stable")
    best_before = ordered["select_top1"].cummax().shift(fill_value=-np.inf)
    return rows.assign(optimal=(ordered["select_top1"] > best_before).reindex(rows.index))


def bops(rows: pd.DataFrame, theme: Theme) -> Figure:
    """Top-1 against BOPs on a logarithmic axis, the Pareto-optimal points linked and numbered."""
    optimal = rows[rows["optimal"]].sort_values("share")
    figure = Figure(figsize=(PANEL_WIDTH, 4.2 + 0.08 * optimal["quantizer"].nunique()), layout="constrained")
    axes = figure.subplots()
    for kind, (_, marker) in _KINDS.items():
        part = rows[rows["exits"] == kind]
        axes.errorbar(
            100 * part["share"], 100 * part["top1"], yerr=errors(part, "top1"), fmt=marker, markersize=4.5,
            color=_colours(theme)[kind], elinewidth=0.8, alpha=0.85,
        )  # fmt: skip
    axes.plot(100 * optimal["share"], 100 * optimal["top1"], color=theme.muted, linewidth=1.2, zorder=1)
    names = _number(axes, optimal, theme)
    axes.set(xscale="log", xlabel="bit operations (% of FP32, logarithmic)", ylabel="top-1 accuracy (%)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 2)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: significant(value, 2)))
    axes.tick_params(axis="x", which="both", labelsize=7)
    figure.legend(handles=[*_handles(theme), *names], loc="outside lower center", ncols=3)
    return figure


def _number(axes: Axes, optimal: pd.DataFrame, theme: Theme) -> list[Line2D]:
    """Number the optimal points by quantizer, in turn above and below, as neighbours lie close; names as handles."""
    numbers = {name: place for place, name in enumerate(dict.fromkeys(optimal["quantizer"]), start=1)}
    for place, (_, row) in enumerate(optimal.iterrows()):
        axes.annotate(
            str(numbers[row["quantizer"]]), (100 * float(row["share"]), 100 * float(row["top1"])),
            xytext=(4, 6 if place % 2 else -11), textcoords="offset points", fontsize=8, color=theme.ink, zorder=5,
        )  # fmt: skip
    return [
        Line2D([], [], linestyle="none", label=f"{place} {short(str(name), 18)}") for name, place in numbers.items()
    ]


def allocation(chosen: pd.DataFrame, theme: Theme) -> Figure:
    """Bits as steps and utilisation as a dashed line over the blocks, a row of axes a quantizer."""
    names = list(dict.fromkeys(chosen["quantizer"]))
    figure = Figure(figsize=(PANEL_WIDTH, 0.9 + 1.5 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), 1, squeeze=False, sharex=True, sharey=True)
    for axes, name in zip(grid[:, 0], names, strict=True):
        rows = chosen[chosen["quantizer"] == name].sort_values("layer")
        axes.step(rows["layer"], rows["bits"], where="mid", color=theme.quantized)
        axes.plot(rows["layer"], rows["bits"], "o", color=theme.quantized, markersize=4)
        axes.set(ylabel="bits", ylim=(chosen["bits"].min() - 0.7, chosen["bits"].max() + 0.7))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(short(name))
        used = axes.twinx()
        used.plot(rows["layer"], 100 * rows["utilisation"], "--", color=theme.control, linewidth=1.2)
        used.set(ylim=(0, 105), ylabel="use (%)")
        used.grid(visible=False)
    grid[-1, 0].set_xlabel("block")
    return figure


def searches(table: pd.DataFrame, theme: Theme) -> Figure:
    """Fitness relative to the start against evaluations, a line a quantizer."""
    figure = Figure(figsize=(PANEL_WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    styles = ("-", "--", ":", "-.")
    for place, (name, rows) in enumerate(table.groupby("quantizer", sort=False)):
        colour = theme.series[place % len(theme.series)]
        style = styles[place // len(theme.series) % len(styles)]
        relative = 100 * rows["fitness"] / rows["fitness"].iloc[0]
        axes.plot(rows["evaluation"], relative, style, color=colour, label=short(str(name)))
    axes.set(xlabel="evaluations", ylabel="fitness (% of the start's)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure

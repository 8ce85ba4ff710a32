"""Figures of shares: classes, risks and costs.

As in ``figures``: pure functions from a tidy frame to a Matplotlib figure, called inside ``style.render_svg``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lraee.names import FP32
from lraee.report.figures import dots, errors, short
from lraee.report.layers import colours
from lraee.report.style import PANEL_WIDTH, Theme


def classes(rows: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """Margin of every class, sorted, with the same class in the FP32 control; significant ones are large."""
    figure = Figure(figsize=(PANEL_WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    rows = rows.sort_values("margin", kind="stable")
    ranks = pd.Series(np.arange(1, len(rows) + 1), index=rows.index)
    dots(axes, ranks, 100 * rows["fp32_margin"], theme.control, 2.6, alpha=0.7)
    dots(axes, ranks, 100 * rows["margin"], theme.quantized, 3.2, zorder=3)
    sure = (rows["mcnemar_p_holm"] < 0.05).to_numpy()
    axes.plot(ranks[sure], 100 * rows["margin"][sure], "o", color=theme.quantized, markersize=7,
              markeredgecolor=theme.ink, zorder=4)  # fmt: skip
    axes.axhline(0, color=theme.ink, linewidth=1)
    axes.set(xlabel="classes, from the strongest loss to the strongest rescue", ylabel="margin, points")
    axes.set_title(short(quantizer))
    handles = [
        Line2D([], [], linestyle="none", color=theme.quantized, marker="o", label="quantized"),
        Line2D([], [], linestyle="none", color=theme.control, marker="o", label="FP32 control"),
        Line2D([], [], linestyle="none", color=theme.quantized, marker="o", markersize=7, markeredgecolor=theme.ink,
               label="p < 0.05, Holm"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _risk_axes(axes: Axes, rows: pd.DataFrame, theme: Theme) -> None:
    """One kind of risk: realised against allowed, with the bound as a diagonal."""
    top = 100 * float(rows["risk"].max()) * 1.15 if len(rows) else 1.0
    axes.plot([0, top], [0, top], linestyle="--", color=theme.ink, linewidth=1)
    policies = list(dict.fromkeys(rows["policy"]))
    for (precision, policy), part in rows.groupby(["precision", "policy"], sort=False):
        control, colour = precision == FP32, theme.arm(precision == FP32)
        shift = ((0.012 if control else -0.012) + 0.03 * policies.index(policy)) * top
        axes.errorbar(
            100 * part["risk"] + shift, 100 * part["realised"], yerr=errors(part, "realised"), color=colour,
            fmt="s" if control else "o", markersize=4.5, elinewidth=1,
            markerfacecolor=colour if policy == policies[0] else theme.surface,
        )  # fmt: skip
    axes.set(xlim=(0, top), xlabel="allowed (%)")


def risk(rows: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """Allowed level against realised risk, one column of axes a kind of risk, both arms."""
    figure = Figure(figsize=(PANEL_WIDTH, 3.3), layout="constrained")
    grid = figure.subplots(1, 2)
    for axes, kind in zip(grid, ("disagreement", "accuracy gap"), strict=True):
        _risk_axes(axes, rows[rows["controlled"] == kind], theme)
        axes.set_title(kind, fontsize=9)
    grid[0].set_ylabel("on the test split (%)")
    figure.suptitle(short(quantizer), fontsize=10, fontweight="bold", x=0.02, ha="left")
    handles = [
        Line2D([], [], linestyle="none", color=theme.quantized, marker="o", label="quantized"),
        Line2D([], [], linestyle="none", color=theme.control, marker="s", label="FP32 control"),
        Line2D([], [], linestyle="--", color=theme.ink, label="allowed"),
    ]
    for place, policy in enumerate(dict.fromkeys(rows["policy"])):
        handles.append(Line2D([], [], linestyle="none", marker="o", color=theme.muted, label=short(str(policy), 20),
                              markerfacecolor=theme.surface if place else theme.muted))  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _stack(axes: Axes, rows: pd.DataFrame, kind: str, tones: dict[str, str], labelled: bool) -> None:
    """Two stacked bars a quantizer, full depth above routed, in percent of full depth."""
    ticks, names = [], []
    for place, (quantizer, part) in enumerate(rows.groupby("quantizer", sort=False)):
        for offset, side in ((-0.2, "full"), (0.2, "routed")):
            left = 0.0
            for component, share in zip(part["component"], part[f"{kind}_{side}_share"], strict=True):
                axes.barh(place + offset, 100 * share, left=left, height=0.34, color=tones[component], linewidth=0)
                left += 100 * float(share)
        ticks.append(place)
        names.append(short(str(quantizer), 22))
    axes.set_yticks(ticks, names if labelled else [])
    axes.set_ylim(len(ticks) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{kind.upper().replace('S', 's')} (% of full depth)")


def costs(rows: pd.DataFrame, theme: Theme) -> Figure:
    """Components of the compute as stacked bars: MACs left, bit operations right."""
    components = list(dict.fromkeys(rows["component"]))
    tones = dict(zip(components, [theme.muted, theme.control, *colours(theme, 6)], strict=False))
    count = rows["quantizer"].nunique()
    figure = Figure(figsize=(1.3 * PANEL_WIDTH, 1.5 + 0.5 * count), layout="constrained")
    left, right = figure.subplots(1, 2)
    _stack(left, rows, "macs", tones, labelled=True)
    _stack(right, rows, "bops", tones, labelled=False)
    handles = [Patch(color=tones[component], label=component) for component in components]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure

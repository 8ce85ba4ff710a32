"""Figures by layer or by threshold: activations, toggled layers, heuristics, and sensitivity.

As in ``figures``: pure functions from a tidy frame to a Matplotlib figure, called inside ``style.render_svg``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lraee.names import FP32
from lraee.report.figures import errors, short
from lraee.report.style import PANEL_WIDTH, Theme
from lraee.report.wording import arm_label, significant

_DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))


def colours(theme: Theme, count: int) -> list[str]:
    """That many distinct colours, none of which stands for an arm, as far as they go."""
    own = [colour for colour in theme.series if colour not in (theme.quantized, theme.control)]
    pool = [*own, theme.ink, theme.muted]
    return [pool[index % len(pool)] for index in range(count)]


def _log(axes: Axes, ratio: float) -> None:
    """A logarithmic axis with plain numbers, some of them between the powers of ten where these are few."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 100 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 1)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def activations(rows: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """Activation peak, cosine and mean squared error by layer, of one quantizer over all tokens."""
    figure = Figure(figsize=(PANEL_WIDTH, 5.4), layout="constrained")
    peak, cosine, mse = figure.subplots(3, 1, sharex=True)
    rows = rows.sort_values("layer")
    peak.plot(rows["layer"], rows["peak"], "s--", color=theme.control, markersize=4, label="FP32")
    peak.plot(rows["layer"], rows["peak_quantized"], "o-", color=theme.quantized, markersize=4, label="quantized")
    cosine.plot(rows["layer"], rows["cosine"], "o-", color=theme.quantized, markersize=4)
    mse.plot(rows["layer"], rows["mse"].where(rows["mse"] > 0), "o-", color=theme.quantized, markersize=4)
    for axes, names in ((peak, ["peak", "peak_quantized"]), (mse, ["mse"])):
        values = rows[names].to_numpy(dtype=float)
        if (values > 0).any():
            _log(axes, float(values[values > 0].max() / values[values > 0].min()))
    for axes in (peak, cosine, mse):
        for layer in rows.loc[rows["candidate"].astype(bool), "layer"]:
            axes.axvspan(layer - 0.4, layer + 0.4, color=theme.muted, alpha=0.13, linewidth=0, zorder=0)
        for layer in rows.loc[rows["pathological"].astype(bool), "layer"]:
            axes.axvline(layer, color=theme.ink, linewidth=1, linestyle=":")
    peak.set_ylabel("peak |activation|")
    cosine.set_ylabel("cosine to FP32")
    mse.set(ylabel="MSE", xlabel="blocks executed")
    mse.xaxis.set_major_locator(MaxNLocator(integer=True))
    peak.set_title(short(quantizer))
    figure.legend(*peak.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def toggles(rows: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """Accuracy with a candidate layer minus without it, over the threshold, one row of axes an arm."""
    arms = [precision for precision in (quantizer, FP32) if precision in set(rows["precision"])]
    figure = Figure(figsize=(PANEL_WIDTH, 1.2 + 1.8 * max(len(arms), 1)), layout="constrained")
    grid = figure.subplots(max(len(arms), 1), 1, squeeze=False, sharex=True, sharey=True)
    known = sorted(set(rows["layer"]))
    tones = dict(zip(known, colours(theme, len(known)), strict=True))
    for axes, precision in zip(grid[:, 0], arms, strict=False):
        axes.axhline(0, color=theme.ink, linewidth=1)
        for layer, part in rows[rows["precision"] == precision].groupby("layer"):
            part = part.sort_values("threshold")
            style = "-" if part["in_headline"].all() else "--"
            axes.plot(part["threshold"], 100 * part["difference"], style, color=tones[layer], label=f"layer {layer}")
        axes.set_title(short(arm_label(precision)))
        axes.set_ylabel("points of top-1")
    grid[-1, 0].set_xlabel("threshold τ, the same at every exit")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def heuristics(rows: pd.DataFrame, full: dict[str, float], headline: str, quantizer: str, theme: Theme) -> Figure:
    """Top-1 against compute saved over all global thresholds, one line a policy, one row of axes an arm.

    Args:
        full: top-1 at full depth by precision.
        headline: the policy that is drawn thick, with its 95 % intervals as a band.
    """
    arms = [precision for precision in (quantizer, FP32) if precision in set(rows["precision"])]
    figure = Figure(figsize=(PANEL_WIDTH, 1.5 + 2.2 * max(len(arms), 1)), layout="constrained")
    grid = figure.subplots(max(len(arms), 1), 1, squeeze=False, sharex=True)
    others = [policy for policy in dict.fromkeys(rows["policy"]) if policy != headline]
    tones = dict(zip(others, colours(theme, len(others)), strict=True))
    for axes, precision in zip(grid[:, 0], arms, strict=False):
        part = rows[rows["precision"] == precision].sort_values("threshold")
        for place, policy in enumerate(others):
            line = part[part["policy"] == policy]
            axes.plot(100 * line["saved"], 100 * line["top1"], color=tones[policy], linewidth=1.2,
                      linestyle=_DASHES[place % len(_DASHES)], label=short(policy, 20))  # fmt: skip
        own = part[part["policy"] == headline]
        colour = theme.arm(precision == FP32)
        axes.fill_between(100 * own["saved"], 100 * own["top1_low"], 100 * own["top1_high"], color=colour, alpha=0.15,
                          linewidth=0)  # fmt: skip
        axes.plot(100 * own["saved"], 100 * own["top1"], color=colour, linewidth=2.2)
        if precision in full:
            axes.axhline(100 * full[precision], color=theme.ink, linestyle=":", linewidth=1.2)
        axes.set_title(short(arm_label(precision)))
        axes.set_ylabel("top-1 accuracy (%)")
    grid[-1, 0].set_xlabel("compute saved (% of all MACs)")
    handles = [
        Line2D([], [], color=theme.quantized, linewidth=2.2, label=short(headline, 20)),
        *grid[0, 0].get_legend_handles_labels()[0],
        Line2D([], [], color=theme.ink, linestyle=":", label="full depth"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _sensitivity_axes(axes: Axes, rows: pd.DataFrame, theme: Theme) -> None:
    """Margin of both arms over the values of one axis: at their numbers, or side by side where they are names."""
    values = list(dict.fromkeys(rows["value"]))
    numeric = bool(rows["x"].notna().all())
    for precision, part in rows.groupby("precision", sort=False):
        control = precision == FP32
        at = part["x"] if numeric else pd.Series([float(values.index(v)) for v in part["value"]], index=part.index)
        order = np.argsort(at.to_numpy(), kind="stable")
        part, at = part.iloc[order], at.iloc[order]
        axes.errorbar(
            at, 100 * part["margin"], yerr=errors(part, "margin"), color=theme.arm(control), elinewidth=1,
            fmt=("s" if control else "o") + ("-" if numeric else ""), markersize=4.5, linewidth=1.2,
        )  # fmt: skip
        base = part["is_base"].astype(bool).to_numpy()
        axes.plot(at[base], 100 * part["margin"][base], "o", color="none", markeredgecolor=theme.ink, markersize=10)
    axes.axhline(0, color=theme.ink, linewidth=1)
    if not numeric:
        axes.set_xticks(range(len(values)), [short(str(value), 16) for value in values])
        axes.set_xlim(-0.5, len(values) - 0.5)


def sensitivity(rows: pd.DataFrame, quantizer: str, theme: Theme) -> Figure:
    """Margin of early exit over every axis that was varied, both arms, of one quantizer."""
    axes_of = list(dict.fromkeys(rows["axis"]))
    figure = Figure(figsize=(PANEL_WIDTH, 0.9 + 1.75 * max(len(axes_of), 1)), layout="constrained")
    grid = figure.subplots(max(len(axes_of), 1), 1, squeeze=False)
    for axes, axis in zip(grid[:, 0], axes_of, strict=False):
        _sensitivity_axes(axes, rows[rows["axis"] == axis], theme)
        axes.set_title(short(str(axis), 40), fontsize=9)
        axes.set_ylabel("margin, points")
    figure.suptitle(short(quantizer), fontsize=10, fontweight="bold", x=0.02, ha="left")
    handles = [
        Line2D([], [], color=theme.quantized, marker="o", label="quantized"),
        Line2D([], [], color=theme.control, marker="s", label="FP32 control"),
        Line2D([], [], linestyle="none", color="none", marker="o", markeredgecolor=theme.ink, markersize=9,
               label="base"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure

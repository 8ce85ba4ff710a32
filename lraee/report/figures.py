"""Figures of the trade-off, the noise and the exits: pure functions from a tidy frame to a Matplotlib figure.

Each draws one panel (one quantizer) of a small multiple; what has to be equal across panels is passed as limits.
Functions are to be called inside ``style.render_svg``, which sets the theme's fonts and colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from lraee.names import FP32
from lraee.report.style import PANEL_WIDTH, Theme
from lraee.report.wording import arm_label, count, significant

Limits = tuple[float, float]
TRADE_OFF = ("full-depth", "static", "frontier", "risk", "on-refit", "bound")
"""Studies whose points are drawn beside the frontier: all but ablations."""

_TOKENS = {"all": "all tokens", "cls": "[CLS] token", "patch-mean": "mean of the patches"}


def short(text: str, width: int = 34) -> str:
    """A name that fits a title or tick label; the full name is in the table beside the figure."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def padded(low: float, high: float, share: float = 0.06) -> Limits:
    """Axis limits around a range, with a margin on both sides (at least a sliver, for a range of zero)."""
    pad = max((high - low) * share, 1e-3)
    return low - pad, high + pad


def trade_off(points: pd.DataFrame, quantizer: str, precision: str) -> pd.DataFrame:
    """The operating points of one arm that are drawn beside the frontier, by compute saved."""
    keep = (points["quantizer"] == quantizer) & (points["precision"] == precision) & points["study"].isin(TRADE_OFF)
    return points[keep].sort_values(["saved", "point"])


def frontier_limits(points: pd.DataFrame) -> tuple[Limits, Limits]:
    """Limits in percent (compute saved, top-1) that show every highlighted point of all panels but those far off.

    Far off are the oracle, and Pareto-optimal static exits that save more than any routed one.
    """
    rows = points[points["study"].isin(TRADE_OFF)]
    special = rows["headline"] | (rows["study"] == "full-depth") | (rows["policy"] == "random")
    rows = rows[rows["on_frontier"] | special | rows["best_on_refit"]]
    rows = rows[(rows["study"] != "static") | (rows["saved"] <= rows.loc[rows["study"] != "static", "saved"].max())]
    if rows.empty:
        return (0.0, 1.0), (0.0, 1.0)
    return (
        padded(100 * rows["saved"].min(), 100 * rows["saved"].max()),
        padded(100 * rows["top1_low"].min(), 100 * rows["top1_high"].max()),
    )


def errors(rows: pd.DataFrame, name: str) -> np.ndarray[Any, Any]:
    """Error-bar lengths of shape (2, rows) in percent for ``name`` with ``_low`` and ``_high``."""
    below, above = rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]
    # Rounding can make a bound cross its estimate; Matplotlib refuses negative lengths.
    lengths: np.ndarray[Any, Any] = np.maximum(100 * np.asarray([below, above], dtype=float), 0.0)
    return lengths


def dots(axes: Axes, x: pd.Series[Any], y: pd.Series[Any], colour: str, size: float, **look: Any) -> None:
    """Many equal dots as one path of lines without length and with round ends: a tenth of the markup of marks."""
    places = np.column_stack([x, y])
    path = Path(places.repeat(2, axis=0), np.tile([Path.MOVETO, Path.LINETO], len(places)))
    path.should_simplify = False
    patch = PathPatch(path, fill=False, edgecolor=colour, linewidth=size, capstyle="round", **look)
    axes.add_patch(patch)
    axes.update_datalim(places)


def _draw_bounds(axes: Axes, rows: pd.DataFrame, colour: str, theme: Theme) -> None:
    """Random (cross), oracle (triangle; an arrow at the edge where it lies above the axes), best on a refit (star)."""
    top = axes.get_ylim()[1]
    for _, row in rows[rows["policy"].isin(["random", "oracle"]) & (rows["study"] == "bound")].iterrows():
        x, y = 100 * float(row["saved"]), 100 * float(row["top1"])
        if row["policy"] == "random":
            axes.plot([x], [y], "x", color=colour, markersize=7, markeredgewidth=1.8, zorder=5)
        elif y <= top:
            axes.plot([x], [y], "^", color=colour, markersize=7, zorder=5)
        else:
            axes.annotate("", (x, top), xytext=(0, -16), textcoords="offset points", annotation_clip=False,
                          arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.4})  # fmt: skip
    star = rows[rows["best_on_refit"]]
    axes.plot(100 * star["saved"], 100 * star["top1"], "*", color=colour, markersize=12, markeredgecolor=theme.ink,
              markeredgewidth=0.8, zorder=6)  # fmt: skip


def _draw_arm(axes: Axes, rows: pd.DataFrame, precision: str, theme: Theme) -> None:
    """One arm of a frontier panel: faint cloud, connected frontier, headline ring, bounds and full-depth line."""
    control = precision == FP32
    colour, marker = theme.arm(control), "s" if control else "o"
    special = rows["on_frontier"] | rows["best_on_refit"] | (rows["study"] == "bound")
    cloud, best = rows[~special], rows[rows["on_frontier"]]
    dots(axes, 100 * cloud["saved"], 100 * cloud["top1"], colour, 2.6, alpha=0.3, zorder=2)
    for value in 100 * rows.loc[rows["study"] == "full-depth", "top1"]:
        axes.axhline(value, color=colour, linestyle=(0, (2, 2)) if control else (0, (5, 2)), linewidth=1.2, zorder=1.5)
    axes.errorbar(
        100 * best["saved"], 100 * best["top1"], yerr=errors(best, "top1"), fmt=f"{marker}-", color=colour,
        markersize=4.5, elinewidth=0.8, linewidth=1.4, zorder=3 if control else 4,
    )  # fmt: skip
    ring = rows[rows["headline"]]
    axes.plot(
        100 * ring["saved"], 100 * ring["top1"], marker, color="none", markeredgecolor=theme.ink, markersize=11,
        markeredgewidth=1.4, zorder=5,
    )  # fmt: skip
    _draw_bounds(axes, rows, colour, theme)


def _frontier_handles(theme: Theme) -> list[Line2D]:
    """Legend of a frontier panel: arms by colour, kinds of points by mark."""
    kinds = (("best on a refitted head", "*", 10.0), ("random", "x", 7.0), ("oracle (↑: above)", "^", 6.0),
             ("all others", "o", 3.0))  # fmt: skip
    return [
        Line2D([], [], color=theme.quantized, marker="o", label="quantized, Pareto"),
        Line2D([], [], color=theme.control, marker="s", label="FP32 control, Pareto"),
        Line2D([], [], color=theme.muted, linestyle="--", label="full depth, no exit"),
        Line2D(
            [],
            [],
            linestyle="none",
            color="none",
            marker="o",
            markeredgecolor=theme.ink,
            markersize=9,
            label="headline",
        ),
        *(
            Line2D([], [], linestyle="none", color=theme.muted, marker=mark, markersize=size, label=label)
            for label, mark, size in kinds
        ),
    ]


def frontier(points: pd.DataFrame, quantizer: str, limits: tuple[Limits, Limits], theme: Theme) -> Figure:
    """Top-1 accuracy against compute saved, the quantized arm over its FP32 control (both in percent).

    ``points`` needs the flag ``best_on_refit`` besides the table's columns.
    """
    figure = Figure(figsize=(PANEL_WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=limits[0], ylim=limits[1], xlabel="compute saved (% of all MACs)", ylabel="top-1 accuracy (%)")
    for precision in (FP32, quantizer):
        _draw_arm(axes, trade_off(points, quantizer, precision), precision, theme)
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.set_title(short(quantizer))
    figure.legend(handles=_frontier_handles(theme), loc="outside lower center", ncols=2)
    return figure


def noise_limits(noise: pd.DataFrame) -> tuple[Limits, Limits]:
    """Limits of a panel: NSR in percent (from 0) and INR (positive, for a log axis)."""
    nsr = noise["nsr_high"].fillna(noise["nsr"]).max() if len(noise) else 1.0
    inr = noise.loc[noise["inr"] > 0, "inr"].replace(np.inf, np.nan).dropna()
    low, high = (float(inr.min()), float(inr.max())) if len(inr) else (0.1, 10.0)
    top = max(106 * float(nsr), 1e-3) if np.isfinite(nsr) else 1.0
    return (0.0, top), (low / 3, high * 1.6)  # room for a mark below the lowest point


def noise_threshold(rows: pd.DataFrame, kappa: float) -> float:
    """INR below which a candidate exit of one quantizer counts as pathological: kappa times the candidates' mean."""
    candidates = rows[(rows["tokens"] == "all") & rows["candidate"]]
    return kappa * float(candidates["inr"].mean()) if len(candidates) else float("nan")


def _mark_pathological(axes: Axes, rows: pd.DataFrame, theme: Theme) -> None:
    """Ring and name the candidate layers that the INR rule drops; grey bands show all candidates."""
    whole = rows[rows["tokens"] == "all"]
    for layer in whole.loc[whole["candidate"], "layer"]:
        axes.axvspan(layer - 0.4, layer + 0.4, color=theme.muted, alpha=0.13, linewidth=0, zorder=0)
    dropped = whole[whole["pathological"]]
    axes.plot(dropped["layer"], dropped["inr"], "o", color="none", markeredgecolor=theme.ink, markersize=12, zorder=5)
    for layer, inr in zip(dropped["layer"].astype(float), dropped["inr"].astype(float), strict=True):
        axes.annotate(
            "dropped", (layer, inr), xytext=(0, -15), textcoords="offset points", ha="center", fontsize=8.5,
            fontweight="bold",
        )  # fmt: skip


def noise(rows: pd.DataFrame, quantizer: str, kappa: float, theme: Theme) -> Figure:
    """NSR in percent (top) and INR on a log axis (bottom) by layer, of one quantizer's ``rows``."""
    limits = noise_limits(rows)
    figure = Figure(figsize=(PANEL_WIDTH, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    known = [token for token in _TOKENS if token in set(rows["tokens"])]
    for token, colour, marker in zip(known, (theme.quantized, *theme.series), "osD", strict=False):
        part = rows[rows["tokens"] == token].sort_values("layer")
        label, style = _TOKENS[token], {"color": colour, "marker": marker, "markersize": 5}
        above.errorbar(part["layer"], 100 * part["nsr"], yerr=errors(part, "nsr"), label=label, **style)
        below.plot(part["layer"], part["inr"].where(part["inr"] > 0), **style)
    _mark_pathological(below, rows, theme)
    below.axhline(noise_threshold(rows, kappa), color=theme.ink, linestyle="--", linewidth=1, label="drop below")
    above.set(ylabel="NSR (%)", ylim=limits[0])
    above.set_title(short(quantizer))
    below.set(ylabel="INR (log scale)", xlabel="blocks executed", yscale="log", ylim=limits[1])
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 1)))
    below.yaxis.set_minor_formatter(NullFormatter())
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _exit_columns(top: Axes, bottom: Axes, rows: pd.DataFrame, precision: str, theme: Theme) -> None:
    """One arm of an exit histogram: share per exit above, accuracy there against full depth below."""
    colour = theme.arm(precision == FP32)
    ticks = np.arange(len(rows))
    top.bar(ticks, 100 * rows["share"], color=colour, width=0.66, linewidth=0)
    for tick, share, n in zip(ticks, rows["share"], rows["n"], strict=True):
        top.annotate(count(n), (tick, 100 * share), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8)
    bottom.vlines(ticks, 100 * rows["accuracy_full"], 100 * rows["accuracy_exit"], color=theme.muted, linewidth=1)
    exits, full = rows[["accuracy_exit_low", "accuracy_exit_high"]], rows[["accuracy_full_low", "accuracy_full_high"]]
    bottom.vlines(ticks - 0.13, 100 * exits.iloc[:, 0], 100 * exits.iloc[:, 1], color=colour, linewidth=1.4)
    bottom.vlines(ticks + 0.13, 100 * full.iloc[:, 0], 100 * full.iloc[:, 1], color=theme.muted, linewidth=1.4)
    bottom.plot(ticks - 0.13, 100 * rows["accuracy_exit"], "o", color=colour, markersize=6)
    bottom.plot(
        ticks + 0.13, 100 * rows["accuracy_full"], "D", color=theme.surface, markeredgecolor=theme.ink, markersize=5.5
    )
    top.set_title(short(arm_label(precision), 20), fontsize=9)
    bottom.set_xticks(ticks, [str(layer) for layer in rows["layer"]])
    bottom.set_xlabel("blocks executed at exit")


def exits(rows: pd.DataFrame, arms: list[str], theme: Theme) -> Figure:
    """Where the headline configuration leaves, and how right it is there, per arm of one quantizer.

    ``rows`` needs, besides the table's columns, ``accuracy_{exit,full}_{low,high}``; the last layer is full depth.
    """
    figure = Figure(figsize=(PANEL_WIDTH, 4.9), layout="constrained")
    grid = figure.subplots(2, len(arms), squeeze=False, sharey="row", sharex="col")
    for column, precision in enumerate(arms):
        part = rows[rows["precision"] == precision].sort_values("layer")
        _exit_columns(grid[0, column], grid[1, column], part, precision, theme)
    grid[0, 0].set_ylabel("images leaving (%)")
    grid[0, 0].margins(y=0.14)
    grid[1, 0].set_ylabel("top-1 accuracy (%)")
    handles = [
        Line2D([], [], linestyle="none", color=theme.ink, marker="o", label="at the exit"),
        Line2D([], [], linestyle="none", color=theme.surface, marker="D", markeredgecolor=theme.ink,
               label="same images, forced to full depth"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure

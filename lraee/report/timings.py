"""Figures of time: milliseconds an image, and what became of the compute that exits save.

As in ``figures``: pure functions from a tidy frame to a Matplotlib figure, called inside ``style.render_svg``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lraee.report.figures import short
from lraee.report.layers import colours
from lraee.report.style import PANEL_WIDTH, Theme

_MARKS = ("o", "s", "D", "^", "v", "P")
_FILL = 0.6
"""Opacity of bars: whiskers and diamonds stay visible on them, on light surfaces and on dark ones."""


def latency(rows: pd.DataFrame, title: str, theme: Theme) -> Figure:
    """Median milliseconds an image of every contestant, one mark a batch size, with quartiles; ours below the line."""
    peers_first = rows.sort_values("engine", key=lambda engine: engine != "", kind="stable")
    names = list(dict.fromkeys(peers_first["contestant"]))
    figure = Figure(figsize=(PANEL_WIDTH, 1.3 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(rows["batch"].unique())
    for place, (size, tone) in enumerate(zip(sizes, colours(theme, len(sizes)), strict=True)):
        own = rows[rows["batch"] == size]
        heights = own["contestant"].map(names.index) + 0.2 * (place - (len(sizes) - 1) / 2)
        spread = np.maximum([own["ms"] - own["ms_low"], own["ms_high"] - own["ms"]], 0.0)
        axes.errorbar(own["ms"], heights, xerr=spread, fmt=_MARKS[place % len(_MARKS)], color=tone, markersize=5,
                      elinewidth=1.4, label=f"batches of {size}")  # fmt: skip
    peers = rows.loc[rows["engine"] == "", "contestant"].nunique()
    axes.axhline(peers - 0.5, color=theme.muted, linewidth=1)
    axes.set_yticks(range(len(names)), [short(name, 30) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms an image (median, quartiles)")
    axes.set_title(short(title, 60))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def conversion(rows: pd.DataFrame, title: str, theme: Theme) -> Figure:
    """Where the time with exits goes, as a share of full depth's in the same engine, and what the MACs would say."""
    figure = Figure(figsize=(PANEL_WIDTH, 1.5 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    network, visits = colours(theme, 2)
    places = np.arange(len(rows))
    rest = 100 * (1 - rows["leaving_time"])
    axes.barh(places, rest, height=0.55, color=network, alpha=_FILL, linewidth=0)
    axes.barh(places, 100 * rows["visits_time"], left=rest, height=0.55, color=visits, alpha=_FILL, linewidth=0)
    spread = 100 * np.maximum(
        [rows["time_saved_high"] - rows["time_saved"], rows["time_saved"] - rows["time_saved_low"]], 0.0
    )
    axes.errorbar(100 * (1 - rows["time_saved"]), places, xerr=spread, fmt="none", color=theme.ink, elinewidth=1.2,
                  capsize=3)  # fmt: skip
    axes.plot(100 * (1 - rows["macs_saved"]), places, "D", color=theme.surface, markeredgecolor=theme.ink, markersize=6)
    axes.axvline(100, color=theme.ink, linewidth=1)
    runs = [f"{engine}, batches of {batch}" for engine, batch in zip(rows["engine"], rows["batch"], strict=True)]
    axes.set_yticks(places, runs)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("time with exits (% of full depth's)")
    axes.set_title(short(title, 60))
    handles = [
        Patch(color=network, alpha=_FILL, label="full depth, less what leaving saves"),
        Patch(color=visits, alpha=_FILL, label="visits to exits"),
        Line2D([], [], linestyle="none", marker="D", color=theme.surface, markeredgecolor=theme.ink,
               label="if saved MACs were saved time"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure

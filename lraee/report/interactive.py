"""Points of a drawn panel that a reader can point at: where they lie in the picture, and what they are.

A panel stays a plain picture. What ``templates/frontier.js`` needs beside it is the position of every visible point as
a fraction of the picture, which holds at any display size, and the texts of its label. Any panel can have this:
``Panel.hover`` takes the figure *after* it was drawn (constrained layout moves the axes while drawing) and returns a
``Hover``, usually made by ``hover_points``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lraee.names import FP32
from lraee.report import wording
from lraee.report.datatables import Column, cell, pack
from lraee.report.thresholds import in_words

_DECIMALS = 4  # of a position; a tenth of a pixel in a panel 1,000 pixels wide


@dataclass(frozen=True)
class HoverPoint:
    """A visible point: fractions of the picture from its left and its top, its label, and how much it stands out.

    ``weight`` 0 is a point of the crowd, 1 one that a reader steps through first, 2 the one to start with.
    """

    x: float
    y: float
    cells: tuple[str, ...]
    weight: int = 0


@dataclass(frozen=True)
class Hover:
    """All points of a panel from left to right; ``labels`` names the cells of each, the first one is the heading."""

    labels: tuple[str, ...]
    points: tuple[HoverPoint, ...]

    def packed(self) -> str:
        """The points by column as base64 of gzipped JSON, for an attribute of the document."""
        return pack(json.dumps({
            "labels": self.labels,
            "x": [point.x for point in self.points],
            "y": [point.y for point in self.points],
            "weight": [point.weight for point in self.points],
            "cells": [[point.cells[column] for point in self.points] for column in range(len(self.labels))],
        }, ensure_ascii=False, separators=(",", ":"), allow_nan=False))  # fmt: skip


def positions(figure: Figure, axes: Axes, x: Sequence[float], y: Sequence[float]) -> np.ndarray[Any, Any]:
    """Where data points lie in a drawn figure: (n, 2) fractions from its left and from its top."""
    pixels = axes.transData.transform(np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)]))
    fractions: np.ndarray[Any, Any] = figure.transFigure.inverted().transform(pixels)
    return np.column_stack([fractions[:, 0], 1 - fractions[:, 1]]).round(_DECIMALS)


def _text(record: dict[str, Any], column: Column) -> str:
    """A value and its interval as the tables of the report show them, in one line."""
    shown = cell(record, column)
    return f"{shown.text} {shown.detail}".strip()


def hover_points(
    figure: Figure,
    axes: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    columns: Sequence[Column],
    weight: str | None = None,
) -> Hover:
    """The rows of ``frame`` that are visible in ``axes`` of a drawn figure, from left to right.

    Args:
        x, y: columns of ``frame`` in the units of the axes.
        columns: what the label says; the first column is its heading, and empty texts are left out when shown.
        weight: column with the weight of each point; all 0 where there is none.
    """
    (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    within = frame[x].between(left, right) & frame[y].between(bottom, top)
    rows = frame[within].sort_values([x, y], kind="stable")
    places = positions(figure, axes, rows[x].tolist(), rows[y].tolist())
    weights = [0] * len(rows) if weight is None else rows[weight].astype(int).tolist()
    records: list[dict[Any, Any]] = rows.to_dict("records")
    points = tuple(
        HoverPoint(float(place[0]), float(place[1]), tuple(_text(record, column) for column in columns), heaviness)
        for place, record, heaviness in zip(places, records, weights, strict=True)
    )
    return Hover(tuple(column.label for column in columns), points)


_BOUNDS = {
    "oracle": "oracle: leaves at the first right exit, by the test labels",
    "random": "random: the headline's exit shares dealt blindly",
}


def _name(row: dict[Any, Any], depth: float) -> str:
    """What an operating point is, in a few words."""
    if row["study"] == "full-depth":
        return "full depth, no exit"
    if row["study"] == "static" and row["layers"] == f"{depth:.0f}":
        return "refitted head at full depth, no exit"
    if row["study"] == "static":
        return f"every image leaves after block {row['layers']}"
    if row["study"] == "bound":
        return _BOUNDS.get(row["policy"], str(row["policy"]))
    return f"{row['policy']}{', the headline' if row['headline'] else ''}"


def _columns(rows: pd.DataFrame) -> tuple[Column, ...]:
    """What the label of an operating point says, the heading first."""
    return (
        Column("heading", "Configuration"), Column("head", "Head"), Column("own_answer", "Head at full depth"),
        Column("exits", "Exits after blocks"), Column("gate", "Gate reads"), Column("threshold_rule", "Rule"),
        Column("budget_text", "Budget"), Column("risk_text", "Allowed risk"), Column("tau", "Thresholds"),
        Column("top1", "Top-1", "percent", True), Column("n", "n", "count"),
        Column("saved", "Compute saved", "percent1", "saved_low" in rows),
        Column("margin", "Margin, points", "points", True),
    )  # fmt: skip


def _share(rows: pd.DataFrame, name: str) -> list[str]:
    """An optional column of shares in percent; empty where a point has none."""
    if name not in rows:
        return [""] * len(rows)
    return ["" if np.isnan(value) else wording.percent(value, 1) for value in rows[name].astype(float)]


def _described(rows: pd.DataFrame) -> pd.DataFrame:
    """Operating points with everything that the label of one says; no exit means no configuration of exits."""
    full, control = rows["study"] == "full-depth", rows["precision"] == FP32
    routed = ~rows["study"].isin(["full-depth", "static"])
    none, never = pd.Series("", index=rows.index), pd.Series(data=False, index=rows.index)
    refitted = rows.get("full_depth_head", none)
    marked = (
        full | rows["headline"] | rows["on_frontier"] | rows.get("best_on_refit", never) | (rows["study"] == "bound")
    )
    depth = float(rows.loc[full, "mean_layer"].max())
    arms = np.where(control, "FP32 control", "quantized")
    return rows.assign(
        heading=[f"{_name(row, depth)} ({arm})" for row, arm in zip(rows.to_dict("records"), arms, strict=True)],
        head=(rows["aggregation"] + ", " + rows["supervision"]).mask(full, ""),
        own_answer=refitted.mask(~routed | (refitted == "own"), ""),
        exits=rows["layers"].mask(~routed, ""),
        gate=rows["gate_features"].mask(rows["study"] == "bound", ""),
        tau=[in_words(*pair) for pair in zip(rows["layers"], rows["thresholds"], strict=True)],
        budget_text=_share(rows, "budget"),
        risk_text=_share(rows, "risk"),
        saved_percent=100 * rows["saved"],
        top1_percent=100 * rows["top1"],
        # The quantized headline is what the report is about, so that a reader starts there.
        weight=np.where(rows["headline"] & ~control, 2, marked.astype(int)),
    )


def frontier_hover(rows: pd.DataFrame, quantizer: str, figure: Figure) -> Hover:
    """The operating points of a quantizer, both arms, in a drawn panel whose first axes show them in percent."""
    own = _described(rows[rows["quantizer"] == quantizer])
    return hover_points(figure, figure.axes[0], own, "saved_percent", "top1_percent", _columns(own), "weight")

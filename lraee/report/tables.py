"""The tidy tables a report is made of, and the schema that they must satisfy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from lraee.names import FP32

Kind = Literal["text", "number", "flag"]


def _columns(text: str = "", number: str = "", flag: str = "") -> dict[str, Kind]:
    """Schema of one table from space-separated column names, in the order text, number, flag."""
    kinds: list[tuple[Kind, str]] = [("text", text), ("number", number), ("flag", flag)]
    return {name: kind for kind, names in kinds for name in names.split()}


SCHEMA: dict[str, dict[str, Kind]] = {
    "points": _columns(
        text="point quantizer precision study policy aggregation supervision gate_features layers threshold_rule "
        "thresholds",
        number="budget select_top1 n correct top1 top1_low top1_high saved saved_blocks mean_layer both_right rescue "
        "loss both_wrong margin margin_low margin_high mcnemar_p",
        flag="on_frontier headline",
    ),
    "noise": _columns(
        text="quantizer tokens",
        number="layer n nsr nsr_low nsr_high inr sqnr_db cosine",
        flag="candidate pathological",
    ),
    "exits": _columns(
        text="quantizer precision point",
        number="layer n share accuracy_exit accuracy_full",
    ),
    "quantizers": _columns(
        text="quantizer scheme description settings",
        number="weight_bits activation_bits covered_parameters covered_macs n top1 top1_low top1_high agreement "
        "churn_rescue churn_loss difference difference_low difference_high mcnemar_p",
    ),
    "attribution": _columns(
        text="quantizer best_full_depth_refit_label",
        number="margin margin_low margin_high fp32_margin fp32_margin_low fp32_margin_high attributable "
        "attributable_low attributable_high n best_full_depth_refit routed_minus_refit routed_minus_refit_low "
        "routed_minus_refit_high",
    ),
    "ablations": _columns(
        text="quantizer precision axis setting point",
        number="n top1 top1_low top1_high saved difference difference_low difference_high mcnemar_p",
        flag="is_base",
    ),
    "skipped": _columns(text="sample split reason"),
}
"""Required columns of every table; further columns are allowed and are carried into the CSV files."""


@dataclass(frozen=True)
class ReportTables:
    """Everything a report shows. Shares and accuracies are 0..1, margins and differences too (0.01 = one point).

    Each frame satisfies the entry of ``SCHEMA`` with its name; ``provenance`` is a free, possibly nested dictionary.
    """

    points: pd.DataFrame
    noise: pd.DataFrame
    exits: pd.DataFrame
    quantizers: pd.DataFrame
    attribution: pd.DataFrame
    ablations: pd.DataFrame
    skipped: pd.DataFrame
    provenance: dict[str, Any]

    def frames(self) -> dict[str, pd.DataFrame]:
        """The tables by name, in the order of ``SCHEMA``."""
        return {name: getattr(self, name) for name in SCHEMA}

    def quantizer_names(self) -> list[str]:
        """Quantizers with an operating point, in the order of the ``points`` table, without the FP32 row."""
        return [str(name) for name in self.points["quantizer"].unique() if name != FP32]

    def arms(self, quantizer: str) -> list[str]:
        """Precisions that were run for this quantizer: itself first, then the FP32 control."""
        found = set(self.points.loc[self.points["quantizer"] == quantizer, "precision"])
        return [arm for arm in (quantizer, FP32) if arm in found]

    def best_of_grid(self, quantizer: str) -> pd.Series[Any] | None:
        """The routed point of a quantized arm that is best on the `select` split, at the headline's budget or above."""
        headline = self.headline(quantizer, quantizer)
        if headline is None:
            return None
        rows = self.points[
            (self.points["quantizer"] == quantizer)
            & (self.points["precision"] == quantizer)
            & (self.points["study"] == "frontier")
            & (self.points["budget"] >= headline["budget"])
        ]
        return None if rows.empty else rows.loc[rows["select_top1"].idxmax()]

    def counterpart(self, point: pd.Series[Any]) -> pd.Series[Any] | None:
        """The same configuration of an operating point in the FP32 control; None where it was not run."""
        same = [
            "quantizer",
            "policy",
            "aggregation",
            "supervision",
            "gate_features",
            "layers",
            "threshold_rule",
            "budget",
        ]
        rows = self.points[(self.points[same] == point[same]).all(axis=1) & (self.points["precision"] == FP32)]
        return None if rows.empty else rows.iloc[0]

    def headline(self, quantizer: str, precision: str) -> pd.Series[Any] | None:
        """The operating point of the base configuration, or None where that arm was not run."""
        points = self.points
        rows = points[(points["quantizer"] == quantizer) & (points["precision"] == precision) & points["headline"]]
        return None if rows.empty else rows.iloc[0]

    def row(self, table: str, quantizer: str) -> pd.Series[Any] | None:
        """The first row of a table with one row a quantizer, or None where there is none."""
        frame = self.frames()[table]
        rows = frame[frame["quantizer"] == quantizer]
        return None if rows.empty else rows.iloc[0]


def _check(frame: pd.DataFrame, columns: dict[str, Kind], file: str) -> None:
    """Raise ValueError, naming the file and the columns, where a column is missing or of the wrong kind."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise ValueError(f"{file}: missing column(s): {', '.join(missing)}")
    if frame.empty:
        return
    wrong = [
        f"{name} (expected {kind}, found {frame[name].dtype})"
        for name, kind in columns.items()
        if (kind == "number" and (not is_numeric_dtype(frame[name]) or is_bool_dtype(frame[name])))
        or (kind == "flag" and not is_bool_dtype(frame[name]))
    ]
    if wrong:
        raise ValueError(f"{file}: wrong type of column(s): {', '.join(wrong)}")


def _check_headline(points: pd.DataFrame, file: str) -> None:
    """Raise ValueError unless every quantizer and precision has exactly one headline point."""
    counts = points.groupby(["quantizer", "precision"], sort=False)["headline"].sum().reset_index()
    wrong = [
        f"{quantizer}/{precision}: {count}"
        for quantizer, precision, count in counts.itertuples(index=False, name=None)
        if count != 1
    ]
    if wrong:
        raise ValueError(f"{file}: column headline must be true exactly once per quantizer and precision; {wrong}")


def validate(tables: ReportTables) -> None:
    """Check all tables against ``SCHEMA``.

    Raises:
        ValueError: names the file and the offending column(s).
    """
    for name, frame in tables.frames().items():
        _check(frame, SCHEMA[name], f"{name}.parquet")
    _check_headline(tables.points, "points.parquet")


def load(folder: Path) -> ReportTables:
    """Read ``<table>.parquet`` for every table of ``SCHEMA`` and ``provenance.json`` from a folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a table violates its schema; the message names the file and the column(s).
    """
    frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in SCHEMA}
    provenance: dict[str, Any] = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    tables = ReportTables(**frames, provenance=provenance)
    validate(tables)
    return tables

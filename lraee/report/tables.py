"""The tidy tables a report is made of, and the schema that they must satisfy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from lraee.data.remarks import Outcome
from lraee.names import FP32

Kind = Literal["text", "number", "flag"]


def _columns(text: str = "", number: str = "", flag: str = "") -> dict[str, Kind]:
    """Schema of one table from space-separated column names, in the order text, number, flag."""
    kinds: list[tuple[Kind, str]] = [("text", text), ("number", number), ("flag", flag)]
    return {name: kind for kind, names in kinds for name in names.split()}


def _ci(*names: str) -> str:
    """Each name followed by the names of its 95 % bounds."""
    return " ".join(f"{name} {name}_low {name}_high" for name in names)


SCHEMA: dict[str, dict[str, Kind]] = {
    "points": _columns(
        text="point quantizer precision study policy aggregation supervision full_depth_head gate_features layers "
        "threshold_rule thresholds",
        number=f"budget risk inr_exponent select_top1 select_saved n correct {_ci('top1', 'saved', 'uncounted')} "
        "saved_blocks "
        "bops_saved bops_saved_blocks macs bops mean_layer both_right rescue loss both_wrong "
        f"{_ci('margin')} mcnemar_p mcnemar_p_holm {_ci('disagreement')}",
        flag="on_frontier headline",
    ),
    "noise": _columns(
        text="quantizer tokens",
        number=f"layer n {_ci('nsr')} inr sqnr_db cosine mse peak peak_quantized",
        flag="candidate pathological",
    ),
    "exits": _columns(
        text="quantizer precision point",
        number=f"layer n share {_ci('accuracy_exit', 'accuracy_full')} auroc",
    ),
    "early": _columns(
        text="quantizer precision point",
        number=f"n n_early share {_ci('accuracy_exit', 'accuracy_full', 'difference')} mcnemar_p n_rest "
        f"{_ci('accuracy_rest')}",
    ),
    "quantizers": _columns(
        text="quantizer scheme description settings",
        number=f"weight_bits activation_bits covered_parameters covered_macs n {_ci('top1')} agreement "
        f"churn_rescue churn_loss {_ci('difference')} mcnemar_p",
    ),
    "attribution": _columns(
        text="quantizer best_full_depth_refit_label best_static_label best_point best_on_refit_point",
        number=f"n seeds {_ci('margin', 'fp32_margin', 'attributable')} saved fp32_saved "
        f"{_ci('best_full_depth_refit', 'routed_minus_refit', 'best_minus_refit', 'on_refit_top1')} on_refit_saved "
        f"{_ci('on_refit_minus_refit', 'on_refit_minus_full', 'best_static', 'routed_minus_static')}",
    ),
    "controls": _columns(
        text="quantizer other",
        number="weight_bits activation_bits other_weight_bits other_activation_bits n top1 other_top1 "
        f"{_ci('difference')} mcnemar_p mcnemar_p_holm",
    ),
    "rivals": _columns(
        text="quantizer other",
        number=f"weight_bits activation_bits n top1 other_top1 {_ci('difference')} mcnemar_p mcnemar_p_holm",
        flag="exits",
    ),
    "allocation": _columns(text="quantizer", number="layer bits utilisation candidate drift"),
    "calibration_costs": _columns(
        text="quantizer model", number="images cpu_seconds wall_seconds peak_before_mib peak_mib state_mib"
    ),
    "agreement": _columns(text="quantizer engine", number=f"n {_ci('answers', 'exits')} farthest"),
    "disagreements": _columns(
        text="quantizer engine",
        number="sample evaluated_layer runtime_layer evaluated_answer runtime_answer distance",
    ),
    "latency": _columns(
        text="quantizer contestant engine mode",
        number=f"threads batch batches {_ci('ms', 'speed')} n same",
        flag="int8",
    ),
    "conversion": _columns(
        text="quantizer engine",
        number=f"threads batch n ms_full ms_exits macs_saved {_ci('time_saved', 'turned')} "
        "visits_macs visits_time leaving_macs leaving_time",
    ),
    "searches": _columns(text="quantizer", number="evaluation fitness"),
    "ablations": _columns(
        text="quantizer precision axis setting point",
        number=f"n {_ci('top1')} saved {_ci('difference')} mcnemar_p",
        flag="is_base",
    ),
    "sweep": _columns(
        text="quantizer precision policy layers",
        number=f"threshold n {_ci('top1')} saved saved_blocks",
        flag="is_base",
    ),
    "thresholds": _columns(
        text="quantizer precision point threshold_rule",
        number="budget layer threshold inr",
    ),
    "classes": _columns(
        text="quantizer name",
        number="label n full_top1 top1 rescue loss margin fp32_margin mcnemar_p mcnemar_p_holm",
    ),
    "seeds": _columns(
        text="quantizer",
        number=f"seed n {_ci('top1')} saved "
        f"{_ci('margin', 'fp32_margin', 'attributable', 'refit', 'routed_minus_refit')}",
    ),
    "seed_spread": _columns(
        text="quantizer measure",
        number=f"seeds {_ci('mean')} sd minimum maximum sampling_sd",
    ),
    "sensitivity": _columns(
        text="quantizer precision axis value point_layers",
        number=f"x n {_ci('top1')} saved {_ci('margin', 'difference')} mcnemar_p {_ci('attributable')}",
        flag="is_base",
    ),
    "costs": _columns(
        text="quantizer component",
        number="macs_full macs_routed bops_full bops_routed",
        flag="counted_by_paper",
    ),
    "remarks": _columns(text="split location outcome reason", number="sample"),
}
"""Required columns of every table; further columns are allowed and are carried into the CSV files.

A table may be without rows: what was not configured or met no budget has none, and the report then says so.
"""


CONFIGURATION = [
    "policy", "aggregation", "supervision", "full_depth_head", "gate_features", "layers", "threshold_rule", "budget",
]  # fmt: skip
"""What makes two operating points of one arm the same configuration."""


@dataclass(frozen=True)
class ReportTables:
    """Everything a report shows. Shares and accuracies are 0..1, margins and differences too (0.01 = one point).

    Each frame satisfies the entry of ``SCHEMA`` with its name; ``provenance`` is a free, possibly nested dictionary.
    """

    points: pd.DataFrame
    noise: pd.DataFrame
    exits: pd.DataFrame
    early: pd.DataFrame
    quantizers: pd.DataFrame
    attribution: pd.DataFrame
    controls: pd.DataFrame
    rivals: pd.DataFrame
    allocation: pd.DataFrame
    calibration_costs: pd.DataFrame
    agreement: pd.DataFrame
    disagreements: pd.DataFrame
    latency: pd.DataFrame
    conversion: pd.DataFrame
    searches: pd.DataFrame
    ablations: pd.DataFrame
    sweep: pd.DataFrame
    thresholds: pd.DataFrame
    classes: pd.DataFrame
    seeds: pd.DataFrame
    seed_spread: pd.DataFrame
    sensitivity: pd.DataFrame
    costs: pd.DataFrame
    remarks: pd.DataFrame
    provenance: dict[str, Any]

    @property
    def random_weights(self) -> bool:
        """Whether the model's weights were drawn at random, so that no accuracy is a finding."""
        return bool(self.provenance.get("random_weights"))

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
        """The configuration with exits that is best on the `select` split, at the headline's budget or above.

        The table ``attribution`` names it; without that, it is looked up the same way.
        """
        named = self._named("best_point", quantizer)
        headline = self.headline(quantizer, quantizer)
        if named is not None or headline is None:
            return named
        rows = self.arm(quantizer, quantizer)
        rows = rows[(rows["study"] == "frontier") & (rows["budget"] >= headline["budget"])]
        return None if rows.empty else rows.loc[rows["select_top1"].idxmax()]

    def best_on_refit(self, quantizer: str) -> pd.Series[Any] | None:
        """The best routing, chosen on `select`, whose full-depth answer comes from a refitted head."""
        return self._named("best_on_refit_point", quantizer)

    def _named(self, column: str, quantizer: str) -> pd.Series[Any] | None:
        """The quantized arm's operating point that a column of ``attribution`` names."""
        row = self.row("attribution", quantizer)
        rows = self.arm(quantizer, quantizer)
        rows = rows.iloc[:0] if row is None else rows[rows["point"] == row[column]]
        return None if rows.empty else rows.iloc[0]

    def arm(self, quantizer: str, precision: str) -> pd.DataFrame:
        """All operating points of one arm of one quantizer."""
        points = self.points
        return points[(points["quantizer"] == quantizer) & (points["precision"] == precision)]

    def like(self, point: pd.Series[Any], free: Sequence[str] = (), **changed: str) -> pd.DataFrame:
        """Routed points of the same arm with the same configuration, but for some parts.

        Args:
            free: parts that may be anything. With ``policy`` among them, a gate with other inputs than the point's is
                still left out: it is an ablation, not another policy.
            changed: parts that have another value.
        """
        rows = self.arm(str(point["quantizer"]), str(point["precision"]))
        rows = rows[rows["study"].isin(["frontier", "ablation"])]
        for name in CONFIGURATION:
            if name not in free:
                rows = rows[rows[name] == changed.get(name, point[name])]
        if "policy" in free:
            rows = rows[rows["gate_features"].isin([point["gate_features"], ""])]
        return rows

    def counterpart(self, point: pd.Series[Any]) -> pd.Series[Any] | None:
        """The same configuration of an operating point in the FP32 control; None where it was not run."""
        same = ["quantizer", *CONFIGURATION]
        rows = self.points[(self.points[same] == point[same]).all(axis=1) & (self.points["precision"] == FP32)]
        return None if rows.empty else rows.iloc[0]

    def headline(self, quantizer: str, precision: str) -> pd.Series[Any] | None:
        """The operating point of the base configuration, or None where that arm was not run."""
        points = self.points
        rows = points[(points["quantizer"] == quantizer) & (points["precision"] == precision) & points["headline"]]
        return None if rows.empty else rows.iloc[0]

    @property
    def images_by_split(self) -> dict[str, int]:
        """Images dealt to each split; empty where that was not recorded."""
        sizes = self.provenance.get("n_by_split")
        return dict(sizes) if isinstance(sizes, dict) else {}

    def remarked(self, outcome: Outcome) -> int:
        """Images with at least one remark of an outcome."""
        rows = self.remarks[self.remarks["outcome"] == outcome]
        return len(rows.drop_duplicates(["split", "sample"]))

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

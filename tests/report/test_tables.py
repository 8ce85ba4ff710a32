"""Loading and validating the tables of a report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from lraee.report.tables import SCHEMA, ReportTables, load, validate


def store(folder: Path, tables: ReportTables) -> None:
    """Write tables the way the pipeline hands them over."""
    for name, frame in tables.frames().items():
        frame.to_parquet(folder / f"{name}.parquet")
    (folder / "provenance.json").write_text(json.dumps(tables.provenance))


def test_load_returns_what_was_stored(tmp_path: Path, tables: ReportTables) -> None:
    store(tmp_path, tables)
    loaded = load(tmp_path)
    for name, frame in tables.frames().items():
        assert_frame_equal(loaded.frames()[name], frame)
    assert loaded.provenance == tables.provenance


@pytest.mark.parametrize("name", list(SCHEMA))
def test_missing_column_names_file_and_column(tmp_path: Path, tables: ReportTables, name: str) -> None:
    store(tmp_path, tables)
    victim = list(SCHEMA[name])[-1]
    tables.frames()[name].drop(columns=victim).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=rf"{name}\.parquet: missing column\(s\): {victim}$"):
        load(tmp_path)


def test_text_where_a_number_belongs_is_refused(tables: ReportTables) -> None:
    broken = dataclasses.replace(tables, points=tables.points.assign(top1="high"))
    with pytest.raises(ValueError, match=r"points\.parquet: wrong type.*top1"):
        validate(broken)


@pytest.mark.parametrize("value", [True, False])
def test_headline_must_be_unique(tables: ReportTables, value: bool) -> None:
    broken = dataclasses.replace(tables, points=tables.points.assign(headline=value))
    with pytest.raises(ValueError, match="headline must be true exactly once"):
        validate(broken)


def test_empty_tables_are_valid(tables: ReportTables) -> None:
    empty: dict[str, Any] = {
        name: pd.DataFrame(columns=list(SCHEMA[name])) for name in ("remarks", "noise", "ablations")
    }
    validate(dataclasses.replace(tables, **empty))

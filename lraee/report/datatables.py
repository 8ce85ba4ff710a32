"""Tables of the document: what each column shows, how it sorts, and the full data for download."""

from __future__ import annotations

import base64
import gzip
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lraee.report import wording

SHOWN_ROWS = 400
"""Rows of one table that are written into the document; its CSV always holds all."""
COLLAPSE_ABOVE = 60
"""Rows above which a table starts out collapsed."""
OPEN_UP_TO = 20
"""Rows up to which the data beside a figure starts out open."""


def _percent1(value: float) -> str:
    return wording.percent(value, 1)


_FORMATS: dict[str, Callable[[float], str]] = {
    "count": wording.count,
    "layer": wording.count,
    "number": wording.number,
    "percent": wording.percent,
    "percent1": _percent1,
    "points": wording.points,
    "ratio": wording.significant,
    "p": lambda value: wording.p_value(value).removeprefix(f"={wording.NBSP}"),
}
_INTERVALS = {"percent": wording.percent_interval, "percent1": wording.percent_interval,
              "points": wording.points_interval}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A shown column: its source, heading and kind (``text``, ``flag`` or a key of the number formats).

    With ``interval``, the cell also shows ``<source>_low`` and ``<source>_high``.
    """

    source: str
    label: str
    kind: str = "text"
    interval: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the column sorts by number and is aligned right."""
        return self.kind not in ("text", "flag")


@dataclass(frozen=True)
class Cell:
    """A rendered cell: text, interval below it, and the value it sorts by (empty: always last)."""

    text: str
    detail: str
    key: str
    numeric: bool


@dataclass(frozen=True)
class DataTable:
    """A table of the document with its full data as base64 of gzipped CSV."""

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int
    csv: str

    @property
    def collapsed(self) -> bool:
        """Whether the table is long enough to start out closed."""
        return self.total > COLLAPSE_ABOVE

    @property
    def opened(self) -> bool:
        """Whether the table is short enough to stand open beside its figure."""
        return self.total <= OPEN_UP_TO

    @property
    def intervals(self) -> bool:
        """Whether any column shows an interval."""
        return any(column.interval for column in self.columns)


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV with all its columns and full precision."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _cell(row: dict[str, Any], column: Column) -> Cell:
    """Format one value of a row."""
    value = row[column.source]
    if column.kind == "flag":
        return Cell("yes" if value else "no", "", str(int(bool(value))), False)
    if not column.numeric:
        text = "" if value is None or value is pd.NA or value != value else str(value)
        return Cell(text, "", text, False)
    number = float(value)
    detail = ""
    if column.interval:
        detail = _INTERVALS[column.kind](float(row[f"{column.source}_low"]), float(row[f"{column.source}_high"]))
    return Cell(_FORMATS[column.kind](number), detail, "" if math.isnan(number) else f"{number:.8g}", True)


def build(table_id: str, caption: str, frame: pd.DataFrame, columns: Sequence[Column]) -> DataTable:
    """A table of ``columns`` of a frame, whose CSV has every column and row of that frame.

    Args:
        table_id: unique anchor in the document, also the name of the downloaded file.
    """
    records: list[dict[Any, Any]] = frame.head(SHOWN_ROWS).to_dict("records")
    packed = gzip.compress(to_csv(frame).encode(), compresslevel=9, mtime=0)
    return DataTable(
        id=table_id,
        caption=caption,
        columns=tuple(columns),
        rows=tuple(tuple(_cell(record, column) for column in columns) for record in records),
        total=len(frame),
        csv=base64.b64encode(packed).decode(),
    )

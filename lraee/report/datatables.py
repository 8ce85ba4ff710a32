"""Tables of the document: what each column shows, how it sorts, and the full data for download."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lraee.report import wording

SHOWN_ROWS = 100
"""Rows of one table that are written out in the document; the others are carried packed, see ``DataTable.more``."""
FILTER_ABOVE = 8
"""Rows above which a table can be filtered."""
COLLAPSE_ABOVE = 60
"""Rows above which a table starts out collapsed."""
OPEN_UP_TO = 20
"""Rows up to which the data beside a figure starts out open."""


def _percent1(value: float) -> str:
    return wording.percent(value, 1)


_FORMATS: dict[str, Callable[[float], str]] = {
    "count": wording.count,
    "layer": wording.count,
    "bits": wording.bits,
    "number": wording.number,
    "percent": wording.percent,
    "percent1": _percent1,
    "points": wording.points,
    "hundredths": lambda value: wording.number(100 * value),
    "ratio": wording.significant,
    "p": lambda value: wording.p_value(value).removeprefix(f"={wording.NBSP}"),
}
_INTERVALS = {"percent": wording.percent_interval, "percent1": wording.percent_interval,
              "points": wording.points_interval, "hundredths": wording.percent_interval}  # fmt: skip


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
    """A table of the document with its full data as base64 of gzipped CSV.

    ``rows`` are the first ones, which are written out. ``more`` has the cells of all others, by column, as base64 of
    gzipped JSON (empty where there are none): ``templates/tables.js`` makes rows of them when they are asked for, so
    that sorting and filtering always act on the whole table while the document stays small.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int
    csv: str
    more: str = ""

    @property
    def collapsed(self) -> bool:
        """Whether the table is long enough to start out closed."""
        return self.total > COLLAPSE_ABOVE

    @property
    def opened(self) -> bool:
        """Whether the table is short enough to stand open beside its figure."""
        return self.total <= OPEN_UP_TO

    @property
    def filterable(self) -> bool:
        """Whether the table is long enough for a filter."""
        return self.total > FILTER_ABOVE

    @property
    def intervals(self) -> bool:
        """Whether any column shows an interval."""
        return any(column.interval for column in self.columns)


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV with all its columns and full precision."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def pack(text: str) -> str:
    """A text as base64 of gzip, the same for the same text; the document's scripts unpack it when it is needed."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def cell(row: dict[str, Any], column: Column) -> Cell:
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
    # JavaScript reads 1e999 as infinity, and "inf" as nothing.
    key = "" if math.isnan(number) else f"{number:.8g}".replace("inf", "1e999")
    return Cell(_FORMATS[column.kind](number), detail, key, True)


def _packed(rows: Sequence[Sequence[Cell]], columns: Sequence[Column]) -> str:
    """Cells by column; what is empty or equal to the text throughout is left out."""
    if not rows:
        return ""
    content: list[dict[str, list[str]]] = []
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        part = {"text": [item.text for item in cells]}
        if column.interval:
            part["detail"] = [item.detail for item in cells]
        if column.numeric:
            part["key"] = [item.key for item in cells]
        content.append(part)
    return pack(json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def build(table_id: str, caption: str, frame: pd.DataFrame, columns: Sequence[Column]) -> DataTable:
    """A table of ``columns`` of a frame, whose CSV has every column and row of that frame.

    Args:
        table_id: unique anchor in the document, also the name of the downloaded file.
    """
    records: list[dict[Any, Any]] = frame.to_dict("records")
    rows = tuple(tuple(cell(record, column) for column in columns) for record in records)
    return DataTable(
        id=table_id,
        caption=caption,
        columns=tuple(columns),
        rows=rows[:SHOWN_ROWS],
        total=len(frame),
        csv=pack(to_csv(frame)),
        more=_packed(rows[SHOWN_ROWS:], columns),
    )

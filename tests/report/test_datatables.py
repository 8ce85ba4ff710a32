"""Tables of the document: what is written out, what is carried packed, and that nothing is lost between them."""

from __future__ import annotations

import base64
import gzip
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lraee.report.datatables import SHOWN_ROWS, Cell, Column, build, cell

COLUMNS = (
    Column("name", "Name"), Column("flag", "Flag", "flag"), Column("share", "Share", "percent", True),
    Column("n", "n", "count"),
)  # fmt: skip


def frame(rows: int) -> pd.DataFrame:
    share = np.random.default_rng(1).uniform(0, 1, rows)
    share[::7] = np.nan
    return pd.DataFrame({
        "name": [f"<b>{index}</b> \u00e4\u2028" for index in range(rows)], "flag": np.arange(rows) % 3 == 0,
        "share": share, "share_low": share - 0.01, "share_high": share + 0.01, "n": np.arange(rows) * 1000,
        "unseen": share**2,
    })  # fmt: skip


def unpacked(text: str) -> str:
    return gzip.decompress(base64.b64decode(text)).decode()


def carried(more: str) -> list[list[tuple[str, str, str]]]:
    """The packed rows as (text, detail, key), read as the document's script reads them."""
    columns: list[dict[str, Any]] = json.loads(unpacked(more))
    return [
        [
            (part["text"][row], part["detail"][row] if "detail" in part else "", part.get("key", part["text"])[row])
            for part in columns
        ]
        for row in range(len(columns[0]["text"]))
    ]


def shown(cells: tuple[Cell, ...]) -> list[tuple[str, str, str]]:
    return [(item.text, item.detail, item.key if item.numeric else item.text) for item in cells]


def test_written_and_packed_rows_are_the_whole_table() -> None:
    rows = SHOWN_ROWS + 37
    table = build("data-x", "X", frame(rows), COLUMNS)
    assert (table.total, len(table.rows), table.filterable, table.collapsed) == (rows, SHOWN_ROWS, True, True)
    expected = [shown(tuple(cell(row, column) for column in COLUMNS)) for row in frame(rows).to_dict("records")]
    assert [*map(shown, table.rows), *carried(table.more)] == expected


@pytest.mark.parametrize("rows", [0, 1, SHOWN_ROWS])
def test_nothing_is_packed_where_all_rows_are_written(rows: int) -> None:
    table = build("data-x", "X", frame(rows), COLUMNS)
    assert (len(table.rows), table.more) == (rows, "")


def test_the_csv_has_every_column_and_row() -> None:
    expected = frame(SHOWN_ROWS + 3)
    written = pd.read_csv(io.StringIO(unpacked(build("data-x", "X", expected, COLUMNS).csv)))
    pd.testing.assert_frame_equal(written, expected, rtol=0, atol=0)


def test_cells_say_what_they_sort_by() -> None:
    row = {"share": 0.5872, "share_low": 0.5775, "share_high": 0.5968, "flag": True, "name": None}
    assert cell(row, COLUMNS[2]) == Cell("58.72\u00a0%", "[57.75, 59.68]", "0.5872", True)
    assert cell({**row, "share": float("nan")}, COLUMNS[2]).key == ""
    assert [cell(row, column).text for column in COLUMNS[:2]] == ["", "yes"]


def test_the_same_table_packs_to_the_same_bytes() -> None:
    first, second = (build("data-x", "X", frame(SHOWN_ROWS + 5), COLUMNS) for _ in range(2))
    assert (first.csv, first.more) == (second.csv, second.more)

"""Images that gave no picture, or had to be converted: how many, why, and which."""

from __future__ import annotations

import math

import pandas as pd

from lraee.data.remarks import cause
from lraee.report.datatables import Column, DataTable, build
from lraee.report.tables import ReportTables
from lraee.report.wording import count

_OUTCOMES = {"skipped": "left out", "converted": "converted"}


def _worded(tables: ReportTables) -> pd.DataFrame:
    """The remarks with what was done in words, those left out first."""
    rows = tables.remarks.sort_values("outcome", ascending=False, kind="stable")
    return rows.assign(outcome=[_OUTCOMES[outcome] for outcome in rows["outcome"]])


def causes(tables: ReportTables) -> DataTable:
    """Images by what was done, why, and split; an image with two causes counts in both rows."""
    rows, sizes = _worded(tables), tables.images_by_split
    rows = rows.assign(cause=[cause(reason) for reason in rows["reason"]])
    keys = ["outcome", "cause", "split"]
    counted = rows.groupby(keys, sort=False)["sample"].nunique().rename("images").reset_index()
    counted = counted.assign(n=[float(sizes.get(split, math.nan)) for split in counted["split"]])
    counted = counted.assign(share=counted["images"] / counted["n"])
    columns = [
        Column("outcome", "What was done"), Column("cause", "Why"), Column("split", "Split"),
        Column("images", "Images", "count"), Column("n", "Of", "count"), Column("share", "Share", "percent"),
    ]  # fmt: skip
    return build("data-remark-causes", "Images left out or converted, by cause and split", counted, columns)


def files(tables: ReportTables) -> DataTable:
    """Every remark with the image's place in the data."""
    columns = [
        Column("outcome", "What was done"), Column("reason", "Why"), Column("location", "Image"),
        Column("split", "Split"), Column("sample", "Sample", "count"),
    ]  # fmt: skip
    return build("data-remarks", "Images left out or converted, one by one", _worded(tables), columns)


def sentence(tables: ReportTables) -> str:
    """How many images were left out and how many converted."""
    skipped, converted = tables.remarked("skipped"), tables.remarked("converted")
    if not skipped and not converted:
        return "Every image was read as it is: none was left out or converted."
    dealt = sum(tables.images_by_split.values())
    of = f"Of {count(dealt)} images, " if dealt else ""
    return (
        f"{of}{count(skipped)} gave no picture and {'was' if skipped == 1 else 'were'} left out, "
        f"{count(converted)} {'was' if converted == 1 else 'were'} converted to RGB."
    )

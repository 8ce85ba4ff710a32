"""What users load: does the exported network do what was evaluated, and in how many milliseconds?"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from lraee.evaluation.timings import FULL_DEPTH, RUN
from lraee.report import timings
from lraee.report.content import Block, Panel
from lraee.report.datatables import Column, DataTable, build
from lraee.report.style import Theme
from lraee.report.tables import ReportTables
from lraee.report.wording import percent, percent_interval, significant

_QUANTIZER, _ENGINE = Column("quantizer", "Quantizer"), Column("engine", "Engine")
_RUN = (Column("threads", "Threads", "count"), Column("batch", "Batch", "count"))


def agreement(tables: ReportTables) -> DataTable:
    """Share of test images on which the runtime gives the evaluation's answer, and leaves where it says."""
    columns = [
        _QUANTIZER, _ENGINE, Column("n", "Images", "count"),
        Column("answers", "Same answer", "percent1", interval=True),
        Column("exits", "Same exit", "percent1", interval=True),
        Column("farthest", "Farthest from a threshold", "ratio"),
    ]  # fmt: skip
    return build("data-agreement", "Runtime and evaluation", tables.agreement, columns)


def disagreements(tables: ReportTables) -> DataTable:
    """The test images on which they differ."""
    columns = [
        _QUANTIZER, _ENGINE, Column("sample", "Image", "count"), Column("evaluated_layer", "Exit, evaluated", "count"),
        Column("runtime_layer", "Exit, runtime", "count"), Column("evaluated_answer", "Class, evaluated", "count"),
        Column("runtime_answer", "Class, runtime", "count"), Column("distance", "Distance to a threshold", "ratio"),
    ]  # fmt: skip
    return build("data-disagreements", "Images on which they differ", tables.disagreements, columns)


def _panels(
    frame: pd.DataFrame, kind: str, alt: str, draw: Callable[[pd.DataFrame, str, Theme], Figure]
) -> tuple[Panel, ...]:
    """One panel for every quantizer and number of threads."""

    def panel(number: int, rows: pd.DataFrame, title: str) -> Panel:
        return Panel(f"{kind}-{number}", f"{alt}, {title}.", lambda theme: draw(rows, title, theme))

    groups = frame.groupby(["quantizer", "threads"], sort=False)
    return tuple(
        panel(number, rows, f"{quantizer}, {threads} {'thread' if threads == 1 else 'threads'}")
        for number, ((quantizer, threads), rows) in enumerate(groups)
    )


def latency(tables: ReportTables) -> Block:
    """Milliseconds an image, of the runtime and of its peers."""
    columns = [
        _QUANTIZER, *_RUN, Column("contestant", "What ran"), Column("ms", "ms an image", "ratio"),
        Column("ms_low", "Lower quartile", "ratio"), Column("ms_high", "Upper quartile", "ratio"),
        Column("speed", "Speed, torch FP32 = 1", "ratio"), Column("speed_low", "Lower quartile", "ratio"),
        Column("speed_high", "Upper quartile", "ratio"), Column("batches", "Batches timed", "count"),
        Column("same", "Answers as torch FP32", "percent1"),
    ]  # fmt: skip
    return Block(
        "fig-latency",
        "Median milliseconds an image, with quartiles over batches. All took turns, batch by batch, on the same test "
        "images, warmed up, pixels ready in memory; classes are computed, images are not decoded. Ours is what is "
        "exported; the others quantize the same network in their own way, with their own defaults, and have no exits. "
        "Where they answer otherwise than torch in FP32, the table says how often.",
        _panels(tables.latency, "latency", "Milliseconds an image by batch size", timings.latency),
        build("data-latency", "Milliseconds an image", tables.latency, columns),
    )


def conversion(tables: ReportTables) -> Block:
    """How much of the compute that exits save became time."""
    columns = [
        _QUANTIZER, *_RUN, _ENGINE, Column("ms_full", "ms, full depth", "ratio"),
        Column("ms_exits", "ms, exits", "ratio"),
        Column("macs_saved", "MACs saved", "percent1"),
        Column("time_saved", "Time saved", "percent1", interval=True),
        Column("turned", "Share turned into time", "percent1", interval=True),
        Column("leaving_macs", "Leaving saves, MACs", "percent1"),
        Column("leaving_time", "Leaving saves, time", "percent1"),
        Column("visits_macs", "Visits cost, MACs", "percent1"), Column("visits_time", "Visits cost, time", "percent1"),
    ]  # fmt: skip
    return Block(
        "fig-conversion",
        "Mean time of an image with exits, as a share of full depth's in the same engine. The bar ends with the 95 % "
        "interval from resampling batches; the diamond is where it would end if every saved MAC saved its share of "
        "time. Visits are what all exits cost if nobody leaves: the network is cut there, and heads and gates are "
        "asked. Leaving saves less time than MACs where it leaves small batches behind, and because those that leave "
        "have to be taken out.",
        _panels(tables.conversion, "conversion", "Time with exits as a share of full depth's", timings.conversion),
        build("data-conversion", "From saved compute to saved time", tables.conversion, columns),
    )


def time_sentence(tables: ReportTables) -> str:
    """Full depth against the fastest INT8 peer, and what exits add, on the fewest threads for the extreme batches."""
    shown = tables.latency[tables.latency["threads"] == tables.latency["threads"].min()]
    shown = shown[shown["batch"].isin([shown["batch"].min(), shown["batch"].max()])]
    full_depth = shown[shown["mode"] == FULL_DEPTH]
    timed = full_depth.merge(tables.conversion, on=[*RUN, "engine"], how="left")
    return " ".join(_told(rows) for _, rows in timed.groupby(RUN, sort=False))


def _told(rows: pd.DataFrame) -> str:
    is_ours = rows["engine"] != ""
    ours, others = rows[is_ours], rows[~is_ours & rows["int8"].astype(bool)]
    best = ours.sort_values("ms").iloc[0]
    against = ""
    if len(others):
        rival = others.sort_values("ms").iloc[0]
        ratio = significant(rival["ms"] / best["ms"])
        against = f", {ratio} times the speed of the fastest INT8 peer ({rival['contestant']})"
    saved, low, high = (float(best[f"time_saved{bound}"]) for bound in ("", "_low", "_high"))
    time = (
        f"and {percent(saved, 1)} {percent_interval(low, high)} of the time"
        if saved >= 0
        else f"but take {percent(-saved, 1)} {percent_interval(-high, -low)} more time"
    )
    return (
        f"{best['quantizer']}, {best['threads']} thread{'s' if best['threads'] > 1 else ''}, "
        f"batches of {best['batch']}: full depth takes {significant(best['ms'])} ms an image "
        f"({best['engine']}){against}; exits save {percent(best['macs_saved'], 1)} of the MACs {time}."
    )

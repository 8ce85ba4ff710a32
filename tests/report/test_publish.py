"""What a report leaves in its folder: complete, strict, and without remains of an earlier one."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal
from pydantic import ValidationError

from lraee.io import read_table
from lraee.report import ReportTables, write_report
from lraee.report.datatables import Column
from lraee.report.figures import TRADE_OFF
from lraee.report.interactive import frontier_hover, hover_points
from lraee.report.sections import blocks
from lraee.report.style import DARK, LIGHT, adaptive, draw_svg, render_svg
from lraee.report.summary import SCHEMA_VERSION, Summary, summarise
from lraee.report.verdict import judge

Factory = Callable[..., ReportTables]


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


def strict(text: str) -> Any:
    """Parse JSON that has neither NaN nor Infinity."""
    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def small(make: Factory) -> ReportTables:
    return make(margins=(0.03,), names=("w8a8",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, small: ReportTables) -> Path:
    """A folder in which another report was before."""
    place = tmp_path_factory.mktemp("report")
    for stale in ("tables/old.csv", "tables/old.parquet", "figures/frontier-old.svg", "tables/notes.txt"):
        (place / stale).parent.mkdir(exist_ok=True)
        (place / stale).write_text("stale")
    write_report(place, small)
    return place


def published(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_table_is_published_as_csv_and_parquet(folder: Path, small: ReportTables) -> None:
    for name, frame in small.frames().items():
        assert_frame_equal(read_table(folder / "tables" / f"{name}.parquet"), frame.reset_index(drop=True))
        assert (folder / "tables" / f"{name}.csv").read_text().splitlines()[0] == ",".join(frame.columns)


def test_summary_lists_exactly_what_is_there(folder: Path) -> None:
    listed = strict((folder / "summary.json").read_text(encoding="utf-8"))["files"]
    # What no report writes is left alone; what an earlier one wrote is gone.
    assert set(listed) == published(folder) - {"tables/notes.txt"}
    assert {"report.html", "summary.json", "tables/points.parquet", "figures/frontier-w8a8.svg"} <= set(listed)


def test_a_failed_report_touches_nothing(folder: Path, small: ReportTables) -> None:
    before = {name: (folder / name).read_bytes() for name in published(folder)}
    broken = dataclasses.replace(small, points=small.points.drop(columns="top1"))
    with pytest.raises(ValueError, match="top1"):
        write_report(folder, broken)
    assert {name: (folder / name).read_bytes() for name in published(folder)} == before


def test_the_summary_survives_the_round_trip(folder: Path, small: ReportTables) -> None:
    text = (folder / "summary.json").read_text(encoding="utf-8")
    summary = Summary.model_validate(strict(text))
    assert summary.to_json() == text
    assert summary == summarise(small, summary.files)
    assert summary.schema_version == SCHEMA_VERSION
    with pytest.raises(ValidationError):
        Summary.model_validate({**strict(text), "schema_version": SCHEMA_VERSION + 1})


def test_the_summary_says_what_the_tables_say(small: ReportTables) -> None:
    summary = summarise(small)
    (entry,) = summary.quantizers
    own, control = small.headline("w8a8", "w8a8"), small.headline("w8a8", "fp32")
    attribution = small.row("attribution", "w8a8")
    assert own is not None
    assert control is not None
    assert attribution is not None
    assert entry.headline is not None
    assert entry.fp32_control is not None
    assert entry.refit is not None
    assert (entry.headline.top1.value, entry.headline.top1.low, entry.headline.top1.n) == (
        own["top1"], own["top1_low"], own["n"],
    )  # fmt: skip
    assert (entry.headline.saved.value, entry.headline.margin.high) == (own["saved"], own["margin_high"])
    pairs = zip(own["layers"].split(","), json.loads(own["thresholds"]), strict=True)
    assert entry.headline.thresholds == dict(pairs)
    assert entry.fp32_control.margin.value == control["margin"]
    assert entry.attributable is not None
    assert entry.attributable.low == attribution["attributable_low"]
    assert entry.refit.routed_minus_refit.high == attribution["routed_minus_refit_high"]
    assert entry.full_depth is not None
    assert summary.fp32_full_depth is not None
    assert summary.fp32_full_depth.minus_fp32 is None
    verdict = judge(small)
    assert (summary.verdict.lead, summary.verdict.support) == (verdict.lead, verdict.support)
    assert entry.verdict.outcomes["exit"] == str(verdict.quantizers[0].exit)
    assert [(finding.label, finding.text) for finding in entry.verdict.findings] == [*verdict.quantizers[0].findings]
    assert (summary.images.skipped, summary.images.converted) == (1, 3)
    assert summary.provenance == small.provenance


def test_what_was_not_measured_is_null(small: ReportTables) -> None:
    unknown = dict.fromkeys(("attributable", "attributable_low", "attributable_high"), np.nan)
    summary = summarise(dataclasses.replace(
        small, attribution=small.attribution.assign(**unknown), quantizers=small.quantizers.iloc[:0],
        provenance={"kappa": float("nan"), "layers": (8, 9), "when": pd.Timestamp("2026-01-01")},
    ))  # fmt: skip
    content = strict(summary.to_json())
    assert content["quantizers"][0]["attributable"] is None
    assert content["quantizers"][0]["full_depth"] is None
    assert content["experiment"] is None
    assert content["provenance"] == {"kappa": None, "layers": [8, 9], "when": "2026-01-01 00:00:00"}


def test_positions_are_read_off_the_drawn_layout() -> None:
    """On axes that fill the figure, data coordinates are fractions; what the axes do not show is left out."""
    figure = Figure(figsize=(4, 2))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, 10), ylim=(0, 10))
    frame = pd.DataFrame({"x": [7.5, 2.5, 11.0], "y": [5.0, 10.0, 5.0], "name": ["b", "a", "outside"]})
    hover = hover_points(figure, axes, frame, "x", "y", (Column("name", "Name"),))
    assert hover.labels == ("Name",)
    assert [(point.x, point.y, point.cells, point.weight) for point in hover.points] == [
        (0.25, 0.0, ("a",), 0), (0.75, 0.5, ("b",), 0),
    ]  # fmt: skip


def test_the_layout_is_that_of_the_picture(small: ReportTables) -> None:
    """Constrained layout moves the axes while the SVG is written; positions follow it, and are equal in both themes."""

    def draw(theme: object) -> Figure:
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(-5, 40), ylim=(0, 100), ylabel="a label\nthat needs\nroom")
        axes.plot([10], [50], "o", gid="dot")
        return figure

    svg, figure = draw_svg(draw, LIGHT)
    place = hover_points(figure, figure.axes[0], pd.DataFrame({"x": [10.0], "y": [50.0], "name": [""]}), "x", "y",
                         (Column("name", "Name"),)).points[0]  # fmt: skip
    marker = svg[svg.index('id="dot"') :]
    x, y = (float(marker.split(f' {name}="')[1].split('"')[0]) for name in "xy")
    assert (place.x * 4 * 72, place.y * 3 * 72) == pytest.approx((x, y), abs=0.05)


def shown_dark(svg: str) -> str:
    """What a reader with a dark system sees of an adaptive picture: its dark rules in the place of the light ones."""
    head, _, rest = svg.partition("@media screen and (prefers-color-scheme:dark){")
    rules, _, body = rest.partition("}</style>")
    for name, look in re.findall(r"(\.\w+)(\{[^}]*\})", rules):
        head = re.sub(re.escape(name) + r"\{[^}]*\}", f"{name}{look}", head)
    return f"{head}</style>{body}"


@pytest.mark.parametrize("name", ["frontier", "noise", "exits", "quadrants", "costs"])
def test_the_dark_picture_is_the_light_one_in_other_colours(small: ReportTables, name: str) -> None:
    build, _ = blocks(small)[name]
    for panel in build(small).panels:
        light, dark = (render_svg(panel.draw, theme) for theme in (LIGHT, DARK))
        assert shown_dark(adaptive(light)) == dark
        assert LIGHT.ink not in dark


def test_every_colour_has_one_dark_counterpart_and_texts_keep_theirs() -> None:
    assert len(set(zip(LIGHT.series, DARK.series, strict=True))) == len(set(LIGHT.series))

    def draw(theme: object) -> Figure:
        figure = Figure()
        figure.text(0.5, 0.5, f'{LIGHT.ink} id="m0123456789" style="fill:red" d="M 0 0"')
        return figure

    picture = adaptive(draw_svg(draw, LIGHT)[0])
    assert "".join(ElementTree.fromstring(picture).itertext()).endswith(
        f'{LIGHT.ink} id="m0123456789" style="fill:red" d="M 0 0"'
    )


def test_a_point_of_the_frontier_names_its_configuration(small: ReportTables) -> None:
    points = small.points[small.points["study"].isin(TRADE_OFF)]
    figure = Figure()
    figure.subplots().set(xlim=(-100, 100), ylim=(0, 100))
    hover = frontier_hover(points, "w8a8", figure)
    assert len(hover.points) == len(points)
    (start,) = (point for point in hover.points if point.weight == 2)
    row = dict(zip(hover.labels, start.cells, strict=True))
    assert row["Configuration"] == "learned-gate, the headline (quantized)"
    assert row["Exits after blocks"] == "8,10,11"
    assert row["Thresholds"] == "8: ∞, 10: 0.400, 11: 0.500"
    full = [point.cells for point in hover.points if point.cells[0].startswith("full depth")]
    assert sorted(cells[0] for cells in full) == [
        "full depth, no exit (FP32 control)",
        "full depth, no exit (quantized)",
    ]
    assert len(hover.packed()) < 60 * len(points)

"""The document: self-contained, escaped, navigable, reproducible, and equal to its tables."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from lraee.report import ReportTables, render_report, write_report
from lraee.report.style import THEMES
from lraee.report.wording import number, percent, points, slugs, wilson_bounds

Factory = Callable[..., ReportTables]
HOSTILE = '<script>alert("x")</script> $a_b$ & \'{{ 7 * 7 }}'


class Page(HTMLParser):
    """Every start tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every occurrence of a tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def svgs(self) -> list[str]:
        """The decoded figures."""
        return [base64.b64decode(image["src"].split(",", 1)[1]).decode() for image in self.of("img")]


@pytest.fixture(scope="module")
def html(tables: ReportTables) -> str:
    return render_report(tables)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert not re.match(r"\s*(https?:|//)", attributes.get(name, "")), (tag, attributes)
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "iframe", "object", "embed"})
    for source in (html, *page.svgs()):
        assert "@import" not in source
        assert not re.search(r"url\(\s*['\"]?(https?:|//)", source)
        assert not re.search(r"href=['\"]https?:", source)


def test_size_is_bounded(html: str, make: Factory) -> None:
    assert len(html.encode()) < 5e6
    many = make(margins=(0.01,) * 8, names=tuple(f"quantizer {index}" for index in range(8)))
    assert len(render_report(many).encode()) < 5e6


def test_ids_are_unique_and_anchors_resolve(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"][1:] for link in page.of("a") if link["href"].startswith("#")]
    assert len(targets) > 12
    assert set(targets) <= set(ids)


def test_every_image_has_alt_and_both_themes(page: Page) -> None:
    images = page.of("img")
    assert len(images) == 2 * (5 * 3 + 2)
    assert all(image["alt"].strip() for image in images)
    light, dark = [[i["alt"] for i in images if i["class"] == theme.name] for theme in THEMES]
    assert light == dark


def test_figures_are_drawn_on_the_page_colour(html: str) -> None:
    assert [f"--surface: {theme.surface};" in html for theme in THEMES] == [True, True]


def test_hostile_names_stay_text(make: Factory) -> None:
    tables = make(margins=(0.01,), names=(HOSTILE,))
    tables = dataclasses.replace(
        tables,
        provenance={**tables.provenance, "experiment": HOSTILE, "config": HOSTILE, "n_by_split": {HOSTILE: 1}},
        skipped=pd.DataFrame([{"sample": HOSTILE, "split": HOSTILE, "reason": HOSTILE}]),
        ablations=tables.ablations.assign(setting=HOSTILE, axis=HOSTILE),
    )
    page = Page(render_report(tables))
    assert len(page.of("script")) == 1
    assert HOSTILE in page.text
    for svg in page.svgs():
        root = ElementTree.fromstring(svg)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert any("<script>" in "".join(ElementTree.fromstring(svg).itertext()) for svg in page.svgs())


def test_downloads_hold_the_full_data(page: Page, tables: ReportTables) -> None:
    csv = {button["data-file"]: button["data-csv"] for button in page.of("button") if "data-csv" in button}
    unpacked = {
        name: pd.read_csv(io.BytesIO(gzip.decompress(base64.b64decode(text))), keep_default_na=True)
        for name, text in csv.items()
    }
    trade_off = tables.points[tables.points["study"].isin(["full-depth", "static", "frontier"])]
    assert len(unpacked["frontier.csv"]) == len(trade_off)
    assert set(tables.points.columns) <= set(unpacked["frontier.csv"].columns)
    assert unpacked["attribution.csv"]["attributable"].tolist() == tables.attribution["attributable"].tolist()
    assert len(csv) == len(page.of("table")) - sum(table.get("class") == "facts" for table in page.of("table"))


def test_only_short_tables_start_open(html: str) -> None:
    noise = html[: html.index('id="data-noise"')]
    assert noise.rindex("<details") > noise.rindex("</details>")
    assert "open" not in noise[noise.rindex("<details") :].split(">")[0]
    quadrants = html[: html.index('id="data-quadrants"')]
    assert quadrants[quadrants.rindex("<details") :].startswith('<details class="data" open>')


def test_written_files_equal_the_tables(tmp_path: Path, tables: ReportTables, html: str) -> None:
    write_report(tmp_path, tables)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "report.html", "tables"]
    for name, frame in tables.frames().items():
        written = pd.read_csv(tmp_path / "tables" / f"{name}.csv", keep_default_na=False, na_values={
            column: [""] for column in frame.select_dtypes("number").columns
        }, dtype=dict.fromkeys(frame.select_dtypes(["object", "str"]).columns, str))  # fmt: skip
        assert_frame_equal(written, frame.reset_index(drop=True), check_dtype=False, rtol=0, atol=0)
    figures = sorted((tmp_path / "figures").iterdir())
    assert len(figures) == 5 * 3 + 2
    assert all(ElementTree.parse(figure).getroot().tag.endswith("svg") for figure in figures)


def test_same_tables_same_bytes(tables: ReportTables, html: str) -> None:
    assert render_report(tables) == html


def test_invalid_tables_are_refused(tables: ReportTables) -> None:
    with pytest.raises(ValueError, match=r"exits\.parquet: missing column\(s\): share"):
        render_report(dataclasses.replace(tables, exits=tables.exits.drop(columns="share")))


def test_sparse_experiments_still_render(tables: ReportTables) -> None:
    first = tables.points["quantizer"] == tables.points["quantizer"].iloc[0]
    keep = first & tables.points["study"].isin(["full-depth", "frontier"]) & (tables.points["precision"] != "fp32")
    sparse = dataclasses.replace(
        tables, points=tables.points[keep], noise=tables.noise.iloc[:0], exits=tables.exits.iloc[:0],
        attribution=tables.attribution.iloc[:0], ablations=tables.ablations.iloc[:0],
        quantizers=tables.quantizers.iloc[:0], skipped=tables.skipped.iloc[:0], provenance={},
    )  # fmt: skip
    text = Page(render_report(sparse)).text
    assert text.count("This experiment has no data for this section.") == 5
    assert "No image was skipped." in text


def test_numbers_are_worded_for_readers() -> None:
    assert (number(-1.234), number(-0.001), number(float("nan"))) == ("\u22121.23", "0.00", "–")
    assert (percent(0.5872), points(0.0237), points(-0.5)) == ("58.72\u00a0%", "+2.37", "\u221250.00")
    assert slugs(["a b", "A-B", "<>"]) == {"a b": "a-b", "A-B": "a-b-2", "<>": "unnamed"}


def test_wilson_matches_the_textbook() -> None:
    assert wilson_bounds(0.5, 100) == pytest.approx((0.403832, 0.596168), abs=1e-6)
    assert wilson_bounds(1.0, 10) == pytest.approx((0.722467, 1.0), abs=1e-6)
    assert all(bound != bound for bound in wilson_bounds(0.5, 0))

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
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from lraee.names import FP32
from lraee.report import ReportTables, render_report, write_report
from lraee.report.style import DARK, LIGHT, THEMES, Theme
from lraee.report.tables import SCHEMA
from lraee.report.wording import number, percent, points, slugs, wilson_bounds

Factory = Callable[..., ReportTables]
KINDS, SINGLE = 13, 12  # figures with a panel a quantizer, and with one panel
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
def one(make: Factory) -> ReportTables:
    """One quantizer with a single seed."""
    return make(margins=(0.03,), seeds=1)


@pytest.fixture(scope="module")
def tables(make: Factory) -> ReportTables:
    """Two quantizers: a gain and a loss."""
    return make(margins=(0.03, -0.03))


@pytest.fixture(scope="module")
def html(tables: ReportTables) -> str:
    return render_report(tables)


@pytest.fixture(scope="module")
def html_of_one(one: ReportTables) -> str:
    return render_report(one)


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


def test_size_is_bounded(html: str, html_of_one: str) -> None:
    one, two = len(html_of_one.encode()), len(html.encode())
    assert one + 6 * (two - one) < 5e6  # seven quantizers


def test_ids_are_unique_and_anchors_resolve(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"][1:] for link in page.of("a") if link["href"].startswith("#")]
    assert len(targets) > 60
    assert set(targets) <= set(ids)


SECTIONS = """
    verdict key-figures questions noise noise-profile pathological toggles trade-off frontier results baselines
    heuristics exits quadrants classes controls attribution quantizers strong static cls-ssa factorial refit
    label-free composition composed bit-operations rivals allocation searches gates ablations selectivity thresholds
    statistics splits files seeds holm risk cost accounting overhead calibration runtime time sensitivity
    sensitivity-curves paper referee symbols limits provenance
"""


def test_every_section_stands_where_a_reader_expects_it(page: Page) -> None:
    headings = [attributes["id"] for tag, attributes in page.tags if tag in ("h2", "h3") and "id" in attributes]
    assert [name for name in headings if not name.startswith("question-")] == SECTIONS.split()
    assert [name for name in headings if name.startswith("question-")] == [f"question-{i}" for i in range(1, 11)]


def test_every_figure_has_a_caption_panels_and_data(page: Page, html: str) -> None:
    figures = [figure["id"] for figure in page.of("figure")]
    assert len(figures) == KINDS + SINGLE
    tables_of = {table.get("id") for table in page.of("table")}
    assert {name.replace("fig-", "data-") for name in figures} <= tables_of
    assert html.count("<figcaption>") == len(figures)


def test_every_image_has_an_alternative_text_of_its_own(page: Page) -> None:
    texts = [image["alt"].strip() for image in page.of("img")]
    assert len(texts) == KINDS * 2 + SINGLE
    assert all(texts)
    assert len(set(texts)) == len(texts)


def _colours(theme: Theme) -> set[str]:
    values = [getattr(theme, field.name) for field in dataclasses.fields(theme)]
    return {colour for value in values for colour in ([value] if isinstance(value, str) else value)}


def test_every_colour_is_one_of_its_theme(page: Page) -> None:
    for svg in page.svgs():
        light, dark = svg[: svg.index("</style>")].split("@media")
        for part, theme in ((light, LIGHT), (dark, DARK)):
            assert set(re.findall(r"#[0-9a-f]{6}\b", part)) <= _colours(theme)


def test_figures_are_drawn_on_the_page_colour(html: str) -> None:
    assert [f"--surface: {theme.surface};" in html for theme in THEMES] == [True, True]


def test_hostile_names_stay_text(make: Factory) -> None:
    tables = make(margins=(0.01,), names=(HOSTILE,))
    tables = dataclasses.replace(
        tables,
        classes=tables.classes.assign(name=HOSTILE),
        sweep=tables.sweep.replace("confidence", HOSTILE),
        sensitivity=tables.sensitivity.assign(axis=HOSTILE),
        provenance={**tables.provenance, "experiment": HOSTILE, "config": HOSTILE, "n_by_split": {HOSTILE: 1}},
        remarks=tables.remarks.assign(split=HOSTILE, location="a/<script>alert(1)</script>.png", reason=HOSTILE),
        ablations=tables.ablations.assign(setting=HOSTILE, axis=HOSTILE),
    )
    page = Page(render_report(tables))
    assert len(page.of("script")) == 1
    assert HOSTILE in page.text
    assert "a/<script>alert(1)</script>.png" in page.text
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
    assert len(unpacked["frontier.csv"]) == (tables.points["study"] != "ablation").sum()
    assert set(tables.points.columns) <= set(unpacked["frontier.csv"].columns)
    assert unpacked["attribution.csv"]["attributable"].tolist() == tables.attribution["attributable"].tolist()
    assert unpacked["seeds.csv"]["margin"].tolist() == tables.seeds["margin"].tolist()
    assert len(unpacked["classes.csv"]) == len(tables.classes)
    assert len(csv) == sum(table.get("class") == "data-grid" for table in page.of("table"))


def test_only_short_tables_start_open(html: str) -> None:
    noise = html[: html.index('id="data-noise"')]
    assert noise.rindex("<details") > noise.rindex("</details>")
    assert "open" not in noise[noise.rindex("<details") :].split(">")[0]
    quadrants = html[: html.index('id="data-quadrants"')]
    assert quadrants[quadrants.rindex("<details") :].startswith('<details class="data" open>')


@pytest.mark.parametrize(("beaten", "folded"), [(3, False), (4, True)])
def test_many_refitted_heads_are_folded_away(make: Factory, beaten: int, folded: bool) -> None:
    html = render_report(make(margins=(-0.05,) * beaten, names=("a", "b", "c", "d"), seeds=1))
    between = html[html.index('<p class="lead">') : html.index("a head refitted at full depth (")]
    assert ("<summary>" in between) is folded


def test_written_files_equal_the_tables(tmp_path: Path, one: ReportTables, html_of_one: str) -> None:
    write_report(tmp_path, one)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html_of_one  # the same bytes again
    for name, frame in one.frames().items():
        written = pd.read_csv(tmp_path / "tables" / f"{name}.csv", keep_default_na=False, na_values={
            column: [""] for column in frame.select_dtypes("number").columns
        }, dtype=dict.fromkeys(frame.select_dtypes(["object", "str"]).columns, str))  # fmt: skip
        assert_frame_equal(written, frame.reset_index(drop=True), check_dtype=False, rtol=0, atol=0)
    figures = sorted((tmp_path / "figures").iterdir())
    assert len(figures) == KINDS + SINGLE
    assert all(ElementTree.parse(figure).getroot().tag.endswith("svg") for figure in figures)


def test_invalid_tables_are_refused(tables: ReportTables) -> None:
    with pytest.raises(ValueError, match=r"exits\.parquet: missing column\(s\): share"):
        render_report(dataclasses.replace(tables, exits=tables.exits.drop(columns="share")))


def _without(tables: ReportTables, *names: str) -> ReportTables:
    """The tables with some of them empty, without kinds of columns, as an experiment writes what it did not run."""
    frames: dict[str, Any] = {name: pd.DataFrame(columns=list(SCHEMA[name])) for name in names}
    return dataclasses.replace(tables, **frames)


def test_sparse_experiments_still_render(one: ReportTables) -> None:
    keep = one.points["study"].isin(["full-depth", "frontier"]) & (one.points["precision"] != FP32)
    keep &= one.points["supervision"] != "label-free"
    sparse = _without(one, *(name for name in SCHEMA if name != "points"))
    sparse = dataclasses.replace(sparse, points=one.points[keep], provenance={})
    page = Page(render_report(sparse))
    assert page.text.count("This was not run in this experiment.") > 15
    assert page.text.count("Every image was read as it is: none was left out or converted.") == 2
    assert "No risk-controlled thresholds were run" in page.text
    assert [figure["id"] for figure in page.of("figure")] == [
        "fig-frontier",
        "fig-quadrants",
        "fig-factorial",
        "fig-composition",
        "fig-bops",
    ]
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert {link["href"][1:] for link in page.of("a") if link["href"].startswith("#")} <= set(ids)
    assert set(SECTIONS.split()) <= set(ids)


def test_a_single_seed_has_no_spread(html_of_one: str) -> None:
    text = Page(html_of_one).text
    assert "Fewer than two seeds were run." in text
    assert "one seed only (1)" in text


def test_no_number_of_the_paper_stands_beside_another_setting(html: str) -> None:
    assert "the paper's numbers are not put beside ours" in Page(html).text
    assert "data-paper" not in html


def test_numbers_are_worded_for_readers() -> None:
    assert (number(-1.234), number(-0.001), number(float("nan"))) == ("\u22121.23", "0.00", "–")
    assert (percent(0.5872), points(0.0237), points(-0.5)) == ("58.72\u00a0%", "+2.37", "\u221250.00")
    assert slugs(["a b", "A-B", "<>"]) == {"a b": "a-b", "A-B": "a-b-2", "<>": "unnamed"}


def test_wilson_matches_the_textbook() -> None:
    assert wilson_bounds(0.5, 100) == pytest.approx((0.403832, 0.596168), abs=1e-6)
    assert wilson_bounds(1.0, 10) == pytest.approx((0.722467, 1.0), abs=1e-6)
    assert all(bound != bound for bound in wilson_bounds(0.5, 0))

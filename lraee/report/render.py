"""One self-contained HTML document out of the tables, with figures and data beside it as files."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lraee.report import content
from lraee.report.datatables import DataTable, to_csv
from lraee.report.limits import limits
from lraee.report.style import DARK, LIGHT, render_svg
from lraee.report.tables import ReportTables, validate
from lraee.report.verdict import judge


@dataclass(frozen=True)
class Image:
    """A rendered panel: alternative text and the SVG markup of both appearances."""

    name: str
    alt: str
    light: str
    dark: str

    @property
    def light_uri(self) -> str:
        """The light SVG as a data URI, which keeps the ids of several SVGs apart."""
        return _data_uri(self.light)

    @property
    def dark_uri(self) -> str:
        """The dark SVG as a data URI."""
        return _data_uri(self.dark)


@dataclass(frozen=True)
class Figure:
    """A block of the document with its panels rendered."""

    id: str
    caption: str
    images: tuple[Image, ...]
    data: DataTable


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _render(block: content.Block) -> Figure:
    """Draw every panel of a block in both themes."""
    images = tuple(
        Image(panel.name, panel.alt, render_svg(panel.draw, LIGHT), render_svg(panel.draw, DARK))
        for panel in block.panels
    )
    return Figure(block.id, block.caption, images, block.data)


def _figures(tables: ReportTables) -> dict[str, Figure]:
    """Every figure of the report by the name that the template uses; one without data is left out."""
    blocks = {
        "frontier": (content.frontier, tables.points),
        "noise": (content.noise, tables.noise),
        "exits": (content.exits, tables.exits),
        "quadrants": (content.quadrants, tables.points),
        "attribution": (content.attribution, tables.attribution),
        "static": (content.static, tables.points[tables.points["study"] == "static"]),
        "ablations": (content.ablations, tables.ablations),
    }
    return {name: _render(build(tables)) for name, (build, frame) in blocks.items() if not frame.empty}


def _environment() -> Environment:
    """Templates with everything escaped and nothing silently missing."""
    return Environment(
        loader=PackageLoader("lraee.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _document(tables: ReportTables, figures: dict[str, Figure]) -> str:
    """Fill the template."""
    provenance: dict[str, Any] = dict(tables.provenance)
    return _environment().get_template("report.html.j2").render(
        provenance=provenance,
        config=str(provenance.pop("config", "")),
        verdict=judge(tables),
        figures=figures,
        key_figures=content.key_figures(tables),
        settled=content.settled(tables),
        quantizers=content.quantizers(tables),
        limits=limits(tables),
        skipped=content.skipped(tables),
    )  # fmt: skip


def render_report(tables: ReportTables) -> str:
    """The report as one HTML document that needs nothing else: no network, no other file.

    Raises:
        ValueError: a table violates its schema; the message names the file and the column(s).
    """
    validate(tables)
    return _document(tables, _figures(tables))


def write_report(folder: Path, tables: ReportTables) -> None:
    """Write ``report.html``, ``tables/<table>.csv`` and ``figures/<panel>.svg`` (light) into a folder.

    ``report.html`` is written last and moved into place, so that it is either whole or absent.

    Raises:
        ValueError: a table violates its schema; the message names the file and the column(s).
    """
    validate(tables)
    figures = _figures(tables)
    html = _document(tables, figures)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, frame in tables.frames().items():
        (folder / "tables" / f"{name}.csv").write_text(to_csv(frame), encoding="utf-8", newline="")
    for image in (image for figure in figures.values() for image in figure.images):
        (folder / "figures" / f"{image.name}.svg").write_text(image.light, encoding="utf-8", newline="")
    partial = folder / "report.html.partial"
    partial.write_text(html, encoding="utf-8", newline="")
    partial.replace(folder / "report.html")

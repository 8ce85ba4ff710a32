"""One self-contained HTML document out of the tables, with figures and data beside it as files."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from lraee.io import replacing, write_table
from lraee.report import content
from lraee.report.coverage import COMMENTS, coverage
from lraee.report.datatables import DataTable, to_csv
from lraee.report.limits import limits
from lraee.report.questions import questions
from lraee.report.sections import blocks, data, sentences
from lraee.report.style import LIGHT, adaptive, draw_svg
from lraee.report.summary import summarise
from lraee.report.svg import smaller
from lraee.report.symbols import symbols
from lraee.report.tables import ReportTables, validate
from lraee.report.verdict import judge
from lraee.report.wording import RANDOM_WEIGHTS


@dataclass(frozen=True)
class Image:
    """A rendered panel: alternative text, the SVG markup (light), and its points packed (may be empty)."""

    name: str
    alt: str
    light: str
    hover: str = ""

    @property
    def uri(self) -> str:
        """The SVG, dark where the reader's system is, as a data URI, which keeps the ids of several SVGs apart."""
        return "data:image/svg+xml;base64," + base64.b64encode(adaptive(self.light).encode()).decode()


@dataclass(frozen=True)
class Figure:
    """A block of the document with its panels rendered."""

    id: str
    caption: str
    images: tuple[Image, ...]
    data: DataTable


def _image(panel: content.Panel) -> Image:
    """Draw a panel, and read the places of its points off it."""
    svg, figure = draw_svg(panel.draw, LIGHT)
    return Image(panel.name, panel.alt, smaller(svg), panel.hover(figure).packed() if panel.hover else "")


def _render(block: content.Block) -> Figure:
    """Draw every panel of a block."""
    return Figure(block.id, block.caption, tuple(map(_image, block.panels)), block.data)


def _figures(tables: ReportTables) -> dict[str, Figure]:
    """Every figure of the report by the name that the template uses; one without data is left out."""
    return {name: _render(build(tables)) for name, (build, frame) in blocks(tables).items() if not frame.empty}


def _environment() -> Environment:
    """Templates with everything escaped and nothing silently missing."""
    return Environment(
        loader=PackageLoader("lraee.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _as_yaml(config: Any) -> str:
    """A configuration as it is written in a file."""
    return config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False, width=100)


def _document(tables: ReportTables, figures: dict[str, Figure]) -> str:
    """Fill the template."""
    provenance: dict[str, Any] = dict(tables.provenance)
    return _environment().get_template("report.html.j2").render(
        provenance=provenance,
        caution=RANDOM_WEIGHTS if tables.random_weights else "",
        config=_as_yaml(provenance.pop("config", "")),
        verdict=judge(tables),
        figures=figures,
        data_of=data(tables),
        sentences=sentences(tables),
        questions=questions(tables),
        paper=coverage(tables),
        referee=COMMENTS,
        symbols=symbols(tables),
        limits=limits(tables),
    )  # fmt: skip


def render_report(tables: ReportTables) -> str:
    """The report as one HTML document that needs nothing else: no network, no other file.

    Raises:
        ValueError: a table violates its schema; the message names the file and the column(s).
    """
    validate(tables)
    return _document(tables, _figures(tables))


def _write_text(path: Path, text: str) -> None:
    """Write a text file, the same bytes everywhere, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def _remove_stale(folder: Path, suffixes: tuple[str, ...], made: set[str]) -> None:
    """Remove what an earlier report wrote into a folder and this one does not make; other files are left alone."""
    for path in folder.iterdir():
        if path.suffix in suffixes and path.name not in made:
            path.unlink()


def write_report(folder: Path, tables: ReportTables) -> None:
    """Publish a report in a folder that then needs nothing else.

    Writes ``tables/<table>.csv`` and ``.parquet``, ``figures/<panel>.svg`` (light), ``summary.json`` (see
    ``lraee.report.summary``) and ``report.html``. Nothing is touched before everything is rendered; tables and figures
    that an earlier report left and this one does not have are removed. ``report.html`` comes last and is moved into
    place, so that it is either whole or absent, and whoever finds it new finds everything beside it new.

    Raises:
        ValueError: a table violates its schema; the message names the file and the column(s).
    """
    validate(tables)
    figures = _figures(tables)
    html = _document(tables, figures)
    frames = tables.frames()
    pictures = {f"{image.name}.svg": image.light for figure in figures.values() for image in figure.images}
    written = {f"{name}{suffix}" for name in frames for suffix in (".csv", ".parquet")}
    files = [*(f"tables/{name}" for name in written), *(f"figures/{name}" for name in pictures)]
    summary = summarise(tables, [*files, "summary.json", "report.html"]).to_json()
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        _write_text(folder / "tables" / f"{name}.csv", to_csv(frame))
        write_table(folder / "tables" / f"{name}.parquet", frame)
    for name, svg in pictures.items():
        _write_text(folder / "figures" / name, svg)
    _remove_stale(folder / "tables", (".csv", ".parquet"), written)
    _remove_stale(folder / "figures", (".svg",), set(pictures))
    _write_text(folder / "summary.json", summary)
    _write_text(folder / "report.html", html)

"""The report in a real browser: offline, without errors, accessible, and its controls do what they say.

Needs Chromium or Chrome and the packages of the dev extra; skipped, with the reason, where one is missing.
"""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lraee.report import ReportTables, datatables, write_report
from lraee.report.figures import TRADE_OFF
from lraee.report.style import LIGHT

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

expect = sync_api.expect
Visit = Callable[..., Any]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
# Without a sandbox, because tests may run as root; the only page opened is the one that they wrote.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip
SHOWN_ROWS = 40  # fewer than in earnest, so that small tables are packed, too
HOSTILE = "<img src=x onerror=alert(1)>"

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser is installed (any of {', '.join(BROWSERS)})")


@pytest.fixture(scope="module")
def experiment(make: Callable[..., ReportTables]) -> ReportTables:
    """One quantizer, which is quick, with a text that is no markup in rows of the frontier."""
    tables = make(margins=(0.03,), names=("int8-per-tensor",))
    return dataclasses.replace(tables, points=tables.points.replace("hard", HOSTILE))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, experiment: ReportTables) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datatables, "SHOWN_ROWS", SHOWN_ROWS)
        write_report(folder, experiment)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    """Open the report; at the end of the test nothing was requested elsewhere and nothing went wrong."""
    contexts: list[Any] = []
    requests: list[str] = []
    complaints: list[str] = []

    def opened(scheme: str = "light", width: int = 1100, **options: Any) -> Any:
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a busy machine is no fault of the report
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda entry: entry.type in ("error", "warning") and complaints.append(entry.text))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(report.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
    assert complaints == []


def toolbar(page: Any, table: str) -> Any:
    """The controls of a table, whose enclosing details are opened."""
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    return page.locator(f".toolbar:has(+ .scroll > #{table})")


def column(page: Any, table: str, label: str) -> list[str]:
    """The first lines of the cells below a heading."""
    texts: list[str] = page.evaluate(
        """([id, label]) => {
            const table = document.getElementById(id);
            const heading = [...table.tHead.rows[0].cells].find((cell) => cell.innerText.trim().startsWith(label));
            return [...table.tBodies[0].rows].map((row) => row.cells[heading.cellIndex].firstChild?.textContent ?? "");
        }""",
        [table, label],
    )
    return texts


def test_anchors_resolve_and_lead_there(visit: Visit) -> None:
    page = visit()
    dangling = page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].filter((a) => !document.querySelector(a.hash)).length"
    )
    assert dangling == 0
    page.get_by_role("link", name="Provenance", exact=True).click()
    expect(page.locator("#provenance")).to_be_in_viewport()
    expect(page.locator("nav [aria-current]")).to_have_count(1)


def test_every_file_that_it_links_to_is_there(visit: Visit, report: Path) -> None:
    links = visit().evaluate("[...document.querySelectorAll('a[href]')].map((a) => a.getAttribute('href'))")
    files = [link for link in links if not link.startswith("#")]
    assert files
    assert [link for link in files if not (report.parent / link).exists()] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_no_accessibility_violation(visit: Visit, scheme: str, width: int) -> None:
    page = visit(scheme, width)
    toolbar(page, "data-frontier")
    # Hundreds of rows alike would only take time.
    page.evaluate("for (const row of document.querySelectorAll('tbody tr:nth-child(n + 3)')) row.remove()")
    page.locator(".cursor").first.focus()
    expect(page.locator(".tip")).to_be_visible()
    results = axe.Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("width", [390, 320, 800])
def test_nothing_overflows_sideways(visit: Visit, width: int) -> None:
    page = visit("light", width)
    toolbar(page, "data-frontier")
    page.locator(".cursor").last.focus()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_contents_fold_on_a_phone(visit: Visit) -> None:
    page = visit("light", 390)
    link = page.locator("nav").get_by_role("link", name="Noise")
    expect(link).to_be_hidden()
    page.get_by_role("button", name="Contents").click()
    link.click()
    expect(link).to_be_hidden()
    expect(page.locator("#noise")).to_be_in_viewport()


def test_a_filter_searches_all_rows(visit: Visit, experiment: ReportTables) -> None:
    page = visit()
    tools = toolbar(page, "data-frontier")
    rows = page.locator("#data-frontier tbody tr")
    shown = experiment.points[experiment.points["study"].isin(TRADE_OFF)]
    expect(rows).to_have_count(SHOWN_ROWS)
    search = tools.get_by_role("searchbox")
    search.fill("Entropy INT8 control")
    wanted = (shown["precision"] == "fp32") & (shown["policy"] == "entropy")
    expect(tools.get_by_role("status")).to_contain_text(f"of {len(shown)} rows")
    assert set(column(page, "data-frontier", "Policy")) == {"entropy"}
    expect(rows).to_have_count(int(wanted.sum()))
    search.fill("no such row")
    expect(rows).to_have_count(0)
    expect(tools.get_by_role("status")).to_have_text(f"0 of {len(shown)} rows")
    search.fill("")
    expect(rows).to_have_count(SHOWN_ROWS)
    tools.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(len(shown))
    assert HOSTILE in "".join(column(page, "data-frontier", "Supervision")[SHOWN_ROWS:])
    assert page.locator("img[src='x']").count() == 0


def test_sorting_acts_on_all_rows_and_keeps_the_filter(visit: Visit, experiment: ReportTables) -> None:
    page = visit()
    tools = toolbar(page, "data-frontier")
    shown = experiment.points[experiment.points["study"].isin(TRADE_OFF)]
    heading = page.locator("#data-frontier th", has_text="Compute saved")
    for direction, extreme in (("ascending", shown["saved"].min()), ("descending", shown["saved"].max())):
        heading.get_by_role("button").click()
        expect(heading).to_have_attribute("aria-sort", direction)
        page.wait_for_function(
            """([value, label]) => {
                const table = document.getElementById("data-frontier");
                const heading = [...table.tHead.rows[0].cells].find((cell) => cell.innerText.trim().startsWith(label));
                return Math.abs(table.tBodies[0].rows[0].cells[heading.cellIndex].dataset.v - value) < 1e-5;
            }""",
            arg=[extreme, "Compute saved"],
        )
    tools.get_by_role("searchbox").fill("static quantized")
    expect(tools.get_by_role("status")).to_contain_text("rows")
    values = [float(text.replace("\u00a0%", "").replace("−", "-")) for text in column(page, "data-frontier", "Compute")]
    assert set(column(page, "data-frontier", "Policy")) == {"static"}
    assert values == sorted(values, reverse=True)
    # Empty cells stay last: a static exit has no budget.
    tools.get_by_role("searchbox").fill("learned-scalar")
    expect(page.locator("#data-frontier tbody tr")).to_have_count(int((shown["policy"] == "learned-scalar").sum()))
    page.locator("#data-frontier th", has_text="Budget").get_by_role("button").click()
    expect(page.locator("#data-frontier th", has_text="Budget")).to_have_attribute("aria-sort", "ascending")
    budgets = [float(text.removesuffix("\u00a0%")) for text in column(page, "data-frontier", "Budget")]
    assert budgets == sorted(budgets)
    # What has no value stays last in both directions; a static exit has no budget.
    tools.get_by_role("searchbox").fill("")
    for direction in ("descending", "ascending"):
        page.locator("#data-frontier th", has_text="Budget").get_by_role("button").click()
        expect(page.locator("#data-frontier th", has_text="Budget")).to_have_attribute("aria-sort", direction)
        assert column(page, "data-frontier", "Budget")[0] != "–"


def test_rows_made_on_demand_look_like_written_ones(visit: Visit) -> None:
    page = visit()
    toolbar(page, "data-frontier").get_by_role("button", name="Show more").click()
    expect(page.locator("#data-frontier tbody tr")).not_to_have_count(SHOWN_ROWS)
    shapes = page.evaluate(
        "[...document.querySelectorAll('#data-frontier tbody tr')].map((row) => [...row.cells].map("
        "(cell) => [cell.tagName, cell.className, 'v' in cell.dataset, cell.innerText.includes('NaN')].join()).join())"
    )
    assert len(set(shapes)) == 1


def test_download_is_the_whole_table(visit: Visit, tmp_path: Path, experiment: ReportTables) -> None:
    page = visit(accept_downloads=True)
    with page.expect_download() as download:
        toolbar(page, "data-frontier").get_by_role("button", name="Download CSV").click()
    assert download.value.suggested_filename == "frontier.csv"
    download.value.save_as(tmp_path / "frontier.csv")
    frame = pd.read_csv(tmp_path / "frontier.csv")
    expected = experiment.points[experiment.points["study"].isin(TRADE_OFF)]
    assert sorted(frame["top1"]) == pytest.approx(sorted(expected["top1"]), abs=1e-5)


def headline_place(page: Any) -> tuple[Any, float, float]:
    """The first frontier panel, and where the ring of its headline lies in the window."""
    panel = page.locator(".panel[data-points]").first
    panel.scroll_into_view_if_needed()
    panel.locator(".cursor").focus()
    box = panel.locator(".ring").bounding_box()
    page.keyboard.press("Escape")
    expect(page.locator(".tip")).to_be_hidden()
    return panel, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_pointing_at_a_point_names_its_configuration(visit: Visit, experiment: ReportTables) -> None:
    page = visit()
    _, x, y = headline_place(page)
    tip = page.locator(".tip")
    page.mouse.move(x + 5, y - 5)
    row = experiment.headline("int8-per-tensor", "int8-per-tensor")
    for text in ("learned-gate, the headline (quantized)", "ssa, distilled", "8,10,11", "layer-adaptive", "10: 0.400",
                 f"{100 * row['top1']:.2f}\u00a0% [{100 * row['top1_low']:.2f}", f"{int(row['n']):,}"):  # fmt: skip
        expect(tip).to_contain_text(text)
    page.mouse.move(x + 5, y - 400)
    expect(tip).to_be_hidden()


def test_positions_are_those_of_the_drawing(visit: Visit) -> None:
    """The ring is where the picture has the colour of a point, not merely somewhere in the panel."""
    page = visit()
    _, x, y = headline_place(page)
    picture = page.screenshot(clip={"x": x - 2, "y": y - 2, "width": 4, "height": 4})
    pixel = Image.open(io.BytesIO(picture)).convert("RGB").getpixel((2, 2))
    wanted = tuple(int(LIGHT.quantized[i : i + 2], 16) for i in (1, 3, 5))
    assert all(abs(a - b) < 40 for a, b in zip(pixel, wanted, strict=True)), (pixel, wanted)


def test_a_tap_keeps_the_label_until_the_next_one(visit: Visit) -> None:
    page = visit("dark", 390, has_touch=True)
    panel, x, y = headline_place(page)
    page.touchscreen.tap(x, y + 10)
    tip = page.locator(".tip")
    expect(tip).to_contain_text("learned-gate")
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    page.locator("#frontier").tap()
    expect(tip).to_be_hidden()
    expect(panel.locator(".ring")).to_be_hidden()


def test_points_are_reached_by_keyboard(visit: Visit) -> None:
    page = visit()
    cursor = page.locator(".cursor").first
    cursor.focus()
    expect(cursor).to_have_attribute("aria-valuetext", re.compile("headline"))
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Home", "End"):
        page.keyboard.press(key)
        seen.append(cursor.get_attribute("aria-valuenow"))
    assert len(set(seen)) == len(seen)
    assert (seen[-2], seen[-1]) == ("1", cursor.get_attribute("aria-valuemax"))
    expect(page.locator(".tip")).to_be_visible()
    page.keyboard.press("Tab")
    assert cursor.evaluate("(element) => element !== document.activeElement")


def test_paper_shows_no_controls(visit: Visit) -> None:
    page = visit("dark")
    toolbar(page, "data-frontier")
    page.locator(".cursor").first.focus()
    page.emulate_media(media="print")
    for control in ("nav", ".controls", ".ring", ".cursor", ".tip", ".hint", ".skip"):
        assert page.locator(f"{control} >> visible=true").count() == 0, control


def brightness(page: Any) -> float:
    """Mean brightness (0..255) of the first picture as it is shown."""
    picture = page.locator(".panel img").first
    picture.scroll_into_view_if_needed()
    return float(np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("L")).mean())


def test_pictures_follow_the_readers_light_or_dark_system(visit: Visit) -> None:
    assert brightness(visit("light")) > 200
    assert brightness(visit("dark")) < 80


def test_it_is_a_plain_document_without_scripts(visit: Visit) -> None:
    page = visit(java_script_enabled=False)
    expect(page.get_by_text(f"the first {SHOWN_ROWS} shown; the CSV has all").first).to_be_attached()
    assert page.locator(".filter >> visible=true").count() == 0
    assert page.locator(".csv >> visible=true").count() == 0
    expect(page.locator("#data-key-figures")).to_be_visible()

"""The exported report in headless Chromium without a network: its charts are really drawn."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from tests.record_kit import ROOT, RUN_ID, a_day

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
# In the notebook: trade, equity, decisions, connection.
LEAST_MARKS = {"SPY short": 5, "Equity": 2, "Why each headline": 4, "Connection": 7}
TITLES_AND_MARKS = """
() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => [
    plot.querySelector('.gtitle')?.textContent ?? '',
    plot.querySelectorAll('.cartesianlayer .trace path[d]').length,
    plot.getBoundingClientRect().width,
])
"""


def report_of(folder: Path) -> nbformat.NotebookNode:
    """The report cells of the live notebook, over a made-up day."""
    notebook: nbformat.NotebookNode = nbformat.read(ROOT / "notebooks" / "live.ipynb", 4)
    places = {cell.id: place for place, cell in enumerate(notebook.cells)}
    database = a_day(folder)
    session = (
        "from pathlib import Path\nfrom types import SimpleNamespace\n"
        f"session = SimpleNamespace(run_id={RUN_ID!r}, database=Path({str(database)!r}),"
        f" folder=Path({str(folder / 'runs' / RUN_ID)!r}))"
    )
    begin = [notebook.cells[places["imports"]], nbformat.v4.new_code_cell(session)]
    notebook.cells = [*begin, *notebook.cells[places["about-run"] :]]
    return notebook


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    notebook = report_of(folder)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(ROOT)}}).execute()
    exporter = HTMLExporter()  # type: ignore[no-untyped-call]  # nbconvert is not annotated here
    page, _ = exporter.from_notebook_node(notebook)
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: extra browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def said() -> list[str]:
    """What the page complains about."""
    return []


@pytest.fixture
def page(browser: Browser, page_file: Path, said: list[str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1180, "height": 1000})
    # There is no network. nbconvert's own page asks for two scripts all the same; they are
    # answered with nothing, so that every complaint that is left is ours.
    context.route(re.compile("^https?:"), lambda route: route.fulfill(status=200, body=""))
    found = context.new_page()
    found.on("console", lambda note: said.append(note.text) if note.type == "error" else None)
    found.on("pageerror", lambda error: said.append(str(error)))
    found.goto(page_file.as_uri())
    found.wait_for_function(
        "n => document.querySelectorAll('.js-plotly-plot .main-svg .gtitle').length >= n",
        arg=len(LEAST_MARKS),
    )
    yield found
    context.close()


def test_every_chart_of_the_report_is_drawn(page: Page, said: list[str], tmp_path: Path) -> None:
    page.screenshot(path=tmp_path / "report.png", full_page=True)

    plots: list[Any] = page.evaluate(TITLES_AND_MARKS)

    assert len(plots) == len(LEAST_MARKS)
    for (title, marks, width), (begin, least) in zip(plots, LEAST_MARKS.items(), strict=True):
        assert title.startswith(begin)
        assert marks >= least, title
        assert width > 600, title
    assert said == []


def test_tables_and_words_are_there_to_read(page: Page) -> None:
    words = page.inner_text("body")

    for expected in (
        "602 shares",
        "STOP_LOSS",
        "\N{MINUS SIGN}$162.54",
        "Sound: every fill belongs to an order",
        "NO_SHOCK_VOLUME",
    ):
        assert expected in words


def test_what_a_stranger_wrote_is_shown_as_text(page: Page) -> None:
    assert page.locator("td >> text=<b>head</b>").count() == 1
    assert page.locator("td b").count() == 0


def test_a_chart_answers_the_mouse(page: Page) -> None:
    plot = page.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").first.bounding_box()
    assert box is not None

    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    hover = plot.locator(".hoverlayer .legend")
    hover.wait_for(timeout=5000)
    assert "USD" in (hover.text_content() or "")

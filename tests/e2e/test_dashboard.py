"""The dashboard in a real browser, wide and as narrow as a telephone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lmi import Lmi
from nights import BROKEN, LONG, QUARANTINED, write_nights

from lmi_artifacts.registry import open_registry

pytestmark = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - heavy

    if not CHROMIUM.exists():
        pytest.skip("no chromium on this machine")
    with sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"], timeout=120_000
        )
        yield opened
        opened.close()


@pytest.fixture
def index(lmi: Lmi) -> Path:
    write_nights(open_registry(str(lmi.registry)))
    ended = lmi("dashboard", "site", "--json")
    assert ended.code == 0, ended.err
    assert ended.json()["runs"] == 30
    return lmi.home / ended.json()["page"]


@pytest.mark.parametrize("width", [1280, 390])
def test_it_asks_nothing_of_the_network_and_never_scrolls_sideways(
    index: Path, browser: Any, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(index.as_uri())
    for one in page.query_selector_all("details"):
        one.evaluate("each => each.open = true")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    text = page.inner_text("body")
    for words in (BROKEN, LONG, QUARANTINED, "toolchain.tensorrt_llm: 0.21.0rc1 -> 0.22.0"):
        assert words in text
    assert "Red since 2026-10-25" in text
    assert "<b>not markup</b>" in text
    assert page.locator("svg.trend").count() > 10
    page.click("a:text-is('log')")
    page.get_by_text("the last words <of> a step").wait_for()


def test_an_empty_history_says_how_to_write_one(lmi: Lmi) -> None:
    ended = lmi("dashboard", "site")
    assert ended.code == 0, ended.err
    assert "lmi-compile matrix" in (lmi.home / "site" / "index.html").read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_exit_8(lmi: Lmi) -> None:
    (lmi.home / "site").write_text("a file")
    ended = lmi("dashboard", "site/inside")
    assert ended.code == 8
    assert "cannot be written" in ended.err

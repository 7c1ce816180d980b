"""The page in a real browser: nothing on its console, no request, nothing cut off or blank."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from lmi_compile.report.page import page as render
from lmi_verify.verdict import Verdict

_CHROMIUM = "/usr/bin/chromium"


@dataclass(frozen=True)
class Opened:
    """A page that a browser shows, and what it said or asked for meanwhile."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox"], timeout=120_000
        )
        yield browser
        browser.close()


def _open(browser: Browser, path: Path, width: int, scheme: str) -> Opened:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(120_000)
    opened = Opened(context.new_page())
    opened.page.on("console", lambda said: opened.console.append(said.text))
    opened.page.on("pageerror", lambda error: opened.console.append(str(error)))
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.goto(path.as_uri())
    return opened


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_a_word_or_a_request_and_fits(
    browser: Browser, regression: Verdict, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(regression, "some-model"), encoding="utf-8")
    opened = _open(browser, path, width, scheme)
    assert opened.console == []
    assert opened.requests == [path.as_uri()]
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    figures = opened.page.locator("figure")
    assert figures.count() == 4
    for index in range(figures.count()):
        _assert_drawn(figures.nth(index).screenshot(), dark=scheme == "dark")


def _assert_drawn(shot: bytes, *, dark: bool) -> None:
    """The picture has the scheme's ground, and marks over a good part of its area."""
    grey = Image.open(io.BytesIO(shot)).convert("L")
    counts = grey.histogram()
    ground = counts.index(max(counts))
    assert ground < 80 if dark else ground > 200
    columns, rows = 6, 4
    wide, tall = grey.width // columns, grey.height // rows
    marked = 0
    for column in range(columns):
        for row in range(rows):
            box = (column * wide, row * tall, (column + 1) * wide, (row + 1) * tall)
            low, high = grey.crop(box).getextrema()
            marked += high - low > 40
    assert marked >= columns * rows // 2


def test_foreign_words_run_nowhere(browser: Browser, foreign: Verdict, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(foreign, "<img src=x onerror=alert(1)>"), encoding="utf-8")
    opened = _open(browser, path, 1280, "light")
    assert opened.console == []
    assert opened.requests == [path.as_uri()]
    assert opened.page.title().endswith("<img src=x onerror=alert(1)>")

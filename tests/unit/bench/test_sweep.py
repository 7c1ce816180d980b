"""A sweep against a true streaming server: figures, resuming, pages, errors."""

import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from playwright.sync_api import sync_playwright
from streaming import streaming

from lmi_compile.bench.prompts import make_prompts
from lmi_compile.cli.app import command

FAST = ("--seconds", "1", "--warmup-seconds", "0.2", "--output-tokens", "5", "--input-tokens", "9")
SLOTS, STEP, PREFILL = 2, 10.0, 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    options = ("--slots", SLOTS, "--step-ms", STEP, "--prefill-ms", PREFILL)
    with streaming(*map(str, options)) as url:
        yield url


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMI_OUT", str(tmp_path))
    return tmp_path


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["bench", *arguments])


@pytest.mark.slow
def test_a_sweep_measures_continues_compares_and_shows(server: str, out: Path) -> None:
    place = f"{server}/invocations"
    first = bench(place, "--concurrency", "1,2", *FAST, "--no-pages", "--json", "--price", "3.6")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout.splitlines()[-1])
    one, two = found["levels"]
    assert one["output_tokens"] == 5
    assert one["error_rate"] == 0
    assert two["tokens_per_second"]["value"] > 0
    assert one["time_to_first_token"]["p50"]["value"] > PREFILL / 1000
    assert one["latency"]["p50"]["value"] > one["inter_token"]["p50"]["value"] > 0
    assert one["cost_per_million_tokens"] > 0
    assert found["starts"]
    (folder,) = (out / "bench").iterdir()
    assert not _together(folder / "level-1.json")
    assert _together(folder / "level-2.json")

    kept = (folder / "level-1.json").stat().st_mtime_ns
    again = bench(place, "--concurrency", "1,2,4", *FAST, "--before", str(folder))
    assert again.exit_code == 0, again.output
    assert (folder / "level-1.json").stat().st_mtime_ns == kept
    assert "concurrency 1: measured already" in again.stderr
    assert "compared with the run before" in again.stderr
    rows = list(csv.DictReader((folder / "bench.csv").read_text().splitlines()))
    assert [row["concurrency"] for row in rows] == ["1", "2", "4"]
    assert float(rows[0]["tokens_per_second"]) > 0
    assert (folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    _look(folder / "bench.html")


def _together(level: Path) -> bool:
    """Whether a request began before the one before it had ended."""
    requests = sorted(json.loads(level.read_bytes())["requests"])
    return any(one[0] + one[2] > two[0] for one, two in pairwise(requests))


def _look(page: Path) -> None:
    """Headless Chromium: nothing is fetched, nothing is wider than the screen, charts are there."""
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"], timeout=120_000
        )
        for width in (1280, 390):
            tab = browser.new_page(viewport={"width": width, "height": 800})
            tab.set_default_timeout(120_000)
            asked: list[str] = []
            tab.on("request", lambda request, asked=asked: asked.append(request.url))
            tab.goto(page.as_uri())
            assert asked == [page.as_uri()]
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.locator(".charts svg").count() == 4
            assert tab.locator("tr.knee").count() > 0
        browser.close()


def test_a_server_that_refuses_is_no_measurement(out: Path) -> None:
    with streaming("--refuse-first", "10000") as url:
        ended = bench(f"{url}/invocations", *FAST)
    assert type(ended.exception).__name__ == "Transient"
    assert not list(out.glob("bench/*/level-*.json"))


def test_answers_that_break_off_are_errors(server: str, out: Path) -> None:
    with streaming("--break-off") as url:
        ended = bench(f"{url}/invocations", *FAST)
    assert type(ended.exception).__name__ == "Transient"
    del server, out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("http://h/", "--concurrency", "1,x"),
        ("http://h/", "--concurrency", "0"),
        ("http://h/", "--parameters", "["),
    ],
)
def test_a_wrong_command_line_is_the_callers_fault(out: Path, arguments: tuple[str, ...]) -> None:
    assert bench(*arguments).exit_code == 2
    assert not list(out.iterdir())


def test_a_run_that_is_none_is_named(out: Path) -> None:
    (out / "bench.json").write_text("{}")
    ended = bench("--before", str(out), "--after", str(out))
    assert "is no run of bench" in str(ended.exception)


def test_prompts_have_the_length_that_was_asked_for(tmp_path: Path) -> None:
    prompts, how = make_prompts(50, None)
    assert how == "words"
    assert len(set(prompts)) == len(prompts)
    assert {len(prompt.split()) for prompt in prompts} == {50}
    assert make_prompts(50, None)[0] == prompts
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    with pytest.raises(OSError, match="is no tokenizer"):
        make_prompts(50, broken)


def test_the_models_tokenizer_counts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415 - heavy

    letters = Tokenizer(models.WordLevel({chr(n): n for n in range(32, 127)}, unk_token=" "))  # noqa: S106 - no password
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.save(str(tmp_path / "tokenizer.json"))
    prompts, how = make_prompts(40, tmp_path / "tokenizer.json")
    assert how == "the model's tokenizer"
    counted = {len(letters.encode(prompt).ids) for prompt in prompts}
    assert counted <= {39, 40, 41}
    assert 40 in counted

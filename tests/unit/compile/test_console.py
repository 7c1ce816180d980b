"""What a person sees: tables as wide as the terminal, and a sign of life from long steps."""

import io
import time

import pytest

from lmi_compile import console as voice
from lmi_compile.console import Console
from lmi_compile.events import StepFinished, StepLine, StepStarted
from lmi_compile.layout import table_lines, wrapped

HEADER = ("metric", "measured", "limit", "note")
ROWS = [("differing_prompts", "0", "<= 0", ""), ("max_logit_error", "3e-6", "<= 1e-4", "at last")]


def test_a_table_that_fits_has_its_columns_side_by_side() -> None:
    assert list(table_lines(HEADER, ROWS, 80)) == [
        "metric             measured  limit    note",
        "differing_prompts  0         <= 0",
        "max_logit_error    3e-6      <= 1e-4  at last",
    ]
    assert list(table_lines(HEADER, ROWS, None)) == list(table_lines(HEADER, ROWS, 80))


def test_what_does_not_fit_stands_under_its_row_and_no_word_is_cut() -> None:
    assert list(table_lines(HEADER, ROWS, 36)) == [
        "metric             limit    note",
        "differing_prompts  <= 0",
        "    measured: 0",
        "max_logit_error    <= 1e-4  at last",
        "    measured: 3e-6",
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal_unless_it_is_one_word(width: int) -> None:
    rows = [(f"recipe-{n}", "word " * n, "x" * (n % 9), "a reason " * n) for n in range(40)]
    for line in table_lines(("name", "words", "short", "why"), rows, width):
        assert all(len(part) <= width for part in line.splitlines())
    told = " ".join(table_lines(("name", "words", "short", "why"), rows, width))
    assert told.split().count("reason") == sum(range(40))


def test_a_reference_stays_whole() -> None:
    reference = "name@sha256:" + "a" * 64
    assert wrapped(f"published {reference}", 60) == f"published\n  {reference}"


def test_a_step_that_prints_nothing_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "HEARTBEAT_SECONDS", 0.01)
    console = Console(err=io.StringIO())
    assert isinstance(console.err, io.StringIO)
    console.emit(StepStarted(name="compile", number=1, count=2))
    console.emit(StepLine(name="compile", text="pass 3 of 9"))
    deadline = time.monotonic() + 60
    while "    0 s  pass 3 of 9\n" not in console.err.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    console.emit(StepFinished(name="compile", cached=False, seconds=1.0))
    shown = console.err.getvalue()
    assert shown.startswith("[1/2] compile\n")
    assert shown.endswith("  compile: 1.0 s\n")


def test_quiet_and_verbose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "HEARTBEAT_SECONDS", 3600.0)
    shown = {}
    for name, flags in {"quiet": {"quiet": True}, "verbose": {"verbose": True}}.items():
        console = Console(err=io.StringIO(), **flags)
        console.emit(StepStarted(name="compile", number=1, count=1))
        console.emit(StepLine(name="compile", text="pass 3"))
        console.emit(StepFinished(name="compile", cached=True, seconds=0.0))
        console.table("t", ("a",), [("b",)])
        assert isinstance(console.err, io.StringIO)
        shown[name] = console.err.getvalue()
    assert shown == {
        "quiet": "",
        "verbose": "[1/1] compile\n    pass 3\n  compile: already built\nt\n  a\n  b\n",
    }

"""A transfer's bytes, rate and time left; on a terminal one line that is written again."""

import io
from collections.abc import Iterator

import pytest

from lmi_compile.console import Console
from lmi_compile.events import Doing, Note
from lmi_compile.meter import Meter

MB = 1_000_000


def _clock(*seconds: float) -> Iterator[float]:
    yield 0.0
    yield from seconds


def _said(total: int | None, counts: list[tuple[float, int]], *, live: bool = False) -> str:
    console = Console(err=io.StringIO())
    console.live = live
    ticks = _clock(*(at for at, _ in counts))
    meter = Meter(console, "pulling x", total, clock=lambda: next(ticks))
    for _, count in counts:
        meter(count)
    meter.end()
    assert isinstance(console.err, io.StringIO)
    return console.err.getvalue()


def test_elsewhere_it_is_a_line_every_ten_seconds() -> None:
    counts = [(1.0, 100 * MB), (10.0, 100 * MB), (12.0, 100 * MB), (20.0, 100 * MB)]
    assert _said(1000 * MB, counts).splitlines() == [
        "pulling x: 200 MB of 1,000 MB, 40 s left, 20 MB/s",
        "pulling x: 400 MB of 1,000 MB, 30 s left, 20 MB/s",
    ]


def test_without_a_total_there_is_no_time_left() -> None:
    assert _said(None, [(10.0, 50 * MB)]) == "pulling x: 50 MB, 5 MB/s\n"


def test_an_archive_beside_the_tree_moves_more_than_the_total() -> None:
    assert _said(10 * MB, [(10.0, 50 * MB)]) == "pulling x: 50 MB, 5 MB/s\n"


def test_on_a_terminal_one_line_is_written_again_and_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    shown = _said(1000 * MB, [(0.1, MB), (0.5, 99 * MB), (1.0, 100 * MB)], live=True)
    lines = shown.split("\r\x1b[K")
    assert lines == ["", "pulling x: 100 MB of 1,000 MB", "pulling x: 200 MB of 1,000 MB", ""]


def test_the_console_counts_for_what_it_is_doing_until_the_next_event() -> None:
    console = Console(err=io.StringIO())
    console.live = True
    console.moved(1)  # nothing is being done: not shown
    console.emit(Doing(text="publishing to r", total=2 * MB))
    console.emit(Note(text="done"))
    console.moved(1)
    assert isinstance(console.err, io.StringIO)
    assert console.err.getvalue() == "publishing to r\n\r\x1b[Knote: done\n"


def test_quiet_shows_nothing() -> None:
    console = Console(quiet=True, err=io.StringIO())
    console.emit(Doing(text="publishing to r", total=2 * MB))
    console.moved(5)
    assert isinstance(console.err, io.StringIO)
    assert console.err.getvalue() == ""

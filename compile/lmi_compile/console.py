"""The one voice: stdout is data, stderr is for people.

On a terminal a running step is shown live, with rich; elsewhere each event is one plain line.
rich is imported when something is first shown, since a cache hit shows nothing.
"""

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event as ThreadEvent
from threading import Lock, Thread
from typing import TYPE_CHECKING, TextIO, assert_never

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import CompileError, exit_code_of
from lmi_compile.events import Doing, Event, Note, StepFinished, StepLine, StepStarted, StepWaits
from lmi_compile.explain import code_of
from lmi_compile.layout import table_lines, wrapped
from lmi_compile.meter import Meter

if TYPE_CHECKING:
    from rich.status import Status

HEARTBEAT_SECONDS = 30.0


class Console:
    """Prints events, errors and results.

    Args:
        as_json: what is asked for is one line of JSON on stdout.
        quiet: nothing but errors on stderr.
        verbose: every line of every step on stderr.
        err: where people read.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        err: TextIO | None = None,
    ) -> None:
        self.out = sys.stdout
        self.err = err or sys.stderr
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.terminal = self.err.isatty() and os.environ.get("TERM") != "dumb"
        self.live = self.terminal and not quiet
        self._status: Status | None = None
        self._running: _Running | None = None
        self._meter: Meter | None = None
        self._speaking = Lock()

    def emit(self, event: Event) -> None:
        """Show one event."""
        if self.quiet:
            return
        self._end_meter()
        match event:
            case Note(text=text):
                self.line(f"note: {text}")
            case Doing(text=text, total=total):
                self.line(text)
                self._meter = None if total is None else Meter(self, "  moved", total)
            case StepStarted(name=name, number=number, count=count):
                self._begin(f"[{number}/{count}] {name}")
            case StepWaits(name=name):
                self.line(f"{name}: another process is building it; waiting")
            case StepLine(text=text):
                self._hear(text)
            case StepFinished(name=name, cached=cached, seconds=seconds):
                self._finish()
                self.line(f"  {name}: " + ("already built" if cached else f"{seconds:.1f} s"))
            case _:
                assert_never(event)

    def moved(self, count: int) -> None:
        """Note that `count` bytes more of what is being done are there."""
        if self._meter is not None:
            self._meter(count)

    def line(self, text: str) -> None:
        """One line for people; a terminal gets it wrapped between words."""
        if not self.quiet:
            self._print(text)

    def data(self, text: str) -> None:
        """One line of data on stdout."""
        print(text, file=self.out, flush=True)

    def page(self, text: str) -> None:
        """Text on stdout; a terminal gets it wrapped between words."""
        for line in text.splitlines():
            self.data(wrapped(line, _columns()) if self.out.isatty() else line)

    def json(self, value: Mapping[str, JSONValue] | Sequence[JSONValue]) -> None:
        """One JSON value on stdout."""
        print(json.dumps(value, ensure_ascii=False), file=self.out, flush=True)

    def answer(self, value: Mapping[str, JSONValue] | Sequence[JSONValue], *lines: str) -> None:
        """What was asked for, on stdout: `value` as one line of JSON, or `lines` as they are."""
        if self.as_json:
            self.json(value)
        else:
            for line in lines:
                self.data(line)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table for people."""
        if self.quiet:
            return
        self._finish()
        width = _columns() if self.terminal else None
        self._print(title)
        for line in table_lines(header, rows, None if width is None else width - 2):
            print(textwrap.indent(line, "  "), file=self.err)
        self.err.flush()

    def listing(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of data on stdout; what does not fit a terminal stands under its row."""
        if rows:
            width = _columns() if self.out.isatty() else None
            for line in table_lines([""] * len(rows[0]), rows, width):
                self.data(line)

    def error(self, error: Exception) -> None:
        """What happened, why, what to do next, where the log is."""
        self._finish()
        match error:
            case CompileError(title=title, what=what, why=why, fix=fix, log=log):
                parts = [f"{title}: {what}", why, f"to do: {fix}" if fix else ""]
                parts.append(f"log: {log}" if log else "")
            case _ if exit_code_of(error) != 1:
                parts = [str(error)]
            case _:
                parts = [f"a bug in lmi-compile: {type(error).__name__}: {error}"]
                parts.append("to do: run again with LMI_TRACEBACK=1 and report what it prints")
        parts.append(f"more: lmi-compile explain {code_of(error)}")
        for line in "\n".join(part for part in parts if part).splitlines():
            self._print(line)

    def _print(self, text: str) -> None:
        print(wrapped(text, _columns()) if self.terminal else text, file=self.err, flush=True)

    def _begin(self, label: str) -> None:
        self._running = running = _Running(label=label, started=time.monotonic())
        if not self.live:
            self.line(label)
        else:
            from rich.console import Console as RichConsole  # noqa: PLC0415 - not on the cached path

            self._status = RichConsole(file=self.err).status(label)
            self._status.start()
        Thread(target=self._beat, args=(running,), daemon=True).start()

    def _hear(self, text: str) -> None:
        if self._running is not None:
            self._running.heard = text
        if self.verbose:
            self.line(f"    {text}")

    def _beat(self, running: "_Running") -> None:
        """Say now and then that a step goes on, though it may print nothing itself."""
        while not running.ended.wait(1.0 if self.live else HEARTBEAT_SECONDS):
            with self._speaking:
                if not running.ended.is_set():
                    self._say_alive(running)

    def _say_alive(self, running: "_Running") -> None:
        said = f"{time.monotonic() - running.started:.0f} s  {_shorten(running.heard)}".rstrip()
        if self._status is not None:
            from rich.text import Text  # noqa: PLC0415 - not on the cached path

            self._status.update(Text(f"{running.label}  {said}"))
        elif not self.verbose:
            self.line(f"    {said}")

    def _end_meter(self) -> None:
        if self._meter is not None:
            self._meter.end()
            self._meter = None

    def _finish(self) -> None:
        self._end_meter()
        if self._running is not None:
            with self._speaking:  # no sign of life after the end
                self._running.ended.set()
            self._running = None
        if self._status:
            self._status.stop()
            self._status = None


@dataclass(slots=True, kw_only=True)
class _Running:
    """A step that runs: since when, its last line, and whether it has ended."""

    label: str
    started: float
    heard: str = ""
    ended: ThreadEvent = field(default_factory=ThreadEvent)


def _columns() -> int:
    return shutil.get_terminal_size().columns


def _shorten(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"

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
from typing import TYPE_CHECKING, TextIO, assert_never

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import CompileError, exit_code_of
from lmi_compile.events import Doing, Event, Note, StepFinished, StepLine, StepStarted, StepWaits
from lmi_compile.explain import code_of
from lmi_compile.meter import Meter

if TYPE_CHECKING:
    from rich.status import Status

_HEARTBEAT_SECONDS = 30.0


class Console:
    """Prints events, errors and results.

    Args:
        quiet: nothing but errors on stderr.
        verbose: every line of every step on stderr.
        err: where people read.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, err: TextIO | None = None
    ) -> None:
        self.out = sys.stdout
        self.err = err or sys.stderr
        self.quiet = quiet
        self.verbose = verbose
        self.terminal = self.err.isatty() and os.environ.get("TERM") != "dumb"
        self.live = self.terminal and not quiet
        self._status: Status | None = None
        self._started = 0.0
        self._heard = 0.0
        self._label = ""
        self._meter: Meter | None = None

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
            self.data(_wrapped(line) if self.out.isatty() else line)

    def json(self, value: Mapping[str, JSONValue] | Sequence[JSONValue]) -> None:
        """One JSON value on stdout."""
        print(json.dumps(value, ensure_ascii=False), file=self.out, flush=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table for people."""
        if self.quiet:
            return
        self._finish()
        if self.terminal:
            self._print(title)
            self._rich_table(header, rows)
            return
        widths = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header))]
        print(title, file=self.err)
        for row in (header, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  " + "  ".join(cells).rstrip(), file=self.err)
        self.err.flush()

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
        print(_wrapped(text) if self.terminal else text, file=self.err, flush=True)

    def _rich_table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.console import Console as RichConsole  # noqa: PLC0415 - not on the cached path
        from rich.table import Table  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above

        table = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        RichConsole(file=self.err).print(table)

    def _begin(self, label: str) -> None:
        self._label, self._started, self._heard = label, time.monotonic(), time.monotonic()
        if not self.live:
            self.line(label)
            return
        from rich.console import Console as RichConsole  # noqa: PLC0415 - not on the cached path

        self._status = RichConsole(file=self.err).status(label)
        self._status.start()

    def _hear(self, text: str) -> None:
        now = time.monotonic()
        if self.verbose:
            self.line(f"    {text}")
        elif self._status:
            from rich.text import Text  # noqa: PLC0415 - as above

            elapsed = now - self._started
            self._status.update(Text(f"{self._label}  {elapsed:.0f} s  {_shorten(text)}"))
        elif now - self._heard > _HEARTBEAT_SECONDS:
            self._heard = now
            self.line(f"    {now - self._started:.0f} s  {_shorten(text)}")

    def _end_meter(self) -> None:
        if self._meter is not None:
            self._meter.end()
            self._meter = None

    def _finish(self) -> None:
        self._end_meter()
        if self._status:
            self._status.stop()
            self._status = None


def _wrapped(text: str) -> str:
    """Words are not cut at a terminal's edge; a reference stays whole, to be copied."""
    width = shutil.get_terminal_size().columns
    if len(text) <= width:
        return text
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    lines = textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines)


def _shorten(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"

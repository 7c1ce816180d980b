"""How a matrix is shown while it runs: plain lines, or on a terminal a live table."""

import time
from threading import RLock
from typing import TYPE_CHECKING

from lmi_compile.console import Console
from lmi_compile.errors import CompileError
from lmi_compile.layout import wrapped
from lmi_compile.matrix.outcome import GREEN, Outcome

if TYPE_CHECKING:
    from rich.table import Table

_SECONDS_COLUMN = 4
_COLOURS = {
    "built": "green",
    "cached": "green",
    "failed": "red",
    "invalid": "red",
    "infeasible": "red",
    "quarantined": "yellow",
}


class PlainView:
    """One line for each step that begins or fails, and for each build that ends."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._done = 0
        self._lock = RLock()

    def started(self, task: str, builds: tuple[str, ...]) -> None:
        """A step begins."""
        del builds
        self._say(f"  {task}")

    def line(self, task: str, text: str) -> None:
        """What a step prints is for --verbose."""
        if self._console.verbose:
            self._say(f"    {task}: {text}")

    def ended(self, task: str, seconds: float, *, failed: bool) -> None:
        """A step has ended."""
        self._say(f"  {task}: {'FAILED after ' if failed else ''}{seconds:.1f} s")

    def outcome(self, outcome: Outcome) -> None:
        """A build has come to its end."""
        with self._lock:
            self._done += 1
            self._say(f"[{self._done}/{self._total}] {sentence(outcome)}")

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, text: str) -> None:
        with self._lock:
            self._console.line(text)


class LiveView:
    """The steps that run, with their last lines, under the builds that have ended."""

    def __init__(self, console: Console, total: int) -> None:
        from rich.console import Console as RichConsole  # noqa: PLC0415 - only on a terminal
        from rich.live import Live  # noqa: PLC0415 - as above

        self._rich = RichConsole(file=console.err)
        self._total = total
        self._done: dict[str, int] = {}
        self._running: dict[str, tuple[float, str]] = {}
        self._lock = RLock()
        self._live = Live(
            console=self._rich, refresh_per_second=4, get_renderable=self._table, transient=True
        )
        self._live.start()

    def started(self, task: str, builds: tuple[str, ...]) -> None:
        """A step begins."""
        del builds
        with self._lock:
            self._running[task] = (time.monotonic(), "")

    def line(self, task: str, text: str) -> None:
        """The last line of a step stands beside it."""
        with self._lock:
            begun, _ = self._running.get(task, (time.monotonic(), ""))
            self._running[task] = (begun, text)

    def ended(self, task: str, seconds: float, *, failed: bool) -> None:
        """A step has ended."""
        del seconds, failed
        with self._lock:
            self._running.pop(task, None)

    def outcome(self, outcome: Outcome) -> None:
        """A build has come to its end; its line stays above the table."""
        from rich.text import Text  # noqa: PLC0415 - as above

        with self._lock:
            self._running.pop(outcome.name, None)
            self._done[outcome.came] = self._done.get(outcome.came, 0) + 1
        lines = wrapped(sentence(outcome), self._rich.width)
        self._rich.print(Text(lines, style=_COLOURS.get(outcome.came, "")), soft_wrap=True)

    def close(self) -> None:
        """Leave the lines of what has ended, and nothing of the table."""
        self._live.stop()

    def _table(self) -> "Table":
        from rich.table import Table  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above

        with self._lock:
            running, done = list(self._running.items()), dict(self._done)
        counts = ", ".join(f"{count} {came}" for came, count in sorted(done.items()))
        title = f"{sum(done.values())} of {self._total} builds: {counts or 'none has ended yet'}"
        table = Table(title=title, title_justify="left", expand=True, box=None, pad_edge=False)
        table.add_column("running", ratio=1, no_wrap=True)
        table.add_column("s", justify="right")
        table.add_column("says", ratio=1, no_wrap=True, overflow="ellipsis")
        now, room = time.monotonic(), self._rich.width // 2 - _SECONDS_COLUMN
        for task, (begun, text) in running:
            table.add_row(Text(_end(task, room)), f"{now - begun:.0f}", Text(text))
        return table


def _end(text: str, room: int) -> str:
    """As much of a step's name as there is room for: builds differ in the end of theirs."""
    return text if len(text) <= room else f"…{text[1 - room :]}"


def view_of(console: Console, total: int) -> PlainView | LiveView:
    """The view that fits where people read."""
    live = console.live and not console.verbose
    return LiveView(console, total) if live else PlainView(console, total)


def sentence(outcome: Outcome) -> str:
    """What came of a build, in a line."""
    build, error = outcome.build, outcome.error
    parts = [f"{outcome.name}: {outcome.came}"]
    if outcome.came in GREEN and build is not None:
        took = sum(outcome.seconds.values())
        parts.append(f"{build.decision} {build.proof}" + (f", {took:.1f} s" if took else ""))
        parts += [str(build.artifact.digest)[:19]] if build.artifact else []
    elif error is not None:
        where = f"in step {outcome.step}: " if outcome.step else ""
        what = error.what if isinstance(error, CompileError) else str(error)
        parts.append(where + what.replace("\n", "; "))
        parts += [f"log: {outcome.log}"] if outcome.log else []
    elif outcome.planned.reason:
        parts.append(outcome.planned.reason)
    return "; ".join(parts)

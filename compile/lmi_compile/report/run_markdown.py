"""A matrix run as Markdown, for a CI job's summary: what is not green first."""

import re
from collections.abc import Iterable, Mapping

from lmi_compile.report.records import (
    Record,
    builds_of,
    counts_of,
    error_of,
    figures_of,
    seconds_of,
    text_of,
)

_SIGNS = {"built": "✅", "cached": "✅", "quarantined": "🚧", "cancelled": "⏹", "interrupted": "⏹"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~-])")
_HEADER = ("", "build", "target", "state", "verdict", "worst figure", "seconds")


def run_markdown(run: Record, changes: Mapping[str, Iterable[str]] | None = None) -> str:
    """The run.

    Args:
        run: as the history holds it.
        changes: by build, which fields of its keys changed since it was last green.
    """
    counts = ", ".join(f"{count} {state}" for state, count in counts_of(run).items())
    seconds, executor = run.get("seconds"), text_of(run, "executor")
    lines = [f"## lmi-compile matrix: {counts or 'nothing to build'}", ""]
    lines += [f"{text_of(run, 'started')}, {seconds} s, executor {executor}", ""]
    builds = sorted(
        builds_of(run), key=lambda build: text_of(build, "state") in {"built", "cached"}
    )
    lines += [_row(_HEADER), _row("---" for _ in _HEADER)]
    lines += [_row(_cells(build)) for build in builds]
    for build in builds:
        lines += _trouble(build, tuple((changes or {}).get(text_of(build, "name"), ())))
    return "\n".join(lines) + "\n"


def worst_figure(build: Record) -> str:
    """The metric that is nearest to its limit, with both values."""
    shares = [
        (abs(measured / limit), name, measured, limit)
        for name, (measured, limit) in figures_of(build).items()
        if measured is not None and limit
    ]
    if not shares:
        return ""
    _, name, measured, limit = max(shares)
    return f"{name} {measured:.3g} of {limit:.3g}"


def _cells(build: Record) -> tuple[str, ...]:
    took = seconds_of(build)
    return (
        _SIGNS.get(text_of(build, "state"), "❌"),
        *(_plain(text_of(build, field)) for field in ("name", "target", "state")),
        _plain(" ".join(filter(None, (text_of(build, "decision"), text_of(build, "proof"))))),
        _plain(worst_figure(build)),
        f"{took:.1f}" if took else "",
    )


def _trouble(build: Record, changed: tuple[str, ...]) -> list[str]:
    error, reason = error_of(build), text_of(build, "reason")
    if not error and not reason:
        return []
    what = error.get("what") or reason
    lines = ["", f"### {_plain(text_of(build, 'name'))}: {_plain(text_of(build, 'state'))}", ""]
    lines += [_plain(what)]
    lines += [f"- {_plain(error[part])}" for part in ("why", "fix") if error.get(part)]
    if changed:
        lines += ["", "Changed since it was last green:", ""]
        lines += [f"- {_plain(line)}" for line in changed]
    return lines


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or HTML would read."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))

"""A verdict as Markdown, for a pull request or a CI job's summary."""

import re
from collections.abc import Iterable, Sequence

from lmi_verify.verdict import TABLE_HEADER, Verdict

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~-])")
_MOST_TEXTS = 3


def markdown(name: str, verdict: Verdict, notes: Sequence[str] = ()) -> str:
    """Decision, gates, findings, notes, and the first places where greedy texts differ."""
    lines = [f"## {_plain(name)}: {verdict.decision}", "", _plain(verdict.summary), ""]
    lines += [f"- {_plain(finding)}" for finding in verdict.findings]
    lines += [f"- look at **{area.name}**: {_plain(area.evidence)}" for area in verdict.areas]
    lines += [f"- note: {_plain(note)}" for note in notes]
    if verdict.checks:
        gated = len(verdict.checks)
        lines += ["", _row(TABLE_HEADER), _row("---" for _ in TABLE_HEADER)]
        lines += [_row(map(_plain, row)) for row in verdict.table_rows()[:gated]]
    apart = [
        (prompt, prompt.divergence)
        for prompt in (verdict.measurements.prompts if verdict.measurements else ())
        if prompt.divergence is not None
    ]
    if apart:
        lines += ["", f"{len(apart)} greedy texts differ:", ""]
    for prompt, divergence in apart[:_MOST_TEXTS]:
        margin = f"the reference's margin there is {divergence.margin:.3g} of the largest logit"
        lines.append(f"- {_plain(prompt.id)} from token {divergence.index + 1}; {margin}")
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or HTML would read."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))

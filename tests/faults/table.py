"""docs/faults.md, from what the battery found."""

import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from battery import FP8_LONGEST, Alarm, Result, Row
from ground import PROMPTS, Ground

ROOT = Path(__file__).parents[2]
_HEAD = """# The fault battery

Every way of being wrong that is listed here was seeded in a build, and the shipped judge decided
with its shipped gates, from the build's outputs alone. `make faults` runs it and writes this page.

- *Builds*: SmolLM2-135M-Instruct (its real weights; three faults need a variant of it, with scaled
  RoPE, biases or a sliding window) in an engine of the tests (`tests/faults/engine.py`), stored
  and computed in float32, in bfloat16, or with 8-bit weights in float32 (`int8`); `fp8` has E4M3
  weights and activations.
- *Prompts*: {prompts} of set v2, cut to {longest} tokens ({fp8_longest} for `fp8`), with {forced}
  forced tokens.
- *Caught*: not accepted, and the area where the fault lies is one of the verdict's, two at most.
- *Smallest caught*: faults with a size go down a ladder until one is not caught.

Run on {date} at commit `{commit}`, {seconds:.0f} s with {jobs} processes.
**{line}** ({cleans} right builds).

| fault | build | area | smallest caught | decision | areas | caught by | measured | limit |
|---|---|---|---|---|---|---|---|---|
"""


def write(result: Result, *, jobs: int) -> None:
    """Writes docs/faults.md."""
    head = _HEAD.format(
        prompts=len(PROMPTS),
        longest=Ground.longest,
        fp8_longest=FP8_LONGEST,
        forced=Ground.forced,
        jobs=jobs,
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        seconds=result.seconds,
        line=result.line,
        cleans=result.cleans,
    )
    rows = "\n".join(_row(row) for row in result.rows)
    alarms = _alarms("False alarms", result.alarms)
    text = f"{head}{rows}\n\n{alarms}\n"
    (ROOT / "docs" / "faults.md").write_text(text, encoding="utf-8")


def _row(row: Row) -> str:
    caught = row.by if row.caught else f"**missed** ({row.by or 'all gates pass'})"
    size = "; ".join(each for each in (row.size, row.note) if each)
    cells = (
        row.fault,
        row.build,
        row.area,
        size,
        row.decision,
        ", ".join(row.areas),
        caught,
        row.measured,
        row.limit,
    )
    safe = [each.replace("|", "\\|") for each in cells]
    return f"| {' | '.join(safe)} |"


def _alarms(title: str, alarms: Iterable[Alarm]) -> str:
    listed = [f"- {alarm.build}: {alarm.summary}" for alarm in alarms]
    return "\n".join([f"{title}:", "", *listed]) if listed else f"{title}: none."


def _commit() -> str:
    """The commit that was run, and whether files differ from it."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    return told.stdout.strip()

"""The throughput model: fit its five constants on the 7B sweep, and its error on every table.

Run it as `.venv/bin/python benchmarks/planner_error.py [--write]`; --write puts the tables into
docs/planner.md. Only the Llama 2 7B rows of the p4d sweep are fitted; every other row judges.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from reference_tables import SWEEP, Measured, measured

from lmi_compile.feasibility.roofline import ceiling, speeds_of
from lmi_compile.feasibility.throughput import FITTED, Constants, expected, terms_of

DOCS = Path(__file__).parents[1] / "docs" / "planner.md"
_MARKS = re.compile(r"(<!-- error -->\n).*?(<!-- /error -->)", re.DOTALL)
FITTED_MODEL = "llama2-7b"


def fit() -> Constants:
    """Least squares of the relative error of a step's time."""
    rows, wanted = [], []
    for one in measured():
        if one.table != SWEEP or one.model != FITTED_MODEL:
            continue
        terms = terms_of(one.question, speeds_of(one.question), one.concurrency)
        assert terms is not None
        step = terms.batch / one.rate
        parts = (terms.launch, terms.hop, terms.sequence, terms.sequence_rank, terms.prefill)
        rows.append([part / step for part in parts])
        wanted.append(1 - terms.base / step)
    found = _least_squares(rows, wanted)
    assert min(found) >= 0, "a constant came out negative: the model does not describe the sweep"
    launch, hop, sequence, sequence_rank, prefill = found
    return Constants(
        launch=launch, hop=hop, sequence=sequence, sequence_rank=sequence_rank, prefill=1 / prefill
    )


def predicted(one: Measured, constants: Constants = FITTED) -> float:
    """The model's figure for a row: replicas share the clients evenly."""
    clients = max(1, one.concurrency // one.replicas)
    busy = min(one.replicas, one.concurrency)
    found = expected(one.question, clients, constants)
    assert found is not None
    return found[0] * busy


def error_tables() -> str:
    """The error of every table, and how far below the ceiling it was measured, in Markdown."""
    groups: dict[str, list[Measured]] = {}
    for one in measured():
        groups.setdefault(f"{one.table}, {one.model}", []).append(one)
    lines = [
        "| table | figures | median error | worst error | measured / ceiling, highest |",
        "|---|---|---|---|---|",
    ]
    for name, rows in groups.items():
        used = " (fitted)" if name == f"{SWEEP}, {FITTED_MODEL}" else ""
        lines.append(f"| {name}{used} | {len(rows)} | {_error(rows)} | {_share(rows)} |")
    every = [one for rows in groups.values() for one in rows]
    judged = [one for one in every if (one.table, one.model) != (SWEEP, FITTED_MODEL)]
    lines.append(f"| **all that was not fitted** | {len(judged)} | {_error(judged)} | "
                 f"{_share(judged)} |")  # fmt: skip
    lines.append(f"| all | {len(every)} | {_error(every)} | {_share(every)} |")
    return "\n".join(lines) + "\n"


def _error(rows: Sequence[Measured]) -> str:
    errors = [(abs(predicted(one) / one.rate - 1), one) for one in rows]
    worst = max(errors, key=lambda pair: pair[0])
    one = worst[1]
    where = f"predicted {predicted(one):.0f}, measured {one.rate:.0f} at {one.concurrency}"
    return f"{median(error for error, _ in errors):.1%} | {worst[0]:.1%} ({where})"


def _share(rows: Sequence[Measured]) -> str:
    return f"{max(one.rate / roof(one) for one in rows):.0%}"


def roof(one: Measured) -> float:
    """The ceiling of a row: that of one machine times the machines."""
    clients = max(1, -(-one.concurrency // one.replicas))
    found = ceiling(one.question, speeds_of(one.question), clients)
    assert found is not None
    return found * min(one.replicas, one.concurrency)


def _least_squares(rows: list[list[float]], wanted: list[float]) -> list[float]:
    """The normal equations, solved by elimination."""
    size = len(rows[0])
    table = [
        [sum(row[i] * row[j] for row in rows) for j in range(size)]
        + [sum(row[i] * value for row, value in zip(rows, wanted, strict=True))]
        for i in range(size)
    ]
    for i in range(size):
        pivot = max(range(i, size), key=lambda k: abs(table[k][i]))
        table[i], table[pivot] = table[pivot], table[i]
        table[i] = [value / table[i][i] for value in table[i]]
        for k in range(size):
            if k != i:
                factor = table[k][i]
                table[k] = [a - factor * b for a, b in zip(table[k], table[i], strict=True)]
    return [row[-1] for row in table]


def main() -> None:
    """Print the fit and the tables; with --write, put the tables into the documentation."""
    print(fit())
    print(error_tables())
    if "--write" in sys.argv[1:]:
        text = DOCS.read_text(encoding="utf-8")
        DOCS.write_text(_MARKS.sub(lambda found: found[1] + error_tables() + found[2], text),
                        encoding="utf-8")  # fmt: skip


if __name__ == "__main__":
    main()

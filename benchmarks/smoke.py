"""What a smoke build costs, for every architecture that the catalogue has for the embedded backend.

    python benchmarks/smoke.py [--only RECIPE]... [--write]

Recipes whose models are alike once they are small share a row. Each is built on its own, from an
empty cache, through the whole flow to a verdict and a proof. `--write` puts each row into
docs/smoke.md as it comes. Ends with 1 where a build is not right or takes a minute of CPU.
"""

import argparse
import datetime as dt
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lmi_compile.errors import Unsupported
from lmi_compile.plan import make_plan
from lmi_compile.smoke import smoke_order
from lmi_compile.survey import load
from lmi_recipes.catalog import catalog_names

ROOT = Path(__file__).resolve().parents[1]
GOAL = 60.0
_KEPT = ROOT / "docs" / "smoke.json"
_PAGE = ROOT / "docs" / "smoke.md"
_RIGHT = ("ACCEPT", "PROVEN")


def main() -> int:
    """Build, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    wrong = []
    groups = architectures()
    for name in groups:
        if asked.only and name not in asked.only:
            continue
        row = built(name) | {"run": _run()}
        print(name, json.dumps(row), flush=True)
        if (row["decision"], row["proof"]) != _RIGHT or row["cpu"] >= GOAL:
            wrong.append(name)
        if asked.write:
            rows = json.loads(_KEPT.read_bytes()) if _KEPT.exists() else {}
            rows[name] = row
            _KEPT.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            _PAGE.write_text(page(groups, rows), encoding="utf-8")
    if wrong:
        print("wrong:", ", ".join(wrong))
    return 1 if wrong else 0


def architectures() -> dict[str, list[str]]:
    """The first recipe of each architecture, small, and all that share its compiled graphs."""
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for name in catalog_names():
            try:
                order = smoke_order(load(name), Path(cache))
            except Unsupported:
                continue
            found.setdefault(make_plan(order).keys["compile"], []).append(name)
    return {names[0]: names for names in found.values()}


def built(name: str) -> dict[str, Any]:
    """What came of it, with CPU seconds of all its processes, and wall seconds."""
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "LMI_CACHE_DIR": f"{home}/cache", "LMI_OUT": f"{home}/out"}
        before, began = _cpu(), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "lmi_compile", "matrix", name, "--smoke", "--json"],
            cwd=home, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        cpu, wall = _cpu() - before, time.monotonic() - began
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
    (build,) = json.loads(done.stdout)["builds"]
    return {
        "decision": build["decision"],
        "proof": build["proof"],
        "cpu": round(cpu, 1),
        "wall": round(wall, 1),
    }


def page(groups: dict[str, list[str]], rows: dict[str, dict[str, Any]]) -> str:
    """docs/smoke.md."""
    lines = [
        "# Smoke builds of the catalogue",
        "",
        "`lmi-compile matrix RECIPE --smoke`: the recipe's architecture with two random layers,",
        "compiled, compared, packaged and proven by the embedded backend, from an empty cache; one",
        "row for recipes that are alike once they are small. CPU seconds are of all processes,",
        "wall seconds of a machine with two cores that others used meanwhile.",
        "Made by `make smoke`, a row at a time; each names the commit and the day of its run.",
        "",
        "| recipe | and | verdict | proof | CPU s | wall s | run |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, names in groups.items():
        row = rows.get(name)
        others = len(names) - 1 or "-"
        if row is None:
            lines.append(f"| `{name}` | {others} | not run | - | - | - | - |")
        else:
            cells = " | ".join(
                str(row[each]) for each in ("decision", "proof", "cpu", "wall", "run")
            )
            lines.append(f"| `{name}` | {others} | {cells} |")
    return "\n".join(lines) + "\n"


def _run() -> str:
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return f"{head.strip()}, {dt.datetime.now(tz=dt.UTC).date().isoformat()}"


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())

"""Every family of the embedded backend, small and random: exported, compiled, run, compared.

    python tests/families/families.py [--only NAME]... [--export-only] [--write]

For each: a prompt through prefill, then 32 tokens through decode, once with the traced graphs and
once with the compiled libraries; logits of every position and the greedy tokens against the
Hugging Face model run eagerly. `--write` puts what was found into docs/families.md.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "fixtures"))
from family_configs import DECODERS
from family_runs import right, tried

_KEPT = ROOT / "docs" / "families.json"
_PAGE = ROOT / "docs" / "families.md"


def page(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "# Families of decoders on the embedded backend",
        "",
        "Small random models: a prompt of 13 tokens through prefill, 32 greedy through decode.",
        "A cell is the largest logit error of all positions against the Hugging Face model run",
        "eagerly in float32, relative to the largest logit; `tokens differ` where one does.",
        "Made by `make families`, a row at a time; each names the commit and the day of its run.",
        "",
        "| family | model_type | export | compiled | run |",
        "|---|---|---|---|---|",
    ]
    for family in DECODERS:
        row = rows.get(family.shown)
        shown = f"| {family.shown} | `{family.config['model_type']}` "
        if row is None:
            lines.append(f"{shown}| not run | not run | - |")
        elif "refused" in row:
            lines.append(f"{shown}| refused: {row['refused']} | - | {row['run']} |")
        else:
            cells = " | ".join(_cell(row.get(name)) for name in ("export", "compiled"))
            lines.append(f"{shown}| {cells} | {row['run']} |")
    return "\n".join(lines) + "\n"


def _cell(found: Any) -> str:
    if found is None:
        return "not run"
    error, same = found
    return f"{error:.1e}" + ("" if same else ", tokens differ")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--export-only", action="store_true")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(
        asked, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    wrong = []
    for family in DECODERS:
        if chosen.only and family.shown not in chosen.only:
            continue
        row = tried(family, compile_too=not chosen.export_only)
        row["run"] = f"{commit}, {today}"
        print(family.shown, json.dumps(row), flush=True)
        if not right(row):
            wrong.append(family.shown)
        if chosen.write:
            rows = json.loads(_KEPT.read_bytes()) if _KEPT.exists() else {}
            rows[family.shown] = row
            _KEPT.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            _PAGE.write_text(page(rows), encoding="utf-8")
    if wrong:
        print("wrong:", ", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

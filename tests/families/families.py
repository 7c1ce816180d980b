"""Every family of the embedded backend, small and random: exported, compiled, run, compared.

    python tests/families/families.py [--only NAME]... [--export-only] [--write] [--turn]

For each decoder: a prompt through prefill, then 32 tokens through decode, once with the traced
graphs and once with the compiled libraries; logits of every position and the greedy tokens against
the Hugging Face model run eagerly. For each model of one pass: three texts or pictures together,
the outputs against each alone. `--write` puts what was found into docs/families.md.
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
from family_configs import DECODERS, Family
from family_runs import COMPILED, right, tried
from one_pass import KINDS
from one_pass_runs import tried_one_pass
from turn import some_of_this_commit

_KEPT = ROOT / "docs" / "families.json"
_PAGE = ROOT / "docs" / "families.md"


_HEAD = """# Model families on the embedded backend

Small random models. A cell is the largest error against the Hugging Face model run eagerly in
float32, relative to its largest output. Made by `make families`, a row at a time; each names the
commit and the day of its run. `make test` traces every decoder and compiles four, others for each
commit: `python tests/families/families.py --turn` names them.

## Decoders

A prompt of 13 tokens through prefill, 32 greedy through decode; logits of every position, and
`tokens differ` where a greedy one does.
"""
_AT_ONCE = """
## Encoders and image classifiers

Three texts of 1, 17 and 48 tokens, or three pictures, through one graph together; each against
itself alone and unpadded.
"""
_COLUMNS = """
| family | model_type | export | compiled | run |
|---|---|---|---|---|
"""


def page(rows: dict[str, dict[str, Any]]) -> str:
    decoders = [_line(one.shown, one.config["model_type"], rows) for one in DECODERS]
    one_pass = [_line(one.shown, one.model_type, rows) for one in KINDS]
    return f"{_HEAD}{_COLUMNS}{''.join(decoders)}{_AT_ONCE}{_COLUMNS}{''.join(one_pass)}"


def _line(shown: str, model_type: str, rows: dict[str, dict[str, Any]]) -> str:
    row = rows.get(shown)
    start = f"| {shown} | `{model_type}` "
    if row is None:
        return f"{start}| not run | not run | - |\n"
    if "refused" in row:
        return f"{start}| refused: {row['refused']} | - | {row['run']} |\n"
    cells = " | ".join(_cell(row.get(name)) for name in ("export", "compiled"))
    return f"{start}| {cells} | {row['run']} |\n"


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
    parser.add_argument("--turn", action="store_true", help="name what make test compiles now")
    chosen = parser.parse_args()
    if chosen.turn:
        print(*(one.shown for one in some_of_this_commit(COMPILED, 4)), sep="\n")
        return 0
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(
        asked, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    wrong = []
    for one in (*DECODERS, *KINDS):
        if chosen.only and one.shown not in chosen.only:
            continue
        compile_too = not chosen.export_only
        if isinstance(one, Family):
            row = tried(one, compile_too=compile_too)
        else:
            row = tried_one_pass(one, compile_too=compile_too)
        row["run"] = f"{commit}, {today}"
        print(one.shown, json.dumps(row), flush=True)
        if not right(row):
            wrong.append(one.shown)
        if chosen.write:
            rows = json.loads(_KEPT.read_bytes()) if _KEPT.exists() else {}
            rows[one.shown] = row
            _KEPT.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            _PAGE.write_text(page(rows), encoding="utf-8")
    if wrong:
        print("wrong:", ", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

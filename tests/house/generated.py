"""Files that are generated from the code: `make fmt` writes them, `make check` compares them."""

import json
import re
import sys
from pathlib import Path

from click.testing import CliRunner

from lmi_compile.cli.app import command
from lmi_recipes.instance import instance_names, read_instance
from lmi_recipes.schema import SCHEMA_FILE, recipe_schema_text

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MACHINES = ROOT / "artifacts" / "lmi_artifacts" / "machines.json"
_HELP = re.compile(r"(<!-- help -->\n```\n).*?(```\n<!-- /help -->)", re.DOTALL)


def readme_text() -> str:
    """README.md with the command's own help in it."""
    shown = (
        CliRunner().invoke(command, ["--help"], prog_name="lmi-compile", terminal_width=96).output
    )
    return _HELP.sub(lambda found: found[1] + shown + found[2], README.read_text(encoding="utf-8"))


def machines_text() -> str:
    """The recipes' instance types, for the room of artifacts, which imports no other room."""
    rows: list[str] = []
    for one in map(read_instance, sorted(instance_names())):
        if one.accelerator is None:
            continue
        found = {
            "sm": one.accelerator.sm,
            "neuron": one.neuron_target,
            "devices": one.devices,
            "cores": one.ranks if one.neuron_target else None,
        }
        kept = {name: value for name, value in found.items() if value is not None}
        rows.append(f"  {json.dumps(one.name)}: {json.dumps(kept)}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def main(check: bool) -> int:  # noqa: FBT001 - the one flag of a script
    """Write the files, or say which are out of date."""
    stale = []
    files = (
        (SCHEMA_FILE, recipe_schema_text()),
        (README, readme_text()),
        (MACHINES, machines_text()),
    )
    for path, text in files:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT))
        if not check:
            path.write_text(text, encoding="utf-8")
    if stale and check:
        sys.stderr.write(f"out of date, run `make fmt`: {', '.join(map(str, stale))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

"""Files that are generated from the code: `make fmt` writes them, `make check` compares them."""

import json
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from click.testing import CliRunner

from lmi_compile.cli.app import command
from lmi_compile.preview import preview
from lmi_recipes.catalog import catalog_names, find_recipe, why_so
from lmi_recipes.instance import instance_names, read_instance
from lmi_recipes.reading import LoadedRecipe, read_recipe
from lmi_recipes.schema import SCHEMA_FILE, recipe_schema_text

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MACHINES = ROOT / "artifacts" / "lmi_artifacts" / "machines.json"
CATALOGUE = ROOT / "docs" / "reference" / "catalogue.md"
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


def catalogue_text() -> str:
    """docs/reference/catalogue.md: every recipe with what the planner says of it."""
    lines = [
        "# Catalogue",
        "",
        "`lmi-compile NAME` builds one, `lmi-compile plan NAME` says more, and",
        "`lmi-compile recipes search WORD...` finds those that have every word. The figures are",
        "the planner's; UNKNOWN is what nobody has sourced.",
    ]
    loaded = [read_recipe(find_recipe(name)) for name in catalog_names()]
    loaded.sort(key=lambda one: (one.recipe.backend, one.recipe.name))
    with tempfile.TemporaryDirectory() as cache:
        for backend, group in groupby(loaded, key=lambda one: one.recipe.backend):
            lines += ["", f"## {backend}", ""]
            lines += ["| recipe | target | TP | fits | largest batch | artifact | why it is so |"]
            lines += ["|---|---|---|---|---|---|---|"]
            lines += [_catalogue_row(one, Path(cache)) for one in group]
    return "\n".join(lines) + "\n"


def _catalogue_row(loaded: LoadedRecipe, cache: Path) -> str:
    recipe = loaded.recipe
    answer = preview(loaded, cache).answer
    build = answer["build"]
    size = build.get("artifact_bytes") if isinstance(build, dict) else None
    cells = (
        f"`{recipe.name}`",
        recipe.target.instance_type or recipe.target.cpu or "any",
        str(recipe.tensor_parallel_degree),
        {True: "yes", False: "no"}.get(answer["fits"], "UNKNOWN"),
        str(answer["max_batch_size_that_fits"] or "UNKNOWN"),
        f"{size / 1e9:.2f} GB" if isinstance(size, int | float) else "UNKNOWN",
        why_so(loaded.path).replace("|", "\\|"),
    )
    return f"| {' | '.join(cells)} |"


def main(check: bool) -> int:  # noqa: FBT001 - the one flag of a script
    """Write the files, or say which are out of date."""
    stale = []
    files = (
        (SCHEMA_FILE, recipe_schema_text()),
        (README, readme_text()),
        (MACHINES, machines_text()),
        (CATALOGUE, catalogue_text()),
    )
    for path, text in files:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(ROOT))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale and check:
        sys.stderr.write(f"out of date, run `make fmt`: {', '.join(map(str, stale))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

"""The verb that answers before anything is paid for: plan."""

from pathlib import Path

import click

from lmi_compile.cli.completion import recipe_names
from lmi_compile.cli.options import (
    set_option,
    settings_options,
    toolchains_option,
    voice_options,
)
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode, Unsupported
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.reading import read_question
from lmi_compile.feasibility.report import matrix_rows, report
from lmi_compile.preview import Preview, preview
from lmi_compile.settings import Settings
from lmi_compile.survey import load
from lmi_recipes.reading import LoadedRecipe

_MATRIX = (
    "instance type",
    "accelerator",
    "backend",
    "fits",
    "degree",
    "batch",
    "tokens/s",
    "why not",
)


@click.command()
@click.argument("recipe", shell_complete=recipe_names)
@click.option("--price", type=click.FloatRange(min=0, min_open=True), metavar="USD",
              help="What the instance costs for an hour.")  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG",
              help="Draw memory and throughput (needs the extra `plot`).")  # fmt: skip
@click.option("--all-targets", is_flag=True, help="Which instance types can serve this model.")
@set_option
@toolchains_option
@settings_options
@voice_options
def plan(
    recipe: str,
    *,
    price: float | None,
    plot: Path | None,
    all_targets: bool,
    overrides: tuple[str, ...],
    toolchains: tuple[str, ...],
    settings: Settings,
    console: Console,
) -> int:
    """Say whether RECIPE fits its target, what to expect, and its steps; nothing is run.

    Exit 3 when it cannot be, with the reason first.
    """
    loaded = load(recipe, overrides)
    folders = tuple(map(Path, toolchains))
    if all_targets:
        return _all_targets(console, loaded, folders, settings.cache_dir)
    found = preview(loaded, settings.cache_dir, folders, price=price)
    if plot is not None:
        _draw(found.question, loaded.recipe.name, plot)
    if console.as_json:
        console.json(found.to_json())
    else:
        _show(console, found)
    return ExitCode.IMPOSSIBLE if found.answer["fits"] is False else ExitCode.OK


def _show(console: Console, found: Preview) -> None:
    """The verdict first, then everything else for people; the plan key is the data."""
    for line in report(found.answer):
        console.line(line)
    for note in found.notes:
        console.line(f"note: {note}")
    if found.planned is None:
        return
    rows = [
        (
            step.step.name,
            step.step.where,
            ", ".join(step.step.needs) or "-",
            step.key[:12],
            "finished" if step.step.name in found.cached else "to do",
        )
        for step in found.planned.steps
    ]
    title = f"{found.loaded.recipe.name}: {len(rows)} steps"
    console.table(title, ("step", "where", "needs", "key", "state"), rows)
    console.data(found.planned.plan_key)


def _all_targets(
    console: Console,
    loaded: LoadedRecipe,
    toolchains: tuple[Path, ...],
    cache: Path,
) -> int:
    from lmi_compile.feasibility.matrix import every_target  # noqa: PLC0415 - one recipe pays less

    question, why = read_question(loaded, toolchains, cache)
    if question is None:
        raise Unsupported(f"{loaded.recipe.name}: {why}")
    rows = every_target(question)
    if console.as_json:
        console.json({"name": loaded.recipe.name, "targets": rows})
    else:
        title = f"{loaded.recipe.name} on every instance type"
        console.table(title, _MATRIX, list(matrix_rows(rows)))
    some = any(isinstance(row, dict) and row["fits"] for row in rows)
    return ExitCode.OK if some else ExitCode.IMPOSSIBLE


def _draw(question: Question | None, name: str, path: Path) -> None:
    if question is None:
        raise Unsupported("there is nothing to draw: no config.json to compute with")
    try:
        from lmi_compile.feasibility.plot import draw  # noqa: PLC0415 - heavy, and only for --plot
    except ImportError as error:
        what = "--plot needs matplotlib"
        raise EnvironmentFault(what, str(error), "pip install 'lmi-compile[plot]'") from error
    try:
        draw(question, name, path)
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written", str(error)) from error

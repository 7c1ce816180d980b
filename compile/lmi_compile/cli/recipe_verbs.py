"""Verbs about recipes: validate, recipes, schema. None of them runs a step."""

import sys
from collections.abc import Callable, Mapping

import click

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.manifest import manifest_schema_text
from lmi_compile.cli.completion import recipe_names
from lmi_compile.cli.options import voice_options
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode
from lmi_recipes.catalog import catalog_names, find_recipe, search_catalog, why_so
from lmi_recipes.errors import RecipesError
from lmi_recipes.reading import read_recipe
from lmi_recipes.schema import recipe_schema_text
from lmi_verify.verdict import verdict_schema_text


@click.command()
@click.argument(
    "recipes", nargs=-1, required=True, shell_complete=recipe_names, metavar="RECIPE..."
)
@voice_options
def validate(recipes: tuple[str, ...], *, console: Console) -> int:
    """Check recipes; every problem of a file is reported at once."""
    failed = False
    for recipe in recipes:
        result: dict[str, JSONValue] = {"recipe": recipe, "valid": True}
        try:
            loaded = read_recipe(find_recipe(recipe))
        except RecipesError as error:
            failed = True
            problems = [problem.to_json() for problem in getattr(error, "problems", ())]
            result |= {"valid": False, "error": str(error), "problems": problems}
            console.error(error)
        else:
            result["notes"] = list(loaded.notes)
            for note in loaded.notes:
                console.line(f"note: {note}")
            console.line(f"{recipe}: valid")
        if console.as_json:
            console.json(result)
    return ExitCode.USAGE if failed else ExitCode.OK


@click.group(invoke_without_command=True)
@voice_options
@click.pass_context
def recipes(ctx: click.Context, *, console: Console) -> int:
    """List the catalogue's recipes."""
    if ctx.invoked_subcommand is not None:
        return ExitCode.OK
    if console.as_json:
        console.json(list(catalog_names()))
        return ExitCode.OK
    for name in catalog_names():
        console.data(name)
    return ExitCode.OK


@recipes.command()
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@voice_options
def search(words: tuple[str, ...], *, console: Console) -> int:
    """List the recipes that have every WORD: of a model, target, method, or reason."""
    found = search_catalog(words)
    if console.as_json:
        console.json([{"name": name, "why": why_so(find_recipe(name))} for name in found])
        return ExitCode.OK
    for name in found:
        console.data(name)
        console.line(f"  {why_so(find_recipe(name))}")
    return ExitCode.OK


_SCHEMAS: Mapping[str, Callable[[], str]] = {
    "recipe": recipe_schema_text,
    "verdict": verdict_schema_text,
    "manifest": manifest_schema_text,
}


@click.command()
@click.argument("what", type=click.Choice([*_SCHEMAS]), default="recipe")
def schema(what: str) -> int:
    """Print a JSON Schema: of recipes, for editors; of verdict.json and manifests, for readers."""
    sys.stdout.write(_SCHEMAS[what]())
    return ExitCode.OK

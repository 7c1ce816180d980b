"""`lmi-compile RECIPE...`: the main job."""

from dataclasses import dataclass
from pathlib import Path

import click

from lmi_artifacts.digest import JSONValue
from lmi_compile.cli.completion import recipe_names
from lmi_compile.cli.options import (
    executor_options,
    registry_of,
    set_option,
    toolchains_option,
    tools_of,
    voice_options,
)
from lmi_compile.cli.reports import Told, print_briefly, print_proof, print_verdict, write_junit
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode, exit_code_of, to_json
from lmi_compile.executors.choose import Chosen
from lmi_compile.pipeline import Build, NotAccepted, NotProven, run_until
from lmi_compile.pipeline import build as build_plan
from lmi_compile.plan import Plan, make_plan
from lmi_compile.settings import Settings
from lmi_compile.stepping import Tools
from lmi_compile.survey import load, survey


@click.command()
@click.argument(
    "recipes", nargs=-1, required=True, shell_complete=recipe_names, metavar="RECIPE..."
)
@click.option("--until", metavar="STEP", help="Stop after this step; nothing is published.")
@click.option("--verify", "rehash", is_flag=True, help="On a cache hit, re-hash every file.")
@click.option(
    "--allow-unverified", is_flag=True, help="Publish also where no gate exists; it says so."
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="JUnit XML: a suite for each recipe, a test case for each gate.",
)
@click.option("--dry-run", is_flag=True, help="Print the requests of SageMaker jobs; send none.")
@set_option
@toolchains_option
@executor_options
@voice_options
def build(
    recipes: tuple[str, ...],
    *,
    until: str | None,
    rehash: bool,
    allow_unverified: bool,
    junit: Path | None,
    dry_run: bool,
    overrides: tuple[str, ...],
    toolchains: tuple[str, ...],
    settings: Settings,
    console: Console,
) -> int:
    """Compile, check, package, publish and prove RECIPE: a YAML file or a catalogue name."""
    options = _Options(
        overrides=overrides,
        toolchains=tuple(map(Path, toolchains)),
        until=until,
        rehash=rehash,
        allow_unverified=allow_unverified,
    )
    if dry_run:
        return _print_requests(recipes, options, settings, console)
    codes = []
    told: list[Told] = []
    for recipe in recipes:
        try:
            done = _build_one(recipe, options, settings, console)
        except Exception as error:
            told.append((recipe, error))
            if len(recipes) == 1:
                write_junit(console, junit, told)
                raise
            console.error(error)
            codes.append(exit_code_of(error))
            if console.as_json:
                failure: dict[str, JSONValue] = dict(to_json(error))
                console.json({"recipe": recipe, "error": failure, "exit_code": int(codes[-1])})
            continue
        codes.append(ExitCode.OK)
        told.append((recipe, done.verdict))
        said = str(done.artifact or done.path or done.decision)
        console.answer(done.to_json(), said)
    write_junit(console, junit, told)
    return ExitCode.MATRIX_PART_FAILED if any(codes) else ExitCode.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What the command line says about every recipe on it."""

    overrides: tuple[str, ...]
    toolchains: tuple[Path, ...]
    until: str | None
    rehash: bool
    allow_unverified: bool


def _print_requests(
    recipes: tuple[str, ...], options: _Options, settings: Settings, console: Console
) -> int:
    executor = Chosen(settings, console.emit)
    for recipe in recipes:
        for request in executor.requests(_plan(recipe, options, settings, console)):
            console.json(request)
    return ExitCode.OK


def _plan(recipe: str, options: _Options, settings: Settings, console: Console) -> Plan:
    loaded = load(recipe, options.overrides)
    plan = make_plan(survey(loaded, settings.cache_dir, options.toolchains))
    for note in (*loaded.notes, *plan.notes):
        console.line(f"note: {note}")
    return plan


def _build_one(recipe: str, options: _Options, settings: Settings, console: Console) -> Build:
    plan = _plan(recipe, options, settings, console)
    registry = registry_of(settings, plan.order.recipe.publish.registry)
    tools = tools_of(settings, registry, console)
    if options.until:
        return _build_until(plan, options.until, tools, console)
    try:
        done = build_plan(
            plan, tools, rehash=options.rehash, allow_unverified=options.allow_unverified
        )
    except NotAccepted as error:
        print_verdict(console, error.verdict)
        raise
    except NotProven as error:
        print_proof(console, error.report)
        raise
    if done.cached:
        print_briefly(console, done.verdict, done.proof_report)
        console.line(f"{recipe}: nothing to do; the artifact is in {registry.url}")
    else:
        print_verdict(console, done.verdict)
        print_proof(console, done.proof_report)
    return done


def _build_until(plan: Plan, until: str, tools: Tools, console: Console) -> Build:
    try:
        done = run_until(plan, until, tools)
    except NotAccepted as error:
        print_verdict(console, error.verdict)
        raise
    if done.verdict:
        print_verdict(console, done.verdict)
    if done.reason:
        console.line(f"{plan.order.recipe.name}: {until}: SKIPPED: {done.reason}")
    return done

"""`lmi-compile matrix`: many recipes as one piece of work."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmi_artifacts.digest import JSONValue
from lmi_compile.cli.options import (
    read_settings,
    registry_of,
    set_option,
    settings_options,
    toolchains_option,
    tools_of,
    voice_options,
)
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode, MatrixInvalid
from lmi_compile.matrix.members import collect
from lmi_compile.matrix.planning import Asked, Planned, places, plan_matrix, shared, target_name
from lmi_compile.matrix.select import parse_conditions, select
from lmi_compile.settings import Settings
from lmi_compile.workspace import Workspace

if TYPE_CHECKING:
    from lmi_artifacts.registry import Registry
    from lmi_compile.matrix.outcome import Outcome

_LIMITS = ("device", "network", "memory")


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="DIR|GLOB|RECIPE...")
@click.option("--select", "selects", multiple=True, metavar="FIELD=GLOB",
              help="Only these; family, target, or any field; `a|b`, `!=`.")  # fmt: skip
@click.option("--jobs", "-j", type=click.IntRange(1, 256), help="Steps at once (half the cores).")
@click.option("--limit", "limits", multiple=True, metavar="NAME=N",
              help="At once at most: device, network (1 each), memory (bytes).")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the plan; run nothing.")
@click.option("--fail-fast/--keep-going", default=False, help="Stop at the first failure.")
@click.option("--until", default="", metavar="STEP", help="Stop after this step; publish nothing.")
@click.option("--allow-unverified", is_flag=True, help="Publish also where no gate exists.")
@set_option
@toolchains_option
@settings_options
@voice_options
def matrix(
    recipes: tuple[str, ...],
    *,
    selects: tuple[str, ...],
    jobs: int | None,
    limits: tuple[str, ...],
    dry_run: bool,
    fail_fast: bool,
    until: str,
    allow_unverified: bool,
    overrides: tuple[str, ...],
    toolchains: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **flags: object,
) -> int:
    """Plan all builds of many recipes, then run them; steps that they share run once.

    A folder means its recipes, a glob files or names of the catalogue; a recipe with `matrix:`
    means one build for each combination. Exit 9 when part failed.
    """
    settings = read_settings(**flags)
    console = Console(quiet=quiet, verbose=verbose)
    bounds = _bounds(jobs, limits)
    open_registry = _registries(settings)
    members = select(collect(recipes, overrides), parse_conditions(selects))
    asked = Asked(
        workspace=Workspace(settings.cache_dir),
        registry_of=open_registry,
        toolchains=tuple(map(Path, toolchains)),
        until=until,
        allow_unverified=allow_unverified,
    )
    planned = plan_matrix(members, asked)
    _show_plan(console, planned)
    if dry_run:
        if as_json:
            console.json({"builds": [one.to_json() for one in planned]})
        bad = any(one.state in {"infeasible", "invalid"} for one in planned)
        return ExitCode.MATRIX_PART_FAILED if bad else ExitCode.OK
    outcomes = _run(
        planned, settings, console, open_registry, bounds,
        fail_fast=fail_fast, until=until, allow_unverified=allow_unverified,
    )  # fmt: skip
    return _report(console, outcomes, as_json=as_json)


def _run(
    planned: tuple[Planned, ...],
    settings: Settings,
    console: Console,
    open_registry: Callable[[str | None], "Registry"],
    bounds: Mapping[str, int],
    *,
    fail_fast: bool,
    until: str,
    allow_unverified: bool,
) -> tuple["Outcome", ...]:
    from lmi_compile.cli.matrix_view import view_of  # noqa: PLC0415 - a plan alone runs nothing
    from lmi_compile.matrix.run import How, run_matrix  # noqa: PLC0415 - as above

    tools = tools_of(settings, open_registry(None), console)
    how = How(
        tools_of=lambda plan: replace(
            tools, registry=open_registry(plan.order.recipe.publish.registry)
        ),
        limits=bounds,
        until=until,
        allow_unverified=allow_unverified,
        fail_fast=fail_fast,
    )
    view = view_of(console, len(planned))
    try:
        return run_matrix(planned, how, view)
    finally:
        view.close()


def _show_plan(console: Console, planned: Iterable[Planned]) -> None:
    """Everything first: what is cached, what will run where, what cannot be and why."""
    planned = tuple(planned)
    rows = []
    for one in planned:
        steps = len(one.plan.steps) if one.plan else 0
        what = one.reason or (f"{len(one.todo)} of {steps} steps" if one.todo else "")
        rows.append((one.name, target_name(one.member), one.state, what))
    asked, different = shared(planned)
    where = ", ".join(f"{count} on the {place}" for place, count in places(planned).items())
    title = f"{len(planned)} builds: {asked} steps to do, {different} different ones"
    console.table(f"{title} ({where})" if where else title, ("build", "target", "state", ""), rows)


def _report(console: Console, outcomes: tuple["Outcome", ...], *, as_json: bool) -> int:
    from lmi_compile.matrix.outcome import counted, exit_code  # noqa: PLC0415 - as above

    for outcome in outcomes:
        if outcome.error is not None:
            console.line("")
            console.error(outcome.error)
    code = exit_code(outcomes)
    console.line(counted(outcomes))
    if as_json:
        builds: list[JSONValue] = [outcome.to_json() for outcome in outcomes]
        console.json({"builds": builds, "exit_code": int(code)})
    else:
        for outcome in outcomes:
            if outcome.build and outcome.build.artifact:
                console.data(str(outcome.build.artifact))
    return code


def _registries(settings: Settings) -> Callable[[str | None], "Registry"]:
    """Each registry opened once, however many recipes name it."""

    @cache
    def opened(recipes_own: str | None) -> "Registry":
        return registry_of(settings, recipes_own)

    return opened


def _bounds(jobs: int | None, limits: tuple[str, ...]) -> dict[str, int]:
    """How much there is at once.

    Raises:
        MatrixInvalid: a text is no limit.
    """
    bounds = {"jobs": jobs or max(1, (os.cpu_count() or 1) // 2), "device": 1, "network": 1}
    for text in limits:
        name, _, amount = text.partition("=")
        if name not in _LIMITS or not amount.isdecimal() or int(amount) < 1:
            fix = f"write NAME=N with NAME one of {', '.join(_LIMITS)} and N from 1"
            raise MatrixInvalid(f"--limit {text} is no limit", fix=fix)
        bounds[name] = int(amount)
    return bounds

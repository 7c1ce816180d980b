"""`lmi-compile matrix`: many recipes as one piece of work."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmi_compile.cli.completion import recipe_names
from lmi_compile.cli.matrix_reports import (
    changed,
    changes_since_green,
    hold_reports,
    report,
    show_changes,
    show_plan,
    write_reports,
)
from lmi_compile.cli.options import (
    executor_options,
    registry_of,
    set_option,
    toolchains_option,
    tools_of,
    voice_options,
)
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode, MatrixInvalid
from lmi_compile.host import installed_version
from lmi_compile.matrix.history import begin, read_runs, run_of, try_keep
from lmi_compile.matrix.members import collect
from lmi_compile.matrix.planning import Asked, Planned, plan_matrix
from lmi_compile.matrix.quarantine import quarantine
from lmi_compile.matrix.select import parse_conditions, select
from lmi_compile.settings import Settings
from lmi_compile.workspace import Workspace

if TYPE_CHECKING:
    from lmi_artifacts.registry import Registry
    from lmi_compile.matrix.outcome import Outcome

_FILE = click.Path(dir_okay=False, path_type=Path)
_LIMITS = ("device", "network", "memory")


@click.command()
@click.argument(
    "recipes", nargs=-1, required=True, shell_complete=recipe_names, metavar="DIR|GLOB|RECIPE..."
)
@click.option("--select", "selects", multiple=True, metavar="FIELD=GLOB",
              help="Only these; family, target, or any field; `a|b`, `!=`.")  # fmt: skip
@click.option("--jobs", "-j", type=click.IntRange(1, 256), help="Steps at once (half the cores).")
@click.option("--limit", "limits", multiple=True, metavar="NAME=N",
              help="At once at most: device, network (1 each), memory (bytes).")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the plan; run nothing.")
@click.option("--since-green", is_flag=True, help="Show what changed in the keys since green.")
@click.option("--smoke", is_flag=True, help="Two random layers of each, nothing for serving.")
@click.option("--fail-fast/--keep-going", default=False, help="Stop at the first failure.")
@click.option("--until", default="", metavar="STEP", help="Stop after this step; publish nothing.")
@click.option("--allow-unverified", is_flag=True, help="Publish also where no gate exists.")
@click.option("--retry-quarantined", is_flag=True, help="Build also what keeps failing.")
@click.option("--quarantine-after", type=click.IntRange(1), default=3, show_default=True,
              help="Failures in a row, with the same keys.")  # fmt: skip
@click.option("--junit", type=_FILE, help="Write JUnit XML.")
@click.option("--markdown", type=_FILE, help="Write a summary for a CI job.")
@set_option
@toolchains_option
@executor_options
@voice_options
def matrix(
    recipes: tuple[str, ...],
    *,
    selects: tuple[str, ...],
    jobs: int | None,
    limits: tuple[str, ...],
    overrides: tuple[str, ...],
    toolchains: tuple[str, ...],
    settings: Settings,
    console: Console,
    **flags: object,
) -> int:
    """Plan all builds of many recipes, then run them; steps that they share run once.

    A folder means its recipes, a glob files or names of the catalogue; a recipe with `matrix:`
    means one build for each combination. Exit 9 when part failed.
    """
    options = _options(flags)
    hold_reports(options.junit, options.markdown)
    bounds = _bounds(jobs, limits)
    registries = _registries(settings, smoke=options.smoke)
    members = select(collect(recipes, overrides), parse_conditions(selects))
    asked = Asked(
        workspace=Workspace(settings.cache_dir),
        registry_of=registries,
        toolchains=tuple(map(Path, toolchains)),
        until=options.until,
        allow_unverified=options.allow_unverified,
        smoke=options.smoke,
    )
    planned = plan_matrix(members, asked)
    work = any(one.state == "to do" for one in planned)
    runs = read_runs(registries(None)) if work or options.since_green else ()
    if not options.retry_quarantined:
        planned = quarantine(planned, runs, options.quarantine_after)
    changes = changes_since_green(planned, runs, registries(None)) if options.since_green else {}
    show_plan(console, planned)
    show_changes(console, changes)
    if options.dry_run:
        if console.as_json:
            builds = [one.to_json() | changed(changes, one.name) for one in planned]
            console.json({"builds": builds})
        return _foreseen(planned)
    began = begin()
    outcomes = _run(planned, settings, console, registries, bounds, options)
    run = run_of(
        began, outcomes, executor=settings.executor, version=installed_version("lmi-compile")
    )
    if not options.until and (reason := try_keep(registries(None), run, outcomes)):
        console.line(f"note: this run is not in the history: {reason}")
    write_reports(run, changes, options.junit, options.markdown)
    return report(console, run, outcomes)


def _foreseen(planned: Sequence[Planned]) -> ExitCode:
    """How a dry run ends: a part that cannot be is a part that would fail."""
    bad = any(one.state in {"infeasible", "invalid"} for one in planned)
    return ExitCode.MATRIX_PART_FAILED if bad else ExitCode.OK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """What the command line says about the whole matrix."""

    dry_run: bool
    since_green: bool
    smoke: bool
    fail_fast: bool
    until: str
    allow_unverified: bool
    retry_quarantined: bool
    quarantine_after: int
    junit: Path | None
    markdown: Path | None


def _options(flags: dict[str, object]) -> _Options:
    """Take this verb's own flags out of all of them."""
    own = {field.name: flags.pop(field.name) for field in fields(_Options)}
    return _Options(**own)  # type: ignore[arg-type]  # click has checked their types


def _run(
    planned: tuple[Planned, ...],
    settings: Settings,
    console: Console,
    registries: Callable[[str | None], "Registry"],
    bounds: Mapping[str, int],
    options: _Options,
) -> tuple["Outcome", ...]:
    from lmi_compile.cli.matrix_view import view_of  # noqa: PLC0415 - a plan alone runs nothing
    from lmi_compile.matrix.run import How, run_matrix  # noqa: PLC0415 - as above

    tools = tools_of(settings, registries(None), console)
    how = How(
        workspace=tools.workspace,
        tools_of=lambda plan: replace(
            tools, registry=registries(plan.order.recipe.publish.registry)
        ),
        limits=bounds,
        until=options.until,
        allow_unverified=options.allow_unverified,
        fail_fast=options.fail_fast,
    )
    view = view_of(console, len(planned))
    try:
        return run_matrix(planned, how, view)
    finally:
        view.close()


def _registries(settings: Settings, *, smoke: bool) -> Callable[[str | None], "Registry"]:
    """Each registry opened once, however many recipes name it; smoke builds have one apart."""

    @cache
    def opened(recipes_own: str | None) -> "Registry":
        if smoke:
            from lmi_artifacts.registry import open_registry  # noqa: PLC0415 - as in options

            return open_registry(str(settings.out / "smoke"), allow_simulated=True)
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

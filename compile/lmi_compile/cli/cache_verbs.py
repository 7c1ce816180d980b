"""Verbs about finished steps: cache status, cache why."""

import click

from lmi_artifacts.digest import JSONValue
from lmi_compile.cache import explain, summarise
from lmi_compile.cli.options import read_settings, set_option, settings_options, voice_options
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode
from lmi_compile.plan import make_plan
from lmi_compile.survey import load, survey
from lmi_compile.workspace import Workspace


@click.group()
def cache() -> None:
    """Look at the finished steps."""


@cache.command()
@settings_options
@voice_options
def status(*, as_json: bool, quiet: bool, verbose: bool, **flags: object) -> int:
    """What the cache holds: steps, bytes, by name."""
    console = Console(quiet=quiet, verbose=verbose)
    settings = read_settings(**flags)
    summary = summarise(Workspace(settings.cache_dir))
    if as_json:
        steps: dict[str, JSONValue] = {
            name: {"count": count, "bytes": size} for name, (count, size) in summary.items()
        }
        console.json({"cache": str(settings.cache_dir), "steps": steps})
        return ExitCode.OK
    rows = [(name, str(count), f"{size:,}") for name, (count, size) in sorted(summary.items())]
    console.table(str(settings.cache_dir), ("step", "finished", "bytes"), rows)
    return ExitCode.OK


@cache.command()
@click.argument("recipe")
@click.argument("step", required=False)
@set_option
@settings_options
@voice_options
def why(
    recipe: str,
    step: str | None,
    *,
    overrides: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **flags: object,
) -> int:
    """Why a step of RECIPE would run: the fields that differ from the nearest finished one."""
    console = Console(quiet=quiet, verbose=verbose)
    settings = read_settings(**flags)
    plan = make_plan(survey(load(recipe, overrides), settings.cache_dir))
    reasons = explain(plan, Workspace(settings.cache_dir), step)
    if as_json:
        console.json([reason.to_json() for reason in reasons])
        return ExitCode.OK
    for reason in reasons:
        console.data(str(reason))
    return ExitCode.OK

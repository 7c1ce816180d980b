"""Verbs about finished steps: cache status, cache why, cache prune."""

import click

from lmi_artifacts.digest import JSONValue
from lmi_compile.cache import explain, summarise
from lmi_compile.cli.completion import recipe_names
from lmi_compile.cli.options import AGE, SIZE, set_option, settings_options, voice_options
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode
from lmi_compile.plan import make_plan
from lmi_compile.settings import Settings
from lmi_compile.survey import load, survey
from lmi_compile.workspace import Workspace, disk_faults


@click.group()
def cache() -> None:
    """Look at the finished steps."""


@cache.command()
@settings_options
@voice_options
def status(*, settings: Settings, console: Console) -> int:
    """What the cache holds: steps, bytes, by name."""
    summary = summarise(Workspace(settings.cache_dir))
    if console.as_json:
        steps: dict[str, JSONValue] = {
            name: {"count": count, "bytes": size} for name, (count, size) in summary.items()
        }
        console.json({"cache": str(settings.cache_dir), "steps": steps})
        return ExitCode.OK
    rows = [(name, str(count), f"{size:,}") for name, (count, size) in sorted(summary.items())]
    console.table(str(settings.cache_dir), ("step", "finished", "bytes"), rows)
    return ExitCode.OK


@cache.command()
@click.argument("recipe", shell_complete=recipe_names)
@click.argument("step", required=False)
@set_option
@settings_options
@voice_options
def why(
    recipe: str,
    step: str | None,
    *,
    overrides: tuple[str, ...],
    settings: Settings,
    console: Console,
) -> int:
    """Why a step of RECIPE would run: the fields that differ from the nearest finished one."""
    plan = make_plan(survey(load(recipe, overrides), settings.cache_dir))
    reasons = explain(plan, Workspace(settings.cache_dir), step)
    if console.as_json:
        console.json([reason.to_json() for reason in reasons])
        return ExitCode.OK
    for reason in reasons:
        console.data(str(reason))
    return ExitCode.OK


@cache.command("prune")
@click.option("--older-than", type=AGE, help="What was not used for so long: 12h, 30d.")
@click.option("--max-size", type=SIZE, help="Then the oldest, until so much is left: 50G.")
@click.option("--delete", is_flag=True, help="Really remove; without it nothing is changed.")
@settings_options
@voice_options
def prune_steps(
    *,
    older_than: float | None,
    max_size: float | None,
    delete: bool,
    settings: Settings,
    console: Console,
) -> int:
    """Remove finished steps by age and size, least used first, and what dead processes left."""
    from lmi_compile.prune import Rules, prune  # noqa: PLC0415 - looking needs none of it

    workspace = Workspace(settings.cache_dir)
    rules = Rules(seconds=older_than, size=None if max_size is None else int(max_size))
    with disk_faults(workspace.root):
        done = prune(workspace, rules, delete=delete)
    verb = "freed" if delete else "would be freed; say --delete"
    if console.as_json:
        console.json(
            {
                "steps": list(done.steps),
                "rubbish": list(done.rubbish),
                "freed": done.freed,
                "kept": done.kept,
                "deleted": delete,
                "busy": done.busy,
            }
        )
        return ExitCode.OK
    for name in (*done.steps, *done.rubbish):
        console.data(name)
    console.line(f"{len(done.steps)} steps, {done.freed:,} bytes {verb}; {done.kept:,} bytes stay")
    if done.busy:
        console.line("note: a run is at work here: what was used within a day stays")
    return ExitCode.OK

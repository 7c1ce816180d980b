"""What `matrix` says before and after: the plan, what changed, what came of it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmi_artifacts.digest import JSONValue
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault
from lmi_compile.matrix.history import Run, changed_fields, last_green
from lmi_compile.matrix.planning import Planned, places, shared, target_name

if TYPE_CHECKING:
    from lmi_artifacts.registry import Registry
    from lmi_compile.matrix.outcome import Outcome

Changes = Mapping[str, tuple[str, ...]]


def changes_since_green(
    planned: Iterable[Planned], runs: Sequence[Run], registry: "Registry"
) -> Changes:
    """What changed in each build's keys since it was last green; nothing for the same keys."""
    found: dict[str, tuple[str, ...]] = {}
    for one in planned:
        green = last_green(runs, one.name)
        if one.plan is None:
            continue
        if green is None:
            found[one.name] = ("it was never green",)
        elif green[1].get("plan_key") != one.plan.plan_key:
            fields = changed_fields(registry, str(green[1].get("plan_key")), one.plan)
            since = f"last green {green[0]['started']}"
            lines = ("its plan is not remembered",) if fields is None else fields
            found[one.name] = (since, *lines)
    return found


def changed(changes: Changes, name: str) -> dict[str, JSONValue]:
    """What changed in one build, as `--dry-run --json` prints it."""
    return {"changed_since_green": list(changes[name])} if name in changes else {}


def show_changes(console: Console, changes: Changes) -> None:
    """What changed, for people."""
    for name, lines in changes.items():
        console.line(f"{name}: changed since it was green")
        for line in lines:
            console.line(f"  {line}")


def write_reports(run: Run, changes: Changes, junit: Path | None, markdown: Path | None) -> None:
    """The files that other tools read.

    Raises:
        EnvironmentFault: one cannot be written.
    """
    from lmi_compile.report.run_junit import run_junit  # noqa: PLC0415 - written at the end
    from lmi_compile.report.run_markdown import run_markdown  # noqa: PLC0415 - as above

    for path, text in (
        (junit, run_junit(run) if junit else ""),
        (markdown, run_markdown(run, changes) if markdown else ""),
    ):
        if path is None:
            continue
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise EnvironmentFault(f"{path} cannot be written", str(error)) from error


def hold_reports(*reports: Path | None) -> None:
    """Before anything runs: each report has a folder to be written into.

    Raises:
        EnvironmentFault: it has none.
    """
    for path in reports:
        if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
            why = f"{path.parent} is no folder that can be written"
            raise EnvironmentFault(f"{path} cannot be written", why, "name a folder that is there")


def show_plan(console: Console, planned: Iterable[Planned]) -> None:
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


def report(console: Console, run: Run, outcomes: tuple["Outcome", ...]) -> int:
    """What came of it: every error, the counts, and on stdout the artifacts; the exit code."""
    from lmi_compile.matrix.outcome import counted, exit_code  # noqa: PLC0415 - a plan alone needs none

    for outcome in outcomes:
        if outcome.error is not None:
            console.line("")
            console.line(f"{outcome.name}:")
            console.error(outcome.error)
    code = exit_code(outcomes)
    console.line(counted(outcomes))
    if console.as_json:
        console.json({**run, "exit_code": int(code)})
    else:
        for outcome in outcomes:
            if outcome.build and outcome.build.artifact:
                console.data(str(outcome.build.artifact))
    return code

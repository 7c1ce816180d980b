"""Which records of old matrix runs may go: a rule for `gc`, that removes nothing by itself."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.registry import Registry
from lmi_compile.keys import step_key
from lmi_compile.matrix.history import (
    Run,
    log_start,
    plan_name,
    read_runs,
    remembered,
    run_name,
)
from lmi_compile.matrix.outcome import GREEN


def outlived(registry: Registry, keep: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the records that only runs before the newest `keep` need, and those runs' own.

    Remove the first before the second: a removal that was cut short is then found again.

    A run stays, too, where it is the last green one of a build that a kept run names: the history
    of what is broken reaches back to it. With a run go the logs of its failures, and the plans
    that no run that stays refers to. Records that cannot be read, and those of other kinds, stay.

    Raises:
        RegistryUnavailable, RegistryTransient: the registry cannot be read.
    """
    runs = read_runs(registry, most=None)
    newest, older = runs[:keep], runs[keep:]
    last_green = _last_green(newest, older)
    going = [run for run in older if run["id"] not in last_green]
    staying = [*newest, *(run for run in older if run["id"] in last_green)]
    logs = [name for run in going for name in registry.records(log_start(run))]
    plans = sorted(_plans(going) - _plans(staying))
    return (*logs, *plans), tuple(map(run_name, going))


def live_steps(registry: Registry, gone: Collection[JSONValue]) -> frozenset[str]:
    """The keys of the steps that artifacts were made by, and of the plans that runs name.

    Args:
        registry: which holds them; an artifact that it refuses to read counts as none.
        gone: artifacts and records (`records/NAME`) that a dry run has left there.

    Raises:
        RegistryUnavailable, RegistryTransient: the registry cannot be read.
    """
    live: set[str] = set()
    for ref in (line.ref for line in registry.list()):
        if str(ref) not in gone:
            with suppress(ArtifactRefused):
                live.update(registry.manifest(ref).steps.values())
    for name in registry.records("plans/"):
        if f"records/{name}" not in gone:
            plan = remembered(registry, name.removeprefix("plans/").removesuffix(".json.gz"))
            steps = (plan or {}).values()
            live.update(step_key(one) for one in steps if isinstance(one, Mapping))
    return frozenset(live)


def _last_green(newest: Sequence[Run], older: Sequence[Run]) -> frozenset[object]:
    """The ids of older runs in which builds were green that never were since."""
    names = {name for run in newest for name, _, _ in _builds(run)}
    waiting = names - {name for run in newest for name, state, _ in _builds(run) if state in GREEN}
    found: set[object] = set()
    for run in older:
        green = {name for name, state, _ in _builds(run) if state in GREEN and name in waiting}
        if green:
            found.add(run["id"])
            waiting -= green
    return frozenset(found)


def _plans(runs: Sequence[Run]) -> set[str]:
    return {plan_name(key) for run in runs for _, _, key in _builds(run) if key is not None}


def _builds(run: Run) -> Iterator[tuple[str, str, str | None]]:
    """Name, state and plan key of each build."""
    builds = run.get("builds")
    for build in builds if isinstance(builds, list) else ():
        match build:
            case {"name": str(name), "state": str(state), "plan_key": str() | None as key}:
                yield name, state, key
            case _:  # of a version that keeps more, or less
                pass

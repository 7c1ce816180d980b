"""The history of matrix runs, in the registry: what came of each, and what decided the bytes.

    runs/<time>-<id>.json      one run: every build with its state, verdict figures, times, size
    plans/<plan key>.json.gz   everything that entered the keys of one plan
    logs/<run>/<name>.txt      the end of the log of a build that failed

Records never change. A run is written when it ends, by Ctrl-C too; what a killed run had built is
in the registry all the same, and the next run finds it.
"""

import gzip
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lmi_artifacts.digest import JSONValue, canonical_json
from lmi_artifacts.errors import ArtifactsError
from lmi_artifacts.foreign import parse_json
from lmi_artifacts.registry import Registry
from lmi_compile.cache import differences, flatten
from lmi_compile.matrix.outcome import GREEN, Outcome
from lmi_compile.plan import Plan

FORMAT = "lmi-compile/run/v1"
LOG_BYTES = 64 << 10
_MOST_RUNS = 60

Run = Mapping[str, JSONValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """A run as it begins.

    Attributes:
        id: sorts by time.
        started: UTC, `2026-01-31T12:00:00Z`.
        clock: seconds, for its length.
    """

    id: str
    started: str
    clock: float


def begin() -> Began:
    """Name a run that begins now."""
    now = time.gmtime()
    return Began(
        id=f"{time.strftime('%Y%m%dt%H%M%Sz', now)}-{os.urandom(3).hex()}",
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
        clock=time.monotonic(),
    )


def run_of(began: Began, outcomes: Iterable[Outcome], *, executor: str, version: str) -> Run:
    """A run as JSON, as reports and the registry hold it.

    Args:
        began: As `begin` named it; `seconds` are counted from then.
        outcomes: Of its builds.
        executor: That ran them.
        version: Of this program.
    """
    builds: list[JSONValue] = [outcome.to_json() for outcome in outcomes]
    return {
        "format": FORMAT,
        "id": began.id,
        "started": began.started,
        "seconds": round(time.monotonic() - began.clock, 1),
        "executor": executor,
        "version": version,
        "builds": builds,
    }


def keep(registry: Registry, run: Run, outcomes: Iterable[Outcome]) -> None:
    """Write a run, with the plans that are new and the logs of what failed.

    Raises:
        ArtifactsError: the registry cannot be written.
    """
    for outcome in outcomes:
        plan = outcome.planned.plan
        if plan is not None and outcome.came not in {"cached", "quarantined"}:
            registry.add_record(plan_name(plan.plan_key), _plan_bytes(plan))
        log = _log_of(outcome)
        if log:
            registry.add_record(f"{log_start(run)}{outcome.name}.txt", log)
    registry.add_record(run_name(run), canonical_json(dict(run)))


def read_runs(registry: Registry, most: int | None = _MOST_RUNS) -> tuple[Run, ...]:
    """The last runs (None: all), newest first; a record that cannot be read is passed over.

    Raises:
        RegistryUnavailable, RegistryTransient: the registry cannot be read.
    """
    names = reversed(registry.records("runs/"))
    return tuple(islice(_readable(registry, names), most))


def read_log(registry: Registry, run: str, name: str) -> bytes | None:
    """The end of a failed build's log."""
    return registry.read_record(f"logs/{run}/{name}.txt")


def entries(runs: Sequence[Run], name: str) -> Iterator[tuple[Run, Mapping[str, JSONValue]]]:
    """What came of the build called `name`, newest first, with its run."""
    for run in runs:
        builds = run["builds"]
        for build in builds if isinstance(builds, list) else ():
            if isinstance(build, Mapping) and build.get("name") == name:
                yield run, build


def last_green(runs: Sequence[Run], name: str) -> tuple[Run, Mapping[str, JSONValue]] | None:
    """The newest run in which the build was green."""
    found = (pair for pair in entries(runs, name) if pair[1].get("state") in GREEN)
    return next(found, None)


def changed_fields(
    registry: Registry, before: str, now: "Plan | str", most: int = 20
) -> tuple[str, ...] | None:
    """What differs between two plans: `step: field: theirs -> ours`.

    A step that differs only because a step before it does is left out.

    Args:
        registry: which remembers the plans.
        before: a plan key.
        now: a plan, or the key of a remembered one.
        most: lines.

    Returns:
        None where a plan is not remembered.
    """
    old = remembered(registry, before)
    new = _ingredients(now) if isinstance(now, Plan) else remembered(registry, now)
    if old is None or new is None:
        return None
    found = [f"step {name} is gone" for name in old if name not in new]
    for step, ours in new.items():
        if step not in old:
            found.append(f"step {step} is new")
            continue
        left, right = (dict(flatten(_without_needs(one))) for one in (old[step], ours))
        found += [f"{step}: {line}" for line in differences(left, right)]
    more = len(found) - most
    return (*found[:most], f"and {more} more") if more > 0 else tuple(found)


def _readable(registry: Registry, names: Iterable[str]) -> Iterator[Run]:
    for name in names:
        try:
            run = parse_json(registry.read_record(name) or b"")
        except ValueError:
            continue
        if isinstance(run, dict) and run.get("format") == FORMAT:
            yield run


def run_name(run: Run) -> str:
    """The record of a run."""
    return f"runs/{run['id']}.json"


def log_start(run: Run) -> str:
    """What the records of a run's logs begin with."""
    return f"logs/{run['id']}/"


def plan_name(plan_key: str) -> str:
    """The record of a plan."""
    return f"plans/{plan_key}.json.gz"


def _ingredients(plan: Plan) -> dict[str, JSONValue]:
    return {one.step.name: dict(one.ingredients) for one in plan.steps}


def _plan_bytes(plan: Plan) -> bytes:
    return gzip.compress(canonical_json(_ingredients(plan)), mtime=0)


def remembered(registry: Registry, plan_key: str) -> dict[str, JSONValue] | None:
    """What entered the key of each step of a plan, or None where that is not known."""
    data = registry.read_record(plan_name(plan_key))
    try:
        found = parse_json(gzip.decompress(data)) if data else None
    except (OSError, EOFError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _without_needs(ingredients: JSONValue) -> JSONValue:
    if not isinstance(ingredients, Mapping):
        return ingredients
    return {name: value for name, value in ingredients.items() if name != "needs"}


def _log_of(outcome: Outcome) -> bytes:
    """The end of its log, or what there is to say where it has none."""
    if outcome.came != "failed" or outcome.error is None:
        return b""
    path = Path(outcome.log) if outcome.log else None
    try:
        if path is not None:
            with path.open("rb") as log:
                log.seek(max(0, path.stat().st_size - LOG_BYTES))
                return log.read()
    except OSError:
        pass
    return str(outcome.error).encode()


def try_keep(registry: Registry, run: Run, outcomes: Iterable[Outcome]) -> str:
    """As `keep`; gives the reason where the registry would not take it, else nothing."""
    try:
        keep(registry, run, outcomes)
    except ArtifactsError as error:
        return str(error)
    return ""

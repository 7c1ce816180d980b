"""A recipe that keeps failing in the same way is not built again until something of it changes.

It stays in every table and report, with since when and why; a change of its plan key, or
`--retry-quarantined`, lets it out. Only failures of the build itself count: not those of the
machine, the network or somebody's Ctrl-C.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ExitCode
from lmi_compile.matrix.history import Run, entries
from lmi_compile.matrix.planning import Planned

AFTER = 3
_ITS_OWN = frozenset(
    {
        ExitCode.COMPILE_FAILED,
        ExitCode.VERIFICATION_FAILED,
        ExitCode.PROOF_FAILED,
        ExitCode.PUBLISH_FAILED,
    }
)
_SAY_NOTHING = frozenset({"quarantined", "cancelled", "interrupted"})


def quarantine(
    planned: Iterable[Planned], runs: Sequence[Run], after: int = AFTER
) -> tuple[Planned, ...]:
    """Mark what failed in its last `after` runs with the plan that it still has.

    Args:
        planned: the builds.
        runs: the history, newest first.
        after: failures in a row.
    """
    return tuple(_judged(one, runs, after) for one in planned)


def _judged(one: Planned, runs: Sequence[Run], after: int) -> Planned:
    if one.state != "to do" or one.plan is None:
        return one
    failures: list[tuple[Run, Mapping[str, JSONValue]]] = []
    for run, build in entries(runs, one.name):
        if build.get("state") in _SAY_NOTHING:
            continue
        if build.get("plan_key") != one.plan.plan_key or not _failed_itself(build):
            break
        failures.append((run, build))
    if len(failures) < after:
        return one
    error = failures[0][1].get("error")
    what = error.get("what") if isinstance(error, Mapping) else ""
    since = failures[-1][0]["started"]
    reason = f"failed {len(failures)} times in a row since {since}: {what}"
    return replace(one, state="quarantined", reason=reason)


def _failed_itself(build: Mapping[str, JSONValue]) -> bool:
    error = build.get("error")
    code = error.get("exit_code") if isinstance(error, Mapping) else None
    return build.get("state") == "failed" and code in _ITS_OWN

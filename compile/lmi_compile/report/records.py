"""Reading what the history holds of a run, whoever wrote it: absent and odd values read as none."""

from collections import Counter
from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue

Record = Mapping[str, JSONValue]


def builds_of(run: Record) -> tuple[Record, ...]:
    """The builds of a run."""
    builds = run.get("builds")
    return tuple(
        build for build in builds if isinstance(build, Mapping)
    ) if isinstance(builds, list) else ()  # fmt: skip


def text_of(record: Record, field: str) -> str:
    """A field as text; empty where it is absent or null."""
    value = record.get(field)
    return "" if value is None else str(value)


def error_of(build: Record) -> dict[str, str]:
    """What a build failed with: kind, what, why, fix, step."""
    error = build.get("error")
    if not isinstance(error, Mapping):
        return {}
    return {name: str(value) for name, value in error.items() if value is not None}


def seconds_of(build: Record) -> float:
    """Wall seconds of all its steps that ran in that run."""
    seconds = build.get("seconds")
    values = seconds.values() if isinstance(seconds, Mapping) else ()
    return sum(value for value in values if isinstance(value, int | float))


def size_of(build: Record) -> int:
    """Bytes of the artifact; 0 where that run did not make one."""
    size = build.get("size")
    return size if isinstance(size, int) else 0


def figures_of(build: Record) -> dict[str, tuple[float | None, float | None]]:
    """Measured value and limit of each metric of the verdict."""
    figures = build.get("figures")
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, pair in figures.items() if isinstance(figures, Mapping) else ():
        if isinstance(pair, list) and len(pair) == 2:  # noqa: PLR2004 - measured and limit
            found[name] = (_number(pair[0]), _number(pair[1]))
    return found


def counts_of(run: Record) -> dict[str, int]:
    """How many builds of each state."""
    return dict(Counter(text_of(build, "state") for build in builds_of(run)))


def _number(value: JSONValue) -> float | None:
    return float(value) if isinstance(value, int | float) else None

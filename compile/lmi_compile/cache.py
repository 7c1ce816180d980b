"""What the cache holds, and why a step is not in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import Unsupported
from lmi_compile.plan import Plan, PlannedStep
from lmi_compile.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a step is, or is not, in the cache.

    Attributes:
        step: its name.
        finished: it is in the cache.
        differs: `field: theirs -> ours` against the nearest finished step of the same name.
        nearest: that step's key; None when there is none of this name.
    """

    step: str
    finished: bool
    differs: tuple[str, ...] = ()
    nearest: str | None = None

    def __str__(self) -> str:
        if self.finished:
            return f"{self.step}: finished"
        if self.nearest is None:
            return f"{self.step}: never built before"
        lines = [f"{self.step}: differs from {self.nearest[:12]} in"]
        return "\n".join([*lines, *(f"  {line}" for line in self.differs)])

    def to_json(self) -> dict[str, JSONValue]:
        """As `--json` prints it."""
        return {
            "step": self.step,
            "finished": self.finished,
            "nearest": self.nearest,
            "differs": list(self.differs),
        }


def summarise(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Finished steps by name: how many, and how many bytes."""
    summary: dict[str, tuple[int, int]] = {}
    for key in workspace.finished():
        out = workspace.find(key)
        if out is None:
            continue
        name = str(workspace.record(key)["name"])
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        count, total = summary.get(name, (0, 0))
        summary[name] = (count + 1, total + size)
    return summary


def explain(plan: Plan, workspace: Workspace, step: str | None = None) -> tuple[Reason, ...]:
    """Why each step of `plan`, or the one called `step`, would run or not.

    Raises:
        Unsupported: the plan has no step of that name.
    """
    wanted = [planned for planned in plan.steps if step in (None, planned.step.name)]
    if not wanted:
        names = ", ".join(plan.keys)
        raise Unsupported(f"this plan has no step called {step}", fix=f"its steps are {names}")
    records = [(key, workspace.record(key)) for key in workspace.finished() if workspace.find(key)]
    return tuple(_explain_one(planned, workspace, records) for planned in wanted)


def _explain_one(
    planned: PlannedStep, workspace: Workspace, records: list[tuple[str, dict[str, JSONValue]]]
) -> Reason:
    name = planned.step.name
    if workspace.find(planned.key):
        return Reason(step=name, finished=True)
    ours = dict(flatten(dict(planned.ingredients)))
    best: tuple[str, tuple[str, ...]] | None = None
    for key, record in records:
        if record["name"] != name:
            continue
        differs = differences(dict(flatten(record["key"])), ours)
        if best is None or len(differs) < len(best[1]):
            best = key, differs
    if best is None:
        return Reason(step=name, finished=False)
    return Reason(step=name, finished=False, nearest=best[0], differs=best[1])


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """`field: theirs -> ours` for each field of what `flatten` gives that differs."""
    return tuple(
        f"{field}: {theirs.get(field, '(absent)')} -> {ours.get(field, '(absent)')}"
        for field in sorted(theirs.keys() | ours.keys())
        if theirs.get(field) != ours.get(field)
    )


def flatten(value: JSONValue, path: str = "") -> Iterator[tuple[str, str]]:
    """Each leaf of a JSON value with its dotted path."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from flatten(item, f"{path}.{name}" if path else name)
    else:
        yield path, str(value)

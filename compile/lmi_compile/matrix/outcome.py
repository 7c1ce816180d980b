"""What came of one build of a matrix: the noun that tables, reports and the history share."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmi_artifacts.digest import JSONValue
from lmi_compile.errors import ExitCode, exit_code_of, to_json
from lmi_compile.matrix.planning import Planned, target_name
from lmi_compile.pipeline import Build
from lmi_recipes.reading import LoadedRecipe

Came = Literal[
    "built", "cached", "failed", "infeasible", "invalid", "quarantined", "cancelled", "interrupted"
]
GREEN = frozenset({"built", "cached"})
RED = frozenset({"failed", "infeasible", "invalid"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One build of a run.

    Attributes:
        planned: what was to be done.
        came: what came of it.
        build: the build, for what is green.
        error: what it failed with.
        step: the step that failed.
        seconds: wall seconds of each of its steps that ran in this run, shared ones included.
        size: bytes of the artifact's files; 0 where there is none.
    """

    planned: Planned
    came: Came
    build: Build | None = None
    error: Exception | None = None
    step: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    size: int = 0

    @property
    def name(self) -> str:
        """Of the artifact."""
        return self.planned.name

    @property
    def log(self) -> str | None:
        """Where the failed step's log is on this machine."""
        return getattr(self.error, "log", None)

    def to_json(self) -> dict[str, JSONValue]:
        """As reports and the history hold it; no path of this machine but a log's name."""
        plan, build = self.planned.plan, self.build
        failure: dict[str, JSONValue] | None = None
        if self.error is not None:
            code = int(exit_code_of(self.error))
            failure = {**to_json(self.error), "step": self.step or None, "exit_code": code}
        return {
            "name": self.name,
            **_asked(self.planned),
            "state": self.came,
            "reason": self.planned.reason or None,
            "plan_key": plan.plan_key if plan else None,
            "artifact": str(build.artifact) if build and build.artifact else None,
            "decision": build.decision if build else None,
            "proof": build.proof if build else None,
            "figures": _figures(build.verdict) if build else {},
            "seconds": dict(self.seconds),
            "size": self.size,
            "error": failure,
        }


def exit_code(outcomes: tuple[Outcome, ...]) -> ExitCode:
    """What the whole ends with: 130 when stopped, 9 when part of it failed."""
    came = {outcome.came for outcome in outcomes}
    if "interrupted" in came:
        return ExitCode.INTERRUPTED
    return ExitCode.MATRIX_PART_FAILED if came & {*RED, "cancelled"} else ExitCode.OK


def counted(outcomes: tuple[Outcome, ...]) -> str:
    """How many of each, in a line."""
    counts = Counter(outcome.came for outcome in outcomes)
    return f"{len(outcomes)} builds: " + ", ".join(f"{n} {came}" for came, n in counts.items())


def _asked(planned: Planned) -> dict[str, JSONValue]:
    loaded = planned.member.loaded
    if not isinstance(loaded, LoadedRecipe):
        unknown = ("model", "backend", "toolchain", "dtype", "quantization")
        return {**dict.fromkeys(unknown), "target": "-"}
    recipe = loaded.recipe
    return {
        "model": recipe.model.id,
        "backend": recipe.backend,
        "toolchain": recipe.toolchain,
        "dtype": recipe.dtype,
        "quantization": recipe.quantization.method,
        "target": target_name(planned.member),
    }


def _figures(verdict: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    """The verdict's measured values with their limits, by metric; of several, the first."""
    checks = verdict.get("checks")
    figures: dict[str, JSONValue] = {}
    for check in checks if isinstance(checks, list) else ():
        if isinstance(check, Mapping):
            metric = str(check.get("metric"))
            figures.setdefault(metric, [check.get("measured"), check.get("limit")])
    return figures

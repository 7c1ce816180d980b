"""The plan of a matrix: of each build what is there, what will run, or why it cannot be."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.registry import Registry
from lmi_compile.backend import Order
from lmi_compile.errors import CompileError, ExitCode, Unsupported, exit_code_of
from lmi_compile.feasibility.answer import judge
from lmi_compile.feasibility.memory import memory_of
from lmi_compile.feasibility.reading import read_question
from lmi_compile.matrix.members import Member
from lmi_compile.matrix.select import target_of
from lmi_compile.pipeline import Build, already_published
from lmi_compile.plan import Plan, PlannedStep, make_plan
from lmi_compile.smoke import smoke_order
from lmi_compile.survey import survey
from lmi_compile.workspace import Workspace
from lmi_recipes.errors import RecipesError
from lmi_recipes.reading import LoadedRecipe

State = Literal["cached", "to do", "infeasible", "invalid", "quarantined"]
LAST = "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One build of a matrix before anything is run.

    Attributes:
        member: the recipe.
        state: what is to be done.
        plan: its steps; None for what is invalid or infeasible before it has any.
        todo: the steps up to the verdict that are not finished.
        published: what a registry has of it already, for `cached`.
        error: why it is infeasible or invalid.
        reason: the same in a line, or since when it is quarantined.
    """

    member: Member
    state: State
    plan: Plan | None = None
    todo: tuple[PlannedStep, ...] = ()
    published: Build | None = None
    error: Exception | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """Of the artifact."""
        return self.member.name

    @property
    def exit_code(self) -> int:
        """What building it alone would end with, for what cannot be built; else 0."""
        return int(exit_code_of(self.error)) if self.error else int(ExitCode.OK)

    def to_json(self) -> dict[str, JSONValue]:
        """As `matrix --dry-run --json` prints it."""
        todo: list[JSONValue] = [
            {"name": one.step.name, "key": one.key, "where": one.step.where} for one in self.todo
        ]
        return {
            "name": self.name,
            "file": self.member.path.name,
            "state": self.state,
            "reason": self.reason or None,
            "target": target_name(self.member),
            "plan_key": self.plan.plan_key if self.plan else None,
            "todo": todo,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a matrix is planned.

    Attributes:
        workspace: where finished steps are.
        registry_of: the registry of a recipe, by the URL that it names, if any.
        toolchains: more folders of toolchain files.
        until: the step to end with; empty for the whole way.
        allow_unverified: an artifact that nothing could judge counts as built.
        smoke: plan each recipe's architecture with two random layers instead.
    """

    workspace: Workspace
    registry_of: Callable[[str | None], Registry]
    toolchains: tuple[Path, ...] = ()
    until: str = ""
    allow_unverified: bool = False
    smoke: bool = False


def plan_matrix(members: Iterable[Member], asked: Asked) -> tuple[Planned, ...]:
    """Plan every member; nothing is run.

    Raises:
        RegistryUnavailable, RegistryTransient: a registry cannot be asked what it has.
    """
    return tuple(_plan_one(member, asked) for member in members)


def target_name(member: Member) -> str:
    """What it is for; a dash where nobody knows."""
    return target_of(member.loaded.recipe) if isinstance(member.loaded, LoadedRecipe) else "-"


def shared(planned: Iterable[Planned]) -> tuple[int, int]:
    """How many steps the builds have to do, and how many different ones those are."""
    counts = Counter(step.key for one in planned for step in one.todo if one.state == "to do")
    return counts.total(), len(counts)


def _plan_one(member: Member, asked: Asked) -> Planned:
    loaded = member.loaded
    if not isinstance(loaded, LoadedRecipe):
        return Planned(member=member, state="invalid", error=loaded, reason=_line(loaded))
    try:
        plan = make_plan(_order(loaded, asked))
        published = None if asked.until else _published(plan, asked)
        if published:
            return Planned(member=member, state="cached", plan=plan, published=published)
        if not asked.smoke:
            _refuse_what_cannot_fit(loaded, asked)
        steps = plan.through(asked.until or LAST)
    except (CompileError, RecipesError) as error:
        return Planned(member=member, state="infeasible", error=error, reason=_line(error))
    todo = tuple(one for one in steps if asked.workspace.find(one.key) is None)
    if asked.until and not todo:
        return Planned(member=member, state="cached", plan=plan)
    return Planned(member=member, state="to do", plan=plan, todo=todo)


def _order(loaded: LoadedRecipe, asked: Asked) -> Order:
    root = asked.workspace.root
    return smoke_order(loaded, root) if asked.smoke else survey(loaded, root, asked.toolchains)


def _published(plan: Plan, asked: Asked) -> Build | None:
    registry = asked.registry_of(plan.order.recipe.publish.registry)
    found = already_published(plan, registry, rehash=False)
    accepted = {"ACCEPT", "UNVERIFIED"} if asked.allow_unverified else {"ACCEPT"}
    return found if found and found.decision in accepted else None


def _refuse_what_cannot_fit(loaded: LoadedRecipe, asked: Asked) -> None:
    """Hold the recipe against the planner's arithmetic, where there is a config to compute with.

    Raises:
        Unsupported: it does not fit.
    """
    question, _ = read_question(loaded, asked.toolchains, asked.workspace.root)
    if question is None:
        return
    verdict = judge(question, memory_of(question))
    if verdict.fits is False:
        reasons = "; ".join(f"{field}: {text}" for field, text in verdict.problems)
        fix = f"`lmi-compile plan {loaded.recipe.name}` says what would help"
        raise Unsupported(f"{loaded.recipe.name} cannot be", reasons, fix)


def _line(error: Exception) -> str:
    if isinstance(error, CompileError):
        return ": ".join(part for part in (error.what, error.why) if part).replace("\n", "; ")
    return str(error).replace("\n", "; ")


def places(planned: Iterable[Planned]) -> Mapping[str, int]:
    """How many different steps will run where: host, toolchain, device."""
    steps = {one.key: one.step.where for build in planned for one in build.todo}
    return Counter(steps.values())

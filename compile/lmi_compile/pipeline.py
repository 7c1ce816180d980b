"""The story: recipe, plan, steps, verdict, proof, artifact."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT
from lmi_compile.errors import CompileError, Interrupted, ProofFailed, VerificationFailed
from lmi_compile.events import Emit, StepFinished, StepLine, StepStarted, StepWaits
from lmi_compile.plan import Plan, PlannedStep
from lmi_compile.step import Call, Step
from lmi_compile.workspace import Staging, Workspace, disk_faults, stopwatch


class Execute(Protocol):
    """An executor: runs one step to its end, or raises a `CompileError`."""

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        """Run `step`; `inputs` holds the output directories of the steps it needs.

        Returns:
            where it ran, for the step's record.
        """


@runtime_checkable
class Preparing(Protocol):
    """An executor that knows better than the backend what must be there before the first step."""

    def prepare(self, plan: Plan) -> None:
        """Hold that `plan` can run.

        Raises:
            EnvironmentFault: the engine, the cluster or the account lacks something.
        """


@runtime_checkable
class Cancelling(Protocol):
    """An executor that can end what it runs in other threads."""

    def cancel(self) -> None:
        """End every step that runs, and start none any more: each raises a `CompileError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a build works with; all of it is passed in.

    Attributes:
        workspace: where finished steps are kept.
        execute: the executor.
        registry: where artifacts are published.
        emit: told what happens.
        golden: whether references are taken from and kept in the registry too.
    """

    workspace: Workspace
    execute: Execute
    registry: Registry
    emit: Emit
    golden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What came out.

    Attributes:
        artifact: the published artifact, or None when the run stopped before (`--until`).
        path: where the served tree is (a path or an S3 URL), or the last step's outputs.
        decision: the verdict's decision.
        proof: the no-JIT proof's decision.
        cached: nothing had to run.
        plan_key: the plan's key.
        seconds: wall seconds by step that ran.
        verdict: the whole verdict, as JSON.
        proof_report: the whole proof, as JSON.
        reason: why nothing was done, for SKIPPED.
    """

    artifact: ArtifactRef | None
    path: Path | str | None
    decision: str
    proof: str
    cached: bool
    plan_key: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    verdict: Mapping[str, JSONValue] = field(default_factory=dict)
    proof_report: Mapping[str, JSONValue] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, JSONValue]:
        """The build as `--json` prints it."""
        return {
            "artifact": str(self.artifact) if self.artifact else None,
            "path": str(self.path) if self.path else None,
            "decision": self.decision,
            "proof": self.proof,
            "cached": self.cached,
            "plan_key": self.plan_key,
            "seconds": dict(self.seconds),
            **({"reason": self.reason} if self.reason else {}),
        }


def build(
    plan: Plan, tools: Tools, *, rehash: bool = False, allow_unverified: bool = False
) -> Build:
    """Carry out `plan`: from the recipe to a published, verified, proven artifact.

    Args:
        plan: what to do.
        tools: what to do it with.
        rehash: re-hash every file of an artifact that is already published.
        allow_unverified: publish also where nothing could be judged; the verdict says so.

    Raises:
        CompileError: a step failed, the verdict is not ACCEPT, or the proof was refuted.
        ArtifactsError: the artifact could not be published, or the published one is damaged.
    """
    accepted = {"ACCEPT", "UNVERIFIED"} if allow_unverified else {"ACCEPT"}
    published = already_published(plan, tools.registry, rehash=rehash)
    if published and published.decision in accepted:
        return published
    prepare(plan, tools)
    return finish(plan, tools, allow_unverified=allow_unverified)


def prepare(plan: Plan, tools: Tools) -> None:
    """Before any step: where it runs has what it needs; what it lacked may be there now.

    Raises:
        EnvironmentFault: something is missing.
    """
    _hold(plan, tools.execute)
    _forget_tentative(plan, tools.workspace)


def finish(plan: Plan, tools: Tools, *, allow_unverified: bool = False) -> Build:
    """Run what is not finished yet, hold the verdict and the proof, and publish.

    Raises:
        CompileError, ArtifactsError: as `build`.
    """
    accepted = {"ACCEPT", "UNVERIFIED"} if allow_unverified else {"ACCEPT"}
    seconds: dict[str, float] = {}
    outputs = run_steps(plan, "judge", tools, seconds)
    verdict = _read(outputs["judge"] / "verdict.json")
    if verdict["decision"] not in accepted:
        what = f"{plan.order.recipe.name}: the verdict is {verdict['decision']}"
        fix = f"nothing was published; every measured value is in {outputs['judge']}/verdict.json"
        if verdict["decision"] == "UNVERIFIED":
            fix += "; --allow-unverified publishes it all the same, and says so"
        raise NotAccepted(what, fix, verdict)
    outputs |= run_steps(plan, "proof", tools, seconds)
    proof = _read(outputs["proof"] / "proof.json")
    if proof["decision"] == "SKIPPED":
        tools.workspace.discard(plan.keys["proof"])  # another day it may be possible
    elif proof["decision"] != "PROVEN":
        raise NotProven(f"{plan.order.recipe.name}: serving it is not free of compiling", proof)
    from lmi_compile.publishing import publish  # noqa: PLC0415 - a cache hit publishes nothing

    statements = {VERDICT: verdict, NO_JIT_PROOF: proof}
    artifact = publish(plan, outputs["package"], statements, tools)
    return Build(
        artifact=artifact,
        path=tools.registry.location(artifact),
        decision=str(verdict["decision"]),
        proof=str(proof["decision"]),
        cached=False,
        plan_key=plan.plan_key,
        seconds=seconds,
        verdict=verdict,
        proof_report=proof,
    )


def _hold(plan: Plan, execute: Execute) -> None:
    if isinstance(execute, Preparing):
        execute.prepare(plan)
    else:
        plan.backend.preflight(plan.order)


def _forget_tentative(plan: Plan, workspace: Workspace) -> None:
    """Let what another machine could not do wholly be tried here, with all that rests on it."""
    forgotten: set[str] = set()
    for planned in plan.steps:
        step, found = planned.step, workspace.find(planned.key)
        tentative = found and step.tentative and (found / step.tentative).exists()
        if found and (tentative or forgotten.intersection(step.needs)):
            workspace.discard(planned.key)
            forgotten.add(step.name)


def already_published(plan: Plan, registry: Registry, *, rehash: bool) -> Build | None:
    """The artifact that `plan` would make, if the registry has it whole.

    The manifest's digest and every file's presence and size are checked; with `rehash` every
    byte.
    """
    action = registry.find_action(plan.action_key)
    if action is None:
        return None
    artifact = action.ref
    registry.check(artifact, rehash=rehash)
    found = {
        statement.predicate_type: statement.predicate for statement in registry.statements(artifact)
    }
    verdict, proof = found.get(VERDICT, {}), found.get(NO_JIT_PROOF, {})
    if not verdict or proof.get("decision") != "PROVEN":
        return None  # published with less than is asked for now
    return Build(
        artifact=artifact,
        path=registry.location(artifact),
        decision=str(verdict["decision"]),
        proof=str(proof["decision"]),
        cached=True,
        plan_key=plan.plan_key,
        verdict=verdict,
        proof_report=proof,
    )


def run_until(plan: Plan, name: str, tools: Tools) -> Build:
    """Carry out `plan` as far as the step called `name`; nothing is published.

    Where the plan has a step `<name>-judge`, it is run too and its verdict is the build's. A step
    that this recipe cannot have, for a reason its backend knows, is SKIPPED.

    Raises:
        CompileError: a step failed, or the verdict is REGRESSION, ANOMALOUS or INFEASIBLE.
    """
    if name in plan.skipped and name not in plan.keys:
        return _ended(plan, None, "SKIPPED", {}, reason=plan.skipped[name])
    _hold(plan, tools.execute)
    seconds: dict[str, float] = {}
    judge = f"{name}-judge"
    if judge not in plan.keys:
        outputs = run_steps(plan, name, tools, seconds)
        return _ended(plan, outputs[name], "UNVERIFIED", seconds)
    outputs = run_steps(plan, judge, tools, seconds)
    verdict = _read(outputs[judge] / "verdict.json")
    decision = str(verdict["decision"])
    if decision not in {"ACCEPT", "UNVERIFIED"}:
        what = f"{plan.order.recipe.name}: the verdict on step {name} is {decision}"
        raise NotAccepted(what, "look at the table above", verdict)
    return _ended(plan, outputs[name], decision, seconds, verdict=verdict)


def _ended(
    plan: Plan,
    path: Path | None,
    decision: str,
    seconds: Mapping[str, float],
    *,
    verdict: Mapping[str, JSONValue] | None = None,
    reason: str | None = None,
) -> Build:
    return Build(
        artifact=None,
        path=path,
        decision=decision,
        proof="SKIPPED",
        cached=not seconds,
        plan_key=plan.plan_key,
        seconds=seconds,
        verdict=verdict or {},
        reason=reason,
    )


def run_steps(plan: Plan, last: str, tools: Tools, seconds: dict[str, float]) -> dict[str, Path]:
    """Run what is not finished yet; returns every step's output directory, by name.

    Args:
        plan: whose steps.
        last: the step to end with; what it does not need is left out.
        tools: workspace and executor.
        seconds: filled with the wall seconds of each step that ran.
    """
    with tools.workspace.at_work():
        return _run_steps(plan, last, tools, seconds)


def _run_steps(plan: Plan, last: str, tools: Tools, seconds: dict[str, float]) -> dict[str, Path]:
    outputs: dict[str, Path] = {}
    numbers = {name: number for number, name in enumerate(plan.keys, start=1)}
    for planned in plan.through(last):
        name = planned.step.name
        inputs = {need: outputs[need] for need in planned.step.needs}
        found = tools.workspace.find(planned.key)
        if found is None:
            tools.emit(StepStarted(name=name, number=numbers[name], count=len(numbers)))
            watch = stopwatch()
            found, ran = run_once(planned, inputs, tools)
            if ran:
                seconds[name] = watch()
            tools.emit(StepFinished(name=name, cached=not ran, seconds=watch()))
        else:
            tools.workspace.use(planned.key)
        outputs[name] = found
    return outputs


class NotAccepted(VerificationFailed):
    """The verdict is not ACCEPT; it travels with the error."""

    def __init__(self, what: str, fix: str, verdict: Mapping[str, JSONValue]) -> None:
        super().__init__(what, str(verdict.get("summary", "")), fix)
        self.verdict = verdict


class NotProven(ProofFailed):
    """The proof was refuted; its report travels with the error."""

    def __init__(self, what: str, report: Mapping[str, JSONValue]) -> None:
        reasons = report.get("reasons")
        why = "\n".join(map(str, reasons)) if isinstance(reasons, list) else ""
        super().__init__(what, why, "nothing was published")
        self.report = report


def run_once(planned: PlannedStep, inputs: Mapping[str, Path], tools: Tools) -> tuple[Path, bool]:
    """Run a step unless another process finishes it first; says whether it ran here.

    Raises:
        CompileError: the step failed, was interrupted, or the disk cannot be written.
    """
    step, key, workspace = planned.step, planned.key, tools.workspace
    with (
        disk_faults(workspace.root),
        workspace.lock(key, lambda: tools.emit(StepWaits(name=step.name))),
    ):
        found = workspace.find(key)
        if found is not None:
            return found, False
        staging = workspace.stage(key)
        watch = stopwatch()
        try:
            ran = _run(planned, inputs, staging, tools)
        except CompileError as error:
            error.log = str(workspace.fail(key, staging))
            raise
        except OSError:
            workspace.fail(key, staging)
            raise
        except KeyboardInterrupt:
            workspace.fail(key, staging)
            what = f"interrupted in step {step.name}"
            fix = "run the same command again: finished steps are kept"
            raise Interrupted(what, fix=fix) from None
        record: dict[str, JSONValue] = {
            "name": step.name,
            "seconds": watch(),
            "ran": dict(ran),
            "key": dict(planned.ingredients),
        }
        return workspace.commit(key, staging, record), True


def _run(
    planned: PlannedStep, inputs: Mapping[str, Path], staging: Staging, tools: Tools
) -> Mapping[str, JSONValue]:
    """Run a step, or take a reference's outputs from the registry; says where it ran."""
    step = planned.step

    def say(text: str) -> None:
        tools.emit(StepLine(name=step.name, text=text))

    if not (tools.golden and isinstance(step.run, Call)):
        return tools.execute(step, inputs, staging, say)
    from lmi_compile import golden  # noqa: PLC0415 - only where references are shared

    shared = step.run.function in golden.SHARED
    if shared and golden.fetch(tools.registry, planned, staging.out, say):
        return {"executor": "none: from the registry"}
    ran = tools.execute(step, inputs, staging, say)
    if shared:
        golden.share(tools.registry, planned, staging.out, say)
    return ran


def _read(path: Path) -> dict[str, JSONValue]:
    loaded: dict[str, JSONValue] = json.loads(path.read_bytes())
    return loaded

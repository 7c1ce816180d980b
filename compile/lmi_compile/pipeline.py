"""The story: recipe, plan, steps, verdict, proof, artifact."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT
from lmi_compile.errors import ProofFailed, VerificationFailed
from lmi_compile.plan import Plan
from lmi_compile.stepping import Execute, Preparing, Tools, run_steps
from lmi_compile.workspace import Workspace


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


def _read(path: Path) -> dict[str, JSONValue]:
    loaded: dict[str, JSONValue] = json.loads(path.read_bytes())
    return loaded

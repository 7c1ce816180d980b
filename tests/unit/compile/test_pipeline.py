"""The story on the null backend, with an executor that alters what a step wrote."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.registry import open_registry
from lmi_compile.errors import exit_code_of
from lmi_compile.events import Event
from lmi_compile.executors.local import run_step
from lmi_compile.pipeline import Build, NotAccepted, NotProven, build
from lmi_compile.plan import Plan, make_plan
from lmi_compile.step import Step
from lmi_compile.stepping import Tools
from lmi_compile.survey import load, survey
from lmi_compile.workspace import Staging, Workspace


class Altering:
    """The local executor; afterwards it sets one field of the JSON that one step wrote."""

    def __init__(self, step: str, file: str, decision: str) -> None:
        self.step, self.file, self.decision = step, file, decision

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        ran = run_step(step, inputs, staging, on_line)
        if step.name == self.step:
            path = staging.out / self.file
            content = json.loads(path.read_bytes()) | {"decision": self.decision}
            path.write_text(json.dumps(content))
        return ran


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(survey(load("null-demo"), tmp_path))


def _build(plan: Plan, home: Path, decision: str, *, proof: bool = False, **more: bool) -> Build:
    altering = Altering(
        *(("proof", "proof.json") if proof else ("judge", "verdict.json")), decision
    )
    events: list[Event] = []
    tools = Tools(
        workspace=Workspace(home / "cache"),
        execute=altering,
        registry=open_registry(str(home / "registry")),
        emit=events.append,
    )
    return build(plan, tools, **more)


def _published(home: Path) -> int:
    return len(open_registry(str(home / "registry")).list())


@pytest.mark.parametrize("decision", ["REGRESSION", "ANOMALOUS", "INFEASIBLE", "UNVERIFIED"])
def test_what_is_not_accepted_is_not_published(plan: Plan, tmp_path: Path, decision: str) -> None:
    with pytest.raises(NotAccepted) as caught:
        _build(plan, tmp_path, decision)
    assert exit_code_of(caught.value) == 5
    assert caught.value.verdict["decision"] == decision
    assert "verdict.json" in caught.value.fix
    assert _published(tmp_path) == 0


def test_unverified_is_published_only_when_asked_and_stays_refused_otherwise(
    plan: Plan, tmp_path: Path
) -> None:
    built = _build(plan, tmp_path, "UNVERIFIED", allow_unverified=True)
    assert (built.decision, built.cached) == ("UNVERIFIED", False)
    assert _published(tmp_path) == 1
    assert _build(plan, tmp_path, "UNVERIFIED", allow_unverified=True).cached is True
    with pytest.raises(NotAccepted, match="UNVERIFIED"):
        _build(plan, tmp_path, "UNVERIFIED")


def test_a_refuted_proof_publishes_nothing(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(NotProven) as caught:
        _build(plan, tmp_path, "REFUTED", proof=True)
    assert exit_code_of(caught.value) == 6
    assert _published(tmp_path) == 0


def test_a_skipped_proof_says_so_and_is_tried_again(plan: Plan, tmp_path: Path) -> None:
    built = _build(plan, tmp_path, "SKIPPED", proof=True)
    assert built.proof == "SKIPPED"
    assert Workspace(tmp_path / "cache").find(plan.keys["proof"]) is None
    again = _build(plan, tmp_path, "SKIPPED", proof=True)
    assert (again.cached, set(again.seconds)) == (False, {"proof"})


def test_what_another_machine_could_do_is_tried_again_with_all_that_rests_on_it(
    plan: Plan, tmp_path: Path
) -> None:
    tentative = replace(
        plan,
        steps=tuple(
            replace(each, step=replace(each.step, tentative="outputs.json"))
            if each.step.name == "candidate"
            else each
            for each in plan.steps
        ),
    )
    for _ in range(2):
        with pytest.raises(NotAccepted):
            _build(tentative, tmp_path, "UNVERIFIED")
        assert Workspace(tmp_path / "cache").find(plan.keys["judge"]) is not None
    built = _build(tentative, tmp_path, "ACCEPT")
    assert {"candidate", "judge"} <= set(built.seconds)
    assert "package" not in built.seconds

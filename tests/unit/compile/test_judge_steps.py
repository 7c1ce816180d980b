"""The steps of a verdict: the baseline where the build's numbers are not the reference's."""

import pytest

from lmi_compile.common_steps import judge_steps
from lmi_compile.errors import Unsupported
from lmi_compile.step import Call, Step
from lmi_compile.survey import load
from lmi_verify.tasks import digest_of

NAME = "smollm2-135m-instruct-cpu"


@pytest.mark.parametrize(
    ("recipe", "params"),
    [
        (NAME, None),
        (f"{NAME}-int8", {"dtype": "float32", "rounding": "int8-rows"}),
        (f"{NAME}-bfloat16", {"dtype": "bfloat16", "rounding": "none"}),
        (f"{NAME}-smoothquant", None),
    ],
)
def test_a_baseline_is_planned_where_numbers_differ(
    recipe: str, params: dict[str, str] | None
) -> None:
    *before, judge = judge_steps(load(recipe).recipe, shows=("settings",))
    assert [step.name for step in before] == (["baseline"] if params else [])
    for step in before:
        assert step.run.params == {**params, "trust_remote_code": False}
    assert set(judge.needs) == {"reference", "candidate", *(step.name for step in before)}
    assert judge.run.params["shows"] == ["settings"]


def test_tasks_are_asked_of_both_sides_and_judged() -> None:
    task = "{name: plain-facts-v1, num_samples: 9, max_drop: 2}"
    recipe = load(NAME, (f"verify.tasks=[{task}]",)).recipe
    scorer = Step(
        name="candidate",
        run=Call(function="lmi_compile.backends.aoti.candidate:run"),
        needs=("package", "reference"),
        outputs=("outputs.json", "outputs.safetensors"),
    )
    asked, answered, judge = judge_steps(recipe, scorer=scorer)
    assert (asked.name, answered.name) == ("tasks", "tasks-candidate")
    assert asked.needs == ("model",)
    assert set(asked.outputs) > set(scorer.outputs)
    assert answered.needs == ("package", "tasks")
    assert {"tasks", "tasks-candidate"} <= set(judge.needs)
    (found,) = asked.run.params["tasks"]
    assert found == {
        "name": "plain-facts-v1",
        "num_samples": 9,
        "max_drop": 2.0,
        "digest": digest_of("plain-facts-v1"),
    }
    assert not asked.network


def test_a_task_of_the_harness_is_keyed_by_its_version_and_may_ask_the_hub() -> None:
    recipe = load(NAME, ("verify.tasks=[{name: arc_easy}]",)).recipe
    scorer = Step(name="candidate", run=Call(function="a.b:run"), needs=("package", "reference"))
    asked, *_ = judge_steps(recipe, scorer=scorer)
    assert "lm_eval" in asked.identity
    assert asked.network


def test_task_gates_are_refused_and_not_ignored_where_no_probe_scores_texts() -> None:
    recipe = load(NAME, ("verify.tasks=[{name: mmlu}]",)).recipe
    with pytest.raises(Unsupported, match="scores no tasks"):
        judge_steps(recipe)

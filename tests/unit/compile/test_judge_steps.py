"""The steps of a verdict: the baseline where the build's numbers are not the reference's."""

import pytest

from lmi_compile.common_steps import judge_steps
from lmi_compile.errors import Unsupported
from lmi_compile.survey import load

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


def test_task_gates_are_refused_and_not_ignored() -> None:
    recipe = load(NAME, ("verify.tasks=[{name: mmlu}]",)).recipe
    with pytest.raises(Unsupported, match="no step scores tasks"):
        judge_steps(recipe)

from pathlib import Path

import pytest

from lmi_recipes.errors import RecipeInvalid
from lmi_recipes.model import Recipe
from lmi_recipes.reading import parse_recipe

TEXT = """\
apiVersion: lmi-compile/v1
name: small
model: {id: org/model, revision: abc}
backend: aoti
toolchain: aoti-torch-2.13
target: {cpu: x86-64-v3}
tensor_parallel_degree: 8
quantization: {method: smoothquant}
shapes: {max_batch_size: 4, max_seq_len: 64}
"""


def load(*overrides: str) -> Recipe:
    return parse_recipe(TEXT.encode(), Path("r.yaml"), overrides).recipe


def test_an_override_replaces_one_field_and_leaves_its_neighbours() -> None:
    recipe = load("shapes.max_batch_size=2", "model.id=org/other", "dtype=bfloat16")
    assert recipe.shapes.max_batch_size == 2
    assert recipe.shapes.max_seq_len == 64
    assert (recipe.model.id, recipe.model.revision) == ("org/other", "abc")
    assert recipe.dtype == "bfloat16"


def test_values_are_yaml() -> None:
    recipe = load("package.layouts=[tar.gz]", "shapes={max_seq_len: 32}", "runtime.a=true")
    assert recipe.package.layouts == ("tar.gz",)
    assert (recipe.shapes.max_seq_len, recipe.shapes.max_batch_size) == (32, 4)
    assert recipe.runtime == {"a": True}


def test_the_last_override_wins_and_aliases_hold() -> None:
    assert load("tp_size=4").tensor_parallel_degree == 4
    assert load("tp_size=4", "tensor_parallel_degree=2").tensor_parallel_degree == 2
    assert load("max_model_len=32").shapes.max_seq_len == 32
    assert load("quantization=none").quantization.method == "none"


def test_derived_values_follow_the_override() -> None:
    assert load("shapes.max_seq_len=32").shapes.max_input_len == 31


def test_names_with_dots_are_whole_in_the_matrix_and_the_runtime() -> None:
    recipe = load("matrix.shapes.max_batch_size=[1, 2]", "runtime.a.b=c")
    assert recipe.matrix == {"shapes.max_batch_size": (1, 2)}
    assert recipe.runtime == {"a.b": "c"}


def test_a_value_may_hold_an_equals_sign() -> None:
    assert load("runtime.env=A=B").runtime == {"env": "A=B"}


def test_an_empty_value_takes_a_section_back_to_its_defaults() -> None:
    assert load("quantization=").quantization.method == "none"
    assert load("shapes.buckets=null").shapes.buckets.prefill == ()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("dtype", "--set dtype: must have the form field.path=value"),
        ("=1", "--set =1: must have the form field.path=value"),
        ("a..b=1", "--set a..b=1: must have the form field.path=value"),
        ("dtype=[", "--set dtype=[: is not YAML: while parsing a flow node"),
        ("dtype=*x", "--set dtype=*x: the alias *x is not allowed"),
        ("dtyp=x", '--set dtyp=x: dtyp: unknown field (got "x"; did you mean dtype?)'),
        ("dtype=8", "--set dtype=8: dtype: must be float32 | float16 | bfloat16 (got 8)"),
        ("shapes.max_seq_len='8'", "must be a whole number, without quotes"),
        ("shapes.max_seq_len=", "must be a whole number (got null)"),
        ("runtime={a: 1, a: 2}", "--set runtime={a: 1, a: 2}: a: is given twice"),
        (".".join("a" * 40) + "=1", "names a field more than 32 deep"),
    ],
)
def test_a_bad_override_is_told_as_one(override: str, expected: str) -> None:
    with pytest.raises(RecipeInvalid) as caught:
        load(override)
    assert expected in str(caught.value)
    assert caught.value.problems[0].line is None


def test_problems_of_file_and_overrides_come_together() -> None:
    with pytest.raises(RecipeInvalid) as caught:
        parse_recipe(TEXT.replace("small", "S").encode(), Path("r.yaml"), ["x=1", "dtype"])
    assert [problem.file for problem in caught.value.problems] == [
        "r.yaml",
        "--set dtype",
        "--set x=1",
    ]

from pathlib import Path

import pytest
from minimal import MINIMAL

from lmi_recipes.errors import RecipeInvalid
from lmi_recipes.problems import Mark, Problem, at, closest, shown
from lmi_recipes.reading import parse_recipe

SHA = "sha256: " + "a" * 64


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeInvalid) as caught:
        parse_recipe(text.encode(), Path("r.yaml"))
    return [str(problem) for problem in caught.value.problems]


def test_every_problem_of_a_file_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
apiVersion: lmi-compile/v2
name: Bad Name
modle: {id: x}
backend: trn
toolchain: aoti-torch-2.13
target: {cpu: x86-64-v3, instance_type: ml.p4d.24xlarge}
tensor_parallel_degree: "8"
shapes:
  max_batch_size: true
  max_input_len: 3000
  max_input_len: 3001
  max_seq_len: 100
  buckets: {prefill: [1, 2, 2], decode: [x]}
quantization: {method: fp9}
registry: s3://b
runtime: {engine: Python}
"""
    assert problems(text) == [
        "r.yaml:1:1: model: is required",
        (
            'r.yaml:1:13: apiVersion: must be lmi-compile/v1 (got "lmi-compile/v2";'
            " did you mean lmi-compile/v1?)"
        ),
        (
            "r.yaml:2:7: name: must be lower-case letters, digits, '.', '_' and '-', at most 128,"
            ' no leading sign (got "Bad Name")'
        ),
        'r.yaml:3:1: modle: unknown field (got {"id": "x"}; did you mean model?)',
        'r.yaml:4:10: backend: must be null | aoti | tensorrt-llm | neuron (got "trn")',
        "r.yaml:6:9: target: needs exactly one of instance_type and cpu",
        'r.yaml:7:25: tensor_parallel_degree: must be a whole number, without quotes (got "8")',
        "r.yaml:9:19: shapes.max_batch_size: must be a whole number (got true)",
        (
            "r.yaml:10:18: shapes.max_input_len: is above max_seq_len, 100, which counts prompt and"
            " answer together (got 3000)"
        ),
        "r.yaml:11:3: shapes.max_input_len: is given twice; the first is on line 10 (got 3001)",
        "r.yaml:13:22: shapes.buckets.prefill: must ascend, without repeats",
        'r.yaml:13:42: shapes.buckets.decode[0]: must be a whole number (got "x")',
        (
            "r.yaml:14:24: quantization.method: must be none | smoothquant | fp8 | int8_wo"
            ' | int4_wo | awq | gptq (got "fp9"; did you mean fp8?)'
        ),
        'r.yaml:15:1: registry: unknown field (got "s3://b"; did you mean publish.registry?)',
        (
            "r.yaml:16:19: runtime.engine: is written by the package itself, as are async_mode,"
            " engine, entryPoint, maxWorkers, minWorkers, model_id, rolling_batch,"
            ' tensor_parallel_degree (got "Python")'
        ),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("colour: red", '1: colour: unknown field (got "red")'),
        ("shapes: {max_batch_siz: 1}", "10: shapes.max_batch_siz: unknown field (got 1; did"),
        ("shapes: {max_batch_size: 0}", "26: shapes.max_batch_size: must be at least 1 (got 0)"),
        ("shapes: {max_batch_size: 1.0}", "must be a whole number (got 1.0)"),
        ("shapes: {max_batch_size: 010}", 'whole number, without quotes (got "010")'),
        ("shapes: {max_batch_size: 1_0}", "26: shapes.max_batch_size: must be a whole number"),
        ("shapes: {max_batch_size: }", "must be a whole number (got null)"),
        ("shapes: {max_seq_len: 99999999999999999999}", "must be at most 16777216"),
        ("shapes: [1]", "9: shapes: must be a section, a mapping of fields (got [1])"),
        ("shapes: {buckets: {prefill: 3}}", "must be a list (got 3)"),
        ("tensor_parallel_degree: -1", "must be at least 1 (got -1)"),
        ("description: 3", "14: description: must be text (got 3)"),
        ("description: true", "must be text (got true)"),
        ("quantization: {smoothquant: {alpha: 0.5}}", "has no meaning with method none"),
        ("quantization: {method: smoothquant, smoothquant: {alpha: 0}}", "must be above 0 (got 0)"),
        ("quantization: {method: smoothquant, smoothquant: {alpha: 1.5}}", "must be at most 1"),
        ("quantization: {method: smoothquant, smoothquant: {alpha: .nan}}", "alpha: must be a"),
        ("quantization: {method: smoothquant, smoothquant: {per_token: yes}}", "mean true?"),
        ("quantization: {method: smoothquant, fp8: {}}", "has no meaning with method smoothquant"),
        ("quantization: {kv_cache_dtype: int4}", "did you mean int8?"),
        ("quantization: {calibration: {seed: -1}}", "quantization.calibration.seed: must be at"),
        ("runtime: {option.foo: 1}", "runtime.option.foo: is written as option.* already"),
        ("runtime: {option.Engine: 1}", "is written by the package itself"),
        ("runtime: {minworkers: 1}", "is written by the package itself"),
        ("runtime: {a: [1]}", "must be text, a finite number, true or false (got [1])"),
        ("runtime: {a: .nan}", "must be text, a finite number, true or false (got NaN)"),
        ('runtime: {a: "x\\ny=z"}', "must be printable ASCII"),
        ("runtime: {a b: 1}", "11: runtime.a b: is no name for a field here"),
        ("runtime: {[a]: 1}", "11: runtime: a field's name must be text"),
        ("verify: {gates: {kl: .inf}}", "verify.gates.kl: must be a finite number"),
        ("verify: {prompts: latest}", "must be a prompt set version such as v1"),
        ("verify: {tasks: [{nam: mmlu}]}", "verify.tasks[0].nam: unknown field"),
        ("package: {layouts: []}", "must have at least 1 item(s)"),
        ("package: {layouts: [prefix, prefix]}", "package.layouts[1]: names a layout twice"),
        ("package: {layouts: [zip]}", "must be prefix | tar.gz"),
        ("publish: {tags: [a b]}", "publish.tags[0]: must be letters"),
        ("matrix: {dtipe: [float16]}", "matrix.dtipe: is no field of a recipe (did you mean dtype"),
        ("matrix: {dtype: []}", "must have at least 1 item(s)"),
        ("matrix: {dtype: [[float16]]}", "matrix.dtype[0]: must be text, a finite"),
        ("name: again", "1: name: is given twice; the first is on line 2"),
    ],
)
def test_a_bad_line_is_told_with_its_place(line: str, expected: str) -> None:
    found = problems(MINIMAL + line + "\n")
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith("r.yaml:7:") for problem in found)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("{id: pypi://a==1#b}", "r.yaml:3:8: model.sha256: is required for pypi://"),
        (f"{{id: pypi://a#b, {SHA}}}", "model.id: must have the form pypi://<package>==<version>"),
        (f"{{id: 'pypi://a==1#../b', {SHA}}}", "model.id: must have the form"),
        ("{id: https://example.com/x}", "must be a hub id, a directory, s3://... or pypi://..."),
        ("{id: a, sha256: ABC}", "model.sha256: must be 64 lower-case hexadecimal digits"),
        ("{id: a, config: /etc/passwd}", "model.config: must be relative to the recipe"),
        ("{id: a, task: text-generatoin}", "did you mean text-generation?"),
        ("{id: a, trust_remote_code: 1}", "model.trust_remote_code: must be true or false"),
        ("{}", "model.id: is required"),
        ("", "model: must be a section, a mapping of fields (got null)"),
    ],
)
def test_a_bad_model_is_told(model: str, expected: str) -> None:
    found = problems(MINIMAL.replace("{id: org/model}", model))
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize("target", ["{}", "{cpu: a, instance_type: ml.c7i.xlarge}"])
def test_a_target_is_exactly_one_of_two(target: str) -> None:
    assert problems(MINIMAL.replace("{cpu: x86-64-v3}", target)) == [
        "r.yaml:6:9: target: needs exactly one of instance_type and cpu"
    ]


def test_a_problem_tells_its_parts_and_leaves_out_what_is_not_there() -> None:
    mark = Mark(file="f", line=2, column=3)
    problem = at(mark, "is wrong", field="a.b", value="1", nearest="2")
    assert str(problem) == "f:2:3: a.b: is wrong (got 1; did you mean 2?)"
    assert str(Problem(file="f", message="is empty")) == "f: is empty"
    assert problem.to_json() == {
        "file": "f",
        "line": 2,
        "column": 3,
        "field": "a.b",
        "message": "is wrong",
        "value": "1",
        "nearest": "2",
    }


def test_values_are_shown_short_and_the_closest_word_is_found() -> None:
    assert shown("a" * 100) == '"' + "a" * 56 + "..."
    assert closest("DTYP", ["dtype", "model"]) == "dtype"
    assert closest("zzz", ["dtype", "model"]) is None

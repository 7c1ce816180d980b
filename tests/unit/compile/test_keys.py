from dataclasses import replace

import pytest

from lmi_compile.keys import key_ingredients, source_closure, source_digests, step_key
from lmi_compile.step import Argv, Call, Resources, Step

WORK = "lmi_compile.backends.null.work"
STEP = Step(
    name="compile",
    run=Call(function=f"{WORK}:compile_table", params={"max_input_len": 16}),
    env={"A": "1"},
    needs=("model",),
    outputs=("table.dat",),
    identity={"toolchain": "null"},
)


def key(step: Step, model: str = "0" * 64) -> str:
    return step_key(key_ingredients(step, {"model": model}))


def test_a_key_is_256_bits_whole_and_repeats() -> None:
    assert len(key(STEP)) == 64
    assert key(STEP) == key(replace(STEP))


@pytest.mark.parametrize(
    "changed",
    [
        replace(STEP, run=Call(function=f"{WORK}:package", params={"max_input_len": 16})),
        replace(STEP, run=Call(function=f"{WORK}:compile_table", params={"max_input_len": 17})),
        replace(STEP, run=replace(STEP.run, data=("lmi_compile.backends.null.served",))),
        replace(STEP, env={"A": "2"}),
        replace(STEP, outputs=("table.dat", "more")),
        replace(STEP, identity={"toolchain": "other"}),
        replace(STEP, run=Argv(argv=("true",))),
    ],
)
def test_all_that_decides_the_bytes_enters(changed: Step) -> None:
    assert key(changed) != key(STEP)


def test_the_keys_of_needs_enter() -> None:
    assert key(STEP, "1" * 64) != key(STEP)


@pytest.mark.parametrize(
    "changed",
    [
        replace(STEP, name="another name"),
        replace(STEP, resources=Resources(cores=8)),
        replace(STEP, local_inputs={"source": "/somewhere"}),
        replace(STEP, where="device"),
    ],
)
def test_where_and_how_a_step_runs_never_enters(changed: Step) -> None:
    assert key(changed) == key(STEP)


def test_the_source_closure_follows_imports_through_the_rooms() -> None:
    files = source_closure(WORK)
    assert "lmi_compile/backends/null/work.py" in files
    assert "lmi_verify/verdict.py" in files
    assert "lmi_artifacts/digest.py" in files
    assert "lmi_compile/cli/app.py" not in files


def test_a_folder_that_is_read_as_data_enters_whole() -> None:
    without = source_digests("lmi_compile.proof.step")
    data = source_digests("lmi_compile.proof.step", ("lmi_compile.backends.null.served",))
    assert set(data) - set(without) == {
        "lmi_compile/backends/null/served/__init__.py",
        "lmi_compile/backends/null/served/model.py",
        "lmi_compile/backends/null/served/null_runtime.py",
    }

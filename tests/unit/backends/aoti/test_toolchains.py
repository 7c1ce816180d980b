"""Toolchains of other torch versions: what runs in their image, and what is said without it."""

import os
import subprocess
from pathlib import Path

import pytest

from lmi_compile.backends.aoti import inductor
from lmi_compile.errors import EnvironmentFault, exit_code_of
from lmi_compile.place import expected_of
from lmi_compile.plan import Plan, make_plan
from lmi_compile.survey import load, survey

RECIPE = "smollm2-135m-instruct-cpu"
OTHERS = {"aoti-torch-2.7": "2.7.1", "aoti-torch-2.11": "2.11.0"}
TARGET = inductor.Target(march="x86-64-v2", simdlen=256)


def _plan(tmp_path: Path, *overrides: str) -> Plan:
    return make_plan(survey(load(RECIPE, overrides), tmp_path))


@pytest.mark.parametrize("toolchain", OTHERS)
def test_what_runs_compiled_code_runs_in_the_image_and_is_keyed_by_it(
    tmp_path: Path, toolchain: str
) -> None:
    plan = _plan(tmp_path, f"toolchain={toolchain}")
    there = [one.step for one in plan.steps if one.step.where == "toolchain"]
    assert [step.name for step in there] == ["compile", "candidate", "proof"]
    images = {step.image.reference for step in there if step.image}
    assert len(images) == 1
    compiling = there[0]
    identity = str(dict(compiling.identity))
    assert "compiler" not in identity, "this machine's compiler is not what compiles"
    assert images.pop() in identity
    assert expected_of(compiling)["versions"] == {
        "torch": OTHERS[toolchain],
        "transformers": "5.23.0",
    }
    assert expected_of(there[1])["versions"] == {"torch": OTHERS[toolchain]}


def test_what_reads_the_model_is_shared_by_all_toolchains(tmp_path: Path) -> None:
    keys = [_plan(tmp_path, f"toolchain={name}").keys for name in ("aoti-torch-2.13", *OTHERS)]
    for name in ("fetch", "model", "reference"):
        assert len({each[name] for each in keys}) == 1, name
    for name in ("compile", "package", "candidate"):
        assert len({each[name] for each in keys}) == len(keys), name


def test_quantised_builds_calibrate_in_the_image_too(tmp_path: Path) -> None:
    smooth = make_plan(
        survey(load(f"{RECIPE}-smoothquant", ("toolchain=aoti-torch-2.7",)), tmp_path)
    )
    places = {one.step.name: one.step.where for one in smooth.steps}
    assert (places["calibrate"], places["weights"]) == ("toolchain", "host")


def test_a_one_pass_model_runs_there_too(tmp_path: Path) -> None:
    plan = make_plan(survey(load("bert-large-cpu", ("toolchain=aoti-torch-2.11",)), tmp_path))
    places = {one.step.name: one.step.where for one in plan.steps}
    assert {name for name in places if places[name] == "toolchain"} == {
        "compile", "candidate", "proof",
    }  # fmt: skip


@pytest.mark.parametrize("toolchain", OTHERS)
def test_without_the_image_it_is_said_what_is_missing_and_where_it_comes_from(
    tmp_path: Path, toolchain: str
) -> None:
    plan = _plan(tmp_path, f"toolchain={toolchain}")
    assert any("a digest that nobody has read" in note for note in plan.notes)
    with pytest.raises(EnvironmentFault) as caught:
        plan.backend.preflight(plan.order)
    assert exit_code_of(caught.value) == 8
    assert f"needs torch {OTHERS[toolchain]}" in caught.value.what
    assert "image.Dockerfile" in caught.value.why
    assert "--executor container" in caught.value.fix


def test_this_torch_knows_every_setting() -> None:
    """Older ones lack some, which are left out there; here nothing may get lost."""
    library = Path("model.so")
    assert TARGET.options(library) == TARGET._wanted(library)


def test_a_compiler_that_is_told_native_compiles_for_the_target(tmp_path: Path) -> None:
    """As torch 2.7.1 and 2.11.0 tell it."""
    script = tmp_path / "cxx"
    script.write_text(inductor.compiler_script("x86-64-v2"), encoding="utf-8")
    script.chmod(0o755)
    (tmp_path / "empty.cpp").touch()
    defines = [
        subprocess.run(
            [command, "-march=native", "-dM", "-E", "empty.cpp"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in (os.environ.get("CXX", "g++"), str(script))
    ]
    assert "__SSE4_2__" in defines[1]
    assert "__AVX2__" in defines[0], "every machine that these tests run on has it"
    assert "__AVX2__" not in defines[1]

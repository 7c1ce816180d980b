"""The whole flow on a random two-layer Llama: really compiled, verified, proven, served."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lmi import Tiny, write_recipe

pytestmark = pytest.mark.slow


def _statement(tiny: Tiny, kind: str) -> dict[str, object]:
    shown = tiny.lmi("show", tiny.built["artifact"], "--json").json()
    (found,) = [item for item in shown["statements"] if f":{kind}:" in item["predicateType"]]
    predicate: dict[str, object] = found["predicate"]
    return predicate


def test_it_is_verified_against_the_hugging_face_model(tiny: Tiny) -> None:
    assert tiny.built["decision"] == "ACCEPT"
    verdict = _statement(tiny, "verdict")
    checks = {check["metric"]: check for check in verdict["checks"]}
    assert 0 < checks["logit_error_rel"]["measured"] <= checks["logit_error_rel"]["limit"] == 1e-4
    assert all(check["passed"] for check in checks.values())
    assert "max |logit error|" in tiny.said


def test_loading_and_answering_compiles_nothing(tiny: Tiny) -> None:
    assert tiny.built["proof"] == "PROVEN"
    proof = _statement(tiny, "no-jit-proof")
    assert proof["decision"] == "PROVEN"
    assert proof["events"] == []
    assert proof["cpu_seconds_to_first_token"] > 0


def test_the_served_tree_is_what_the_contract_says(tiny: Tiny) -> None:
    tree = Path(tiny.built["path"])
    lines = (tree / "serving.properties").read_text().splitlines()
    assert {
        "engine=Python",
        "option.entryPoint=model.py",
        "option.rolling_batch=disable",
        "option.async_mode=false",
        "minWorkers=1",
        "maxWorkers=1",
    } <= set(lines)
    assert not (tree / "config.json").exists()
    assert (tree / "hf" / "config.json").exists()
    assert (tree / "lmi-artifact.json").exists()
    assert not list(tree.rglob("*.pt2"))


def test_the_same_directory_elsewhere_gives_the_same_artifact(tiny: Tiny, tmp_path: Path) -> None:
    lmi = tiny.in_another_home(tmp_path)
    shutil.copytree(tiny.lmi.home / "model", tmp_path / "model")
    built = lmi(write_recipe(tmp_path / "tiny.yaml", "./model"), "--json").json()
    assert built["artifact"] == tiny.built["artifact"]
    assert built["seconds"] == {}


# What probes share is imported once; each file's absence is met by a process of its own.
_WITHOUT = """
import os, runpy, shutil, sys
import safetensors.torch, tokenizers, torch
package, prompts, place, *names = sys.argv[1:]
for number, name in enumerate(["", *names]):
    tree, out = f"{place}/tree{number}", f"{place}/out{number}"
    shutil.copytree(package, tree, copy_function=os.link)
    os.mkdir(out)
    if name:
        os.unlink(f"{tree}/{name}")
    child = os.fork()
    if child == 0:
        os.chdir(tree)
        sys.path.insert(0, tree)
        sys.argv[1:] = ["--prompts", prompts, "--out", out]
        code = 1
        try:
            runpy.run_module("lmi_aoti_runtime.probe", run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("ENDED", code, os.path.exists(f"{out}/outputs.json"), name, flush=True)
"""


def test_every_served_file_matters_to_the_packaged_loader(tiny: Tiny, tmp_path: Path) -> None:
    steps = tiny.steps()
    package, reference = steps["package"], steps["reference"]
    found = sorted(path for path in package.rglob("*") if path.is_file())
    names = [path.relative_to(package).as_posix() for path in found]
    told = subprocess.run(
        [sys.executable, "-B", "-c", _WITHOUT, package, reference, tmp_path, *names],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    ended = [line.split(maxsplit=3)[1:] for line in told.splitlines() if line.startswith("ENDED")]
    assert ended[0] == ["0", "True"]
    assert ended[1:] == [["1", "False", name] for name in names]
    assert len(names) > 10


def test_verify_against_the_recipe_judges_a_pulled_tree(tiny: Tiny, tmp_path: Path) -> None:
    pulled = tmp_path / "pulled"
    assert tiny.lmi("pull", tiny.built["artifact"], pulled).code == 0
    ended = tiny.lmi("verify", pulled, "--against", tiny.lmi.home / "tiny.yaml", "--json")
    assert ended.code == 0, ended.err
    assert ended.json()["decision"] == "ACCEPT"


def test_another_models_weights_are_a_regression_and_exit_5(tiny: Tiny, tmp_path: Path) -> None:
    tiny.make(tmp_path / "other", seed=2)
    recipe = write_recipe(tmp_path / "other.yaml", "./other")
    ended = tiny.lmi("verify", tiny.built["artifact"], "--against", recipe)
    assert ended.code == 5, ended.err
    assert "REGRESSION" in ended.err
    assert "FAIL" in ended.err


def test_kill_9_inside_the_compiler_leaves_nothing_and_resumes(tiny: Tiny) -> None:
    done = {name for name, out in tiny.steps().items() if out.parent.name in tiny.left}
    assert done == {"fetch", "model", "reference"}
    assert len(tiny.left) == len(done)
    assert set(tiny.built["seconds"]) == tiny.steps().keys() - done


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("model.safetensors", _cut, "model.safetensors"),
        ("model.safetensors", _flip, "model.safetensors"),
        ("model.safetensors", Path.unlink, "no weights"),
        ("config.json", Path.unlink, "config.json"),
        ("config.json", _cut, "config.json"),
        ("tokenizer.json", Path.unlink, "tokenizer.json"),
    ],
)
def test_a_damaged_model_is_named_and_exit_3(
    tiny: Tiny, tmp_path: Path, name: str, damage: Callable[[Path], object], said: str
) -> None:
    lmi = tiny.in_another_home(tmp_path)
    shutil.copytree(tiny.lmi.home / "model", tmp_path / "model")
    damage(tmp_path / "model" / name)
    ended = lmi(write_recipe(tmp_path / "damaged.yaml", "./model"))
    assert (ended.code, said in ended.err) == (3, True), ended.err
    assert lmi.artifacts() == []


def test_a_model_directory_that_is_not_there_is_named(tiny: Tiny, tmp_path: Path) -> None:
    ended = tiny.in_another_home(tmp_path)(write_recipe(tmp_path / "gone.yaml", "./gone"))
    assert ended.code == 3
    assert "gone" in ended.err


def test_weights_that_are_no_numbers_are_named_and_exit_3(tiny: Tiny, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - light until here

    lmi = tiny.in_another_home(tmp_path)
    shutil.copytree(tiny.lmi.home / "model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    held = load_file(weights)
    held["model.norm.weight"].fill_(float("nan"))
    save_file(held, weights, {"format": "pt"})
    ended = lmi(write_recipe(tmp_path / "broken.yaml", "./model"))
    assert (ended.code, "model.norm.weight" in ended.err) == (3, True), ended.err
    assert lmi.artifacts() == []


def test_a_calibration_text_that_cannot_be_used_is_exit_3(tiny: Tiny, tmp_path: Path) -> None:
    lmi = tiny.in_another_home(tmp_path)
    shutil.copytree(tiny.lmi.home / "model", tmp_path / "model")
    recipe = write_recipe(tmp_path / "tiny.yaml", "./model")
    (tmp_path / "text.txt").write_bytes(b"the thing \xff and")
    asked = ("quantization=fp8", "quantization.calibration.dataset=text.txt")
    ended = lmi(recipe, "--set", asked[0], "--set", asked[1])
    assert (ended.code, "it is not UTF-8" in ended.err) == (3, True), ended.err
    assert lmi.artifacts() == []


@pytest.mark.parametrize(
    "change",
    ["dtype=float16", "quantization=awq", "tensor_parallel_degree=3"],
)
def test_what_the_backend_does_not_carry_yet_is_refused_by_name(tiny: Tiny, change: str) -> None:
    ended = tiny.lmi("plan", tiny.lmi.home / "tiny.yaml", "--set", change)
    assert ended.code == 3
    assert change.split("=")[1] in ended.err

"""The whole flow on a random two-layer Llama: really compiled, verified, proven, served."""

import shutil
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


def test_a_fine_tune_compiles_nothing(tiny: Tiny, tmp_path: Path) -> None:
    lmi = tiny.in_another_home(tmp_path)
    tiny.make(tmp_path / "tuned", seed=1)
    built = lmi(write_recipe(tmp_path / "tuned.yaml", "./tuned"), "--json").json()
    assert "compile" not in built["seconds"]
    assert {"model", "reference", "weights", "package", "candidate"} <= set(built["seconds"])
    assert built["decision"] == "ACCEPT"
    assert built["artifact"] != tiny.built["artifact"]


def test_the_same_directory_elsewhere_gives_the_same_artifact(tiny: Tiny, tmp_path: Path) -> None:
    lmi = tiny.in_another_home(tmp_path)
    shutil.copytree(tiny.lmi.home / "model", tmp_path / "model")
    built = lmi(write_recipe(tmp_path / "tiny.yaml", "./model"), "--json").json()
    assert built["artifact"] == tiny.built["artifact"]
    assert built["seconds"] == {}


def test_every_served_file_matters_to_the_packaged_loader(tiny: Tiny, tmp_path: Path) -> None:
    from lmi_compile.backends.aoti import candidate  # noqa: PLC0415 - light until here
    from lmi_compile.errors import VerificationFailed  # noqa: PLC0415 - the same

    keys = tiny.lmi("plan", tiny.lmi.home / "tiny.yaml", "--json").json()["steps"]
    steps = {step["name"]: tiny.lmi.home / "cache" / "steps" / step["key"] / "out" for step in keys}
    names = sorted(
        path.relative_to(steps["package"]).as_posix()
        for path in steps["package"].rglob("*")
        if path.is_file()
    )
    for number, name in enumerate(names):
        tree, out = tmp_path / f"tree{number}", tmp_path / f"out{number}"
        shutil.copytree(steps["package"], tree)
        (tree / name).unlink()
        out.mkdir()
        with pytest.raises(VerificationFailed):
            candidate.run({}, {"package": tree, "reference": steps["reference"]}, out)
        shutil.rmtree(tree)
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


def test_kill_9_inside_the_compiler_leaves_nothing_and_resumes(tiny: Tiny, tmp_path: Path) -> None:
    lmi = tiny.in_another_home(tmp_path)
    shutil.copytree(tiny.lmi.home / "model", tmp_path / "model")
    recipe = write_recipe(tmp_path / "killed.yaml", "./model", max_seq_len=80)
    steps = {step["name"]: step["key"] for step in lmi("plan", recipe, "--json").json()["steps"]}
    process = lmi.start(recipe, "--until", "compile", "--verbose")
    for line in process.stderr or ():
        if "prefill: compiling" in line:
            break
    process.kill()
    process.communicate()
    assert steps["compile"] not in lmi.finished()
    resumed = lmi(recipe, "--until", "compile", "--json").json()
    assert set(resumed["seconds"]) == {"compile"}


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

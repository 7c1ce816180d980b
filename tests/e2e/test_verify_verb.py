"""`verify` from the command line: a running endpoint, two artifacts, layers, tasks, bad outputs."""

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from lmi import Lmi, Tiny, write_recipe
from safetensors.numpy import load_file, save_file
from served import Served, seal, serving

pytestmark = pytest.mark.slow
TASK = "verify.tasks=[{name: plain-facts-v1, num_samples: 6}]"
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def served(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with serving(tiny.built["artifact"], home=home, registry=tiny.lmi.registry) as server:
        yield server


def step_out(lmi: Lmi, recipe: Path, name: str) -> Path:
    """Where a recipe's step has its outputs."""
    steps = lmi("plan", recipe, "--json").json()["steps"]
    (key,) = [step["key"] for step in steps if step["name"] == name]
    return lmi.home / "cache" / "steps" / key / "out"


@pytest.fixture(scope="module")
def stale(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled package with one layer's projection of another revision, under a manifest."""
    home = tmp_path_factory.mktemp("stale")
    package = home / "package"
    shutil.copytree(step_out(tiny.lmi, tiny.lmi.home / "tiny.yaml", "package"), package)
    path = package / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    first = 8 + int.from_bytes(raw[:8], "little")
    (told,) = [
        each
        for name, each in json.loads(raw[8:first]).items()
        if name.endswith("layers.1.mlp.down_proj.weight")
    ]
    start, end = (first + place for place in told["data_offsets"])
    right = np.frombuffer(raw[start:end], dtype=np.float32)
    step = np.random.default_rng(0).standard_normal(right.shape).astype(np.float32)
    step *= 0.01 * np.linalg.norm(right) / np.linalg.norm(step)
    raw[start:end] = (right + step).tobytes()
    path.unlink()
    path.write_bytes(raw)
    return seal(package, home / "tree")


def test_an_endpoint_is_judged_by_what_it_generates(tiny: Tiny, served: Served) -> None:
    ended = tiny.lmi("verify", served.url, "--against", tiny.lmi.home / "tiny.yaml", "--json")
    assert ended.code == 0, ended.err
    verdict = ended.json()
    assert (verdict["decision"], verdict["scope"]) == ("ACCEPT", "generation")
    assert {check["metric"] for check in verdict["checks"]} >= {"greedy_margin", "reported_error"}


def test_nobody_at_the_address_is_exit_8(tiny: Tiny) -> None:
    recipe = tiny.lmi.home / "tiny.yaml"
    ended = tiny.lmi("verify", "http://127.0.0.1:9", "--against", recipe)
    assert ended.code == 8
    assert "cannot be asked" in ended.err


def test_an_upgrade_is_judged_against_the_artifact_before(tiny: Tiny, stale: Path) -> None:
    before, recipe = tiny.built["artifact"], tiny.lmi.home / "tiny.yaml"
    same = tiny.lmi("verify", before, "--against", before, "--recipe", recipe, "--json")
    assert same.code == 0, same.err
    assert same.json()["decision"] == "ACCEPT"
    changed = tiny.lmi("verify", stale, "--against", before, "--recipe", recipe)
    assert changed.code == 5, changed.err
    assert "REGRESSION" in changed.err


def test_a_fault_in_packaged_weights_is_caught_and_its_layer_named(tiny: Tiny, stale: Path) -> None:
    """The whole way: the packaged loader, the shipped gates, the layers."""
    recipe = tiny.lmi.home / "tiny.yaml"
    ended = tiny.lmi("verify", stale, "--against", recipe, "--explain", "--json")
    assert ended.code == 5, ended.err
    verdict = json.loads(ended.out.splitlines()[0])
    assert verdict["decision"] == "REGRESSION"
    assert "weights" in {area["name"] for area in verdict["areas"]}
    assert verdict["layers"]["first"] == "model.layers.1"
    (worst, *_) = verdict["layers"]["tensors"]
    assert worst["name"] == "model.layers.1.mlp.down_proj.weight"
    assert worst["change"] == pytest.approx(0.01, rel=0.05)


def test_a_recipes_task_is_in_the_verdict_the_table_and_junit(tiny: Tiny, tmp_path: Path) -> None:
    lmi, model = tiny.in_another_home(tmp_path), tmp_path / "model"
    shutil.copytree(tiny.lmi.home / "model", model)
    recipe = write_recipe(tmp_path / "tasked.yaml", "./model")
    loose = ("--set", "verify.gates.kl_max=0.5")
    ended = lmi(recipe, "--set", TASK, *loose, "--junit", tmp_path / "out.xml", "--json")
    assert ended.code == 0, ended.err
    assert "task:plain-facts-v1, points lost" in ended.err
    assert "loosened by the recipe: kl_max" in ended.err
    shown = lmi("show", ended.json()["artifact"], "--json").json()
    (verdict,) = [
        each["predicate"] for each in shown["statements"] if ":verdict:" in each["predicateType"]
    ]
    (task,) = verdict["tasks"]
    assert (task["questions"], task["lost"], task["gained"]) == (6, 0, 0)
    assert [each["metric"] for each in verdict["checks"] if each["loosened"]] == ["kl_max"]
    cases = ET.parse(tmp_path / "out.xml").findall(".//testcase")  # noqa: S314 - our own file
    assert {"decision", "kl_max", "task:plain-facts-v1"} <= {case.get("name") for case in cases}
    again = lmi("verify", ended.json()["artifact"], "--against", recipe, "--json")
    assert again.json()["tasks"] == []  # the file itself asks for none


def other_prompts(folder: Path) -> None:
    header = json.loads((folder / "outputs.json").read_bytes())
    header["prompts_digest"] = f"sha256:{'0' * 64}"
    (folder / "outputs.json").write_text(json.dumps(header), encoding="utf-8")


def wrong_vocabulary(folder: Path) -> None:
    header = json.loads((folder / "outputs.json").read_bytes())
    header["vocab_size"] += 1
    (folder / "outputs.json").write_text(json.dumps(header), encoding="utf-8")


def truncated(folder: Path) -> None:
    path = folder / "outputs.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def not_a_number(folder: Path) -> None:
    arrays: Arrays = load_file(folder / "outputs.safetensors")
    arrays["001.forced_logits"][0, 0] = np.nan
    save_file(arrays, folder / "outputs.safetensors")


@pytest.mark.parametrize(
    ("damage", "decision", "said"),
    [
        (other_prompts, "INFEASIBLE", "made from other prompts"),
        (wrong_vocabulary, "INFEASIBLE", "vocabulary of"),
        (truncated, "INFEASIBLE", "outputs.safetensors"),
        (not_a_number, "ANOMALOUS", "NaN or infinity"),
    ],
)
def test_bad_outputs_are_named_and_publish_nothing(
    tiny: Tiny, tmp_path: Path, damage: Callable[[Path], None], decision: str, said: str
) -> None:
    """As a build meets them: the candidate's outputs in the cache are not what they should be."""
    recipe, lmi = tiny.lmi.home / "tiny.yaml", Lmi(home=tmp_path)
    needed = {"model", "reference", "compile", "weights", "package", "candidate"}
    for step in tiny.lmi("plan", recipe, "--json").json()["steps"]:
        if step["name"] in needed:
            kept = Path("cache", "steps", step["key"])
            shutil.copytree(tiny.lmi.home / kept, tmp_path / kept)
    damage(step_out(lmi, recipe, "candidate"))
    ended = lmi(recipe)
    assert ended.code == 5, ended.err
    assert decision in ended.err
    assert said in ended.err
    assert lmi.artifacts() == []


def test_a_gate_on_an_unknown_metric_is_exit_2_with_the_nearest_name(tiny: Tiny) -> None:
    ended = tiny.lmi("plan", tiny.lmi.home / "tiny.yaml", "--set", "verify.gates.kl_maks=1")
    assert ended.code == 2
    assert "kl_max" in ended.err

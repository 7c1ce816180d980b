"""Many recipes at once, as a user meets it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from lmi import Lmi

pytestmark = pytest.mark.slow

STEPS = ("model", "reference", "compile", "package", "candidate", "judge", "proof")


def recipe(lmi: Lmi, name: str, extra: str = "", toolchain: str = "null") -> Path:
    folder = lmi.home / "recipes"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(
        f"apiVersion: lmi-compile/v1\nname: {name}\nmodel: {{id: {name.partition('-')[0]}}}\n"
        f'backend: "null"\ntoolchain: "{toolchain}"\ntarget: {{cpu: x86-64-v2}}\n'
        f"shapes: {{max_input_len: 16, max_seq_len: 32}}\n{extra}",
        encoding="utf-8",
    )
    return path


def states(report: dict[str, Any]) -> dict[str, str]:
    return {build["name"]: build["state"] for build in report["builds"]}


def test_steps_that_builds_share_run_once_and_a_second_run_runs_nothing(lmi: Lmi) -> None:
    recipe(lmi, "one", "matrix: {dtype: [float32, float16], shapes.max_batch_size: [1, 2]}\n")
    recipe(lmi, "two")
    planned = lmi("matrix", "recipes", "--dry-run", "--json")
    assert planned.code == 0, planned.err
    assert "5 builds: 30 steps to do, 19 different ones" in planned.err
    assert set(states(planned.json()).values()) == {"to do"}
    assert lmi.finished() == set()

    ran = lmi("matrix", "recipes", "--jobs", "2", "--json")
    assert ran.code == 0, ran.err
    report = ran.json()
    assert set(states(report).values()) == {"built"}
    assert {build["decision"] for build in report["builds"]} == {"ACCEPT"}
    one = [build for build in report["builds"] if build["name"].startswith("one")]
    assert len(one) == 4
    assert ran.err.count(": model\n") == 2  # one for each model, not one for each build
    assert ran.err.count(": package\n") == 3
    alone = lmi("recipes/two.yaml", "--json").json()
    (two,) = [build for build in report["builds"] if build["name"] == "two"]
    assert (alone["artifact"], alone["plan_key"]) == (two["artifact"], two["plan_key"])

    again = lmi("matrix", "recipes", "--json").json()
    assert set(states(again).values()) == {"cached"}
    assert len(lmi.artifacts()) == 5


def test_part_of_it_fails_and_the_rest_is_built(lmi: Lmi) -> None:
    recipe(lmi, "good")
    recipe(lmi, "unknown", toolchain="nul")
    (lmi.home / "recipes" / "broken.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    ended = lmi("matrix", "recipes", "--json")
    assert ended.code == 9
    assert states(ended.json()) == {"broken": "invalid", "good": "built", "unknown": "infeasible"}
    assert "did you mean null" in ended.err
    assert [name.partition("@")[0] for name in lmi.artifacts()] == ["good"]


def test_a_model_that_does_not_fit_is_infeasible_and_says_why(lmi: Lmi) -> None:
    name = "llama-2-70b-float16-tp8-p4d.24xlarge"
    sets = ("--set", "shapes.max_seq_len=4000000", "--set", "shapes.max_input_len=3999999")
    ended = lmi("matrix", name, *sets, "--dry-run", "--json")
    assert ended.code == 9
    (build,) = ended.json()["builds"]
    assert build["state"] == "infeasible"
    assert "does not fit" in build["reason"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_130_and_the_next_run_goes_on(
    lmi: Lmi, number: signal.Signals
) -> None:
    recipe(lmi, "one", "matrix: {shapes.max_batch_size: [1, 2, 3]}\n")
    process = lmi.start("matrix", "recipes", "--jobs", "2")
    for line in process.stderr or ():
        if ": compile:" in line:
            break
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted" in err
    before = lmi.finished()
    assert before
    ended = lmi("matrix", "recipes", "--json")
    assert ended.code == 0, ended.err
    assert before < lmi.finished()
    assert not list((lmi.home / "cache" / "staging").iterdir())


def test_fail_fast_stops_the_rest(lmi: Lmi) -> None:
    recipe(lmi, "bad", "publish: {registry: file-of-no-registry}\n")
    recipe(lmi, "good")
    (lmi.home / "file-of-no-registry").write_text("a file where a folder should be")
    ended = lmi("matrix", "recipes/bad.yaml", "recipes/good.yaml", "--fail-fast", "--json", "-j1")
    assert ended.code == 9, ended.err
    assert states(ended.json()) == {"bad": "failed", "good": "cancelled"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("matrix", "recipes", "--select", "name=nothing"), "no recipe is selected"),
        (("matrix", "recipes", "--limit", "gpus=2"), "--limit gpus=2"),
        (("matrix", "no-such-recipe"), "no-such-recipe"),
        (("matrix",), "Missing argument"),
    ],
    ids=str,
)
def test_bad_words_are_exit_2(lmi: Lmi, arguments: tuple[str, ...], said: str) -> None:
    recipe(lmi, "one")
    ended = lmi(*arguments)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_a_report_that_has_no_place_is_said_before_anything_runs(lmi: Lmi) -> None:
    recipe(lmi, "one")
    ended = lmi("matrix", "recipes", "--junit", "nowhere/junit.xml")
    assert (ended.code, "nowhere is no folder" in ended.err) == (8, True), ended.err
    assert lmi.finished() == set()

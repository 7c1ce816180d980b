"""The whole flow on the null backend, as a user meets it."""

import json
from types import SimpleNamespace

import pytest
from lmi import Lmi

pytestmark = pytest.mark.slow
STEPS = ("model", "reference", "compile", "package", "candidate", "judge", "proof")


def test_a_recipe_becomes_a_published_verified_proven_artifact(
    lmi: Lmi, null: SimpleNamespace
) -> None:
    built = lmi("null-demo", "--json")
    assert built.code == 0, built.err
    result = built.json()
    assert result["artifact"] == null.built["artifact"]  # from another home's empty cache
    assert result["artifact"].startswith("null-demo@sha256:")
    assert (result["decision"], result["proof"], result["cached"]) == ("ACCEPT", "PROVEN", False)
    assert set(result["seconds"]) == set(STEPS)
    assert "PROVEN" in built.err
    assert "verdict: ACCEPT" in built.err

    again = lmi("null-demo", "--json").json()
    assert again == {**result, "cached": True, "seconds": {}}


def test_a_plan_names_every_step_with_its_key_and_runs_nothing(
    lmi: Lmi, null: SimpleNamespace
) -> None:
    plan = lmi("plan", "null-demo", "--json").json()
    assert [step["name"] for step in plan["steps"]] == list(STEPS)
    for step in plan["steps"]:
        assert len(step["key"]) == 64
        assert {"call", "params", "env", "where", "needs"} <= set(step)
    assert lmi.finished() == set()
    assert null.built["plan_key"] == plan["plan_key"]
    assert null.lmi.finished() == {step["key"] for step in plan["steps"]}


def test_serve_time_knobs_change_the_artifact_and_run_no_step(after_null: Lmi) -> None:
    lmi = after_null
    plain = lmi("null-demo", "--json").json()
    tuned = lmi("null-demo", "--json", "--set", "runtime.predict_timeout=240").json()
    assert tuned["plan_key"] == plain["plan_key"]
    assert tuned["artifact"] != plain["artifact"]
    assert tuned["seconds"] == {}
    manifest = lmi("show", tuned["artifact"], "--json").json()["manifest"]
    assert manifest["recipe"]["runtime"] == {"predict_timeout": 240}
    assert lmi("null-demo", "--json").json()["artifact"] == plain["artifact"]


def test_a_bad_gate_is_the_recipes_fault_before_anything_runs(lmi: Lmi) -> None:
    ended = lmi("plan", "smollm2-135m-instruct-cpu", "--set", "verify.gates.kl_maen=1")
    assert ended.code == 2
    assert "kl_mean" in ended.err


def test_until_stops_there_and_publishes_nothing(lmi: Lmi) -> None:
    ended = lmi("null-demo", "--until", "compile", "--json").json()
    assert ended["artifact"] is None
    assert set(ended["seconds"]) == {"model", "compile"}
    assert lmi.artifacts() == []
    wrong = lmi("null-demo", "--until", "complie")
    assert wrong.code == 3
    assert "compile" in wrong.err


def test_consumers_list_show_pull_and_verify(after_null: Lmi) -> None:
    lmi = after_null
    reference = lmi("null-demo").out.strip()
    assert lmi.artifacts() == [reference]
    shown = lmi("show", "null-demo").out.splitlines()
    assert "verdict      ACCEPT" in shown
    assert {"provenance   attached", "test-result  PASSED"} <= set(shown)
    pulled = lmi.home / "pulled"
    assert lmi("pull", "null-demo", pulled).code == 0
    assert lmi("pull", "null-demo", pulled, "--json").json()["up_to_date"] is True
    assert lmi("verify", pulled).code == 0
    assert lmi("verify", "null-demo", "--against", "null-demo").code == 0
    assert lmi("prove", pulled).code == 0
    archive = lmi.home / "model.tar.gz"
    assert lmi("pull", "null-demo", archive, "--layout", "tar.gz").code == 0
    assert archive.read_bytes()[:2] == b"\x1f\x8b"

    (pulled / "table.dat").write_bytes(b"x" * 4096)
    broken = lmi("verify", pulled)
    assert broken.code == 10
    assert "table.dat" in broken.err


@pytest.mark.parametrize(
    ("sin", "said"),
    [
        ("import subprocess; subprocess.run(['/usr/bin/gcc', '--version'])", "gcc"),
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "127.0.0.1"),
        ("import os; open(os.path.expanduser('~/note'), 'w').close()", "note"),
    ],
    ids=["compiler", "network", "write"],
)
def test_a_handler_that_compiles_connects_or_writes_is_exit_6(
    after_null: Lmi, sin: str, said: str
) -> None:
    lmi = after_null
    tree = lmi.home / "tree"
    lmi("pull", "null-demo", tree)
    handler = tree / "model.py"
    handler.write_text(
        handler.read_text().replace(
            "    request = ",
            f"    try:\n        {sin}\n    except OSError:\n        pass\n    request = ",
        )
    )
    ended = lmi("prove", tree)
    assert ended.code == 6, ended.err
    assert said in ended.err
    assert "PROVEN" not in ended.err


def test_a_served_file_that_is_gone_or_short_is_seen_on_a_cache_hit(after_null: Lmi) -> None:
    lmi = after_null
    tree = lmi.home / lmi("null-demo", "--json").json()["path"]
    table = tree / "table.dat"
    table.chmod(0o644)
    table.write_bytes(b"short")
    ended = lmi("null-demo")
    assert ended.code == 10
    assert "table.dat" in ended.err


def test_verify_on_a_cache_hit_rehashes_every_file(after_null: Lmi) -> None:
    lmi = after_null
    tree = lmi.home / lmi("null-demo", "--json").json()["path"]
    table = tree / "table.dat"
    table.chmod(0o644)
    table.write_bytes(bytes(4096))
    assert lmi("null-demo").code == 0
    ended = lmi("null-demo", "--verify")
    assert ended.code == 10
    assert "table.dat" in ended.err


def test_several_recipes_give_one_object_a_line_and_9_when_part_failed(after_null: Lmi) -> None:
    lmi = after_null
    ended = lmi("null-demo", "no-such-recipe", "--json")
    good, bad = map(json.loads, ended.out.splitlines())
    assert good["decision"] == "ACCEPT"
    assert bad["exit_code"] == 2
    assert ended.code == 9


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("no-such-recipe",), 2, "no-such-recipe"),
        (("null-dem",), 2, "null-demo"),
        (("null-demo", "--set", "toolchain=nul"), 2, "null"),
        (("null-demo", "--set", "toolchain=aoti-torch-2.13"), 3, "aoti"),
        (("null-demo", "--set", "backend=neuron"), 3, "neuron"),
        (("show", "nothing"), 10, "nothing"),
        (("pull", "nothing", "there"), 10, "nothing"),
        (("prove", "nothing"), 10, "nothing"),
        (("--no-such-option",), 2, "no-such-option"),
        (("list", "--registry", "gs://bucket/prefix"), 8, "gs://bucket/prefix"),
    ],
    ids=str,
)
def test_bad_words_get_a_clear_error_and_the_right_exit_code(
    lmi: Lmi, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended = lmi(*arguments)
    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_why_names_the_field_that_differs(after_null: Lmi) -> None:
    lmi = after_null
    reasons = lmi("cache", "why", "null-demo", "--set", "shapes.max_input_len=8").out
    assert "compile: differs from" in reasons
    assert "run.params.max_input_len: 16 -> 8" in reasons
    assert "model: finished" in reasons
    status = lmi("cache", "status", "--json").json()
    assert {name: found["count"] for name, found in status["steps"].items()} == dict.fromkeys(
        STEPS, 1
    )

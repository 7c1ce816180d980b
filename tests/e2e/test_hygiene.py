"""Full and read-only disks, locks of the dead, pruning: the cache as a machine's owner meets it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lmi import Lmi, Tiny, write_recipe

pytestmark = pytest.mark.slow
STEPS = (
    "fetch",
    "model",
    "reference",
    "compile",
    "weights",
    "package",
    "candidate",
    "judge",
    "proof",
)


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    tmpfs = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(tmpfs, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607 - any umount


@pytest.mark.parametrize("size", ["8k", "64k", "128k"])
def test_a_full_disk_ends_cleanly_and_says_what_to_do(lmi: Lmi, size: str) -> None:
    with mounted(lmi.home / "cache", size):
        ended = lmi("null-demo", "--json")
        assert ended.code == 8, ended.err
        assert "cache prune" in ended.err or "--cache-dir" in ended.err
        assert lmi.artifacts() == []
        for key in lmi.finished():
            assert (lmi.home / "cache" / "steps" / key / "step.json").stat().st_size > 0
        subprocess.run(
            ["mount", "-o", "remount,size=64m", str(lmi.home / "cache")],  # noqa: S607 - any mount
            check=True,
        )
        assert lmi("null-demo").code == 0
        assert not list((lmi.home / "cache" / "staging").iterdir())


@pytest.mark.chaos  # minutes: it compiles
def test_a_disk_that_fills_up_in_a_compile_is_the_machines_fault(
    tiny: Tiny, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "full.yaml", str(tiny.lmi.home / "model"), max_batch_size=2)
    lmi = Lmi(home=tmp_path)
    with mounted(tmp_path / "cache", "3m"):
        ended = lmi(recipe)
        assert ended.code == 8, ended.err
        assert "cache prune" in ended.err
        assert "full" in ended.err or "No space left" in ended.err


def test_a_read_only_cache_serves_what_it_has_and_refuses_the_rest(lmi: Lmi) -> None:
    with mounted(lmi.home / "cache", "64m"):
        assert lmi("null-demo").code == 0
        remount = ["mount", "-o", "remount,ro", str(lmi.home / "cache")]
        subprocess.run(remount, check=True)
        hit = lmi("null-demo", "--json")
        assert hit.code == 0, hit.err
        assert hit.json()["cached"] is True
        other = lmi("null-demo", "--set", "shapes.max_input_len=8")
        assert other.code == 8
        assert "--cache-dir" in other.err
        matrix = lmi("matrix", "null-demo", "--set", "shapes.max_input_len=8", "--json")
        assert matrix.code == 9, matrix.err
        assert matrix.json()["builds"][0]["error"]["kind"] == "EnvironmentFault"
        pruned = lmi("cache", "prune", "--older-than", "1d", "--delete")
        assert pruned.code == 8


@pytest.mark.chaos  # minutes: nine builds
@pytest.mark.parametrize("step", STEPS)
def test_kill_9_in_an_aoti_step_resumes_and_repeats_nothing(
    tiny: Tiny, tmp_path: Path, step: str
) -> None:
    """The compiled graphs come from the tiny build, but where the kill is in that very step."""
    lmi = Lmi(home=tmp_path)
    planned = tiny.lmi("plan", tiny.lmi.home / "tiny.yaml", "--json").json()["steps"]
    keys = {one["name"]: one["key"] for one in planned}
    folder = tmp_path / "cache" / "steps"
    folder.mkdir(parents=True)
    before = STEPS[: STEPS.index(step)]
    for name in before:
        source = tiny.lmi.home / "cache" / "steps" / keys[name]
        subprocess.run(["cp", "-a", str(source), str(folder)], check=True)  # noqa: S607 - any cp
    process = lmi.start(tiny.lmi.home / "tiny.yaml")
    for line in process.stderr or ():
        if f"] {step}" in line:
            break
    time.sleep(0.4)
    process.kill()
    process.communicate()
    assert lmi.finished() == {keys[name] for name in before}
    assert lmi.artifacts() == []
    assert nobody_works_in(tmp_path)
    if step == "compile":
        return  # compiling again is the tiny build's own test; half a minute each time
    if step in {"fetch", "model", "reference"}:
        source = tiny.lmi.home / "cache" / "steps" / keys["compile"]
        subprocess.run(["cp", "-a", str(source), str(folder)], check=True)  # noqa: S607 - any cp
    resumed = lmi(tiny.lmi.home / "tiny.yaml", "--json")
    assert resumed.code == 0, resumed.err
    result = resumed.json()
    assert set(result["seconds"]) == set(STEPS[STEPS.index(step) :]) - {"compile"}
    assert result["artifact"] == tiny.built["artifact"]
    assert not list((tmp_path / "cache" / "staging").iterdir())


def nobody_works_in(home: Path, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        argv = ["ps", "-eo", "args="]
        found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        if not any(str(home) in line and "ps -eo" not in line for line in found.splitlines()):
            return True
        time.sleep(0.05)
    return False


def test_a_matrix_that_is_killed_leaves_nobody_behind_and_goes_on(lmi: Lmi) -> None:
    (lmi.home / "recipe.yaml").write_text(
        "apiVersion: lmi-compile/v1\nname: many\nmodel: {id: here}\n"
        'backend: "null"\ntoolchain: "null"\ntarget: {cpu: x86-64-v2}\n'
        "shapes: {max_input_len: 16, max_seq_len: 32}\n"
        "matrix: {shapes.max_batch_size: [1, 2, 3]}\n",
        encoding="utf-8",
    )
    process = lmi.start("matrix", "recipe.yaml", "--jobs", "2")
    for line in process.stderr or ():
        if ": compile\n" in line:
            break
    process.kill()
    process.communicate()
    assert nobody_works_in(lmi.home)
    before = lmi.finished()
    ended = lmi("matrix", "recipe.yaml", "--json")
    assert ended.code == 0, ended.err
    assert before < lmi.finished()
    assert {build["state"] for build in ended.json()["builds"]} == {"built"}


def test_prune_says_what_would_go_and_then_does_it(lmi: Lmi) -> None:
    lmi("null-demo")
    asked = lmi("cache", "prune", "--max-size", "0b", "--json").json()
    assert len(asked["steps"]) == 7
    assert len(lmi.finished()) == 7
    done = lmi("cache", "prune", "--max-size", "0b", "--delete", "--json").json()
    assert done["kept"] == 0
    assert lmi.finished() == set()
    assert lmi("null-demo", "--json").json()["cached"] is True
    wrong = lmi("cache", "prune", "--older-than", "soon")
    assert wrong.code == 2
    assert "--older-than soon" in wrong.err


def test_a_log_is_bounded_with_its_beginning_and_its_end(lmi: Lmi) -> None:
    from lmi_compile.executors.local import run_step  # noqa: PLC0415 - light until here
    from lmi_compile.step import Argv, Step  # noqa: PLC0415 - as above
    from lmi_compile.workspace import Workspace  # noqa: PLC0415 - as above

    script = "i=0; echo first; head -c 60000000 /dev/zero | tr '\\0' 'x' | fold -w 1000; echo last"
    staging = Workspace(lmi.home / "cache").stage("a" * 64)
    heard: list[int] = []
    step = Step(name="talks", run=Argv(argv=("sh", "-c", script)))
    run_step(step, {}, staging, lambda text: heard.append(len(text)))
    text = staging.log.read_bytes()
    assert len(text) < 40 << 20
    assert text.startswith(b"first\n")
    assert text.endswith(b"last\n")
    assert b"bytes left out" in text
    assert len(heard) > 50_000


def test_the_record_of_a_step_is_whole(lmi: Lmi) -> None:
    lmi("null-demo")
    for key in lmi.finished():
        record = json.loads((lmi.home / "cache" / "steps" / key / "step.json").read_bytes())
        assert {"name", "seconds", "key"} <= set(record)

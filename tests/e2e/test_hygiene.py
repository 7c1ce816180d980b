"""Full and read-only disks, locks of the dead, pruning: the cache as a machine's owner meets it."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from lmi import Lmi, Tiny

from lmi_compile.errors import FULL

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


@pytest.mark.chaos  # it starts to compile
@pytest.mark.parametrize("step", ["compile", "weights"])
def test_a_disk_that_fills_up_in_a_step_is_the_machines_fault(
    tiny: Tiny, tmp_path: Path, step: str
) -> None:
    lmi = Lmi(home=tmp_path)
    with mounted(tmp_path / "cache", "32m"):
        keys = take_over(tiny, STEPS[: STEPS.index(step)], tmp_path)
        process = lmi.start(tiny.lmi.home / "tiny.yaml")
        wait_for_step(process, step)
        fill(tmp_path / "cache")
        _, said = process.communicate(timeout=600)
        assert process.returncode == 8, said
        assert "Traceback" not in said
        assert "cache prune" in said
        assert FULL in said
        assert set(keys) <= lmi.finished()
        assert nobody_works_in(tmp_path)
        (tmp_path / "cache" / "filler").unlink()
        again = lmi(tiny.lmi.home / "tiny.yaml", "--until", "reference", "--json")
        assert again.code == 0, again.err


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
    before = take_over(tiny, STEPS[: STEPS.index(step)], tmp_path)
    process = lmi.start(tiny.lmi.home / "tiny.yaml")
    wait_for_step(process, step)
    wait_until_it_works(tmp_path, before)
    process.kill()
    process.communicate()
    finished = lmi.finished()
    done = STEPS[: STEPS.index(step) + len(finished) - len(before)]  # a short step may have ended
    assert set(before) <= finished
    assert len(done) - STEPS.index(step) in {0, 1}
    assert lmi.artifacts() == []
    assert nobody_works_in(tmp_path)
    if step == "compile":
        return  # compiling again is the tiny build's own test; half a minute each time
    if step in {"fetch", "model", "reference"}:
        take_over(tiny, ("compile",), tmp_path)
    resumed = lmi(tiny.lmi.home / "tiny.yaml", "--json")
    assert resumed.code == 0, resumed.err
    result = resumed.json()
    assert set(result["seconds"]) == set(STEPS) - set(done) - {"compile"}
    assert result["artifact"] == tiny.built["artifact"]
    assert not list((tmp_path / "cache" / "staging").iterdir())


def take_over(tiny: Tiny, steps: tuple[str, ...], home: Path) -> list[str]:
    """Copy finished steps of the tiny build into another cache; returns their keys."""
    planned = tiny.lmi("plan", tiny.lmi.home / "tiny.yaml", "--json").json()["steps"]
    keys = [one["key"] for one in planned if one["name"] in steps]
    assert len(keys) == len(steps)
    folder = home / "cache" / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        source = tiny.lmi.home / "cache" / "steps" / key
        subprocess.run(["cp", "-a", str(source), str(folder)], check=True)  # noqa: S607 - any cp
    return keys


def wait_for_step(process: "subprocess.Popen[str]", step: str) -> None:
    """Until it says that it begins `step`."""
    for line in process.stderr or ():
        if line.rstrip().endswith(f"] {step}"):
            return
    pytest.fail(f"it never began {step}")


def wait_until_it_works(home: Path, before: list[str]) -> None:
    """Until the step that comes after those has a directory, or has ended already."""
    until = time.monotonic() + 60.0
    steps, staging = home / "cache" / "steps", home / "cache" / "staging"
    while not any(staging.glob("*/out")) and len(list(steps.iterdir())) == len(before):
        assert time.monotonic() < until, "the step has no directory"
        time.sleep(0.002)


def fill(disk: Path) -> None:
    """Take every byte that is left."""
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(1 << 16)):
            pass


def nobody_works_in(home: Path, seconds: float = 60.0) -> bool:
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


def test_prune_says_what_would_go_and_then_does_it(after_null: Lmi) -> None:
    lmi = after_null
    asked = lmi("cache", "prune", "--max-size", "0b", "--json").json()
    assert len(asked["steps"]) == 7
    assert len(lmi.finished()) == 7
    done = lmi("cache", "prune", "--max-size", "0b", "--delete", "--json").json()
    assert done["kept"] == 0
    assert lmi.finished() == set()
    assert lmi("null-demo", "--json").json()["cached"] is True
    wrong = lmi("cache", "prune", "--older-than", "soon")
    assert wrong.code == 2
    assert "'--older-than': soon" in wrong.err


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


def test_the_record_of_a_step_is_whole(null: SimpleNamespace) -> None:
    assert null.lmi.finished()
    for key in null.lmi.finished():
        record = json.loads((null.lmi.home / "cache" / "steps" / key / "step.json").read_bytes())
        assert {"name", "seconds", "key"} <= set(record)

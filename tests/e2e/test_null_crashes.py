"""Stopped anywhere, run again: it resumes, and nothing half-made was ever visible."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lmi import Lmi

pytestmark = pytest.mark.slow

STEPS = ("model", "reference", "compile", "package", "candidate", "judge", "proof")
_WITHIN = 120.0


def _wait_for(process: subprocess.Popen[str], words: str) -> None:
    for line in process.stderr or ():
        if words in line:
            return
    message = f"the process ended before it said {words!r}"
    raise AssertionError(message)


def _all_end(home: Path) -> bool:
    """Workers, and what a proof had sealed: who still writes is in the way of what resumes."""
    until = time.monotonic() + _WITHIN
    while time.monotonic() < until:
        found = subprocess.run(
            ["ps", "-eo", "pid=,args="],  # noqa: S607 - procps
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if not any(str(home) in line for line in found.splitlines()):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("step", STEPS)
def test_kill_9_in_a_step_loses_nothing_that_was_finished(lmi: Lmi, step: str) -> None:
    plan = {
        item["name"]: item["key"] for item in lmi("plan", "null-demo", "--json").json()["steps"]
    }
    process = lmi.start("null-demo")
    _wait_for(process, f"] {step}")
    process.kill()
    process.communicate()
    finished = lmi.finished()
    done = STEPS[: len(finished)]
    assert finished == {plan[name] for name in done}
    assert len(done) >= STEPS.index(step)  # it went on until the signal came
    assert lmi.artifacts() == [] or done == STEPS
    assert _all_end(lmi.home)

    resumed = lmi("null-demo", "--json").json()
    assert set(resumed["seconds"]) == set(STEPS) - set(done)
    assert not list((lmi.home / "cache" / "staging").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_130_and_it_resumes(lmi: Lmi, number: signal.Signals) -> None:
    process = lmi.start("null-demo")
    _wait_for(process, "] model")
    os.kill(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert lmi.artifacts() == []
    done = STEPS[: len(lmi.finished())]
    assert set(lmi("null-demo", "--json").json()["seconds"]) == set(STEPS) - set(done)


def test_two_processes_build_the_same_recipe_once(lmi: Lmi) -> None:
    both = [lmi.start("null-demo", "--json") for _ in range(2)]
    ended = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert len(lmi.artifacts()) == 1
    ran = [set(json.loads(out)["seconds"]) for out, _ in ended]
    assert ran[0].isdisjoint(ran[1])
    assert ran[0] | ran[1] == set(STEPS)
    assert len(lmi.finished()) == len(STEPS)


def test_a_full_or_read_only_cache_says_what_to_do(lmi: Lmi) -> None:
    cache = lmi.home / "cache"
    cache.write_text("a file where a folder should be", encoding="utf-8")
    ended = lmi("null-demo")
    assert ended.code == 8, ended.err
    assert "--cache-dir" in ended.err

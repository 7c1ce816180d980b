"""Nothing outlives a proof, where nobody can watch nothing is proven, and the step's output."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_compile.proof import step
from lmi_compile.proof.prove import prove
from lmi_compile.proof.record import parse

TreeMaker = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("watchable")


# ------------------------------------------------------------- nothing stays behind


def _processes(mark: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in command and int(folder.name) != os.getpid():
                found.append(command.decode(errors="replace"))
    return found


def _sealed(folder: Path) -> list[str]:
    return [command for command in _processes(str(folder)) if "driver.py" in command]


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


_HANG = (
    "import os, signal, time\n"
    "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    "if os.fork() == 0: os.setsid()\n"
    "while True: time.sleep(1)\n"
)


def test_a_tree_that_hangs_is_stopped_and_leaves_nothing(
    make_tree: TreeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    proof = prove(make_tree(_HANG), timeout_seconds=6)
    assert proof.decision == "REFUTED"
    (reason,) = proof.reasons
    assert reason.startswith("it did not answer: ")
    assert reason.endswith("stopped after 6 s")
    assert _soon(lambda: not _processes(str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_nothing_outlives_a_prover_that_is_killed(make_tree: TreeMaker, tmp_path: Path) -> None:
    tree = make_tree(_HANG)
    code = (
        "import pathlib, sys; from lmi_compile.proof.prove import prove;"
        "prove(pathlib.Path(sys.argv[1]), timeout_seconds=600)"
    )
    prover = subprocess.Popen(
        [sys.executable, "-c", code, str(tree)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        # strace, the guard, process 1, the driver and the driver's own child.
        assert _soon(lambda: len(_sealed(tmp_path)) >= 4)
    finally:
        prover.send_signal(signal.SIGKILL)
        prover.wait()
    assert _soon(lambda: not _sealed(tmp_path))


# ------------------------------------------------------------- where nobody can watch


def test_without_strace_the_proof_is_skipped(
    make_tree: TreeMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    proof = prove(make_tree())
    assert proof.decision == "SKIPPED"
    assert proof.reasons == ("strace is not on PATH; install the package strace",)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'strace: ptrace(PTRACE_TRACEME): Operation not permitted' >&2; exit 1", "PTRACE"),
        # One that starts the program and watches nothing must not pass for an observer.
        ('while [ "$1" != -- ]; do shift; done; shift; exec "$@"', "did not see the whole run"),
    ],
)
def test_an_observer_that_cannot_watch_is_skipped(
    make_tree: TreeMaker, tmp_path: Path, script: str, says: str
) -> None:
    fake = tmp_path / "strace"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    proof = prove(make_tree(), strace=str(fake), timeout_seconds=60)
    assert proof.decision == "SKIPPED"
    assert says in proof.reasons[0]


def test_an_observer_that_dies_proves_nothing(make_tree: TreeMaker) -> None:
    tree = make_tree("import time; open('/dev/zero').close(); time.sleep(600)")
    real = shutil.which("strace")
    assert real is not None
    killer = tree.parent / "strace"
    trace = 'while [ "$1" != -o ]; do shift; done; trace=$2'
    asked = 'until grep -q /dev/zero "$trace"; do sleep 0.05; done; kill -9 $!; wait $!'
    killer.write_text(f'#!/bin/sh\n"{real}" "$@" &\n{trace}\n{asked}\n')
    killer.chmod(0o755)
    proof = prove(tree, strace=str(killer), timeout_seconds=60)
    assert proof.decision == "SKIPPED", proof.line()
    assert "did not see the whole run" in proof.reasons[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes namespaces away, which needs root")
def test_where_no_namespace_is_to_be_had_the_proof_is_skipped(make_tree: TreeMaker) -> None:
    code = (
        "import pathlib, sys; from lmi_compile.proof.prove import prove;"
        "print(prove(pathlib.Path(sys.argv[1])).line())"
    )
    forbid = (
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-sys_admin "
        '--inh-caps=-sys_admin "$0" -c "$1" "$2"'
    )
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", forbid]
    said = subprocess.run(
        [*argv, sys.executable, code, str(make_tree())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.startswith("SKIPPED: the child cannot be sealed here: new namespaces: ")
    assert said.stderr == ""


# ------------------------------------------------------------- the step


def test_the_step_writes_the_proof_and_refuting_is_no_exception(
    make_tree: TreeMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = make_tree("answer = request['inputs']"), make_tree("return None", name="bad")
    for tree, decision in ((good, "PROVEN"), (bad, "REFUTED")):
        out = tmp_path / decision
        out.mkdir()
        params = {"prompt": "Hi", "max_new_tokens": 2, "timeout_seconds": 60}
        step.run(params, {"package": tree}, out)
        proof = parse(json.loads((out / step.OUTPUT).read_text()))
        assert proof.decision == decision
        assert decision in capsys.readouterr().out

"""Runs the driver on a tree in a sealed child process, watched by strace or not.

The seal is made by `enter.py`: own mount, network, process and IPC namespaces (in a user namespace
where this is not root), the whole file system read-only but for one scratch folder, the loopback
interface down unless a split model needs it, no PATH, an environment of a few variables.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.foreign import parse_json
from lmi_compile.proof.policy import Bounds
from lmi_compile.proof.tables import TRACED

_HERE = Path(__file__).resolve().parent
_STRACE_FLAGS = ("-f", "-q", "-y", "--decode-pids=pidns", "--seccomp-bpf", "-s", "256")
# What an interpreter may need to find its libraries, and nothing that steers a program.
_PASSED_ON = ("LD_LIBRARY_PATH",)
_LOG_KEPT = 8000
_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The folders of one run, on this machine; they are gone when its context ends.

    Attributes:
        tree: the served tree.
        base: holds all the others.
        ranks: how many further processes the tree says that it runs in.
    """

    tree: Path
    base: Path
    ranks: int = 0

    @property
    def bounds(self) -> Bounds:
        """What the policy must know; the marker is this run's own."""
        program = f"--run={self.base.name}"
        return Bounds(scratch=str(self.scratch), program=program, ranks=self.ranks)

    @property
    def scratch(self) -> Path:
        """The only folder the child may write to; its TMPDIR."""
        return self.base / "scratch"

    @property
    def mounted(self) -> Path:
        """Where the child sees the tree."""
        return self.base / "tree"

    @property
    def trace(self) -> Path:
        """Strace's output."""
        return self.base / "trace.txt"

    def environment(self) -> dict[str, str]:
        """The child's whole environment."""
        empty = str(self.base / "empty")
        return {
            "PATH": empty,
            "HOME": str(self.base / "home"),
            "TMPDIR": str(self.scratch),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(self.mounted),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a run went.

    Attributes:
        setup: what enter.py set up, or None where it never got that far.
        problem: why the child was never started, or None.
        stages: the driver's reports by stage name.
        timed_out: whether it was stopped.
        exit_code: the outermost process's.
        seconds: wall seconds.
        cpu_seconds: CPU seconds of everything, the observer included.
        log: the end of what was printed.
    """

    setup: Mapping[str, JSONValue] | None
    problem: str | None
    stages: Mapping[str, Mapping[str, JSONValue]]
    timed_out: bool
    exit_code: int
    seconds: float
    cpu_seconds: float
    log: str


def hand_over(before: Path, box: Sandbox, user: int | None) -> None:
    """Give a new run what an earlier one left in its scratch folder, as the new user's own.

    Args:
        before: a copy of the earlier run's scratch folder.
        box: the new run's folders.
        user: who it will run as, or None.
    """
    shutil.copytree(before, box.scratch, symlinks=True, dirs_exist_ok=True)
    if user is not None:
        box.base.chmod(0o711)
        for path in (box.scratch, *box.scratch.rglob("*")):
            os.chown(path, user, user, follow_symlinks=False)


@contextmanager
def sandbox(tree: Path, ranks: int = 0) -> Iterator[Sandbox]:
    """Makes the folders of one run, and removes them afterwards.

    Args:
        tree: the served tree's folder; it is neither changed nor copied.
        ranks: how many further processes it says that it runs in.
    """
    base = Path(tempfile.mkdtemp(prefix=f"lmi-proof-{uuid.uuid4().hex[:8]}-")).resolve()
    try:
        for name in ("tree", "scratch", "home", "empty"):
            (base / name).mkdir()
        yield Sandbox(tree=tree.resolve(), base=base, ranks=ranks)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def run(
    box: Sandbox,
    *,
    properties: Mapping[str, str],
    request: Mapping[str, JSONValue],
    strace: str | None,
    timeout_seconds: float,
    user: int | None = None,
) -> Ran:
    """Serves one request from the tree.

    Args:
        box: the run's folders, unused so far.
        properties: the model's properties as Python sees them.
        request: the request's JSON body.
        strace: the observer's path, or None for a run that nobody watches.
        timeout_seconds: after which everything in the sandbox is killed.
        user: another user id to run as, or None; only where no user namespace was needed.

    Returns:
        How it went; whatever the tree did is data, never an exception.
    """
    with (
        tempfile.TemporaryFile() as report,
        tempfile.TemporaryFile() as status,
        tempfile.TemporaryFile() as log,
    ):
        started = time.monotonic()
        lifeline, held = os.pipe()
        try:
            argv = _argv(box, report.fileno(), status.fileno(), lifeline, user, properties, request)
            process = subprocess.Popen(
                argv if strace is None else _watched(strace, box.trace, argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(report.fileno(), status.fileno(), lifeline),
                cwd="/",
            )
            os.close(lifeline)
            lifeline = -1
            timed_out = not _ended(process.pid, timeout_seconds)
        finally:
            os.close(held)  # the guard kills whatever still runs
            if lifeline >= 0:
                os.close(lifeline)
        exit_code, cpu_seconds = _reaped(process)
        setup, problem = _setup(status)
        text = _text(log)
        return Ran(
            setup=setup,
            problem=problem if setup is None else None,
            stages={str(line["stage"]): line for line in _lines(report)},
            timed_out=timed_out,
            exit_code=exit_code,
            seconds=time.monotonic() - started,
            cpu_seconds=cpu_seconds,
            log=text[-_LOG_KEPT:],
        )


def _argv(
    box: Sandbox,
    report: int,
    status: int,
    lifeline: int,
    user: int | None,
    properties: Mapping[str, str],
    request: Mapping[str, JSONValue],
) -> list[str]:
    driver = {
        "tree": str(box.mounted),
        "report": report,
        "started": "@STARTED@",
        "properties": properties,
        "request": request,
        "stand_in": str(_HERE / "djl_stand_in.py"),
    }
    enter = {
        "argv": [
            sys.executable,
            "-P",
            str(_HERE / "driver.py"),
            json.dumps(driver),
            box.bounds.program,
        ],
        "env": box.environment(),
        "cwd": str(box.mounted),
        "tree": [str(box.tree), str(box.mounted)],
        "scratch": str(box.scratch),
        "empty": str(box.base / "empty"),
        "status": status,
        "lifeline": lifeline,
        "loopback": box.ranks > 0,
        "user": user,
    }
    return [sys.executable, "-I", "-S", str(_HERE / "enter.py"), json.dumps(enter)]


def _watched(strace: str, trace: Path, argv: list[str]) -> list[str]:
    # `?`: a name this machine's kernel does not have is left out.
    names = ",".join(f"?{name}" for name in TRACED)
    watch = ["-e", f"trace={names}", "-e", "signal=none"]
    return [strace, *_STRACE_FLAGS, *watch, "-o", str(trace), "--", *argv]


def _ended(pid: int, timeout_seconds: float) -> bool:
    """Waits for a child without reaping it; says whether it ended in time."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_seconds * 1000))
    finally:
        os.close(descriptor)


def _reaped(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Gives the exit code and the CPU seconds of the child and all it waited for."""
    if not _ended(process.pid, _GRACE_SECONDS):
        process.kill()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def _setup(status: IO[bytes]) -> tuple[Mapping[str, JSONValue] | None, str | None]:
    lines = _lines(status)
    for line in lines:
        if "error" in line:
            return None, str(line["error"])
    return (lines[0], None) if lines else (None, None)


def _lines(file: IO[bytes]) -> list[dict[str, JSONValue]]:
    """The whole lines of JSON in a file; a line that was cut off is left out."""
    file.seek(0)
    found: list[dict[str, JSONValue]] = []
    for line in file.read().splitlines():
        with suppress(ValueError):
            value = parse_json(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def _text(file: IO[bytes]) -> str:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - 4 * _LOG_KEPT))
    return file.read().decode("utf-8", "backslashreplace")

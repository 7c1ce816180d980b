"""The local executor: a step is a child process in a process group of its own."""

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from lmi_compile.backends.aoti.runtime.threads import decide
from lmi_compile.errors import (
    FULL,
    CompileError,
    EnvironmentFault,
    OurBug,
    ToolFailed,
    from_failure,
)
from lmi_compile.executors.bounded_log import BoundedLog
from lmi_compile.executors.running import Running
from lmi_compile.step import Argv, Call, Step
from lmi_compile.workspace import Staging

# Variables that say where and how a step runs, never what it makes; nothing else is inherited.
_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "XDG_CONFIG_HOME", "NETRC", "HF_TOKEN", "HF_HOME",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
_LAST_LINES = 12
_LAST_WORDS = 1 << 16  # bytes of a log in which a known text is looked for
_PLACE = re.compile(r"\{(out|tmp|in:([A-Za-z0-9_-]+))\}")


def run_step(
    step: Step,
    inputs: Mapping[str, Path],
    staging: Staging,
    on_line: Callable[[str], None],
    *,
    offline: bool = False,
    running: Running | None = None,
) -> None:
    """Run `step` to its end.

    Args:
        step: what to run.
        inputs: the output directories of the steps it needs, by name.
        staging: where it runs and writes.
        on_line: called with each line that it prints.
        offline: package managers in the step may not use the network.
        running: lets another thread end it.

    Raises:
        CompileError: the step failed; the type says whose fault it was.
    """
    argv = _argv(step, inputs, staging)
    environment = _environment(step, inputs, staging, offline=offline)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=staging.root,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        what = f"step {step.name}: {argv[0]} is not installed here"
        raise EnvironmentFault(what, fix="install it, or use the toolchain's image") from error
    last: list[str] = []
    alarm = _Alarm(process, step.resources.timeout_seconds)
    try:
        held = (running or Running()).held(lambda: _kill(process))
        with held, alarm, BoundedLog(staging.log) as log:
            for line in process.stdout or ():
                log.write(line)
                text = line.decode(errors="replace").rstrip()
                last = [*last[1 - _LAST_LINES :], text]
                on_line(text)
        code = process.wait()
    finally:
        _end(process)
    if alarm.rang:
        what = f"step {step.name} was ended after {step.resources.timeout_seconds:g} s"
        raise ToolFailed(what, "\n".join(last), "it may take no longer; see its log")
    if code != 0:
        raise _failure(step, code, staging, last)
    _check_outputs(step, staging)


def _argv(step: Step, inputs: Mapping[str, Path], staging: Staging) -> list[str]:
    match step.run:
        case Argv(argv=argv):
            return [fill(part, inputs, staging) for part in argv]
        case Call(function=function, params=params):
            request = staging.root / "request.json"
            paths = {name: str(path) for name, path in inputs.items()} | dict(step.local_inputs)
            content = {
                "function": function,
                "params": dict(params),
                "inputs": paths,
                "out": str(staging.out),
                "failure": str(staging.root / "failure.json"),
            }
            request.write_text(json.dumps(content), encoding="utf-8")
            return [sys.executable, "-P", "-m", "lmi_compile.worker", str(request)]


def fill(text: str, inputs: Mapping[str, Path], staging: Staging) -> str:
    """`text` with the names of `lmi_compile.step.Argv` replaced by this machine's paths.

    Raises:
        OurBug: it names a step that this one does not need.
    """

    def path(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "out":
            return str(staging.out)
        if name == "tmp":
            return str(staging.root / "tmp")
        if match.group(2) not in inputs:
            what = f"{match.group()} names no step that is needed: {', '.join(inputs) or 'none'}"
            raise OurBug(what)
        return str(inputs[match.group(2)])

    return _PLACE.sub(path, text)


def _environment(
    step: Step, inputs: Mapping[str, Path], staging: Staging, *, offline: bool
) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    # More OpenMP threads than free cores spin against each other: seconds become minutes.
    kept.setdefault("OMP_NUM_THREADS", str(decide().count))
    fixed = {"TMPDIR": str(staging.root / "tmp"), "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1"}
    if offline:
        fixed["PIP_NO_INDEX"] = "1"
    elif step.name == "fetch":  # the one step that may ask a hub or a bucket, with credentials
        own = ("AWS_", "HF_")
        kept |= {name: value for name, value in os.environ.items() if name.startswith(own)}
        fixed["HF_HUB_OFFLINE"] = "0"
    asked = {name: fill(value, inputs, staging) for name, value in step.env.items()}
    return {**kept, **fixed, **asked}


class _Alarm:
    """Ends a process group when its time is up."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float | None) -> None:
        self.rang = False
        self._process = process
        self._timer = threading.Timer(seconds or 0.0, self._ring) if seconds else None

    def __enter__(self) -> None:
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()

    def _ring(self) -> None:
        self.rang = True
        _kill(self._process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the step's whole process group; a step that has finished has none left."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _failure(step: Step, code: int, staging: Staging, last: list[str]) -> CompileError:
    written = staging.root / "failure.json"
    if written.exists():
        return from_failure(json.loads(written.read_bytes()), None)
    known = _in_its_own_words(step, code, staging)
    if known is not None:
        return known
    if any(FULL in line for line in last):
        fix = "free some space (`lmi-compile cache prune`), or name another --cache-dir"
        return EnvironmentFault(f"step {step.name}: the disk is full", "\n".join(last), fix)
    what = f"step {step.name} failed: {_explain(code)}"
    return ToolFailed(what, "\n".join(last), "read its log; nothing of it was kept but that")


def _in_its_own_words(step: Step, code: int, staging: Staging) -> CompileError | None:
    """What the step's backend makes of the tool's last words, if it knows them."""
    module, _, function = step.explain.partition(":")
    if not module:
        return None
    with staging.log.open("rb") as log:
        log.seek(max(0, staging.log.stat().st_size - _LAST_WORDS))
        text = log.read().decode(errors="replace")
    explain = getattr(importlib.import_module(module), function)
    error: CompileError | None = explain(step.name, code, text)
    return error


def _explain(code: int) -> str:
    match code:
        case _ if code == -signal.SIGKILL or code == 128 + signal.SIGKILL:
            return "it was killed, most likely for want of memory (exit 137)"
        case _ if code == -signal.SIGILL:
            return "it used an instruction that this CPU lacks (SIGILL)"
        case _ if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        case _:
            return f"exit {code}"


def _check_outputs(step: Step, staging: Staging) -> None:
    missing = [name for name in step.outputs if not (staging.out / name).exists()]
    if missing:
        what = f"step {step.name} ended without an error but did not write {', '.join(missing)}"
        raise (OurBug if isinstance(step.run, Call) else ToolFailed)(what)

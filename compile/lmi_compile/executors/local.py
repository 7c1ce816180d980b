"""The local executor: a step is a child process in a process group of its own."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.aoti.runtime.threads import decide
from lmi_compile.errors import EnvironmentFault
from lmi_compile.executors.ending import check_outputs, failure, keep_log, out_of_time
from lmi_compile.executors.leash import leashed
from lmi_compile.executors.request import command, environment
from lmi_compile.executors.running import Running
from lmi_compile.step import Argv, Step
from lmi_compile.workspace import Staging

# Variables that say where and how a step runs, never what it makes; nothing else is inherited.
_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES",
    "NEURON_RT_VISIBLE_CORES", "XDG_CONFIG_HOME", "NETRC", "HF_TOKEN", "HF_HOME",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip


def run_step(
    step: Step,
    inputs: Mapping[str, Path],
    staging: Staging,
    on_line: Callable[[str], None],
    *,
    offline: bool = False,
    expected: Mapping[str, JSONValue] | None = None,
    running: Running | None = None,
) -> Mapping[str, JSONValue]:
    """Run `step` to its end.

    Args:
        step: what to run.
        inputs: the output directories of the steps it needs, by name.
        staging: where it runs and writes.
        on_line: called with each line that it prints.
        offline: package managers in the step may not use the network.
        expected: what this machine must be like, where the step was planned on another.
        running: lets another thread end it.

    Returns:
        where it ran.

    Raises:
        CompileError: the step failed; the type says whose fault it was.
    """
    argv = command(step, inputs, staging, expected=expected)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=staging.root,
            env=_environment(step, inputs, staging, offline=offline),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        what = f"step {step.name}: {argv[0]} is not installed here"
        raise EnvironmentFault(what, fix="install it, or use the toolchain's image") from error
    alarm = _Alarm(process, step.resources.timeout_seconds)
    try:
        held = (running or Running()).held(step.name, lambda: _kill(process))
        with held, alarm, _leash(step, process):
            last = keep_log(process.stdout or (), staging, on_line)
            code = process.wait()
            if alarm.rang:
                raise out_of_time(step, last)
            if code != 0:
                raise failure(step, code, staging, last)
    finally:
        _end(process)
    check_outputs(step, staging)
    return {"executor": "local"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The executor.

    Attributes:
        offline: package managers in a step may not use the network.
        running: lets another thread end its steps.
    """

    offline: bool = False
    running: Running = field(default_factory=Running)

    def __call__(
        self,
        step: Step,
        inputs: Mapping[str, Path],
        staging: Staging,
        on_line: Callable[[str], None],
    ) -> Mapping[str, JSONValue]:
        """Run `step`."""
        return run_step(step, inputs, staging, on_line, offline=self.offline, running=self.running)


def _leash(step: Step, process: subprocess.Popen[bytes]) -> contextlib.AbstractContextManager[None]:
    """A foreign tool does not notice that its parent is dead; a call does (`worker`)."""
    if isinstance(step.run, Argv):
        return leashed("group", str(process.pid))
    return contextlib.nullcontext()


def _environment(
    step: Step, inputs: Mapping[str, Path], staging: Staging, *, offline: bool
) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    if offline:
        kept["PIP_NO_INDEX"] = "1"
    asked = environment(step, inputs, staging, threads=decide().count)
    if step.network and not offline:  # the one step that may ask, with credentials
        own = ("AWS_", "HF_")
        kept |= {name: value for name, value in os.environ.items() if name.startswith(own)}
        asked["HF_HUB_OFFLINE"] = "0"
    return {**kept, **asked}


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

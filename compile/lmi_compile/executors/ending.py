"""How a step ended: its log as it came, whose fault a failure is, what it had to write."""

import contextlib
import importlib
import json
import signal
from collections.abc import Callable, Iterable

from lmi_compile.errors import (
    FULL,
    CompileError,
    EnvironmentFault,
    ExitCode,
    OurBug,
    ToolFailed,
    Transient,
    from_failure,
)
from lmi_compile.executors.bounded_log import BoundedLog
from lmi_compile.step import Call, Step
from lmi_compile.workspace import Staging

_LAST_LINES = 12
_LAST_WORDS = 1 << 16  # bytes of a log in which a known text is looked for


class MayPass(ToolFailed):
    """The tool failed with a code that it uses for its own bad luck, too."""


def keep_log(lines: Iterable[bytes], staging: Staging, on_line: Callable[[str], None]) -> list[str]:
    """Write each line to the step's log and pass it on; returns the last few."""
    last: list[str] = []
    with BoundedLog(staging.log) as log:
        for line in lines:
            log.write(line)
            text = line.decode(errors="replace").rstrip()
            last = [*last[1 - _LAST_LINES :], text]
            on_line(text)
    return last


def out_of_time(step: Step, last: list[str]) -> CompileError:
    """The step was ended because it took too long."""
    what = f"step {step.name} was ended after {step.resources.timeout_seconds:g} s"
    return ToolFailed(what, "\n".join(last), "it may take no longer; see its log")


def failure(step: Step, code: int, staging: Staging, last: list[str]) -> CompileError:
    """The error of a step whose process ended with `code`, which is not 0.

    Args:
        step: What ran.
        code: As `subprocess` has it: negative of a signal.
        staging: Where it ran; a worker leaves its own error there.
        last: The last lines of its log.
    """
    with contextlib.suppress(OSError, ValueError):  # absent, or cut short by a full disk
        return from_failure(json.loads(staging.failure.read_bytes()), None)
    known = _in_its_own_words(step, code, staging)
    if known is not None:
        return known
    full = [line for line in last if FULL in line]
    if full:
        fix = "free some space (`lmi-compile cache prune`), or name another --cache-dir"
        return EnvironmentFault(f"step {step.name}: the disk is full", full[-1].strip(), fix)
    what = f"step {step.name} failed: {_explain(code)}"
    if code == ExitCode.TRANSIENT:
        return Transient(what, "\n".join(last), "run the same command again")
    kind = MayPass if code in step.retry else ToolFailed
    return kind(what, "\n".join(last), "read its log; nothing of it was kept but that")


def check_outputs(step: Step, staging: Staging) -> None:
    """Hold that the step wrote what it had to.

    Raises:
        OurBug, ToolFailed: it did not.
    """
    missing = [name for name in step.outputs if not (staging.out / name).exists()]
    if missing:
        what = f"step {step.name} ended without an error but did not write {', '.join(missing)}"
        raise (OurBug if isinstance(step.run, Call) else ToolFailed)(what)


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
        case _ if code == -signal.SIGILL or code == 128 + signal.SIGILL:
            return "it used an instruction that this CPU lacks (SIGILL)"
        case _ if code < 0:
            return f"it was ended by {signal.Signals(-code).name}"
        case _:
            return f"exit {code}"

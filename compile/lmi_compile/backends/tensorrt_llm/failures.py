"""What TensorRT-LLM's tools say when they fail, and what it means."""

from lmi_compile.backends.tensorrt_llm.facts import failures
from lmi_compile.errors import CompileError, EnvironmentFault, ToolFailed, Unsupported

_KINDS: dict[str, type[CompileError]] = {
    kind.__name__: kind for kind in (EnvironmentFault, ToolFailed, Unsupported)
}
_KILLED = {-9, 137}
_LAST_LINES = 12
_WRONG_PLACE = "NOT WHAT THE TOOLCHAIN SAYS:"  # device_report.py's word


def explain(step: str, code: int, text: str) -> CompileError | None:
    """The error that a failed step's log stands for.

    Args:
        step: the step's name.
        code: its exit code.
        text: the end of its log.

    Returns:
        None when nothing in the log is known.
    """
    last = "\n".join(text.splitlines()[-_LAST_LINES:])
    if code in _KILLED:
        what = f"step {step} was killed (exit 137): the host ran out of memory"
        why = f"conversion and calibration hold the whole model in host memory; last words:\n{last}"
        fix = "take a larger instance, or fewer --workers: each holds its share at the same time"
        return ToolFailed(what, why, fix)
    if _WRONG_PLACE in text:
        found = text.rpartition(_WRONG_PLACE)[2].strip().partition("\n")[0]
        what = "this is not what the toolchain builds with"
        fix = "run it in the toolchain's image on the target's instance family: an engine loads on"
        return EnvironmentFault(what, found, f"{fix} no other GPU and with no other version")
    for entry in failures():
        if entry["text"] in text:
            line = next((each for each in text.splitlines() if entry["text"] in each), "")
            what = f"step {step} failed: {line.strip()[:300]}"
            return _KINDS[entry["kind"]](what, entry["why"], entry["fix"])
    return None

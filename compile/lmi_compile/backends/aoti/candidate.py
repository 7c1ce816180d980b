"""The candidate step: the packaged tree runs the reference's prompts through its own loader."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_compile.backends.aoti.progress import say
from lmi_compile.errors import VerificationFailed

_PROBE = "probe"
_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
)
_TOLD_LINES = 5


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `outputs.json` and `outputs.safetensors`, made by the tree in a child process.

    The child sees the tree as its only Python path beside the installed packages, so a file that
    the tree lacks cannot come from anywhere else.

    Args:
        params: `probe`, the tree's module that is run; `probe` when absent.
        inputs: `package` (the tree), and `reference` or `tasks` (`prompts.json`,
            `prompts.safetensors`).
        out: Receives the outputs.

    Raises:
        VerificationFailed: The probe failed; its last lines say why.
    """
    probe = f"lmi_aoti_runtime.{params.get('probe', _PROBE)}"
    tree = inputs["package"]
    asked = inputs["tasks"] if "tasks" in inputs else inputs["reference"]
    prompts = ["--prompts", str(asked), "--out", str(out)]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {
        "HOME": str(out),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": str(tree),
    }
    with subprocess.Popen(
        [sys.executable, "-m", probe, *prompts],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        last = _relay(child)
    if child.returncode != 0:
        raise VerificationFailed(
            "the packaged model could not run the verification's prompts",
            f"{_ending(child.returncode)}\n{last}",
            "see the step's log",
        )
    for name in ("outputs.json", "outputs.safetensors"):
        if not (out / name).is_file():
            what = f"the packaged probe ended well and wrote no {name}"
            raise VerificationFailed(what, last, "report it with the step's log")


def _relay(child: "subprocess.Popen[str]") -> str:
    """Prints what the child prints; returns its last lines."""
    lines: list[str] = []
    for line in child.stdout or ():
        say(line.rstrip())
        lines = [*lines, line.rstrip()][-_TOLD_LINES:]
    return "\n".join(lines)


def _ending(code: int) -> str:
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"

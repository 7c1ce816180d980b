"""Worker function: what can be said without the accelerator about compiling at start."""

import json
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.trtllm_container import recognised

_RECOGNISED = (
    "the container's recogniser takes the tree for engines; that serving it compiles nothing can be"
    " shown only on its GPU, which this step does not have"
)


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `proof.json`: SKIPPED, with what was checked instead.

    LMI compiles whatever its recogniser does not take for engines, so an unrecognised tree is
    refuted; a recognised one is only proven by starting it on its GPU.

    Args:
        params: `layout`.
        inputs: `package`.
        out: an empty directory.
    """
    layout = str(params["layout"])
    faults = recognised(inputs["package"], layout)
    report: dict[str, JSONValue] = {
        "decision": "REFUTED" if faults else "SKIPPED",
        "reasons": list(faults) or [_RECOGNISED],
    }
    (out / "proof.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

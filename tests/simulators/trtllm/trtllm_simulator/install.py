"""Makes a folder of executables named as the real ones, for one simulated machine."""

import json
import sys
from pathlib import Path
from typing import Any

ENTRY = Path(__file__).parent / "entry.py"
TOOLS = ("trtllm-build", "python3", "mpirun")


def install(folder: Path, **machine: Any) -> Path:
    """Writes the executables and `machine.json` into `folder`, to be put first on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        path = folder / tool
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{ENTRY}" "{folder}" {tool} "$@"\n',
            encoding="utf-8",
        )
        path.chmod(0o755)
    (folder / "machine.json").write_text(json.dumps(machine), encoding="utf-8")
    return folder

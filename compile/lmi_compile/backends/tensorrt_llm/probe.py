"""Worker function: puts the scripts that run where TensorRT-LLM is into one directory."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue

_SCRIPTS = Path(__file__).parent / "probes"


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `device_report.py` and `probe.py`.

    Args:
        params: `generation`, whose Python interface the probe speaks.
        inputs: none.
        out: an empty directory.
    """
    del inputs
    name = f"probe_{str(params['generation']).replace('.', '')}.py"
    shutil.copyfile(_SCRIPTS / name, out / "probe.py")
    shutil.copyfile(_SCRIPTS / "device_report.py", out / "device_report.py")

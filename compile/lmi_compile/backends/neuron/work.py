"""Worker functions that only write files: scripts for the toolchain, properties for DJL."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.properties import PROPERTIES_NAME, format_properties

SCRIPTS = Path(__file__).parent / "scripts"


def write_tools(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes the scripts that run in the toolchain's Python, and `request.json` for them.

    Args:
        params: `request`: what the scripts are asked, as JSON.
        inputs: none are read.
        out: receives the files.
    """
    del inputs
    for source in sorted(SCRIPTS.iterdir()):
        if source.suffix in {".py", ".sh"} and source.name != "__init__.py":
            shutil.copyfile(source, out / source.name)
    text = json.dumps(params["request"], indent=1, sort_keys=True)
    (out / "request.json").write_text(text + "\n", encoding="utf-8")


def write_properties(
    params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path
) -> None:
    """Writes the `serving.properties` that `partition` reads.

    Args:
        params: `properties`: text by name.
        inputs: none are read.
        out: receives the file.
    """
    del inputs
    given = params["properties"]
    named = (
        {str(key): str(value) for key, value in given.items()} if isinstance(given, Mapping) else {}
    )
    (out / PROPERTIES_NAME).write_bytes(format_properties(named))

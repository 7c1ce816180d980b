"""Worker function: the serving.properties that LMI's partition script reads."""

from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.properties import PROPERTIES_NAME, format_properties

_CALIBRATION = "{in:calibration}"


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes `serving.properties`.

    Args:
        params: `properties`, in order; `{in:calibration}` stands for that step's directory.
        inputs: `calibration`, where a property names it.
        out: an empty directory.
    """
    given = params["properties"]
    assert isinstance(given, Mapping)  # noqa: S101 - written by this backend's own plan
    filled = {
        name: str(value).replace(_CALIBRATION, str(inputs.get("calibration", "")))
        for name, value in given.items()
    }
    (out / PROPERTIES_NAME).write_bytes(format_properties(filled))

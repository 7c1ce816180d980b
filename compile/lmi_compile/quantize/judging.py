"""Worker function: the verdict on a checkpoint, by the ordinary gates."""

from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_verify.judging import run as judge


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Judges `checkpoint-candidate` against `reference`; see `lmi_verify.judging:run`."""
    sides = {"reference": inputs["reference"], "candidate": inputs["checkpoint-candidate"]}
    judge(params, sides, out)

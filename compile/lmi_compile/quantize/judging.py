"""Worker function: the verdict on a checkpoint, by the ordinary gates."""

from collections.abc import Mapping
from pathlib import Path

from lmi_verify.jsonread import JSONValue
from lmi_verify.judging import run as judge


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Judges a checkpoint's outputs; see `lmi_verify.judging:run`.

    Args:
        params: as there.
        inputs: `checkpoint-reference` and `checkpoint-candidate`.
        out: where `verdict.json` goes.
    """
    sides = {
        "reference": inputs["checkpoint-reference"],
        "candidate": inputs["checkpoint-candidate"],
    }
    judge(params, sides, out)

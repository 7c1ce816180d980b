"""How a verdict and a proof are shown to a person."""

import json
from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_compile.console import Console
from lmi_compile.proof.record import parse as parse_proof
from lmi_verify.verdict import TABLE_HEADER, from_json


def print_verdict(
    console: Console, verdict: Mapping[str, JSONValue], *, brief: bool = False
) -> None:
    """The verdict as a table: every check with what was measured, its limit and the result."""
    parsed = from_json(verdict)
    title = f"verdict: {parsed.summary}"
    if brief:
        console.line(title)
        return
    console.table(title, TABLE_HEADER, parsed.table_rows())


def print_proof(console: Console, proof: Mapping[str, JSONValue], *, brief: bool = False) -> None:
    """The proof in a line, its reasons if it was not given, and what the model answered."""
    parsed = parse_proof(proof)
    console.line(parsed.line())
    if brief:
        return
    for reason in parsed.reasons:
        console.line(f"  {reason}")
    if parsed.response:
        console.line(f"the served handler answered: {_generated_text(parsed.response)}")


def _generated_text(response: str) -> str:
    try:
        return json.dumps(json.loads(response)["generated_text"], ensure_ascii=False)
    except (ValueError, KeyError, TypeError):
        return response

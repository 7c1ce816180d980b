"""How a verdict and a proof are shown to a person.

What reads them whole is imported when they are shown whole: a cache hit shows a line of each.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.foreign import parse_json
from lmi_compile.console import Console

Told: TypeAlias = "tuple[str, Mapping[str, JSONValue] | Exception]"


def print_briefly(
    console: Console, verdict: Mapping[str, JSONValue], proof: Mapping[str, JSONValue]
) -> None:
    """What was found out when the artifact was made, a line each."""
    console.line(f"verdict: {verdict.get('summary', verdict.get('decision'))}")
    if proof:
        console.line(f"proof: {proof.get('decision')}")


def print_verdict(console: Console, verdict: Mapping[str, JSONValue]) -> None:
    """The verdict as a table: every check with what was measured, its limit and the result."""
    from lmi_verify.verdict import TABLE_HEADER, from_json  # noqa: PLC0415 - as said above

    parsed = from_json(verdict)
    console.table(f"verdict: {parsed.summary}", TABLE_HEADER, parsed.table_rows())


def print_layers(console: Console, found: Mapping[str, JSONValue]) -> None:
    """Layer by layer, how far the packaged weights' outputs are off, and the band of noise."""
    layers: Any = found["layers"]
    rows = [
        (
            each["name"],
            f"{each['error']:.3g}",
            f"{each['band']:.3g}",
            "" if each["error"] <= each["band"] else "OUTSIDE",
        )
        for each in layers
    ]
    first = found["first"]
    told = f"the first layer outside the noise band is {first}" if first else "no layer is outside"
    console.table(f"layers: {told}", ("layer", "error", "noise band", ""), rows)


def print_proof(console: Console, proof: Mapping[str, JSONValue]) -> None:
    """The proof in a line, its reasons if it was not given, and what the model answered."""
    from lmi_compile.proof.record import parse  # noqa: PLC0415 - as said above

    parsed = parse(proof)
    console.line(parsed.line())
    for reason in parsed.reasons:
        console.line(f"  {reason}")
    if parsed.response:
        console.line(f"the served handler answered: {_generated_text(parsed.response)}")


def write_junit(console: Console, path: Path | None, told: Sequence[Told]) -> None:
    """JUnit XML of builds: the verdict of each, or why there is none; no file without a path.

    Raises:
        EnvironmentFault: the file cannot be written.
    """
    if path is None:
        return
    from lmi_artifacts.files import replace_file  # noqa: PLC0415 - asked for
    from lmi_compile.errors import EnvironmentFault  # noqa: PLC0415 - as above
    from lmi_compile.pipeline import NotAccepted  # noqa: PLC0415 - as above
    from lmi_compile.report.junit import junit  # noqa: PLC0415 - as above
    from lmi_verify.verdict import Verdict, from_json  # noqa: PLC0415 - as above

    named: list[tuple[str, Verdict | str | None]] = []
    for name, each in told:
        verdict = each.verdict if isinstance(each, NotAccepted) else each
        if isinstance(verdict, Exception):
            named.append((name, str(verdict)))
        else:
            named.append((name, from_json(verdict) if verdict else None))
    try:
        replace_file(path, junit(named).encode())
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written", str(error)) from error
    console.line(f"{path}: written")


def _generated_text(response: str) -> str:
    try:
        return json.dumps(parse_json(response)["generated_text"], ensure_ascii=False)
    except (ValueError, KeyError, TypeError):
        return response

"""`lmi-compile doctor`: what is here, what is missing, what that blocks."""

from dataclasses import asdict
from itertools import groupby

import click

from lmi_compile.cli.options import settings_options, voice_options
from lmi_compile.console import Console
from lmi_compile.doctor import Finding, able, examine
from lmi_compile.errors import ExitCode
from lmi_compile.settings import Settings

_MARKS = {"ok": "ok     ", "missing": "MISSING", "note": "-      "}


@click.command()
@settings_options
@voice_options
def doctor(
    *,
    settings: Settings,
    console: Console,
) -> int:
    """Look at the environment, toolchains, places and credentials; change nothing.

    Exit 8 when the embedded backend cannot build, check and prove here.
    """
    findings = examine(settings)
    if console.as_json:
        console.json({"able": able(findings), "findings": [asdict(found) for found in findings]})
    else:
        for area, group in groupby(findings, key=lambda finding: finding.area):
            console.data(area)
            for finding in group:
                console.page(_shown(finding))
    console.line(
        "the embedded backend can build, check and prove here"
        if able(findings)
        else "something that every build needs is MISSING"
    )
    return ExitCode.OK if able(findings) else ExitCode.ENVIRONMENT


def _shown(finding: Finding) -> str:
    lines = [f"  {_MARKS[finding.state]}  {finding.name}: {finding.found}"]
    if finding.blocks:
        lines.append(f"           blocks: {finding.blocks}")
    if finding.fix:
        lines.append(f"           to do: {finding.fix}")
    return "\n".join(lines)

"""`lmi-compile explain`: the page of an error's code."""

import click

from lmi_compile.cli.options import voice_options
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode
from lmi_compile.explain import explained_codes, explanation


@click.command()
@click.argument("code", required=False)
@voice_options
def explain(code: str | None, *, console: Console) -> int:
    """Explain an error by its code (E401), all codes of an exit code (4), or list every code."""
    codes = _chosen(code)
    if not codes:
        raise click.UsageError(f"no error has the code {code!r}; `lmi-compile explain` lists them")
    pages = {found: explanation(found) for found in codes}
    if console.as_json:
        console.json(dict(pages))
    elif code is None:
        for page in pages.values():
            console.data(page.splitlines()[0].removeprefix("# "))
    else:
        console.page("\n".join(pages.values()).rstrip())
    return ExitCode.OK


def _chosen(word: str | None) -> tuple[str, ...]:
    everything = explained_codes()
    if word is None:
        return everything
    if word.isdigit():
        return tuple(code for code in everything if int(code[1:]) // 100 == int(word))
    return tuple(code for code in everything if code == word.upper())

"""`lmi-compile report`: an artifact's verdict as a page, as Markdown, as JUnit."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from lmi_artifacts.files import replace_file
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry
from lmi_artifacts.statement import VERDICT
from lmi_artifacts.tree import read_manifest
from lmi_compile.backend import remarks_on
from lmi_compile.cli.options import registry_of, settings_options, voice_options
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.settings import Settings
from lmi_verify.errors import Malformed
from lmi_verify.jsonread import Reader, parse_json
from lmi_verify.verdict import Verdict, from_json

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("subject", metavar="REF|DIR|VERDICT.JSON")
@click.option("--html", type=_FILE, metavar="FILE", help="One page with plots, self-contained.")
@click.option("--junit", type=_FILE, metavar="FILE", help="JUnit XML: a test case for each gate.")
@click.option("--markdown", type=_FILE, metavar="FILE", help="A summary (default: on stdout).")
@settings_options
@voice_options
def report(
    subject: str,
    *,
    html: Path | None,
    junit: Path | None,
    markdown: Path | None,
    settings: Settings,
    console: Console,
) -> int:
    """Show a verdict: an artifact's (REF or DIR), or that of a verdict.json.

    The exit code is 0 whatever the verdict says: `verify` and `build` judge, this shows.
    """
    name, content, notes = _read(subject, lambda: registry_of(settings))
    try:
        verdict, layers = from_json(content.value), _layers(content)
    except Malformed as error:
        raise click.UsageError(f"{subject} is no verdict: {error}") from error
    if html is not None:
        _write(console, html, _page(verdict, name, layers, notes))
    if junit is not None:
        from lmi_compile.report.junit import junit as as_junit  # noqa: PLC0415 - asked for

        _write(console, junit, as_junit([(name, verdict)]))
    if markdown is not None or not (html or junit or console.as_json):
        from lmi_compile.report.markdown import markdown as as_markdown  # noqa: PLC0415 - the same

        text = as_markdown(name, verdict, notes)
        if markdown is None:
            console.data(text.rstrip("\n"))
        else:
            _write(console, markdown, text)
    if console.as_json:
        files = {"html": html, "junit": junit, "markdown": markdown}
        written = {kind: str(path) for kind, path in files.items() if path is not None}
        told = {"subject": name, "decision": verdict.decision, "notes": list(notes)}
        console.json({**told, "written": {**written}})
    return ExitCode.OK


def _read(subject: str, registry: Callable[[], Registry]) -> tuple[str, Reader, Sequence[str]]:
    """What the argument means: its name, its verdict, and what else is known of an artifact."""
    path = Path(subject)
    if path.is_dir() and (path / "verdict.json").is_file():
        path /= "verdict.json"
    if path.is_file():
        try:
            raw = path.read_bytes()
            return _named_after(path.absolute().parent), Reader(parse_json(raw), "verdict"), ()
        except OSError as error:
            raise EnvironmentFault(f"{path} cannot be read", str(error)) from error
        except ValueError as error:
            raise click.UsageError(f"{path} is no verdict: it is not JSON") from error
    opened = registry()
    if path.is_dir():
        manifest = read_manifest(path)
        artifact = ArtifactRef(name=manifest.name, digest=manifest.digest)
    else:
        artifact = opened.resolve(subject)
        manifest = opened.manifest(artifact)
    said = [each for each in opened.statements(artifact) if each.predicate_type == VERDICT]
    if not said:
        raise click.UsageError(f"{artifact} has no verdict in {opened.url}")
    content = Reader(dict(said[-1].predicate), "verdict")
    return str(artifact), content, remarks_on(manifest.recipe)


def _named_after(folder: Path) -> str:
    """What a verdict.json is called: as its folder, or as the step whose output folder that is."""
    return folder.parent.name[:12] if folder.name == "out" else folder.name


def _layers(content: Reader) -> list[tuple[str, float, float]]:
    """What `verify --explain --json` adds to a verdict, if it did."""
    if "layers" not in content.entries():
        return []
    return [
        (each.get("name").text(), each.get("error").number(), each.get("band").number())
        for each in content.get("layers").get("layers").items()
    ]


def _page(
    verdict: Verdict,
    name: str,
    layers: list[tuple[str, float, float]],
    notes: Sequence[str],
) -> str:
    try:
        from lmi_compile.report.page import page  # noqa: PLC0415 - Jinja is imported for a page only
    except ImportError as error:
        what = "an HTML page needs Jinja2, which is not installed here"
        raise EnvironmentFault(what, str(error), "pip install 'lmi-compile[report]'") from error
    return page(verdict, name, layers, notes)


def _write(console: Console, path: Path, text: str) -> None:
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written", str(error)) from error
    console.line(f"{path}: written")

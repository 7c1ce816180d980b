"""`lmi-compile dashboard`: the history of matrix runs for people."""

from pathlib import Path

import click

from lmi_compile.cli.options import registry_of, settings_options, voice_options
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.matrix.history import read_runs
from lmi_compile.settings import Settings


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--runs", "most", type=click.IntRange(1, 1000), default=60, show_default=True,
              help="The newest so many.")  # fmt: skip
@settings_options
@voice_options
def dashboard(folder: Path, *, most: int, settings: Settings, console: Console) -> int:
    """Write static pages over the registry's history of matrix runs into FOLDER."""
    registry = registry_of(settings)
    try:
        from lmi_compile.report.dashboard import write_dashboard  # noqa: PLC0415 - loads jinja2
    except ModuleNotFoundError as error:
        what = f"the dashboard needs {error.name}"
        raise EnvironmentFault(what, fix="pip install 'lmi-compile[report]'") from error
    runs = read_runs(registry, most)
    try:
        index = write_dashboard(registry, runs, folder)
    except OSError as error:
        raise EnvironmentFault(f"{folder} cannot be written", str(error)) from error
    console.line(f"{len(runs)} runs of {registry.url}")
    console.answer({"page": str(index), "runs": len(runs)}, str(index))
    return ExitCode.OK

"""`lmi-compile init`: a first recipe that validates and plans."""

import re
import sys
from pathlib import Path
from typing import get_args

import click

from lmi_compile.cli.options import voice_options
from lmi_compile.console import Console
from lmi_compile.drafting import Draft, draft_recipe
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.feasibility.report import report
from lmi_compile.settings import load_settings
from lmi_recipes.model import Dtype, QuantizationMethod

_CPU = "x86-64-v3"


@click.command()
@click.option("--model", metavar="ID", help="Hub id, directory, s3:// or pypi://.")
@click.option("--for", "target", metavar="TARGET",
              help=f"An instance type, or a CPU level such as {_CPU}.")  # fmt: skip
@click.option("--name", help="The recipe's name (default: the model's and the target's).")
@click.option("--dtype", type=click.Choice(get_args(Dtype)), help="Default: the hardware's usual.")
@click.option("--quantization", type=click.Choice(get_args(QuantizationMethod)), default="none")
@click.option("--tensor-parallel-degree", type=click.IntRange(min=1),
              help="Default: the smallest that fits.")  # fmt: skip
@click.option("--max-batch-size", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--max-input-len", type=click.IntRange(min=1), default=384, show_default=True)
@click.option("--max-seq-len", type=click.IntRange(min=2), default=512, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where it is written (default: NAME.yaml; - is stdout).")  # fmt: skip
@voice_options
def init(
    *,
    model: str | None,
    target: str | None,
    name: str | None,
    output: Path | None,
    console: Console,
    **choices: object,
) -> int:
    """Write a recipe for a model and a target; what is not given is asked on a terminal.

    Nothing is written unless the recipe is valid and its plan fits; an existing file is kept.
    """
    model = model or _ask("model (hub id or directory)", "--model")
    target = target or (_ask("target", "--for", _CPU) if sys.stdin.isatty() else _CPU)
    name = name or _named(model, target)
    path = output or Path(f"{name}.yaml")
    if path.exists() and str(path) != "-":
        raise click.UsageError(f"{path} is there already; name another with --output")
    draft = Draft(name=name, model=model, target=target, **choices)  # type: ignore[arg-type]  # click has checked them
    drafted = draft_recipe(draft, path.absolute(), load_settings({}).cache_dir)
    _write(path, drafted.text)
    for line in report(drafted.preview.answer):
        console.line(line)
    for note in drafted.preview.notes:
        console.line(f"note: {note}")
    if str(path) != "-":
        console.line(f"{path}: written; next: lmi-compile {path}")
    if console.as_json:
        console.json({"recipe": str(path), "plan": drafted.preview.to_json()})
    return ExitCode.OK


def _named(model: str, target: str) -> str:
    """A name that recipes allow, of the model's last part and the target."""
    words = f"{Path(model).name}-{target.removeprefix('ml.')}".lower()
    return re.sub(r"[^a-z0-9._-]+", "-", words).strip("-._")


def _ask(what: str, option: str, default: str | None = None) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{option} is missing, and there is no terminal to ask on")
    return str(click.prompt(what, default=default, err=True))


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        sys.stdout.write(text)
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written", str(error)) from error

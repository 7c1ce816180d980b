"""The verb that asks what is served: invoke."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.foreign import parse_json
from lmi_compile.cli.options import endpoint_options, registry_of, settings_options, voice_options
from lmi_compile.client.invoking import Answer, invoke_all
from lmi_compile.client.retries import Retries
from lmi_compile.client.target import find_target, served
from lmi_compile.console import Console
from lmi_compile.errors import CompileError, ExitCode
from lmi_compile.settings import Settings


@click.command()
@click.argument("target", metavar="REF|URL|ENDPOINT")
@click.argument("prompts", nargs=-1, metavar="[PROMPT]...")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="One prompt a line.")  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(1), help="Of each answer.")
@click.option("--parameters", metavar="JSON", help="Further parameters of the LMI schema.")
@click.option("--stream/--no-stream", default=None, help="Default: stream for one prompt.")
@click.option("--concurrency", default=1, show_default=True, type=click.IntRange(1, 1024),
              help="Prompts at once.")  # fmt: skip
@click.option("--retries", default=6, show_default=True, type=click.IntRange(0, 100),
              help="Of each prompt.")  # fmt: skip
@endpoint_options
@settings_options
@voice_options
def invoke(
    target: str,
    prompts: tuple[str, ...],
    *,
    file: Path | None,
    max_new_tokens: int | None,
    parameters: str | None,
    stream: bool | None,
    concurrency: int,
    retries: int,
    timeout: float,
    region: str | None,
    component: str | None,
    settings: Settings,
    console: Console,
) -> int:
    """Ask an artifact (served here for the while), a URL or a SageMaker endpoint.

    429, 502, 503 and throttling are tried again, with jitter. Prompts come from the command line,
    from --file, or from standard input.
    """
    asked = _prompts(prompts, file)
    knobs = _parameters(parameters, max_new_tokens)
    registry = registry_of(settings)
    found = find_target(
        target, registry, timeout_seconds=timeout, region=region, component=component
    )
    streamed = len(asked) == 1 if stream is None else stream
    live = streamed and len(asked) == 1 and not console.as_json
    url = settings.registry or registry.url
    with served(found, url, settings.cache_dir) as place:
        answers = invoke_all(
            place,
            asked,
            knobs,
            stream=streamed,
            concurrency=concurrency,
            retries=Retries(times=retries),
            heard=_write if live else _ignore,
        )
        failed = _show(console, answers, live=live)
    if failed is not None:
        raise failed
    return ExitCode.OK


def _show(console: Console, answers: Iterator[Answer], *, live: bool) -> CompileError | None:
    """Print answers as they come; gives the first failure."""
    failed: CompileError | None = None
    for answer in answers:
        failed = failed or answer.error
        if console.as_json:
            console.json(answer.to_json())
        elif live:
            console.data("")
        elif answer.error is None:
            console.data(answer.text)
        else:
            console.error(answer.error)
    return failed


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _ignore(text: str) -> None:
    del text


def _prompts(given: tuple[str, ...], file: Path | None) -> list[str]:
    if given and file is not None:
        raise click.UsageError("give prompts on the command line or in --file, not both")
    if file is not None:
        try:
            found = file.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise click.UsageError(f"{file}: is not UTF-8: {error}") from None
    else:
        found = list(given) or [sys.stdin.read()]
    asked = [prompt for prompt in found if prompt.strip()]
    if not asked:
        raise click.UsageError("there is no prompt")
    return asked


def _parameters(text: str | None, max_new_tokens: int | None) -> dict[str, JSONValue]:
    found: dict[str, JSONValue] = {}
    if text is not None:
        try:
            found = parse_json(text)
        except ValueError as error:
            raise click.UsageError(f"--parameters: is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise click.UsageError("--parameters: must be a JSON object")
    if max_new_tokens is not None:
        found["max_new_tokens"] = max_new_tokens
    return found

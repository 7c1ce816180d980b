"""The verb that measures what is served: bench."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lmi_artifacts.foreign import parse_json
from lmi_artifacts.trust import now_text
from lmi_compile.bench.compare import compare as compare_runs
from lmi_compile.bench.prompts import make_prompts
from lmi_compile.bench.starts import Place, tree_of
from lmi_compile.bench.sweep import Asked, read_json, report, run_sweep, write_json
from lmi_compile.cli.options import endpoint_options, registry_of, settings_options, voice_options
from lmi_compile.client.target import Target, find_target
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode, VerificationFailed
from lmi_compile.settings import Settings

_DOUBLED = "1,2,4,8,16"


@click.command()
@click.argument("target", metavar="REF|URL|ENDPOINT", required=False)
@click.option("--concurrency", "levels", default=_DOUBLED, show_default=True, help="Of callers.")
@click.option("--input-tokens", default=64, show_default=True, type=click.IntRange(1, 10**6),
              help="Of each prompt.")  # fmt: skip
@click.option("--output-tokens", default=32, show_default=True, type=click.IntRange(1, 10**6),
              help="Of each answer.")  # fmt: skip
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(0.5),
              help="Of measuring, at each concurrency.")  # fmt: skip
@click.option("--warmup-seconds", default=3.0, show_default=True, type=click.FloatRange(0),
              help="Of asking before that.")  # fmt: skip
@click.option("--price", type=click.FloatRange(0, min_open=True), metavar="USD",
              help="What the endpoint costs for an hour.")  # fmt: skip
@click.option("--parameters", metavar="JSON", help="Further parameters of each request.")
@click.option("--tokenizer", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Counts input tokens (tokenizer.json); an artifact has its own.")  # fmt: skip
@click.option("--before", type=click.Path(exists=True, path_type=Path), metavar="RUN",
              help="Compare with this run (its folder or bench.json).")  # fmt: skip
@click.option("--after", type=click.Path(exists=True, path_type=Path), metavar="RUN",
              help="With --before and without a target: compare two runs.")  # fmt: skip
@click.option("--fail-on-worse", is_flag=True, help="Exit 5 when a comparison finds worse.")
@click.option("--fresh", is_flag=True, help="Measure again what was measured.")
@click.option("--no-pages", is_flag=True, help="JSON only: no CSV, PNG and HTML.")
@endpoint_options
@settings_options
@voice_options
def bench(
    target: str | None,
    *,
    before: Path | None,
    after: Path | None,
    fail_on_worse: bool,
    fresh: bool,
    no_pages: bool,
    price: float | None,
    settings: Settings,
    console: Console,
    **flags: Any,  # noqa: ANN401 - click gives each option the type that it declares
) -> int:
    """Measure an artifact (served here), a URL or a SageMaker endpoint over concurrency.

    Results are in OUT/bench/...: bench.json, .csv, .png and .html. The same command continues a
    run that was stopped. With --before, say what became better, worse, or is within noise.
    """
    if target is None:
        if before is None or after is None:
            raise click.UsageError("give a target, or --before RUN --after RUN")
        found, folder = _run_of(after), None
    else:
        found, folder = _measured(target, flags, price, settings, console, fresh=fresh)
    comparison = None if before is None else compare_runs(_run_of(before), found)
    if folder is not None and not no_pages:
        _pages(found, comparison, folder, console)
    _show(console, found, comparison)
    if console.as_json:
        console.json({**found, "comparison": comparison})
    if comparison and comparison["change"] == "worse" and fail_on_worse:
        what = "slower than the run before"
        raise VerificationFailed(what, fix="look at the rows that say worse")
    return ExitCode.OK


def _measured(
    text: str,
    flags: Mapping[str, Any],
    price: float | None,
    settings: Settings,
    console: Console,
    *,
    fresh: bool,
) -> tuple[dict[str, Any], Path]:
    registry = registry_of(settings)
    found = find_target(
        text,
        registry,
        timeout_seconds=flags["timeout"],
        region=flags["region"],
        component=flags["component"],
    )
    tokenizer = flags["tokenizer"] or _own_tokenizer(
        tree_of(found, registry, settings.cache_dir) if found.kind == "artifact" else []
    )
    try:
        prompts, counted_by = make_prompts(flags["input_tokens"], tokenizer)
    except OSError as error:
        raise EnvironmentFault("the prompts cannot be made", str(error)) from error
    asked = _asked(found, flags, counted_by)
    folder = settings.out / "bench" / f"{_plain(asked.subject)}-{asked.digest}"
    if fresh:
        for path in folder.glob("*.json"):
            path.unlink()
    kept = read_json(folder / "starts.json") or {}
    url = settings.registry or registry.url
    with Place(found, registry, url, settings.cache_dir, console.line) as place:
        raw = run_sweep(asked, lambda: place.find(asked, prompts[0]), prompts, folder, console.line)
        starts = {**kept, **place.starts}
    write_json(folder / "starts.json", starts)
    made = report(asked, raw, price=price, starts=starts, when=now_text())
    write_json(folder / "bench.json", made)
    return made, folder


def _asked(target: Target, flags: Mapping[str, Any], counted_by: str) -> Asked:
    try:
        levels = tuple(sorted({int(one) for one in flags["levels"].split(",")}))
    except ValueError:
        levels = ()
    if not levels or levels[0] < 1:
        raise click.UsageError(f"--concurrency {flags['levels']!r}: the form is 1,2,4,8")
    parameters = {"do_sample": False} if not target.where.endswith("/completions") else {}
    if flags["parameters"] is not None:
        try:
            parameters = parse_json(flags["parameters"])
        except ValueError as error:
            raise click.UsageError(f"--parameters: is not JSON: {error}") from None
        if not isinstance(parameters, dict):
            raise click.UsageError("--parameters: must be a JSON object")
    return Asked(
        subject=target.where,
        concurrencies=levels,
        input_tokens=flags["input_tokens"],
        counted_by=counted_by,
        output_tokens=flags["output_tokens"],
        warmup_seconds=flags["warmup_seconds"],
        seconds=flags["seconds"],
        parameters=parameters,
    )


def _own_tokenizer(files: list[Path]) -> Path | None:
    return next((path for path in files if path.name == "tokenizer.json"), None)


def _plain(text: str) -> str:
    kept = "".join(letter if letter.isalnum() else "-" for letter in text.partition("@")[0])
    return kept.strip("-")[:60]


def _run_of(path: Path) -> dict[str, Any]:
    file = path / "bench.json" if path.is_dir() else path
    found = read_json(file)
    if found is None or found.get("format") != 1 or "levels" not in found:
        raise EnvironmentFault(f"{file} is no run of bench", fix="name a run's folder")
    return found


def _pages(
    found: Mapping[str, Any], comparison: Mapping[str, Any] | None, folder: Path, console: Console
) -> None:
    try:
        from lmi_compile.bench.pages import write_pages  # noqa: PLC0415 - matplotlib, Jinja2
    except ImportError as error:
        what, fix = "pages need matplotlib and Jinja2", "pip install 'lmi-compile[report]'"
        raise EnvironmentFault(what, str(error), f"{fix}, or say --no-pages") from error
    try:
        for path in write_pages(found, folder, comparison):
            console.line(f"wrote {path}")
    except OSError as error:
        raise EnvironmentFault(f"{folder} cannot be written", str(error)) from error


def _show(console: Console, found: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> None:
    header = ("concurrency", "tokens/s", "first token p50", "between p50", "answer p99", "errors")
    rows = [
        (
            str(level["concurrency"]),
            f"{level['tokens_per_second']['value']:,.1f}",
            *(
                f"{level[name][at]['value'] * 1000:,.1f} ms" if level[name][at] else "-"
                for name, at in (
                    ("time_to_first_token", "p50"),
                    ("inter_token", "p50"),
                    ("latency", "p99"),
                )
            ),
            f"{level['error_rate']:.1%}",
        )
        for level in found["levels"]
    ]
    console.table(found["asked"]["subject"], header, rows)
    if found["knee"] is not None:
        console.line(f"most throughput for its latency, the knee: concurrency {found['knee']}")
    if comparison is None:
        return
    for row in comparison["rows"]:
        if row["change"] != "within noise":
            console.line(
                f"concurrency {row['concurrency']}: {row['metric']} is {row['change']}, "
                f"{row['before']['value']:,.1f} -> {row['after']['value']:,.1f} {row['unit']}"
            )
    for note in comparison["notes"]:
        console.line(f"note: {note}")
    console.line(f"compared with the run before: {comparison['change']}")

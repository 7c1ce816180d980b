"""Verbs that answer before anything is paid for: plan, targets."""

from pathlib import Path

import click

from lmi_compile.cli.options import (
    read_settings,
    set_option,
    settings_options,
    toolchains_option,
    voice_options,
)
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode, Unsupported
from lmi_compile.feasibility.matrix import every_target
from lmi_compile.feasibility.question import Question
from lmi_compile.feasibility.reading import read_question
from lmi_compile.feasibility.report import matrix_rows, report
from lmi_compile.preview import Preview, preview
from lmi_compile.survey import load
from lmi_recipes.instance import Instance, instance_names, read_instance
from lmi_recipes.reading import LoadedRecipe

_MATRIX = ("instance type", "accelerator", "fits", "degree", "batch", "tokens/s", "why not")


@click.command()
@click.argument("recipe")
@click.option("--price", type=click.FloatRange(min=0, min_open=True), metavar="USD",
              help="What the instance costs for an hour.")  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG",
              help="Draw memory and throughput (needs the extra `plot`).")  # fmt: skip
@click.option("--all-targets", is_flag=True, help="Which instance types can serve this model.")
@set_option
@toolchains_option
@settings_options
@voice_options
def plan(
    recipe: str,
    *,
    price: float | None,
    plot: Path | None,
    all_targets: bool,
    overrides: tuple[str, ...],
    toolchains: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **flags: object,
) -> int:
    """Say whether RECIPE fits its target, what to expect, and its steps; nothing is run.

    Exit 3 when it cannot be, with the reason first.
    """
    settings = read_settings(**flags)
    console = Console(quiet=quiet, verbose=verbose)
    loaded = load(recipe, overrides)
    folders = tuple(map(Path, toolchains))
    if all_targets:
        return _all_targets(console, loaded, folders, as_json=as_json)
    found = preview(loaded, settings.cache_dir, folders, price=price)
    if plot is not None:
        _draw(found.question, loaded.recipe.name, plot)
    if as_json:
        console.json(found.to_json())
    else:
        _show(console, found)
    return ExitCode.IMPOSSIBLE if found.answer["fits"] is False else ExitCode.OK


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--accelerator", metavar="WORD", help="Only those whose accelerator has WORD in it.")
@click.option("--family", metavar="WORD", help="Only this family, such as g5 or inf2.")
@click.option("--min-memory", type=click.IntRange(min=1), metavar="GB",
              help="Only with so much memory on one device.")  # fmt: skip
@click.option("--min-devices", type=click.IntRange(min=1), help="Only with so many devices.")
@click.option("--endpoint", is_flag=True, help="Only what an endpoint can have.")
@voice_options
def targets(
    names: tuple[str, ...],
    *,
    accelerator: str | None,
    family: str | None,
    min_memory: int | None,
    min_devices: int | None,
    endpoint: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """List the instance types, or show those that are named."""
    console = Console(quiet=quiet, verbose=verbose)
    every = (read_instance(name) for name in names or instance_names())
    word = (accelerator or "").lower()
    chosen = [
        one
        for one in every
        if (not word or (one.accelerator and word in one.accelerator.name.lower()))
        and (family is None or one.family == family)
        and (min_memory is None or _device_bytes(one) >= min_memory * 10**9)
        and (min_devices is None or one.devices >= min_devices)
        and (not endpoint or one.endpoint)
    ]
    if as_json:
        console.json([one.to_json() for one in chosen])
        return ExitCode.OK
    for one in chosen:
        console.data(_line(one))
    return ExitCode.OK


def _show(console: Console, found: Preview) -> None:
    """The verdict first, then everything else for people; the plan key is the data."""
    for line in report(found.answer):
        console.line(line)
    for note in found.notes:
        console.line(f"note: {note}")
    if found.planned is None:
        return
    rows = [
        (
            step.step.name,
            step.step.where,
            ", ".join(step.step.needs) or "-",
            step.key[:12],
            "finished" if step.step.name in found.cached else "to do",
        )
        for step in found.planned.steps
    ]
    title = f"{found.loaded.recipe.name}: {len(rows)} steps"
    console.table(title, ("step", "where", "needs", "key", "state"), rows)
    console.data(found.planned.plan_key)


def _all_targets(
    console: Console, loaded: LoadedRecipe, toolchains: tuple[Path, ...], *, as_json: bool
) -> int:
    question, why = read_question(loaded, toolchains)
    if question is None:
        raise Unsupported(f"{loaded.recipe.name}: {why}")
    rows = every_target(question)
    if as_json:
        console.json({"name": loaded.recipe.name, "targets": rows})
    else:
        title = f"{loaded.recipe.name} on every instance type"
        console.table(title, _MATRIX, list(matrix_rows(rows)))
    some = any(isinstance(row, dict) and row["fits"] for row in rows)
    return ExitCode.OK if some else ExitCode.IMPOSSIBLE


def _draw(question: Question | None, name: str, path: Path) -> None:
    if question is None:
        raise Unsupported("there is nothing to draw: no config.json to compute with")
    try:
        from lmi_compile.feasibility.plot import draw  # noqa: PLC0415 - heavy, and only for --plot
    except ImportError as error:
        what = "--plot needs matplotlib"
        raise EnvironmentFault(what, str(error), "pip install 'lmi-compile[plot]'") from error
    try:
        draw(question, name, path)
    except OSError as error:
        raise EnvironmentFault(f"{path} cannot be written", str(error)) from error


def _device_bytes(one: Instance) -> int:
    return one.accelerator.memory_mib << 20 if one.accelerator else 0


def _line(one: Instance) -> str:
    device = one.accelerator
    if device is None:
        return f"{one.name:<24} UNKNOWN"
    bandwidth = "UNKNOWN" if device.memory_gbps is None else f"{device.memory_gbps:.0f} GB/s"
    kind = f"sm_{device.sm}" if device.sm else f"NeuronCore-v{device.neuroncore}"
    return (
        f"{one.name:<24} {one.devices:>2} x {device.name:<12} {kind:<14} "
        f"{device.memory_mib / 1024:>6.1f} GiB {bandwidth:>10}  host "
        f"{(one.memory_mib or 0) / 1024:>5.0f} GiB  disk {one.local_storage_gb or 0:>5} GB"
    )

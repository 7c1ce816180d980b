"""Verbs on registries: resolve, diff, tag, mirror, gc."""

from collections.abc import Collection, Sequence
from pathlib import Path

import click

from lmi_artifacts.digest import Digest, JSONValue
from lmi_artifacts.machine import find_machine
from lmi_artifacts.registry import GARBAGE_SECONDS, Registry, open_registry
from lmi_artifacts.selection import Wish, choose
from lmi_artifacts.trust import parse_demands
from lmi_artifacts.upkeep import Retention, expired
from lmi_artifacts.upkeep import diff as differences
from lmi_artifacts.upkeep import mirror as copy_artifact
from lmi_compile.cli.options import (
    AGE,
    DEMANDS,
    keys_option,
    registry_of,
    remote_code_option,
    settings_options,
    standing,
    voice_options,
)
from lmi_compile.cli.progress import meter
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode
from lmi_compile.settings import Settings


@click.command()
@click.argument("model")
@click.option("--for", "machine", metavar="MACHINE", help="ml.g5.12xlarge, x86-64-v3, host, ...")
@click.option("--image", "container", help="The image that serves it, or a part of its reference.")
@click.option("--quantization", help="Method that it must have; `none` for unquantised.")
@click.option("--tag", default="prod", show_default=True, help="Tag that promotions move.")
@click.option("--require", default="verified,proven", show_default=True, help=DEMANDS)
@remote_code_option
@keys_option
@settings_options
@voice_options
def resolve(
    model: str,
    *,
    machine: str | None,
    container: str | None,
    quantization: str | None,
    tag: str,
    require: str,
    trust_remote_code: bool,
    keys: tuple[Path, ...],
    settings: Settings,
    console: Console,
) -> int:
    """Find the newest artifact of MODEL (model id or artifact name) that a machine can load.

    Without --for, MODEL is a reference, and the digest that it means is printed.
    """
    registry = registry_of(settings)
    if machine is None:
        ref = standing(registry, model)
        refused: tuple[JSONValue, ...] = ()
    else:
        wish = Wish(
            model=model,
            machine=find_machine(machine),
            container=container,
            quantization=quantization,
            tag=tag,
            demands=parse_demands(require),
            keys=keys,
            trust_remote_code=trust_remote_code,
        )
        choice = choose(registry, wish)
        ref = choice.ref
        refused = tuple(map(str, choice.refused))
        for line in refused:
            console.line(f"passed over {line}")
    told = {"artifact": str(ref), "location": registry.location(ref), "passed_over": refused}
    console.answer(told, str(ref))
    return ExitCode.OK


@click.command()
@click.argument("one")
@click.argument("two")
@settings_options
@voice_options
def diff(one: str, two: str, *, settings: Settings, console: Console) -> int:
    """Say what differs between the artifacts ONE and TWO."""
    registry = registry_of(settings)
    found = differences(registry, registry.resolve(one), registry.resolve(two))
    if console.as_json:
        console.json(found)
        return ExitCode.OK
    for part, changed in found.items():
        if isinstance(changed, dict):
            for where, pair in changed.items():
                left, right = pair if isinstance(pair, list) else (None, pair)
                console.data(f"{part} {where}: {left} -> {right}")
        else:
            console.data(f"{part}: {changed}")
    if not found:
        console.line("they do not differ")
    return ExitCode.OK


@click.command()
@click.argument("ref")
@click.argument("tag")
@click.option("--expected", help="Digest it must point at now; `none` for a new tag.")
@settings_options
@voice_options
def tag(
    ref: str,
    tag: str,
    *,
    expected: str | None,
    settings: Settings,
    console: Console,
) -> int:
    """Move TAG to the artifact REF; `promote` does so under a policy."""
    registry = registry_of(settings)
    artifact = standing(registry, ref)
    before = registry.tag(artifact.name, tag)
    if expected is not None:
        before = None if expected == "none" else Digest.parse(expected)
    registry.move_tag(artifact, tag, expected=before)
    replaced = None if before is None else str(before)
    told = {"artifact": str(artifact), "tag": tag, "replaced": replaced}
    console.answer(told, f"{artifact.name}:{tag} -> {artifact.digest}")
    return ExitCode.OK


@click.command()
@click.argument("target", metavar="REGISTRY")
@click.argument("refs", nargs=-1, required=True)
@click.option("--tag", "tags", multiple=True, help="Move these tags there, too.")
@settings_options
@voice_options
def mirror(
    target: str,
    refs: tuple[str, ...],
    *,
    tags: tuple[str, ...],
    settings: Settings,
    console: Console,
) -> int:
    """Copy the artifacts REFS to another REGISTRY, with all that is said about them."""
    source = registry_of(settings)
    there = open_registry(target)
    copied: list[JSONValue] = []
    for text in refs:
        ref = source.resolve(text)
        with meter(console, source, f"copying {ref.name}", source.manifest(ref).size):
            created = copy_artifact(source, there, ref, None)
        for name in tags:
            there.move_tag(ref, name, expected=there.tag(ref.name, name))
        console.line(f"{ref}: {'copied' if created else 'was there already'}, verified")
        copied.append(str(ref))
    if console.as_json:
        console.json(copied)
    return ExitCode.OK


@click.command()
@click.option("--delete", is_flag=True, help="Really remove; without it nothing is changed.")
@click.option("--older-than", type=AGE, default=f"{GARBAGE_SECONDS:.0f}s", show_default=True,
              help="What nobody has touched for so long: 12h, 30d.")  # fmt: skip
@click.option(
    "--keep-newest", type=click.IntRange(0), help="Also remove untagged artifacts beyond so many."
)
@click.option(
    "--keep-days",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="And only those so many days old.",
)
@click.option("--keep-runs", type=click.IntRange(1), metavar="N",
              help="Also remove the records of matrix runs before the newest N.")  # fmt: skip
@click.option("--golden", is_flag=True,
              help="Also remove golden outputs of models that nothing else here has.")  # fmt: skip
@settings_options
@voice_options
def gc(
    *,
    delete: bool,
    older_than: float,
    keep_newest: int | None,
    keep_days: float,
    keep_runs: int | None,
    golden: bool,
    settings: Settings,
    console: Console,
) -> int:
    """Remove what crashed publishers left, and artifacts and records that no rule keeps."""
    registry = registry_of(settings)
    found: list[JSONValue] = []
    if keep_newest is not None:
        found += _retire(registry, Retention(newest=keep_newest, days=keep_days), delete=delete)
    if keep_runs is not None:
        found += _forget(registry, keep_runs, delete=delete)
    if golden:
        found += _disown(registry, found, delete=delete)
    found += registry.collect_garbage(older_than=older_than, dry_run=not delete)
    told = {"removed" if delete else "would_remove": found}
    console.answer(told, *map(str, found))
    verb = "removed" if delete else "would be removed; say --delete"
    console.line(f"{len(found)} {verb}")
    return ExitCode.OK


def _forget(registry: Registry, keep: int, *, delete: bool) -> Sequence[JSONValue]:
    from lmi_compile.matrix.forgetting import outlived  # noqa: PLC0415 - a plain sweep needs none

    return _drop(registry, outlived(registry, keep), delete=delete)


def _disown(
    registry: Registry, gone: Collection[JSONValue], *, delete: bool
) -> Sequence[JSONValue]:
    from lmi_compile.golden import outlived  # noqa: PLC0415 - a plain sweep needs none
    from lmi_compile.matrix.forgetting import live_steps  # noqa: PLC0415 - as above

    return _drop(registry, outlived(registry, live_steps(registry, gone)), delete=delete)


def _drop(
    registry: Registry, parts: Sequence[Sequence[str]], *, delete: bool
) -> Sequence[JSONValue]:
    if delete:
        for names in parts:
            registry.remove_records(names)
    return [f"records/{name}" for names in parts for name in names]


def _retire(registry: Registry, rules: Retention, *, delete: bool) -> list[JSONValue]:
    found: list[JSONValue] = []
    for ref in expired(registry.list(), rules):
        found.append(str(ref))
        if delete:
            registry.remove(ref)
    return found

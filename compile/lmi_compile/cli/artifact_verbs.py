"""Verbs for consumers of a registry: list, show, pull."""

import re
from pathlib import Path

import click

from lmi_artifacts.createmodel import create_model as request
from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.reference import exact
from lmi_artifacts.registry import Layout, Registry, Summary
from lmi_artifacts.statement import Statement
from lmi_artifacts.trust import parse_demands, refusals
from lmi_compile.cli.options import (
    DEMANDS,
    keys_option,
    layout_option,
    registry_of,
    remote_code_option,
    settings_options,
    toolchains_option,
    voice_options,
)
from lmi_compile.cli.progress import meter
from lmi_compile.console import Console
from lmi_compile.errors import ExitCode
from lmi_compile.settings import Settings

_ROLE = "arn:aws:iam::000000000000:role/sagemaker-execution"


@click.command("list")
@click.option("--affected-by", metavar="TOOLCHAIN",
              help="Tagged artifacts built with what is now known bad.")  # fmt: skip
@toolchains_option
@settings_options
@voice_options
def list_artifacts(
    *,
    affected_by: str | None,
    toolchains: tuple[str, ...],
    settings: Settings,
    console: Console,
) -> int:
    """List the artifacts of the registry."""
    registry = registry_of(settings)
    if affected_by is not None:
        return _list_affected(console, registry, affected_by, toolchains)
    found = list(registry.list())
    if console.as_json:
        console.json([_summary_json(summary) for summary in found])
        return ExitCode.OK
    for summary in found:
        console.data(str(summary.ref))
    if not found:
        console.line(f"{registry.url} holds no artifact")
    return ExitCode.OK


def _list_affected(
    console: Console,
    registry: Registry,
    name: str,
    toolchains: tuple[str, ...],
) -> int:
    from lmi_compile.affected import affected_by  # noqa: PLC0415 - a plain list needs none
    from lmi_recipes.toolchain import load_toolchain  # noqa: PLC0415 - as above

    toolchain = load_toolchain(name, tuple(map(Path, toolchains)))
    found = affected_by(registry, toolchain)
    if console.as_json:
        console.json([one.to_json() for one in found])
        return ExitCode.OK
    for one in found:
        console.data(f"{one.ref} ({', '.join(one.tags)}): {one.bad.what}")
        console.data(f"  {one.bad.why}")
        console.data(f"  {one.command}")
    unread = sum(not bad.when for bad in toolchain.known_bad)
    console.line(f"{len(found)} tagged artifacts are affected")
    if unread:
        console.line(f"note: {unread} notes of {name} are for people only: they name no fields")
    return ExitCode.OK


@click.command()
@click.argument("ref")
@click.option("--create-model", is_flag=True, help="Print SageMaker's CreateModel request.")
@click.option("--role", default=_ROLE, show_default=True, help="With --create-model.")
@click.option("--instance-type", default="ml.c7i.4xlarge", show_default=True, help="As above.")
@click.option("--image", help="As above: the image that serves it, where the toolchain names none.")
@layout_option
@settings_options
@voice_options
def show(
    ref: str,
    *,
    create_model: bool,
    role: str,
    instance_type: str,
    image: str | None,
    layout: Layout,
    settings: Settings,
    console: Console,
) -> int:
    """Show REF (name, name:tag, name@sha256:..., sha256:...): manifest and statements."""
    registry = registry_of(settings)
    artifact = registry.resolve(ref)
    manifest = registry.manifest(artifact)
    if create_model:
        registry.refuse_revoked(artifact)
        console.json(
            request(
                artifact, manifest, registry.location(artifact, layout), layout,
                role=role, instance_type=instance_type, image=image,
            )
        )  # fmt: skip
        return ExitCode.OK
    revoked = registry.revocation(artifact)
    if revoked is not None:
        console.line(f"REVOKED: {revoked}")
    statements: list[JSONValue] = [item.to_json() for item in registry.statements(artifact)]
    if console.as_json:
        console.json(
            {
                "artifact": str(artifact),
                "manifest": manifest.to_json(),
                "statements": statements,
                "revoked": revoked,
                "path": registry.location(artifact),
            }
        )
        return ExitCode.OK
    console.data(str(artifact))
    console.data(f"built with   {manifest.toolchain.get('name')}")
    console.data(f"build key    {manifest.build_key}")
    for item in registry.statements(artifact):
        console.data("{:<12} {}".format(*_said(item)))
    for file in manifest.files:
        console.data(f"{file.size:>12} {file.sha256[:12]} {file.path}")
    return ExitCode.OK


def _said(statement: Statement) -> tuple[str, object]:
    """A statement's kind, and its decision or result where its kind has one."""
    words = [word for word in re.split("[:/]", statement.predicate_type) if word]
    kind = words[-2] if re.fullmatch(r"v[\d.]+", words[-1]) else words[-1]
    predicate = statement.predicate
    return kind, predicate.get("decision") or predicate.get("result") or "attached"


@click.command()
@click.argument("ref")
@click.argument("destination", type=click.Path())
@layout_option
@click.option("--rank", type=click.IntRange(0), help="Leave out the files of other ranks.")
@click.option("--require", default="", help=DEMANDS)
@remote_code_option
@keys_option
@settings_options
@voice_options
def pull(
    ref: str,
    destination: str,
    *,
    layout: Layout,
    rank: int | None,
    require: str,
    trust_remote_code: bool,
    keys: tuple[Path, ...],
    settings: Settings,
    console: Console,
) -> int:
    """Copy the artifact REF to DESTINATION, verified and all at once."""
    if not destination:
        raise click.UsageError("DESTINATION is empty")
    registry = registry_of(settings)
    artifact = exact(ref) or registry.resolve(ref)
    demands = parse_demands(require)
    if demands:
        problems = refusals(artifact, registry.statements(artifact), demands, keys)
        if problems:
            raise ArtifactRefused(str(artifact), problems)
    with meter(console, registry, f"pulling {artifact.name}", registry.manifest(artifact).size):
        pulled = registry.pull(
            artifact,
            Path(destination),
            layout=layout,
            rank=rank,
            trust_remote_code=trust_remote_code,
        )
    console.line("up to date" if pulled.up_to_date else f"{pulled.fetched} files fetched")
    told: dict[str, JSONValue] = {
        "artifact": str(artifact),
        "path": str(pulled.path),
        "up_to_date": pulled.up_to_date,
        "fetched": pulled.fetched,
    }
    console.answer(told, str(pulled.path))
    return ExitCode.OK


def _summary_json(summary: Summary) -> dict[str, JSONValue]:
    return {
        "artifact": str(summary.ref),
        "created": summary.created,
        "size": summary.size,
        "files": summary.files,
        "tags": list(summary.tags),
        "layouts": list(summary.layouts),
        "simulated": summary.simulated,
        "problems": list(summary.problems),
    }

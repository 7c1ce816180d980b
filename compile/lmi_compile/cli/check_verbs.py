"""Verbs that check what is there: verify, prove."""

from pathlib import Path

import click

from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import Registry
from lmi_artifacts.static_proof import CONTRACTS
from lmi_artifacts.tree import check_tree, read_manifest
from lmi_compile.cli import statically
from lmi_compile.cli.options import (
    read_settings,
    registry_of,
    settings_options,
    tools_of,
    voice_options,
)
from lmi_compile.cli.reports import print_proof, print_verdict
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.pipeline import NotAccepted, NotProven
from lmi_compile.plan import make_plan
from lmi_compile.proof.prove import prove as prove_tree
from lmi_compile.recheck import verify_tree
from lmi_compile.survey import load, survey


@click.command()
@click.argument("artifact", metavar="REF|DIR")
@click.option("--against", metavar="RECIPE", help="Compare its outputs with this recipe's model.")
@settings_options
@voice_options
def verify(
    artifact: str,
    *,
    against: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **flags: object,
) -> int:
    """Re-hash every file of an artifact; with --against, compare its outputs too."""
    settings = read_settings(**flags)
    console = Console(quiet=quiet, verbose=verbose)
    registry = registry_of(settings)
    tree, manifest = checked_tree(registry, artifact, settings.cache_dir)
    console.line(f"{manifest.name}: {len(manifest.files)} files, every byte as the manifest says")
    if against is None:
        if as_json:
            console.json({"artifact": f"{manifest.name}@{manifest.digest}", "bytes": "VERIFIED"})
        return ExitCode.OK
    plan = make_plan(survey(load(against), settings.cache_dir))
    verdict = verify_tree(plan, tree, tools_of(settings, registry, console))
    print_verdict(console, verdict)
    if as_json:
        console.json(verdict)
    if verdict["decision"] != "ACCEPT":
        raise NotAccepted(f"{manifest.name}: {verdict['decision']}", "do not serve it", verdict)
    return ExitCode.OK


@click.command()
@click.argument("artifact", metavar="REF|DIR")
@click.option("--static", is_flag=True, help="Read it as its container would; start nothing.")
@click.option("--image", help="With --static: the image that serves it, or its tag.")
@click.option("--contract", type=click.Choice(CONTRACTS), help="With --static: of a directory.")
@click.option("--accelerators", default=0, help="With --static: GPUs or Neuron cores there.")
@settings_options
@voice_options
def prove(
    artifact: str,
    *,
    static: bool,
    image: str | None,
    contract: str | None,
    accelerators: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **flags: object,
) -> int:
    """Start an artifact in a sealed child process and watch it from outside.

    A directory is proven as it stands, whatever its manifest says. Exit 0 when it answered
    without compiling, writing or connecting; 6 when it did not; 8 when tracing is not possible
    here. With --static nothing is started: 6 names each rule of the container that is broken.
    """
    console = Console(quiet=quiet, verbose=verbose)
    tree = Path(artifact)
    if static:
        manifest = None
        if not tree.is_dir():
            settings = read_settings(**flags)
            tree, manifest = checked_tree(registry_of(settings), artifact, settings.cache_dir)
        wanted = statically.Wanted(image=image, contract=contract, accelerators=accelerators)
        return statically.prove(tree, manifest, wanted, console, as_json=as_json)
    if tree.is_dir():
        _note_differences(tree, console)
    else:
        settings = read_settings(**flags)
        tree, _ = checked_tree(registry_of(settings), artifact, settings.cache_dir)
    proof = prove_tree(tree)
    report = proof.to_json()
    if as_json:
        console.json(report)
    print_proof(console, report)
    match proof.decision:
        case "PROVEN":
            return ExitCode.OK
        case "SKIPPED":
            what = "the proof was SKIPPED: nothing is proven"
            raise EnvironmentFault(what, "; ".join(proof.reasons), "allow tracing, then try again")
        case _:
            raise NotProven(f"{artifact}: serving it is not free of compiling", report)


def _note_differences(tree: Path, console: Console) -> None:
    try:
        check_tree(tree, read_manifest(tree), rehash=True)
    except ArtifactRefused as error:
        console.line(f"note: not a published artifact's bytes: {error}")


def checked_tree(registry: Registry, artifact: str, cache: Path) -> tuple[Path, Manifest]:
    """The served tree that a directory or a reference means, with every byte checked."""
    if Path(artifact).is_dir():
        tree = Path(artifact)
        manifest = read_manifest(tree)
        check_tree(tree, manifest, rehash=True)
        return tree, manifest
    found = registry.resolve(artifact)
    if registry.url.startswith("s3://"):  # every byte is verified on its way here
        pulled = registry.pull(found, cache / "pulled" / found.digest.hex)
        manifest = registry.manifest(found)
        check_tree(pulled.path, manifest, rehash=pulled.up_to_date)
        return pulled.path, manifest
    return Path(registry.location(found)), registry.check(found, rehash=True)

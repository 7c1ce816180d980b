"""Verbs that check what is there: verify, prove."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import Registry
from lmi_artifacts.static_proof import CONTRACTS
from lmi_artifacts.tree import check_tree, read_manifest
from lmi_compile.cli import statically
from lmi_compile.cli.completion import recipe_names
from lmi_compile.cli.options import (
    registry_of,
    settings_options,
    tools_of,
    voice_options,
)
from lmi_compile.cli.reports import print_layers, print_proof, print_verdict
from lmi_compile.cli.trees import checked_tree
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.pipeline import NotAccepted, NotProven
from lmi_compile.plan import Plan, make_plan
from lmi_compile.proof.prove import prove as prove_tree
from lmi_compile.recheck import compare_trees, explain_tree, verify_endpoint, verify_tree
from lmi_compile.settings import Settings
from lmi_compile.stepping import Tools
from lmi_compile.survey import load, survey


@click.command()
@click.argument("artifact", metavar="REF|DIR|URL")
@click.option(
    "--against",
    shell_complete=recipe_names,
    metavar="RECIPE|REF|DIR|URL",
    help="Compare its outputs with this recipe's model, another artifact's, or an endpoint's.",
)
@click.option(
    "--recipe",
    shell_complete=recipe_names,
    metavar="RECIPE",
    help="Whose model asks, if the artifact's name is none.",
)
@click.option("--explain", is_flag=True, help="Also find the first layer outside the noise band.")
@settings_options
@voice_options
def verify(
    artifact: str,
    *,
    against: str | None,
    recipe: str | None,
    explain: bool,
    settings: Settings,
    console: Console,
) -> int:
    """Re-hash every file of an artifact; with --against, compare its outputs too.

    A URL is a running endpoint that speaks the LMI schema: what it generates is judged, which is
    never enough to promote. Two artifacts are an upgrade check.
    """
    registry = registry_of(settings)
    desk = _Desk(settings=settings, registry=registry, console=console)
    if explain and (against is None or _is_url(artifact) or _is_url(against)):
        raise click.UsageError(
            "--explain reads an artifact's weights: name it, and --against RECIPE"
        )
    if _is_url(artifact):
        if against is None:
            raise click.UsageError("an endpoint is verified --against RECIPE")
        verdict = verify_endpoint(desk.plan(against), artifact, desk.tools)
        return _told(console, artifact, verdict)
    tree, manifest = desk.tree(artifact)
    if against is None:
        if console.as_json:
            console.json({"artifact": f"{manifest.name}@{manifest.digest}", "bytes": "VERIFIED"})
        return ExitCode.OK
    verdict = _compared(desk, tree, against, recipe or manifest.name)
    if explain:
        layers = explain_tree(desk.plan(recipe or against), tree, desk.tools)
        print_layers(console, layers)
        verdict["layers"] = layers
    return _told(console, manifest.name, verdict)


def _compared(desk: "_Desk", tree: Path, against: str, asks: str) -> dict[str, JSONValue]:
    """The verdict on a tree against an endpoint, another artifact or a recipe's model."""
    if _is_url(against):
        return verify_endpoint(desk.plan(asks), against, desk.tools)
    if _is_artifact(against):
        other, _ = desk.tree(against)
        return compare_trees(desk.plan(asks), tree, other, desk.tools)
    return verify_tree(desk.plan(against), tree, desk.tools)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """What checking works with."""

    settings: Settings
    registry: Registry
    console: Console

    @property
    def tools(self) -> Tools:
        """Workspace, executor, registry and console."""
        return tools_of(self.settings, self.registry, self.console)

    def plan(self, recipe: str) -> Plan:
        """The plan of a recipe's name or file."""
        return make_plan(survey(load(recipe), self.settings.cache_dir))

    def tree(self, artifact: str) -> tuple[Path, Manifest]:
        """The served tree of an artifact, every byte checked."""
        tree, manifest = checked_tree(
            self.registry, artifact, self.settings.cache_dir, self.console
        )
        files = f"{len(manifest.files)} files, every byte as the manifest says"
        self.console.line(f"{manifest.name}: {files}")
        return tree, manifest


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _is_artifact(text: str) -> bool:
    """A served tree, or a reference with a tag or digest; recipes are files and plain names."""
    return Path(text).is_dir() or "@" in text or (":" in text and not Path(text).exists())


def _told(console: Console, what: str, verdict: Mapping[str, JSONValue]) -> ExitCode:
    """Shows the verdict; only ACCEPT ends well."""
    print_verdict(console, verdict)
    if console.as_json:
        console.json(dict(verdict))
    if verdict["decision"] != "ACCEPT":
        raise NotAccepted(f"{what}: {verdict['decision']}", "do not serve it", verdict)
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
    settings: Settings,
    console: Console,
) -> int:
    """Start an artifact in a sealed child process and watch it from outside.

    A directory is proven as it stands, whatever its manifest says. Exit 0 when it answered
    without compiling, writing or connecting; 6 when it did not; 8 when tracing is not possible
    here. With --static nothing is started: 6 names each rule of the container that is broken.
    """
    tree = Path(artifact)
    if static:
        manifest = None
        if not tree.is_dir():
            tree, manifest = checked_tree(
                registry_of(settings), artifact, settings.cache_dir, console
            )
        wanted = statically.Wanted(image=image, contract=contract, accelerators=accelerators)
        return statically.prove(tree, manifest, wanted, console)
    if tree.is_dir():
        _note_differences(tree, console)
    else:
        tree, _ = checked_tree(registry_of(settings), artifact, settings.cache_dir, console)
    proof = prove_tree(tree)
    report = proof.to_json()
    if console.as_json:
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

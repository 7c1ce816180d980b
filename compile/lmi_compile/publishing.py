"""Publishing: what was built, and what was found out about it, into a registry."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.statement import Statement
from lmi_compile.attest import evidence_of
from lmi_compile.events import Doing, Note
from lmi_compile.plan import Plan
from lmi_compile.seal import seal
from lmi_compile.stepping import Tools
from lmi_compile.workspace import disk_faults


def publish(
    plan: Plan,
    package: Path,
    found: Mapping[str, Mapping[str, JSONValue]],
    tools: Tools,
) -> ArtifactRef:
    """Seal the packaged tree and publish it with what was found out about it.

    Args:
        plan: what it was built by.
        package: the package step's outputs.
        found: predicates by predicate type: the verdict and the proof.
        tools: workspace and registry.

    Raises:
        ArtifactsError: the tree cannot be served as it is, or the registry cannot be written.
    """
    recipe = plan.order.recipe
    with disk_faults(tools.workspace.root):
        scratch = Path(tempfile.mkdtemp(dir=tools.workspace.staging_folder()))
    try:
        tools.emit(Doing(text="sealing: hashing every served file"))
        manifest = seal(plan, package, scratch / "tree")
        statements = tuple(
            Statement(
                name=manifest.name,
                subject=manifest.digest,
                predicate_type=kind,
                predicate=predicate,
            )
            for kind, predicate in found.items()
        )
        statements += evidence_of(manifest, found, tools.emit)
        tools.emit(Doing(text=f"publishing to {tools.registry.url}", total=manifest.size))
        published = tools.registry.publish(
            scratch / "tree",
            manifest,
            statements=statements,
            layouts=recipe.package.layouts,
            action_key=plan.action_key,
            tags=recipe.publish.tags,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not published.created:
        tools.emit(Note(text=f"{published.ref} was already there"))
    return published.ref

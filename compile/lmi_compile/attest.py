"""What a publish says about an artifact beside its verdict and proof, for other tools to read."""

import time
from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement
from lmi_compile.events import Emit, Note
from lmi_compile.host import installed_version


def evidence_of(
    manifest: Manifest,
    found: Mapping[str, Mapping[str, JSONValue]],
    emit: Emit,
) -> tuple[Statement, ...]:
    """Provenance, test results, and the packages of this environment where they can be listed.

    Args:
        manifest: the artifact's.
        found: the verdict and the proof, by predicate type.
        emit: told where no bill of materials can be made.
    """
    from importlib.metadata import distributions  # noqa: PLC0415 - a cached build never comes here

    from lmi_artifacts import evidence  # noqa: PLC0415 - as above

    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    builder = "urn:lmi-compile:local-builder"
    said = [evidence.provenance(manifest, builder, installed_version("lmi-compile"), finished)]
    for kind, passing in ((VERDICT, "ACCEPT"), (NO_JIT_PROOF, "PROVEN")):
        decision = str(found.get(kind, {}).get("decision", "SKIPPED"))
        if decision != "SKIPPED":  # a test that did not run has no result
            said.append(evidence.tested(manifest, kind, decision, passing))
    packages = {str(one.metadata["Name"]): one.version for one in distributions()}
    try:
        said.append(evidence.sbom(manifest, packages))
    except ModuleNotFoundError:
        emit(Note(text="no bill of materials: pip install 'lmi-compile[trust]'"))
    return tuple(said)

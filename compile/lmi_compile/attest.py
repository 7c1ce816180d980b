"""What a publish says about an artifact beside its verdict and proof, for other tools to read."""

import time
from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.statement import Statement
from lmi_compile.events import Emit, Note
from lmi_compile.host import installed_version


def evidence_of(
    manifest: Manifest,
    verdict: Mapping[str, JSONValue],
    proof: Mapping[str, JSONValue],
    emit: Emit,
) -> tuple[Statement, ...]:
    """Provenance, test results, and the packages of this environment where they can be listed."""
    from importlib.metadata import distributions  # noqa: PLC0415 - a cached build never comes here

    from lmi_artifacts import evidence  # noqa: PLC0415 - as above

    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    builder = "urn:lmi-compile:local-builder"
    said = [
        evidence.provenance(manifest, builder, installed_version("lmi-compile"), finished),
        evidence.tested(manifest, "verdict", str(verdict["decision"]), "ACCEPT"),
        evidence.tested(manifest, "no-jit-proof", str(proof["decision"]), "PROVEN"),
    ]
    packages = {str(one.metadata["Name"]): one.version for one in distributions()}
    try:
        said.append(evidence.sbom(manifest, packages))
    except ModuleNotFoundError:
        emit(Note(text="no bill of materials: pip install 'lmi-compile[trust]'"))
    return tuple(said)

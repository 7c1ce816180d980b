"""Statements in the shapes that other tools read: SLSA provenance, in-toto test results, CycloneDX.

https://slsa.dev/spec/v1.0/provenance
https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
https://cyclonedx.org/specification/overview/
"""

import json
from collections.abc import Mapping
from typing import Final

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.statement import Statement

PROVENANCE: Final = "https://slsa.dev/provenance/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
SBOM: Final = "https://cyclonedx.org/bom"
BUILD_TYPE: Final = "urn:lmi-compile:build:v1"


def _about(manifest: Manifest, kind: str, predicate: Mapping[str, JSONValue]) -> Statement:
    return Statement(
        name=manifest.name, subject=manifest.digest, predicate_type=kind, predicate=predicate
    )


def provenance(manifest: Manifest, builder: str, version: str, finished: str) -> Statement:
    """Say what was built from what, by whom: SLSA v1.

    Args:
        manifest: the artifact's.
        builder: URI of who built it.
        version: of this program.
        finished: when, `2026-01-31T12:00:00Z`.
    """
    model = manifest.recipe.get("model")
    dependencies: list[JSONValue] = []
    if isinstance(model, Mapping):
        identity: dict[str, JSONValue] = {"uri": f"model:{model.get('id')}"}
        digests = {
            algorithm: value
            for field, algorithm in (("sha256", "sha256"), ("revision", "gitCommit"))
            if isinstance(value := model.get(field), str)
        }
        if digests:
            identity["digest"] = digests
        dependencies.append(identity)
    return _about(
        manifest,
        PROVENANCE,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"recipe": manifest.recipe},
                "internalParameters": {
                    "build_key": manifest.build_key,
                    "steps": manifest.steps,
                    "toolchain": manifest.toolchain,
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {"id": builder, "version": {"lmi-compile": version}},
                "metadata": {"invocationId": manifest.build_key, "finishedOn": finished},
            },
        },
    )


def tested(manifest: Manifest, name: str, decision: str, passing: str) -> Statement:
    """Say that a test passed or failed: an in-toto test result."""
    passed = decision == passing
    tests: list[JSONValue] = [name]
    none: list[JSONValue] = []
    return _about(
        manifest,
        TEST_RESULT,
        {
            "result": "PASSED" if passed else "FAILED",
            "configuration": [{"name": name, "digest": {"sha256": manifest.digest.hex}}],
            "passedTests": tests if passed else none,
            "warnedTests": none,
            "failedTests": none if passed else tests,
        },
    )


def sbom(manifest: Manifest, packages: Mapping[str, str]) -> Statement:
    """List the packages of the toolchain's environment: CycloneDX 1.6.

    Raises:
        ModuleNotFoundError: cyclonedx-python-lib is not installed.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    components = [
        Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"pkg:pypi/{name.lower()}@{version}",
        )
        for name, version in sorted(packages.items())
    ]
    model = Component(
        name=manifest.name,
        version=str(manifest.digest),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"{manifest.name}@{manifest.digest}",
    )
    bom = Bom(components=components)
    bom.metadata.component = model
    bom.register_dependency(model, components)
    predicate: dict[str, JSONValue] = json.loads(JsonV1Dot6(bom).output_as_string())
    return _about(manifest, SBOM, predicate)

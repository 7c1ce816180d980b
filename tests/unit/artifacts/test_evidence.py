"""What is said of an artifact has the shapes that other tools read, and is about its digest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.evidence import BUILD_TYPE, PROVENANCE, SBOM, TEST_RESULT
from lmi_artifacts.evidence import provenance as provenance_of
from lmi_artifacts.evidence import sbom as sbom_of
from lmi_artifacts.evidence import tested as result_of
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.statement import Statement


@pytest.mark.parametrize(
    ("model", "dependencies"),
    [
        ({"id": "o/m", "revision": "a" * 40}, [{"gitCommit": "a" * 40}]),
        ({"id": "pypi://m", "sha256": "b" * 64}, [{"sha256": "b" * 64}]),
        ({"id": "./m"}, [None]),
        (None, []),
    ],
)
def test_provenance_names_the_model_by_what_pins_it(
    tree: Path,
    manifest_of: Callable[..., Manifest],
    model: dict[str, str] | None,
    dependencies: list[dict[str, str] | None],
) -> None:
    recipe = {"backend": "null"} | ({"model": model} if model else {})
    manifest = manifest_of(tree, recipe=recipe)
    said = provenance_of(manifest, "urn:builder", "1.2.3", "2026-01-31T12:00:00Z")
    assert (said.name, said.subject, said.predicate_type) == ("tiny", manifest.digest, PROVENANCE)
    definition, details = said.predicate["buildDefinition"], said.predicate["runDetails"]
    assert isinstance(definition, dict)
    assert isinstance(details, dict)
    assert definition["buildType"] == BUILD_TYPE
    assert definition["internalParameters"]["build_key"] == manifest.build_key
    found = definition["resolvedDependencies"]
    assert [one.get("digest") for one in found] == dependencies
    assert [one["uri"] for one in found] == [f"model:{model['id']}" for _ in dependencies if model]
    assert details["builder"] == {"id": "urn:builder", "version": {"lmi-compile": "1.2.3"}}
    assert Statement.parse(said.to_bytes()) == said


@pytest.mark.parametrize(
    ("decision", "result", "passed", "failed"),
    [("ACCEPT", "PASSED", ["verdict"], []), ("REGRESSION", "FAILED", [], ["verdict"])],
)
def test_a_test_result_passes_for_one_decision_alone(
    manifest: Manifest, decision: str, result: str, passed: list[str], failed: list[str]
) -> None:
    said = result_of(manifest, "verdict", decision, "ACCEPT")
    assert said.predicate_type == TEST_RESULT
    assert said.predicate["result"] == result
    assert (said.predicate["passedTests"], said.predicate["failedTests"]) == (passed, failed)
    (configuration,) = said.predicate["configuration"]
    assert configuration["digest"] == {"sha256": manifest.digest.hex}


def test_the_bill_of_materials_lists_every_package_under_the_artifact(manifest: Manifest) -> None:
    said = sbom_of(manifest, {"torch": "2.13.0", "Click": "8.5.1"})
    assert said.predicate_type == SBOM
    components = said.predicate["components"]
    assert isinstance(components, list)
    assert {(one["name"], one["version"], one["bom-ref"]) for one in components} == {
        ("torch", "2.13.0", "pkg:pypi/torch@2.13.0"),
        ("Click", "8.5.1", "pkg:pypi/click@8.5.1"),
    }
    about = said.predicate["metadata"]["component"]
    assert (about["name"], about["version"]) == (manifest.name, str(manifest.digest))

"""What may not be deployed is refused before a request is sent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_artifacts.directory import FolderRegistry
from lmi_artifacts.errors import ArtifactRefused, ArtifactRevoked, ReferenceInvalid
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.trust import parse_demands
from lmi_compile.deploy.preflight import checked, ready_seconds, unknown_instance

BOTH = parse_demands("verified,proven")


def test_what_fits_passes_and_knows_its_start(registry: FolderRegistry, ref: ArtifactRef) -> None:
    found = checked(registry, ref, "ml.g5.12xlarge", BOTH, ())
    assert ready_seconds(found) == 2.0


@pytest.mark.parametrize(
    ("instance", "says"),
    [("ml.p4d.24xlarge", "compiled for SM 86"), ("ml.g5.xlarge", "needs 4 devices")],
)
def test_an_instance_that_cannot_load_it_is_refused(
    registry: FolderRegistry, ref: ArtifactRef, instance: str, says: str
) -> None:
    with pytest.raises(ArtifactRefused, match=says):
        checked(registry, ref, instance, BOTH, ())


def test_a_revoked_artifact_is_refused_first(registry: FolderRegistry, ref: ArtifactRef) -> None:
    registry.mark_revoked(ref, "wrong weights")
    with pytest.raises(ArtifactRevoked, match="wrong weights"):
        checked(registry, ref, "ml.g5.xlarge", BOTH, ())


def test_what_was_never_verified_is_refused(
    tmp_path: Path, tree: Path, make_manifest: Callable[..., Manifest]
) -> None:
    registry, manifest = FolderRegistry(tmp_path / "bare"), make_manifest()
    found = registry.publish(tree, manifest).ref
    with pytest.raises(ArtifactRefused, match=r"verdict|verified"):
        checked(registry, found, "ml.g5.12xlarge", BOTH, ())
    assert ready_seconds(checked(registry, found, "ml.g5.12xlarge", (), ())) is None


def test_an_instance_nobody_knows_is_named(registry: FolderRegistry, ref: ArtifactRef) -> None:
    with pytest.raises(ReferenceInvalid, match=r"ml\.g5\.12xlarge"):
        checked(registry, ref, "ml.g5.12xlage", BOTH, ())
    with pytest.raises(ArtifactRefused, match=r"ml\.g5\.xlarge"):
        unknown_instance("ml.g5.xlrge", ["ml.g5.xlarge", "ml.c5.large"])

"""Whoever asks is told every byte of a tree once, whatever is done with it."""

from pathlib import Path

from lmi_artifacts.directory import FolderRegistry
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.tree import check_tree


def test_a_registry_tells_the_bytes_it_publishes_checks_and_pulls(
    tree: Path, manifest: Manifest, tmp_path: Path
) -> None:
    registry = FolderRegistry(tmp_path / "registry")
    told: list[int] = []
    registry.progress = told.append

    def count() -> int:
        total = sum(told)
        told.clear()
        return total

    ref = registry.publish(tree, manifest).ref
    assert count() == manifest.size
    registry.check(ref)
    assert count() == 0
    registry.check(ref, rehash=True)
    assert count() == manifest.size
    registry.pull(ref, tmp_path / "pulled")
    assert count() == manifest.size
    assert registry.pull(ref, tmp_path / "pulled").up_to_date
    assert count() == 0
    check_tree(tmp_path / "pulled", manifest, rehash=True, progress=told.append)
    assert count() == manifest.size

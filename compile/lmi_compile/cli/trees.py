"""The served tree that a command line names, checked before anything reads it."""

from pathlib import Path

from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry
from lmi_artifacts.tree import check_tree, read_manifest
from lmi_compile.cli.progress import meter, reading
from lmi_compile.console import Console


def checked_tree(
    registry: Registry, artifact: str, cache: Path, console: Console
) -> tuple[Path, Manifest]:
    """The served tree that a directory or a reference means, with every byte checked."""
    if Path(artifact).is_dir():
        tree = Path(artifact)
        manifest = read_manifest(tree)
        with reading(console, f"checking {manifest.name}", manifest.size) as told:
            check_tree(tree, manifest, rehash=True, progress=told)
        return tree, manifest
    found = registry.resolve(artifact)
    with meter(console, registry, f"checking {found.name}", registry.manifest(found).size):
        return _checked(registry, found, cache)


def _checked(registry: Registry, found: ArtifactRef, cache: Path) -> tuple[Path, Manifest]:
    if registry.url.startswith("s3://"):  # every byte is verified on its way here
        kept = cache / "pulled" / found.digest.hex
        pulled = registry.pull(found, kept, trust_remote_code=True)  # to judge it, not to serve it
        manifest = registry.manifest(found)
        check_tree(pulled.path, manifest, rehash=pulled.up_to_date)
        return pulled.path, manifest
    return Path(registry.location(found)), registry.check(found, rehash=True)

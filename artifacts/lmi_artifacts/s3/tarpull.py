"""The stored `model.tar.gz`: held against its manifest, verified and fetched without a copy."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.files import write_all
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.s3 import keys
from lmi_artifacts.s3.download import Downloader
from lmi_artifacts.s3.store import Store
from lmi_artifacts.tarform import TAR_NAME, tar_size

if TYPE_CHECKING:
    from lmi_artifacts.s3.registry import S3Registry


def check_tar(store: Store, ref: ArtifactRef, manifest: Manifest) -> None:
    """Hold a stored tar.gz against the manifest: gzip ends with its content's size.

    Raises:
        ArtifactRefused: it is cut short, or holds something else.
    """
    entry = store.head(keys.packed(ref))
    if entry is None:
        return
    end = store.tail(keys.packed(ref), 4) if entry.size > 4 else b""  # noqa: PLR2004 - gzip's ISIZE
    if int.from_bytes(end, "little") != tar_size(manifest) % 2**32:
        where = f"{store.address.url}/{keys.packed(ref)}"
        raise ArtifactRefused(where, ["is cut short, or holds something else"])


def _copy_object(store: Store, ref: ArtifactRef, out: int, progress: Callable[[int], None]) -> bool:
    """Write the stored archive to an open file; says whether there is one."""
    entry = store.head(keys.packed(ref))
    if entry is None:
        return False
    whole = ManifestFile(path=TAR_NAME, size=entry.size, sha256="")
    loader = Downloader(store, keys.home(ref), progress)
    try:
        loader.announce([whole], None)
        for piece in loader.pieces(whole):
            write_all(out, piece)
    finally:
        loader.close()
    return True


def verify_stored_tar(store: Store, ref: ArtifactRef, progress: Callable[[int], None]) -> None:
    """Read the whole stored archive and check every byte of it.

    Raises:
        ArtifactRefused: it is not this artifact's.
    """
    from lmi_artifacts.tarcheck import verify_tar_gz  # noqa: PLC0415 - only a whole tar.gz needs it

    with tempfile.NamedTemporaryFile() as temporary:
        if _copy_object(store, ref, temporary.fileno(), progress):
            verify_tar_gz(Path(temporary.name), ref.digest)


def fetch_tar(registry: "S3Registry", ref: ArtifactRef, manifest: Manifest, target: Path) -> None:
    """Bring the archive to a file that does not exist yet, packed here if none is stored."""
    out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        if not _copy_object(registry.store, ref, out, registry.progress):
            _pack_to(registry, ref, manifest, out)
        os.fsync(out)
    finally:
        os.close(out)


def _pack_to(registry: "S3Registry", ref: ArtifactRef, manifest: Manifest, out: int) -> None:
    from lmi_artifacts.bundle import write_stream  # noqa: PLC0415 - loads isal

    class File:
        def write(self, data: bytes, /) -> object:
            write_all(out, data)
            return len(data)

    loader = Downloader(registry.store, keys.tree(ref), registry.progress)
    try:
        loader.announce(manifest.files, None)
        write_stream(manifest, loader.read, File())
    finally:
        loader.close()

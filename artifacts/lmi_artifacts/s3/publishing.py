"""The way of one artifact into a bucket: files, statements, index; the manifest last."""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmi_artifacts.bundle import Content, read_checked, write_stream
from lmi_artifacts.content import Data
from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused, RegistryUnavailable
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.paths import MANIFEST_NAME
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Layout
from lmi_artifacts.s3 import keys, saying, sealed
from lmi_artifacts.s3.answers import Entry
from lmi_artifacts.s3.client import Refused
from lmi_artifacts.s3.lease import Lease
from lmi_artifacts.s3.pointers import Index
from lmi_artifacts.s3.store import Conflict, Store
from lmi_artifacts.s3.upload import PART, PartWriter, upload_file
from lmi_artifacts.statement import Statement
from lmi_artifacts.tarform import tar_size
from lmi_artifacts.tree import check_tree

_SHARED: Final = 2**20  # smaller files are sent again: that costs less than asking
_SMALL_WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One artifact on its way into a store, under a lease."""

    store: Store
    ref: ArtifactRef
    manifest: Manifest
    lease: Lease
    progress: Callable[[int], None]
    checkpoint: Callable[[str], None]
    """Told where the publish is; the crash tests stop there."""


def create(job: Job, tree: Path, said: Sequence[Statement], layouts: Collection[Layout]) -> bool:
    """Send everything, then make it visible.

    Returns:
        False where somebody else made the same artifact visible meanwhile.

    Raises:
        ArtifactRefused: the tree is not what the manifest says.
    """
    check_tree(tree, job.manifest, rehash=False)
    job.checkpoint("before the first part")
    _send_tree(job, tree)
    job.store.put(keys.tree(job.ref) + MANIFEST_NAME, job.manifest.to_bytes())
    if "tar.gz" in layouts:
        pack_from(job, tree)
    for statement in said:
        saying.add(job.store, job.ref, statement)
    Index(job.store).add(job.ref, time.time_ns())
    job.checkpoint("between complete and manifest")
    job.lease.confirm()
    try:
        job.store.put(keys.home(job.ref) + keys.MANIFEST, job.manifest.to_bytes(), "absent")
    except Conflict:
        # The index entry stays: after a lost answer it is the only one; two are read as one.
        return False
    job.checkpoint("between manifest and tag")
    return True


def _send_tree(job: Job, tree: Path) -> None:
    prefix = keys.tree(job.ref)
    there = {entry.key.removeprefix(prefix): entry for entry in job.store.list(prefix)}
    missing = [file for file in job.manifest.files if not _is_there(file, there)]
    job.progress(job.manifest.size - sum(file.size for file in missing))
    with ThreadPoolExecutor(_SMALL_WORKERS) as pool:
        small = [file for file in missing if file.size <= PART]
        waiting = [pool.submit(_send_small, job, tree, file) for file in small]
        for file in missing:
            if file.size > PART:
                _send_large(job, tree, file)
        for future in waiting:
            future.result()


def _is_there(file: ManifestFile, there: dict[str, Entry]) -> bool:
    """Whether an earlier attempt, killed since, sent the file: objects only appear verified."""
    entry = there.get(file.path)
    return entry is not None and entry.size == file.size


def _send_small(job: Job, tree: Path, file: ManifestFile) -> None:
    if not _send_shared(job, file):
        upload_file(job.store, keys.tree(job.ref) + file.path, tree / file.path, file, job.progress)
        _remember(job, file)


def _send_large(job: Job, tree: Path, file: ManifestFile) -> None:
    if _send_shared(job, file):
        return
    parts = 0

    def progress(count: int) -> None:
        nonlocal parts
        parts += 1
        job.lease.renew()
        job.progress(count)
        job.checkpoint("between parts")

    upload_file(job.store, keys.tree(job.ref) + file.path, tree / file.path, file, progress)
    _remember(job, file)


def _send_shared(job: Job, file: ManifestFile) -> bool:
    """Copy a content that the bucket has already, without sending it; says whether it did.

    The copy is of the very version (its ETag) whose content was verified when it was sent, by the
    digest that this manifest's readers will use.
    """
    stored = _stored(job, file)
    if stored is None:
        return False
    source, etag = stored
    try:
        job.store.copy(source, keys.tree(job.ref) + file.path, file.size, etag)
    except (Refused, RegistryUnavailable):
        return False  # gone, changed, or not to be copied: then it is sent
    copied = job.store.head(keys.tree(job.ref) + file.path)
    if copied is None or copied.size != file.size:
        return False
    job.progress(file.size)
    return True


def _stored(job: Job, file: ManifestFile) -> tuple[str, str] | None:
    """Find an object that holds a content, and its ETag, where it is worth to ask."""
    if file.size < _SHARED:
        return None
    try:
        found = sealed.read(job.store, keys.blob(file.sha256))
    except ArtifactRefused:
        return None
    if found is None or found.value.get("blake3") != file.blake3:
        return None
    match found.value:
        case {"key": str(source), "etag": str(etag), "size": file.size}:
            return source, etag
        case _:
            return None


def _remember(job: Job, file: ManifestFile) -> None:
    if file.size < _SHARED:
        return
    key = keys.tree(job.ref) + file.path
    entry = job.store.head(key)
    if entry is not None and entry.size == file.size:
        value: dict[str, JSONValue] = {
            "key": key, "etag": entry.etag, "size": entry.size, "blake3": file.blake3,
        }  # fmt: skip
        sealed.write(job.store, keys.blob(file.sha256), value)


def pack_from(job: Job, tree: Path) -> None:
    """Send model.tar.gz, compressed while it is sent; no copy on any disk."""

    def content(file: ManifestFile, put: Callable[[Data], object]) -> None:
        read_checked(tree / file.path, file, put)

    pack(job, content)


def pack(job: Job, content: Content) -> None:
    """Send model.tar.gz, whatever the files come from."""
    writer = PartWriter(job.store, keys.packed(job.ref), tar_size(job.manifest), job.progress)
    try:
        write_stream(job.manifest, content, writer)
        writer.finish()
    finally:
        writer.close()

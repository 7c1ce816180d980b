"""The `Registry` Protocol on a bucket; `keys` says what lies where.

Visibility is one conditional PUT of `manifest.json`, after everything else. No reader looks
through all artifacts to find one.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

from lmi_artifacts.digest import Digest, digest_bytes
from lmi_artifacts.errors import (
    ArtifactNotFound,
    ArtifactRefused,
    PublishFailed,
)
from lmi_artifacts.finding import Finding
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.paths import MANIFEST_NAME
from lmi_artifacts.pulling import (
    for_rank,
    is_up_to_date,
    pull_tar_gz,
    pull_tree,
    refuse_remote_code,
)
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import (
    GARBAGE_SECONDS,
    Action,
    Inspected,
    Layout,
    Published,
    Pulled,
    Summary,
)
from lmi_artifacts.s3 import gc, keys, publishing, saying
from lmi_artifacts.s3.address import Address
from lmi_artifacts.s3.catalog import Catalog
from lmi_artifacts.s3.client import Refused
from lmi_artifacts.s3.download import Downloader
from lmi_artifacts.s3.lease import Lease
from lmi_artifacts.s3.listing import is_visible, nearest, summaries
from lmi_artifacts.s3.pointers import Actions, Index, Tags
from lmi_artifacts.s3.store import Store
from lmi_artifacts.s3.tarpull import check_tar, fetch_tar, verify_stored_tar
from lmi_artifacts.s3.upkeep import S3Upkeep
from lmi_artifacts.statement import Statement


def _nothing(count: int) -> None:
    del count


def _no_stop(where: str) -> None:
    del where


class S3Registry(S3Upkeep, Finding):
    """A registry under one prefix of one bucket; any number of processes may share it.

    Attributes:
        store: the objects; `store.requests` counts what was sent.
        progress: told how many bytes more went, or came.
        checkpoint: told where a publish is.
    """

    def __init__(self, address: Address, *, allow_simulated: bool = False) -> None:
        self.store = Store(address)
        self.progress: Callable[[int], None] = _nothing
        self.checkpoint: Callable[[str], None] = _no_stop
        self._tags = Tags(self.store)
        self._catalog = Catalog(self.store)
        self._actions = Actions(self.store)
        self._index = Index(self.store)
        self._allow_simulated = allow_simulated

    @property
    def url(self) -> str:
        """The bucket and prefix."""
        return self.store.address.url

    # ---------------------------------------------------------------- publishing

    def publish(
        self,
        tree: Path,
        manifest: Manifest,
        *,
        statements: Sequence[Statement] = (),
        layouts: Collection[Layout] = (),
        action_key: str | None = None,
        tags: Collection[str] = (),
    ) -> Published:
        """Make an artifact visible, whole or not at all; see the Protocol."""
        ref = ArtifactRef(name=manifest.name, digest=manifest.digest)
        self._refuse_to_publish(ref, manifest, statements)
        if action_key is not None:
            keys.action(action_key)
        for tag in tags:
            keys.tag(ref.name, tag)
        with self._publishing(ref), self._leased(ref) as lease:
            created = self.store.head(keys.home(ref) + keys.MANIFEST) is None
            job = self._job(ref, manifest, lease)
            if created:
                created = self._create(job, tree, statements, layouts)
            if not created:
                self._complete(job, statements, layouts)
            if action_key is not None:
                self._actions.write(action_key, ref, [item.digest for item in statements])
            for tag in tags:
                self._tags.put(ref, tag)
                self._catalog.enter(manifest, tag)
        return Published(ref=ref, created=created)

    def _job(self, ref: ArtifactRef, manifest: Manifest, lease: Lease) -> publishing.Job:
        return publishing.Job(
            store=self.store, ref=ref, manifest=manifest, lease=lease,
            progress=self.progress, checkpoint=self.checkpoint,
        )  # fmt: skip

    def _refuse_to_publish(
        self, ref: ArtifactRef, manifest: Manifest, said: Sequence[Statement]
    ) -> None:
        if manifest.simulated and not self._allow_simulated:
            cause = "a simulator made it, and this registry does not take simulated artifacts"
            raise PublishFailed(str(ref), self.url, cause)
        for item in said:
            if (item.name, item.subject) != (ref.name, ref.digest):
                cause = f"the statement {item.predicate_type} is about {item.name}@{item.subject}"
                raise PublishFailed(str(ref), self.url, cause)
            item.to_bytes()

    @contextmanager
    def _publishing(self, ref: ArtifactRef) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PublishFailed(str(ref), self.url, str(error)) from error
        except Refused as error:
            cause = f"the server answered {error.code or error.status}"
            raise PublishFailed(str(ref), self.url, cause) from error

    def _create(
        self,
        job: publishing.Job,
        tree: Path,
        said: Sequence[Statement],
        layouts: Collection[Layout],
    ) -> bool:
        try:
            return publishing.create(job, tree, said, layouts)
        except ArtifactRefused as error:
            self._forget(job)
            raise PublishFailed(str(job.ref), self.url, str(error)) from error

    def _forget(self, job: publishing.Job) -> None:
        """Remove what a refused tree left, unless another publisher of it is at work."""
        for key, upload, _ in self.store.uploads(keys.home(job.ref)):
            self.store.abort_upload(key, upload)
        gc.sweep_home(
            self.store, job.ref, GARBAGE_SECONDS, time.time(), dry_run=False, own=job.lease.key
        )

    def _complete(
        self, job: publishing.Job, said: Sequence[Statement], layouts: Collection[Layout]
    ) -> None:
        """Add what a publish brings to an artifact that is there already, and whole."""
        self.check(job.ref)
        for item in said:
            saying.add(self.store, job.ref, item)
        if "tar.gz" in layouts and self.store.head(keys.packed(job.ref)) is None:
            with self._downloader(job.ref, job.manifest) as loader:
                publishing.pack(job, loader.read)

    def add_statement(self, ref: ArtifactRef, statement: Statement) -> None:
        """Say one more thing about an artifact; see the Protocol."""
        self._refuse_to_publish(ref, self.manifest(ref), [statement])
        with self._leased(ref):
            saying.add(self.store, ref, statement)

    # ---------------------------------------------------------------- reading

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Read an artifact's manifest, checked against the reference's digest."""
        manifest = self._read(ref)
        if manifest.simulated and not self._allow_simulated:
            raise ArtifactRefused(str(ref), ["a simulator made it; it loads on no hardware"])
        return manifest

    def _read(self, ref: ArtifactRef) -> Manifest:
        key = keys.home(ref) + keys.MANIFEST
        for _ in range(3):  # a flipped bit on the way is gone the next time
            found = self.store.get(key)
            if found is None:
                raise ArtifactNotFound(str(ref), self.url, self._nearest(ref.name))
            if digest_bytes(found.data) == ref.digest:
                break
        else:
            raise ArtifactRefused(str(ref), [f"{key} was changed: it has another sha256"])
        manifest = Manifest.parse(found.data)
        if manifest.name != ref.name:
            raise ArtifactRefused(str(ref), [f"{key} is about {manifest.name!r}"])
        return manifest

    def location(self, ref: ArtifactRef, layout: Layout = "prefix") -> str:
        """Give the S3 URL of a layout; a prefix ends in `/`, as SageMaker asks."""
        start = f"s3://{self.store.address.bucket}/{self.store.address.prefix}"
        match layout:
            case "prefix":
                return start + keys.tree(ref)
            case "tar.gz":
                return start + keys.packed(ref)
            case _:
                assert_never(layout)

    def statements(self, ref: ArtifactRef) -> tuple[Statement, ...]:
        """Read what is said about an artifact, oldest first."""
        self.manifest(ref)
        return saying.read(self.store, ref)

    def inspect(self, ref: ArtifactRef) -> Inspected:
        """Read all that a decision about an artifact needs: three requests."""
        manifest = self.manifest(ref)
        said, marked = saying.read_all(self.store, ref)
        revoked = self.revocation(ref) if marked else None
        return Inspected(manifest=manifest, statements=said, revoked=revoked)

    def check(self, ref: ArtifactRef, *, rehash: bool = False) -> Manifest:
        """Check that an artifact is there and whole; see the Protocol."""
        manifest = self.manifest(ref)
        self._check_listing(ref, manifest)
        check_tar(self.store, ref, manifest)
        if rehash:
            self._rehash(ref, manifest)
            verify_stored_tar(self.store, ref, self.progress)
            saying.read(self.store, ref, each=True)
        return manifest

    def _check_listing(self, ref: ArtifactRef, manifest: Manifest) -> None:
        prefix = keys.tree(ref)
        there = {entry.key.removeprefix(prefix): entry for entry in self.store.list(prefix)}
        problems: list[str] = []
        inside = there.pop(MANIFEST_NAME, None)
        if inside is None or self._inner(ref) != manifest.to_bytes():
            problems.append(f"{MANIFEST_NAME!r}: is missing, or another manifest")
        for file in manifest.files:
            entry = there.pop(file.path, None)
            if entry is None:
                problems.append(f"{file.path!r}: is missing")
            elif entry.size != file.size:
                problems.append(f"{file.path!r}: has {entry.size} bytes, not {file.size}")
        problems += [f"{path!a}: is not in the manifest" for path in sorted(there)]
        if problems:
            raise ArtifactRefused(str(ref), problems)

    def _inner(self, ref: ArtifactRef) -> bytes:
        for _ in range(3):
            found = self.store.get(keys.tree(ref) + MANIFEST_NAME)
            if found is not None and digest_bytes(found.data) == ref.digest:
                return found.data
        return b""

    def _rehash(self, ref: ArtifactRef, manifest: Manifest) -> None:
        with self._downloader(ref, manifest) as loader:
            for file in manifest.files:
                loader.read(file, lambda _: None, fully=True)

    @contextmanager
    def _downloader(self, ref: ArtifactRef, manifest: Manifest) -> Iterator[Downloader]:
        """Give a reader of an artifact's files, in the manifest's order, verified, in parallel."""
        loader = Downloader(self.store, keys.tree(ref), self.progress)
        try:
            loader.announce(manifest.files, None)
            yield loader
        finally:
            loader.close()

    def pull(
        self,
        ref: ArtifactRef,
        dest: Path,
        *,
        layout: Layout = "prefix",
        rank: int | None = None,
        trust_remote_code: bool = False,
    ) -> Pulled:
        """Copy an artifact to `dest`, verified, whole or not at all; see the Protocol.

        An up-to-date folder costs one small GET: whether the artifact was revoked.
        """
        self.refuse_revoked(ref)
        match layout:
            case "prefix":
                return self._pull_tree(ref, dest, rank, trusted=trust_remote_code)
            case "tar.gz":
                manifest = self.manifest(ref)
                refuse_remote_code(manifest, trusted=trust_remote_code)
                return pull_tar_gz(
                    manifest,
                    dest,
                    lambda target: fetch_tar(self, ref, manifest, target),
                    lambda path: _verify_tar(path, ref),
                )
            case _:
                assert_never(layout)

    def _pull_tree(
        self, ref: ArtifactRef, dest: Path, rank: int | None, *, trusted: bool
    ) -> Pulled:
        there = _local(dest, ref) if rank is None else None
        if there is not None and (self._allow_simulated or not there.simulated):
            refuse_remote_code(there, trusted=trusted)
            is_up_to_date(dest, there)
            count = len(there.files)
            return Pulled(path=dest.resolve(), up_to_date=True, fetched=0, reused=count)
        manifest = self.manifest(ref)
        refuse_remote_code(manifest, trusted=trusted)
        loader = Downloader(self.store, keys.tree(ref), self.progress)

        def announce(files: Sequence[ManifestFile], partial: Path) -> None:
            self._check_listing(ref, manifest)
            loader.announce(files, partial)

        try:
            return pull_tree(for_rank(manifest, rank), dest, loader.fetch, announce)
        finally:
            loader.close()

    # ---------------------------------------------------------------- finding

    def _by_digest(self, prefix: str, name: str | None) -> Sequence[ArtifactRef]:
        return [ref for ref in self._index.by_digest(prefix, name) if self._is_visible(ref)]

    def _newest(self, name: str) -> Sequence[ArtifactRef]:
        for ref in self._index.newest(name, 20):
            if self._is_visible(ref):
                return [ref]
        return []

    def _is_visible(self, ref: ArtifactRef) -> bool:
        return is_visible(self.store, ref)

    def find_action(self, key: str) -> Action | None:
        """Find what a build with this key published, or None."""
        action = self._actions.read(key)
        return action if action is not None and self._is_visible(action.ref) else None

    def tag(self, name: str, tag: str) -> Digest | None:
        """Read where a tag points."""
        return self._tags.read(name, tag)

    def move_tag(self, ref: ArtifactRef, tag: str, *, expected: Digest | None) -> None:
        """Move a tag by compare-and-swap; see the Protocol."""
        keys.tag(ref.name, tag)
        manifest = self.manifest(ref)
        with self._leased(ref):
            self._tags.move(ref, tag, expected)
            self._catalog.enter(manifest, tag)

    def list(self) -> tuple[Summary, ...]:
        """Give every artifact, by name and then newest first."""
        return summaries(self.store, self._read)

    def _nearest(self, text: str) -> tuple[str, ...]:
        return nearest(self.store, text)


def _local(dest: Path, ref: ArtifactRef) -> Manifest | None:
    """Give the manifest of a folder that says it holds this artifact."""
    try:
        data = (dest / MANIFEST_NAME).read_bytes()
    except OSError:
        return None
    return Manifest.parse(data) if digest_bytes(data) == ref.digest else None


def _verify_tar(path: Path, ref: ArtifactRef) -> None:
    from lmi_artifacts.tarcheck import verify_tar_gz  # noqa: PLC0415 - only a whole tar.gz needs it

    verify_tar_gz(path, ref.digest)

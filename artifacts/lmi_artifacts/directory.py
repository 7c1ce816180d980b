"""A registry in a folder.

    artifacts/<name>/<64 hex>/tree/**           the served prefix, lmi-artifact.json at its root
                              model.tar.gz      where that layout was asked for
                              statements/<sha256>.json
                              manifest.json
    tags/<name>/<tag>                           the digest it points at
    actions/<2 hex>/<64 hex>.json               plan key -> artifact and statements
    records/**                                  what came of many builds together
    locks/  staging/                            nothing that a reader looks at

An artifact's home is prepared in staging, fsynced, and renamed: the rename is the step that makes
it visible, and it fails where the home exists (If-None-Match, on a disk).
"""

import errno
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

from lmi_artifacts import staging
from lmi_artifacts.digest import HEX64, Digest, digest_bytes
from lmi_artifacts.errors import (
    ArtifactNotFound,
    ArtifactRefused,
    PublishFailed,
    RegistryUnavailable,
)
from lmi_artifacts.files import Progress, fsync_folder, link_new, untold, write_new
from lmi_artifacts.finding import Finding
from lmi_artifacts.folder_upkeep import FolderUpkeep
from lmi_artifacts.manifest import NAME, Manifest, ManifestFile
from lmi_artifacts.pointers import Actions, Tags
from lmi_artifacts.pulling import for_rank, pull_tar_gz, pull_tree, refuse_remote_code
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
from lmi_artifacts.statement import Statement
from lmi_artifacts.tarform import TAR_NAME, tar_size
from lmi_artifacts.tree import check_tree, copy_file

_THERE = {errno.EEXIST, errno.ENOTEMPTY}


class FolderRegistry(FolderUpkeep, Finding):
    """The `Registry` Protocol on a folder; any number of processes may share it.

    Attributes:
        progress: told how many bytes more were copied or read.
    """

    def __init__(self, root: Path, *, allow_simulated: bool = False) -> None:
        self.progress: Progress = untold
        self._root = root.absolute()
        self._artifacts = self._root / "artifacts"
        self._tags = Tags(self._root)
        self._actions = Actions(self._root)
        self._allow_simulated = allow_simulated

    @property
    def url(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

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
            self._actions.path(action_key)
        for tag in tags:
            self._tags.check(ref.name, tag)
        with self._publishing(ref):
            created = not (self._home(ref) / staging.MANIFEST).exists()
            if created:
                created = self._create(ref, tree, manifest, statements, layouts)
            if not created:
                self._complete(ref, statements, layouts)
            if action_key is not None:
                self._actions.write(action_key, ref, [item.digest for item in statements])
            for tag in tags:
                self._tags.put(ref, tag)
        return Published(ref=ref, created=created)

    def _refuse_to_publish(
        self, ref: ArtifactRef, manifest: Manifest, statements: Sequence[Statement]
    ) -> None:
        if manifest.simulated and not self._allow_simulated:
            cause = "a simulator made it, and this registry does not take simulated artifacts"
            raise PublishFailed(str(ref), self.url, cause)
        for item in statements:
            if (item.name, item.subject) != (ref.name, ref.digest):
                cause = f"the statement {item.predicate_type} is about {item.name}@{item.subject}"
                raise PublishFailed(str(ref), self.url, cause)

    @contextmanager
    def _publishing(self, ref: ArtifactRef) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PublishFailed(str(ref), self.url, str(error)) from error

    def _create(
        self,
        ref: ArtifactRef,
        tree: Path,
        manifest: Manifest,
        statements: Sequence[Statement],
        layouts: Collection[Layout],
    ) -> bool:
        home = self._home(ref)
        try:
            check_tree(tree, manifest, rehash=False)
            with staging.stage(self._root / "staging") as stage:
                prepared = stage / "home"
                staging.prepare(prepared, tree, manifest, statements, layouts, self.progress)
                home.parent.mkdir(parents=True, exist_ok=True)
                prepared.rename(home)
                fsync_folder(home.parent)
        except ArtifactRefused as error:
            raise PublishFailed(str(ref), self.url, str(error)) from error
        except OSError as error:
            if error.errno in _THERE and home.exists():
                return False
            raise
        return True

    def _complete(
        self, ref: ArtifactRef, statements: Sequence[Statement], layouts: Collection[Layout]
    ) -> None:
        """Add what a publish brings to an artifact that is there already, and whole."""
        manifest = self.check(ref)
        for item in statements:
            self.add_statement(ref, item)
        packed = self._home(ref) / TAR_NAME
        if "tar.gz" in layouts and not packed.exists():
            with staging.stage(self._root / "staging") as stage:
                staging.pack(self._home(ref) / staging.TREE, manifest, stage / TAR_NAME)
                link_new(stage / TAR_NAME, packed)

    def add_statement(self, ref: ArtifactRef, statement: Statement) -> None:
        """Say one more thing about an artifact; see the Protocol."""
        self._refuse_to_publish(ref, self.manifest(ref), [statement])
        data = statement.to_bytes()
        path = self._home(ref) / staging.STATEMENTS / staging.statement_name(data)
        with self._publishing(ref):
            if path.exists():
                return
            with staging.stage(self._root / "staging") as stage:
                write_new(stage / path.name, data)
                link_new(stage / path.name, path)

    # ---------------------------------------------------------------- reading

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Read an artifact's manifest, checked against the reference's digest."""
        with self._reading():
            manifest = self._read(ref)
        if manifest.simulated and not self._allow_simulated:
            raise ArtifactRefused(str(ref), ["a simulator made it; it loads on no hardware"])
        return manifest

    def _read(self, ref: ArtifactRef) -> Manifest:
        path = self._home(ref) / staging.MANIFEST
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactNotFound(str(ref), self.url, self._nearest(ref.name)) from None
        if digest_bytes(data) != ref.digest:
            raise ArtifactRefused(str(ref), [f"{path} was changed: it has another sha256"])
        manifest = Manifest.parse(data)
        if manifest.name != ref.name:
            raise ArtifactRefused(str(ref), [f"{path} is about {manifest.name!r}"])
        return manifest

    def location(self, ref: ArtifactRef, layout: Layout = "prefix") -> str:
        """Say where a layout is, or would be, stored."""
        match layout:
            case "prefix":
                return str(self._home(ref) / staging.TREE)
            case "tar.gz":
                return str(self._home(ref) / TAR_NAME)
            case _:
                assert_never(layout)

    def statements(self, ref: ArtifactRef) -> tuple[Statement, ...]:
        """Read what is said about an artifact, oldest first."""
        self.manifest(ref)
        with self._reading():
            return self._statements(ref)

    def inspect(self, ref: ArtifactRef) -> Inspected:
        """Read all that a decision about an artifact needs."""
        manifest, revoked = self.manifest(ref), self.revocation(ref)
        return Inspected(manifest=manifest, statements=self.statements(ref), revoked=revoked)

    def _statements(self, ref: ArtifactRef) -> tuple[Statement, ...]:
        folder = self._home(ref) / staging.STATEMENTS
        statements: list[Statement] = []
        for path in sorted(folder.glob("*.json"), key=lambda it: (it.stat().st_mtime_ns, it.name)):
            data = path.read_bytes()
            if staging.statement_name(data) != path.name:
                raise ArtifactRefused(str(ref), [f"{path} was changed: it has another sha256"])
            statement = Statement.parse(data)
            if (statement.name, statement.subject) != (ref.name, ref.digest):
                raise ArtifactRefused(str(ref), [f"{path} is about another artifact"])
            statements.append(statement)
        return tuple(statements)

    def check(self, ref: ArtifactRef, *, rehash: bool = False) -> Manifest:
        """Check that an artifact is there and whole; see the Protocol."""
        manifest = self.manifest(ref)
        home = self._home(ref)
        with self._reading():
            check_tree(home / staging.TREE, manifest, rehash=rehash, progress=self.progress)
            self._check_tar(home / TAR_NAME, manifest, ref, rehash=rehash)
        if rehash:
            self.statements(ref)
        return manifest

    def _check_tar(self, path: Path, manifest: Manifest, ref: ArtifactRef, *, rehash: bool) -> None:
        """Hold a stored tar.gz against the manifest: gzip ends with its content's size."""
        if not path.exists():
            return
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 4))
            size = int.from_bytes(stream.read(), "little")
        if size != tar_size(manifest) % 2**32:
            raise ArtifactRefused(str(path), ["is cut short, or holds something else"])
        if rehash:
            _verify_tar(path, ref)

    def pull(
        self,
        ref: ArtifactRef,
        dest: Path,
        *,
        layout: Layout = "prefix",
        rank: int | None = None,
        trust_remote_code: bool = False,
    ) -> Pulled:
        """Copy an artifact to `dest`, verified, whole or not at all; see the Protocol."""
        manifest = self.manifest(ref)
        self.refuse_revoked(ref)
        refuse_remote_code(manifest, trusted=trust_remote_code)
        home = self._home(ref)
        match layout:
            case "prefix":

                def fetch(file: ManifestFile, target: Path) -> None:
                    copy_file(home / staging.TREE / file.path, target, file, self.progress)

                return pull_tree(for_rank(manifest, rank), dest, fetch)
            case "tar.gz":
                return pull_tar_gz(
                    manifest,
                    dest,
                    lambda target: staging.copy_or_pack(home, manifest, target),
                    lambda path: _verify_tar(path, ref),
                )
            case _:
                assert_never(layout)

    # ---------------------------------------------------------------- finding

    def _by_digest(self, prefix: str, name: str | None) -> Sequence[ArtifactRef]:
        with self._reading():
            names = self._names() if name is None else (name,)
            return [ref for one in names for ref in self._refs(one, prefix)]

    def _newest(self, name: str) -> Sequence[ArtifactRef]:
        with self._reading():
            return self._refs(name)

    def find_action(self, key: str) -> Action | None:
        """Find what a build with this key published, or None."""
        with self._reading():
            action = self._actions.read(key)
            if action is None or not (self._home(action.ref) / staging.MANIFEST).exists():
                return None
        return action

    def tag(self, name: str, tag: str) -> Digest | None:
        """Read where a tag points."""
        with self._reading():
            return self._tags.read(name, tag)

    def move_tag(self, ref: ArtifactRef, tag: str, *, expected: Digest | None) -> None:
        """Move a tag by compare-and-swap; see the Protocol."""
        self.manifest(ref)
        with self._publishing(ref):
            self._tags.move(ref, tag, expected)

    def list(self) -> tuple[Summary, ...]:
        """Give every artifact, by name and then newest first."""
        with self._reading():
            return tuple(self._summary(ref) for name in self._names() for ref in self._refs(name))

    def _summary(self, ref: ArtifactRef) -> Summary:
        home = self._home(ref)
        size, files, simulated = 0, 0, False
        types: tuple[str, ...] = ()
        problems: tuple[str, ...] = ()
        try:
            manifest = self._read(ref)
            size, files, simulated = manifest.size, len(manifest.files), manifest.simulated
            types = tuple(item.predicate_type for item in self._statements(ref))
        except ArtifactRefused as error:
            problems = error.problems
        created = (home / staging.MANIFEST).stat().st_mtime
        tags = self._tags.of(ref.name).items()
        return Summary(
            ref=ref,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)),
            size=size,
            files=files,
            tags=tuple(tag for tag, digest in tags if digest == ref.digest),
            layouts=("prefix", "tar.gz") if (home / TAR_NAME).exists() else ("prefix",),
            statements=types,
            simulated=simulated,
            problems=problems,
        )

    def _names(self) -> tuple[str, ...]:
        return _entries(self._artifacts)

    def _refs(self, name: str, prefix: str = "") -> tuple[ArtifactRef, ...]:
        """Give the visible artifacts of a name whose digest starts so, newest first."""
        found: list[tuple[int, ArtifactRef]] = []
        for digits in _entries(self._artifacts / name):
            if digits.startswith(prefix) and HEX64.fullmatch(digits) is not None:
                manifest = self._artifacts / name / digits / staging.MANIFEST
                if manifest.exists():
                    ref = ArtifactRef(name=name, digest=Digest(hex=digits))
                    found.append((manifest.stat().st_mtime_ns, ref))
        return tuple(ref for _, ref in sorted(found, reverse=True))

    def _nearest(self, text: str) -> tuple[str, ...]:
        from difflib import get_close_matches  # noqa: PLC0415 - only a failure needs it

        names = self._names()
        name = text.partition("@")[0].partition(":")[0]
        if name in names:
            tags = [f"{name}:{tag}" for tag in self._tags.of(name)]
            return (*tags[:3], *(str(ref) for ref in self._refs(name)[:3]))
        return tuple(get_close_matches(name, names, cutoff=0.5))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RegistryUnavailable(self.url, str(error)) from error

    # ---------------------------------------------------------------- upkeep

    def collect_garbage(
        self, *, older_than: float = GARBAGE_SECONDS, dry_run: bool = True
    ) -> tuple[str, ...]:
        """Remove what crashed publishers left in staging, and say what."""
        with self._reading():
            return staging.collect(self._root / "staging", older_than, dry_run=dry_run)


def _entries(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(path.name for path in folder.iterdir() if NAME.fullmatch(path.name)))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _verify_tar(path: Path, ref: ArtifactRef) -> None:
    from lmi_artifacts.tarcheck import verify_tar_gz  # noqa: PLC0415 - only a whole tar.gz needs it

    verify_tar_gz(path, ref.digest)

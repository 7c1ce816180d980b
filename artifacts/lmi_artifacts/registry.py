"""What every registry can do, whatever holds it, and how a URL becomes one.

The order of a publish is the same everywhere: files and statements first, then the one step that
makes the artifact visible (exclusive: If-None-Match), then the action index and tags. Artifacts
are immutable; only tags move, by compare-and-swap. Readers verify every byte they use.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from lmi_artifacts.digest import Digest, JSONValue
from lmi_artifacts.errors import ReferenceInvalid, RegistryUnavailable
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.statement import Statement

Layout = Literal["prefix", "tar.gz"]
GARBAGE_SECONDS: Final = 3600.0
RECORD: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,180}(?:/[a-z0-9][a-z0-9._-]{0,180}){0,4}")
RECORD_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publish came to: the artifact, and whether this call created it."""

    ref: ArtifactRef
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull came to: where the artifact is, and how many files had to be fetched."""

    path: Path
    up_to_date: bool
    fetched: int
    reused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What a build with some key came to: an artifact, and the statements that build made."""

    ref: ArtifactRef
    statements: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One line of a listing.

    Attributes:
        ref: the artifact.
        created: when it became visible, UTC, `2026-01-31T12:00:00Z`.
        size: bytes of its files; 0 where the manifest is damaged.
        files: how many files it has.
        tags: the tags that point at it, sorted.
        layouts: the layouts stored ready for use; every artifact can be pulled in each.
        statements: the predicate types said about it, oldest first.
        simulated: whether a simulator made it.
        problems: why it cannot be used; empty for a sound one.
    """

    ref: ArtifactRef
    created: str
    size: int
    files: int
    tags: tuple[str, ...]
    layouts: tuple[Layout, ...]
    statements: tuple[str, ...]
    simulated: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What choosing among artifacts needs to know of one.

    Attributes:
        ref: the artifact.
        created: seconds since 1970.
        serving: the manifest's hardware and container images.
        quantization: the recipe's method, `none` where there is none.
        simulated: whether a simulator made it.
    """

    ref: ArtifactRef
    created: float
    serving: Mapping[str, JSONValue]
    quantization: str
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """All that a decision about one artifact needs.

    Attributes:
        manifest: checked against the digest.
        statements: oldest first, each checked.
        revoked: the reason it was taken back for, or None.
    """

    manifest: Manifest
    statements: tuple[Statement, ...]
    revoked: str | None


class Registry(Protocol):
    """A place that artifacts are published to and pulled from.

    Each method raises `RegistryUnavailable` when the place cannot be read, `ArtifactNotFound` for
    a reference it does not hold, and `ArtifactRefused` for what is damaged or forged, or simulated
    where the registry was not opened for simulated artifacts.
    """

    @property
    def url(self) -> str:
        """Where the registry is, without credentials."""

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
        """Make an artifact visible, whole or not at all; a second time says 'already there'.

        Args:
            tree: the served tree, with or without its manifest file.
            manifest: exactly what the tree holds.
            statements: said about this artifact; added to those already there.
            layouts: what to store beside the prefix, which is always stored.
            action_key: the 64 hex digits under which `find_action` shall find it.
            tags: moved to this artifact, wherever they are.

        Raises:
            PublishFailed: the tree is not what the manifest says, a statement is about something
                else, or the registry cannot be written.
            PackageInvalid: no reader would accept the manifest or a statement.
        """

    def resolve(self, text: str) -> ArtifactRef:
        """Find the one artifact that a reference means; a bare name means the newest of it.

        Raises:
            ReferenceInvalid: the text is not a reference.
            ReferenceAmbiguous: a digest prefix fits several artifacts.
        """

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Read an artifact's manifest, checked against the reference's digest."""

    def location(self, ref: ArtifactRef, layout: Layout = "prefix") -> str:
        """Say where a layout is (or would be) stored, as a path or URL a server can be given."""

    def statements(self, ref: ArtifactRef) -> tuple[Statement, ...]:
        """Read what is said about an artifact, oldest first, each checked against its digest."""

    def add_statement(self, ref: ArtifactRef, statement: Statement) -> None:
        """Say one more thing about an artifact; saying the same again changes nothing.

        Raises:
            PublishFailed: it is about something else, or the registry cannot be written.
        """

    def find_action(self, key: str) -> Action | None:
        """Find what a build with this key published, or None."""

    def tag(self, name: str, tag: str) -> Digest | None:
        """Read where a tag points."""

    def move_tag(self, ref: ArtifactRef, tag: str, *, expected: Digest | None) -> None:
        """Move a tag from `expected` (None: the tag is new) to an artifact, by compare-and-swap.

        Raises:
            TagMoved: the tag points somewhere else than expected.
            PublishFailed: the registry cannot be written.
        """

    def list(self) -> tuple[Summary, ...]:
        """Give every artifact, by name and then newest first."""

    def check(self, ref: ArtifactRef, *, rehash: bool = False) -> Manifest:
        """Check that an artifact is there and whole.

        The manifest's digest and the presence and size of every file are always checked;
        `rehash` reads every byte, statements and the tar.gz included.
        """

    def pull(
        self,
        ref: ArtifactRef,
        dest: Path,
        *,
        layout: Layout = "prefix",
        rank: int | None = None,
        trust_remote_code: bool = False,
    ) -> Pulled:
        """Copy an artifact to `dest`, verified, whole or not at all; resumes a killed pull.

        Args:
            ref: the artifact.
            dest: the folder for `prefix`, the file for `tar.gz`.
            layout: the form to get it in.
            rank: leave out the files of other ranks; only for `prefix`.
            trust_remote_code: take an artifact whose model runs code of its own repository.

        Raises:
            ArtifactRefused: it runs such code, and nobody said that it may.
            PullFailed: `dest` holds something else, or cannot be written.
        """

    def collect_garbage(
        self, *, older_than: float = GARBAGE_SECONDS, dry_run: bool = True
    ) -> tuple[str, ...]:
        """Remove what crashed publishers left, and say what; living publishers are left alone."""

    def inspect(self, ref: ArtifactRef) -> Inspected:
        """Read all that a decision about an artifact needs, in as few requests as possible."""

    def revocation(self, ref: ArtifactRef) -> str | None:
        """Give the reason an artifact was revoked for, or None."""

    def refuse_revoked(self, ref: ArtifactRef) -> None:
        """Raise ArtifactRevoked where an artifact was taken back; `pull` does it by itself."""

    def mark_revoked(self, ref: ArtifactRef, reason: str) -> None:
        """Take an artifact back; from now on every `pull` refuses it."""

    def tagged(self, tag: str, model: str) -> tuple[Candidate, ...]:
        """Give what carries a tag and was made of a model (its id or name), newest first."""

    def remove(self, ref: ArtifactRef) -> tuple[str, ...]:
        """Remove one artifact that nothing points at; gives what went.

        Nothing goes where somebody is publishing the same artifact.
        """

    def add_record(self, name: str, data: bytes) -> bool:
        """Keep something about many artifacts, such as what came of a night's builds.

        Args:
            name: `[a-z0-9._-]` in parts divided by `/`; fits `RECORD`.
            data: at most `RECORD_BYTES`.

        Returns:
            False where the name is taken: a record never changes.

        Raises:
            ReferenceInvalid: the name cannot be a record's, or the data is too much.
            PublishFailed: the registry cannot be written.
        """

    def read_record(self, name: str) -> bytes | None:
        """Read a record, or None where there is none."""

    def records(self, prefix: str) -> tuple[str, ...]:
        """Give the names of the records that start so, sorted."""

    def remove_records(self, names: Sequence[str]) -> None:
        """Remove records; those that are absent already are no failure.

        Raises:
            ReferenceInvalid: a name cannot be a record's; then nothing is removed.
        """


def check_record(name: str, data: bytes = b"") -> str:
    """Give a record's name back where it can be one.

    Raises:
        ReferenceInvalid: it cannot, or the data is too much.
    """
    if RECORD.fullmatch(name) is None:
        raise ReferenceInvalid(name, f"is no record's name; it does not fit {RECORD.pattern}")
    if len(data) > RECORD_BYTES:
        raise ReferenceInvalid(name, f"holds {len(data)} bytes; a record has {RECORD_BYTES}")
    return name


def open_registry(url: str, *, allow_simulated: bool = False) -> Registry:
    """Open a registry by its URL; opening touches nothing.

    Args:
        url: a folder's path, `file://` URL, or `s3://bucket/prefix` (see `s3.address.FORM`).
        allow_simulated: accept artifacts that a simulator made; for tests' own registries.

    Raises:
        RegistryUnavailable: a URL of a kind that this version cannot open.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "s3" and separator:
        from lmi_artifacts.s3.address import parse_address  # noqa: PLC0415 - only for such a URL

        address = parse_address(url)
        try:
            from lmi_artifacts.s3.registry import S3Registry  # noqa: PLC0415 - loads botocore
        except ModuleNotFoundError as error:
            cause = f"{error.name} is not installed; pip install 'lmi-compile[s3]'"
            raise RegistryUnavailable(address.url, cause) from None
        return S3Registry(address, allow_simulated=allow_simulated)
    from lmi_artifacts.directory import FolderRegistry  # noqa: PLC0415 - an s3:// URL needs none

    if not separator:
        if not url:
            raise RegistryUnavailable(repr(url), "the URL is empty")
        return FolderRegistry(Path(url), allow_simulated=allow_simulated)
    if scheme != "file":
        raise RegistryUnavailable(url, "use a folder's path, or a file:// or s3:// URL")
    from urllib.parse import unquote  # noqa: PLC0415 - costs milliseconds that plain paths save

    host, slash, path = rest.partition("/")
    if host not in {"", "localhost"} or not slash:
        raise RegistryUnavailable(url, "a file URL has three slashes: file:///path")
    return FolderRegistry(Path("/" + unquote(path)), allow_simulated=allow_simulated)

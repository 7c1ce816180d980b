"""Tags, actions, the index and the catalogue: the small objects that point at artifacts."""

from collections.abc import Iterator, Sequence

from lmi_artifacts.digest import HEX64, Digest, JSONValue
from lmi_artifacts.errors import ArtifactRefused, ReferenceInvalid, TagMoved
from lmi_artifacts.reference import TAG, ArtifactRef
from lmi_artifacts.registry import Action
from lmi_artifacts.s3 import keys, sealed
from lmi_artifacts.s3.store import Conflict, Store


class Tags:
    """Tags: sealed objects with a digest, moved by If-Match."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, name: str, tag: str) -> Digest | None:
        """Read where a tag points; raises ArtifactRefused where it is damaged."""
        found = sealed.read(self._store, keys.tag(name, tag))
        return None if found is None else _digest(found.value, f"{name}:{tag}")

    def of(self, name: str) -> dict[str, Digest]:
        """Read all tags of a name."""
        prefix = f"tags/{name}/"
        names = [entry.key.removeprefix(prefix) for entry in self._store.list(prefix)]
        found = {tag: self.read(name, tag) for tag in names if TAG.fullmatch(tag)}
        return {tag: digest for tag, digest in found.items() if digest is not None}

    def move(self, ref: ArtifactRef, tag: str, expected: Digest | None) -> None:
        """Move a tag from `expected` (None: from nowhere).

        Raises:
            TagMoved: it is somewhere else.
        """
        key = keys.tag(ref.name, tag)
        found = sealed.read(self._store, key)
        at = None if found is None else _digest(found.value, f"{ref.name}:{tag}")
        if at != expected:
            raise TagMoved(ref.name, tag, _text(expected), _text(at))
        try:
            condition = "absent" if found is None else found.etag
            sealed.write(self._store, key, {"digest": str(ref.digest)}, condition)
        except Conflict:
            now = self.read(ref.name, tag)
            raise TagMoved(ref.name, tag, _text(expected), _text(now)) from None

    def put(self, ref: ArtifactRef, tag: str) -> None:
        """Move a tag, wherever it is now."""
        sealed.swap(
            self._store,
            keys.tag(ref.name, tag),
            lambda _: {"digest": str(ref.digest)},
        )


def _digest(value: object, what: str) -> Digest:
    match value:
        case {"digest": str(text)}:
            try:
                return Digest.parse(text)
            except ReferenceInvalid as error:
                raise ArtifactRefused(what, [f"the tag is damaged: {error}"]) from None
        case _:
            raise ArtifactRefused(what, ["the tag is damaged: it holds no digest"])


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


class Actions:
    """Which artifact a plan key came to. The newest entry for a key wins."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, key: str, ref: ArtifactRef, statements: Sequence[Digest]) -> None:
        """Point a key at an artifact."""
        value: dict[str, JSONValue] = {
            "name": ref.name,
            "digest": str(ref.digest),
            "statements": [str(digest) for digest in statements],
        }
        sealed.write(self._store, keys.action(key), value)

    def read(self, key: str) -> Action | None:
        """Read what a key points at; a damaged entry counts as none, and is written anew."""
        try:
            found = sealed.read(self._store, keys.action(key))
        except ArtifactRefused:
            return None
        match None if found is None else found.value:
            case {"name": str(name), "digest": str(digest), "statements": list(statements)}:
                try:
                    return Action(
                        ref=ArtifactRef(name=name, digest=Digest.parse(digest)),
                        statements=tuple(Digest.parse(str(text)) for text in statements),
                    )
                except ReferenceInvalid:
                    return None
            case _:
                return None


class Index:
    """Empty objects whose keys find artifacts without looking through all of them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, ref: ArtifactRef, nanoseconds: int) -> None:
        """Enter an artifact, before it becomes visible."""
        self._store.put(keys.newest(ref, nanoseconds), b"")
        self._store.put(keys.by_digest(ref), b"")

    def names(self) -> tuple[str, ...]:
        """Give every name."""
        return tuple(key.rpartition("/")[2] for key in self._store.folders("index/names/"))

    def newest(self, name: str, most: int | None = None) -> Iterator[ArtifactRef]:
        """Give the artifacts of a name, newest first; some may not be visible (yet)."""
        seen: set[str] = set()
        for entry in self._store.list(f"index/names/{name}/", most):
            digits = entry.key.rpartition("-")[2]
            if HEX64.fullmatch(digits) and digits not in seen:
                seen.add(digits)
                yield ArtifactRef(name=name, digest=Digest(hex=digits))

    def by_digest(self, prefix: str, name: str | None) -> Iterator[ArtifactRef]:
        """Give the artifacts whose digest starts so."""
        for entry in self._store.list(f"index/digests/{prefix}"):
            _, _, digits, found = entry.key.split("/", 3)
            if HEX64.fullmatch(digits) and name in {None, found}:
                yield ArtifactRef(name=found, digest=Digest(hex=digits))

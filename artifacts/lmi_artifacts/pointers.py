"""The two kinds of small files in a folder registry that point at artifacts: tags and actions."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lmi_artifacts.digest import HEX64, Digest, canonical_json, read_canonical_json
from lmi_artifacts.errors import ArtifactRefused, ReferenceInvalid, TagMoved
from lmi_artifacts.fields import Fields
from lmi_artifacts.files import replace_file
from lmi_artifacts.reference import TAG, ArtifactRef
from lmi_artifacts.registry import Action


class Tags:
    """Tags, each a file with the digest it points at, each with a lock for those who move it."""

    def __init__(self, root: Path) -> None:
        self._tags = root / "tags"
        self._locks = root / "locks"

    def read(self, name: str, tag: str) -> Digest | None:
        """Read where a tag points.

        Raises:
            ReferenceInvalid: this can never be a tag.
            ArtifactRefused: the tag's file is damaged.
            OSError: it cannot be read.
        """
        path = self._path(name, tag)
        what = f"{name}:{tag}"
        try:
            text = path.read_text("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return Digest.parse(text.removesuffix("\n"))
        except ReferenceInvalid as error:
            raise ArtifactRefused(what, [f"{path} is damaged: {error}"]) from None

    def of(self, name: str) -> dict[str, Digest]:
        """Read all tags of a name."""
        folder = self._tags / name
        if not folder.is_dir():
            return {}
        names = sorted(path.name for path in folder.iterdir() if TAG.fullmatch(path.name))
        found = {tag: self.read(name, tag) for tag in names}
        return {tag: digest for tag, digest in found.items() if digest is not None}

    def move(self, ref: ArtifactRef, tag: str, expected: Digest | None) -> None:
        """Move a tag from `expected` (None: from nowhere) to an artifact.

        Raises:
            TagMoved: it is somewhere else.
            OSError: it cannot be written.
        """
        with self._locked(ref.name, tag):
            found = self.read(ref.name, tag)
            if found != expected:
                raise TagMoved(ref.name, tag, _text(expected), _text(found))
            self._write(ref, tag)

    def put(self, ref: ArtifactRef, tag: str) -> None:
        """Move a tag to an artifact, wherever it is now."""
        with self._locked(ref.name, tag):
            self._write(ref, tag)

    def check(self, name: str, tag: str) -> None:
        """Raise ReferenceInvalid unless this can be a tag."""
        self._path(name, tag)

    def _write(self, ref: ArtifactRef, tag: str) -> None:
        path = self._path(ref.name, tag)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{ref.digest}\n".encode())

    def _path(self, name: str, tag: str) -> Path:
        if TAG.fullmatch(tag) is None:
            raise ReferenceInvalid(tag, f"is not a tag; it does not fit {TAG.pattern}")
        return self._tags / name / tag

    @contextmanager
    def _locked(self, name: str, tag: str) -> Iterator[None]:
        self.check(name, tag)
        folder = self._locks / name
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / tag, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


class Actions:
    """The action index: which artifact a plan key came to. The newest entry for a key wins."""

    def __init__(self, root: Path) -> None:
        self._actions = root / "actions"

    def path(self, key: str) -> Path:
        """Name a key's file; raises ReferenceInvalid unless the key is 64 hex digits."""
        digits = key.removeprefix("sha256:")
        if HEX64.fullmatch(digits) is None:
            raise ReferenceInvalid(key, "is not a plan key; one has 64 lower-case hex digits")
        return self._actions / digits[:2] / f"{digits}.json"

    def write(self, key: str, ref: ArtifactRef, statements: Sequence[Digest]) -> None:
        """Point a key at an artifact; raises OSError when it cannot be written."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        entry = canonical_json(
            {
                "name": ref.name,
                "digest": str(ref.digest),
                "statements": [str(digest) for digest in statements],
            }
        )
        replace_file(path, entry)

    def read(self, key: str) -> Action | None:
        """Read what a key points at; a damaged entry counts as none, and is written anew.

        Raises:
            OSError: it cannot be read.
        """
        try:
            value = read_canonical_json(self.path(key).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        fields = Fields(value, "", ("name", "digest", "statements"))
        texts = [text for text in fields.items("statements") if isinstance(text, str)]
        try:
            digest = Digest.parse(fields.text("digest"))
            return Action(
                ref=ArtifactRef(name=fields.text("name"), digest=digest),
                statements=tuple(Digest.parse(text) for text in texts),
            )
        except ReferenceInvalid:
            return None

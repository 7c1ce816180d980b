"""What a folder registry does beside publishing and reading: take back, remove, find by tag."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lmi_artifacts.digest import canonical_json, digest_bytes, read_canonical_json
from lmi_artifacts.errors import (
    ArtifactNotFound,
    ArtifactRefused,
    ArtifactRevoked,
    PublishFailed,
    RegistryUnavailable,
)
from lmi_artifacts.files import aside, fsync_folder, link_new, remove_tree, replace_file, write_new
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import RECORD, Candidate, check_record

_REVOKED = "revoked.json"
_MANIFEST = "manifest.json"


class FolderUpkeep:
    """The part of a folder registry that needs nothing but its root."""

    _root: Path

    def _home(self, ref: ArtifactRef) -> Path:
        return self._root / "artifacts" / ref.name / ref.digest.hex

    def revocation(self, ref: ArtifactRef) -> str | None:
        """Give the reason an artifact was revoked for, or None."""
        try:
            value = read_canonical_json((self._home(ref) / _REVOKED).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return "its revocation is damaged, so that the reason cannot be read"
        return str(value.get("reason")) if isinstance(value, dict) else "no reason was given"

    def mark_revoked(self, ref: ArtifactRef, reason: str) -> None:
        """Take an artifact back; every `pull` and `resolve` from now on refuses it."""
        if not (self._home(ref) / _MANIFEST).exists():
            raise ArtifactNotFound(str(ref), str(self._root))
        replace_file(self._home(ref) / _REVOKED, canonical_json({"reason": reason}))

    def refuse_revoked(self, ref: ArtifactRef) -> None:
        """Raise ArtifactRevoked where it is."""
        reason = self.revocation(ref)
        if reason is not None:
            raise ArtifactRevoked(str(ref), reason)

    def tagged(self, tag: str, model: str) -> tuple[Candidate, ...]:
        """Give what carries a tag and was made of a model, newest first."""
        found = sorted(self._tagged_with(tag, model), key=lambda one: one.created, reverse=True)
        return tuple(found)

    def _tagged_with(self, tag: str, model: str) -> Iterator[Candidate]:
        for path in sorted((self._root / "tags").glob(f"*/{tag}")):
            name, digest = path.parent.name, path.read_text("utf-8").strip()
            home = self._root / "artifacts" / name / digest.removeprefix("sha256:")
            try:
                data = (home / _MANIFEST).read_bytes()
                manifest = Manifest.parse(data)
            except (OSError, ArtifactRefused):
                continue
            if str(digest_bytes(data)) == digest and model in {manifest.name, model_of(manifest)}:
                yield candidate_of(manifest, (home / _MANIFEST).stat().st_mtime)

    def remove(self, ref: ArtifactRef) -> tuple[str, ...]:
        """Remove one artifact: its manifest first, so that nobody sees the half of it."""
        home = self._home(ref)
        (home / _MANIFEST).unlink(missing_ok=True)
        fsync_folder(home.parent)
        remove_tree(home)
        return (str(home),)

    def add_record(self, name: str, data: bytes) -> bool:
        """Keep a record; see the Protocol."""
        path = self._root / "records" / check_record(name, data)
        temporary = aside(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new(temporary, data)
            return link_new(temporary, path)
        except OSError as error:
            raise PublishFailed(f"record {name}", str(self._root), str(error)) from error
        finally:
            with suppress(OSError):
                temporary.unlink()

    def read_record(self, name: str) -> bytes | None:
        """Read a record, or None where there is none."""
        try:
            return (self._root / "records" / check_record(name)).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RegistryUnavailable(str(self._root), str(error)) from error

    def records(self, prefix: str) -> tuple[str, ...]:
        """Give the names of the records that start so, sorted."""
        home = self._root / "records"
        names = (path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())
        return tuple(
            sorted(name for name in names if name.startswith(prefix) and RECORD.fullmatch(name))
        )

    def remove_records(self, names: Sequence[str]) -> None:
        """Remove records, and the folders that they leave empty; see the Protocol."""
        home = self._root / "records"
        try:
            for path in [home / check_record(name) for name in names]:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # it holds others
                    path.parent.rmdir()
        except OSError as error:
            raise RegistryUnavailable(str(self._root), str(error)) from error


def model_of(manifest: Manifest) -> str:
    """Give the id of the model that an artifact was made of; "-" where it says none."""
    model = manifest.recipe.get("model")
    identity = model.get("id") if isinstance(model, dict) else None
    return identity if isinstance(identity, str) else "-"


def candidate_of(manifest: Manifest, created: float) -> Candidate:
    """Give what choosing among artifacts needs to know of one."""
    quantization = manifest.recipe.get("quantization")
    method = quantization.get("method") if isinstance(quantization, dict) else None
    container = manifest.serving.get("container")
    images = container.get("images") if isinstance(container, dict) else None
    return Candidate(
        ref=ArtifactRef(name=manifest.name, digest=manifest.digest),
        created=created,
        serving={
            "hardware": manifest.serving.get("hardware"),
            "container": {"images": images if isinstance(images, list) else []},
        },
        quantization=method if isinstance(method, str) else "none",
        simulated=manifest.simulated,
    )

"""What an S3 registry does beside publishing and reading: take back, remove, collect, choose."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lmi_artifacts.errors import ArtifactRevoked, PublishFailed
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import (
    GARBAGE_SECONDS,
    RECORD,
    RECORD_BYTES,
    Candidate,
    check_record,
)
from lmi_artifacts.s3 import gc, keys, sealed
from lmi_artifacts.s3.catalog import Catalog
from lmi_artifacts.s3.client import Refused
from lmi_artifacts.s3.lease import Lease
from lmi_artifacts.s3.probe import probe
from lmi_artifacts.s3.store import Conflict, Store


class S3Upkeep:
    """The part of an S3 registry that needs nothing but its store."""

    store: Store
    _catalog: Catalog
    _probed = False

    @contextmanager
    def _leased(self, ref: ArtifactRef) -> Iterator[Lease]:
        if not self._probed:
            probe(self.store)
            self._probed = True
        with Lease(self.store, ref) as lease:
            yield lease

    def revocation(self, ref: ArtifactRef) -> str | None:
        """Give the reason an artifact was revoked for, or None."""
        found = sealed.read(self.store, keys.home(ref) + keys.REVOKED)
        return None if found is None else str(found.value.get("reason"))

    def mark_revoked(self, ref: ArtifactRef, reason: str) -> None:
        """Take an artifact back; every `pull` and `resolve` from now on refuses it."""
        with self._leased(ref):
            sealed.swap(self.store, keys.home(ref) + keys.REVOKED, lambda _: {"reason": reason})

    def refuse_revoked(self, ref: ArtifactRef) -> None:
        """Raise ArtifactRevoked where it is."""
        reason = self.revocation(ref)
        if reason is not None:
            raise ArtifactRevoked(str(ref), reason)

    def tagged(self, tag: str, model: str) -> tuple[Candidate, ...]:
        """Give what carries a tag and was made of a model, newest first: one request."""
        return self._catalog.read(tag, model)

    def remove(self, ref: ArtifactRef) -> tuple[str, ...]:
        """Remove one artifact, its manifest first; see the Protocol."""
        return tuple(gc.retire(self.store, ref, GARBAGE_SECONDS, time.time()))

    def collect_garbage(
        self, *, older_than: float = GARBAGE_SECONDS, dry_run: bool = True
    ) -> tuple[str, ...]:
        """Remove what crashed publishers left, and say what."""
        return gc.sweep(self.store, older_than, dry_run=dry_run)

    def add_record(self, name: str, data: bytes) -> bool:
        """Keep a record; see the Protocol."""
        try:
            self.store.put(keys.record(check_record(name, data)), data, "absent")
        except Conflict:
            return False
        except Refused as error:
            raise PublishFailed(f"record {name}", self.store.address.url, str(error)) from error
        return True

    def read_record(self, name: str) -> bytes | None:
        """Read a record, or None where there is none."""
        found = self.store.get(keys.record(check_record(name)), RECORD_BYTES)
        return None if found is None else found.data

    def records(self, prefix: str) -> tuple[str, ...]:
        """Give the names of the records that start so, sorted."""
        home = keys.record("")
        names = (entry.key.removeprefix(home) for entry in self.store.list(home + prefix))
        return tuple(sorted(name for name in names if RECORD.fullmatch(name)))

    def remove_records(self, names: Sequence[str]) -> None:
        """Remove records; see the Protocol."""
        self.store.delete([keys.record(check_record(name)) for name in names])

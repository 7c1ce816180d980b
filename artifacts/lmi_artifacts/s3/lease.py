"""Publishers and the garbage collector keep out of each other's way (Dekker's rule).

A publisher writes its lease and then looks for `condemned`; the collector writes `condemned` and
then looks for leases. S3 is strongly consistent, so at least one of them sees the other: the
publisher waits, the collector leaves the artifact alone. Leases are renewed; one that was not for
an hour is dead.
"""

import os
import time
from types import TracebackType
from typing import Final, Self

from lmi_artifacts.errors import RegistryTransient
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import GARBAGE_SECONDS
from lmi_artifacts.s3 import keys
from lmi_artifacts.s3.store import Store

CONDEMNED: Final = "condemned"
_RENEW_SECONDS = 60.0
_WAIT_SECONDS = 120.0


class Lease:
    """Held while an artifact is being published, or something is being made to point at it."""

    def __init__(self, store: Store, ref: ArtifactRef) -> None:
        self._store = store
        self._folder = keys.leases(ref)
        self.key = f"{self._folder}{os.urandom(8).hex()}"
        self._written = 0.0

    def __enter__(self) -> Self:
        started = time.monotonic()
        while True:
            self._write()
            flag = self._store.get(self._folder + CONDEMNED)
            if flag is None:
                return self
            self._store.delete([self.key])
            if time.monotonic() - started > _WAIT_SECONDS:
                cause = "garbage is being collected there; if that was killed, run gc again"
                raise RegistryTransient(self._store.address.url, cause)
            time.sleep(0.2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, Exception):
            try:
                self._store.delete([self.key])
            except Exception:
                if kind is None:
                    raise

    def _write(self) -> None:
        self._store.put(self.key, b"")
        self._written = time.monotonic()

    def renew(self) -> None:
        """Say that this publisher lives, at most once a minute."""
        if time.monotonic() - self._written > _RENEW_SECONDS:
            self._require_life()
            self._write()

    def _require_life(self) -> None:
        if time.monotonic() - self._written > GARBAGE_SECONDS / 2:
            cause = "this publisher slept too long, and its files may be collected; publish again"
            raise RegistryTransient(self._store.address.url, cause)

    def confirm(self) -> None:
        """Make sure that nothing was collected meanwhile; called before what makes visible.

        Raises:
            RegistryTransient: the lease may have been taken for dead.
        """
        self._require_life()

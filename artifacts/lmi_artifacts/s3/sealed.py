"""Small JSON objects that change: each carries its own sha256, and changes by compare-and-swap.

A flipped bit on the way is then seen, and read again, instead of believed. Each write carries a
nonce: after a lost answer a writer finds out that the object it meets is its own.
"""

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lmi_artifacts.digest import JSONValue, canonical_json, digest_bytes, read_canonical_json
from lmi_artifacts.errors import ArtifactRefused, RegistryTransient
from lmi_artifacts.s3.store import Condition, Conflict, Store

_READS = 4
_ROUNDS = 200
_MOST_PAUSE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What was read: the value, and what names this version."""

    value: Mapping[str, JSONValue]
    nonce: str
    etag: str
    modified: float


def read(store: Store, key: str) -> Sealed | None:
    """Read a value, or None where there is none.

    Raises:
        ArtifactRefused: it is damaged there.
    """
    for _ in range(_READS):
        found = store.get(key)
        if found is None:
            return None
        opened = _open(found.data)
        if opened is not None:
            value, nonce = opened
            return Sealed(value=value, nonce=nonce, etag=found.etag, modified=found.modified)
    raise ArtifactRefused(f"{store.address.url}/{key}", ["is damaged: its sha256 is another one"])


def _open(data: bytes) -> tuple[Mapping[str, JSONValue], str] | None:
    try:
        outer = read_canonical_json(data)
    except ValueError:
        return None
    match outer:
        case {"sha256": str(sha256), "value": dict(value), "nonce": str(nonce)}:
            inner = canonical_json({"value": value, "nonce": nonce})
            return (value, nonce) if digest_bytes(inner).hex == sha256 else None
        case _:
            return None


def write(
    store: Store, key: str, value: Mapping[str, JSONValue], condition: Condition = None
) -> None:
    """Write a value.

    Raises:
        Conflict: the condition does not hold, and what is there is not this very write.
    """
    nonce = os.urandom(8).hex()
    sha256 = digest_bytes(canonical_json({"value": value, "nonce": nonce})).hex
    data = canonical_json({"value": value, "nonce": nonce, "sha256": sha256})
    try:
        store.put(key, data, condition)
    except Conflict:
        found = read(store, key)
        if found is None or found.nonce != nonce:
            raise


def swap(
    store: Store,
    key: str,
    change: Callable[[Mapping[str, JSONValue] | None], Mapping[str, JSONValue] | None],
) -> None:
    """Change a value whatever it is now, by compare-and-swap until it succeeds.

    Args:
        store: where.
        key: which.
        change: gives the new value for the present one (None: absent); None leaves it.

    Raises:
        RegistryTransient: others were faster for too long.
    """
    for attempt in range(_ROUNDS):
        found = read(store, key)
        value = change(None if found is None else found.value)
        if value is None:
            return
        try:
            write(store, key, value, "absent" if found is None else found.etag)
        except Conflict:
            time.sleep(random.uniform(0, min(_MOST_PAUSE, 0.01 * 2 ** min(attempt, 6))))  # noqa: S311 - to spread writers
            continue
        return
    raise RegistryTransient(f"{store.address.url}/{key}", "too many writers at once")

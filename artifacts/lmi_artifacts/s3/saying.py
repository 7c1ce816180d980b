"""Statements in a bucket: each an object named after its content, and one bundle to read at once.

The objects are the truth. The bundle is a copy that saves a request for each; a statement of it
counts only where the listing shows the very object (its ETag) that was copied.
"""

import time
from collections.abc import Mapping

from lmi_artifacts.digest import JSONValue, digest_bytes
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.s3 import keys, sealed
from lmi_artifacts.s3.answers import Entry
from lmi_artifacts.s3.store import Conflict, Store
from lmi_artifacts.statement import Statement

_BUNDLE = "statements.json"
_LISTED = 1000  # what a listing shows at once; the tree's files come after the statements


def add(store: Store, ref: ArtifactRef, statement: Statement) -> None:
    """Say something about an artifact; saying the same again changes nothing."""
    data = statement.to_bytes()
    key = keys.statement(ref, digest_bytes(data))
    stamp = f"{time.time_ns():020d}"
    try:
        etag = store.put(key, data, "absent", stamp)
    except Conflict:
        return
    entry: dict[str, JSONValue] = {"etag": etag, "stamp": stamp, "text": data.decode()}
    name = digest_bytes(data).hex

    def add_entry(found: Mapping[str, JSONValue] | None) -> Mapping[str, JSONValue]:
        return {**(found or {}), name: entry}

    sealed.swap(store, keys.home(ref) + _BUNDLE, add_entry)


def read(store: Store, ref: ArtifactRef, *, each: bool = False) -> tuple[Statement, ...]:
    """Read all statements, oldest first.

    Args:
        store: where.
        ref: about what.
        each: read every object itself, not the bundle.

    Raises:
        ArtifactRefused: one is not what its name says, or about something else.
    """
    listed = list(store.list(f"{keys.home(ref)}statements/"))
    return _read(store, ref, listed, each=each)


def read_all(store: Store, ref: ArtifactRef) -> tuple[tuple[Statement, ...], bool]:
    """Read all statements, and whether the artifact is marked as revoked, from one listing."""
    home = keys.home(ref)
    listed = list(store.list(home, _LISTED))
    marked = any(entry.key == home + keys.REVOKED for entry in listed)
    said = [entry for entry in listed if entry.key.startswith(f"{home}statements/")]
    if len(listed) == _LISTED and listed[-1].key.startswith(f"{home}statements/"):
        return read(store, ref), marked
    return _read(store, ref, said, each=False), marked


def _read(
    store: Store, ref: ArtifactRef, listed: list[Entry], *, each: bool
) -> tuple[Statement, ...]:
    bundle: Mapping[str, JSONValue] = {}
    if listed and not each:
        try:
            found = sealed.read(store, keys.home(ref) + _BUNDLE)
        except ArtifactRefused:
            found = None  # damaged: read the objects
        bundle = {} if found is None else found.value
    items = [_one(store, ref, entry, bundle) for entry in listed]
    return tuple(statement for _, _, statement in sorted(items, key=lambda item: item[:2]))


def _one(
    store: Store, ref: ArtifactRef, entry: Entry, bundle: Mapping[str, JSONValue]
) -> tuple[str, str, Statement]:
    name = entry.key.rpartition("/")[2].removesuffix(".json")
    match bundle.get(name):
        case {"etag": entry.etag, "stamp": str(stamp), "text": str(text)}:
            data = text.encode()
        case _:
            found = store.get(entry.key)
            data, stamp = (b"", "") if found is None else (found.data, found.stamp)
            if digest_bytes(data).hex != name:  # once more: the way here may have changed it
                found = store.get(entry.key)
                data, stamp = (b"", "") if found is None else (found.data, found.stamp)
    if digest_bytes(data).hex != name:
        problem = f"{store.address.url}/{entry.key} was changed: it has another sha256"
        raise ArtifactRefused(str(ref), [problem])
    statement = Statement.parse(data)
    if (statement.name, statement.subject) != (ref.name, ref.digest):
        raise ArtifactRefused(str(ref), [f"{entry.key} is about another artifact"])
    return stamp, name, statement

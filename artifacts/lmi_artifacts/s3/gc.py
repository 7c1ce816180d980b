"""Mark and sweep: what no manifest, tag or lease stands for is removed, beside living publishers.

What is swept: homes whose manifest never appeared, uploads that were never ended, leases, index
entries and blob pointers that lead nowhere, what a killed probe left. A visible artifact is only
removed by `retire`.
"""

import time
from collections.abc import Iterator

from lmi_artifacts.digest import HEX64, Digest
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import NAME
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import GARBAGE_SECONDS
from lmi_artifacts.s3 import keys, sealed
from lmi_artifacts.s3.lease import CONDEMNED
from lmi_artifacts.s3.probe import PASSED
from lmi_artifacts.s3.store import Store


def sweep(store: Store, older_than: float, *, dry_run: bool) -> tuple[str, ...]:
    """Remove (or, dry, only name) what crashed publishers left at least `older_than` seconds ago.

    Returns:
        The keys of what was, or would be, removed.
    """
    now = _server_now(store)
    found: list[str] = []
    for ref in _homes(store):
        found += sweep_home(store, ref, older_than, now, dry_run=dry_run)
    found += _uploads(store, older_than, now, dry_run=dry_run)
    found += _entries(store, older_than, now, dry_run=dry_run)
    return tuple(sorted(found))


def _server_now(store: Store) -> float:
    """Give the time of the clock that objects are dated by."""
    key = "probe/clock"
    store.put(key, b"")
    entry = store.head(key)
    store.delete([key])
    return time.time() if entry is None else entry.modified


def _homes(store: Store) -> Iterator[ArtifactRef]:
    """Give every artifact that has anything at all, visible or not."""
    seen: set[ArtifactRef] = set()
    for top in ("artifacts/", "leases/"):
        for folder in store.folders(top):
            name = folder.rpartition("/")[2]
            for inner in store.folders(f"{folder}/"):
                digits = inner.rpartition("/")[2]
                if NAME.fullmatch(name) and HEX64.fullmatch(digits):
                    ref = ArtifactRef(name=name, digest=Digest(hex=digits))
                    if ref not in seen:
                        seen.add(ref)
                        yield ref


def sweep_home(
    store: Store,
    ref: ArtifactRef,
    older_than: float,
    now: float,
    *,
    dry_run: bool,
    own: str | None = None,
) -> list[str]:
    """Remove a home without a manifest, and leases of the dead.

    Args:
        store: where.
        ref: whose home.
        older_than: seconds that everything there must have been left alone.
        now: the server's time.
        dry_run: only say what would go.
        own: the caller's own lease, which does not protect: then files of any age go.
    """
    folder = keys.leases(ref)
    leases = [entry for entry in store.list(folder) if entry.key != own]
    dead = [entry.key for entry in leases if now - entry.modified >= older_than]
    if len(dead) < len(leases):
        return []  # somebody is publishing it
    visible = store.head(keys.home(ref) + keys.MANIFEST) is not None
    entries = [] if visible else list(store.list(keys.home(ref)))
    if own is None and any(now - entry.modified < older_than for entry in entries):
        return []
    rubbish = [entry.key for entry in entries]
    if dry_run:
        return rubbish + dead
    if not rubbish:
        store.delete(dead)
        return dead
    return dead + _condemn(store, ref, rubbish, dead, own)


def _condemn(
    store: Store, ref: ArtifactRef, rubbish: list[str], dead: list[str], own: str | None
) -> list[str]:
    """Delete a home unless a publisher turns up; see `lease`."""
    folder = keys.leases(ref)
    flag = folder + CONDEMNED
    known = {*dead, own, flag}
    started = time.monotonic()
    store.put(flag, b"")
    try:
        if any(entry.key not in known for entry in store.list(folder)):
            return []
        if store.head(keys.home(ref) + keys.MANIFEST) is not None:
            return []
        if time.monotonic() - started > GARBAGE_SECONDS / 2:
            return []
        store.delete(rubbish)
    finally:
        store.delete([flag, *(key for key in dead if key != flag)])
    return rubbish


def retire(store: Store, ref: ArtifactRef, older_than: float, now: float) -> list[str]:
    """Remove a visible artifact, its manifest first, unless somebody is publishing it."""
    folder = keys.leases(ref)
    leases = list(store.list(folder))
    if any(now - entry.modified < older_than for entry in leases):
        return []
    flag = folder + CONDEMNED
    known = {flag, *(entry.key for entry in leases)}
    store.put(flag, b"")
    try:
        if any(entry.key not in known for entry in store.list(folder)):
            return []
        store.delete([keys.home(ref) + keys.MANIFEST])
        rest = [entry.key for entry in store.list(keys.home(ref))]
        store.delete(rest)
    finally:
        store.delete(sorted(known))
    return [keys.home(ref) + keys.MANIFEST, *rest]


def _uploads(store: Store, older_than: float, now: float, *, dry_run: bool) -> list[str]:
    found: list[str] = []
    for key, upload, begun in store.uploads(""):
        if now - begun < older_than or _is_leased(store, key, older_than, now):
            continue
        found.append(f"{key} (an upload that was not ended)")
        if not dry_run:
            store.abort_upload(key, upload)
    return found


def _is_leased(store: Store, key: str, older_than: float, now: float) -> bool:
    parts = key.split("/")
    if len(parts) < 3 or parts[0] != "artifacts":  # noqa: PLR2004 - artifacts/name/digest
        return False
    folder = f"leases/{parts[1]}/{parts[2]}/"
    return any(now - entry.modified < older_than for entry in store.list(folder))


def _entries(store: Store, older_than: float, now: float, *, dry_run: bool) -> list[str]:
    """Remove index entries and blob pointers that lead to nothing visible."""
    visible: dict[str, bool] = {}

    def leads_nowhere(name: str, digits: str) -> bool:
        key = f"artifacts/{name}/{digits}/{keys.MANIFEST}"
        if key not in visible:
            visible[key] = store.head(key) is not None
        return not visible[key]

    found: list[str] = []
    for entry in store.list("index/"):
        _, kind, one, two = entry.key.split("/", 3)
        name, digits = (one, two.rpartition("-")[2]) if kind == "names" else (two, one)
        if now - entry.modified >= older_than and leads_nowhere(name, digits):
            found.append(entry.key)
    found += [
        entry.key
        for entry in store.list("blobs/")
        if now - entry.modified >= older_than and not _holds(store, entry.key)
    ]
    found += [
        entry.key
        for entry in store.list("probe/")
        if now - entry.modified >= older_than and entry.key != PASSED
    ]
    if not dry_run:
        store.delete(found)
        _put_back(store, found)
    return found


def _put_back(store: Store, deleted: list[str]) -> None:
    """Enter again what was published in the moment between looking and deleting."""
    for key in deleted:
        if key.startswith("index/digests/"):
            _, _, digits, name = key.split("/", 3)
            if store.head(f"artifacts/{name}/{digits}/{keys.MANIFEST}") is not None:
                store.put(key, b"")


def _holds(store: Store, key: str) -> bool:
    try:
        found = sealed.read(store, key)
    except ArtifactRefused:
        return False
    match None if found is None else found.value:
        case {"key": str(target), "etag": str(etag)}:
            entry = store.head(target)
            return entry is not None and entry.etag == etag
        case _:
            return False

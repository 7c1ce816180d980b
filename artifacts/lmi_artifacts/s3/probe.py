"""Whether an endpoint honours conditional writes: without them, writers lose one another's work.

rclone's and juicefs' gateways answer 200 to every condition and overwrite.
"""

import os
from typing import Final

from lmi_artifacts.errors import RegistryMisconfigured
from lmi_artifacts.s3.client import Refused
from lmi_artifacts.s3.store import Conflict, Store

PASSED: Final = "probe/conditional-writes"
_PART: Final = b"probe"


def probe(store: Store) -> None:
    """Try the conditions a registry stands on, once per registry; then a mark saves the next.

    Raises:
        RegistryMisconfigured: the endpoint ignores one of them.
    """
    if store.get(PASSED) is not None:
        return
    key = f"probe/{os.urandom(8).hex()}"
    try:
        etag = store.put(key, b"1")
        _must_fail(store, key, "absent", "PutObject with If-None-Match: *")
        second = _replace(store, key, etag)
        _must_fail(store, key, etag, "PutObject with If-Match")
        _multipart(store, key)
        if _etag(store, key) != second:
            raise _refuse(store, "a refused write changed the object")
    finally:
        store.delete([key])
    store.put(PASSED, b"this endpoint honours If-None-Match and If-Match\n")


def _replace(store: Store, key: str, etag: str) -> str:
    """Write where the condition holds; after a lost answer the same write is refused."""
    try:
        return store.put(key, b"2", etag)
    except Conflict:
        second = _etag(store, key)
        if second == etag:
            raise _refuse(store, "PutObject with the right If-Match was refused") from None
        return second


def _etag(store: Store, key: str) -> str:
    entry = store.head(key)
    return "" if entry is None else entry.etag


def _must_fail(store: Store, key: str, condition: str, what: str) -> None:
    try:
        store.put(key, b"lost", condition)
    except Conflict:
        return
    raise _refuse(store, f"{what} overwrote an object it should have left")


def _multipart(store: Store, key: str) -> None:
    upload = store.create_upload(key)
    part = store.upload_part(key, upload, 1, _PART)
    try:
        store.complete_upload(key, upload, [part], "absent")
    except Conflict:
        store.abort_upload(key, upload)
        return
    except Refused as error:
        raise _refuse(store, f"CompleteMultipartUpload answered {error.code}") from None
    raise _refuse(store, "CompleteMultipartUpload with If-None-Match: * overwrote an object")


def _refuse(store: Store, why: str) -> RegistryMisconfigured:
    cause = (
        f"this endpoint does not honour conditional writes ({why}), so that concurrent publishers "
        "would overwrite one another; use AWS S3, or a server that has them (gateways of rclone "
        "and juicefs have not)"
    )
    return RegistryMisconfigured(store.address.url, cause)

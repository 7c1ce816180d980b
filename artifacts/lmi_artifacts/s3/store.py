"""Objects under one prefix: the operations a registry needs, with types, and nothing more.

Keys here are relative to the address's prefix. Conditions are AWS's: If-None-Match and If-Match on
PutObject and CompleteMultipartUpload
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). A failed condition
is 412; 409 asks for another try; If-Match on an absent key is 404 on AWS and 412 on SeaweedFS.
"""

import base64
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from threading import Lock
from typing import Any, Final, TypeVar

from isal import isal_zlib  # noqa: TID253 - this module is imported only for an s3:// URL

from lmi_artifacts.errors import RegistryTransient
from lmi_artifacts.s3.address import Address
from lmi_artifacts.s3.answers import Blob, Entry, Part, listing, parts_of, uploads
from lmi_artifacts.s3.client import Refused, fill, make_client, translated

SMALL: Final = 64 * 2**20
COPY_LIMIT: Final = 5 * 2**30
COPY_PART: Final = 512 * 2**20
_ATTEMPTS = 6
_PAUSE = 0.05
_DELETE_AT_ONCE = 1000
Read = TypeVar("Read")
Condition = str | None
"""`"absent"`, the ETag that must be there, or None for no condition."""


class Conflict(Exception):
    """A conditional write found something else than it expected; nothing was written."""


class Store:
    """The objects under one address. Safe to use from several threads, and after a fork."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.requests: Counter[str] = Counter()
        self._client: Any = None
        self._owner = 0
        self._making = Lock()

    def _count(self, operation: str) -> None:
        self.requests[operation] += 1

    def call(self, operation: str, method: str, key: str | None, **arguments: Any) -> Any:  # noqa: ANN401 - boto3 has no types
        """Send one operation; raises what `client.translated` raises."""
        client = self._client_here()
        own: dict[str, Any] = {"Bucket": self.address.bucket, **arguments}
        if key is not None:
            own["Key"] = self.address.prefix + key
        if self.address.payer:
            own["RequestPayer"] = "requester"
        for attempt in range(_ATTEMPTS):
            try:
                with translated(self.address, operation, key or ""):
                    return getattr(client, method)(**own)
            except RegistryTransient:  # beyond what botocore itself tries again
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError(operation)

    def _client_here(self) -> Any:  # noqa: ANN401 - boto3 has no types
        """This process's client: a parent's connections would give us its answers."""
        if self._owner != os.getpid():
            with self._making:
                if self._owner != os.getpid():
                    self._client = make_client(self.address, self._count)
                    self._owner = os.getpid()
        return self._client

    def _understood(
        self,
        operation: str,
        method: str,
        key: str | None,
        read: Callable[[Any], Read],
        **arguments: Any,  # noqa: ANN401 - boto3 has no types
    ) -> Read:
        """Send one operation and read its answer; one that was damaged on its way is asked again.

        Raises:
            RegistryTransient: no answer could be read.
        """
        for attempt in range(_ATTEMPTS):
            answer = self.call(operation, method, key, **arguments)
            try:
                return read(answer)
            except (KeyError, TypeError, ValueError):
                time.sleep(_PAUSE * 2**attempt)
        raise RegistryTransient(self.address.url, f"{operation}: the answer cannot be understood")

    def encryption(self) -> dict[str, str]:
        """What creating an object says about encryption."""
        if self.address.kms is None:
            return {}
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.address.kms}

    # ---------------------------------------------------------------- whole small objects

    def get(self, key: str, limit: int = SMALL) -> Blob | None:
        """Read a small object, or None where there is none."""
        for attempt in range(_ATTEMPTS):
            try:
                answer = self.call("GetObject", "get_object", key)
                with translated(self.address, "GetObject", key):
                    data = answer["Body"].read(limit + 1)
            except Refused as error:
                if error.status == 404:  # noqa: PLR2004 - HTTP's number
                    return None
                raise
            except RegistryTransient:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE * 2**attempt)
                continue
            modified = answer["LastModified"].timestamp()
            stamp = str(answer.get("Metadata", {}).get("stamp", ""))
            return Blob(data=data, etag=answer["ETag"], modified=modified, stamp=stamp)
        raise AssertionError(key)

    def tail(self, key: str, count: int) -> bytes:
        """Read an object's last bytes."""
        answer = self.call("GetObject", "get_object", key, Range=f"bytes=-{count}")
        with translated(self.address, "GetObject", key):
            data: bytes = answer["Body"].read()
        return data

    def put(
        self,
        key: str,
        data: bytes | bytearray,
        condition: Condition = None,
        stamp: str | None = None,
    ) -> str:
        """Write an object and give its ETag.

        Raises:
            Conflict: the condition does not hold. After a lost answer that may be our own doing:
                a caller whose content is not the same for all writers has to look.
        """
        arguments: dict[str, Any] = {"Body": data, **self.encryption(), **_condition(condition)}
        if stamp is not None:
            arguments["Metadata"] = {"stamp": stamp}
        for attempt in range(_ATTEMPTS):
            try:
                etag: str = self.call("PutObject", "put_object", key, **arguments)["ETag"]
            except Refused as error:
                if error.status == 409:  # noqa: PLR2004 - HTTP's number
                    time.sleep(_PAUSE * 2**attempt)
                    continue
                if condition is not None and error.status in {404, 412}:
                    raise Conflict(key) from None
                raise
            return etag
        raise Conflict(key)

    def head(self, key: str) -> Entry | None:
        """Look at an object without reading it."""
        try:
            answer = self.call("HeadObject", "head_object", key)
        except Refused as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP's number
                return None
            raise
        return Entry(
            key=key,
            size=answer["ContentLength"],
            etag=answer["ETag"],
            modified=answer["LastModified"].timestamp(),
        )

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are absent already are no failure.

        Raises:
            RegistryTransient: the server left some of them.
        """
        for start in range(0, len(keys), _DELETE_AT_ONCE):
            batch = keys[start : start + _DELETE_AT_ONCE]
            named = [{"Key": self.address.prefix + key} for key in batch]
            answer = self.call(
                "DeleteObjects", "delete_objects", None, Delete={"Objects": named, "Quiet": True}
            )
            failed = answer.get("Errors", [])
            if failed:
                cause = f"{len(failed)} objects were not deleted: {failed[0].get('Code')}"
                raise RegistryTransient(self.address.url, cause)

    # ---------------------------------------------------------------- listing

    def list(self, prefix: str, most: int | None = None) -> Iterator[Entry]:
        """Give the objects whose key starts so, sorted; a request for each 1000."""
        for entries, _ in self._pages(prefix, "", most):
            yield from entries

    def folders(self, prefix: str, most: int | None = None) -> Iterator[str]:
        """Give what stands between `prefix` and the next `/`, each once, with the prefix."""
        for _, folders in self._pages(prefix, "/", most):
            yield from folders

    def _pages(
        self, prefix: str, delimiter: str, most: int | None
    ) -> Iterator[tuple[Sequence[Entry], Sequence[str]]]:
        arguments: dict[str, Any] = {"Prefix": self.address.prefix + prefix}
        if delimiter:
            arguments["Delimiter"] = delimiter
        if most is not None:
            arguments["MaxKeys"] = most
        cut = len(self.address.prefix)

        while True:
            entries, folders, following = self._understood(
                "ListObjectsV2", "list_objects_v2", None, partial(listing, cut), **arguments
            )
            yield entries, folders
            if most is not None or following is None:
                return
            arguments["ContinuationToken"] = following

    # ---------------------------------------------------------------- big objects

    def read_into(self, key: str, start: int, view: memoryview, etag: str | None = None) -> None:
        """Fill `view` with one version of an object, from `start` on.

        Raises:
            Refused: the object is absent (404), another one (412), or shorter (416).
            RegistryTransient: the answer was cut short, more often than it was tried again.
        """
        span = f"bytes={start}-{start + len(view) - 1}"
        extra = {} if etag is None else {"IfMatch": etag}
        for attempt in range(_ATTEMPTS):
            try:
                answer = self.call("GetObject", "get_object", key, Range=span, **extra)
                with translated(self.address, "GetObject", key), closing(answer["Body"]) as body:
                    if answer["ContentLength"] != len(view):
                        raise Refused("InvalidRange", 416)
                    if fill(view, body):
                        return
            except RegistryTransient:
                if attempt == _ATTEMPTS - 1:
                    raise
            time.sleep(_PAUSE * 2**attempt)
        raise RegistryTransient(f"{self.address.url}/{key}", "answers are always cut short")

    def copy(self, source: str, key: str, size: int, etag: str) -> None:
        """Copy inside the bucket, if the source still is the version that `etag` names.

        Raises:
            Refused: the source is gone (404) or another one (412).
        """
        origin = {"Bucket": self.address.bucket, "Key": self.address.prefix + source}
        if size <= COPY_LIMIT:
            arguments: dict[str, Any] = {"CopySource": origin, "CopySourceIfMatch": etag}
            self.call("CopyObject", "copy_object", key, **arguments, **self.encryption())
            return
        upload = self.create_upload(key, checksums=False)  # not every server gives a copy's
        try:
            parts = self._copy_parts(origin, etag, key, upload, size)
            self.complete_upload(key, upload, parts, None)
        except BaseException:
            self.abort_upload(key, upload)
            raise

    def _copy_parts(
        self, origin: Mapping[str, str], etag: str, key: str, upload: str, size: int
    ) -> Sequence[Part]:
        parts: list[Part] = []
        for number, start in enumerate(range(0, size, COPY_PART), start=1):
            end = min(size, start + COPY_PART) - 1
            found: str = self._understood(
                "UploadPartCopy", "upload_part_copy", key, lambda it: it["CopyPartResult"]["ETag"],
                UploadId=upload, PartNumber=number, CopySource=origin, CopySourceIfMatch=etag,
                CopySourceRange=f"bytes={start}-{end}",
            )  # fmt: skip
            parts.append(Part(number=number, size=end + 1 - start, etag=found))
        return parts

    def create_upload(self, key: str, *, checksums: bool = True) -> str:
        """Begin a multipart upload; `checksums`: completing names the CRC32 of every part."""
        wanted = {"ChecksumAlgorithm": "CRC32"} if checksums else {}
        upload: str = self._understood(
            "CreateMultipartUpload", "create_multipart_upload", key, lambda it: it["UploadId"],
            **self.encryption(), **wanted,
        )  # fmt: skip
        return upload

    def upload_part(self, key: str, upload: str, number: int, data: bytes | bytearray) -> Part:
        """Send one part; the server checks its CRC32.

        Over TLS botocore leaves the body unsigned, if the checksum is its own work; without TLS
        the body is signed by its sha256 whoever computes the checksum.
        """
        crc = crc32(data)
        plain = self.address.plain
        checksum = {"ChecksumCRC32": crc} if plain else {"ChecksumAlgorithm": "CRC32"}
        answer = self.call(
            "UploadPart", "upload_part", key, UploadId=upload, PartNumber=number, Body=data,
            **checksum,
        )  # fmt: skip
        return Part(number=number, size=len(data), etag=answer["ETag"], crc32=crc)

    def complete_upload(
        self, key: str, upload: str, parts: Sequence[Part], condition: Condition
    ) -> None:
        """End a multipart upload: the object appears whole.

        Raises:
            Conflict: the condition does not hold.
            Refused: the upload is gone (404): ended by somebody else, or collected.
        """
        named = [_named(part) for part in sorted(parts, key=lambda it: it.number)]
        arguments: dict[str, Any] = {
            "UploadId": upload,
            "MultipartUpload": {"Parts": named},
            "MpuObjectSize": sum(part.size for part in parts),
            **_condition(condition),
        }
        for attempt in range(_ATTEMPTS):
            try:
                self.call("CompleteMultipartUpload", "complete_multipart_upload", key, **arguments)
            except Refused as error:
                if error.status == 409 and error.code != "NoSuchUpload":  # noqa: PLR2004 - HTTP's
                    time.sleep(_PAUSE * 2**attempt)
                    continue
                if condition is not None and error.status == 412:  # noqa: PLR2004 - HTTP's number
                    raise Conflict(key) from None
                raise
            return
        raise Conflict(key)

    def abort_upload(self, key: str, upload: str) -> None:
        """Forget a multipart upload and its parts; one that is gone already is no failure."""
        try:
            self.call("AbortMultipartUpload", "abort_multipart_upload", key, UploadId=upload)
        except Refused:
            return

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, float]]:
        """Give the multipart uploads that were begun: key, id, when."""
        cut = len(self.address.prefix)
        arguments: dict[str, Any] = {"Prefix": self.address.prefix + prefix}

        while True:
            found, following = self._understood(
                "ListMultipartUploads",
                "list_multipart_uploads",
                None,
                partial(uploads, cut),
                **arguments,
            )
            yield from found
            if not following:
                return
            arguments |= following

    def parts(self, key: str, upload: str) -> dict[int, Part]:
        """Give the parts that an upload has; none where the upload is gone."""
        found: dict[int, Part] = {}
        marker: int | None = 0
        while marker is not None:
            try:
                parts, marker = self._understood(
                    "ListParts", "list_parts", key, parts_of,
                    UploadId=upload, PartNumberMarker=marker,
                )  # fmt: skip
            except Refused:
                return {}
            found |= {part.number: part for part in parts}
        return found


def crc32(data: bytes | bytearray) -> str:
    """Give a CRC32 as S3 writes it; isal's takes a tenth of zlib's time."""
    return base64.b64encode(isal_zlib.crc32(data).to_bytes(4, "big")).decode()


def _condition(condition: Condition) -> dict[str, str]:
    if condition is None:
        return {}
    return {"IfNoneMatch": "*"} if condition == "absent" else {"IfMatch": condition}


def _named(part: Part) -> dict[str, object]:
    named: dict[str, object] = {"PartNumber": part.number, "ETag": part.etag}
    if part.crc32:
        named["ChecksumCRC32"] = part.crc32
    return named

"""What S3 answers, as values; an answer that lost a field on its way is no answer.

Every function raises KeyError, TypeError or ValueError where something is missing or unreadable:
`Store` asks again then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object as a listing shows it; `modified` in seconds since 1970, by the server's clock."""

    key: str
    size: int
    etag: str
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A small object's content; `stamp` is what its writer noted beside it."""

    data: bytes
    etag: str
    modified: float
    stamp: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a multipart upload."""

    number: int
    size: int
    etag: str
    crc32: str | None = None


def listing(cut: int, page: Any) -> tuple[Sequence[Entry], Sequence[str], str | None]:  # noqa: ANN401 - boto3 has no types
    """Objects and folders, without the first `cut` letters, and what asks for the next page."""
    entries = [
        Entry(
            key=item["Key"][cut:],
            size=item["Size"],
            etag=item["ETag"],
            modified=item["LastModified"].timestamp(),
        )
        for item in page.get("Contents", [])
    ]
    folders = [item["Prefix"][cut:-1] for item in page.get("CommonPrefixes", [])]
    return entries, folders, page["NextContinuationToken"] if page.get("IsTruncated") else None


def uploads(cut: int, page: Any) -> tuple[Sequence[tuple[str, str, float]], dict[str, str]]:  # noqa: ANN401 - as above
    """Uploads (key, id, when), and what asks for the next page: nothing at the end."""
    found = [
        (item["Key"][cut:], item["UploadId"], item["Initiated"].timestamp())
        for item in page.get("Uploads", [])
    ]
    if not page.get("IsTruncated"):
        return found, {}
    marker = page.get("NextUploadIdMarker", "")
    return found, {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": marker}


def parts_of(page: Any) -> tuple[list[Part], int | None]:  # noqa: ANN401 - boto3 has no types
    """A page of parts, and where the next page begins."""
    parts = [
        Part(
            number=item["PartNumber"],
            size=item["Size"],
            etag=item["ETag"],
            crc32=item.get("ChecksumCRC32"),
        )
        for item in page.get("Parts", [])
    ]
    return parts, int(page["NextPartNumberMarker"]) if page.get("IsTruncated") else None

"""Where everything is, under the registry's prefix.

artifacts/<name>/<64 hex>/tree/**                the served prefix, lmi-artifact.json at its root
model.tar.gz           where that layout was asked for
statements/<sha256>.json
manifest.json          its appearance makes the artifact visible
revoked.json           its appearance takes the artifact back
blobs/<2 hex>/<64 hex>.json                      which object of which tree holds a content
tags/<name>/<tag>                                the digest it points at, moved by If-Match
actions/<2 hex>/<64 hex>.json                    plan key -> artifact and statements
index/names/<name>/<inverted time>-<64 hex>      newest first, because listings are sorted
index/digests/<64 hex>/<name>                    to find an artifact by a digest's first digits
catalog/<tag>/<32 hex>.json                      what carries a tag, for one model: one GET
records/**                                       what came of many builds together; never changes
leases/<name>/<64 hex>/*                         who is publishing, and whether gc is at work
probe/                                           the test of conditional writes, at first use
"""

from typing import Final

from lmi_artifacts.digest import HEX64, Digest, digest_bytes
from lmi_artifacts.errors import ReferenceInvalid
from lmi_artifacts.reference import TAG, ArtifactRef
from lmi_artifacts.tarform import TAR_NAME

MANIFEST: Final = "manifest.json"
REVOKED: Final = "revoked.json"
_NS_DIGITS: Final = 19
_LATEST: Final = 10**_NS_DIGITS - 1


def home(ref: ArtifactRef) -> str:
    """Key of an artifact's folder, ending in `/`."""
    return f"artifacts/{ref.name}/{ref.digest.hex}/"


def tree(ref: ArtifactRef) -> str:
    """Key of its served prefix, ending in `/`."""
    return f"{home(ref)}tree/"


def packed(ref: ArtifactRef) -> str:
    """Key of its model.tar.gz."""
    return home(ref) + TAR_NAME


def statement(ref: ArtifactRef, digest: Digest) -> str:
    """Key of one statement."""
    return f"{home(ref)}statements/{digest.hex}.json"


def blob(sha256: str) -> str:
    """Key that says where a content is."""
    return f"blobs/{sha256[:2]}/{sha256}.json"


def tag(name: str, text: str) -> str:
    """Key of a tag; raises ReferenceInvalid unless it can be one."""
    if TAG.fullmatch(text) is None:
        raise ReferenceInvalid(text, f"is not a tag; it does not fit {TAG.pattern}")
    return f"tags/{name}/{text}"


def action(key: str) -> str:
    """Key of a plan key's entry; raises ReferenceInvalid unless it has 64 hex digits."""
    digits = key.removeprefix("sha256:")
    if HEX64.fullmatch(digits) is None:
        raise ReferenceInvalid(key, "is not a plan key; one has 64 lower-case hex digits")
    return f"actions/{digits[:2]}/{digits}.json"


def newest(ref: ArtifactRef, nanoseconds: int) -> str:
    """Key that a listing of the name shows before those of older artifacts."""
    return f"index/names/{ref.name}/{_LATEST - nanoseconds:0{_NS_DIGITS}d}-{ref.digest.hex}"


def by_digest(ref: ArtifactRef) -> str:
    """Key under which a digest's first digits find the artifact."""
    return f"index/digests/{ref.digest.hex}/{ref.name}"


def catalog(text: str, model: str) -> str:
    """Key of what carries a tag, for one model."""
    return f"catalog/{text}/{digest_bytes(model.encode()).hex[:32]}.json"


def leases(ref: ArtifactRef) -> str:
    """Key of the folder of an artifact's leases, ending in `/`."""
    return f"leases/{ref.name}/{ref.digest.hex}/"


def record(name: str) -> str:
    """Key of a record."""
    return f"records/{name}"

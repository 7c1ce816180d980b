"""Kinds of buckets: versioned, locked, encrypted with a key, paid for by the requester."""

import uuid
from pathlib import Path

import pytest
from s3servers import Server

from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import Registry, open_registry
from lmi_artifacts.tree import scan_tree

KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/0f7a0e0c-0000-0000-0000-000000000000"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    (root / "small").write_bytes(b"x")
    (root / "large").write_bytes(b"0123456789abcdef" * 2**20)
    return root


def sealed(tree: Path, key: str) -> Manifest:
    return Manifest(
        name="tiny", recipe={}, toolchain={}, build_key=key, steps={}, serving={}, licence=None,
        simulated=False, files=scan_tree(tree),
    )  # fmt: skip


def _whole_way(registry: Registry, tree: Path, dest: Path) -> None:
    one = registry.publish(tree, sealed(tree, "1"), tags=["t"], layouts=["tar.gz"]).ref
    two = registry.publish(tree, sealed(tree, "2")).ref
    registry.move_tag(two, "t", expected=one.digest)
    assert registry.resolve("tiny:t") == two
    assert registry.pull(two, dest).fetched == 2
    registry.check(one, rehash=True)
    registry.remove(one)
    assert [line.ref for line in registry.list()] == [two]
    assert registry.publish(tree, sealed(tree, "1")).created  # a delete marker counts as absent


@pytest.mark.parametrize("kind", ["versioned", "locked"])
def test_versioned_and_locked_buckets(
    moto_server: Server, tree: Path, tmp_path: Path, kind: str
) -> None:
    client, name = moto_server.client(), f"b{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=kind == "locked")
    if kind == "versioned":
        on = {"Status": "Enabled"}
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration=on)
    else:
        rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
        lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)
    _whole_way(open_registry(moto_server.url(name, "r")), tree, tmp_path / "dest")


def test_everything_is_encrypted_with_the_key_that_was_named(
    moto_server: Server, tree: Path, tmp_path: Path
) -> None:
    name = moto_server.bucket(f"b{uuid.uuid4().hex}")
    url = f"{moto_server.url(name, 'r')}&kms={KMS_KEY}&payer=requester"
    registry = open_registry(url)
    ref = registry.publish(tree, sealed(tree, "1"), tags=["t"]).ref
    client = moto_server.client()
    for item in client.list_objects_v2(Bucket=name)["Contents"]:
        found = client.head_object(Bucket=name, Key=item["Key"])
        assert found.get("SSEKMSKeyId") == KMS_KEY, item["Key"]
    assert registry.pull(ref, tmp_path / "dest").fetched == 2

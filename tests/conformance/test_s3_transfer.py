"""Bytes on their way to and from S3: sizes around a part, kills, forks, damaged answers."""

import multiprocessing
import random
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy
from s3servers import Bucket, Server

from lmi_artifacts.content import describe_file
from lmi_artifacts.errors import ArtifactRefused, RegistryMisconfigured
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.registry import open_registry
from lmi_artifacts.s3 import download, publishing, upload
from lmi_artifacts.s3 import store as store_module
from lmi_artifacts.s3.address import parse_address
from lmi_artifacts.s3.registry import S3Registry
from lmi_artifacts.s3.store import Store
from lmi_artifacts.tarcheck import verify_tar_gz
from lmi_artifacts.tree import check_tree, scan_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "graphs").mkdir(parents=True)
    (root / "graphs" / "decode.so").write_bytes(b"\x7fELF" * 300)
    return root


def manifest_of(tree: Path, key: str = "0") -> Manifest:
    return Manifest(
        name="tiny", recipe={}, toolchain={}, build_key=key, steps={}, serving={}, licence=None,
        simulated=False, files=scan_tree(tree),
    )  # fmt: skip


def opened(url: str) -> S3Registry:
    registry = open_registry(url)
    assert isinstance(registry, S3Registry)
    return registry


@pytest.mark.parametrize("part", [2 * 2**20, 4 * 2**20])
def test_a_killed_pull_goes_on_where_it_was(
    bucket: Bucket, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(download, "PART", part)
    size = 64 * 2**20
    (tree / "weights.safetensors").write_bytes(random.Random(3).randbytes(2**20) * 64)
    registry = opened(bucket.url)
    ref = registry.publish(tree, manifest_of(tree)).ref

    class Stopped(Exception):
        pass

    came = 0

    def stop(count: int) -> None:
        nonlocal came
        came += count
        if came > size - 2**20:
            raise Stopped

    registry.progress = stop
    with pytest.raises(Stopped):
        registry.pull(ref, tmp_path / "dest")
    came = -(2**60)
    registry.pull(ref, tmp_path / "dest")
    assert came + 2**60 <= (download.AHEAD + 1) * part  # what may have been out of order
    check_tree(tmp_path / "dest", manifest_of(tree), rehash=True)


def test_files_of_any_size_around_a_part_come_back(
    bucket: Bucket, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = 5 * 2**20  # the smallest that S3 takes
    for module in (download, upload, publishing):
        monkeypatch.setattr(module, "PART", part)
    noise = random.Random(5).randbytes(2 * part + 1)
    for size in (0, 1, part - 1, part, part + 1, 2 * part, 2 * part + 1):
        (tree / f"of-{size}").write_bytes(noise[:size])
    manifest = manifest_of(tree)
    registry = open_registry(bucket.url)
    ref = registry.publish(tree, manifest, layouts=["tar.gz"]).ref
    registry.pull(ref, tmp_path / "dest")
    check_tree(tmp_path / "dest", manifest, rehash=True)
    registry.pull(ref, tmp_path / "dest.tar.gz", layout="tar.gz")
    assert verify_tar_gz(tmp_path / "dest.tar.gz", ref.digest) == manifest


@pytest.mark.parametrize("change", [-1, 1, 3 * 2**20])
def test_a_file_that_changes_its_size_is_not_sent(
    bucket: Bucket, tmp_path: Path, change: int
) -> None:
    store = Store(parse_address(bucket.url))
    source = tmp_path / "source"
    for size in (1000, upload.PART, upload.PART + 5):
        source.write_bytes(bytes(size))
        file = describe_file(source, "f", executable=False)
        source.write_bytes(bytes(size + change))
        with pytest.raises(ArtifactRefused, match=f"{size} bytes"):
            upload.upload_file(store, "sent", source, file, lambda _: None)
        assert store.head("sent") is None


def test_what_grows_when_it_is_compressed_is_sent_whole(bucket: Bucket) -> None:
    store = Store(parse_address(bucket.url))
    data = random.Random(6).randbytes(upload.PART + 70_000)
    for number, length in enumerate((500, 70_000, len(data))):
        writer = upload.PartWriter(store, f"grown{number}", 10, lambda _: None)
        for start in range(0, length, 9_999):
            writer.write(data[start : min(length, start + 9_999)])
        assert writer.finish()
        writer.close()
        found = store.get(f"grown{number}")
        assert found is not None
        assert found.data == data[:length]


def test_a_killed_publish_sends_only_what_is_missing(bucket: Bucket, tree: Path) -> None:
    (tree / "weights.safetensors").write_bytes(random.Random(4).randbytes(2**20) * 80)
    manifest = manifest_of(tree)

    class Stopped(BaseException):
        pass

    parts = 0

    def stop(where: str) -> None:
        nonlocal parts
        parts += where == "between parts"
        if parts == 4:
            raise Stopped

    killed = opened(bucket.url)
    killed.checkpoint = stop
    with pytest.raises(Stopped):
        killed.publish(tree, manifest)
    assert open_registry(bucket.url).list() == ()
    again = opened(bucket.url)
    ref = again.publish(tree, manifest).ref
    assert 0 < again.store.requests["UploadPart"] <= 6  # of ten
    again.check(ref, rehash=True)


class _Expiring(FaultyProxy):
    """The session token expires in the middle of an upload."""

    left = 12

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        if "partNumber" in handler.path:
            self.left -= 1
        if self.left > 0:
            super().serve(handler)
            return
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        data = b"<Error><Code>ExpiredToken</Code><Message>no</Message></Error>"
        handler.send_response_only(400)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


def test_a_token_that_expires_in_the_middle_is_named_and_resumed(
    bucket: Bucket, tree: Path
) -> None:
    (tree / "weights.safetensors").write_bytes(random.Random(5).randbytes(2**20) * 160)
    manifest = manifest_of(tree)
    proxy = _Expiring(bucket.server.endpoint, rate=0.0)
    try:
        url = Server(kind="seaweed", endpoint=proxy.endpoint).url(bucket.bucket, "team/models")
        with pytest.raises(RegistryMisconfigured, match="session token has expired"):
            open_registry(url).publish(tree, manifest)
    finally:
        proxy.close()
    assert open_registry(bucket.url).list() == ()
    again = opened(bucket.url)
    again.publish(tree, manifest)
    assert again.store.requests["UploadPart"] < 20  # of twenty


def test_a_registry_that_was_used_can_be_used_by_forked_workers(
    bucket: Bucket, tree: Path, tmp_path: Path
) -> None:
    for number in range(8):
        (tree / str(number)).write_bytes(random.Random(number).randbytes(300_000))
    manifest = manifest_of(tree)
    registry = open_registry(bucket.url)
    ref = registry.publish(tree, manifest).ref
    registry.pull(ref, tmp_path / "first")
    context = multiprocessing.get_context("fork")
    for start in range(0, 8, 4):
        places = [tmp_path / f"worker{start + number}" for number in range(4)]
        workers = [context.Process(target=registry.pull, args=(ref, place)) for place in places]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        for place in places:
            check_tree(place, manifest, rehash=True)


class _Garbling(FaultyProxy):
    """The first two answers of each kind lose a letter of a field's name, or of a date."""

    swaps = (
        (b"<Key>", b"<Kex>"), (b"<UploadId>", b"<UploadIb>"), (b"T0", b"Tx"), (b"T1", b"Tx"),
        (b"T2", b"Tx"), (b"<ETag>", b"<ETab>"),
    )  # fmt: skip

    def _forward(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        status, headers, data = super()._forward(handler, body)
        if data.startswith(b"<?xml"):
            for right, wrong in self.swaps:
                if right in data and self.faults[str(right)] < 2:
                    self.faults[str(right)] += 1
                    data = data.replace(right, wrong.ljust(len(right), b"x"))
        return status, headers, data


def test_answers_that_cannot_be_understood_are_asked_for_again(
    bucket: Bucket, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "COPY_LIMIT", 5 * 2**20)
    monkeypatch.setattr(store_module, "COPY_PART", 6 * 2**20)
    (tree / "weights.safetensors").write_bytes(random.Random(8).randbytes(11 * 2**20))
    proxy = _Garbling(bucket.server.endpoint, rate=0.0)
    try:
        url = Server(kind="seaweed", endpoint=proxy.endpoint).url(bucket.bucket, "team/models")
        registry = opened(url)
        ref = registry.publish(tree, manifest_of(tree)).ref
        (tree / "more").write_bytes(b"")
        copied = registry.publish(tree, manifest_of(tree, key="1")).ref
        registry.pull(ref, tmp_path / "dest")
        registry.collect_garbage(older_than=0, dry_run=False)
        assert {line.ref for line in registry.list()} == {ref, copied}
        registry.check(copied, rehash=True)
    finally:
        proxy.close()
    assert {"b'<Key>'", "b'<UploadId>'", "b'<ETag>'"} <= set(proxy.faults)

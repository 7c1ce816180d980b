"""What only an S3 registry has to show: races, few requests, damage, the gaps of servers."""

import multiprocessing
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler
from multiprocessing.synchronize import Barrier as BarrierType
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from faulty_proxy import FaultyProxy
from s3servers import Bucket, Server

from lmi_artifacts import content
from lmi_artifacts.digest import canonical_json, digest_bytes
from lmi_artifacts.errors import (
    ArtifactRefused,
    ArtifactRevoked,
    PullFailed,
    RegistryMisconfigured,
    TagMoved,
)
from lmi_artifacts.machine import find_machine
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import open_registry
from lmi_artifacts.s3 import keys, sealed
from lmi_artifacts.s3 import store as store_module
from lmi_artifacts.s3.address import parse_address
from lmi_artifacts.s3.registry import S3Registry
from lmi_artifacts.s3.store import Conflict, Store
from lmi_artifacts.selection import Wish, choose
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement
from lmi_artifacts.tree import scan_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "graphs").mkdir(parents=True)
    (root / "serving.properties").write_bytes(b"engine=Python\n")
    (root / "graphs" / "decode.so").write_bytes(b"\x7fELF" * 300)
    (root / "weights.safetensors").write_bytes(random.Random(1).randbytes(3_000_000))
    return root


def manifest_of(tree: Path, name: str = "tiny", key: str = "0") -> Manifest:
    return Manifest(
        name=name, recipe={"model": {"id": "org/model"}}, toolchain={}, build_key=key, steps={},
        serving={"hardware": {"march": "x86-64-v3"}, "container": {"images": []}}, licence=None,
        simulated=False, files=scan_tree(tree),
    )  # fmt: skip


def decided(manifest: Manifest) -> list[Statement]:
    return [
        Statement(
            name=manifest.name, subject=manifest.digest, predicate_type=kind,
            predicate={"decision": decision},
        )
        for kind, decision in ((VERDICT, "ACCEPT"), (NO_JIT_PROOF, "PROVEN"))
    ]  # fmt: skip


def opened(url: str) -> S3Registry:
    registry = open_registry(url)
    assert isinstance(registry, S3Registry)
    return registry


# ---------------------------------------------------------------- many writers


def _publish(url: str, tree: Path, manifest: Manifest, barrier: BarrierType, out: Path) -> None:
    registry = open_registry(url)
    barrier.wait()
    out.write_text("created" if registry.publish(tree, manifest).created else "there")


def _all(workers: list[multiprocessing.context.ForkProcess]) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(900)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


@pytest.mark.slow
@pytest.mark.chaos
def test_twenty_writers_make_one_artifact_five_times(
    bucket: Bucket, tree: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    for number in range(5):
        manifest = manifest_of(tree, key=str(number))
        barrier = context.Barrier(20)
        outs = [tmp_path / f"{number}-{index}" for index in range(20)]
        jobs = [(bucket.url, tree, manifest, barrier, out) for out in outs]
        _all([context.Process(target=_publish, args=job) for job in jobs])
        assert sorted(out.read_text() for out in outs) == ["created"] + ["there"] * 19
    registry = open_registry(bucket.url)
    assert len(registry.list()) == 5
    assert sum(key.endswith("/manifest.json") for key in bucket.stored_keys()) == 5
    assert registry.collect_garbage(older_than=-1) == ()


def _move(url: str, refs: list[ArtifactRef], rounds: int, barrier: BarrierType, out: Path) -> None:
    registry = open_registry(url)
    barrier.wait()
    won = 0
    while won < rounds:
        now = registry.tag("tiny", "prod")
        place = -1 if now is None else [ref.digest for ref in refs].index(now)
        try:
            registry.move_tag(refs[(place + 1) % len(refs)], "prod", expected=now)
        except TagMoved:
            continue
        won += 1
    out.write_text(str(won))


@pytest.mark.slow
@pytest.mark.chaos
def test_eight_movers_of_one_tag_lose_no_update(bucket: Bucket, tree: Path, tmp_path: Path) -> None:
    """Each success goes one step round a ring of seven: the end tells how many there were."""
    registry = open_registry(bucket.url)
    refs = [registry.publish(tree, manifest_of(tree, key=str(n))).ref for n in range(7)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    outs = [tmp_path / f"won{index}" for index in range(8)]
    _all([context.Process(target=_move, args=(bucket.url, refs, 100, barrier, o)) for o in outs])
    moves = sum(int(out.read_text()) for out in outs)
    assert moves == 800
    assert registry.tag("tiny", "prod") == refs[(moves - 1) % 7].digest


# ---------------------------------------------------------------- few requests


def _fill(bucket: Bucket, manifest: Manifest, count: int) -> list[ArtifactRef]:
    """Store `count` artifacts' manifests and index entries, as publishing them would."""
    store = Store(parse_address(bucket.url))
    many = [replace(manifest, build_key=f"many {number}") for number in range(count)]
    refs = [ArtifactRef(name=one.name, digest=digest_bytes(one.to_bytes())) for one in many]

    def put(number: int) -> None:
        ref = refs[number]
        store.put(keys.by_digest(ref), b"")
        store.put(keys.newest(ref, 10**18 + number), b"")
        store.put(keys.home(ref) + keys.MANIFEST, many[number].to_bytes())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(count)))
    return refs


@pytest.mark.chaos  # minutes: it fills a bucket
def test_resolve_among_ten_thousand_needs_five_requests(bucket: Bucket, tree: Path) -> None:
    manifest = manifest_of(tree)
    small = replace(manifest, files=())
    _fill(bucket, replace(small, name="tiny"), 10_000)
    registry = opened(bucket.url)
    ref = registry.publish(tree, manifest, statements=decided(manifest), tags=["prod"]).ref
    found = sealed.read(registry.store, keys.catalog("prod", "org/model"))
    assert found is not None
    entry = found.value["tiny"]
    crowd = {f"other-{number}": {**entry, "created": 1.0} for number in range(9_999)}  # type: ignore[dict-item]
    sealed.write(registry.store, keys.catalog("prod", "org/model"), {**found.value, **crowd})
    wish = Wish(model="org/model", machine=find_machine("x86-64-v4"))
    asks: list[Callable[[S3Registry], ArtifactRef]] = [
        lambda it: it.resolve("tiny"),
        lambda it: it.resolve("tiny:prod"),
        lambda it: it.resolve(str(ref)),
        lambda it: it.resolve(f"sha256:{ref.digest.hex[:16]}"),
        lambda it: choose(it, wish).ref,
    ]
    for ask in asks:
        fresh = opened(bucket.url)
        assert ask(fresh) == ref
        assert fresh.store.requests.total() <= 5, fresh.store.requests


def test_an_up_to_date_pull_is_one_small_get(bucket: Bucket, tree: Path, tmp_path: Path) -> None:
    ref = open_registry(bucket.url).publish(tree, manifest_of(tree)).ref
    open_registry(bucket.url).pull(ref, tmp_path / "dest")
    fresh = opened(bucket.url)
    assert fresh.pull(ref, tmp_path / "dest").up_to_date
    assert dict(fresh.store.requests) == {"GetObject": 1}


def test_unchanged_weights_are_copied_by_the_server(bucket: Bucket, tree: Path) -> None:
    (tree / "weights.safetensors").write_bytes(random.Random(2).randbytes(20_000_000))
    open_registry(bucket.url).publish(tree, manifest_of(tree))
    (tree / "serving.properties").write_bytes(b"engine=Python\noption.x=1\n")
    registry = opened(bucket.url)
    ref = registry.publish(tree, manifest_of(tree)).ref
    assert registry.store.requests["UploadPart"] == 0
    assert registry.store.requests["CopyObject"] == 1
    registry.check(ref, rehash=True)


def test_contents_above_the_limit_of_one_copy_are_copied_in_parts(
    bucket: Bucket, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS copies up to 5 GiB at once; the limit is lowered to the smallest part S3 takes."""
    monkeypatch.setattr(store_module, "COPY_LIMIT", 5 * 2**20)
    monkeypatch.setattr(store_module, "COPY_PART", 6 * 2**20)
    (tree / "weights.safetensors").write_bytes(random.Random(6).randbytes(20_000_000))
    open_registry(bucket.url).publish(tree, manifest_of(tree))
    (tree / "serving.properties").write_bytes(b"engine=Python\noption.x=1\n")
    registry = opened(bucket.url)
    ref = registry.publish(tree, manifest_of(tree)).ref
    assert registry.store.requests["UploadPart"] == registry.store.requests["CopyObject"] == 0
    assert registry.store.requests["UploadPartCopy"] == 4
    registry.check(ref, rehash=True)
    assert not bucket.server.client().list_multipart_uploads(Bucket=bucket.bucket).get("Uploads")


def test_one_rank_can_be_pulled(bucket: Bucket, tree: Path, tmp_path: Path) -> None:
    for rank in range(2):
        (tree / f"rank{rank}.engine").write_bytes(bytes([rank]) * 100)
    registry = open_registry(bucket.url)
    ref = registry.publish(tree, manifest_of(tree)).ref
    for _ in range(2):
        pulled = registry.pull(ref, tmp_path / "one", rank=1)
    assert pulled.up_to_date
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert "rank1.engine" in names
    assert "rank0.engine" not in names
    with pytest.raises(ArtifactRefused, match="no rank 7: it has the ranks 0, 1"):
        registry.pull(ref, tmp_path / "seven", rank=7)


# ---------------------------------------------------------------- damage


@pytest.mark.slow
@pytest.mark.parametrize(("digest", "flips"), [("blake3", 200), ("sha256", 40)])
def test_every_flipped_byte_is_refused(
    bucket: Bucket,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    digest: str,
    flips: int,
) -> None:
    manifest = manifest_of(tree)
    if digest == "sha256":
        monkeypatch.setattr(content, "blake3_hash", lambda: None)
    registry = open_registry(bucket.url)
    ref = registry.publish(tree, manifest).ref
    client = bucket.server.client()
    base = f"team/models/artifacts/{ref.name}/{ref.digest.hex}/"
    objects = [(f"{base}tree/{file.path}", file.size) for file in manifest.files]
    objects += [(f"{base}{end}", len(manifest.to_bytes())) for end in (
        "manifest.json", "tree/lmi-artifact.json",
    )]  # fmt: skip
    rng = random.Random(7)
    for number in range(flips):
        key, size = objects[number % len(objects)]
        whole = client.get_object(Bucket=bucket.bucket, Key=key)["Body"].read()
        place = rng.randrange(size)
        bad = whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :]
        client.put_object(Bucket=bucket.bucket, Key=key, Body=bad)
        with pytest.raises(ArtifactRefused):
            registry.pull(ref, tmp_path / f"dest{number}")
        assert not (tmp_path / f"dest{number}").exists()
        client.put_object(Bucket=bucket.bucket, Key=key, Body=whole)
    registry.pull(ref, tmp_path / "sound")


@pytest.mark.parametrize("damage", ["swapped", "missing", "extra"])
def test_other_files_are_refused(bucket: Bucket, tree: Path, tmp_path: Path, damage: str) -> None:
    (tree / "b").write_bytes(b"2" * 1200)
    registry = open_registry(bucket.url)
    ref = registry.publish(tree, manifest_of(tree)).ref
    one = bucket.stored(ref, "tree/graphs/decode.so")
    match damage:
        case "swapped":
            two = bucket.stored(ref, "tree/b")
            first, second = one.read_bytes(), two.read_bytes()
            one.write_bytes(second)
            two.write_bytes(first)
        case "missing":
            one.unlink()
        case _:
            bucket.stored(ref, "tree/graphs/more.so").write_bytes(b"")
    with pytest.raises(ArtifactRefused):
        registry.pull(ref, tmp_path / "dest")


def test_every_edited_field_of_the_manifest_is_refused(
    bucket: Bucket, tree: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(tree)
    registry = open_registry(bucket.url)
    ref = registry.publish(tree, manifest).ref
    stored = bucket.stored(ref, "manifest.json")
    assert manifest.serving
    assert manifest.recipe
    edited = [
        replace(manifest, recipe={}), replace(manifest, toolchain={"x": 1}),
        replace(manifest, build_key="1"), replace(manifest, steps={"a": "b"}),
        replace(manifest, serving={}), replace(manifest, licence={"id": "mit"}),
        replace(manifest, simulated=True), replace(manifest, files=manifest.files[1:]),
        replace(manifest, name="other"), replace(manifest, format_version=1),
    ]  # fmt: skip
    assert len(edited) == len(fields(manifest))
    for other in edited:
        stored.write_bytes(canonical_json(other.to_json()))
        with pytest.raises(ArtifactRefused, match="was changed"):
            registry.pull(ref, tmp_path / "dest")


def test_what_a_killed_probe_left_is_collected(bucket: Bucket, tree: Path) -> None:
    registry = opened(bucket.url)
    registry.publish(tree, manifest_of(tree))
    left = registry.store.put("probe/0123456789abcdef", b"1")
    assert left
    assert registry.collect_garbage(older_than=-1, dry_run=False) == ("probe/0123456789abcdef",)
    assert registry.collect_garbage(older_than=-1) == ()
    assert "team/models/probe/conditional-writes" in bucket.stored_keys()


def test_a_revoked_artifact_is_refused_at_once(bucket: Bucket, tree: Path, tmp_path: Path) -> None:
    registry = open_registry(bucket.url)
    ref = registry.publish(tree, manifest_of(tree)).ref
    open_registry(bucket.url).mark_revoked(ref, "the licence was withdrawn")
    with pytest.raises(ArtifactRevoked, match="licence was withdrawn"):
        registry.pull(ref, tmp_path / "dest")
    assert registry.revocation(ref) == "the licence was withdrawn"


# ---------------------------------------------------------------- servers


class _Forgetful(FaultyProxy):
    """A gateway that ignores conditions, as rclone's and juicefs' do."""

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        for name in ("If-Match", "If-None-Match"):
            del handler.headers[name]
        super().serve(handler)


@pytest.fixture
def forgetful(moto_server: Server) -> Iterator[_Forgetful]:
    proxy = _Forgetful(moto_server.endpoint, rate=0.0)
    yield proxy
    proxy.close()


def test_an_endpoint_without_conditional_writes_is_refused(
    forgetful: _Forgetful, tree: Path
) -> None:
    """No signature is checked by moto, so that headers can be taken away."""
    bucket = Bucket(Server(kind="moto", endpoint=forgetful.endpoint))
    with pytest.raises(RegistryMisconfigured, match="does not honour conditional writes"):
        open_registry(bucket.url).publish(tree, manifest_of(tree))
    assert not [key for key in bucket.stored_keys() if key.endswith("manifest.json")]


def _store(server: Server) -> Store:
    return Store(parse_address(Bucket(server).url))


def test_if_match_on_an_absent_key_is_a_conflict_everywhere(
    seaweed_server: Server, moto_server: Server
) -> None:
    """AWS and moto answer 404, SeaweedFS 412; both are a `Conflict` to us."""
    answers = {}
    for server in (seaweed_server, moto_server):
        store = _store(server)
        with pytest.raises(Conflict):
            store.put("absent", b"x", '"0123"')
        with pytest.raises(ClientError) as caught:
            server.client().put_object(
                Bucket=store.address.bucket, Key="absent", Body=b"x", IfMatch='"0123"'
            )
        answers[server.kind] = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert answers == {"seaweed": 412, "moto": 404}


@pytest.fixture(params=["seaweed", "moto"])
def strict(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


def _gap(strict: Server, request: pytest.FixtureRequest, name: str) -> None:
    if strict.kind == "moto":
        request.applymarker(pytest.mark.xfail(strict=True, reason=f"moto: {name}"))


def test_if_match_on_completion(strict: Server, request: pytest.FixtureRequest) -> None:
    _gap(strict, request, "complete-multipart ignores If-Match")
    store = _store(strict)
    store.put("key", b"1")
    upload = store.create_upload("key")
    part = store.upload_part("key", upload, 1, b"2")
    with pytest.raises(Conflict):
        store.complete_upload("key", upload, [part], '"0123"')


def test_a_wrong_checksum_is_refused(strict: Server, request: pytest.FixtureRequest) -> None:
    _gap(strict, request, "checks no checksum")
    store = _store(strict)
    with pytest.raises(ClientError):
        strict.client().put_object(
            Bucket=store.address.bucket, Key="key", Body=b"x", ChecksumCRC32="AAAAAA=="
        )


def test_wrong_credentials_are_refused(
    strict: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gap(strict, request, "checks no credentials")
    store = _store(strict)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(RegistryMisconfigured, match="secret key is wrong"):
        store.put("key", b"x")


def test_a_pull_destination_with_other_content(bucket: Bucket, tree: Path, tmp_path: Path) -> None:
    ref = open_registry(bucket.url).publish(tree, manifest_of(tree)).ref
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").write_text("precious")
    with pytest.raises(PullFailed):
        open_registry(bucket.url).pull(ref, tmp_path / "mine")

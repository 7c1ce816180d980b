"""What every registry must do, whatever holds it.

A new implementation is a `Place`: how to open it, and how to damage what it stores.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.synchronize import Barrier as BarrierType
from pathlib import Path
from typing import Literal, Protocol

import pytest
from s3servers import Bucket

from lmi_artifacts.digest import Digest, digest_bytes
from lmi_artifacts.errors import (
    ArtifactNotFound,
    ArtifactRefused,
    PackageInvalid,
    PublishFailed,
    PullFailed,
    ReferenceAmbiguous,
    ReferenceInvalid,
    TagMoved,
)
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.paths import MANIFEST_NAME
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Layout, Registry, open_registry
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement
from lmi_artifacts.tarcheck import verify_tar_gz
from lmi_artifacts.tree import check_tree, scan_tree

KEY = "0" * 63 + "1"
LAYOUTS: tuple[Layout, ...] = ("prefix", "tar.gz")


class Place(Protocol):
    """A registry's home, and a way to damage it behind its back."""

    url: str

    def open(self, *, allow_simulated: bool = False) -> Registry: ...
    def stored(self, ref: ArtifactRef, path: str) -> "Stored": ...


class Stored(Protocol):
    """Something stored that may be changed or removed; a `Path` is one."""

    def read_bytes(self) -> bytes: ...
    def write_bytes(self, data: bytes, /) -> object: ...
    def unlink(self) -> None: ...


class Folder:
    def __init__(self, root: Path) -> None:
        self.url = str(root)

    def open(self, *, allow_simulated: bool = False) -> Registry:
        return open_registry(self.url, allow_simulated=allow_simulated)

    def stored(self, ref: ArtifactRef, path: str) -> Stored:
        """A stored file that may be changed or removed; `path` as the registry lays it out."""
        return Path(self.url, "artifacts", ref.name, ref.digest.hex, path)


@pytest.fixture(params=["folder", "moto", "seaweed"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    match request.param:
        case "folder":
            yield Folder(tmp_path / "registry")
        case "moto" | "seaweed" as kind:
            yield Bucket(request.getfixturevalue(f"{kind}_server"))
        case other:
            pytest.fail(f"no such registry: {other}")


@pytest.fixture
def registry(place: Place) -> Registry:
    return place.open()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "graphs").mkdir(parents=True)
    (root / "serving.properties").write_bytes(b"engine=Python\n")
    (root / "graphs" / "decode.so").write_bytes(b"\x7fELF" * 300)
    (root / "graphs" / "decode.so").chmod(0o755)
    (root / "weights.safetensors").write_bytes(bytes(range(256)) * 400)
    (root / "empty").write_bytes(b"")
    return root


def manifest_of(tree: Path, name: str = "tiny", *, simulated: bool = False) -> Manifest:
    return Manifest(
        name=name, recipe={"backend": "null"}, toolchain={}, build_key=KEY, steps={}, serving={},
        licence=None, simulated=simulated, files=scan_tree(tree),
    )  # fmt: skip


def in_format_1(manifest: Manifest) -> Manifest:
    files = tuple(replace(file, blake3=None) for file in manifest.files)
    return replace(manifest, files=files, format_version=1)


def say(manifest: Manifest, kind: str = VERDICT, text: str = "ACCEPT") -> Statement:
    return Statement(
        name=manifest.name, subject=manifest.digest, predicate_type=kind, predicate={"says": text}
    )


def variant(tree: Path, text: str) -> Manifest:
    """Another artifact in the same folder."""
    (tree / "variant").write_text(text)
    return manifest_of(tree)


# ---------------------------------------------------------------- publish


def test_publish_makes_everything_visible(registry: Registry, tree: Path) -> None:
    manifest = manifest_of(tree)
    verdict, proof = say(manifest), say(manifest, NO_JIT_PROOF)
    published = registry.publish(
        tree, manifest, statements=[verdict, proof], action_key=KEY, tags=["nightly"]
    )
    ref = published.ref
    assert published.created
    assert str(ref) == f"tiny@{manifest.digest}"
    assert registry.manifest(ref) == manifest
    assert {item.digest for item in registry.statements(ref)} == {verdict.digest, proof.digest}
    assert registry.check(ref, rehash=True) == manifest
    assert registry.tag("tiny", "nightly") == manifest.digest
    action = registry.find_action(KEY)
    assert action is not None
    assert (action.ref, action.statements) == (ref, (verdict.digest, proof.digest))
    assert registry.find_action("f" * 64) is None
    (line,) = registry.list()
    assert (line.ref, line.tags, line.size, line.files) == (ref, ("nightly",), manifest.size, 4)
    assert set(line.statements) == {VERDICT, NO_JIT_PROOF}
    assert line.layouts == ("prefix",)
    assert line.problems == ()


def test_the_prefix_is_a_servable_tree(registry: Registry, tree: Path) -> None:
    manifest = manifest_of(tree)
    ref = registry.publish(tree, manifest).ref
    where = registry.location(ref)
    assert ref.digest.hex in where
    assert registry.location(ref, "tar.gz").endswith("model.tar.gz")


def test_a_second_publish_says_already_there_and_adds(registry: Registry, tree: Path) -> None:
    manifest = manifest_of(tree)
    first = registry.publish(tree, manifest, statements=[say(manifest)])
    other = say(manifest, NO_JIT_PROOF)
    second = registry.publish(
        tree, manifest, statements=[say(manifest), other], layouts=["tar.gz"], tags=["new"]
    )
    assert (second.created, second.ref) == (False, first.ref)
    kinds = [item.predicate_type for item in registry.statements(first.ref)]
    assert kinds == [VERDICT, NO_JIT_PROOF]
    assert registry.list()[0].layouts == ("prefix", "tar.gz")
    assert registry.list()[0].tags == ("new",)
    registry.check(first.ref, rehash=True)


@pytest.mark.parametrize("damage", ["changed", "shorter", "extra", "missing", "link"])
def test_a_tree_that_is_not_its_manifest_stays_invisible(
    registry: Registry, tree: Path, damage: str
) -> None:
    manifest = manifest_of(tree)
    victim = tree / "weights.safetensors"
    match damage:
        case "changed":
            victim.write_bytes(b"x" + victim.read_bytes()[1:])
        case "shorter":
            victim.write_bytes(b"x")
        case "extra":
            (tree / "more").write_bytes(b"")
        case "missing":
            victim.unlink()
        case _:
            victim.rename(tree.parent / "elsewhere")
            victim.symlink_to(tree.parent / "elsewhere")
    with pytest.raises(PublishFailed, match="weights" if damage != "extra" else "more"):
        registry.publish(tree, manifest, action_key=KEY, tags=["t"])
    assert registry.list() == ()
    assert registry.find_action(KEY) is None
    assert registry.tag("tiny", "t") is None
    assert registry.collect_garbage(older_than=0) == ()


def test_statements_about_something_else_are_refused(registry: Registry, tree: Path) -> None:
    manifest = manifest_of(tree)
    other = replace(say(manifest), subject=digest_bytes(b"other"))
    with pytest.raises(PublishFailed, match="is about"):
        registry.publish(tree, manifest, statements=[other])
    assert registry.list() == ()
    ref = registry.publish(tree, manifest).ref
    with pytest.raises(PublishFailed, match="is about"):
        registry.add_statement(ref, other)
    with pytest.raises(PublishFailed, match="is about"):
        registry.add_statement(ref, replace(say(manifest), name="other"))
    assert registry.statements(ref) == ()


def test_impossible_names_are_refused_before_anything_is_written(
    registry: Registry, tree: Path
) -> None:
    manifest = manifest_of(tree)
    with pytest.raises(ReferenceInvalid):
        registry.publish(tree, manifest, tags=["../../x"])
    with pytest.raises(ReferenceInvalid):
        registry.publish(tree, manifest, action_key="../x")
    with pytest.raises(PackageInvalid):
        registry.publish(tree, replace(manifest, name="../x"))
    bad = ManifestFile(path="../x", size=0, sha256=digest_bytes(b"").hex)
    with pytest.raises(PackageInvalid):
        registry.publish(tree, replace(manifest, files=(bad,)))
    assert registry.list() == ()


def test_simulated_artifacts_stay_in_registries_opened_for_them(place: Place, tree: Path) -> None:
    manifest = manifest_of(tree, simulated=True)
    with pytest.raises(PublishFailed, match="simulator"):
        place.open().publish(tree, manifest)
    testbed = place.open(allow_simulated=True)
    ref = testbed.publish(tree, manifest, tags=["t"]).ref
    assert testbed.resolve("tiny") == ref
    for refused in (
        lambda: place.open().resolve("tiny"),
        lambda: place.open().resolve("tiny:t"),
        lambda: place.open().check(ref),
        lambda: place.open().pull(ref, tree.parent / "dest"),
    ):
        with pytest.raises(ArtifactRefused, match="simulator"):
            refused()
    assert [line.simulated for line in place.open().list()] == [True]


# ---------------------------------------------------------------- resolve


def test_resolve_finds_by_every_form(registry: Registry, tree: Path) -> None:
    manifest = manifest_of(tree)
    ref = registry.publish(tree, manifest, tags=["nightly"]).ref
    digits = ref.digest.hex
    for text in (
        str(ref), "tiny", "tiny:nightly", f"tiny@sha256:{digits[:8]}", f"sha256:{digits}",
        f"sha256:{digits[:12]}",
    ):  # fmt: skip
        assert registry.resolve(text) == ref


def test_a_bare_name_means_the_newest(registry: Registry, tree: Path) -> None:
    refs = [registry.publish(tree, variant(tree, text)).ref for text in ("1", "2", "3")]
    assert registry.resolve("tiny") == refs[-1]
    assert [line.ref for line in registry.list()] == refs[::-1]


def test_what_is_not_there_names_the_nearest(registry: Registry, tree: Path) -> None:
    with pytest.raises(ArtifactNotFound):
        registry.resolve("tiny")
    ref = registry.publish(tree, manifest_of(tree), tags=["nightly"]).ref
    cases = {
        "tinny": ("tiny",),
        "tiny:nightyl": ("tiny:nightly", str(ref)),
        "tiny@sha256:00000000": ("tiny:nightly", str(ref)),
        "sha256:00000000": (),
    }
    for text, nearest in cases.items():
        with pytest.raises(ArtifactNotFound) as caught:
            registry.resolve(text)
        assert caught.value.nearest == nearest
    ghost = ArtifactRef(name="tiny", digest=digest_bytes(b""))
    for ask in (registry.manifest, registry.check, registry.statements):
        with pytest.raises(ArtifactNotFound):
            ask(ghost)
    with pytest.raises(ArtifactNotFound):
        registry.move_tag(ghost, "t", expected=None)


def test_an_ambiguous_prefix_names_all_it_fits(registry: Registry, tmp_path: Path) -> None:
    """The two build keys were searched for: their manifests share the first eight digits."""
    folder = tmp_path / "one-file"
    folder.mkdir()
    (folder / "f").write_bytes(b"x")
    one = replace(in_format_1(manifest_of(folder)), recipe={})
    keys = ("96450", "122125")
    refs = [registry.publish(folder, replace(one, build_key=key)).ref for key in keys]
    for text in ("tiny@sha256:ac1f49e0", "sha256:ac1f49e0"):
        with pytest.raises(ReferenceAmbiguous) as caught:
            registry.resolve(text)
        assert caught.value.candidates == tuple(sorted(map(str, refs)))
    assert registry.resolve("tiny@sha256:ac1f49e05") == refs[1]
    assert registry.resolve("sha256:ac1f49e0d") == refs[0]


def test_format_1_is_held_to_its_sha256(place: Place, tree: Path, tmp_path: Path) -> None:
    manifest, registry = in_format_1(manifest_of(tree)), place.open()
    ref = registry.publish(tree, manifest, layouts=LAYOUTS).ref
    assert registry.check(ref, rehash=True) == manifest
    for layout in LAYOUTS:
        registry.pull(ref, tmp_path / layout, layout=layout)
    stored = place.stored(ref, "tree/graphs/decode.so")
    stored.write_bytes(stored.read_bytes().replace(b"F", b"G", 1))
    with pytest.raises(ArtifactRefused, match="sha256 differs"):
        registry.pull(ref, tmp_path / "again")


# ---------------------------------------------------------------- tags


def test_tags_move_by_compare_and_swap(registry: Registry, tree: Path) -> None:
    one = registry.publish(tree, variant(tree, "1")).ref
    two = registry.publish(tree, variant(tree, "2")).ref
    registry.move_tag(one, "prod", expected=None)
    assert registry.resolve("tiny:prod") == one
    with pytest.raises(TagMoved) as caught:
        registry.move_tag(two, "prod", expected=None)
    assert (caught.value.expected, caught.value.found) == (None, str(one.digest))
    with pytest.raises(TagMoved):
        registry.move_tag(two, "prod", expected=two.digest)
    registry.move_tag(two, "prod", expected=one.digest)
    assert registry.resolve("tiny:prod") == two
    with pytest.raises(TagMoved):
        registry.move_tag(one, "absent", expected=one.digest)
    for bad in ("", "a/b", "..", "a b"):
        with pytest.raises(ReferenceInvalid):
            registry.move_tag(one, bad, expected=None)


def _race(url: str, refs: list[ArtifactRef], rounds: int, barrier: BarrierType, out: Path) -> None:
    registry = open_registry(url)
    barrier.wait()
    won: list[str] = []
    while len(won) < rounds:
        now = registry.tag("tiny", "prod")
        place = -1 if now is None else [ref.digest for ref in refs].index(now)
        following = refs[(place + 1) % len(refs)]
        try:
            registry.move_tag(following, "prod", expected=now)
        except TagMoved:
            continue
        won.append(str(following.digest))
    out.write_text(str(len(won)))


def test_no_tag_move_is_lost_in_a_race(place: Place, tree: Path, tmp_path: Path) -> None:
    """Each successful move goes one step round a ring, so the end tells how many there were."""
    registry = place.open()
    refs = [registry.publish(tree, variant(tree, str(number))).ref for number in range(7)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    movers = [
        context.Process(target=_race, args=(place.url, refs, 4, barrier, tmp_path / f"won{index}"))
        for index in range(4)
    ]
    _run_all(movers)
    moves = sum(int((tmp_path / f"won{index}").read_text()) for index in range(4))
    assert moves == 16
    assert registry.resolve("tiny:prod") == refs[(moves - 1) % len(refs)]


def _run_all(workers: list[multiprocessing.context.ForkProcess]) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


# ---------------------------------------------------------------- many writers


def _publish(url: str, tree: Path, manifest: Manifest, barrier: BarrierType, out: Path) -> None:
    registry = open_registry(url)
    barrier.wait()
    published = registry.publish(
        tree, manifest, statements=[say(manifest, text=out.name)], action_key=KEY, tags=["t"]
    )
    out.write_text("created" if published.created else "there")


def test_eight_publishers_of_one_artifact_make_it_once(
    place: Place, tree: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(tree)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(8)
    outs = [tmp_path / f"out{index}" for index in range(8)]
    _run_all(
        [
            context.Process(target=_publish, args=(place.url, tree, manifest, barrier, out))
            for out in outs
        ]
    )
    assert sorted(out.read_text() for out in outs) == ["created"] + ["there"] * 7
    registry = place.open()
    (line,) = registry.list()
    registry.check(line.ref, rehash=True)
    assert len(registry.statements(line.ref)) == 8
    assert registry.collect_garbage(older_than=0) == ()


# ---------------------------------------------------------------- check and pull


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pull_gives_exactly_the_artifact(
    registry: Registry, tree: Path, tmp_path: Path, layout: Layout
) -> None:
    manifest = manifest_of(tree)
    ref = registry.publish(tree, manifest, layouts=["tar.gz"]).ref
    dest = tmp_path / "out" / "pulled"
    first = registry.pull(ref, dest, layout=layout)
    assert (first.path, first.up_to_date, first.fetched) == (dest, False, 4)
    second = registry.pull(ref, dest, layout=layout)
    assert (second.up_to_date, second.fetched, second.reused) == (True, 0, 4)
    match layout:
        case "prefix":
            check_tree(dest, manifest, rehash=True)
            assert (dest / MANIFEST_NAME).read_bytes() == manifest.to_bytes()
        case "tar.gz":
            assert verify_tar_gz(dest, ref.digest) == manifest
    assert not [path.name for path in dest.parent.iterdir() if path.name.startswith(".")]


def test_a_tar_gz_can_be_pulled_where_only_the_prefix_is_stored(
    registry: Registry, tree: Path, tmp_path: Path
) -> None:
    ref = registry.publish(tree, manifest_of(tree)).ref
    registry.pull(ref, tmp_path / "model.tar.gz", layout="tar.gz")
    assert verify_tar_gz(tmp_path / "model.tar.gz", ref.digest) == registry.manifest(ref)


def test_pull_into_an_empty_folder(registry: Registry, tree: Path, tmp_path: Path) -> None:
    ref = registry.publish(tree, manifest_of(tree)).ref
    (tmp_path / "dest").mkdir()
    assert not registry.pull(ref, tmp_path / "dest").up_to_date


def test_pull_refuses_a_destination_with_other_content(
    registry: Registry, tree: Path, tmp_path: Path
) -> None:
    one = registry.publish(tree, variant(tree, "1")).ref
    two = registry.publish(tree, variant(tree, "2")).ref
    dest = tmp_path / "dest"
    registry.pull(one, dest)
    with pytest.raises(PullFailed, match=str(one.digest)):
        registry.pull(two, dest)
    (dest / "variant").write_text("12")
    with pytest.raises(PullFailed, match="damaged copy"):
        registry.pull(one, dest)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(PullFailed, match="other files"):
        registry.pull(one, mine)
    for layout in LAYOUTS:
        with pytest.raises(PullFailed):
            registry.pull(one, mine / "thesis.txt", layout=layout)
    assert (mine / "thesis.txt").read_text() == "precious"
    assert list(mine.iterdir()) == [mine / "thesis.txt"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_that_runs_its_own_code_needs_a_yes(
    registry: Registry, tree: Path, tmp_path: Path, layout: Layout
) -> None:
    recipe = {"model": {"id": "org/model", "trust_remote_code": True}}
    ref = registry.publish(tree, replace(manifest_of(tree), recipe=recipe)).ref
    dest = tmp_path / "dest"
    with pytest.raises(ArtifactRefused, match="--trust-remote-code"):
        registry.pull(ref, dest, layout=layout)
    assert not dest.exists()
    assert registry.pull(ref, dest, layout=layout, trust_remote_code=True).fetched == 4
    with pytest.raises(ArtifactRefused, match="--trust-remote-code"):
        registry.pull(ref, dest, layout=layout)


def _flip(path: Stored) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Stored) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _remove(path: Stored) -> None:
    path.unlink()


def _add(path: Stored) -> None:
    path.write_bytes(b"")


Seen = Literal["always", "by rehash"]


@pytest.mark.parametrize(
    ("path", "damage", "seen"),
    [
        ("manifest.json", _flip, "always"),
        ("manifest.json", _cut, "always"),
        ("tree/lmi-artifact.json", _flip, "always"),
        ("tree/weights.safetensors", _flip, "by rehash"),
        ("tree/weights.safetensors", _cut, "always"),
        ("tree/weights.safetensors", _remove, "always"),
        ("tree/more", _add, "always"),
        ("model.tar.gz", _cut, "always"),
        ("model.tar.gz", _flip, "by rehash"),
    ],
)
def test_damage_is_seen(
    place: Place, tree: Path, path: str, damage: Callable[[Stored], None], seen: Seen
) -> None:
    registry = place.open()
    ref = registry.publish(tree, manifest_of(tree), layouts=["tar.gz"]).ref
    damage(place.stored(ref, path))
    if seen == "always":
        with pytest.raises(ArtifactRefused):
            registry.check(ref)
        with pytest.raises(ArtifactRefused):
            registry.publish(tree, manifest_of(tree))
    else:
        registry.check(ref)
    with pytest.raises(ArtifactRefused):
        registry.check(ref, rehash=True)


@pytest.mark.parametrize("damage", [_flip, _cut, _remove])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_is_never_pulled(
    place: Place, tree: Path, tmp_path: Path, damage: Callable[[Stored], None], layout: Layout
) -> None:
    registry = place.open()
    ref = registry.publish(tree, manifest_of(tree)).ref
    damage(place.stored(ref, "tree/weights.safetensors"))
    dest = tmp_path / "out" / "dest"
    with pytest.raises(ArtifactRefused, match="weights"):
        registry.pull(ref, dest, layout=layout)
    assert not dest.exists()


def test_a_forged_statement_is_seen(place: Place, tree: Path) -> None:
    registry = place.open()
    manifest = manifest_of(tree)
    ref = registry.publish(tree, manifest, statements=[say(manifest)]).ref
    path = place.stored(ref, f"statements/{say(manifest).digest.hex}.json")
    path.write_bytes(path.read_bytes().replace(b"ACCEPT", b"ACCEPZ"))
    for ask in (registry.statements, lambda ref: registry.check(ref, rehash=True)):
        with pytest.raises(ArtifactRefused, match="was changed"):
            ask(ref)
    (line,) = registry.list()
    assert "was changed" in line.problems[0]


def test_one_damaged_artifact_does_not_hide_the_others(place: Place, tree: Path) -> None:
    registry = place.open()
    bad = registry.publish(tree, variant(tree, "1")).ref
    good = registry.publish(tree, variant(tree, "2")).ref
    _flip(place.stored(bad, "manifest.json"))
    lines = {line.ref: line.problems for line in registry.list()}
    assert lines[good] == ()
    assert "was changed" in lines[bad][0]


def test_an_action_whose_artifact_is_gone_counts_as_none(place: Place, tree: Path) -> None:
    registry = place.open()
    ref = registry.publish(tree, manifest_of(tree), action_key=KEY).ref
    place.stored(ref, "manifest.json").unlink()
    assert registry.find_action(KEY) is None


def test_an_action_key_points_at_the_newest(registry: Registry, tree: Path) -> None:
    registry.publish(tree, variant(tree, "1"), action_key=KEY)
    two = registry.publish(tree, variant(tree, "2"), action_key=KEY).ref
    action = registry.find_action(KEY)
    assert action is not None
    assert action.ref == two


def test_digest_and_tag_of_another_name_stay_apart(registry: Registry, tree: Path) -> None:
    one = registry.publish(tree, manifest_of(tree, "one"), tags=["t"]).ref
    two = registry.publish(tree, manifest_of(tree, "two")).ref
    assert one.digest != two.digest
    assert registry.tag("two", "t") is None
    with pytest.raises(ArtifactNotFound):
        registry.resolve(f"two@{one.digest}")
    forged = ArtifactRef(name="two", digest=Digest(hex=one.digest.hex))
    with pytest.raises(ArtifactNotFound):
        registry.manifest(forged)

"""model.tar.gz: the same bytes each time, readable by everybody, and read without trust."""

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmi_artifacts.bundle import write_tar_gz
from lmi_artifacts.digest import digest_bytes
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.manifest import Manifest, ManifestFile
from lmi_artifacts.paths import MANIFEST_NAME
from lmi_artifacts.tarcheck import verify_tar_gz
from lmi_artifacts.tarform import END, manifest_header, member_header, padding, tar_size


@pytest.fixture
def packed(tree: Path, manifest: Manifest, tmp_path: Path) -> Path:
    dest = tmp_path / "model.tar.gz"
    write_tar_gz(tree, manifest, dest)
    return dest


def _content(tree: Path) -> dict[str, bytes]:
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file()
    }


def test_same_tree_same_bytes_whatever_the_times_and_owners(
    tree: Path, manifest: Manifest, packed: Path, tmp_path: Path
) -> None:
    os.utime(tree / "model.py", (1, 1))
    (tree / "model.py").chmod(0o600)
    again = tmp_path / "again.tar.gz"
    write_tar_gz(tree, manifest, again)
    assert again.read_bytes() == packed.read_bytes()
    assert packed.read_bytes()[4:8] == bytes(4), "the gzip header holds no time"


@pytest.mark.parametrize(
    ("version", "digest", "tar"),
    [
        (1, "043cdcd2059c82162d33894d59b82b0cdd312b9356ff2cf09c3fc990f7abdf3c",
         "67f2cf8c5a102a20e24ccd790f79cf890d07d995a9e82a77ea3ca813daae96df"),
        (2, "ec8422bf3f642eac0ed67fb9ce0bc2c12b83baf21c187a9f34e91587b0a96e31",
         "31cf683adeea4684b5af922230682bdeade7e7d1d7fbd3c9999266a7a65408f6"),
    ],
)  # fmt: skip
def test_the_format_is_the_released_one(
    tree: Path, manifest: Manifest, tmp_path: Path, version: int, digest: str, tar: str
) -> None:
    """These digests name artifacts that exist: a change here makes them unreadable."""
    if version == 1:
        files = tuple(replace(file, blake3=None) for file in manifest.files)
        manifest = replace(manifest, files=files, format_version=1)
    packed = tmp_path / "model.tar.gz"
    write_tar_gz(tree, manifest, packed)
    assert manifest.digest.hex == digest
    assert digest_bytes(gzip.decompress(packed.read_bytes())).hex == tar
    assert verify_tar_gz(packed) == manifest


def test_tarfile_and_gnu_tar_read_it(tree: Path, packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as archive:
        infos = archive.getmembers()
    assert [info.name for info in infos] == [
        MANIFEST_NAME, "empty.txt", "graphs/decode/graph.so", "model.py", "serving.properties",
        "weights.safetensors",
    ]  # fmt: skip
    assert {(info.uid, info.gid, info.mtime, info.type) for info in infos} == {
        (0, 0, 0, tarfile.REGTYPE)
    }
    assert [info.mode for info in infos] == [0o644, 0o644, 0o755, 0o644, 0o644, 0o644]
    dest = tmp_path / "gnu"
    dest.mkdir()
    gnu_tar = shutil.which("tar")
    assert gnu_tar is not None
    done = subprocess.run(
        [gnu_tar, "xzf", str(packed), "-C", str(dest)], check=True, capture_output=True
    )
    assert done.stderr == b""
    found = _content(dest)
    del found[MANIFEST_NAME]
    assert found == _content(tree)


@pytest.mark.parametrize(
    ("path", "size"), [("é" * 60 + "/x", 3), ("d/" * 60 + "x", 3), ("big", 8**11), ("a" * 100, 0)]
)
def test_headers_read_as_tarfile_reads_them(path: str, size: int) -> None:
    data = member_header(path, size, executable=True)
    with tarfile.open(fileobj=io.BytesIO(data + END)) as archive:
        info = archive.next()
    assert info is not None
    assert (info.name, info.size, info.mode) == (path, size, 0o755)


def test_it_is_as_large_as_its_manifest_says(manifest: Manifest, packed: Path) -> None:
    assert verify_tar_gz(packed) == manifest
    assert len(zlib.decompress(packed.read_bytes(), wbits=31)) == tar_size(manifest)


def test_another_gzip_of_the_same_tar_is_the_same_artifact(
    manifest: Manifest, packed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tar.gz"
    other.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes()), 9))
    assert other.read_bytes() != packed.read_bytes()
    assert verify_tar_gz(other, manifest.digest) == manifest


def test_another_artifact_is_refused(packed: Path) -> None:
    with pytest.raises(ArtifactRefused, match="not sha256:"):
        verify_tar_gz(packed, digest_bytes(b"another"))


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing"])
def test_a_source_that_is_not_its_manifest_packs_nothing(
    tree: Path, manifest: Manifest, tmp_path: Path, damage: str
) -> None:
    victim = tree / "weights.safetensors"
    content = victim.read_bytes()
    match damage:
        case "changed":
            victim.write_bytes(b"x" + content[1:])
        case "shorter":
            victim.write_bytes(content[:-1])
        case _:
            victim.unlink()
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ArtifactRefused):
        write_tar_gz(tree, manifest, folder / "model.tar.gz")
    assert list(folder.iterdir()) == []


def test_every_flipped_byte_is_refused_or_harmless(
    manifest: Manifest, packed: Path, tmp_path: Path
) -> None:
    whole = packed.read_bytes()
    victim = tmp_path / "flipped.tar.gz"

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(position=st.integers(0, len(whole) - 1), bit=st.integers(0, 7))
    def flip(position: int, bit: int) -> None:
        data = bytearray(whole)
        data[position] ^= 1 << bit
        victim.write_bytes(data)
        try:
            found = verify_tar_gz(victim, manifest.digest)
        except ArtifactRefused:
            return
        assert found == manifest
        assert gzip.decompress(data) == gzip.decompress(whole), "a bit that gzip leaves unused"

    flip()


@settings(
    max_examples=100, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_every_flipped_byte_of_the_tar_itself_is_refused(
    packed: Path, manifest: Manifest, tmp_path: Path, data: st.DataObject
) -> None:
    tar = bytearray(gzip.decompress(packed.read_bytes()))
    tar[data.draw(st.integers(0, len(tar) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    victim = tmp_path / "flipped.tar.gz"
    victim.write_bytes(gzip.compress(bytes(tar), 1))
    with pytest.raises(ArtifactRefused):
        verify_tar_gz(victim, manifest.digest)


def test_every_truncation_and_appendix_is_refused(
    packed: Path, tmp_path: Path, manifest: Manifest
) -> None:
    whole = packed.read_bytes()
    victim = tmp_path / "cut.tar.gz"
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        victim.write_bytes(whole[:length])
        with pytest.raises(ArtifactRefused):
            verify_tar_gz(victim)
    for more in (b"\0", whole, gzip.compress(b"")):
        victim.write_bytes(whole + more)
        with pytest.raises(ArtifactRefused, match="after its end"):
            verify_tar_gz(victim, manifest.digest)


def _evil(manifest: Manifest, members: list[tarfile.TarInfo], content: bytes = b"abc") -> bytes:
    data = manifest.to_bytes()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(content[: info.size]))
    return gzip.compress(
        manifest_header(len(data)) + data + padding(len(data)) + out.getvalue(), mtime=0
    )


def _info(name: str, kind: bytes = tarfile.REGTYPE, size: int = 3) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.linkname = kind, size, 0o644, "model.py"
    return info


@pytest.mark.parametrize(
    "members",
    [
        [_info("../f")],
        [_info("/f")],
        [_info("g")],
        [_info("F")],
        [_info("f", tarfile.SYMTYPE, 0)],
        [_info("f", tarfile.LNKTYPE, 0)],
        [_info("f", tarfile.CHRTYPE, 0)],
        [_info("f", tarfile.FIFOTYPE, 0)],
        [_info("f", tarfile.DIRTYPE, 0)],
        [_info("f", size=2)],
        [_info("f"), _info("f")],
        [_info("f"), _info("g")],
        [],
    ],
)
def test_hostile_members_are_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    file = ManifestFile(path="f", size=3, sha256=digest_bytes(b"abc").hex)
    manifest = _tiny(file)
    victim = tmp_path / "evil.tar.gz"
    victim.write_bytes(_evil(manifest, members))
    with pytest.raises(ArtifactRefused):
        verify_tar_gz(victim)
    assert list(tmp_path.iterdir()) == [victim]


def _tiny(*files: ManifestFile) -> Manifest:
    return Manifest(
        name="tiny", recipe={}, toolchain={}, build_key="k", steps={}, serving={}, licence=None,
        simulated=False, files=files, format_version=1,
    )  # fmt: skip


def test_a_manifest_that_is_not_first_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "plain.tar.gz"
    with tarfile.open(victim, "w:gz") as archive:
        archive.addfile(_info("f"), io.BytesIO(b"abc"))
    with pytest.raises(ArtifactRefused, match="first member"):
        verify_tar_gz(victim)


def test_bytes_beyond_the_manifests_sizes_are_refused(tmp_path: Path) -> None:
    file = ManifestFile(path="f", size=3, sha256=digest_bytes(b"abc").hex)
    victim = tmp_path / "long.tar.gz"
    data = _tiny(file).to_bytes()
    head = manifest_header(len(data)) + data + padding(len(data))
    body = member_header("f", 3, executable=False) + b"abc" + bytes(64 * 2**20)
    victim.write_bytes(gzip.compress(head + body))
    with pytest.raises(ArtifactRefused, match="after its end"):
        verify_tar_gz(victim)


def test_memory_stays_bounded(tree: Path) -> None:
    with (tree / "large").open("wb") as stream:
        stream.truncate(160 * 2**20)
    program = (
        "import sys, pathlib\n"
        "from lmi_artifacts.bundle import write_tar_gz\n"
        "from lmi_artifacts.tarcheck import verify_tar_gz\n"
        "from lmi_artifacts.manifest import Manifest\n"
        "from lmi_artifacts.tree import scan_tree\n"
        "tree = pathlib.Path(sys.argv[1])\n"
        "m = Manifest(name='n', recipe={}, toolchain={}, build_key='k', steps={}, serving={},\n"
        "             licence=None, simulated=False, files=scan_tree(tree))\n"
        "packed = tree.with_name('m.tar.gz')\n"
        "write_tar_gz(tree, m, packed)\n"
        "verify_tar_gz(packed, m.digest)\n"
        "print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tree)], check=True, capture_output=True, text=True
    )

    assert int(done.stdout) < 100 * 1024, "KiB"

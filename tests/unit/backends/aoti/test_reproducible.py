"""The same compile step from empty caches in two directories: the same bytes, or a named cause."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from compiled import compile_params, work


def _differing(one: Path, other: Path) -> set[str]:
    """Members that are not equal byte for byte, or that only one side has."""
    names = {
        path.relative_to(side).as_posix()
        for side in (one, other)
        for path in side.rglob("*")
        if path.is_file()
    }
    return {
        name
        for name in names
        if not (one / name).is_file()
        or not (other / name).is_file()
        or (one / name).read_bytes() != (other / name).read_bytes()
    }


def test_two_builds_differ_in_nothing_that_is_not_named(
    built_in_8_bits: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "somewhere" / "else"
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "scratch" / "inductor"))
    monkeypatch.chdir(tmp_path)
    params = compile_params(built_in_8_bits.model, quantization=built_in_8_bits.form)
    work("compile", params, {}, again)
    described = json.loads((again / "graphs.json").read_text(encoding="utf-8"))
    named = described["reproducibility"]["differs"]
    assert all(cause.strip() for cause in named.values())
    assert _differing(built_in_8_bits.compile, again) <= set(named)


def test_one_other_byte_is_seen(built_in_8_bits: SimpleNamespace, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built_in_8_bits.compile, copy)
    assert _differing(built_in_8_bits.compile, copy) == set()
    library = copy / "graphs" / "decode" / "model.so"
    changed = bytearray(library.read_bytes())
    changed[-1] ^= 1
    library.write_bytes(bytes(changed))
    (copy / "constants.safetensors").unlink()
    assert _differing(built_in_8_bits.compile, copy) == {
        "graphs/decode/model.so",
        "constants.safetensors",
    }

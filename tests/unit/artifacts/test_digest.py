"""Canonical JSON, digests, and the hash cache."""

import json
import math
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_artifacts import digest as digesting
from lmi_artifacts.digest import (
    Digest,
    HashCache,
    JSONValue,
    canonical_json,
    digest_bytes,
    digest_file,
    digest_json,
    read_canonical_json,
)
from lmi_artifacts.errors import ReferenceInvalid

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_canonical_json_reads_back_as_the_same_value(value: JSONValue) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(read_canonical_json(data)) == data


@given(st.dictionaries(TEXT, st.integers()))
def test_key_order_does_not_matter(value: dict[str, int]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)


def test_the_form_is_fixed() -> None:
    value: JSONValue = {"b": [1, 1.5, True, None], "a": "é\n", "A": ()}
    assert canonical_json(value) == '{"A":[],"a":"é\\n","b":[1,1.5,true,null]}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], "\ud800"])
def test_what_json_cannot_say_is_refused(value: JSONValue) -> None:
    with pytest.raises(ValueError, match=r"JSON has no|surrogates"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, {None: 1}, {True: 1}, {"a": {2: 1}}, {1, 2}, b"x"])
def test_other_types_are_refused(value: JSONValue) -> None:
    with pytest.raises(TypeError, match="JSON"):
        canonical_json(value)


@pytest.mark.parametrize(
    "data",
    [b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1,"a":1}', b"NaN", b"[1e400]", b"\xff", b"", b"1 ",
     b'"\\u00e9"', b'"\\ud800"', b"[" * 100_000, b"1E2"],
)  # fmt: skip
def test_another_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_canonical_json(data)


def test_digest_text_and_back() -> None:
    digest = digest_bytes(b"abc")
    assert str(digest) == ABC
    assert Digest.parse(ABC) == digest
    assert digest_json("abc") == digest_bytes(b'"abc"')


@pytest.mark.parametrize(
    "text", ["", ABC.upper(), ABC[:-1], ABC + "0", ABC[7:], "sha512:" + ABC[7:], ABC + "\n"]
)
def test_digest_parse_is_strict(text: str) -> None:
    with pytest.raises(ReferenceInvalid, match="is not a digest"):
        Digest.parse(text)


def test_digest_file_streams(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert str(digest_file(path)) == ABC


def _poison(cache: Path) -> None:
    """Replace every remembered digest, so that a recalled one shows."""
    content = json.loads(cache.read_bytes())
    content["files"] = dict.fromkeys(content["files"], "0" * 64)
    cache.write_text(json.dumps(content))


def test_hash_cache_recalls_old_files_and_only_while_they_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, store = tmp_path / "f", tmp_path / "deep" / "cache.json"
    file.write_bytes(b"abc")
    monkeypatch.setattr(digesting, "_RACY_NS", 3600 * 10**9)
    young = HashCache(store)
    assert str(young.digest(file)) == ABC
    young.save()
    assert not store.exists(), "a file that is too young must not be remembered"

    monkeypatch.setattr(digesting, "_RACY_NS", 0)
    first = HashCache(store)
    assert str(first.digest(file)) == ABC
    first.save()
    _poison(store)
    assert HashCache(store).digest(file).hex == "0" * 64, "recalled, not hashed"

    before = file.stat()
    file.write_bytes(b"abd")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert HashCache(store).digest(file) == digest_bytes(b"abd"), "same size and mtime, new ctime"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":2,"files":{}}', b"[" * 99999])
def test_a_damaged_hash_cache_is_an_empty_one(tmp_path: Path, damage: bytes) -> None:
    store, file = tmp_path / "cache.json", tmp_path / "f"
    store.write_bytes(damage)
    file.write_bytes(b"abc")
    assert str(HashCache(store).digest(file)) == ABC


def _hash_all(store: Path, files: list[Path]) -> None:
    cache = HashCache(store)
    for file in files:
        cache.digest(file)
        cache.save()


def test_concurrent_hash_caches_never_leave_a_torn_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digesting, "_RACY_NS", 0)
    files = [tmp_path / f"f{index}" for index in range(8)]
    for file in files:
        file.write_bytes(file.name.encode())
    store = tmp_path / "cache.json"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_hash_all, args=(store, files)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert json.loads(store.read_bytes())["format"] == 1
    found = [HashCache(store).digest(file) for file in files]
    assert found == [digest_bytes(file.name.encode()) for file in files]
    assert [path.name for path in tmp_path.glob(".cache*")] == []

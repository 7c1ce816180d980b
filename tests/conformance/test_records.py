"""Records: what a registry keeps about many artifacts together."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3servers import Bucket

from lmi_artifacts.errors import ReferenceInvalid
from lmi_artifacts.registry import RECORD_BYTES, Registry, open_registry


@pytest.fixture(params=["folder", "moto", "seaweed"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "folder":
        yield open_registry(str(tmp_path / "registry"))
    else:
        yield Bucket(request.getfixturevalue(f"{request.param}_server")).open()


def test_a_record_is_kept_once_and_never_changes(registry: Registry) -> None:
    assert registry.records("") == ()
    assert registry.read_record("runs/one.json") is None
    assert registry.add_record("runs/one.json", b"first")
    assert not registry.add_record("runs/one.json", b"second")
    assert registry.read_record("runs/one.json") == b"first"


def test_records_are_listed_by_the_start_of_their_names_and_stay_in_gc(registry: Registry) -> None:
    for name in ("runs/b.json", "runs/a.json", "logs/a/x.txt"):
        registry.add_record(name, name.encode())
    assert registry.records("runs/") == ("runs/a.json", "runs/b.json")
    registry.collect_garbage(older_than=0.0, dry_run=False)
    assert registry.records("") == ("logs/a/x.txt", "runs/a.json", "runs/b.json")
    assert registry.list() == ()


def test_records_are_removed_by_name(registry: Registry) -> None:
    for name in ("runs/b.json", "runs/a.json", "logs/a/x.txt"):
        registry.add_record(name, b"")
    with pytest.raises(ReferenceInvalid):
        registry.remove_records(["runs/a.json", "../x"])
    assert len(registry.records("")) == 3
    registry.remove_records(["logs/a/x.txt", "runs/a.json", "runs/never.json"])
    registry.remove_records([])
    assert registry.records("") == ("runs/b.json",)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "A", "a//b", "a/" * 6 + "a"])
def test_a_name_that_is_none_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(ReferenceInvalid):
        registry.add_record(name, b"")
    with pytest.raises(ReferenceInvalid):
        registry.read_record(name)


def test_too_much_is_refused(tmp_path: Path) -> None:
    registry = open_registry(str(tmp_path))
    with pytest.raises(ReferenceInvalid, match="a record has"):
        registry.add_record("big", bytes(RECORD_BYTES + 1))

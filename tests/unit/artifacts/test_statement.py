"""Statements in the in-toto shape."""

import json

import pytest

from lmi_artifacts.digest import JSONValue, canonical_json, digest_bytes
from lmi_artifacts.errors import ArtifactRefused, PackageInvalid
from lmi_artifacts.statement import NO_JIT_PROOF, STATEMENT_TYPE, VERDICT, Statement

SUBJECT = digest_bytes(b"artifact")
GOOD = Statement(
    name="tiny", subject=SUBJECT, predicate_type=VERDICT, predicate={"decision": "ACCEPT"}
)


def test_has_the_shape_in_toto_gives_it() -> None:
    assert json.loads(GOOD.to_bytes()) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "tiny", "digest": {"sha256": SUBJECT.hex}}],
        "predicateType": "urn:lmi-compile:verdict:v1",
        "predicate": {"decision": "ACCEPT"},
    }


def test_reads_back() -> None:
    assert Statement.parse(GOOD.to_bytes()) == GOOD
    assert GOOD.digest == digest_bytes(GOOD.to_bytes())


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "_type"),
        ({"more": 1}, "more: unknown"),
        ({"predicateType": "verdict"}, "not a URI"),
        ({"predicate": None}, "predicate: expected an object"),
        ({"subject": []}, "found 0"),
        ({"subject": [{"name": "a", "digest": {"sha256": SUBJECT.hex}}] * 2}, "found 2"),
        ({"subject": [{"name": "a/b", "digest": {"sha256": SUBJECT.hex}}]}, "does not fit"),
        ({"subject": [{"name": "a", "digest": {"sha256": "x"}}]}, "64 lower-case"),
        ({"subject": [{"name": "a", "digest": {"sha512": "x"}}]}, "sha512: unknown"),
        ({"subject": ["a"]}, "expected an object"),
    ],
)
def test_other_shapes_are_refused(change: dict[str, JSONValue], part: str) -> None:
    with pytest.raises(ArtifactRefused) as caught:
        Statement.parse(canonical_json(GOOD.to_json() | change))
    assert part in "\n".join(caught.value.problems)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", STATEMENT_TYPE.encode()])
def test_what_is_no_statement_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactRefused):
        Statement.parse(data)


def test_a_statement_nobody_would_read_is_never_written() -> None:
    bad = Statement(name="tiny", subject=SUBJECT, predicate_type="x y", predicate={})
    with pytest.raises(PackageInvalid, match="not a URI"):
        bad.to_bytes()
    nan = Statement(
        name="tiny", subject=SUBJECT, predicate_type=NO_JIT_PROOF, predicate={"x": float("nan")}
    )
    with pytest.raises(PackageInvalid, match="no nan"):
        nan.to_bytes()

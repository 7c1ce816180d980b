"""serving.properties: what Java reads, and what every reader agrees on.

The pairs in JAVA were printed by java.util.Properties.load of OpenJDK 17.0.15.
"""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_artifacts.errors import PackageInvalid
from lmi_artifacts.properties import format_properties, parse_properties, split_at_first_equals

JAVA = [
    (b"a=1\nb:2\nc 3\n", {"a": "1", "b": "2", "c": "3"}),
    (b"  a =  x \n", {"a": "x "}),
    (b"k=true \n", {"k": "true "}),
    (b"# c\n! d\n\n \t\na=b", {"a": "b"}),
    (b"a=1,\\\n   2\nb=3", {"a": "1,2", "b": "3"}),
    (b"a\\=b=c", {"a=b": "c"}),
    (b"a\\ b=c", {"a b": "c"}),
    (b"=v", {"": "v"}),
    (b"k", {"k": ""}),
    (b"k==v", {"k": "=v"}),
    (b"k = = v", {"k": "= v"}),
    (b"p=C:\\temp\\new", {"p": "C:\temp\new"}),
    (b"u=\\u00e9\\uD83D\\uDE00", {"u": "é😀"}),
    (b"l=\xe9", {"l": "é"}),
    (b"a=1\rb=2\r\nc=3", {"a": "1", "b": "2", "c": "3"}),
    (b"a=1\na=2", {"a": "2"}),
    (b"a=\\", {"a": ""}),
    (b"\\", {"": ""}),
    (b"\\\n#x", {}),
    (b"\\\r\n", {}),
    (b"\\\n", {"": ""}),
    (b"a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
    (b"#c\\\na=1", {"a": "1"}),
    (b"a\t:\x0cv", {"a": "v"}),
]
KEYS = st.from_regex(r"[A-Za-z0-9._-]+", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"))


@pytest.mark.parametrize(("data", "wanted"), JAVA)
def test_reads_as_java_does(data: bytes, wanted: dict[str, str]) -> None:
    assert parse_properties(data) == wanted


def test_java_refuses_a_short_unicode_escape() -> None:
    with pytest.raises(PackageInvalid, match="malformed"):
        parse_properties(b"x=\\u12")


@given(st.dictionaries(KEYS, VALUES.map(str.strip)))
def test_both_kinds_of_reader_read_what_is_written(properties: dict[str, str]) -> None:
    data = format_properties(properties)
    assert data.isascii()
    assert parse_properties(data) == properties
    assert split_at_first_equals(data) == properties


def test_the_order_is_the_mappings() -> None:
    data = format_properties({"engine": "Python", "minWorkers": "1", "a": ""})
    assert data == b"engine=Python\nminWorkers=1\na=\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [("k", "a\\b"), ("k", "a "), ("k", " a"), ("k", "a\nb"), ("k", "é"), ("k", "a\tb"), ("", "v"),
     ("a b", "v"), ("a=b", "v"), ("#a", "v"), ("a:b", "v"), ("a\n", "v"), ("k", "v\n")],
)  # fmt: skip
def test_what_readers_could_disagree_on_is_not_written(key: str, value: str) -> None:
    with pytest.raises(PackageInvalid):
        format_properties({key: value})


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    if re.search(rb"\\u(?![0-9A-Fa-f]{4})", data) is None:
        assert isinstance(parse_properties(data), dict)
        return
    with suppress(PackageInvalid):  # the backslash itself may be escaped, or in a comment
        assert isinstance(parse_properties(data), dict)

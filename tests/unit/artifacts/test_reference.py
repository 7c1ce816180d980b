"""References as people and programs write them."""

import pytest

from lmi_artifacts.digest import digest_bytes
from lmi_artifacts.errors import ReferenceInvalid
from lmi_artifacts.reference import ArtifactRef, Reference, parse_reference

DIGEST = digest_bytes(b"x")


@pytest.mark.parametrize(
    ("text", "name", "prefix", "tag"),
    [
        ("tiny", "tiny", None, None),
        ("tiny:nightly", "tiny", None, "nightly"),
        ("a.b-c_1:v1.0", "a.b-c_1", None, "v1.0"),
        (f"tiny@{DIGEST}", "tiny", DIGEST.hex, None),
        ("tiny@sha256:01234567", "tiny", "01234567", None),
        (str(DIGEST), None, DIGEST.hex, None),
        ("sha256:0123456789", None, "0123456789", None),
    ],
)
def test_the_forms(text: str, name: str | None, prefix: str | None, tag: str | None) -> None:
    assert parse_reference(text) == Reference(text=text, name=name, digest_prefix=prefix, tag=tag)


@pytest.mark.parametrize(
    "text",
    ["", "a/b", "a b", "a@", "a@md5:01234567", "a@sha256:0123456", "a@sha256:0123456G", "a:",
     "a:b:c", "a:b/c", "sha256:", f"{DIGEST}0", "../a", "a:..", "-a", "a\n"],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ReferenceInvalid) as caught:
        parse_reference(text)
    assert caught.value.text == text


def test_a_full_reference_is_its_own_text() -> None:
    ref = ArtifactRef(name="tiny", digest=DIGEST)
    assert str(ref) == f"tiny@{DIGEST}"
    with pytest.raises(ReferenceInvalid):
        ArtifactRef(name="a/b", digest=DIGEST)

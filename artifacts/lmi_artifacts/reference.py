"""References: how people and programs name an artifact.

`name@sha256:<64 hex>` names one artifact for ever. For people there are shorter forms: `name`
(the newest of that name), `name@sha256:<8 or more hex>`, `name:tag` and `sha256:<8 or more hex>`.
"""

import re
from dataclasses import dataclass
from typing import Final

from lmi_artifacts.digest import Digest
from lmi_artifacts.errors import ReferenceInvalid
from lmi_artifacts.manifest import NAME

TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_WHOLE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ArtifactRef:
    """The full name of one artifact: `name@sha256:<64 hex>`."""

    name: str
    digest: Digest

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name) is None:
            raise ReferenceInvalid(self.name, f"is not a name; it does not fit {NAME.pattern}")

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A reference as somebody wrote it, taken apart; a registry resolves it.

    Attributes:
        text: what was written.
        name: the artifact's name, or None where only a digest was given.
        digest_prefix: 8 to 64 hex digits, or None.
        tag: the tag, or None.
    """

    text: str
    name: str | None
    digest_prefix: str | None
    tag: str | None


def parse_reference(text: str) -> Reference:
    """Take a reference apart.

    Raises:
        ReferenceInvalid: the text has none of the four forms.
    """
    if text.startswith("sha256:"):
        return Reference(text=text, name=None, digest_prefix=_digits(text, text[7:]), tag=None)
    name, at, digest = text.partition("@")
    digits, tag = None, None
    if at:
        if not digest.startswith("sha256:"):
            raise ReferenceInvalid(text, "has something else than sha256:<hex> after the @")
        digits = _digits(text, digest[7:])
    else:
        name, colon, tag_text = text.partition(":")
        tag = tag_text if colon else None
        if tag is not None and TAG.fullmatch(tag) is None:
            raise ReferenceInvalid(text, f"has a tag that does not fit {TAG.pattern}")
    if NAME.fullmatch(name) is None:
        forms = "name, name:tag, name@sha256:<hex> and sha256:<hex>"
        raise ReferenceInvalid(text, f"is not a reference; the forms are {forms}")
    return Reference(text=text, name=name, digest_prefix=digits, tag=tag)


def _digits(text: str, digits: str) -> str:
    if _PREFIX.fullmatch(digits) is None:
        raise ReferenceInvalid(text, "needs 8 to 64 lower-case hex digits after sha256:")
    return digits


def exact(text: str) -> ArtifactRef | None:
    """Read `name@sha256:<64 hex>`, which needs no registry to be understood; else None.

    Raises:
        ReferenceInvalid: the text is not a reference at all.
    """
    found = parse_reference(text)
    if found.name is None or found.digest_prefix is None or len(found.digest_prefix) != _WHOLE:
        return None
    return ArtifactRef(name=found.name, digest=Digest(hex=found.digest_prefix))

"""Statements: what is said about an artifact after it was made (in-toto Statement v1).

The subject is the artifact's digest, so a statement can lie beside the tree, never in it. Shape:
https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lmi_artifacts.digest import (
    HEX64,
    Digest,
    JSONValue,
    digest_bytes,
    read_canonical_json,
)
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.fields import Fields, written
from lmi_artifacts.manifest import NAME

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
VERDICT: Final = "urn:lmi-compile:verdict:v1"
NO_JIT_PROOF: Final = "urn:lmi-compile:no-jit-proof:v1"
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One thing said about one artifact.

    Attributes:
        name: the artifact's name.
        subject: the artifact's digest.
        predicate_type: a URI that says what the predicate is, such as `VERDICT`.
        predicate: what is said.
    """

    name: str
    subject: Digest
    predicate_type: str
    predicate: Mapping[str, JSONValue]

    def to_json(self) -> dict[str, JSONValue]:
        """Give the statement as a JSON object."""
        return {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": self.name, "digest": {"sha256": self.subject.hex}}],
            "predicateType": self.predicate_type,
            "predicate": self.predicate,
        }

    def to_bytes(self) -> bytes:
        """Give the statement's canonical bytes, after reading them back.

        Raises:
            PackageInvalid: no reader would accept this statement.
        """
        what = f"the {self.predicate_type} statement about {self.name}"
        return written(what, self.to_json(), Statement.parse)

    @property
    def digest(self) -> Digest:
        """The statement's own digest; raises what `to_bytes` raises."""
        return digest_bytes(self.to_bytes())

    @classmethod
    def parse(cls, data: bytes) -> "Statement":
        """Read canonical statement bytes.

        Raises:
            ArtifactRefused: anything but one statement about one artifact; names every problem.
        """
        what = "a statement"
        try:
            value = read_canonical_json(data)
        except ValueError as error:
            raise ArtifactRefused(what, [str(error)]) from None
        fields = Fields(value, "", ("_type", "subject", "predicateType", "predicate"))
        kind, predicate_type = fields.text("_type"), fields.text("predicateType")
        predicate = fields.mapping("predicate")
        name, subject = _subject(fields)
        if not fields.problems and kind != STATEMENT_TYPE:
            fields.problems.append(f"_type: {kind!r} is not {STATEMENT_TYPE}")
        if not fields.problems and _URI.fullmatch(predicate_type) is None:
            fields.problems.append(f"predicateType: {predicate_type!r} is not a URI")
        if fields.problems or subject is None:
            raise ArtifactRefused(what, fields.problems)
        return cls(name=name, subject=subject, predicate_type=predicate_type, predicate=predicate)


def _subject(fields: Fields) -> tuple[str, Digest | None]:
    items = fields.items("subject")
    if len(items) != 1:
        fields.problems.append(f"subject: expected one artifact, found {len(items)}")
        return "-", None
    one = Fields(items[0], "subject[0].", ("name", "digest"))
    two = Fields(one.mapping("digest"), "subject[0].digest.", ("sha256",))
    name, hexed = one.text("name"), two.text("sha256")
    problems = [*one.problems, *two.problems]
    if not problems and NAME.fullmatch(name) is None:
        problems.append(f"subject[0].name: {name!r} does not fit {NAME.pattern}")
    digest = None
    if not problems:
        if HEX64.fullmatch(hexed) is None:
            problems.append("subject[0].digest.sha256: is not 64 lower-case hex digits")
        else:
            digest = Digest(hex=hexed)
    fields.problems += problems
    return name, digest

"""Which artifacts may be used: signatures, the statements they cover, and a policy over both.

A signature is a statement: an ed25519 signature (`cryptography`, imported only when one is made or
checked) over the DSSE pre-authentication encoding of the artifact's digest and the digests of the
statements it vouches for. Where a policy names keys, only what a key vouches for counts: anybody
who can write to a bucket can write a verdict there.
"""

import base64
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lmi_artifacts.digest import JSONValue, canonical_json, digest_bytes
from lmi_artifacts.errors import ArtifactRefused, PackageInvalid, ReferenceInvalid
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement

SIGNATURE: Final = "urn:lmi-compile:signature:v1"
PROMOTION: Final = "urn:lmi-compile:promotion:v1"
REVOCATION: Final = "urn:lmi-compile:revocation:v1"
_PAYLOAD_TYPE: Final = b"application/vnd.lmi-compile.signature+json"
Demand = Literal["signed", "verified", "proven"]
DEMANDS: Final[tuple[Demand, ...]] = ("signed", "verified", "proven")


def parse_demands(text: str) -> tuple[Demand, ...]:
    """Read `signed,verified,proven`, any of them.

    Raises:
        ReferenceInvalid: another word.
    """
    found = [word for word in text.split(",") if word]
    for word in found:
        if word not in DEMANDS:
            raise ReferenceInvalid(word, f"is no demand; they are {', '.join(DEMANDS)}")
    return tuple(word for word in DEMANDS if word in found)


def _encoded(payload: bytes) -> bytes:
    """DSSE's PAE: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md."""
    head = b"DSSEv1 %d %s %d " % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE, len(payload))
    return head + payload


def _payload(ref: ArtifactRef, covers: Sequence[str]) -> bytes:
    value: JSONValue = {
        "artifact": str(ref.digest),
        "name": ref.name,
        "covers": sorted(covers),
    }
    return canonical_json(value)


def make_keys(private: Path, public: Path) -> str:
    """Make an ed25519 key pair as PEM files that must not exist yet; gives the key's id.

    Raises:
        PackageInvalid: one exists, or cannot be written.
    """
    import os  # noqa: PLC0415 - only here

    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    secret = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    shown = key.public_key().public_bytes(
        forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        for path, data, mode in ((private, secret, 0o600), (public, shown, 0o644)):
            out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(out, "wb") as stream:
                stream.write(data)
    except OSError as error:
        raise PackageInvalid("the key pair", [str(error)]) from None
    return _key_id(shown)


def _key_id(public: bytes) -> str:
    return digest_bytes(public.strip() + b"\n").hex[:16]


def sign(ref: ArtifactRef, statements: Collection[Statement], private: Path) -> Statement:
    """Sign an artifact and what is said about it.

    Raises:
        PackageInvalid: the file holds no ed25519 private key.
    """
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ed25519

    try:
        key = forms.load_pem_private_key(private.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        problem = f"{private} cannot be read as a PEM key without a password: {error}"
        raise PackageInvalid("the signature", [problem]) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise PackageInvalid("the signature", [f"{private} is not an ed25519 key"])
    public = key.public_key().public_bytes(
        forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
    )
    covers = sorted(str(item.digest) for item in statements)
    signature = key.sign(_encoded(_payload(ref, covers)))
    return Statement(
        name=ref.name,
        subject=ref.digest,
        predicate_type=SIGNATURE,
        predicate={
            "algorithm": "ed25519",
            "keyid": _key_id(public),
            "covers": covers,
            "signature": base64.b64encode(signature).decode(),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """What remains of an artifact's statements under a set of keys.

    Attributes:
        signed: whether one of the keys signed the artifact.
        statements: those that count, oldest first.
        problems: signatures that do not hold.
    """

    signed: bool
    statements: tuple[Statement, ...]
    problems: tuple[str, ...]


def weigh(ref: ArtifactRef, statements: Sequence[Statement], keys: Sequence[Path]) -> Trusted:
    """Hold an artifact's signatures against public keys (PEM files).

    Without keys nothing is signed and every statement counts.

    Raises:
        ArtifactRefused: a key's file cannot be read.
    """
    if not keys:
        return Trusted(signed=False, statements=tuple(statements), problems=())
    known = {_key_id(data): data for data in map(_public_key, keys)}
    vouched: set[str] = set()
    problems: list[str] = []
    signed = False
    for item in statements:
        if item.predicate_type != SIGNATURE:
            continue
        wrong = _signature_problem(ref, item.predicate, known)
        if wrong is not None:
            problems.append(wrong)
            continue
        signed = True
        covers = item.predicate["covers"]
        vouched |= set(map(str, covers)) if isinstance(covers, list | tuple) else set()
    kept = tuple(item for item in statements if str(item.digest) in vouched)
    return Trusted(signed=signed, statements=kept, problems=tuple(problems))


def _public_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactRefused(str(path), [f"the key cannot be read: {error.strerror}"]) from None


def _signature_problem(
    ref: ArtifactRef, predicate: Mapping[str, JSONValue], known: Mapping[str, bytes]
) -> str | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import (
        load_pem_public_key,
    )

    match predicate:
        case {
            "algorithm": "ed25519",
            "keyid": str(keyid),
            "covers": list() | tuple() as covers,
            "signature": str(text),
        }:
            if keyid not in known:
                return f"signed by the key {keyid}, which is not one of the trusted ones"
            try:
                key = load_pem_public_key(known[keyid])
                if not isinstance(key, ed25519.Ed25519PublicKey):
                    return f"the trusted key {keyid} is not an ed25519 key"
                key.verify(
                    base64.b64decode(text, validate=True),
                    _encoded(_payload(ref, [str(item) for item in covers])),
                )
            except (InvalidSignature, ValueError):
                return f"the signature by {keyid} does not hold: what it covers was changed"
            return None
        case _:
            return "a signature statement is malformed"


def refusals(
    ref: ArtifactRef,
    statements: Sequence[Statement],
    demands: Collection[Demand],
    keys: Sequence[Path] = (),
) -> tuple[str, ...]:
    """Say which demands an artifact does not meet; none means that it meets them all."""
    if not demands:
        return ()
    trusted = weigh(ref, statements, keys)
    problems: list[str] = []
    for demand in DEMANDS:
        if demand not in demands:
            continue
        match demand:
            case "signed":
                if not keys:
                    problems.append("signed: no key is trusted; name one with --key")
                elif not trusted.signed:
                    why = "; ".join(trusted.problems) or "nobody signed it"
                    problems.append(f"signed: {why}")
            case "verified":
                problems += _decision("verified", VERDICT, "ACCEPT", trusted)
            case "proven":
                problems += _decision("proven", NO_JIT_PROOF, "PROVEN", trusted)
    return tuple(problems)


def _decision(demand: str, kind: str, wanted: str, trusted: Trusted) -> list[str]:
    found = [item.predicate for item in trusted.statements if item.predicate_type == kind]
    if not found:
        return [f"{demand}: nothing that counts says so"]
    decision = found[-1].get("decision")
    if found[-1].get("scope") == "generation" and found[-1].get("measurements") is not None:
        return [f"{demand}: the newest says what a running endpoint shows, which is not enough"]
    return [] if decision == wanted else [f"{demand}: the newest says {decision}, not {wanted}"]


def now_text() -> str:
    """The time, UTC, as statements write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

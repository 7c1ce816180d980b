"""Signatures: what they cover, and what a policy makes of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from lmi_artifacts.digest import JSONValue
from lmi_artifacts.errors import ArtifactRefused, PackageInvalid, ReferenceInvalid
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement
from lmi_artifacts.trust import make_keys, parse_demands, refusals, sign, weigh


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "key", tmp_path / "key.pub"
    make_keys(private, public)
    return private, public


@pytest.fixture
def ref(manifest: Manifest) -> ArtifactRef:
    return ArtifactRef(name=manifest.name, digest=manifest.digest)


def say(ref: ArtifactRef, kind: str, decision: str) -> Statement:
    return Statement(
        name=ref.name,
        subject=ref.digest,
        predicate_type=kind,
        predicate={"decision": decision},
    )


ALL = parse_demands("signed,verified,proven")


def test_a_signed_verified_proven_artifact_passes(
    ref: ArtifactRef, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    assert private.stat().st_mode & 0o77 == 0
    said = [say(ref, VERDICT, "ACCEPT"), say(ref, NO_JIT_PROOF, "PROVEN")]
    said.append(sign(ref, said, private))
    assert refusals(ref, said, ALL, [public]) == ()


def test_a_verdict_that_no_trusted_key_covers_does_not_count(
    ref: ArtifactRef, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    said = [say(ref, NO_JIT_PROOF, "PROVEN")]
    said += [sign(ref, said, private), say(ref, VERDICT, "ACCEPT")]
    assert refusals(ref, said, ALL, [public]) == ("verified: nothing that counts says so",)
    assert refusals(ref, said, parse_demands("verified,proven")) == ()


def test_a_verdict_on_an_endpoint_is_not_enough(ref: ArtifactRef) -> None:
    def shown(measurements: dict[str, JSONValue] | None) -> tuple[str, ...]:
        verdict = say(ref, VERDICT, "ACCEPT")
        scope: dict[str, JSONValue] = {"scope": "generation", "measurements": measurements}
        predicate = {**verdict.predicate, **scope}
        return refusals(ref, [replace(verdict, predicate=predicate)], parse_demands("verified"))

    (why,) = shown({"prompts": []})
    assert "running endpoint" in why
    assert shown(None) == ()  # ids are all that the backend has


def test_strangers_and_edits_are_refused(
    ref: ArtifactRef, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    make_keys(tmp_path / "other", tmp_path / "other.pub")
    verdict = say(ref, VERDICT, "ACCEPT")
    stranger = sign(ref, [verdict], tmp_path / "other")
    (why,) = refusals(ref, [verdict, stranger], parse_demands("signed"), [public])
    assert "not one of the trusted" in why
    signature = sign(ref, [verdict], private)
    wider = replace(signature, predicate={**signature.predicate, "covers": ["sha256:" + "0" * 64]})
    broken = replace(signature, predicate={**signature.predicate, "signature": "AAAA"})
    malformed = replace(signature, predicate={})
    for forged in (wider, broken, malformed):
        weighed = weigh(ref, [verdict, forged], [public])
        assert not weighed.signed
        assert weighed.statements == ()
        assert weighed.problems
    elsewhere = ArtifactRef(name="other", digest=ref.digest)
    assert not weigh(elsewhere, [signature], [public]).signed


def test_keys_that_are_none(tmp_path: Path, ref: ArtifactRef, keys: tuple[Path, Path]) -> None:
    private, public = keys
    with pytest.raises(PackageInvalid, match="File exists"):
        make_keys(private, public)
    (tmp_path / "bad").write_text("no key")
    for path in (tmp_path / "bad", tmp_path / "absent", public):
        with pytest.raises(PackageInvalid):
            sign(ref, [], path)
    with pytest.raises(ArtifactRefused, match="cannot be read"):
        refusals(ref, [], ALL, [tmp_path / "absent"])
    assert "no key is trusted" in refusals(ref, [], parse_demands("signed"))[0]
    with pytest.raises(ReferenceInvalid, match="pretty"):
        parse_demands("pretty")

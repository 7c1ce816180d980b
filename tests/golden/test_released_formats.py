"""Every released format stays readable: these files were written by the version in their name."""

import json
from pathlib import Path

import jsonschema
import pytest

from lmi_artifacts.manifest import Manifest, manifest_schema_text
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement
from lmi_compile.proof.record import parse as parse_proof
from lmi_verify.verdict import from_json as parse_verdict
from lmi_verify.verdict import verdict_schema_text

GOLDEN = Path(__file__).parent
MANIFEST_V1 = "f6b4434c0dffb7b322042d77c6eb7fcf6f603a41d763a6cb2614ac53a88ec8ec"
MANIFEST_V2 = "5563c0d49c405a8b2262a262b05a3e39063f91dc8c49bb3376f847db1190388c"


@pytest.mark.parametrize(("version", "digest"), [(1, MANIFEST_V1), (2, MANIFEST_V2)])
def test_a_manifest_keeps_its_identity(version: int, digest: str) -> None:
    data = (GOLDEN / f"manifest-v{version}.json").read_bytes()
    manifest = Manifest.parse(data)
    assert (manifest.name, manifest.format_version) == ("null-demo", version)
    assert manifest.digest.hex == digest
    assert [file.blake3 is not None for file in manifest.files] == [version == 2] * 5
    schema = json.loads(manifest_schema_text())
    jsonschema.validate(json.loads(data), schema)
    other = json.loads(data) | {"format_version": 3 - version}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(other, schema)


@pytest.mark.parametrize(
    ("name", "kind"), [("verdict-v1", VERDICT), ("no-jit-proof-v1", NO_JIT_PROOF)]
)
def test_a_statement_of_version_1_is_about_that_artifact(name: str, kind: str) -> None:
    statement = Statement.parse((GOLDEN / f"{name}.json").read_bytes())
    assert statement.predicate_type == kind
    assert statement.subject.hex == MANIFEST_V1


def test_a_verdict_of_version_1_is_read() -> None:
    statement = Statement.parse((GOLDEN / "verdict-v1.json").read_bytes())
    assert parse_verdict(statement.predicate).decision == "ACCEPT"


def test_a_verdict_of_version_2_is_read_and_fits_its_schema() -> None:
    content = json.loads((GOLDEN / "verdict-v2.json").read_bytes())
    verdict = parse_verdict(content)
    assert (verdict.decision, len(verdict.checks)) == ("ACCEPT", 11)
    assert verdict.measurements is not None
    assert verdict.measurements.perplexity["candidate"] == pytest.approx(29.85, abs=0.01)
    jsonschema.validate(content, json.loads(verdict_schema_text()))


def test_a_proof_of_version_1_is_read() -> None:
    statement = Statement.parse((GOLDEN / "no-jit-proof-v1.json").read_bytes())
    assert parse_proof(statement.predicate).decision == "PROVEN"

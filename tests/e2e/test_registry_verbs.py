"""A build goes to a real S3 server, and consumers find, check, promote, pull and revoke it."""

import json
from pathlib import Path

import pytest
from lmi import Lmi
from s3servers import KEY, SECRET, Bucket, Server

from lmi_artifacts.evidence import PROVENANCE, SBOM, TEST_RESULT
from lmi_artifacts.registry import open_registry
from lmi_compile.matrix.history import FORMAT


@pytest.mark.slow
def test_the_way_of_an_artifact(
    after_null: Lmi, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lmi = after_null
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    at = ("--registry", Bucket(server).url)
    built = lmi("null-demo", "--json", *at).json()
    assert built["proof"] in {"PROVEN", "SKIPPED"}
    ref = built["artifact"]
    assert built["path"].startswith("s3://")
    again = lmi("null-demo", "--json", *at).json()
    assert again["artifact"] == ref
    shown = lmi("show", "null-demo", "--json", *at).json()
    kinds = {one["predicateType"] for one in shown["statements"]}
    assert {PROVENANCE, TEST_RESULT, SBOM} <= kinds

    key = tmp_path / "key"
    assert lmi("sign", "null-demo", "--key", key, "--new-key", *at).code == 0
    policy = tmp_path / "policy.toml"
    policy.write_text('require = ["signed", "verified"]\nkeys = ["key.pub"]\n')
    wanted = ("resolve", "null-demo", "--for", "host", "--require", "signed,verified")
    trusted = ("--key", f"{key}.pub", *at)
    assert lmi(*wanted, *trusted).code == 10
    promoted = lmi("promote", "null-demo", "prod", "--policy", policy, "--why", "first", *at)
    assert promoted.code == 0, promoted.err
    found = lmi(*wanted, *trusted)
    assert found.out.strip() == ref, found.err
    wrong = lmi(*wanted, "--quantization", "fp8", *trusted)
    assert wrong.code == 10
    assert "quantization is none, not fp8" in wrong.err

    made = lmi("show", ref, "--create-model", "--image", "x", *at).json()
    source = made["CreateModel"]["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    assert source["S3Uri"].endswith("/tree/")
    pulled = lmi("pull", ref, tmp_path / "dest", "--require", "signed", *trusted)
    assert pulled.code == 0, pulled.err
    assert lmi("verify", "null-demo", *at).code == 0
    assert lmi("diff", ref, "null-demo:prod", *at).out == ""
    assert lmi("mirror", tmp_path / "airgap", ref, *at).code == 0
    assert lmi("list", "--registry", tmp_path / "airgap").out.strip() == ref
    assert lmi("gc", "--delete", *at).out == ""

    assert lmi("revoke", ref, "--why", "wrong", *at).code == 0
    for verb in (("pull", ref, tmp_path / "dest"), ("resolve", ref), wanted):
        refused = lmi(*verb, *(trusted if verb is wanted else at))
        assert refused.code == 10
        assert "revoked: wrong" in refused.err
    assert "REVOKED: wrong" in lmi("show", ref, *at).err
    assert json.loads(lmi("show", ref, "--json", *at).out)["revoked"] == "wrong"


def test_gc_forgets_what_is_old_and_takes_no_nonsense(lmi: Lmi, tmp_path: Path) -> None:
    at = ("--registry", str(tmp_path / "registry"))
    registry = open_registry(at[1])
    for flags in (("--keep-newest", "-1"), ("--older-than", "nan"), ("--keep-runs", "0")):
        assert lmi("gc", "--delete", *flags, *at).code == 2
    for number in (1, 2):
        run = {"format": FORMAT, "id": f"2026010{number}t000000z-0", "builds": []}
        registry.add_record(f"runs/{run['id']}.json", json.dumps(run).encode())
    registry.add_record("golden/1/index.json", b'{"needs": {"model": "gone"}}')
    dry = lmi("gc", "--keep-runs", "1", "--golden", *at)
    going = ["records/runs/20260101t000000z-0.json", "records/golden/1/index.json"]
    assert (dry.out.split(), dry.code) == (going, 0)
    assert len(registry.records("")) == 3, "a dry run removes nothing"
    removed = lmi("gc", "--keep-runs", "1", "--golden", "--delete", "--json", *at)
    assert removed.json() == {"removed": going}
    assert registry.records("") == ("runs/20260102t000000z-0.json",)
    assert lmi("pull", "any", "", *at).code == 2

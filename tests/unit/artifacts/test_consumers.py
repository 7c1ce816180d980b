"""Choosing, promoting, rolling back, revoking, comparing, copying: on a folder registry."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lmi_artifacts import machine
from lmi_artifacts.errors import (
    ArtifactNotFound,
    ArtifactRefused,
    ArtifactRevoked,
    ReferenceInvalid,
)
from lmi_artifacts.machine import Machine, find_machine
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.promotion import BENCHMARK, Policy, promote, read_policy, revoke, rollback
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Registry, open_registry
from lmi_artifacts.selection import NothingFits, Wish, choose
from lmi_artifacts.statement import NO_JIT_PROOF, VERDICT, Statement
from lmi_artifacts.trust import PROMOTION, REVOCATION
from lmi_artifacts.upkeep import Retention, diff, expired, mirror

V3 = find_machine("x86-64-v3")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(str(tmp_path / "registry"))


def said(manifest: Manifest, kind: str, **predicate: object) -> Statement:
    return Statement(
        name=manifest.name,
        subject=manifest.digest,
        predicate_type=kind,
        predicate=predicate,  # type: ignore[arg-type]
    )


def good(manifest: Manifest) -> list[Statement]:
    return [
        said(manifest, VERDICT, decision="ACCEPT"),
        said(manifest, NO_JIT_PROOF, decision="PROVEN"),
    ]


@pytest.fixture
def publish(
    registry: Registry, tree: Path, manifest_of: Callable[..., Manifest]
) -> Callable[..., ArtifactRef]:
    def make(key: str, *, decided: bool = True, **changes: object) -> ArtifactRef:
        fields: dict[str, object] = {
            "build_key": key,
            "recipe": {"model": {"id": "org/model"}, "quantization": {"method": "none"}},
            "serving": {"hardware": {"march": "x86-64-v3"}, "container": {"images": []}},
        } | changes
        manifest = manifest_of(tree, **fields)
        return registry.publish(tree, manifest, statements=good(manifest) if decided else []).ref

    return make


Publish = Callable[..., ArtifactRef]


# ---------------------------------------------------------------- machines


def test_machines_are_found_by_name() -> None:
    assert find_machine("ml.g5.12xlarge").sm == 86
    assert find_machine("ml.g5.12xlarge").devices == 4
    assert find_machine("ml.inf2.8xlarge").neuron == "inf2"
    assert find_machine("ml.c7i.4xlarge").march == "x86-64-v4"
    assert find_machine("host").cpu_flags
    with pytest.raises(ReferenceInvalid, match=r"ml\.g5\.12xlarge"):
        find_machine("ml.g5.12xlarg")


def test_every_machine_is_one_that_sagemaker_has() -> None:
    import botocore.session  # noqa: PLC0415 - AWS's own list of names

    model = botocore.session.get_session().get_service_model("sagemaker")
    names = set(model.shape_for("ProductionVariantInstanceType").enum)
    assert set(json.loads(machine._TABLE.read_text())) <= names
    assert {name.split(".")[1] for name in names} >= machine._XEON_SCALABLE


@pytest.mark.parametrize(
    ("hardware", "name", "why"),
    [
        ({"march": "x86-64-v3"}, "x86-64-v3", None),
        ({"march": "x86-64-v4"}, "x86-64-v3", "needs a x86-64-v4 CPU"),
        ({"sm": 86, "devices": 4}, "ml.g5.12xlarge", None),
        ({"sm": [80, 90]}, "ml.g5.12xlarge", "compiled for SM 80, 90; there is SM 86"),
        ({"sm": 86}, "x86-64-v3", "there is no CUDA device"),
        ({"sm": 86, "devices": 8}, "ml.g5.12xlarge", "needs 8 devices; ml.g5.12xlarge has 4"),
        ({"sm": 86, "gpu": "A10G", "gpus": 4}, "ml.g5.12xlarge", None),
        ({"sm": 86, "gpu": "A10G", "gpus": 4}, "ml.g5.2xlarge", "needs 4 devices"),
        ({"target": "inf2", "neuron_cores": 2}, "ml.inf2.8xlarge", None),
        ({"target": "trn1", "neuron_cores": 2}, "ml.inf2.8xlarge", "compiled for trn1"),
        ({"qubits": 3}, "x86-64-v4", "which this program does not know"),
    ],
)
def test_hardware_decides(hardware: dict[str, object], name: str, why: str | None) -> None:
    found = find_machine(name).refusals({"hardware": hardware}, None)  # type: ignore[dict-item]
    assert (not found) if why is None else (len(found) == 1 and why in found[0])


def test_cpu_flags_and_containers_decide() -> None:
    host = Machine(name="host", cpu_flags=frozenset({"avx2"}))
    images = {"images": [{"reference": "djl-inference:0.36.0-cpu", "digest": None}]}
    serving = {
        "hardware": {"march": "x86-64-v4", "cpu_flags": ["avx2", "fma"]},
        "container": images,
    }
    assert host.refusals(serving, None) == ("host lacks the CPU flags fma",)  # type: ignore[arg-type]
    serving["hardware"] = {}
    assert host.refusals(serving, "0.36.0-cpu") == ()  # type: ignore[arg-type]
    (why,) = host.refusals(serving, "0.33.0-lmi")  # type: ignore[arg-type]
    assert "not by 0.33.0-lmi" in why
    assert host.refusals({}, None)


# ---------------------------------------------------------------- choosing


def test_the_newest_that_loads_is_chosen_and_others_say_why(
    registry: Registry, publish: Publish
) -> None:
    old = publish("1", name="old")
    wide = publish("2", name="wide", serving={"hardware": {"march": "x86-64-v4"}})
    raw = publish("3", name="raw", decided=False)
    for ref in (old, wide, raw):
        registry.move_tag(ref, "prod", expected=None)
    choice = choose(registry, Wish(model="org/model", machine=V3))
    assert choice.ref == old
    assert {one.ref for one in choice.refused} == {wide, raw}
    reasons = " ".join(map(str, choice.refused))
    assert "x86-64-v4" in reasons
    assert "verified: nothing that counts says so" in reasons
    assert choose(registry, Wish(model="old", machine=V3)).ref == old
    with pytest.raises(NothingFits) as caught:
        choose(registry, Wish(model="org/model", machine=V3, quantization="fp8"))
    assert len(caught.value.refused) == 3
    with pytest.raises(NothingFits, match="carries the tag nightly"):
        choose(registry, Wish(model="org/model", machine=V3, tag="nightly"))


def test_remote_code_needs_a_yes(registry: Registry, publish: Publish) -> None:
    recipe = {"model": {"id": "org/model", "trust_remote_code": True}}
    ref = publish("1", recipe=recipe)
    registry.move_tag(ref, "prod", expected=None)
    with pytest.raises(NothingFits, match="trust-remote-code"):
        choose(registry, Wish(model="org/model", machine=V3))
    assert choose(registry, Wish(model="org/model", machine=V3, trust_remote_code=True)).ref == ref


def test_a_revoked_artifact_is_not_chosen_and_not_pulled(
    registry: Registry, publish: Publish, tmp_path: Path
) -> None:
    ref = publish("1")
    registry.move_tag(ref, "prod", expected=None)
    revoke(registry, ref, "wrong tokenizer")
    with pytest.raises(NothingFits, match="revoked: wrong tokenizer"):
        choose(registry, Wish(model="org/model", machine=V3))
    with pytest.raises(ArtifactRevoked):
        registry.pull(ref, tmp_path / "dest")
    with pytest.raises(ArtifactRevoked):
        promote(registry, ref, "prod", Policy(), "again")
    assert registry.statements(ref)[-1].predicate_type == REVOCATION


# ---------------------------------------------------------------- promotion


def test_promotion_is_recorded_and_rolled_back(registry: Registry, publish: Publish) -> None:
    one, two = publish("1"), publish("2")
    promote(registry, one, "prod", Policy(), "first")
    promote(registry, two, "prod", Policy(), "faster")
    record = registry.statements(two)[-1]
    assert record.predicate_type == PROMOTION
    assert record.predicate["why"] == "faster"
    assert record.predicate["replaced"] == str(one.digest)
    assert record.predicate["who"]
    assert record.predicate["when"]
    assert rollback(registry, "tiny", "prod", "it was not") == one
    assert registry.tag("tiny", "prod") == one.digest
    with pytest.raises(ArtifactNotFound):
        rollback(registry, "tiny", "never", "no such tag")


def test_a_policy_says_every_reason(registry: Registry, publish: Publish) -> None:
    bad = publish("1", decided=False)
    strict = Policy(require=("signed", "verified", "proven"), max_age_days=-1)
    with pytest.raises(ArtifactRefused) as caught:
        promote(registry, bad, "prod", strict, "why not")
    text = str(caught.value)
    for word in ("signed:", "verified:", "proven:", "days old"):
        assert word in text
    assert registry.tag("tiny", "prod") is None


def test_a_slower_artifact_is_not_promoted(registry: Registry, publish: Publish) -> None:
    policy = Policy(benchmark_metric="tokens_per_second", benchmark_max_loss=0.05)
    refs = {speed: publish(str(speed)) for speed in (100, 96, 90)}
    with pytest.raises(ArtifactRefused, match="has no benchmark"):
        promote(registry, refs[100], "prod", policy, "")
    for speed, ref in refs.items():
        statement = said(registry.manifest(ref), BENCHMARK, tokens_per_second=speed)
        registry.add_statement(ref, statement)
    promote(registry, refs[100], "prod", policy, "first")
    with pytest.raises(ArtifactRefused, match="fell from 100 to 90"):
        promote(registry, refs[90], "prod", policy, "slower")
    promote(registry, refs[96], "prod", policy, "within the margin")


def test_a_policy_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('require = ["verified"]\nkeys = ["a.pub"]\nmax_age_days = 30\n')
    policy = read_policy(path)
    assert (policy.require, policy.max_age_days) == (("verified",), 30)
    assert policy.keys == (tmp_path / "a.pub",)
    for text in ("requires = []", 'require = ["pretty"]', "require = 3", "not toml", "keys = 1"):
        path.write_text(text)
        with pytest.raises(ReferenceInvalid):
            read_policy(path)


# ---------------------------------------------------------------- whole registries


def test_mirror_copies_everything_that_is_said(
    registry: Registry, publish: Publish, tmp_path: Path
) -> None:
    ref = publish("1")
    there = open_registry(str(tmp_path / "airgap"))
    assert mirror(registry, there, ref, None)
    assert not mirror(registry, there, ref, None)
    assert there.statements(ref) == registry.statements(ref)
    there.check(ref, rehash=True)


def test_diff_names_what_differs(registry: Registry, publish: Publish, tree: Path) -> None:
    one = publish("1")
    (tree / "model.py").write_bytes(b"def handle(inputs):\n    return inputs\n")
    (tree / "more").write_bytes(b"1")
    two = publish("1", decided=False, toolchain={"name": "newer"})
    found = diff(registry, one, two)
    assert found["toolchain"] == {"name": ["builtin", "newer"]}
    assert set(found["files"]) == {"model.py", "more"}  # type: ignore[arg-type]
    assert found["statements"] == {VERDICT: ["ACCEPT", None], NO_JIT_PROOF: ["PROVEN", None]}
    assert diff(registry, one, one) == {}


def test_retention_keeps_tags_the_newest_and_the_young(
    registry: Registry, publish: Publish
) -> None:
    refs = [publish(str(number)) for number in range(4)]
    registry.move_tag(refs[0], "prod", expected=None)
    lines = registry.list()
    assert expired(lines, Retention(newest=2, days=0)) == (refs[1],)
    assert expired(lines, Retention(newest=2, days=1)) == ()
    old = [replace(line, created="2020-01-01T00:00:00Z") for line in lines]
    assert set(expired(old, Retention(newest=0, days=1))) == set(refs[1:])
    registry.remove(refs[1])
    assert refs[1] not in {line.ref for line in registry.list()}

"""The prompt sets that ship."""

import hashlib
from pathlib import Path

import pytest

import lmi_verify.prompts
from lmi_verify.errors import PromptSetUnknown
from lmi_verify.prompts import known_versions, load_prompts, token_digest


@pytest.mark.parametrize("version", known_versions())
def test_a_set_loads_with_unique_ids_and_the_digest_of_its_file(version: str) -> None:
    found = load_prompts(version)
    path = Path(lmi_verify.prompts.__file__).parent / "data" / "prompts" / f"{version}.json"
    assert found.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert len({prompt.id for prompt in found.prompts}) == len(found.prompts)
    assert all(prompt.text for prompt in found.prompts)


def test_v1_is_released_and_stays_as_it_is() -> None:
    assert load_prompts("v1").digest == (
        "sha256:668b437872130c9eb12514763bd6b2da581d4fd45e0720304ccb95143c778baa"
    )


def test_v1_covers_lengths_and_scripts() -> None:
    prompts = load_prompts("v1").prompts
    assert {prompt.fit for prompt in prompts} == {"one", "whole", "fill"}
    text = "".join(prompt.text for prompt in prompts)
    for sample in ("天", "ل", "न", "П", "🎉", "\t", "0xFF", "é"):
        assert sample in text


@pytest.mark.parametrize("version", ["v0", "", "../prompts/v1", "/etc/passwd", "V1"])
def test_an_unknown_set_is_refused_with_those_that_exist(version: str) -> None:
    with pytest.raises(PromptSetUnknown, match="v1"):
        load_prompts(version)


def test_the_token_digest_sees_every_part() -> None:
    base = {"vocab_size": 10, "eos_token_ids": [1], "ids": [("a", ([1, 2], [3]))]}
    variants = [
        ("x", base),
        ("y", base),
        ("x", {**base, "vocab_size": 11}),
        ("x", {**base, "eos_token_ids": [2]}),
        ("x", {**base, "ids": [("b", ([1, 2], [3]))]}),
        ("x", {**base, "ids": [("a", ([1], [2, 3]))]}),
    ]
    assert len({token_digest(source, **rest) for source, rest in variants}) == len(variants)

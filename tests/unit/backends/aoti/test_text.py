"""Text comes out as it is complete, and in all is the tokenizer's own."""

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lmi_compile.backends.aoti.runtime.text import TextStream


@pytest.fixture(scope="module")
def tokenizer(built: SimpleNamespace) -> Tokenizer:
    return Tokenizer.from_file(str(built.package / "tokenizer.json"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text())
def test_pieces_join_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    stream = TextStream(tokenizer)
    pieces = [stream.add(token) for token in tokenizer.encode(text).ids]
    assert "".join(pieces) + stream.finish() == text == stream.text


def test_a_character_comes_when_its_last_byte_does(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    pieces = [stream.add(token) for token in tokenizer.encode("a€b").ids]
    assert pieces == ["a", "", "", "€", "b"]

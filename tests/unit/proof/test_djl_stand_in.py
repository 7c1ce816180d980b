"""The stand-in does what djl_python's Input and Output do."""

import json

import pytest

from lmi_compile.proof.djl_stand_in import Input, Output


def _request(**content: bytes) -> Input:
    request = Input()
    for key, value in content.items():
        request.content.add(key, bytearray(value))
    return request


def test_the_first_request_is_empty() -> None:
    first = Input()
    first.properties["Engine"] = "Python"
    assert first.is_empty()
    assert first.get_as_bytes() is None
    assert first.get_property("engine") == "Python"
    assert first.get_property("nope") is None
    assert not first.is_batch()
    assert first.get_batches() == [first]


def test_content_is_found_by_key_then_as_data_then_first() -> None:
    request = _request(other=b"1", data=b'{"inputs": "caf\xc3\xa9"}')
    assert request.get_as_json() == {"inputs": "café"}
    assert request.get_as_string("other") == "1"
    assert _request(only=b"2").get_as_json() == 2
    assert request.contains_key("other")
    with pytest.raises(KeyError, match="nope"):
        request.get_as_bytes("nope")


def test_a_batch_falls_into_its_requests() -> None:
    request = _request(batch_000_data=b"a", batch_001_data=b"b")
    request.properties.update({"batch_size": "2", "batch_001_accept": "x"})
    first, second = request.get_batches()
    assert (first.get_as_string(), second.get_as_string()) == ("a", "b")
    assert second.get_property("accept") == "x"


def test_an_output_holds_text_bytes_and_json() -> None:
    output = Output().add("é").add(b"b", key="k").add({"a": 1}).add_as_json([1], batch_index=3)
    content = output.content
    assert [bytes(content.value_at(i)) for i in range(2)] == ["é".encode(), b"b"]
    assert json.loads(content.value_at(2)) == {"a": 1}
    assert [content.key_at(i) for i in range(4)] == [None, "k", None, "batch_3."]
    assert (output.code, output.message) == (200, "OK")


def test_an_error_is_json_with_its_code() -> None:
    output = Output().error("too long", code=413)
    assert output.code == 413
    assert output.get_property("content-type") == "application/json"
    assert json.loads(output.content.value_at(0))["error"] == "too long"


def test_a_stream_keeps_its_formatter() -> None:
    plain = Output().add_stream_content(iter(["a"]))
    assert plain.stream_output_formatter is not None
    assert plain.stream_output_formatter("a") == '{"outputs": "a"}\n'
    assert Output().add_stream_content(iter(()), str).stream_output_formatter is str

"""The AWS encoding, read by botocore's own decoder."""

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from lmi_compile.serving.eventstream import message, model_stream_error, payload_part


@given(
    parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=5),
    cut=st.integers(min_value=1, max_value=40),
)
def test_parts_come_back_whole_however_they_are_cut(parts: list[bytes], cut: int) -> None:
    stream = b"".join(payload_part(part) for part in parts)
    buffer, found = EventStreamBuffer(), []
    for place in range(0, len(stream), cut):
        buffer.add_data(stream[place : place + cut])
        found += [event.to_response_dict() for event in buffer]
    assert [one["body"] for one in found] == parts
    assert {one["headers"][":event-type"] for one in found} == {"PayloadPart"}
    assert {one["status_code"] for one in found} == {200}


@given(headers=st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=99), max_size=6))
def test_headers_come_back(headers: dict[str, str]) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(message(headers, b"x"))
    (event,) = list(buffer)
    assert event.headers == headers


def test_an_error_is_an_exception_with_its_name() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(model_stream_error("it broke", "504"))
    (event,) = list(buffer)
    told = event.to_response_dict()
    assert told["status_code"] == 400
    assert told["headers"][":exception-type"] == "ModelStreamError"
    assert told["body"] == b'{"Message": "it broke", "ErrorCode": "504"}'


@pytest.mark.parametrize("place", [0, 9, 20, -1])
def test_a_flipped_bit_is_noticed(place: int) -> None:
    data = bytearray(payload_part(b"hello"))
    data[place] ^= 1
    buffer = EventStreamBuffer()
    buffer.add_data(bytes(data))
    with pytest.raises(Exception, match=r"[Cc]hecksum|too large|exceeded"):
        list(buffer)

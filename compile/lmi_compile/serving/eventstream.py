"""AWS event-stream encoding (`application/vnd.amazon.eventstream`), as SageMaker streams answers.

A message is a prelude (its length and its headers' length, big-endian, and their CRC32), headers
(name length, name, type 7, value length, value), the payload, and the CRC32 of all before it.
Source: the AWS SDK's event stream specification; `botocore.eventstream` decodes it.
"""

import json
import struct
import zlib

MEDIA_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7
_OVERHEAD = 16


def payload_part(data: bytes) -> bytes:
    """A piece of the answer."""
    headers = {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }
    return message(headers, data)


def model_stream_error(text: str, code: str) -> bytes:
    """The end of an answer that failed on its way (ModelStreamErrorException)."""
    headers = {
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    body = {"Message": text, "ErrorCode": code}
    return message(headers, json.dumps(body).encode("utf-8"))


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message."""
    told = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", len(told) + len(payload) + _OVERHEAD, len(told))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + told + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(">B", len(key)) + key + struct.pack(">BH", _STRING, len(text)) + text

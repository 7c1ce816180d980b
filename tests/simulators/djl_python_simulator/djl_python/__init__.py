"""A SIMULATOR of djl-serving's `djl_python`: only what a handler may use, and strict about it.

The real package exists in serving containers only. Names and behaviour follow its `inputs.py` and
`outputs.py` (djl-serving 0.36, commit d21927c4); whatever is not here, a handler must not use.
"""

import json
from collections.abc import Iterator
from typing import Any


class Input:
    """One request: properties, and contents by key."""

    def __init__(self, properties: dict[str, str], content: bytes | None) -> None:
        self._properties = properties
        self._content = None if content is None else bytearray(content)

    def is_empty(self) -> bool:
        return self._content is None

    def is_batch(self) -> bool:
        return "batch_size" in self._properties

    def get_properties(self) -> dict[str, str]:
        return self._properties

    def get_property(self, key: str) -> str | None:
        lowered = {name.lower(): value for name, value in self._properties.items()}
        return lowered.get(key.lower())

    def get_as_bytes(self, key: str | None = None) -> bytearray | None:
        if key is not None:
            message = f"requested data for key:{key} is not found!"
            raise KeyError(message)
        return self._content

    def get_as_string(self, key: str | None = None) -> str:
        content = self.get_as_bytes(key)
        assert content is not None, "the real one fails here with an AttributeError"
        return content.decode("utf-8")

    def get_as_json(self, key: str | None = None) -> Any:
        return json.loads(self.get_as_string(key))


class Output:
    """One answer: code, message, properties and one content."""

    def __init__(self, code: int = 200, message: str = "OK") -> None:
        assert isinstance(code, int)
        assert 0 < code < 1 << 15, "the code travels as a signed short"
        assert isinstance(message, str)
        self.code = code
        self.message = message
        self.properties: dict[str, str] = {}
        self.contents: list[bytes] = []
        self.stream_content: Iterator[str] | None = None

    def add_property(self, key: str, val: str) -> "Output":
        self.properties[key] = str(val)
        return self

    def add(self, value: str | bytes | bytearray) -> "Output":
        assert isinstance(value, str | bytes | bytearray), "use add_as_json for other values"
        self.contents.append(value.encode() if isinstance(value, str) else bytes(value))
        return self

    def add_stream_content(self, stream_content: Iterator[str], output_formatter: None) -> "Output":
        assert output_formatter is None, "lines are whole already"
        self.stream_content = stream_content
        return self

    def add_as_json(self, val: Any) -> "Output":
        return self.add(json.dumps(val, ensure_ascii=False, allow_nan=False))

    def error(
        self, error: str, code: int = 424, message: str = "invoke handler failure"
    ) -> "Output":
        self.code = code
        self.message = message
        self.add_property("content-type", "application/json")
        return self.add_as_json({"code": code, "message": message, "error": error})

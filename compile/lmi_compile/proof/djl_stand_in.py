"""Stands in for djl_python's Input and Output outside a serving container.

Only what a custom model.py may rely on is here: the Input and Output methods that the contract of
DJL Serving's Python engine names (djl_python/inputs.py, outputs.py and pair_list.py at
deepjavalibrary/djl-serving d21927c4). Where the real package can be imported, the driver uses that
and never loads this file; the proof says which one it was. Standard library only: it runs inside
the sealed child process.
"""

import json
from collections.abc import Callable, Iterator

JSONValue = bool | int | float | str | list["JSONValue"] | dict[str, "JSONValue"] | None
Chunk = bytes | bytearray | str | JSONValue


class PairList:
    """Content items in order, each with a key that may be missing."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.values: list[bytearray] = []

    def add(self, key: str | None = None, value: bytearray | None = None) -> None:
        """Appends an item; one without a value is dropped, as the real list does."""
        if value is not None:
            self.keys.append(key)
            self.values.append(value)

    def size(self) -> int:
        """How many items there are."""
        return len(self.keys)

    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self.keys

    def get(self, key: str | None) -> bytearray | None:
        """The first item with `key`, or None."""
        return self.values[self.keys.index(key)] if key in self.keys else None

    def key_at(self, index: int) -> str | None:
        """The key of item `index`."""
        return self.keys[index]

    def value_at(self, index: int) -> bytearray:
        """The value of item `index`."""
        return self.values[index]


class Input:
    """One request: properties (HTTP headers, or the model's options on the first one) and content.

    A batch arrives as one request: property `batch_size`, and keys `batch_000_<key>`.
    """

    def __init__(self) -> None:
        self.function_name: str | None = None
        self.properties: dict[str, str] = {}
        self.content = PairList()

    def get_function_name(self) -> str | None:
        """The handler function's name."""
        return self.function_name

    def get_properties(self) -> dict[str, str]:
        """All properties."""
        return self.properties

    def get_property(self, key: str) -> str | None:
        """A property, whatever the case of its name, or None."""
        wanted = key.lower()
        return next((v for k, v in self.properties.items() if k.lower() == wanted), None)

    def get_content(self) -> PairList:
        """The content items."""
        return self.content

    def contains_key(self, key: str) -> bool:
        """Whether a content item has this key."""
        return self.content.get(key) is not None

    def is_empty(self) -> bool:
        """Whether there is no content: true for the first request, the initialisation."""
        return self.content.is_empty()

    def is_batch(self) -> bool:
        """Whether several requests came as one."""
        return "batch_size" in self.properties

    def get_batch_size(self) -> int:
        """How many requests came as one."""
        return int(self.properties.get("batch_size", "1"))

    def get_batches(self) -> list["Input"]:
        """The single requests."""
        if not self.is_batch():
            return [self]
        batch = [Input() for _ in range(self.get_batch_size())]
        for name, text in self.properties.items():
            if name.startswith("batch_") and name != "batch_size":
                batch[int(name[6:9])].properties[name[10:]] = text
        for name_, value in zip(self.content.keys, self.content.values, strict=True):
            if name_ is not None:
                batch[int(name_[6:9])].content.add(name_[10:], value)
        return batch

    def get_as_bytes(self, key: str | None = None) -> bytearray | None:
        """A content item: the one with `key`, else the one named `data`, else the first.

        Returns:
            The bytes; None when there is no content at all.

        Raises:
            KeyError: no item has `key`.
        """
        if self.content.is_empty():
            return None
        if key:
            found = self.content.get(key)
            if found is None:
                problem = f"requested data for key:{key} is not found!"
                raise KeyError(problem)
            return found
        found = self.content.get("data")
        return self.content.value_at(0) if found is None else found

    def get_as_string(self, key: str | None = None) -> str:
        """A content item as UTF-8 text."""
        return (self.get_as_bytes(key) or b"").decode("utf-8")

    def get_as_json(self, key: str | None = None) -> JSONValue:
        """A content item as JSON."""
        value: JSONValue = json.loads(self.get_as_string(key))
        return value


class Output:
    """One response: a code, properties and content, or a stream of chunks."""

    def __init__(self, code: int = 200, message: str = "OK") -> None:
        self.code = code
        self.message = message
        self.properties: dict[str, str] = {}
        self.content = PairList()
        self.stream_content: Iterator[Chunk] | None = None
        self.stream_output_formatter: Callable[[Chunk], Chunk] | None = None

    def set_code(self, code: int) -> "Output":
        """Sets the code; 300 and above fail the request, or the model at initialisation."""
        self.code = code
        return self

    def set_message(self, message: str) -> "Output":
        """Sets the message beside the code."""
        self.message = message
        return self

    def error(
        self, error: str, code: int = 424, message: str = "invoke handler failure"
    ) -> "Output":
        """Makes this the answer to a request that failed."""
        self.code = code
        self.message = message
        self.add_property("content-type", "application/json")
        return self.add_as_json({"code": code, "message": message, "error": error})

    def add_property(self, key: str, val: str) -> "Output":
        """Sets a response header."""
        self.properties[key] = val
        return self

    def get_properties(self) -> dict[str, str]:
        """All response headers."""
        return self.properties

    def get_property(self, key: str) -> str | None:
        """One response header, or None."""
        return self.properties.get(key)

    def add(self, value: Chunk, key: str | None = None, batch_index: int | None = None) -> "Output":
        """Appends content: text and bytes as they are, everything else as JSON."""
        if batch_index is not None:
            key = f"batch_{batch_index}.{key or ''}"
        match value:
            case str():
                data = bytearray(value.encode("utf-8"))
            case bytes() | bytearray():
                data = bytearray(value)
            case _:
                data = bytearray(_json(value))
        self.content.add(key, data)
        return self

    def add_as_json(
        self, val: JSONValue, key: str | None = None, batch_index: int | None = None
    ) -> "Output":
        """Appends content as JSON."""
        return self.add(_json(val), key=key, batch_index=batch_index)

    def add_stream_content(
        self,
        stream_content: Iterator[Chunk],
        output_formatter: Callable[[Chunk], Chunk] | None = None,
    ) -> "Output":
        """Makes this a streamed response; without a formatter each chunk is a line of JSON."""
        self.stream_content = stream_content
        self.stream_output_formatter = output_formatter or _json_line
        return self


def _json(value: Chunk) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")


def _json_line(chunk: Chunk) -> Chunk:
    return json.dumps({"outputs": chunk}) + "\n"

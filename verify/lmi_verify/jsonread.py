"""Reads JSON values with their types checked, without a schema library (this room stays light)."""

import json
import math
from typing import TypeAlias

from lmi_verify.errors import Malformed

JSONValue: TypeAlias = "bool | int | float | str | list[JSONValue] | dict[str, JSONValue] | None"


def parse_json(raw: str | bytes) -> object:
    """The JSON value in `raw`, whoever wrote it.

    Raises:
        ValueError: It is not JSON, not UTF-8, or nested too deeply for Python to read.
    """
    try:
        value: object = json.loads(raw)
    except RecursionError:
        message = "it is nested too deeply"
        raise ValueError(message) from None
    return value


class Reader:
    """One JSON value and where it stands; every method raises `Malformed` for another kind."""

    __slots__ = ("value", "where")

    def __init__(self, value: object, where: str) -> None:
        self.value = value
        self.where = where

    def get(self, key: str) -> "Reader":
        """The value of a key that must be there."""
        table = self._table()
        if key not in table:
            where = f"{self.where}.{key}"
            raise Malformed(where, "there", "missing")
        return Reader(table[key], f"{self.where}.{key}")

    def optional(self, key: str) -> "Reader | None":
        """The same; None when the value is null."""
        reader = self.get(key)
        return None if reader.value is None else reader

    def entries(self) -> "dict[str, Reader]":
        """The members of an object."""
        return {key: Reader(item, f"{self.where}.{key}") for key, item in self._table().items()}

    def items(self) -> "tuple[Reader, ...]":
        """The elements of an array."""
        if not isinstance(self.value, list):
            raise Malformed(self.where, "an array", self.value)
        return tuple(
            Reader(item, f"{self.where}[{index}]") for index, item in enumerate(self.value)
        )

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise Malformed(self.where, "a string", self.value)
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise Malformed(self.where, "true or false", self.value)
        return self.value

    def integer(self) -> int:
        """A number without a fraction."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise Malformed(self.where, "a whole number", self.value)
        return self.value

    def number(self) -> float:
        """A finite number."""
        value = self.value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        raise Malformed(self.where, "a finite number", value)

    def _table(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise Malformed(self.where, "an object", self.value)
        return {str(key): item for key, item in self.value.items()}

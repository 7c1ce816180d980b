"""Reading typed fields out of parsed JSON while collecting every problem; writing what is read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lmi_artifacts.digest import JSONValue, canonical_json
from lmi_artifacts.errors import ArtifactRefused, PackageInvalid

_KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}


def written(what: str, value: JSONValue, parse: Callable[[bytes], object]) -> bytes:
    """Give canonical bytes, after reading them back as a stranger would.

    Raises:
        PackageInvalid: no reader would accept `what`; names every problem.
    """
    try:
        data = canonical_json(value)
        parse(data)
    except ArtifactRefused as error:
        raise PackageInvalid(what, error.problems) from None
    except (TypeError, ValueError) as error:
        raise PackageInvalid(what, [str(error)]) from None
    return data


class Fields:
    """One JSON object, the fields it may have, and what was found wrong with it."""

    def __init__(self, value: JSONValue, where: str, names: Sequence[str]) -> None:
        self.problems: list[str] = []
        self._where = where
        self._found: Mapping[str, JSONValue] = {}
        if not isinstance(value, dict):
            self._wrong("", "an object", value)
            return
        self._found = value
        self.problems += [f"{where}{name}: unknown field" for name in sorted(set(value) - {*names})]
        self.problems += [f"{where}{name}: missing" for name in names if name not in value]

    def _wrong(self, name: str, wanted: str, value: JSONValue) -> None:
        kind = _KINDS.get(type(value), type(value).__name__)
        self.problems.append(f"{self._where}{name}: expected {wanted}, found {kind}")

    def text(self, name: str) -> str:
        """Read text that is not empty."""
        value = self._found.get(name, "-")
        if isinstance(value, str) and value:
            return value
        self._wrong(name, "text that is not empty", value)
        return "-"

    def flag(self, name: str) -> bool:
        """Read true or false."""
        value = self._found.get(name, False)
        if isinstance(value, bool):
            return value
        self._wrong(name, "true or false", value)
        return False

    def whole(self, name: str, most: int) -> int:
        """Read a whole number from 0 to `most`."""
        value = self._found.get(name, 0)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
            return value
        self._wrong(name, f"a whole number from 0 to {most}", value)
        return 0

    def mapping(self, name: str) -> Mapping[str, JSONValue]:
        """Read an object."""
        value = self._found.get(name, {})
        if isinstance(value, dict):
            return value
        self._wrong(name, "an object", value)
        return {}

    def optional_mapping(self, name: str) -> Mapping[str, JSONValue] | None:
        """Read an object or null."""
        return None if self._found.get(name) is None else self.mapping(name)

    def texts(self, name: str) -> Mapping[str, str]:
        """Read an object whose values are all text."""
        found = self.mapping(name)
        kept: dict[str, str] = {}
        for key, value in found.items():
            if isinstance(value, str):
                kept[key] = value
            else:
                self._wrong(f"{name}.{key}", "text", value)
        return kept

    def items(self, name: str) -> Sequence[JSONValue]:
        """Read a list."""
        value = self._found.get(name, [])
        if isinstance(value, list):
            return value
        self._wrong(name, "a list", value)
        return []

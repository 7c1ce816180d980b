"""The type of everything that may stand in a JSON document."""

from typing import TypeAlias, Union

# A string forward reference keeps the recursion; `type` statements need Python 3.12.
JSONValue: TypeAlias = Union[  # noqa: UP007 - `|` cannot hold a forward reference at run time
    bool, int, float, str, list["JSONValue"], dict[str, "JSONValue"], None
]

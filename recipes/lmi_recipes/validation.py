"""A tree of nodes into a section, with every problem at its place."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from pydantic_core import ValidationError

from lmi_recipes.fields import PATTERN_WORDS, SCALAR_ERROR, sections_in, validator
from lmi_recipes.nodes import Entry, Node, Path, dotted
from lmi_recipes.problems import Mark, Problem, at, closest, shown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_T = TypeVar("_T")

_MISSING = "missing"
_UNKNOWN = "unexpected_keyword_argument"
_TYPES = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "string_unicode": "must be text without half surrogate pairs",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "dataclass_type": "must be a section, a mapping of fields",
    "dataclass_exact_type": "must be a section, a mapping of fields",
    SCALAR_ERROR: "must be text, a finite number, true or false",
}
_LIMITS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} items",
}
_YES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def check(cls: type[_T], document: object, root: Node) -> tuple[_T | None, tuple[Problem, ...]]:
    """Validate a plain document against a section.

    Args:
        cls: The section's class.
        document: The plain document: what `root` holds, perhaps with derived values.
        root: The tree that knows the places.

    Returns:
        The value and no problems, or None and every problem.
    """
    try:
        value: _T = validator(cls).validate_python(document)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        return None, tuple(_problem(cls, detail, root) for detail in errors)
    return value, ()


def locate(root: Node, path: Path) -> tuple[Node | None, Mark]:
    """Return the node at a path, and its mark or the mark of the nearest part that is there."""
    node, mark = root, root.mark
    for part in path:
        value = node.value
        if isinstance(value, dict) and isinstance(part, str) and part in value:
            entry: Entry = value[part]
            node, mark = entry.node, entry.node.mark
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            node = value[part]
            mark = node.mark
        else:
            return None, mark
    return node, mark


def key_mark(root: Node, path: Path) -> Mark:
    """Return the mark of the key at a path, or of what `locate` finds."""
    parent, mark = locate(root, path[:-1])
    if parent is not None and isinstance(parent.value, dict) and path[-1] in parent.value:
        return parent.value[str(path[-1])].key
    return mark


def _problem(cls: type, detail: "ErrorDetails", root: Node) -> Problem:
    kind = detail["type"]
    path: Path = tuple(detail["loc"])
    if path and path[-1] == "[key]":
        path = path[:-1]
        mark, field = key_mark(root, path), dotted(path)
        message = f"is no name for a field here: {_words(detail)}"
        return at(mark, message, field=field)
    if kind == _MISSING:
        return at(locate(root, path)[1], "is required", field=dotted(path))
    found = shown(detail["input"])
    if kind == _UNKNOWN:
        nearest = _nearest_field(cls, path)
        return at(
            key_mark(root, path), "unknown field", field=dotted(path), value=found, nearest=nearest
        )
    return at(
        locate(root, path)[1],
        _words(detail),
        field=dotted(path),
        value=found,
        nearest=_nearest_value(detail),
    )


def _words(detail: "ErrorDetails") -> str:
    """Return what is wrong in the words of recipes."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _TYPES:
        quoted = isinstance(detail["input"], str) and kind in {"int_type", "float_type"}
        return _TYPES[kind] + (", without quotes" if quoted and _is_number(detail) else "")
    if kind in _LIMITS:
        return _LIMITS[kind].format_map(context)
    if kind == "string_pattern_mismatch":
        return f"must be {PATTERN_WORDS[context['pattern']]}"
    if kind == "literal_error":
        return f"must be {' | '.join(_choices(context))}"
    return detail["msg"]


def _is_number(detail: "ErrorDetails") -> bool:
    return str(detail["input"]).strip().lstrip("+-").replace(".", "", 1).isdigit()


def _choices(context: Mapping[str, object]) -> tuple[str, ...]:
    """Return the words of pydantic's "'a', 'b' or 'c'"."""
    return tuple(str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", "))


def _nearest_value(detail: "ErrorDetails") -> str | None:
    found = detail["input"]
    if not isinstance(found, str):
        return None
    match detail["type"]:
        case "literal_error":
            return closest(found, _choices(detail["ctx"]))
        case "bool_type":
            return _YES.get(found.lower())
        case _:
            return None


def _nearest_field(cls: type, path: Path) -> str | None:
    """Return the field that was probably meant: one beside it, or one of its name elsewhere."""
    name = str(path[-1])
    beside = cls
    for part in path[:-1]:
        if isinstance(part, str):
            beside = sections_in(beside)[part]
    near = closest(name, tuple(beside.__annotations__))
    return near or next(_elsewhere(cls, name, ""), None)


def _elsewhere(cls: type, name: str, prefix: str) -> Iterator[str]:
    for section, inner in sections_in(cls).items():
        if name in inner.__annotations__:
            yield f"{prefix}{section}.{name}"
        yield from _elsewhere(inner, name, f"{prefix}{section}.")

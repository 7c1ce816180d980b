"""YAML text as a tree in which every key and value knows its line and column.

Built from parser events, not by yaml's composer: depth and size are bounded before anything is
built, and aliases, tags and further documents never come into being. Scalars follow the YAML 1.2
core schema, so `no` and `on` are text, and `010` (8 or 10, by version) is text too.
"""

import re
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import yaml

from lmi_recipes.errors import RecipeUnreadable
from lmi_recipes.problems import Mark, Problem, at, shown

MAX_NODES = 10_000
MAX_DEPTH = 32

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,38})\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,4})?\Z")
# All but the printable characters of YAML 1.2, production [1].
_ILLEGAL = r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}

# The way from the root to a value: names of fields and numbers of list items.
Path: TypeAlias = tuple[str | int, ...]
Value: TypeAlias = "bool | int | float | str | dict[str, Entry] | list[Node] | None"


@dataclass(slots=True)
class Node:
    """A value and the place it stands at; `raw` is a plain scalar's own text, else None."""

    mark: Mark
    value: Value
    raw: str | None = None


@dataclass(slots=True)
class Entry:
    """A field of a mapping: the place of its key, and its value."""

    key: Mark
    node: Node


def plain(node: Node) -> object:
    """Return a node's value as plain dicts, lists and scalars."""
    match node.value:
        case dict() as entries:
            return {key: plain(entry.node) for key, entry in entries.items()}
        case list() as items:
            return [plain(item) for item in items]
        case scalar:
            return scalar


def dotted(path: Path) -> str:
    """Return a path as people write it: `shapes.buckets.prefill[1]`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def compose(text: str, file: str, *, placed: bool = True) -> tuple[Node, tuple[Problem, ...]]:
    """Parse one YAML document.

    Args:
        text: The document.
        file: The name that its problems carry.
        placed: False leaves line and column out, for text that is no file.

    Returns:
        The root, and the problems that need not stop the reading (duplicate and non-text keys).

    Raises:
        RecipeUnreadable: Not YAML, empty, several documents, aliases, tags, too deep or too large.
    """
    composer = _Composer(text, file, placed=placed)
    return composer.document(), tuple(composer.problems)


class _Composer:
    """Builds the tree of one document from the parser's events."""

    def __init__(self, text: str, file: str, *, placed: bool) -> None:
        self.problems: list[Problem] = []
        self._text = text
        self._file = file
        self._placed = placed
        self._nodes = 0

    def document(self) -> Node:
        """Return the root of the only document."""
        try:
            self._loader = _Loader(self._text)
            try:
                return self._document()
            finally:
                self._loader.dispose()
        except yaml.YAMLError as error:
            raise RecipeUnreadable([self._syntax(error)]) from error

    def _document(self) -> Node:
        self._loader.get_event()  # the stream's start
        event = self._loader.get_event()
        if isinstance(event, yaml.StreamEndEvent):
            self._stop(Mark(file=self._file), "is empty")
        root = self._node(self._loader.get_event(), ())
        self._loader.get_event()  # the document's end
        event = self._loader.get_event()
        if not isinstance(event, yaml.StreamEndEvent):
            self._stop(self._mark(event), "holds several documents; a recipe is one")
        return root

    def _mark(self, event: yaml.Event) -> Mark:
        if not self._placed:
            return Mark(file=self._file)
        start = event.start_mark
        assert start is not None  # noqa: S101 - the parser marks every event
        return Mark(file=self._file, line=start.line + 1, column=start.column + 1)

    def _stop(self, mark: Mark, message: str) -> NoReturn:
        raise RecipeUnreadable([at(mark, message)])

    def _node(self, event: yaml.Event, path: Path) -> Node:
        mark = self._mark(event)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(mark, f"holds more than {MAX_NODES} values; no recipe is that large")
        if len(path) >= MAX_DEPTH:
            self._stop(mark, f"is nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            self._stop(mark, f"the alias *{event.anchor} is not allowed; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._stop(mark, f"the tag {tag} is not allowed; write the plain value")
        match event:
            case yaml.ScalarEvent():
                return _scalar(event, mark)
            case yaml.SequenceStartEvent():
                return Node(mark, self._items(path))
            case _:
                return Node(mark, self._entries(path))

    def _items(self, path: Path) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items

    def _entries(self, path: Path) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            key = self._node(event, (*path, ""))
            name = key.value if isinstance(key.value, str) else key.raw
            node = self._node(self._loader.get_event(), (*path, name or ""))
            if name is None:
                message = "a field's name must be text"
                field = dotted(path)
                self.problems.append(at(key.mark, message, field=field, value=shown(plain(key))))
            elif name in entries:
                first = entries[name].key.line
                message = f"is given twice; the first is on line {first}"
                field = dotted((*path, name))
                self.problems.append(at(key.mark, message, field=field, value=shown(plain(node))))
            else:
                entries[name] = Entry(key.mark, node)
        return entries

    def _syntax(self, error: yaml.YAMLError) -> Problem:
        """Return what the parser says, in the file's terms."""
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
            words = ", ".join(part for part in (error.context, error.problem) if part)
            message = f"is not YAML: {words}"
        elif illegal := re.search(_ILLEGAL, self._text):  # its own position may count bytes
            before = self._text[: illegal.start()]
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            message = f"holds the character U+{ord(illegal[0]):04X}, illegal in YAML"
        else:
            line, column, message = 1, 1, f"is not YAML: {error}"
        tab = _indenting_tab(self._text, line)
        if tab is not None:
            line, column = tab
            message = "the line is indented with a tab; YAML allows only spaces"
        if not self._placed:
            return Problem(file=self._file, message=message)
        return Problem(file=self._file, line=line, column=column, message=message)


def _scalar(event: yaml.ScalarEvent, mark: Mark) -> Node:
    """Return a scalar; only unquoted text can be anything but text."""
    text: str = event.value
    if not event.implicit[0]:
        return Node(mark, text)
    if text in _WORDS:
        return Node(mark, _WORDS[text], text)
    if _INT.match(text):
        return Node(mark, int(text), text)
    leading_zero = len(text) > 1 and text[0] == "0" and text[1].isdigit()
    if _FLOAT.match(text) and not leading_zero and not text.lstrip("+-").isdigit():
        return Node(mark, float(text), text)
    return Node(mark, text, text)


def _indenting_tab(text: str, last: int) -> tuple[int, int] | None:
    """Return line and column of the first tab in the indentation up to line `last`."""
    for number, line in enumerate(text.split("\n")[:last], 1):
        indentation = line[: len(line) - len(line.lstrip())]
        if "\t" in indentation and line.strip():
            return number, indentation.index("\t") + 1
    return None

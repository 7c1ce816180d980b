"""`imports:` of a recipe: other files' fields first, later files over earlier, its own over all.

A path in an imported file means what it would mean in the recipe that imports it; only the names
under `imports` themselves are relative to the file they stand in.
"""

from pathlib import Path
from typing import NoReturn

from lmi_recipes.aliases import normalise
from lmi_recipes.errors import RecipeInvalid, RecipeUnreadable
from lmi_recipes.nodes import Entry, Node, compose, plain
from lmi_recipes.problems import Mark, Problem, at, shown
from lmi_recipes.textfile import read_text

_FIELD = "imports"
_MOST_FILES = 64


def with_imports(root: Node, path: Path) -> tuple[Node, tuple[str, ...], tuple[Problem, ...]]:
    """Put what a recipe imports beneath it.

    Args:
        root: the recipe's tree, its aliases already read.
        path: its file.

    Returns:
        The tree of all files, the notes of the imported ones, and their problems.

    Raises:
        RecipeUnreadable: an imported file cannot be read.
        RecipeInvalid: a file imports itself, over however many others.
    """
    if _FIELD not in _entries(root):
        return root, (), ()
    reader = _Reader()
    return reader.merged(root, path, (path.resolve(),)), tuple(reader.notes), tuple(reader.problems)


def merge(base: Node, over: Node) -> None:
    """Put the leaves of one mapping into another, the later winning."""
    there = _entries(base)
    for name, entry in _entries(over).items():
        found = there.get(name)
        both = found is not None and isinstance(entry.node.value, dict)
        if both and found is not None and isinstance(found.node.value, dict):
            merge(found.node, entry.node)
        else:
            there[name] = entry


class _Reader:
    """Reads the files of one recipe, each with the chain of files that led to it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self._files = 0

    def merged(self, root: Node, path: Path, chain: tuple[Path, ...]) -> Node:
        """The tree of `root` over all that it imports."""
        entry = _entries(root).get(_FIELD)
        whole = Node(root.mark, {})
        if entry is not None and isinstance(entry.node.value, list):
            for item in entry.node.value:
                if isinstance(item.value, str):
                    merge(whole, self._imported(item, path.parent / item.value, chain))
        merge(whole, root)
        return whole

    def _imported(self, item: Node, path: Path, chain: tuple[Path, ...]) -> Node:
        found = path.resolve()
        if found in chain:
            around = [*chain[chain.index(found) :], found]
            way = " -> ".join(one.name for one in around)
            self._stop(item.mark, f"is a circle: {way}", item)
        self._files += 1
        if self._files > _MOST_FILES:
            self._stop(item.mark, f"imports more than {_MOST_FILES} files", item)
        try:
            text = read_text(path)
        except RecipeUnreadable as error:
            reason = error.problems[0].message
            self._stop(item.mark, f"cannot be read: {reason}", item)
        root, problems = compose(text, str(path))
        self.problems += problems
        if not isinstance(root.value, dict):
            raise RecipeInvalid([at(root.mark, "must be a mapping of fields")])
        notes, conflicts = normalise(root)
        self.notes += notes
        self.problems += conflicts
        merged = self.merged(root, path, (*chain, found))
        _entries(merged).pop(_FIELD, None)
        return merged

    @staticmethod
    def _stop(mark: Mark, message: str, item: Node) -> NoReturn:
        raise RecipeInvalid([at(mark, message, field=_FIELD, value=shown(plain(item)))])


def _entries(node: Node) -> dict[str, Entry]:
    return node.value if isinstance(node.value, dict) else {}

"""A recipe file into a resolved recipe, or every problem it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmi_recipes import nodes
from lmi_recipes.aliases import normalise
from lmi_recipes.errors import RecipeInvalid, RecipeUnreadable
from lmi_recipes.imports import merge, with_imports
from lmi_recipes.model import Recipe
from lmi_recipes.nodes import Entry, Node, compose, dotted, plain
from lmi_recipes.problems import Mark, Problem, at, in_order, shown
from lmi_recipes.rules import breaches, resolve
from lmi_recipes.textfile import decode, read_text
from lmi_recipes.validation import check, locate

# Sections that an empty value leaves at their defaults, as when every line below is a comment.
_EMPTY_IS_DEFAULT: tuple[nodes.Path, ...] = (
    ("quantization",),
    ("shapes",),
    ("runtime",),
    ("verify",),
    ("package",),
    ("publish",),
    ("matrix",),
    ("shapes", "buckets"),
    ("verify", "gates"),
    ("verify", "tasks"),
)
# Sections whose keys may hold dots themselves.
_OPEN = frozenset({"matrix", "runtime"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRecipe:
    """A valid, resolved recipe, the file it stands in, and what was read as something else."""

    recipe: Recipe
    path: Path
    notes: tuple[str, ...] = ()

    def beside(self, relative: str) -> Path:
        """Return a path that the recipe gives relative to itself."""
        return self.path.parent / relative


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read, normalise, resolve and check a recipe file.

    Args:
        path: The file.
        overrides: `a.b=c` texts as of `--set`, in order; the value is YAML, aliases hold.

    Returns:
        The recipe with every field present, and a note for each alias that was read.

    Raises:
        RecipeUnreadable: The file is missing, above 1 MiB, not UTF-8, or not one YAML document.
        RecipeInvalid: The file or an override breaks the schema; holds every problem at once.
    """
    return _tree(read_text(path), path, overrides).load()


def parse_recipe(raw: bytes, path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Do what `read_recipe` does, for bytes that are at hand; `path` need not exist."""
    return _tree(decode(raw, str(path)), path, overrides).load()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeTree:
    """A recipe as it was written, with every alias read; `problems` stop `load`."""

    root: Node
    path: Path
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def load(self) -> LoadedRecipe:
        """Resolve and check it; changes the tree.

        Raises:
            RecipeInvalid: It breaks the schema; holds every problem at once.
        """
        _drop_empty(self.root)
        document = plain(self.root)
        assert isinstance(document, dict)  # noqa: S101 - the root is a mapping, checked before
        resolve(document)
        recipe, wrong = check(Recipe, document, self.root)
        problems = [*self.problems, *wrong, *_broken_rules(document, self.root)]
        if recipe is None or problems:
            raise RecipeInvalid(in_order(problems))
        return LoadedRecipe(recipe=recipe, path=self.path, notes=self.notes)


def read_tree(path: Path, overrides: Sequence[str] = ()) -> RecipeTree:
    """Read a recipe file with all that it imports, before it is resolved and checked.

    Raises:
        RecipeUnreadable: As of `read_recipe`.
        RecipeInvalid: As of `read_recipe`, for what keeps it from being read at all.
    """
    return _tree(read_text(path), path, overrides)


def _tree(text: str, path: Path, overrides: Sequence[str]) -> RecipeTree:
    root, found = compose(text, str(path))
    if not isinstance(root.value, dict):
        message = "must be a mapping of fields, as in `name: my-model`"
        raise RecipeInvalid([at(root.mark, message, value=shown(plain(root)))])
    notes, conflicts = normalise(root)
    root, imported, wrong = with_imports(root, path)
    problems = [*found, *conflicts, *wrong]
    notes += imported
    for override in overrides:
        more_notes, more_problems = _apply(root, override)
        notes += more_notes
        problems += more_problems
    return RecipeTree(
        root=root, path=path, notes=tuple(dict.fromkeys(notes)), problems=tuple(problems)
    )


def _broken_rules(document: dict[str, object], root: Node) -> list[Problem]:
    problems = []
    for breach in breaches(document):
        node, mark = locate(root, breach.path)
        scalar = node is not None and not isinstance(node.value, dict | list)
        problem = at(
            mark,
            breach.message,
            field=dotted(breach.path),
            value=shown(plain(node)) if node is not None and scalar else None,
            nearest=breach.nearest,
        )
        problems.append(problem)
    return problems


def _apply(root: Node, override: str) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """Set one `a.b=c` in the tree."""
    mark = Mark(file=f"--set {override}")
    name, equals, text = override.partition("=")
    parts = name.strip().split(".", 1 if name.split(".", 1)[0] in _OPEN else -1)
    if not equals or not all(parts):
        return (), (at(mark, "must have the form field.path=value"),)
    if len(parts) > nodes.MAX_DEPTH:
        return (), (at(mark, f"names a field more than {nodes.MAX_DEPTH} deep"),)
    try:
        node, problems = compose(text if text.strip() else "null", mark.file, placed=False)
    except RecipeUnreadable as error:
        return (), error.problems
    for part in reversed(parts):
        node = Node(mark, {part: Entry(mark, node)})
    notes, conflicts = normalise(node)
    merge(root, node)
    return notes, problems + conflicts


def _drop_empty(root: Node) -> None:
    """Take out sections that are present and empty."""
    for path in _EMPTY_IS_DEFAULT:
        parent = locate(root, path[:-1])[0]
        if parent is None or not isinstance(parent.value, dict):
            continue
        entry = parent.value.get(str(path[-1]))
        if entry is not None and entry.node.value is None:
            del parent.value[str(path[-1])]
